"""What is suspicious in a collection of recordings, in sentences that say what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from skastw.audio.clips import MIN_MONO_SHARE
from skastw.datasets.collection import Collection

__all__ = ["CLIPPED", "find_problems", "is_cancelled", "is_silent"]

#: A clip is clipped when a larger share of its samples lies on flat tops.
CLIPPED = 1e-3
#: A clip is short, or long, beyond these lengths (s), or beyond this multiple of the median.
_SHORT, _LONG, _MULTIPLE = 0.1, 300.0, 10
#: Classes are out of balance where the largest has so many times the clips of the smallest.
_IMBALANCE = 5
#: The folds of scikit-learn's cross-validation, where no splits are given.
_N_FOLDS = 5


def find_problems(clips: Collection) -> list[str]:
    """Return a sentence for each thing that could make a score too good, or training fail.

    Parameters
    ----------
    clips : Collection

    Returns
    -------
    list of str
        What spoils a score comes first.

    Examples
    --------
    >>> from skastw.datasets import describe_audio, make_tones
    >>> X, y = make_tones(n_clips=12, random_state=0)
    >>> describe_audio(X, y, splits=[([0, 1, 2, 3], [3, 4, 5])]).warnings[0]
    'Leakage: in 1 of 1 splits clips are in train and test (clip 3 in split 0): make the two disjoint.'
    """
    return [*_leaks(clips), *_copies(clips), *_class_problems(clips), *_clip_problems(clips)]


def is_silent(clips: Collection) -> np.ndarray:
    """Return which clips are silent from beginning to end in all channels, shape (n,), bool."""
    return (clips.frame["silence"] == 1).to_numpy() & ~is_cancelled(clips)


def is_cancelled(clips: Collection) -> np.ndarray:
    """Return of which clips the channels cancel each other in their mean, shape (n,), bool."""
    return (clips.frame["mono_share"] < MIN_MONO_SHARE).to_numpy()


# ------------------------------------------------------------------ splits


def _leaks(clips: Collection) -> Iterator[str]:
    if not clips.splits:
        return
    n_splits = len(clips.splits)
    copies = [None if number < 0 else number for number in clips.frame["copies"]]
    files = [path if isinstance(path, str) else None for path in clips.frame["path"]]
    questions: list[tuple[str, Any, str]] = [
        ("clips are", range(len(clips.frame)), "make the two disjoint"),
        ("groups are", [] if clips.groups is None else clips.groups, "split by GroupKFold or StratifiedGroupKFold"),
        ("copies of one recording are", copies, "drop them, or give them one group"),
        ("parts of one file are", files, "split by groups, with the file as group"),
    ]
    for what, keys, remedy in questions:
        shared = [_shared(keys, train, test) if len(keys) else [] for train, test in clips.splits]
        if leaking := [number for number, found in enumerate(shared) if found]:
            first = shared[leaking[0]]
            examples = f"{_example(clips, keys, first[0])}{_and_more(len(first) - 1)} in split {leaking[0]}"
            yield f"Leakage: in {len(leaking)} of {n_splits} splits {what} in train and test ({examples}): {remedy}."
    for name, members in clips.classes.items():
        if lost := [number for number, (train, _) in enumerate(clips.splits) if not members[train].any()]:
            yield (
                f"Lost class: in {len(lost)} of {n_splits} splits no training clip is of class {name!r} (split "
                f"{lost[0]}): stratify, or take fewer folds."
            )


def _shared(keys: Sequence[Any], train: np.ndarray, test: np.ndarray) -> list[Any]:
    """Return the keys that are on both sides, in order."""
    there = {keys[i] for i in train}
    return [key for key in dict.fromkeys(keys[i] for i in test) if key is not None and key in there]


def _example(clips: Collection, keys: Sequence[Any], key: Any) -> str:
    if keys is clips.groups:
        return f"group {key!r}"
    return _clips(clips, [i for i, other in enumerate(keys) if other == key])


# ------------------------------------------------------------------ copies


def _copies(clips: Collection) -> Iterator[str]:
    labels, numbers = clips.labels(), clips.frame["copies"].to_numpy()
    sets = [np.flatnonzero(numbers == number) for number in range(numbers.max() + 1)]
    if disputed := [members for members in sets if _differ(labels, members)]:
        yield f"Copies: {_sets(clips, disputed)} under different labels{_first(clips, disputed)}: decide for one label."
    if clips.groups is not None:
        if scattered := [members for members in sets if _differ(clips.groups, members)]:
            yield (
                f"Copies: {_sets(clips, scattered)} in different groups{_first(clips, scattered)}: a split by groups "
                "does not keep them together; drop them, or join the groups."
            )
    elif not clips.splits and (others := [members for members in sets if not _differ(labels, members)]):
        yield f"Copies: {_sets(clips, others)}{_first(clips, others)}; a random split parts them: drop all but one."


def _differ(values: Sequence[Any] | np.ndarray, members: np.ndarray) -> bool:
    return len({values[i] for i in members} - {None}) > 1


def _sets(clips: Collection, sets: Sequence[np.ndarray]) -> str:
    exact = all(clips.frame["fingerprint"].iloc[members].nunique() == 1 for members in sets)
    return f"{_count(len(sets), 'set')} of clips {_have(sets, 'hold')} the same {'samples' if exact else 'audio'}"


def _first(clips: Collection, sets: Sequence[np.ndarray]) -> str:
    return f" ({_clips(clips, sets[0])}{_and_more(len(sets) - 1)})"


# ------------------------------------------------------------------ classes and groups


def _class_problems(clips: Collection) -> Iterator[str]:
    if clips.groups is not None:
        yield from _confounded(clips, clips.groups)
        if without := [i for i, group in enumerate(clips.groups) if group is None]:
            yield f"Without group: {_clips(clips, without, count=True)}: fill it in, or drop them."
    if clips.targets is not None and (without := [i for i, label in enumerate(clips.labels()) if label is None]):
        yield f"Without label: {_clips(clips, without, count=True)}: fill it in, or drop them."
    counts = {name: int(members.sum()) for name, members in clips.classes.items()}
    if not counts:
        return
    if len(counts) == 1:
        yield f"One class: all clips are {next(iter(counts))!r}, and nothing is to be told apart."
    n_folds = len(clips.splits) if len(clips.splits) > 1 else _N_FOLDS
    if few := [f"{name!r}: {count}" for name, count in counts.items() if count < n_folds]:
        yield (
            f"Few clips: {_count(len(few), 'class')} {_have(few)} fewer than {n_folds} folds ({_listed(few)}): collect "
            "more, take fewer folds, or join classes."
        )
    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _IMBALANCE * max(counts[least], 1):
        yield (
            f"Imbalance: class {most!r} has {counts[most]} clips and class {least!r} has {counts[least]}: set "
            "class_weight='balanced', and score with 'f1_macro' or 'balanced_accuracy'."
        )


def _confounded(clips: Collection, groups: np.ndarray) -> Iterator[str]:
    homes = {name: set(groups[members]) - {None} for name, members in clips.classes.items()}
    alone = [f"{name!r}: {next(iter(home))!r}" for name, home in homes.items() if len(home) == 1]
    if alone and len(set(groups) - {None}) > 1:
        yield (
            f"Confounded: {_count(len(alone), 'class')} {_have(alone)} clips of one group only ({_listed(alone)}): its "
            "speaker, microphone or place tells it, and a split by groups cannot both train and test it."
        )


# ------------------------------------------------------------------ clips


def _clip_problems(clips: Collection) -> Iterator[str]:
    frame, silent = clips.frame, is_silent(clips)
    if len(unreadable := np.flatnonzero(frame["error"].notna())):
        reason = frame["error"].iloc[unreadable[0]].rstrip(".")
        yield (
            f"Unreadable: {_clips(clips, unreadable, count=True)}, the first: {reason}. Mend or drop them, or set "
            "on_error='warn'."
        )
    if silent.any():
        yield f"Silent: {_clips(clips, np.flatnonzero(silent), count=True)}, below -60 dB throughout: drop them."
    if (cancelled := is_cancelled(clips)).any():
        yield (
            f"Cancelled: {_clips(clips, np.flatnonzero(cancelled), count=True)}, whose channels are opposite: less "
            "than 1 % of their energy is left in their mean, which a model hears; keep one channel, or invert one."
        )
    if len(clipped := np.flatnonzero((frame["clipped"] > CLIPPED) & ~silent)):
        yield (
            f"Clipped: {_clips(clips, clipped, count=True)}, flat at the peaks: record at a lower level, and see that "
            "not one class alone is clipped."
        )
    rates = frame["sample_rate"].value_counts()
    if len(rates) > 1:
        listed = ", ".join(f"{rate:g} Hz: {count}" for rate, count in rates.items())
        yield (
            f"Sample rates: there are {len(rates)} ({listed}), and what a low rate lacks can give a class away: see "
            f"that each class has all of them, or set sample_rate={rates.index.min():g}."
        )
    durations = frame["duration"].to_numpy()
    usual = float(np.nanmedian(durations)) if np.isfinite(durations).any() else 0.0
    shortest, longest = max(_SHORT, usual / _MULTIPLE), min(_LONG, usual * _MULTIPLE)
    if len(short := np.flatnonzero(durations < shortest)):
        yield f"Short: {_clips(clips, short, count=True)}, of less than {shortest:.2g} s; the median is {usual:.2g} s."
    if len(long := np.flatnonzero(durations > longest)):
        yield f"Long: {_clips(clips, long, count=True)}, of more than {longest:.3g} s; the median is {usual:.2g} s."


# ------------------------------------------------------------------ words


def _clips(clips: Collection, positions: Sequence[int] | np.ndarray, *, count: bool = False) -> str:
    """Name clips by their positions, and the first by its file."""
    path = clips.frame["path"].iloc[positions[0]]
    listed = ", ".join(map(str, positions[:4])) + ", ..." * (len(positions) > 4)
    named = f"clip{'s' * (len(positions) > 1)} {listed}{f', {path!r}' if isinstance(path, str) else ''}"
    return f"{_count(len(positions), 'clip')} ({named})" if count else named


def _listed(items: Sequence[str]) -> str:
    return ", ".join(items[:3]) + ", ..." * (len(items) > 3)


def _and_more(n_more: int) -> str:
    return f" and {n_more} more" if n_more else ""


def _have(subjects: Sequence[Any], verb: str = "have") -> str:
    return verb if len(subjects) > 1 else {"have": "has"}.get(verb, verb + "s")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("es" if noun.endswith("s") else "s") * (number != 1)
