"""Decode an audio file, or its bytes, to float32 samples.

libsndfile (through soundfile) reads WAV, FLAC, OGG, Opus, MP3, AIFF and more; FFmpeg's libraries (through
PyAV, the extra ``av``) read M4A, AAC, WebM and the rest. A file that ends before its own header says is an
error: a recording cut in half by a broken download must not train a model unnoticed.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from skastw._optional import import_optional
from skastw.errors import ClipValueError

__all__ = ["decode"]

_TRUNCATED = "is truncated: {seconds:.2f} s can be read and the file announces more; fetch or export it again."
_EXPECTED = "expected a WAV, FLAC, OGG or MP3 file (M4A, AAC and WebM with the extra 'av')"
#: Encoders that write to a pipe cannot know a WAV's size; they write one near 2**31 or 2**32.
_UNKNOWN_SIZE = 0x7FFF0000


def decode(source: str | os.PathLike[str] | bytes) -> tuple[np.ndarray, int]:
    """Decode one audio file.

    Parameters
    ----------
    source : path or bytes
        The file, or what it contains.

    Returns
    -------
    samples : ndarray of shape (n_samples, n_channels), float32
        Integer formats are scaled to [-1, 1).
    rate : int
        Samples per second (Hz).

    Raises
    ------
    ClipValueError
        If the file is missing, empty, truncated or in no known format.
    MissingDependencyError
        If the format needs the extra ``av`` and it is not installed.

    Examples
    --------
    >>> from skastw.audio import decode
    >>> from skastw.datasets import load_spoken_digits
    >>> samples, rate = decode(load_spoken_digits().data[0])
    >>> samples.shape[1], samples.dtype.name, rate
    (1, 'float32', 16000)
    """
    content = _read(source)
    if _needs_ffmpeg(content):
        return _decode_with_ffmpeg(content)
    try:
        with soundfile.SoundFile(_readable(source, content)) as file:
            declared, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, ValueError) as error:  # ValueError: a damaged header gives an absurd size
        reason = getattr(error, "error_string", "damaged header").rstrip(".")
        raise ClipValueError(f"cannot be decoded ({reason}); {_EXPECTED}.") from error
    if len(samples) < declared or _is_cut_short(content):
        raise ClipValueError(_TRUNCATED.format(seconds=len(samples) / rate))
    return samples, rate


def _read(source: str | os.PathLike[str] | bytes) -> bytes:
    if isinstance(source, bytes):
        content = source
    else:
        path = Path(source)
        if not os.fspath(source):
            raise ClipValueError(f"the path is empty, {_EXPECTED}.")
        if path.is_dir():
            raise ClipValueError(f"is a folder, {_EXPECTED}.")
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise ClipValueError(f"no such file (looked in {os.getcwd()!r}).") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
            raise ClipValueError(f"cannot be read: {error}.") from error
    if not content:
        raise ClipValueError(f"the file is empty (0 bytes), {_EXPECTED}.")
    return content


def _readable(source: str | os.PathLike[str] | bytes, content: bytes) -> str | io.BytesIO:
    """Return a file's path, which libsndfile reads without Python's help, or its content where it cannot."""
    if isinstance(source, bytes) or not os.path.isfile(source) or Path(source).suffix.lower() == ".raw":
        return io.BytesIO(content)
    return str(Path(source))


def _needs_ffmpeg(content: bytes) -> bool:
    """Tell MP4/M4A, Matroska/WebM, ADTS AAC and ASF/WMA from the formats that libsndfile reads."""
    adts = len(content) > 1 and content[0] == 0xFF and content[1] & 0xF6 == 0xF0
    return content[4:8] == b"ftyp" or content[:4] in (b"\x1aE\xdf\xa3", b"0&\xb2u") or adts


def _decode_with_ffmpeg(content: bytes) -> tuple[np.ndarray, int]:
    av = import_optional("av", extra="av", purpose="Decoding M4A, AAC, WebM or WMA audio")
    try:
        with av.open(io.BytesIO(content)) as container:
            if not container.streams.audio:
                raise ClipValueError("has no audio stream; drop the clip.")
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")
            blocks = [block.to_ndarray() for frame in container.decode(stream) for block in resampler.resample(frame)]
            rate = int(stream.codec_context.sample_rate)
            announced = _announced_seconds(container, stream)
    except av.FFmpegError as error:
        raise ClipValueError(f"cannot be decoded by FFmpeg ({error.strerror}).") from error
    if not blocks:
        raise ClipValueError("holds no audio samples; drop the clip.")
    samples = np.ascontiguousarray(np.concatenate(blocks, axis=1).T, dtype=np.float32)
    if announced is not None and len(samples) / rate < 0.995 * announced - 0.1:  # codecs pad and trim a little
        raise ClipValueError(_TRUNCATED.format(seconds=len(samples) / rate))
    return samples, rate


def _announced_seconds(container: Any, stream: Any) -> float | None:
    """Return how long a file says its audio is, or None where it does not say."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None


def _is_cut_short(content: bytes) -> bool:
    """Say whether a file ends before its own structure says, where libsndfile does not report it."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return _wav_is_cut_short(content)
    if content[:4] == b"FORM" and content[8:12] in (b"AIFF", b"AIFC"):
        return 8 + int.from_bytes(content[4:8], "big") > len(content)
    return content[:4] == b"OggS" and _ogg_is_cut_short(content)


def _ogg_is_cut_short(content: bytes) -> bool:
    """Walk the pages: each must be whole, and the last one must carry the end-of-stream flag."""
    position, ended = 0, False
    while content[position : position + 4] == b"OggS":
        table = content[position + 27 : position + 27 + (content[position + 26] if position + 26 < len(content) else 0)]
        ended = position + 26 < len(content) and bool(content[position + 5] & 0x04)
        position += 27 + len(table) + sum(table)
        if position > len(content):
            return True
    return not ended


def _wav_is_cut_short(content: bytes) -> bool:
    position = 12
    while position + 8 <= len(content):
        size = int.from_bytes(content[position + 4 : position + 8], "little")
        if content[position : position + 4] == b"data":
            return size < _UNKNOWN_SIZE and position + 8 + size > len(content)
        position += 8 + size + size % 2
    return False
