"""Predictions for long recordings: windows along a clip, and a table of their probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from skastw.audio import clip_path, stream_waveform
from skastw.core.text import readable
from skastw.data.failures import FailedClip, report_failures
from skastw.errors import ClipError, plain
from skastw.network.inference import InferenceParams, embed, outputs_of
from skastw.network.trained import Trained

__all__ = ["AGGREGATES", "cut_windows", "window_table"]

#: Number of samples that are predicted at once (32 MiB).
_BLOCK = 2**23
#: Values of the parameter ``aggregate``, which combine the windows of a clip into one row.
AGGREGATES = ("mean", "max", "vote")


def cut_windows(pieces: Iterable[np.ndarray], size: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a waveform, given in pieces, into windows of the same length that cover all of it.

    Parameters
    ----------
    pieces : iterable of ndarrays of shape (n_i,)
        Consecutive parts of the waveform.
    size, hop : int
        Length of a window, and distance between the starts of consecutive windows (samples).

    Yields
    ------
    start : int
        First sample of the window.
    window : ndarray of shape (size,)
        Samples of the window. The last window ends with the waveform, so it may start less than ``hop`` samples after
        the window before. A waveform that is shorter than a window is returned as one shorter window.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.windows import cut_windows
    >>> [(start, window.tolist()) for start, window in cut_windows([np.arange(3), np.arange(3, 7)], 4, 2)]
    [(0, [0.0, 1.0, 2.0, 3.0]), (2, [2.0, 3.0, 4.0, 5.0]), (3, [3.0, 4.0, 5.0, 6.0])]
    """
    held, position, start = np.zeros(0, dtype=np.float32), 0, 0  # position of the first sample in held
    for piece in pieces:
        held = np.concatenate([held, piece])
        while start + size <= position + len(held):
            yield start, held[start - position :][:size].copy()
            start += hop
        kept_from = max(min(start, position + len(held) - size), position)  # the last window may need these samples
        held, position = held[kept_from - position :], kept_from

    end = position + len(held)
    if not start:
        yield 0, held
    elif start - hop + size < end:
        yield end - size, held[-size:]


def window_table(
    trained: Trained,
    clips: Sequence[Any],
    params: InferenceParams,
    *,
    window: float,
    hop: float | None = None,
    aggregate: str | None = None,
) -> tuple[pd.DataFrame, list[FailedClip]]:
    """Return the probabilities of the windows of clips.

    The use of memory does not depend on the length of the clips.

    Parameters
    ----------
    trained : Trained
        Model with classes.
    clips : sequence of clips
    params : InferenceParams
    window, hop : float
        Length of a window, and time between the starts of consecutive windows (s); by default half a window.
    aggregate : {"mean", "max", "vote"} or None
        Return one row per clip: the mean or the maximum of the probabilities of its windows, or the share of its
        windows in which a label is the most probable one.

    Returns
    -------
    table : DataFrame
        One row per window with ``clip`` (path, or position), ``start`` and ``end`` (s), and one column per label. A
        clip that cannot be read has one row of NaN.
    failed : list of FailedClip
        Clips that cannot be read.

    Raises
    ------
    ValueError
        If ``window`` or ``hop`` is shorter than a sample, ``aggregate`` is unknown, or the model was fitted with
        precomputed frames.
    ClipError
        For the first clip that cannot be read, if ``on_error`` is ``"raise"``.
    """
    if trained.components.precomputed:
        raise ValueError("Got features='precomputed', expected a front end, because windows are cut from waveforms.")
    if aggregate not in (None, *AGGREGATES):
        raise ValueError(f"Got aggregate={aggregate!r}, expected None or one of {', '.join(map(repr, AGGREGATES))}.")

    sample_rate = trained.components.sample_rate
    size = _samples("window", window, sample_rate)
    step = _samples("hop", window / 2 if hop is None else hop, sample_rate)
    predict = partial(_probabilities, trained, replace(params, verbose=0, on_error="raise"))

    rows: list[tuple[int, float, float]] = []
    probabilities: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    failed: list[FailedClip] = []

    for index, clip in enumerate(clips):
        try:
            for start, waveform in cut_windows(stream_waveform(clip, sample_rate, index=index), size, step):
                rows.append((index, start / sample_rate, (start + len(waveform)) / sample_rate))
                waiting.append(waveform)
                if sum(map(len, waiting)) >= _BLOCK:
                    probabilities.append(predict(waiting))
                    waiting = []
        except ClipError as error:
            failed.append(FailedClip.from_error(error))
            failed[-1].check(params.on_error)
    probabilities += [predict(waiting)] if waiting else []

    report_failures(failed, len(clips), params.on_error)
    unread = [clip.index for clip in failed]
    table = _as_table(rows, probabilities, clips, trained.targets.labels, failed=unread)
    return (table if aggregate is None else _aggregated(table, aggregate)).reset_index(drop=True), failed


def _probabilities(trained: Trained, params: InferenceParams, waveforms: list[np.ndarray]) -> np.ndarray:
    embeddings, _ = embed(trained, waveforms, params)
    return trained.targets.finish(outputs_of(trained, embeddings)).numpy()


def _samples(name: str, seconds: Any, sample_rate: int) -> int:
    valid = isinstance(seconds, Real) and not isinstance(seconds, bool) and np.isfinite(float(seconds))
    if not valid or round(seconds * sample_rate) < 1:
        raise ValueError(f"Got {name}={plain(seconds)!r}, expected a length in seconds of at least one sample.")
    return round(seconds * sample_rate)


def _as_table(
    rows: list[tuple[int, float, float]],
    found: list[np.ndarray],
    clips: Sequence[Any],
    labels: Sequence[Any],
    *,
    failed: list[int],
) -> pd.DataFrame:
    """Return the table of the windows; its index is the positions of the clips."""
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
