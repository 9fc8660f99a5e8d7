"""Find problems in a collection of recordings, and write sentences that say how to solve them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from skastw.audio.clips import MIN_MONO_SHARE
from skastw.core.text import listed
from skastw.datasets.collection import Collection

#: A clip is clipped if a larger share of its samples lies on flat tops.
CLIPPED = 1e-3
#: A clip is short or long beyond these lengths (s), or beyond this multiple of the median.
_SHORT, _LONG, _MULTIPLE = 0.1, 300.0, 10
#: Classes are imbalanced if the largest has this many times the clips of the smallest.
_IMBALANCE = 5
#: Default number of folds of scikit-learn's cross-validation.
_N_FOLDS = 5


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


def is_silent(clips: Collection) -> np.ndarray:
    """Return a mask of the clips that are silent from beginning to end in all channels, shape (n,), bool."""
    return (clips.frame["silence"] == 1).to_numpy() & ~is_cancelled(clips)


def is_cancelled(clips: Collection) -> np.ndarray:
    """Return a mask of the clips whose channels cancel each other in their mean, shape (n,), bool."""
    return (clips.frame["mono_share"] < MIN_MONO_SHARE).to_numpy()


# ------------------------------------------------------------------ splits


def _leaks(clips: Collection) -> Iterator[str]:
    if not clips.splits:
        return
    n_splits = len(clips.splits)

    # clips with the same key must be on the same side of each split; clips with the key None are independent
    copies = [None if number < 0 else number for number in clips.frame["copies"]]
    files = [path if isinstance(path, str) else None for path in clips.frame["path"]]
    rules: list[tuple[str, Any, str]] = [
        ("clips are", range(len(clips.frame)), "make the two disjoint"),
        ("groups are", [] if clips.groups is None else clips.groups, "split by GroupKFold or StratifiedGroupKFold"),
        ("copies of one recording are", copies, "remove them, or give them one group"),
        ("parts of one file are", files, "split by groups, with the file as group"),
    ]
    for what, keys, remedy in rules:
        shared = [_shared(keys, train, test) if len(keys) else [] for train, test in clips.splits]
        if leaking := [number for number, both in enumerate(shared) if both]:
            first = shared[leaking[0]]
            examples = f"{_example(clips, keys, first[0])}{_and_more(len(first) - 1)} in split {leaking[0]}"
            yield f"Leakage: in {len(leaking)} of {n_splits} splits {what} in train and test ({examples}): {remedy}."

    for name, members in clips.classes.items():
        if lost := [number for number, (train, _) in enumerate(clips.splits) if not members[train].any()]:
            yield (
                f"Lost class: in {len(lost)} of {n_splits} splits no training clip is of class {name!r} (split "
                f"{lost[0]}): stratify the split, or use fewer folds."
            )


def _shared(keys: Sequence[Any], train: np.ndarray, test: np.ndarray) -> list[Any]:
    """Return the keys of both training and test clips, in the order of the test clips."""
    trained = {keys[i] for i in train} - {None}
    return [key for key in dict.fromkeys(keys[i] for i in test) if key in trained]


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
                "does not keep them together; remove them, or join the groups."
            )
    elif not clips.splits and (others := [members for members in sets if not _differ(labels, members)]):
        yield (
            f"Copies: {_sets(clips, others)}{_first(clips, others)}; a random split separates them: keep one of each "
            "set."
        )


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
            yield f"Without group: {_clips(clips, without, count=True)}: fill it in, or remove the clips."
    if clips.targets is not None and (without := [i for i, label in enumerate(clips.labels()) if label is None]):
        yield f"Without label: {_clips(clips, without, count=True)}: fill it in, or remove the clips."

    counts = {name: int(members.sum()) for name, members in clips.classes.items()}
    if not counts:
        return
    if len(counts) == 1:
        yield f"One class: all clips are {next(iter(counts))!r}; a classifier needs at least two classes."

    n_folds = len(clips.splits) if len(clips.splits) > 1 else _N_FOLDS
    if few := [f"{name!r}: {count}" for name, count in counts.items() if count < n_folds]:
        yield (
            f"Few clips: {_count(len(few), 'class')} {_have(few)} fewer than {n_folds} folds ({listed(few)}): collect "
            "more clips, use fewer folds, or join classes."
        )

    most, least = max(counts, key=counts.__getitem__), min(counts, key=counts.__getitem__)
    if counts[most] >= _IMBALANCE * max(counts[least], 1):
        yield (
            f"Imbalance: class {most!r} has {counts[most]} clips and class {least!r} has {counts[least]}: train with "
            "class_weight='balanced', and score with 'f1_macro' or 'balanced_accuracy'."
        )


def _confounded(clips: Collection, groups: np.ndarray) -> Iterator[str]:
    groups_of = {name: set(groups[members]) - {None} for name, members in clips.classes.items()}
    alone = [f"{name!r}: {next(iter(own))!r}" for name, own in groups_of.items() if len(own) == 1]
    if alone and len(set(groups) - {None}) > 1:
        yield (
            f"Confounded: {_count(len(alone), 'class')} {_have(alone)} clips of one group only ({listed(alone)}): a "
            "model can learn the speaker, microphone or place instead, and a split by groups cannot train and test the "
            "class; collect clips of other groups."
        )


# ------------------------------------------------------------------ clips


def _clip_problems(clips: Collection) -> Iterator[str]:
    frame, silent = clips.frame, is_silent(clips)
    if len(unreadable := np.flatnonzero(frame["error"].notna())):
        reason = frame["error"].iloc[unreadable[0]].rstrip(".")
        yield (
            f"Unreadable: {_clips(clips, unreadable, count=True)}, the first: {reason}. Repair or remove the files, or "
            "train with on_error='warn' to leave them out."
        )

    levels = [
        (silent, "Silent", "below -60 dB throughout: remove them"),
        (
            is_cancelled(clips),
            "Cancelled",
            "whose channels are opposite: their mean, which a model receives, has less than 1 % of their energy; keep "
            "one channel, or invert one",
        ),
        (
            (frame["clipped"] > CLIPPED).to_numpy() & ~silent,
            "Clipped",
            "flat at the peaks: record at a lower level, and check that not only one class is clipped",
        ),
    ]
    yield from _marked_clips(clips, levels)

    rates = frame["sample_rate"].value_counts()
    if len(rates) > 1:
        counts = ", ".join(f"{rate:g} Hz: {count}" for rate, count in rates.items())
        yield (
            f"Sample rates: the clips have {len(rates)} ({counts}), and the bandwidth can reveal a class: check that "
            f"each class has all rates, or train with sample_rate={rates.index.min():g}."
        )

    durations = frame["duration"].to_numpy()
    median = float(np.nanmedian(durations)) if np.isfinite(durations).any() else 0.0
    shortest, longest = max(_SHORT, median / _MULTIPLE), min(_LONG, median * _MULTIPLE)
    lengths = [
        (durations < shortest, "Short", f"of less than {shortest:.2g} s; the median is {median:.2g} s"),
        (durations > longest, "Long", f"of more than {longest:.3g} s; the median is {median:.2g} s"),
    ]
    yield from _marked_clips(clips, lengths)


def _marked_clips(clips: Collection, findings: Iterable[tuple[np.ndarray, str, str]]) -> Iterator[str]:
    """Yield a sentence for each mask, shape (n,), that is true for a clip, from its title and its end."""
    for mask, title, end in findings:
        if mask.any():
            yield f"{title}: {_clips(clips, np.flatnonzero(mask), count=True)}, {end}."


# ------------------------------------------------------------------ words


def _clips(clips: Collection, positions: Sequence[int] | np.ndarray, *, count: bool = False) -> str:
    """Return the first positions of some clips, the path of the first, and optionally their number."""
    path = clips.frame["path"].iloc[positions[0]]
    file = f", {path!r}" if isinstance(path, str) else ""
    named = f"clip{'s' * (len(positions) > 1)} {listed(map(str, positions), 4)}{file}"
    return f"{_count(len(positions), 'clip')} ({named})" if count else named


def _and_more(n_more: int) -> str:
    return f" and {n_more} more" if n_more else ""


def _have(subjects: Sequence[Any], verb: str = "have") -> str:
    return verb if len(subjects) > 1 else {"have": "has"}.get(verb, verb + "s")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("es" if noun.endswith("s") else "s") * (number != 1)
