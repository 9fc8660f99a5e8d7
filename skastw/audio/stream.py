"""Load a clip in pieces: an hour of audio takes the memory of half a minute."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import soxr

from skastw.audio.clips import check_amplitude, load_waveform, naming_clip, to_mono
from skastw.audio.decode import decode_blocks
from skastw.audio.isolation import Decoder, current_decoder


def stream_waveform(clip: Any, sample_rate: int, *, index: int | None = None) -> Iterator[np.ndarray]:
    """Yield consecutive pieces of the waveform that :func:`skastw.audio.load_waveform` returns.

    Parameters
    ----------
    clip : any form of a clip
        Audio files are decoded and resampled piece by piece. Other clips are loaded in one piece: arrays, parts of
        clips, bytes, and files inside :func:`skastw.audio.isolated_decoding`.
    sample_rate : int
        Samples per second of the result (Hz).
    index : int, optional
        Position of the clip in ``X``, for error messages.

    Yields
    ------
    ndarray of shape (n_samples,), float32
        At least one sample.

    Raises
    ------
    ClipError
        If the clip cannot be used. The message names its index and path. A truncated file is noticed only after its
        last piece.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio import load_waveform, stream_waveform
    >>> from skastw.datasets import load_spoken_digits
    >>> path = load_spoken_digits().data[0]
    >>> np.allclose(np.concatenate(list(stream_waveform(path, 8000))), load_waveform(path, 8000), atol=1e-5)
    True
    """
    path = _whole_file(clip)
    decoder = current_decoder()
    if path is None or type(decoder) is not Decoder:
        yield load_waveform(clip, sample_rate, index=index)
        return

    with naming_clip(path, index):
        yield from _resampled(decode_blocks(path, limits=decoder.limits), sample_rate)


def _whole_file(clip: Any) -> str | os.PathLike[str] | None:
    """Return the path of a clip that is a whole file, or None for other clips."""
    if isinstance(clip, Mapping) and all(clip.get(key) is None for key in ("array", "bytes", "start", "end")):
        clip = clip.get("path")
    return clip if isinstance(clip, str | os.PathLike) else None


def _resampled(blocks: Iterator[tuple[np.ndarray, int]], sample_rate: int) -> Iterator[np.ndarray]:
    """Yield the mean of all channels at ``sample_rate``; the filter continues from block to block."""
    converter, n_converted, mean = None, 0, 0.0
    for samples, rate in blocks:
        mono = to_mono(samples.T)
        check_amplitude(mono)
        if rate == sample_rate:
            yield mono
            continue
        converter = converter or soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        converted, mean = converter.resample_chunk(mono), float(mono.mean())
        n_converted += len(converted)
        if len(converted):
            yield converted

    if converter is not None:
        converted = converter.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        if len(converted) or not n_converted:  # a clip shorter than one new sample is its mean
            yield converted if len(converted) else np.array([mean], dtype=np.float32)
