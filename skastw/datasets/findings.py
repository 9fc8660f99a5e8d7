"""Find problems in a collection of recordings, and write sentences that say how to solve them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import check_cv

from skastw.audio.clips import MIN_MONO_SHARE
from skastw.core.text import listed
from skastw.targets.checks import check_complete

if TYPE_CHECKING:
    import pandas as pd

#: A clip is clipped if a larger share of its samples lies on flat tops.
_CLIPPED = 1e-3
#: A clip is short or long beyond these lengths (s), or beyond this multiple of the median.
_SHORT, _LONG, _MULTIPLE = 0.1, 300.0, 10
#: Classes are imbalanced if the largest has this many times the clips of the smallest.
_IMBALANCE = 5
#: Default number of folds of scikit-learn's cross-validation.
_N_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Collection:
    """A collection of recordings with their measurements, targets, groups and splits.

    Attributes
    ----------
    frame : DataFrame of n rows
        Measurements; see :class:`skastw.datasets.AudioDescription`.
    targets : DataFrame of n rows or None
        Labels or values, one column for each output.
    classes : dict
        For each class, an ndarray of shape (n,) of bool that is true for its clips. Empty if the targets are values.
    groups : Series of n rows, object, or None
        The entry None stands for a clip without group.
    splits : list of (ndarray, ndarray)
        Positions of the training and of the test clips.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.datasets.findings import Collection
    >>> clips = Collection.of(pd.DataFrame({"duration": [1.0, 2.0]}), ["dog", "cat"], None, None)
    >>> clips.classes["cat"].tolist()
    [False, True]
    """

    frame: pd.DataFrame
    targets: pd.DataFrame | None
    classes: dict[Hashable, np.ndarray]
    groups: pd.Series | None
    splits: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def of(cls, frame: pd.DataFrame, y: Any, groups: Any, splits: Any) -> Collection:
        """Return a collection from measurements and the arguments of :func:`skastw.datasets.describe_audio`.

        Parameters
        ----------
        frame : DataFrame of n rows
        y, groups : array-like of length n, or None
        splits : int, splitter, iterable or None

        Raises
        ------
        ValueError
            If a splitter cannot split the clips, or the positions of a split are out of range.
        """
        import pandas as pd

        targets, classes = None, {}
        if y is not None:
            targets = pd.DataFrame(y if isinstance(y, list) or hasattr(y, "iloc") else np.asarray(y))
            targets = targets.reset_index(drop=True)
            classes = _classes(targets)

        if groups is not None:
            groups = pd.Series(list(groups)).astype(object)
            groups = groups.where(groups.notna(), None)
        return cls(frame, targets, classes, groups, _splits(splits, len(frame), targets, groups, bool(classes)))


def _classes(targets: pd.DataFrame) -> dict[Hashable, np.ndarray]:
    """Return a mask of the clips of each class, or nothing if the targets are values."""
    import pandas as pd

    if targets.shape[1] > 1:
        is_indicator = targets.isin([0, 1]).all(axis=None)
        return {name: (targets[name] == 1).to_numpy() for name in targets.columns} if is_indicator else {}

    values = targets.iloc[:, 0]
    if values.dtype.kind == "f" and (values.dropna() % 1 != 0).any():
        return {}
    codes, names = pd.factorize(values, sort=True)  # -1 for a missing label
    return {name: codes == code for code, name in enumerate(names.tolist())}


def _splits(
    splits: Any, n_clips: int, targets: pd.DataFrame | None, groups: Any, classifier: bool
) -> list[tuple[np.ndarray, np.ndarray]]:
    if splits is None:
        return []

    y: Any = targets if targets is None or targets.shape[1] > 1 else targets.iloc[:, 0]
    y, groups = (None if values is None else values.to_numpy() for values in (y, groups))
    positions = np.arange(n_clips)
    try:
        pairs = check_cv(splits, y, classifier=classifier).split(np.zeros((n_clips, 1)), y, groups)
        return [(positions[np.asarray(train)], positions[np.asarray(test)]) for train, test in pairs]
    except (TypeError, ValueError):  # a splitter cannot sort labels or groups if some are missing
        check_complete(y, "y")
        check_complete(groups, "groups")
        raise
    except IndexError as error:
        raise ValueError(f"Got splits that do not fit {n_clips} clips ({error}).") from error


def defects(frame: pd.DataFrame) -> dict[str, pd.Series]:
    """Return masks of the clips with a problem, by the name of the problem.

    Parameters
    ----------
    frame : DataFrame of n rows
        Measurements.

    Returns
    -------
    dict of str to Series of bool
        Silent clips are silent from beginning to end in all channels; the channels of cancelled clips cancel each other
        in their mean.
    """
    cancelled = frame["mono_share"] < MIN_MONO_SHARE
    silent = (frame["silence"] == 1) & ~cancelled
    return {
        "unreadable": frame["error"].notna(),
        "silent": silent,
        "cancelled": cancelled,
        "clipped": (frame["clipped"] > _CLIPPED) & ~silent,
        "copies": frame["copies"] >= 0,
    }


def find_problems(clips: Collection) -> list[str]:
    """Return a sentence for each problem that could make a score too high or training fail.

    Parameters
    ----------
    clips : Collection

    Returns
    -------
    list of str
        Problems that affect scores come first.

    Examples
    --------
    >>> from skastw.datasets import describe_audio, make_tones
    >>> X, y = make_tones(n_clips=12, random_state=0)
    >>> describe_audio(X, y, splits=[([0, 1, 2, 3], [3, 4, 5])]).warnings[0]
    'Leakage: in 1 of 1 splits clips are in train and test (clip 3 in split 0): make the two disjoint.'
    """
    return [*_leaks(clips), *_copies(clips), *_class_problems(clips), *_clip_problems(clips)]


# ------------------------------------------------------------------ splits


def _leaks(clips: Collection) -> Iterator[str]:
    import pandas as pd

    # clips with the same key must be on the same side of each split; clips without key are independent
    frame, n_splits = clips.frame, len(clips.splits)
    rules = [
        ("clips are", pd.Series(frame.index), "make the two disjoint"),
        ("groups are", clips.groups, "split by GroupKFold or StratifiedGroupKFold"),
        (
            "copies of one recording are",
            frame["copies"].where(frame["copies"] >= 0),
            "remove them, or give them one group",
        ),
        ("parts of one file are", frame["path"], "split by groups, with the file as group"),
    ]
    for what, keys, remedy in rules:
        shared = {} if keys is None else {i: _shared(keys, *split) for i, split in enumerate(clips.splits)}
        leaking = [i for i, both in shared.items() if len(both)]
        if leaking:
            first, *more = shared[leaking[0]]
            example = f"group {first!r}" if keys is clips.groups else _clips(clips, np.flatnonzero(keys == first))
            yield (
                f"Leakage: in {len(leaking)} of {n_splits} splits {what} in train and test "
                f"({example}{_and_more(more)} in split {leaking[0]}): {remedy}."
            )

    for name, members in clips.classes.items():
        if lost := [i for i, (train, _) in enumerate(clips.splits) if not members[train].any()]:
            yield (
                f"Lost class: in {len(lost)} of {n_splits} splits no training clip is of class {name!r} (split "
                f"{lost[0]}): stratify the split, or use fewer folds."
            )


def _shared(keys: pd.Series, train: np.ndarray, test: np.ndarray) -> Any:
    """Return the keys of both training and test clips, in the order of the test clips."""
    tested = keys.iloc[test].dropna()
    return tested[tested.isin(keys.iloc[train])].unique()


# ------------------------------------------------------------------ copies


def _copies(clips: Collection) -> Iterator[str]:
    numbers = clips.frame["copies"].to_numpy()
    sets = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    labels = _labels(clips)
    disputed = [members for members in sets if _differ(labels, members)]
    scattered = [members for members in sets if _differ(clips.groups, members)]
    others = [] if clips.splits or clips.groups is not None else [one for one in sets if not _differ(labels, one)]

    for found, where, remedy in [
        (disputed, " under different labels", ": decide for one label"),
        (
            scattered,
            " in different groups",
            ": a split by groups does not keep them together; remove them, or join the groups",
        ),
        (others, "", "; a random split separates them: keep one of each set"),
    ]:
        if found:
            n_sets = _count(len(found), "set of clips holds", "sets of clips hold")
            exact = all(clips.frame["fingerprint"].iloc[members].nunique() == 1 for members in found)
            examples = f"{_clips(clips, found[0])}{_and_more(found[1:])}"
            yield f"Copies: {n_sets} the same {'samples' if exact else 'audio'}{where} ({examples}){remedy}."


def _differ(values: pd.Series | None, members: np.ndarray) -> bool:
    return values is not None and values.iloc[members].nunique() > 1


def _labels(clips: Collection) -> pd.Series | None:
    """Return the label of each clip: a tuple with a value for each output, or NaN if a value is missing."""
    import pandas as pd

    if clips.targets is None:
        return None
    rows = pd.Series(list(clips.targets.itertuples(index=False, name=None)), dtype=object)
    return rows.mask(clips.targets.isna().any(axis=1))


# ------------------------------------------------------------------ classes and groups


def _class_problems(clips: Collection) -> Iterator[str]:
    counts = {name: int(members.sum()) for name, members in clips.classes.items()}
    if clips.groups is not None and clips.groups.nunique() > 1:
        groups_of = {name: clips.groups[members].dropna().unique() for name, members in clips.classes.items()}
        if alone := [f"{name!r}: {groups[0]!r}" for name, groups in groups_of.items() if len(groups) == 1]:
            yield (
                f"Confounded: {_count(len(alone), 'class has', 'classes have')} clips of one group only "
                f"({listed(alone)}): a model can learn the speaker, microphone or place instead, and a split by groups "
                "cannot train and test the class; collect clips of other groups."
            )
    if not counts:
        return
    if len(counts) == 1:
        yield f"One class: all clips are {next(iter(counts))!r}; a classifier needs at least two classes."

    n_folds = len(clips.splits) if len(clips.splits) > 1 else _N_FOLDS
    if few := [f"{name!r}: {count}" for name, count in counts.items() if count < n_folds]:
        yield (
            f"Few clips: {_count(len(few), 'class has', 'classes have')} fewer than {n_folds} folds ({listed(few)}): "
            "collect more clips, use fewer folds, or join classes."
        )

    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _IMBALANCE * max(counts[least], 1):
        yield (
            f"Imbalance: class {most!r} has {counts[most]} clips and class {least!r} has {counts[least]}: train with "
            "class_weight='balanced', and score with 'f1_macro' or 'balanced_accuracy'."
        )


# ------------------------------------------------------------------ clips


def _clip_problems(clips: Collection) -> Iterator[str]:
    frame, marked = clips.frame, defects(clips.frame)
    rates = frame["sample_rate"].value_counts()
    if len(rates) > 1:
        counts = ", ".join(f"{rate:g} Hz: {count}" for rate, count in rates.items())
        yield (
            f"Sample rates: the clips have {len(rates)} ({counts}), and the bandwidth can reveal a class: check that "
            f"each class has all rates, or train with sample_rate={rates.index.min():g}."
        )

    labels, durations = _labels(clips), frame["duration"]
    reason = next(iter(frame["error"].dropna()), "").rstrip(".")
    median = durations.median()
    shortest, longest = max(_SHORT, median / _MULTIPLE), min(_LONG, median * _MULTIPLE)

    for title, mask, end in [
        ("Without group", clips.groups is not None and clips.groups.isna(), ": fill it in, or remove the clips"),
        ("Without label", labels is not None and labels.isna(), ": fill it in, or remove the clips"),
        (
            "Unreadable",
            marked["unreadable"],
            f", the first: {reason}. Repair or remove the files, or train with on_error='warn' to leave them out",
        ),
        ("Silent", marked["silent"], ", below -60 dB throughout: remove them"),
        (
            "Cancelled",
            marked["cancelled"],
            ", whose channels are opposite: their mean, which a model receives, has less than 1 % of their energy; "
            "keep one channel, or invert one",
        ),
        (
            "Clipped",
            marked["clipped"],
            ", flat at the peaks: record at a lower level, and check that not only one class is clipped",
        ),
        ("Short", durations < shortest, f", of less than {shortest:.2g} s; the median is {median:.2g} s"),
        ("Long", durations > longest, f", of more than {longest:.3g} s; the median is {median:.2g} s"),
    ]:
        positions = np.flatnonzero(mask)
        if len(positions):
            yield f"{title}: {_count(len(positions), 'clip', 'clips')} ({_clips(clips, positions)}){end}."


# ------------------------------------------------------------------ words


def _clips(clips: Collection, positions: Sequence[int] | np.ndarray) -> str:
    """Return the first positions of some clips, and the path of the first."""
    path = clips.frame["path"].iloc[positions[0]]
    file = f", {path!r}" if isinstance(path, str) else ""
    return f"clip{'s' * (len(positions) > 1)} {listed(map(str, positions), 4)}{file}"


def _and_more(more: Sequence[Any]) -> str:
    return f" and {len(more)} more" if len(more) else ""


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
