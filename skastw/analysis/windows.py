"""Long recordings: windows along a clip, and tables of their predictions and embeddings."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from skastw.analysis.tables import RENAMED, clip_names
from skastw.audio import stream_waveform
from skastw.core.text import unknown_value
from skastw.data.failures import FailedClip, FailedClips, report_failures
from skastw.data.frames import blocks
from skastw.errors import ClipError, plain
from skastw.network.inference import InferenceParams, embed, predict
from skastw.network.trained import Trained

#: Samples in the windows that are predicted at a time: 32 MiB.
_BLOCK = 2**23
#: Values of ``aggregate`` that combine the windows of a clip into one row.
AGGREGATES = ("mean", "max", "vote")


def cut_windows(pieces: Iterable[np.ndarray], size: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Cut a waveform that comes in pieces into windows of equal length, which cover it to its end.

    Parameters
    ----------
    pieces : iterable of ndarrays of shape (n_i,)
        Consecutive parts of the waveform.
    size, hop : int
        Length of a window, and step from the start of a window to the next start (samples).

    Yields
    ------
    start : int
        First sample of the window.
    window : ndarray of shape (size,)
        The last window ends with the waveform, so it may start less than ``hop`` after the previous start. A waveform
        shorter than a window is one shorter window.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.windows import cut_windows
    >>> [(start, window.tolist()) for start, window in cut_windows([np.arange(3), np.arange(3, 7)], 4, 2)]
    [(0, [0.0, 1.0, 2.0, 3.0]), (2, [2.0, 3.0, 4.0, 5.0]), (3, [3.0, 4.0, 5.0, 6.0])]
    """
    buffer, position, start = np.zeros(0, dtype=np.float32), 0, 0  # position of the buffer in the waveform
    for piece in pieces:
        buffer = np.concatenate([buffer, piece])
        while start + size <= position + len(buffer):
            yield start, buffer[start - position :][:size].copy()
            start += hop

        needed_from = max(min(start, position + len(buffer) - size), position)  # a last window needs ``size`` samples
        buffer, position = buffer[needed_from - position :], needed_from

    end = position + len(buffer)
    if not start:
        yield 0, buffer
    elif start - hop + size < end:
        yield end - size, buffer[-size:]


def window_table(
    trained: Trained,
    clips: Sequence[Any],
    params: InferenceParams,
    *,
    window: float,
    hop: float | None = None,
    aggregate: str | None = None,
) -> tuple[pd.DataFrame, list[FailedClip]]:
    """Return the probabilities of the windows of clips, in memory that does not depend on the clips' lengths.

    Parameters
    ----------
    trained : Trained
        A model of classes.
    clips : sequence of clips
    params : InferenceParams
    window, hop : float
        Length of a window, and step from the start of a window to the next start (s); by default half a window.
    aggregate : {"mean", "max", "vote"} or None
        Return one row for each clip: the mean or maximum of the windows' probabilities, or the share of windows in
        which a label is the most probable one.

    Returns
    -------
    table : DataFrame
        A row for each window: ``clip`` (see :func:`~skastw.analysis.clip_names`), ``start`` and ``end`` (seconds), and
        a column for each label. A clip that cannot be read has one row without numbers.
    failed : list of FailedClip
        The clips that cannot be read.

    Raises
    ------
    ValueError
        If ``window`` or ``hop`` is shorter than a sample, ``aggregate`` is not known, or the model has no front end.
    ClipError
        For the first clip that cannot be read, if ``on_error`` is ``"raise"``.
    """
    if aggregate not in (None, *AGGREGATES):
        raise ValueError(unknown_value("aggregate", aggregate, [None, *AGGREGATES]))
    targets, reading = trained.targets, _reading(params)

    def compute(waveforms: list[np.ndarray]) -> np.ndarray:
        return targets.finish(predict(trained, waveforms, reading)[0]).numpy()

    labels = [f"{label} (label)" if label in RENAMED.values() else label for label in targets.labels]
    table, failed = table_of_windows(
        clips, compute, labels, _sample_rate(trained), window=window, hop=hop, on_error=params.on_error
    )
    return (table if aggregate is None else _aggregated(table, aggregate)).reset_index(drop=True), failed


def embedding_window_table(
    trained: Trained, clips: Sequence[Any], params: InferenceParams, *, window: float, hop: float | None = None
) -> tuple[pd.DataFrame, list[FailedClip]]:
    """Return the embeddings of the windows of clips, in memory that does not depend on the clips' lengths.

    Parameters
    ----------
    trained : Trained
    clips, params, window, hop
        See :func:`window_table`.

    Returns
    -------
    table : DataFrame
        As that of :func:`window_table`, with the columns ``embedding_0``, ``embedding_1``, ... of the embedding.
    failed : list of FailedClip
        The clips that cannot be read.

    Raises
    ------
    ValueError, ClipError
        See :func:`window_table`.
    """
    reading = _reading(params)
    names = [f"embedding_{i}" for i in range(trained.model.n_embedding)]

    def compute(waveforms: list[np.ndarray]) -> np.ndarray:
        return embed(trained, waveforms, reading)[0].numpy()

    table, failed = table_of_windows(
        clips, compute, names, _sample_rate(trained), window=window, hop=hop, on_error=params.on_error
    )
    return table.reset_index(drop=True), failed


