"""The result of :func:`skastw.datasets.describe_audio`: a text, tables and plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skastw.core.templates import summary
from skastw.core.text import listed

if TYPE_CHECKING:
    import pandas as pd


#: Most lines of the short text, and warnings in it if it leaves out some lines.
_LINES, _WARNINGS = 15, 4


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
        return summary(self._title(), rows=list(self._facts()), heading=self._heading(), notes=self.warnings)

    def _summary_lines(self) -> list[str]:
        """Return the title, the facts, and the heading of the warnings."""
        return [self._title(), *(f"{name:11s}  {text}" for name, text in self._facts()), self._heading()]

    def _title(self) -> str:
        return f"{self.summary['n_clips']} clips, {_time(self.summary['seconds'])}"

    def _heading(self) -> str:
        n = len(self.warnings)
        return "No warnings." if not n else f"{n} warning{'s' * (n > 1)}:"

    def _facts(self) -> Iterator[tuple[str, str]]:
        """Yield the name and the text of each line."""
        about = self.summary
        for name, key, unit in (("duration", "duration", "s"), ("level", "rms_db", "dB")):
            if about[key]:
                low, middle, high = (f"{about[key][point]:.3g}" for point in ("min", "median", "max"))
                yield name, f"median {middle} {unit} ({low} to {high})"

        if about["sample_rates"]:
            yield "sample rate", ", ".join(f"{rate} Hz: {n}" for rate, n in about["sample_rates"].items())
            yield "channels", _counts(about["channels"])
        for name in ("classes", "groups"):
            if about[name]:
                yield name, f"{len(about[name])}: {_counts(about[name])}"
        for name, values in about["values"].items():
            yield f"values {name}", f"median {values['median']:.3g} ({values['min']:.3g} to {values['max']:.3g})"

        if about["splits"]:
            sizes = [f"{split['n_train']} + {split['n_test']}" for split in about["splits"]]
            yield "splits", f"{len(sizes)}: {listed(sizes, 5)} (train + test)"
        problems = {name: about[f"n_{name}"] for name in ("unreadable", "silent", "cancelled", "clipped", "copies")}
        if any(problems.values()):
            yield "of them", ", ".join(f"{n} {name}" for name, n in problems.items() if n)


def _counts(counts: Mapping[Any, int]) -> str:
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
