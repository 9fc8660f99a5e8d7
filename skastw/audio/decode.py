"""Decode an audio file, or its bytes, to float32 samples.

libsndfile (through soundfile) reads WAV, FLAC, OGG, Opus, MP3, AIFF and more; FFmpeg's libraries (through
PyAV, the extra ``av``) read M4A, AAC, WebM and the rest. A file that ends before its own header says is an
error: a recording cut in half by a broken download must not train a model unnoticed.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from skastw._optional import import_optional
from skastw.audio.limits import LIMITS, Limits
from skastw.audio.resample import check_sample_rate
from skastw.errors import ClipValueError

__all__ = ["decode", "decode_blocks", "segment_bounds"]

_TRUNCATED = "is truncated: {seconds:.2f} s can be read and the file announces more; fetch or export it again."
_EXPECTED = "expected a WAV, FLAC, OGG or MP3 file (M4A, AAC and WebM with the extra 'av')"
#: Encoders that write to a pipe cannot know a WAV's size; they write one near 2**31 or 2**32.
_UNKNOWN_SIZE = 0x7FFF0000
#: libsndfile's word for a length that a header does not give.
_UNKNOWN_LENGTH = 2**63 - 1
#: FLAC and Ogg can hold hours of silence in few bytes: they are decoded in blocks of so many values (16 MiB), so that
#: memory grows with what is there. Of others no more than so many values a byte are believed (MP3 holds 48 and ALAC
#: up to 256).
_IN_BLOCKS, _BLOCK, _MAX_DENSITY = ("FLAC", "OGG"), 2**22, 1024
#: Formats in which libsndfile does not start exactly where it is told to: they are read from their beginning.
_INEXACT = ("MPEG", "MP3")
#: Seconds by which a part may end behind its clip.
_ROUNDING = 0.1


def decode(
    source: str | os.PathLike[str] | bytes,
    *,
    start: float | None = None,
    end: float | None = None,
    limits: Limits = LIMITS,
) -> tuple[np.ndarray, int]:
    """Decode one audio file, or a part of it.

    Parameters
    ----------
    source : path or bytes
        The file, or what it contains.
    start, end : float, optional
        Seconds; by default all of it. What lies outside is not read, where the format allows it.
    limits : Limits
        How much the file may hold; checked on what it announces, before memory is taken.

    Returns
    -------
    samples : ndarray of shape (n_samples, n_channels), float32
        Integer formats are scaled to [-1, 1).
    rate : int
        Samples per second (Hz).

    Raises
    ------
    ClipValueError
        If the file is missing, empty, truncated, in no known format, no regular file, beyond the limits, or ends
        before the part does.
    MissingDependencyError
        If the format needs the extra ``av`` and it is not installed.

    Examples
    --------
    >>> from skastw.audio import decode
    >>> from skastw.datasets import load_spoken_digits
    >>> samples, rate = decode(load_spoken_digits().data[0])
    >>> samples.shape[1], samples.dtype.name, rate
    (1, 'float32', 16000)
    >>> decode(load_spoken_digits().data[0], start=0.1, end=0.3)[0].shape
    (3200, 1)
    """
    with _open(source, limits) as file:
        demuxer, size = _demuxer_and_size(file)
        if demuxer is not None:
            blocks = list(_ffmpeg_blocks(_Bounded(file, size), demuxer, limits))
            samples, rate = np.concatenate([block for block, _ in blocks]), blocks[0][1]
            return samples[slice(*segment_bounds(len(samples), rate, start, end))], rate
        with _sound_file(_readable(source, file)) as sound:
            rate = sound.samplerate
            first, last = segment_bounds(sound.frames, rate, start, end)
            begin = first if sound.starts_anywhere() else 0
            limits.check_audio(last - begin, sound.channels, rate)
            _check_density(sound, size)
            if begin:
                sound.seek(begin)
            samples = _read_samples(sound, last - begin)
        if begin + len(samples) < last or _is_cut_short(file, size):
            raise ClipValueError(_TRUNCATED.format(seconds=(begin + len(samples)) / rate))
    return samples[first - begin :], rate


def decode_blocks(source: str | os.PathLike[str], *, limits: Limits = LIMITS) -> Iterator[tuple[np.ndarray, int]]:
    """Decode one audio file piece by piece, in memory that does not depend on its length.

    Parameters
    ----------
    source : path
    limits : Limits
        How much the file may hold; ``values`` is free here.

    Yields
    ------
    samples : ndarray of shape (n_samples, n_channels), float32
        What follows the last piece; together they are what :func:`decode` returns.
    rate : int
        Samples per second (Hz), the same each time.

    Raises
    ------
    ClipValueError, MissingDependencyError
        As :func:`decode` does; a file that is truncated is found out at its end.

    Examples
    --------
    >>> from skastw.audio.decode import decode_blocks
    >>> from skastw.datasets import load_spoken_digits
    >>> sum(len(samples) for samples, rate in decode_blocks(load_spoken_digits().data[0]))
    8248
    """
    limits = replace(limits, values=2**62)
    with _open(source, limits) as file:
        demuxer, size = _demuxer_and_size(file)
        if demuxer is not None:
            yield from _ffmpeg_blocks(_Bounded(file, size), demuxer, limits)
            return
        n_read = 0
        with _sound_file(_readable(source, file)) as sound:
            announced, rate = sound.frames, sound.samplerate
            limits.check_audio(announced, sound.channels, rate)
            _check_density(sound, size)
            while len(block := sound.read(max(_BLOCK // sound.channels, 1), dtype="float32", always_2d=True)):
                n_read += len(block)
                yield block, rate
        if n_read < announced or _is_cut_short(file, size):
            raise ClipValueError(_TRUNCATED.format(seconds=n_read / rate))


def segment_bounds(n_samples: int, rate: float, start: float | None, end: float | None) -> tuple[int, int]:
    """Return the first sample of a part of a clip, and the one after its last.

    Parameters
    ----------
    n_samples : int
        Of the whole clip.
    rate : float
        Samples per second (Hz).
    start, end : float or None
        Seconds; None stands for the clip's own. The end may lie a tenth of a second behind the clip's, as rounded
        annotations do.

    Raises
    ------
    ClipValueError
        If there is no such part.

    Examples
    --------
    >>> from skastw.audio.decode import segment_bounds
    >>> segment_bounds(16000, 16000, 0.25, None)
    (4000, 16000)
    """
    seconds = n_samples / rate
    first = 0.0 if start is None else start
    last = max(seconds, first) if end is None else end
    if not 0 <= first <= last < math.inf or (end is not None and first == last):
        raise ClipValueError(f"got start={start!r} and end={end!r}, expected seconds with 0 <= start < end.")
    if last > seconds + _ROUNDING or (first and first >= seconds):
        raise ClipValueError(f"lasts {seconds:.2f} s, and the part from {first:g} s to {last:g} s is not in it.")
    return min(round(first * rate), n_samples), min(round(last * rate), n_samples)


def _demuxer_and_size(file: BinaryIO) -> tuple[str | None, int]:
    demuxer, size = _ffmpeg_demuxer(file.read(12)), file.seek(0, os.SEEK_END)
    file.seek(0)
    return demuxer, size


def _open(source: str | os.PathLike[str] | bytes, limits: Limits) -> BinaryIO:
    """Open a regular file, not empty and not too large; a pipe or a device would be read for ever."""
    if isinstance(source, bytes):
        size = len(source)
    else:
        if not os.fspath(source):
            raise ClipValueError(f"the path is empty, {_EXPECTED}.")
        try:
            status = os.stat(source)
        except FileNotFoundError:
            raise ClipValueError(f"no such file (looked in {os.getcwd()!r}).") from None
        except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
            raise ClipValueError(f"cannot be read: {error}.") from error
        if stat.S_ISDIR(status.st_mode):
            raise ClipValueError(f"is a folder, {_EXPECTED}.")
        if not stat.S_ISREG(status.st_mode):
            raise ClipValueError(f"is a pipe, a socket or a device, {_EXPECTED}.")
        size = status.st_size
    if not size:
        raise ClipValueError(f"the file is empty (0 bytes), {_EXPECTED}.")
    limits.check_file_size(size)
    if isinstance(source, bytes):
        return _Content(source)
    try:
        return open(source, "rb")
    except OSError as error:
        raise ClipValueError(f"cannot be read: {error}.") from error


class _Content(io.BytesIO):
    """Bytes as a file, which stays where it is when a damaged header leads out of it."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):  # Python would print it: libsndfile's callbacks cannot raise
            return self.tell()


