"""Decode audio with FFmpeg's libraries through PyAV (the extra ``av``)."""

import importlib.util
import os
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from skastw.audio.limits import Limits
from skastw.audio.resample import check_sample_rate
from skastw.audio.survey import TOLERANCE
from skastw.core.optional import import_optional
from skastw.errors import ClipValueError

#: Demuxers for which FFmpeg guesses the duration from the number of bytes. The survey of a file is more reliable.
_WITHOUT_LENGTH = ("aac", "ac3", "aiff", "amr", "au", "caf", "eac3", "mp3", "w64", "wav")


class _Bounded:
    """A file for PyAV that limits the size of a read and raises no errors, which PyAV would print."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, size: int) -> bytes:
        try:
            # PyAV asks for as many bytes as a header announces, and Python allocates them before it reads
            return self._file.read(min(size, self._size))
        except (OSError, ValueError):
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1

    def tell(self) -> int:
        return self._file.tell()


def ffmpeg_blocks(file: BinaryIO, size: int, demuxer: str, limits: Limits) -> Iterator[tuple[np.ndarray, int]]:
    """Decode a file with FFmpeg, in blocks.

    FFmpeg may use only one demuxer. Without this restriction, it would choose one by the content of the file, and some
    demuxers open further files.

    Parameters
    ----------
    file : binary file
    size : int
        Size of the file in bytes.
    demuxer : str
        FFmpeg's name of the demuxer.
    limits : Limits
        Limits for the announced and for the decoded audio.

    Yields
    ------
    samples : ndarray of shape (n_samples, n_channels), float32
    rate : int
        Samples per second (Hz).

    Raises
    ------
    ClipValueError
        If FFmpeg cannot decode the file, or the file is shorter than it announces.
    MissingDependencyError
        If PyAV is not installed.

    Examples
    --------
    >>> from skastw.audio import LIMITS
    >>> from skastw.audio.ffmpeg import ffmpeg_blocks
    >>> from skastw.datasets import load_spoken_digits
    >>> with open(load_spoken_digits().data[0], "rb") as file:
    ...     [rate for samples, rate in ffmpeg_blocks(file, 10**5, "ogg", LIMITS)][0]
    16000
    """
    av = import_optional("av", extra="av", purpose="Decoding M4A, AAC, WebM, WMA and more")
    n_samples, rate = 0, 1

    try:
        with av.open(_Bounded(file, size), format=demuxer, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise ClipValueError("has no audio stream; drop the clip.")
            stream = container.streams.audio[0]
            announced = None if demuxer in _WITHOUT_LENGTH else _announced_seconds(container, stream)

            # interleaved samples lie in one plane; with more than eight planes, PyAV reads past the end of their list
            interleave = av.AudioResampler(format="flt").resample
            for frame, n_channels, rate in _frames(container, stream, announced or 0, limits):
                n_samples += frame.samples
                limits.check_audio(n_samples, n_channels, rate, verb="holds")
                for block in interleave(frame):
                    yield block.to_ndarray().reshape(-1, n_channels), rate
    except av.FFmpegError as error:
        raise ClipValueError(f"cannot be decoded by FFmpeg ({error.strerror}).") from error

    if not n_samples:
        raise ClipValueError("holds no audio samples; drop the clip.")
    if announced is not None and n_samples / rate < announced - TOLERANCE:
        seconds = f"{n_samples / rate:.2f} s can be read and the file announces {announced:.2f} s"
        raise ClipValueError(f"is truncated: {seconds}; fetch or export it again.")


def has_ffmpeg() -> bool:
    """Return whether PyAV is installed.

    Examples
    --------
    >>> from skastw.audio.ffmpeg import has_ffmpeg
    >>> has_ffmpeg()
    True
    """
    return importlib.util.find_spec("av") is not None


def _frames(container: Any, stream: Any, announced: float, limits: Limits) -> Iterator[tuple[Any, int, int]]:
    """Yield frames of audio with their number of channels and sample rate, which must not change."""
    codec = stream.codec_context
    if codec is None or not codec.sample_rate:
        raise ClipValueError("cannot be decoded by FFmpeg (unknown codec or sample rate).")
    check_sample_rate(codec.sample_rate)
    limits.check_audio(announced * codec.sample_rate, codec.channels, codec.sample_rate)

    form = None
    for frame in container.decode(stream):
        form = form or (len(frame.layout.channels), int(frame.sample_rate))
        if form != (len(frame.layout.channels), frame.sample_rate):
            raise ClipValueError("changes its channels or sample rate half-way; export it again.")
        check_sample_rate(form[1])
        yield frame, *form


def _announced_seconds(container: Any, stream: Any) -> float | None:
    """Return the duration that a file announces, or None if it announces none."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None
