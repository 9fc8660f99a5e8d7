"""Describe a collection of recordings, to find problems before training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import Parallel, delayed
from sklearn.utils import check_array, check_consistent_length

from skastw.audio import as_clips, clip_path, is_array_input, load_samples
from skastw.audio.clips import mono_share
from skastw.audio.fingerprint import find_copies, fingerprint, sketch
from skastw.core.progress import ProgressBar
from skastw.core.templates import summary
from skastw.core.text import listed, readable, readable_values
from skastw.core.warn import HeldWarning, hold_warnings, issue_held
from skastw.datasets.findings import Collection, defects, find_problems
from skastw.errors import ClipError, SkastwError

if TYPE_CHECKING:
    import pandas as pd

#: Length of a frame (s), and the level (RMS, full scale is 1) below which a frame is silent: -60 dB.
_FRAME, _SILENCE = 0.025, 1e-3
#: Three or more equal samples in a row above this share of the peak are a flat top.
_NEAR_PEAK = 0.99
#: Columns of numbers, NaN for clips that cannot be read.
_MEASUREMENTS = ("duration", "sample_rate", "channels", "peak", "rms_db", "mono_share", "silence", "clipped")
#: Most lines of the short text, and warnings in it if it leaves out some lines.
_LINES, _WARNINGS = 15, 4
#: Problems that the summary counts.
_DEFECTS = ("unreadable", "silent", "cancelled", "clipped", "copies")


@dataclass(frozen=True, eq=False, repr=False)
class AudioDescription:
    """The description of a collection of recordings.

    Parameters
    ----------
    frame : DataFrame
        One row for each clip: ``path``, with escapes if it is not Unicode; ``duration`` (s); ``sample_rate`` (Hz);
        ``channels``; ``peak``, the highest of all channels (full scale is 1); ``rms_db``, level of the mean of the
        channels (dB, -120 for silence); ``mono_share``, share of the channels' energy in their mean; ``silence``,
        share of frames of 25 ms below -60 dB; ``clipped``, share of samples on flat tops (three or more equal samples
        at the peak); ``fingerprint``, equal for equal samples; ``error``, the reason why a clip cannot be read;
        ``copies``, the number of the set of clips with the same audio, or -1.
    summary : dict
        Counts and quantiles, as plain Python values.
    warnings : list of str
        Problems that could make a score too high or training fail, with advice; the most serious first.

    Examples
    --------
    >>> from skastw.datasets import describe_audio, make_tones
    >>> description = describe_audio(*make_tones(n_clips=30, duration=(0.5, 0.5), random_state=0))
    >>> description
    30 clips, 15 s
    duration     median 0.5 s (0.5 to 0.5)
    level        median -8.23 dB (-19.2 to -3.98)
    sample rate  16000 Hz: 30
    channels     1: 30
    classes      3: 0: 10, 1: 10, 2: 10
    No warnings.
    >>> description.summary["duration"]["median"], description.frame["copies"].unique().tolist()
    (0.5, [-1])
    """

    frame: pd.DataFrame
    summary: dict[str, Any]
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return ``clips``, ``summary`` and ``warnings`` as plain values for JSON."""
        clips = self.frame.to_dict("records")
        return _plain({"summary": self.summary, "warnings": self.warnings, "clips": clips})

    def __str__(self) -> str:
        return "\n".join([*self._summary_lines(), *(f"* {warning}" for warning in self.warnings)])

    def __repr__(self) -> str:
        summary_lines, warnings = self._summary_lines(), [f"* {warning}" for warning in self.warnings]
        if len(summary_lines) + len(warnings) > _LINES:
            *summary_lines, heading = summary_lines
            warnings = [*warnings[:_WARNINGS], "print() shows everything."]
            summary_lines = [*summary_lines[: _LINES - len(warnings) - 1], heading]
        return "\n".join(" ".join(line.splitlines()) for line in (*summary_lines, *warnings))

    def _repr_html_(self) -> str:
        title, facts, heading = self._text()
        return summary(title, rows=list(facts.items()), heading=heading, notes=self.warnings)

    def _summary_lines(self) -> list[str]:
        """Return the title, the facts, and the heading of the warnings."""
        title, facts, heading = self._text()
        return [title, *(f"{name:11s}  {text}" for name, text in facts.items()), heading]

    def _text(self) -> tuple[str, dict[str, str], str]:
        """Return the title, the text of each fact by its name, and the heading of the warnings."""
        about, n_warnings = self.summary, len(self.warnings)
        lengths = [f"{split['n_train']} + {split['n_test']}" for split in about["splits"]]
        defective = [f"{about[f'n_{name}']} {name}" for name in _DEFECTS if about[f"n_{name}"]]

        facts = {
            "duration": about["duration"] and _range(about["duration"], " s"),
            "level": about["rms_db"] and _range(about["rms_db"], " dB"),
            "sample rate": ", ".join(f"{rate} Hz: {n}" for rate, n in about["sample_rates"].items()),
            "channels": _listed(about["channels"]),
            **{name: f"{len(about[name])}: {_listed(about[name])}" for name in ("classes", "groups") if about[name]},
            **{f"values {name}": _range(quantiles) for name, quantiles in about["values"].items()},
            "splits": f"{len(lengths)}: {listed(lengths, 5)} (train + test)" if lengths else "",
            "of them": ", ".join(defective),
        }
        title = f"{about['n_clips']} clips, {_time(about['seconds'])}"
        heading = f"{n_warnings} warning{'s' * (n_warnings > 1)}:" if n_warnings else "No warnings."
        return title, {name: text for name, text in facts.items() if text}, heading


