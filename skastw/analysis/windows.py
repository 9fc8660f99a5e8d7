"""Long recordings: windows along a clip, one after the other, and a table of what is heard in each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from skastw.audio import clip_path, stream_waveform
from skastw.core.text import readable
from skastw.data.failures import Failures
from skastw.errors import ClipError, plain

__all__ = ["AGGREGATES", "cut_windows", "window_table"]

#: Samples of windows that are predicted at once: 32 MiB.
_BLOCK = 2**23
#: Values of the parameter ``aggregate`` that make one row of a clip's windows.
AGGREGATES = ("mean", "max", "vote")


def cut_windows(pieces: Iterable[np.ndarray], size: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a waveform that comes in pieces into windows of one length that cover it to its end.

    Parameters
    ----------
    pieces : iterable of ndarrays of shape (n_i,)
        Consecutive parts of the waveform.
    size, hop : int
        Samples of a window, and from the start of one to that of the next.

    Yields
    ------
    start : int
        First sample of the window.
    window : ndarray of shape (size,)
        The last one ends with the waveform, so it may start less than ``hop`` after the one before. A waveform
        shorter than a window is one window, as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.windows import cut_windows
    >>> [(start, window.tolist()) for start, window in cut_windows([np.arange(3), np.arange(3, 7)], 4, 2)]
    [(0, [0.0, 1.0, 2.0, 3.0]), (2, [2.0, 3.0, 4.0, 5.0]), (3, [3.0, 4.0, 5.0, 6.0])]
    """
    held, position, start = np.zeros(0, dtype=np.float32), 0, 0  # position: of the first sample that is held
    for piece in pieces:
        held = np.concatenate([held, piece])
        while start + size <= position + len(held):
            yield start, held[start - position :][:size].copy()
            start += hop
        kept_from = max(min(start, position + len(held) - size), position)  # a last window may need so much
        held, position = held[kept_from - position :], kept_from
    end = position + len(held)
    if not start:
        yield 0, held
    elif start - hop + size < end:
        yield end - size, held[-size:]


def window_table(
    clips: Sequence[Any],
    predict: Callable[[list[np.ndarray]], np.ndarray],
    *,
    labels: Sequence[Any],
    sample_rate: int,
    window: float,
    hop: float | None,
    aggregate: str | None,
    failures: Failures,
) -> pd.DataFrame:
    """Return the probabilities of the windows of clips, in memory that does not depend on the clips' lengths.

    Parameters
    ----------
    clips : sequence of clips
    predict : callable
        Takes waveforms, returns an ndarray of shape (n_windows, n_labels).
    labels : sequence
        Names of the columns.
    sample_rate : int
        Hz.
    window, hop : float
        Seconds of a window, and from the start of one to that of the next; by default half a window.
    aggregate : {"mean", "max", "vote"} or None
        Make one row of a clip's windows: by mean or maximum of a label's probabilities, or by the share of windows in
        which it is the most probable one.
    failures : Failures
        What to do about clips that cannot be read.

    Returns
    -------
    DataFrame
        A row a window: ``clip`` (path, or position), ``start`` and ``end`` (seconds), and a column a label. A clip
        that cannot be read has one row without numbers.

    Raises
    ------
    ValueError
        If ``window`` or ``hop`` is no length of at least one sample, or ``aggregate`` is not known.
    ClipError
        For the first clip that cannot be read, if ``failures`` says so.
    """
    if aggregate not in (None, *AGGREGATES):
        raise ValueError(f"Got aggregate={aggregate!r}, expected None or one of {', '.join(map(repr, AGGREGATES))}.")
    size = _samples("window", window, sample_rate)
    step = _samples("hop", window / 2 if hop is None else hop, sample_rate)
    rows: list[tuple[int, float, float]] = []
    found: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    n_waiting = 0
    for index, clip in enumerate(clips):
        try:
            for start, waveform in cut_windows(stream_waveform(clip, sample_rate, index=index), size, step):
                rows.append((index, start / sample_rate, (start + len(waveform)) / sample_rate))
                waiting.append(waveform)
                n_waiting += len(waveform)
                if n_waiting >= _BLOCK:
                    found.append(predict(waiting))
                    waiting, n_waiting = [], 0
        except ClipError as error:
            failures.note(error)
    found += [predict(waiting)] if waiting else []
    table = _as_table(rows, found, clips, labels, failed=[clip.index for clip in failures.clips])
    return (table if aggregate is None else _aggregated(table, aggregate)).reset_index(drop=True)


def _samples(name: str, seconds: Any, sample_rate: int) -> int:
    valid = isinstance(seconds, Real) and not isinstance(seconds, bool) and np.isfinite(float(seconds))
    if not valid or round(seconds * sample_rate) < 1:
        raise ValueError(f"Got {name}={plain(seconds)!r}, expected seconds, and at least one sample.")
    return round(seconds * sample_rate)


def _as_table(
    rows: list[tuple[int, float, float]],
    found: list[np.ndarray],
    clips: Sequence[Any],
    labels: Sequence[Any],
    *,
    failed: list[int],
) -> pd.DataFrame:
    """Return the table with the positions of the clips as its index."""
    index, start, end = (np.array(column) for column in zip(*rows, strict=True)) if rows else (np.zeros(0, int),) * 3
    scores = np.concatenate(found) if found else np.zeros((0, len(labels)), dtype=np.float32)
    taken = {"clip", "start", "end"}
    columns = [f"{label} (label)" if label in taken else label for label in labels]
    heard = ~np.isin(index, failed)
    table = pd.DataFrame(scores[heard], columns=columns, index=index[heard])
    table.insert(0, "start", start[heard])
    table.insert(1, "end", end[heard])
    if failed:
        table = pd.concat([table, pd.DataFrame(np.nan, index=failed, columns=table.columns)]).sort_index(kind="stable")
    paths = [clip_path(clip) for clip in clips]
    names = [i if path is None else readable(path) for i, path in enumerate(paths)]
    table.insert(0, "clip", [names[i] for i in table.index])
    return table


def _aggregated(table: pd.DataFrame, how: str) -> pd.DataFrame:
    scores = table.iloc[:, 3:]
    if how == "vote":
        best = scores.to_numpy().argmax(axis=1)[:, None] == np.arange(scores.shape[1])
        scores = pd.DataFrame(best, index=scores.index, columns=scores.columns).where(scores.notna())
    by_clip = scores.astype("float64").groupby(level=0, sort=True)
    whole = table.iloc[:, :3].groupby(level=0).agg({"clip": "first", "start": "min", "end": "max"})
    return pd.concat([whole, by_clip.max() if how == "max" else by_clip.mean()], axis=1)