class _SoundFile(soundfile.SoundFile):
    """A file that stays where it is after a read: to seek there again loses samples of MP3."""

    def seekable(self) -> bool:
        return False

    def starts_anywhere(self) -> bool:
        """Say whether reading can begin at any sample, exactly."""
        return super().seekable() and self.format not in _INEXACT


@contextlib.contextmanager
def _sound_file(readable: str | bytes | BinaryIO) -> Iterator[_SoundFile]:
    """Open a file that libsndfile knows, has a length and a rate; turn what goes wrong inside into our error."""
    try:
        with _SoundFile(readable) as file:
            if file.format == "RAW":  # no header was found: libsndfile went by the name (.au, .gsm, .snd, .vox)
                raise ClipValueError(f"cannot be decoded (no header); {_EXPECTED}.")
            if not 0 <= file.frames < _UNKNOWN_LENGTH:
                raise ClipValueError("cannot be decoded (its header gives no length); export it again, not to a pipe.")
            check_sample_rate(file.samplerate)
            yield file
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".") or "damaged"
        raise ClipValueError(f"cannot be decoded ({reason}); {_EXPECTED}.") from error


def _check_density(file: _SoundFile, size: int) -> None:
    if file.format not in _IN_BLOCKS and file.frames * file.channels > _MAX_DENSITY * size:
        raise ClipValueError(f"is truncated or damaged: {size} bytes cannot hold the samples that it announces.")