def _range(quantiles: Mapping[str, float], unit: str = "") -> str:
    low, middle, high = (f"{quantiles[point]:.3g}" for point in ("min", "median", "max"))
    return f"median {middle}{unit} ({low} to {high})"


def _listed(counts: Mapping[Any, int]) -> str:
    return listed((f"{name}: {n}" for name, n in counts.items()), 10)


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, hours = divmod(round(seconds), 60), divmod(round(seconds / 60), 60)
    return f"{minutes[0]} min {minutes[1]} s" if seconds < 3600 else f"{hours[0]} h {hours[1]} min"


def _plain(value: Any) -> Any:
    """Return a value for JSON: keys are texts, NumPy numbers are Python's, and NaN is None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def describe_audio(
    X: Any,
    y: Any = None,
    groups: Any = None,
    *,
    splits: Any = None,
    sample_rate: int = 16000,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> AudioDescription:
    """Decode and measure all clips, and find problems that could make a score too high or training fail.

    Parameters
    ----------
    X : clips
        In any form that the estimators accept; see :mod:`skastw.audio.clips`. Unreadable clips are counted.
    y : array-like of shape (n,) or (n, n_outputs), optional
        Labels, an indicator matrix of several labels for each clip, or values.
    groups : array-like of shape (n,), optional
        The speaker, recording or place of each clip.
    splits : int, splitter of scikit-learn, or iterable of (train, test), optional
        As the parameter ``cv`` of :func:`sklearn.model_selection.cross_validate`.
    sample_rate : int, default=16000
        Sample rate (Hz) of clips that are arrays without a rate.
    n_jobs : int, optional
        Number of threads, as in joblib.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    AudioDescription
        The measurements, a summary and the warnings; print it to read it.

    Raises
    ------
    ValueError
        If X has no clips, the lengths of X, y and groups differ, or a splitter cannot split the clips.

    Notes
    -----
    Copies are found by their waveforms (:mod:`skastw.audio.fingerprint`), also at another level, sample rate, bit depth
    or codec. Excerpts, shifted or edited copies and raw AAC streams (``.aac``), which have a delay, are not found.

    Examples
    --------
    >>> from skastw.datasets import describe_audio, make_tones
    >>> X, y = make_tones(n_clips=12, duration=(0.5, 0.5), random_state=0)
    >>> describe_audio([*X, 0.5 * X[0]], [*y, 1])
    13 clips, 6.5 s
    duration     median 0.5 s (0.5 to 0.5)
    level        median -7.71 dB (-13.9 to -4.01)
    sample rate  16000 Hz: 13
    channels     1: 13
    classes      3: 0: 4, 1: 5, 2: 4
    of them      2 copies
    2 warnings:
    * Copies: 1 set of clips holds the same audio under different labels (clips 0, 12): decide for one label.
    * Few clips: 2 classes have fewer than 5 folds (0: 4, 2: 4): collect more clips, use fewer folds, or join classes.
    """
    import pandas as pd

    clips = _clips(X)
    check_consistent_length(clips, y, groups)

    rows = ProgressBar(_measured(clips, sample_rate, n_jobs), total=len(clips), desc="clips", disable=verbose != 1)
    frame = pd.DataFrame(list(rows))
    decoded = frame[frame["error"].isna()]
    frame = frame.drop(columns="sketch").assign(copies=-1)
    if len(decoded):
        sets = find_copies(np.stack(decoded["sketch"].tolist()), decoded["duration"].to_numpy())
        frame.loc[decoded.index, "copies"] = sets

    collection = Collection.of(frame, readable_values(y), readable_values(groups), splits)
    return AudioDescription(frame, _summary(collection), find_problems(collection))


def _clips(X: Any) -> Sequence[Any]:
    if is_array_input(X):
        return list(check_array(X, dtype=None, allow_nd=True, ensure_all_finite=False))
    clips = as_clips(X)
    if len(clips) == 0:
        raise ValueError("Found 0 clips in X while a minimum of 1 is required by describe_audio.")
    return clips


# ------------------------------------------------------------------ one clip


def _measured(clips: Sequence[Any], sample_rate: int, n_jobs: int | None) -> Iterator[dict[str, Any]]:
    """Yield the row of each clip, in order. The threads decode in isolation if the caller does."""
    run = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")
    yield from issue_held(run(delayed(_in_context)(copy_context(), clip, sample_rate) for clip in clips))


def _in_context(context: Any, clip: Any, sample_rate: int) -> tuple[dict[str, Any], list[HeldWarning]]:
    return context.run(hold_warnings, _row, clip, sample_rate)


def _row(clip: Any, sample_rate: int) -> dict[str, Any]:
    """Return the measurements of a clip, or an error message if it cannot be read."""
    row = {"path": readable_values(clip_path(clip)), **dict.fromkeys(_MEASUREMENTS, np.nan)}
    row |= {"fingerprint": None, "error": None, "sketch": None}
    try:
        samples, rate = load_samples(clip, sample_rate)
    except SkastwError as error:
        return row | {"error": readable(error.reason if isinstance(error, ClipError) else str(error))}

    mono = samples.mean(axis=0)
    sound = mono - mono.mean(dtype=np.float64)  # a constant offset is not audible
    starts = np.arange(0, len(sound), max(1, round(_FRAME * rate)))
    levels = np.sqrt(np.add.reduceat(sound**2, starts) / np.diff([*starts, len(sound)]))

    return row | {
        "duration": len(mono) / rate,
        "sample_rate": rate,
        "channels": len(samples),
        "peak": float(np.abs(samples).max()),
        "rms_db": 20 * float(np.log10(max(np.sqrt(np.mean(sound**2)), 1e-6))),
        "mono_share": mono_share(samples, mono),
        "silence": float(np.mean(levels < _SILENCE)),
        "clipped": _clipped_share(samples),
        "fingerprint": fingerprint(samples, rate),
        "sketch": sketch(mono, rate),
    }


def _clipped_share(samples: np.ndarray) -> float:
    """Return the share of samples on flat tops. The samples have shape (n_channels, n_samples)."""
    size = np.abs(samples)
    high = size >= np.maximum(_NEAR_PEAK * size.max(axis=1, keepdims=True), np.float32(1e-6))
    equal = (samples[:, 1:] == samples[:, :-1]) & high[:, 1:]
    inside = np.pad(equal[:, 1:] & equal[:, :-1], ((0, 0), (2, 2)))  # the middle one of three equal samples
    return float((inside[:, 2:] | inside[:, 1:-1] | inside[:, :-2]).mean())


# ------------------------------------------------------------------ all clips


def _summary(clips: Collection) -> dict[str, Any]:
    frame = clips.frame
    values = {} if clips.targets is None or clips.classes else clips.targets.select_dtypes("number").to_dict("series")

    return {
        "n_clips": len(frame),
        **{f"n_{name}": int(mask.sum()) for name, mask in defects(frame).items()},
        "seconds": float(frame["duration"].sum()),
        "duration": _quantiles(frame["duration"]),
        "rms_db": _quantiles(frame["rms_db"]),
        "sample_rates": _counts(frame["sample_rate"].dropna().astype(int).tolist()),
        "channels": _counts(frame["channels"].dropna().astype(int).tolist()),
        "classes": {name: int(members.sum()) for name, members in clips.classes.items()},
        "values": {str(name): _quantiles(column) for name, column in values.items()},
        "groups": {} if clips.groups is None else _counts(clips.groups.dropna().tolist()),
        "splits": [{"n_train": len(train), "n_test": len(test)} for train, test in clips.splits],
    }


def _counts(values: Sequence[Any]) -> dict[Any, int]:
    """Return the number of occurrences of each value, the most frequent first."""
    return dict(Counter(values).most_common())


def _quantiles(values: Any) -> dict[str, float]:
    """Return five quantiles, or an empty dict if all values are missing."""
    values = values.dropna()
    points = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
    return {name: float(values.quantile(q)) for name, q in points.items()} if len(values) else {}