def table_of_windows(
    clips: Sequence[Any],
    compute: Callable[[list[np.ndarray]], np.ndarray],
    columns: list[Any],
    sample_rate: int,
    *,
    window: float,
    hop: float | None = None,
    on_error: str = "raise",
) -> tuple[pd.DataFrame, FailedClips]:
    """Return values of the windows of clips, in memory that does not depend on the clips' lengths.

    Parameters
    ----------
    clips : sequence of clips
    compute : callable
        Takes a list of waveforms (n,), and returns an array of shape (n_waveforms, n_columns), float32.
    columns : list
        Names of the values.
    sample_rate : int
        Sampling rate of the waveforms (Hz).
    window, hop : float
        See :func:`window_table`.
    on_error : {"raise", "warn", "ignore"}
        Policy for clips that cannot be read.

    Returns
    -------
    table : DataFrame
        As that of :func:`window_table`, with the position of the clip as index.
    failed : list of FailedClip
        The clips that cannot be read.

    Raises
    ------
    ValueError
        If ``window`` or ``hop`` is shorter than a sample.
    ClipError
        For the first clip that cannot be read, if ``on_error`` is ``"raise"``.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.windows import table_of_windows
    >>> def loudest(waveforms):
    ...     return np.array([[np.abs(waveform).max()] for waveform in waveforms], dtype=np.float32)
    >>> table, failed = table_of_windows([np.linspace(0, 0.5, 8001)], loudest, ["level"], 8000, window=0.5)
    >>> table[["start", "end"]].to_numpy()[:3].tolist(), round(float(table["level"].iloc[-1]), 3)
    ([[0.0, 0.5], [0.25, 0.75], [0.5, 1.0]], 0.5)
    """
    size = n_samples("window", window, sample_rate)
    step = n_samples("hop", window / 2 if hop is None else hop, sample_rate)
    rows: list[tuple[int, float, float]] = []
    failed = FailedClips()

    def windows() -> Iterator[np.ndarray]:
        for index, clip in enumerate(clips):
            try:
                for start, waveform in cut_windows(stream_waveform(clip, sample_rate, index=index), size, step):
                    rows.append((index, start / sample_rate, (start + len(waveform)) / sample_rate))
                    yield waveform
            except ClipError as error:
                failed.append(FailedClip.from_error(error))
                failed[-1].check(on_error)

    values = [compute(block) for block in blocks(windows(), _BLOCK, n_bytes=len)]
    report_failures(failed, len(clips), on_error)
    return _as_table(rows, values, clips, columns, failed=[clip.index for clip in failed]), failed


def _sample_rate(trained: Trained) -> int:
    if trained.components.precomputed:
        raise ValueError("Got features='precomputed', expected a front end: windows are cut from clips.")
    return trained.components.sample_rate


def _reading(params: InferenceParams) -> InferenceParams:
    """Return the parameters with which windows are read."""
    # overlapping windows would fill cache_dir with many copies of the same frames
    return replace(params, verbose=0, on_error="raise", cache_dir=None)


def n_samples(name: str, seconds: Any, sample_rate: int) -> int:
    """Return the number of samples in ``seconds``, the length or step of windows with the name ``name``.

    Parameters
    ----------
    name : str
    seconds : float
    sample_rate : int
        Hz.

    Raises
    ------
    ValueError
        If this is not a number, or shorter than a sample.

    Examples
    --------
    >>> from skastw.analysis.windows import n_samples
    >>> n_samples("window", 0.5, 16000)
    8000
    """
    valid = isinstance(seconds, Real) and not isinstance(seconds, bool) and np.isfinite(float(seconds))
    if not valid or round(seconds * sample_rate) < 1:
        raise ValueError(f"Got {name}={plain(seconds)!r}, expected seconds, and at least one sample.")
    return round(seconds * sample_rate)


def _as_table(
    rows: list[tuple[int, float, float]],
    values: list[np.ndarray],
    clips: Sequence[Any],
    columns: list[Any],
    *,
    failed: list[int],
) -> pd.DataFrame:
    """Return the table with the positions of the clips as its index."""
    scores = np.concatenate([np.zeros((0, len(columns)), dtype=np.float32), *values])
    times = pd.DataFrame(rows, columns=["clip", "start", "end"]).astype({"clip": int, "start": float, "end": float})
    times = times.set_index("clip").rename_axis(None)
    table = pd.concat([times, pd.DataFrame(scores, columns=columns, index=times.index)], axis=1)

    # a clip may fail after its first windows
    table = table.drop(index=failed, errors="ignore")
    if failed:
        missing = pd.DataFrame(np.nan, index=failed, columns=table.columns).astype(table.dtypes)
        table = pd.concat([table, missing]).sort_index(kind="stable")

    names = clip_names(clips)
    named = pd.DataFrame({"clip": [names[i] for i in table.index]}, index=table.index)
    return pd.concat([named, table], axis=1)


def _aggregated(table: pd.DataFrame, how: str) -> pd.DataFrame:
    scores = table.iloc[:, 3:]
    if how == "vote":
        best = scores.to_numpy().argmax(axis=1)[:, None] == np.arange(scores.shape[1])
        scores = pd.DataFrame(best, index=scores.index, columns=scores.columns).where(scores.notna())

    by_clip = scores.astype("float64").groupby(level=0, sort=True)
    whole = table.iloc[:, :3].groupby(level=0).agg({"clip": "first", "start": "min", "end": "max"})
    return pd.concat([whole, by_clip.max() if how == "max" else by_clip.mean()], axis=1)
