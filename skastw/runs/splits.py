"""Split the clips of a run into training clips and test clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skastw.core.text import did_you_mean, listed, readable
from skastw.core.warn import ignored_warnings, warn_user
from skastw.data.split import split_validation
from skastw.errors import RunError, plain

#: Default ``random_state`` of a split.
_SEED = 0


@dataclass(frozen=True)
class Fold:
    """One split of the clips.

    Attributes
    ----------
    name : str
    train, test : ndarrays of positions
    """

    name: str
    train: np.ndarray
    test: np.ndarray


def complete_split(split: Mapping[str, Any]) -> dict[str, Any]:
    """Return a split with its ``random_state``, if it is drawn at random.

    Parameters
    ----------
    split : mapping
        ``split`` of :class:`skastw.runs.Run`.

    Examples
    --------
    >>> from skastw.runs.splits import complete_split
    >>> complete_split({"test_size": 0.2}), complete_split({"test_fold": 1})
    ({'test_size': 0.2, 'random_state': 0}, {'test_fold': 1})
    """
    drawn = "test_size" in split or split.get("folds", "own") != "own"
    return {**split, **({"random_state": split.get("random_state", _SEED)} if drawn else {})}


def make_folds(
    y: np.ndarray, groups: np.ndarray | None, own: Mapping[str, np.ndarray], split: Mapping[str, Any]
) -> list[Fold]:
    """Return the splits of a run: one, or one for each fold of a cross-validation.

    Parameters
    ----------
    y : ndarray of shape (n_clips,)
        Labels.
    groups : ndarray of shape (n_clips,) or None
        Speaker or recording of each clip.
    own : mapping of str to ndarray
        Names of the official folds, and the positions of their test clips; empty if the data set has no folds.
    split : mapping
        ``split`` of :class:`skastw.runs.Run`.

    Returns
    -------
    list of Fold

    Raises
    ------
    RunError
        If the folds or groups do not exist, or no clip is left to train or to test.

    Warns
    -----
    UserWarning
        If ``test_size`` leaves a class without a training clip or without a test clip.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.runs.splits import make_folds
    >>> y, speakers = np.array(["cat", "dog"] * 4), np.repeat(["ann", "bob", "cid", "dee"], 2)
    >>> [fold] = make_folds(y, speakers, {}, {"test_groups": ["bob"]})
    >>> fold.name, fold.test.tolist()
    ('bob', [2, 3])
    >>> len(make_folds(y, speakers, {}, {"folds": 4}))
    4
    """
    split = complete_split(split)
    if "test_fold" in split:
        tests = {str(split["test_fold"]): _own_fold(own, split["test_fold"])}
    elif "test_groups" in split:
        names = [readable(str(name)) for name in split["test_groups"]]
        tests = {", ".join(names): _of_groups(groups, names)}
    elif "test_size" in split:
        tests = {f"{split['test_size']:.0%}": _drawn(y, groups, split["test_size"], split["random_state"])}
    elif split["folds"] != "own":
        tests = _crossed(y, groups, split["folds"], split["random_state"])
    elif own:
        tests = dict(own)
    else:
        raise RunError("Got folds='own' for clips without folds of their own: give a number of folds.")

    everything = np.arange(len(y))
    folds = [Fold(name, np.setdiff1d(everything, test), test) for name, test in tests.items()]
    for fold in folds:
        if not len(fold.train) or not len(fold.test):
            raise RunError(
                f"The split {dict(split)} gives {len(fold.train)} clips for training and {len(fold.test)} for testing, "
                "expected at least one of each: change the split."
            )
    return folds


def _own_fold(own: Mapping[str, np.ndarray], name: Any) -> np.ndarray:
    if str(name) not in own:
        problem = (
            f", expected one of {list(own)}" if own else " for clips without folds of their own: split in another way"
        )
        raise RunError(f"Got test_fold={plain(name)!r}{problem}.")
    return own[str(name)]


def _of_groups(groups: np.ndarray | None, names: Sequence[str]) -> np.ndarray:
    if groups is None:
        raise RunError(f"Got test_groups={list(names)} for clips without groups: give groups, or split in another way.")
    texts = groups.astype(str)
    if unknown := sorted(set(names) - set(texts)):
        known = np.unique(texts).tolist()
        meant = did_you_mean(unknown[0], known) or "."
        raise RunError(f"Got test_groups with {unknown[:5]}, expected groups among {known[:50]}{meant}")
    return np.flatnonzero(np.isin(texts, list(names)))


def _drawn(y: np.ndarray, groups: np.ndarray | None, share: float, seed: int) -> np.ndarray:
    if groups is not None and len(np.unique(groups)) < 2:
        raise RunError(f"Got test_size={share} for one group of clips, expected at least two groups.")
    labels, codes = np.unique(y, return_inverse=True)
    with ignored_warnings("The split by groups leaves"):  # the warning below is in the words of a run
        train, test = map(np.asarray, split_validation(codes, share, seed, groups=groups))

    for side, index, outcome in (("training", train, "cannot be predicted"), ("test", test, "are not tested")):
        if missing := [repr(label) for label in plain(np.delete(labels, codes[index]))]:
            more = "Collect clips of more groups" if groups is not None else "Collect more clips"
            warn_user(
                f"The split test_size={share:g} leaves {len(missing)} of {len(labels)} classes without {side} clips, "
                f"so they {outcome}: {listed(missing, 10)}. {more}, give another test_size or random_state, "
                "cross-validate with folds, or leave out the classes."
            )
    return test


def _crossed(y: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int) -> dict[str, np.ndarray]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if groups is None and n_folds > (most := np.unique(y, return_counts=True)[1].max()):
        raise RunError(f"Got folds={n_folds} for at most {most} clips of a class, expected no more folds than these.")
    if groups is not None and n_folds > len(np.unique(groups)):
        raise RunError(f"Got folds={n_folds} for {len(np.unique(groups))} groups, expected no more folds than groups.")
    crossing = StratifiedKFold if groups is None else StratifiedGroupKFold
    folds = crossing(n_folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y, groups)
    return {str(i): test for i, (_, test) in enumerate(folds, start=1)}
