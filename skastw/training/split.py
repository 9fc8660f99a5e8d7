"""The internal validation split: stratified where possible, whole groups where groups are given."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedGroupKFold, StratifiedShuffleSplit

__all__ = ["split_validation"]


def split_validation(
    y: np.ndarray, val_split: float, seed: int, *, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split clips into training and validation.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Encoded classes.
    val_split : float
        Share of clips (or, with groups, of groups) to validate on, in (0, 1).
    seed : int
    groups : ndarray of shape (n,), optional
        Speaker or recording of each clip; a group is never on both sides.

    Returns
    -------
    train, valid : ndarrays of indices

    Raises
    ------
    ValueError
        If there is nothing to split: one clip, or one group.

    Notes
    -----
    Without groups, a class with a single clip trains, and the rest is stratified as far as the number of
    validation clips allows. With groups, the fold of a stratified group k-fold whose size comes closest to
    ``val_split`` validates.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.training import split_validation
    >>> train, valid = split_validation(np.array([0, 0, 1, 1]), 0.5, 0)
    >>> len(train), len(valid)
    (2, 2)
    """
    n = len(y)
    if groups is not None:
        return _split_groups(y, np.asarray(groups), val_split, seed)
    if n < 2:
        raise ValueError(
            f"Got 1 sample (n_samples = {n}) and val_split={val_split}, expected at least 2 clips; "
            "pass val_split=None to train on everything."
        )
    counts = np.bincount(y)
    free = np.flatnonzero(counts[y] > 1)
    n_valid = max(1, round(val_split * n))
    n_classes = len(np.unique(y[free]))
    stratify = n_classes <= n_valid <= len(free) - n_classes
    candidates = free if stratify else np.arange(n)
    splitter = (StratifiedShuffleSplit if stratify else ShuffleSplit)(
        1, test_size=min(n_valid, n - 1), random_state=seed
    )
    _, chosen = next(splitter.split(candidates, y[candidates]))
    valid = np.sort(candidates[chosen])
    return np.setdiff1d(np.arange(n), valid), valid


def _split_groups(y: np.ndarray, groups: np.ndarray, val_split: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise ValueError(
            f"Got {n_groups} group for the validation split, expected at least 2; "
            "pass X_val and y_val, or val_split=None to train on everything."
        )
    n_splits = min(n_groups, max(2, round(1 / val_split)))
    if np.bincount(y).max() >= n_splits:
        with warnings.catch_warnings():  # rare classes are reported below, in terms of the groups
            warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
            folds = list(StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed).split(y, y, groups))
        train, valid = min(folds, key=lambda fold: _split_cost(y, fold, val_split))
    else:
        train, valid = next(GroupShuffleSplit(1, test_size=val_split, random_state=seed).split(y, y, groups))
    _warn_about_missing_classes(y, train, valid)
    return train, valid


def _split_cost(y: np.ndarray, fold: tuple[np.ndarray, np.ndarray], val_split: float) -> tuple[int, float]:
    """Prefer folds that hold every class on both sides, then the size nearest to ``val_split``."""
    train, valid = fold
    missing = 2 * len(np.unique(y)) - len(np.unique(y[train])) - len(np.unique(y[valid]))
    return missing, abs(len(valid) / len(y) - val_split)


def _warn_about_missing_classes(y: np.ndarray, train: np.ndarray, valid: np.ndarray) -> None:
    classes = np.unique(y)
    for side, indices in (("training", train), ("validation", valid)):
        missing = np.setdiff1d(classes, y[indices])
        if len(missing):
            warnings.warn(
                f"The split by groups leaves {len(missing)} of {len(classes)} classes without {side} clips "
                f"(encoded {missing.tolist()[:10]}); pass X_val and y_val, or more groups.",
                UserWarning,
                stacklevel=4,
            )
