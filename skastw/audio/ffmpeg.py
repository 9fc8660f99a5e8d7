"""Decode audio with FFmpeg's libraries through PyAV (the extra ``av``)."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np

from skastw.audio.limits import Limits
from skastw.audio.pieces import Pieces
from skastw.audio.resample import check_sample_rate
from skastw.core.optional import import_optional
from skastw.errors import ClipValueError

#: Demuxers for which FFmpeg guesses the duration from the number of bytes. The survey of a file is more reliable.
_WITHOUT_LENGTH = ("aac", "ac3", "aiff", "amr", "au", "caf", "eac3", "mp3", "w64", "wav")


def ffmpeg_blocks(file: Pieces, demuxer: str, limits: Limits) -> Iterator[tuple[np.ndarray, int, int]]:
    """Decode a file with FFmpeg, in blocks.

    FFmpeg may use only one demuxer. Without this restriction, it would choose one by the content of the file, and some
    demuxers open further files.

    Parameters
    ----------
    file : Pieces
    demuxer : str
        FFmpeg's name of the demuxer.
    limits : Limits
        Limits for the announced audio.

    Yields
    ------
    samples : ndarray of shape (n_samples, n_channels), float32
    rate : int
        Samples per second (Hz).
    n_announced : int
        Number of samples in each channel that the file announces, the same for all blocks; 0 if it announces none.

    Raises
    ------
    ClipValueError
        If FFmpeg cannot decode the file.
    MissingDependencyError
        If PyAV is not installed.

    Examples
    --------
    >>> from skastw.audio import LIMITS
    >>> from skastw.audio.ffmpeg import ffmpeg_blocks
    >>> from skastw.audio.pieces import Pieces
    >>> from skastw.datasets import load_spoken_digits
    >>> with open(load_spoken_digits().data[0], "rb") as file:
    ...     [rate for _, rate, _ in ffmpeg_blocks(Pieces(file, [(0, 10**5)]), "ogg", LIMITS)][0]
    16000
    """
    av = import_optional("av", extra="av", purpose="Decoding M4A, AAC, WebM, WMA and more")
    try:
        with av.open(file, format=demuxer, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise ClipValueError("has no audio stream; drop the clip.")
            stream = container.streams.audio[0]
            codec = stream.codec_context
            if codec is None or not codec.sample_rate:
                raise ClipValueError("cannot be decoded by FFmpeg (unknown codec or sample rate).")
            seconds = 0 if demuxer in _WITHOUT_LENGTH else _announced_seconds(container, stream) or 0
            limits.check_audio(seconds * codec.sample_rate, codec.channels, codec.sample_rate)

            # interleaved samples lie in one plane; with more than eight planes, PyAV reads past the end of their list
            interleave = av.AudioResampler(format="flt").resample
            n_channels = rate = None
            for frame in container.decode(stream):
                n_channels, rate = n_channels or len(frame.layout.channels), rate or frame.sample_rate
                if (n_channels, rate) != (len(frame.layout.channels), frame.sample_rate):
                    raise ClipValueError("changes its channels or sample rate half-way; export it again.")
                check_sample_rate(rate)
                for block in interleave(frame):
                    yield block.to_ndarray().reshape(-1, n_channels), rate, round(seconds * rate)
    except av.FFmpegError as error:
        raise ClipValueError(f"cannot be decoded by FFmpeg ({error.strerror}).") from error


def has_ffmpeg() -> bool:
    """Return whether PyAV is installed.

    Examples
    --------
    >>> from skastw.audio.ffmpeg import has_ffmpeg
    >>> has_ffmpeg()
    True
    """
    return importlib.util.find_spec("av") is not None


def _announced_seconds(container: Any, stream: Any) -> float | None:
    """Return the duration that a file announces, or None if it announces none."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None
