"""The internal validation split, which is stratified if possible and keeps groups together."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from skastw.core.parameters import param, parameters, reals
from skastw.core.warn import ignored_warnings, warn_user
from skastw.errors import plain


@parameters
class SplitParams:
    """Parameters of the validation split."""

    val_split: float | None = param(
        default=0.2,
        valid=[reals(0, 1, closed="neither"), None],
        doc="Share of the clips that are held out for validation, to choose the best epoch. The split is stratified "
        "if possible. If ``fit`` gets ``groups``, whole groups are held out. None trains on all clips for all epochs.",
    )


def split_validation(
    y: np.ndarray, val_split: float, seed: int, *, groups: np.ndarray | None = None, names: Sequence[Any] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Split clips into training and validation clips.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Encoded classes.
    val_split : float
        Share of the clips (or, with groups, of the groups) to hold out for validation, in (0, 1).
    seed : int
    groups : ndarray of shape (n,), optional
        Speaker or recording of each clip. No group is divided between training and validation.
    names : sequence, optional
        Names of the classes, for the warning that training or validation clips lack a class.

    Returns
    -------
    train, valid : ndarrays of indices

    Raises
    ------
    ValueError
        If there are fewer than two clips or groups.

    Notes
    -----
    Without groups, the split is stratified if the number of validation clips allows it. The clip of a class with a
    single clip is a training clip. With groups, the validation clips are a fold of a stratified group k-fold split,
    whose size is close to ``val_split``.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.data.split import split_validation
    >>> train, valid = split_validation(np.array([0, 0, 1, 1]), 0.5, 0)
    >>> len(train), len(valid)
    (2, 2)
    """
    n = len(y)
    if groups is not None:
        return _split_groups(y, np.asarray(groups), val_split, seed, names)

    if n < 2:
        raise ValueError(
            f"Got 1 sample (n_samples = {n}) and val_split={val_split}, expected at least 2 clips; "
            "set val_split=None to train on everything."
        )

    n_valid = min(max(1, round(val_split * n)), n - 1)
    repeated = np.flatnonzero(np.bincount(y)[y] > 1)
    n_classes = len(np.unique(y[repeated]))
    if 0 < n_classes <= n_valid <= len(repeated) - n_classes:
        from sklearn.model_selection import StratifiedShuffleSplit  # slow to import

        splitter = StratifiedShuffleSplit(1, test_size=n_valid, random_state=seed)
        _, chosen = next(splitter.split(repeated, y[repeated]))
        valid = np.sort(repeated[chosen])
    else:
        valid = _draw_few(y, n_valid, seed)
    return np.setdiff1d(np.arange(n), valid), valid


def _draw_few(y: np.ndarray, n_valid: int, seed: int) -> np.ndarray:
    """Draw validation clips at random; if possible, at least one clip of each class remains for training."""
    order = np.random.RandomState(seed).permutation(len(y))
    left = np.bincount(y)
    chosen: list[int] = []
    for i in order:
        if len(chosen) < n_valid and left[y[i]] > 1:
            left[y[i]] -= 1
            chosen.append(i)
    return np.sort(chosen or order[:1])


def _split_groups(
    y: np.ndarray, groups: np.ndarray, val_split: float, seed: int, names: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        raise ValueError(
            f"Got {n_groups} group for the validation split, expected at least 2; "
            "give clips of more groups, give validation clips (X_val, y_val), or set val_split=None to train on "
            "everything."
        )
    from sklearn.model_selection import GroupShuffleSplit, StratifiedGroupKFold

    # for a share above one half, the fold is used for training and the rest for validation
    minority = min(val_split, 1 - val_split)
    n_splits = min(range(2, n_groups + 1), key=lambda k: abs(1 / k - minority))
    if np.bincount(y).max() >= n_splits:
        # a warning of our own reports rare classes, in terms of groups
        with ignored_warnings("The least populated class", UserWarning):
            folds = list(StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed).split(y, y, groups))
        folds = [fold[::-1] for fold in folds] if val_split > 0.5 else folds
        train, valid = min(folds, key=lambda fold: _split_cost(y, fold, val_split))
    else:
        train, valid = next(GroupShuffleSplit(1, test_size=val_split, random_state=seed).split(y, y, groups))
    _warn_about_missing_classes(y, train, valid, names)
    return train, valid


def _split_cost(y: np.ndarray, fold: tuple[np.ndarray, np.ndarray], val_split: float) -> tuple[int, int, float]:
    """Return a sort key: first the classes without training clips, then those without validation clips, then size."""
    train, valid = (len(np.unique(y[side])) for side in fold)
    return -train, -valid, abs(len(fold[1]) / len(y) - val_split)


def _warn_about_missing_classes(
    y: np.ndarray, train: np.ndarray, valid: np.ndarray, names: Sequence[Any] | None
) -> None:
    classes = np.unique(y)
    for side, indices in (("training", train), ("validation", valid)):
        missing = np.setdiff1d(classes, y[indices]).tolist()
        if missing:
            shown = ", ".join(repr(plain(names[i]) if names is not None else i) for i in missing[:10])
            warn_user(
                f"The split by groups leaves {len(missing)} of {len(classes)} classes without {side} clips: {shown}. "
                "Give clips of more groups, or validation clips (X_val, y_val)."
            )