def _readable(source: str | os.PathLike[str] | bytes, file: BinaryIO) -> str | bytes | BinaryIO:
    """Return a file's path, which libsndfile reads without Python's help, or its content where it cannot."""
    if isinstance(source, bytes):
        return file
    if Path(source).suffix.lower() == ".raw":
        return _Content(file.read())
    # bytes, because a name that is not Unicode cannot be encoded; Windows knows no such names
    return os.fspath(source) if os.name == "nt" else os.fsencode(source)


def _read_samples(file: _SoundFile, n_samples: int) -> np.ndarray:
    """Read so many samples; what is announced and not there takes no more memory than what is there."""
    expected = min(max(_BLOCK // file.channels, 1), n_samples) if file.format in _IN_BLOCKS else n_samples
    samples = file.read(expected, dtype="float32", always_2d=True)
    n_read = len(samples)
    while n_read == expected < n_samples:
        expected = min(2 * expected, n_samples)
        samples.resize((expected, file.channels), refcheck=False)
        n_read += len(file.read(out=samples[n_read:]))
    return samples[:n_read]


class _Bounded:
    """A file that is never asked for more bytes than it has: Python takes memory for all of them before it reads."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        return self._file.read(min(size, self._size))


def _ffmpeg_demuxer(start: bytes) -> str | None:
    """Tell MP4/M4A, Matroska/WebM, ASF/WMA and ADTS AAC from the formats that libsndfile reads."""
    if start[4:8] == b"ftyp":
        return "mp4"
    if start[:4] in _DEMUXERS:
        return _DEMUXERS[start[:4]]
    return "aac" if len(start) > 1 and start[0] == 0xFF and start[1] & 0xF6 == 0xF0 else None


_DEMUXERS = {b"\x1aE\xdf\xa3": "matroska", b"0&\xb2u": "asf"}


def _ffmpeg_blocks(file: _Bounded, demuxer: str, limits: Limits) -> Iterator[tuple[np.ndarray, int]]:
    """Decode with one named demuxer: others, some of which open further files, are out of reach."""
    av = import_optional("av", extra="av", purpose="Decoding M4A, AAC, WebM or WMA audio")
    try:
        with av.open(file, format=demuxer, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise ClipValueError("has no audio stream; drop the clip.")
            stream = container.streams.audio[0]
            announced = None if demuxer == "aac" else _announced_seconds(container, stream)  # it has no header
            # one plane for all channels: PyAV reads past the end of a list of planes beyond the eighth
            interleave = av.AudioResampler(format="flt").resample
            n_samples, rate = 0, 1
            for frame, n_channels, rate in _ffmpeg_frames(container, stream, announced or 0, limits):
                n_samples += frame.samples
                limits.check_audio(n_samples, n_channels, rate, verb="holds")
                for block in interleave(frame):
                    yield block.to_ndarray().reshape(-1, n_channels), rate
    except av.FFmpegError as error:
        raise ClipValueError(f"cannot be decoded by FFmpeg ({error.strerror}).") from error
    if not n_samples:
        raise ClipValueError("holds no audio samples; drop the clip.")
    if announced is not None and n_samples / rate < 0.995 * announced - 0.1:  # codecs pad and trim a little
        raise ClipValueError(_TRUNCATED.format(seconds=n_samples / rate))


def _ffmpeg_frames(container: Any, stream: Any, announced: float, limits: Limits) -> Iterator[tuple[Any, int, int]]:
    """Yield frames of audio with their number of channels and their rate, which stay the same."""
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
    """Return how long a file says its audio is, or None where it does not say."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None


def _is_cut_short(file: BinaryIO, size: int) -> bool:
    """Say whether a file ends before its own structure says, where libsndfile does not report it."""
    file.seek(0)
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:12] == b"WAVE":
        return _wav_is_cut_short(file, size)
    if start[:4] == b"FORM" and start[8:12] in (b"AIFF", b"AIFC"):
        return 8 + int.from_bytes(start[4:8], "big") > size
    return start[:4] == b"OggS" and _ogg_is_cut_short(file, size)


def _ogg_is_cut_short(file: BinaryIO, size: int) -> bool:
    """Walk the pages: each must be whole, and the last one must carry the end-of-stream flag."""
    position, ended = 0, False
    while True:
        file.seek(position)
        page = file.read(27)
        if page[:4] != b"OggS":
            return not ended
        ended = len(page) == 27 and bool(page[5] & 0x04)
        table = file.read(page[26] if len(page) == 27 else 0)
        position += 27 + len(table) + sum(table)
        if position > size:
            return True


def _wav_is_cut_short(file: BinaryIO, size: int) -> bool:
    position = 12
    while position + 8 <= size:
        file.seek(position)
        head = file.read(8)
        length = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return length < _UNKNOWN_SIZE and position + 8 + length > size
        position += 8 + length + length % 2
    return False
