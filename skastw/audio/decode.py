"""Decode an audio file, or its bytes, to float32 samples.

libsndfile (through soundfile) reads WAV, FLAC, OGG, Opus, MP3, AIFF and more. FFmpeg's libraries (through PyAV, the
extra ``av``) read M4A, AAC, WebM, other formats, and files that libsndfile refuses. First, :mod:`skastw.audio.survey`
finds the audio in the file. A file with less audio than it announces is an error, so that no model is trained on
recordings that a broken download has cut.
"""

import contextlib
import io
import math
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soundfile

from skastw.audio.ffmpeg import ffmpeg_blocks, has_ffmpeg
from skastw.audio.limits import LIMITS, Limits
from skastw.audio.pieces import Pieces
from skastw.audio.resample import check_sample_rate
from skastw.audio.survey import TOLERANCE, Part, Survey, describe_content, survey
from skastw.core.optional import how_to_install
from skastw.core.text import looked_in
from skastw.core.warn import warn_user
from skastw.errors import ClipValueError, SkastwError

_TRUNCATED = "is truncated: {seconds:.2f} s can be read and {proof}; fetch or export it again."
_EXPECTED = "expected a WAV, FLAC, OGG or MP3 file (M4A, AAC and WebM with the extra 'av')"
#: libsndfile's number of samples if the header gives none.
_UNKNOWN_LENGTH = 2**63 - 1
#: FLAC and Ogg can store hours of silence in a few bytes. They are decoded in blocks of this number of values (16 MiB),
#: so that memory grows with the decoded audio. Files of other formats must not announce more than this number of values
#: per byte (MP3 has up to 48 and ALAC up to 256).
_IN_BLOCKS, _BLOCK, _MAX_DENSITY = ("FLAC", "OGG"), 2**22, 1024
#: Formats in which libsndfile cannot seek exactly. They are decoded from their beginning.
_INEXACT = ("MPEG", "MP3")


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
        Path of the file, or its content.
    start, end : float, optional
        Bounds of the part in seconds; by default the whole file. If the format allows it, the rest is not read.
    limits : Limits
        Largest size of the file. The announced size is checked before memory is allocated.

    Returns
    -------
    samples : ndarray of shape (n_samples, n_channels), float32
        Integer formats are scaled to [-1, 1).
    rate : int
        Samples per second (Hz).

    Raises
    ------
    ClipValueError
        If the file is missing, empty, truncated, not a regular file, of an unknown format, or too large, or if it ends
        before the part does.
    MissingDependencyError
        If the format needs the extra ``av`` and it is not installed.

    Warns
    -----
    UserWarning
        If audio may be missing: the header announces 0 bytes, an Ogg stream has no end mark, or other bytes lie
        between MPEG frames.

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
    with _opened(source, limits) as recording:
        part = recording.survey.parts[0]
        if len(recording.survey.parts) == 1 and not part.only_ffmpeg:
            with contextlib.suppress(_LibsndfileRefusalError), _sound_file(recording, part) as sound:
                if sound.frames != _UNKNOWN_LENGTH:
                    return _decode_part(recording, sound, start, end)
        return _decode_blocks(recording, start, end)


def decode_blocks(source: str | os.PathLike[str], *, limits: Limits = LIMITS) -> Iterator[tuple[np.ndarray, int]]:
    """Decode one audio file in blocks, in memory that does not depend on its length.

    Parameters
    ----------
    source : path
    limits : Limits
        Largest size of the file, except that ``values`` is not limited.

    Yields
    ------
    samples : ndarray of shape (n_samples, n_channels), float32
        Next block. All blocks together are the samples that :func:`decode` returns.
    rate : int
        Samples per second (Hz), the same for all blocks.

    Raises
    ------
    ClipValueError, MissingDependencyError
        As in :func:`decode`. A truncated file is noticed only at its end.

    Examples
    --------
    >>> from skastw.audio.decode import decode_blocks
    >>> from skastw.datasets import load_spoken_digits
    >>> sum(len(samples) for samples, rate in decode_blocks(load_spoken_digits().data[0]))
    8248
    """
    with _opened(source, replace(limits, values=2**62)) as recording:
        yield from _blocks(recording)


def segment_bounds(n_samples: int, rate: float, start: float | None, end: float | None) -> tuple[int, int]:
    """Return the positions of the first sample of a part of a clip and of the sample after its last.

    Parameters
    ----------
    n_samples : int
        Number of samples in the whole clip.
    rate : float
        Samples per second (Hz).
    start, end : float or None
        Bounds of the part in seconds; None stands for the start or end of the clip. Since annotations are rounded, the
        end may lie up to a tenth of a second after the end of the clip.

    Returns
    -------
    first, last : int

    Raises
    ------
    ClipValueError
        If the bounds are not valid or the clip is too short.

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
    if last > seconds + TOLERANCE or (first and first >= seconds):
        raise ClipValueError(f"lasts {seconds:.2f} s and does not contain the part from {first:g} s to {last:g} s.")
    return min(round(first * rate), n_samples), min(round(last * rate), n_samples)


@dataclass(frozen=True)
class _Recording:
    """An open file and its survey."""

    source: str | os.PathLike[str] | bytes
    file: BinaryIO
    size: int
    survey: Survey
    limits: Limits

    def readable(self, part: Part) -> str | bytes | Pieces:
        """Return the source for libsndfile: if possible the path, which it can read without calls of Python."""
        if (
            isinstance(self.source, bytes)
            or part.pieces is not None
            or not self.survey.is_known
            or Path(self.source).suffix.lower() == ".raw"  # soundfile would require the rate
        ):
            return self.pieces(part)

        # a file name may contain any bytes; on Windows it is text
        return os.fspath(self.source) if sys.platform == "win32" else os.fsencode(self.source)

    def pieces(self, part: Part) -> Pieces:
        """Return a part as a file."""
        return Pieces(self.file, [(0, self.size)] if part.pieces is None else part.pieces)

    def check_whole(self, n_samples: int, n_announced: int, rate: int) -> None:
        """Raise an error if more audio is missing than the tolerance allows."""
        missing = max(n_announced - n_samples, n_samples * (self.survey.announced - 1)) / rate
        if missing > TOLERANCE or self.survey.is_cut:
            seconds = n_samples / rate
            announced = f"the file announces at least {seconds + missing:.2f} s"
            proof = announced if missing > TOLERANCE else "the file ends inside a frame or a page"
            raise ClipValueError(_TRUNCATED.format(seconds=seconds, proof=proof))


class _LibsndfileRefusalError(ClipValueError):
    """libsndfile refuses a file that FFmpeg may read."""


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str] | bytes, limits: Limits) -> Iterator[_Recording]:
    """Open and survey a file, and convert all errors inside the block to errors about the clip."""
    try:
        with _open(source) as file:
            size = file.seek(0, os.SEEK_END)
            if not size:
                raise ClipValueError(f"the file is empty (0 bytes), {_EXPECTED}.")
            limits.check_file_size(size)
            recording = _Recording(source, file, size, survey(file, size), limits)

            if not recording.survey.parts:
                raise ClipValueError(_TRUNCATED.format(seconds=0, proof="the file ends inside a tag"))
            for note in recording.survey.notes:
                name = "An audio file in memory" if isinstance(source, bytes) else repr(str(os.fspath(source)))
                warn_user(f"{name}: {note}")
            yield recording

    except (SkastwError, Warning):  # Warning: if the user has turned warnings into errors
        raise
    except MemoryError as error:
        raise ClipValueError("takes more memory to decode than is available; split it into shorter clips.") from error
    except soundfile.LibsndfileError as error:
        raise ClipValueError(f"cannot be decoded ({_reason(error)}); {_EXPECTED}.") from error
    except Exception as error:  # decoders and file systems raise errors of many types
        raise ClipValueError(f"cannot be decoded ({type(error).__name__}: {error!s:.500}).") from error


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.rstrip(".") or "damaged"


def _open(source: str | os.PathLike[str] | bytes) -> BinaryIO:
    """Open a regular file."""
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not os.fspath(source):
        raise ClipValueError(f"the path is empty, {_EXPECTED}.")
    try:
        mode = os.stat(source).st_mode
        if stat.S_ISREG(mode):
            return open(source, "rb")
    except FileNotFoundError:
        raise ClipValueError(f"no such file{looked_in(source)}.") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        raise ClipValueError(f"cannot be read: {error}.") from error
    raise ClipValueError(f"is {'a folder' if stat.S_ISDIR(mode) else 'a pipe, a socket or a device'}, {_EXPECTED}.")


class _SoundFile(soundfile.SoundFile):
    """A file in which soundfile does not seek after each read, which would lose samples of MP3."""

    def seekable(self) -> bool:
        return False

    def starts_anywhere(self) -> bool:
        """Return whether libsndfile can seek exactly in this file."""
        return super().seekable() and self.format not in _INEXACT


def _decode_part(
    recording: _Recording, sound: _SoundFile, start: float | None, end: float | None
) -> tuple[np.ndarray, int]:
    """Decode from ``start`` to ``end`` with libsndfile; if the format allows it, the rest is not read."""
    n_frames, rate = sound.frames, sound.samplerate
    first, last = segment_bounds(n_frames, rate, start, end)
    begin = first if sound.starts_anywhere() else 0
    recording.limits.check_audio(last - begin, sound.channels, rate)
    _check_density(sound, recording.size)
    if begin:
        sound.seek(begin)
    samples = _read_samples(sound, last - begin)

    n_read = begin + len(samples)
    recording.check_whole(n_frames if n_read >= last else n_read, last, rate)
    return samples[first - begin :], rate


def _decode_blocks(recording: _Recording, start: float | None, end: float | None) -> tuple[np.ndarray, int]:
    """Decode the whole file, but store only the blocks from ``start`` to ``end``."""
    blocks: list[np.ndarray] = []
    n_samples, n_before, rate = 0, 0, 1
    is_part = start is not None or end is not None
    unlimited = replace(recording, limits=replace(recording.limits, values=2**62))

    for block, rate in _blocks(unlimited if is_part else recording):
        begin, n_samples = n_samples, n_samples + len(block)
        is_before = start is not None and n_samples < start * rate - 1  # bounds are rounded, by one sample
        is_after = end is not None and begin > end * rate + 1
        if is_before or is_after:
            continue

        n_before = n_before if blocks else begin
        blocks.append(block)
        recording.limits.check_audio(n_samples - n_before, block.shape[1], rate, verb="holds")

    first, last = segment_bounds(n_samples, rate, start, end)
    return np.concatenate(blocks)[first - n_before : last - n_before], rate


def _blocks(recording: _Recording) -> Iterator[tuple[np.ndarray, int]]:
    """Yield the samples of all parts, which must have the same sample rate and number of channels."""
    form, n_samples, announced = None, 0, [0] * len(recording.survey.parts)
    for index, part in enumerate(recording.survey.parts):
        for block, rate, announced[index] in _part_blocks(recording, part):
            form = form or (block.shape[1], rate)
            if form != (block.shape[1], rate):
                raise ClipValueError("changes its channels or sample rate half-way; export it again.")
            n_samples += len(block)
            recording.limits.check_audio(n_samples, *form, verb="holds")
            yield block, rate

    recording.check_whole(n_samples, sum(announced), form[1] if form else 1)
    if not n_samples:
        raise ClipValueError("holds no audio (no samples); drop the clip.")


def _part_blocks(recording: _Recording, part: Part) -> Iterator[tuple[np.ndarray, int, int]]:
    """Yield blocks of a part, their rate, and the number of samples that the part announces."""
    if not part.only_ffmpeg:
        with contextlib.suppress(_LibsndfileRefusalError), _sound_file(recording, part) as sound:
            n_announced = 0 if sound.frames == _UNKNOWN_LENGTH else sound.frames
            recording.limits.check_audio(n_announced, sound.channels, sound.samplerate)
            _check_density(sound, recording.size)
            for block in _sound_blocks(sound):
                yield block, sound.samplerate, n_announced
            return
    yield from ffmpeg_blocks(recording.pieces(part), cast(str, part.demuxer), recording.limits)


def _sound_blocks(sound: _SoundFile) -> Iterator[np.ndarray]:
    """Yield blocks up to the end. None exceeds the announced rest, since libsndfile fills a whole block."""
    n_samples, max_size = 0, max(_BLOCK // sound.channels, 1)
    while (size := min(max_size, sound.frames - n_samples)) > 0:
        block = sound.read(size, dtype="float32", always_2d=True)
        if not len(block):
            break
        n_samples += len(block)
        yield block if 2 * len(block) > size else block.copy()


@contextlib.contextmanager
def _sound_file(recording: _Recording, part: Part) -> Iterator[_SoundFile]:
    """Open a file with libsndfile. If libsndfile refuses it, the error depends on whether FFmpeg may read it."""
    if not recording.survey.is_known:
        recording.file.seek(0)
        if kind := describe_content(recording.file.read(512)):
            raise ClipValueError(f"cannot be decoded (it looks like {kind}); {_EXPECTED}.")

    try:
        sound = _SoundFile(recording.readable(part))
    except soundfile.LibsndfileError as error:
        raise _refusal(part, _reason(error)) from error

    with sound:
        if sound.format == "RAW":  # libsndfile guessed the format by the suffix (.au, .gsm, .snd, .vox)
            raise ClipValueError(f"cannot be decoded (no header); {_EXPECTED}.")
        # libsndfile may guess the length, and reads no further
        if sound.frames < max(part.n_samples - TOLERANCE * part.rate, 0):
            raise _refusal(part, "its length is not known")
        check_sample_rate(sound.samplerate)
        yield sound


def _check_density(file: _SoundFile, size: int) -> None:
    if file.format not in _IN_BLOCKS and file.frames * file.channels > _MAX_DENSITY * size:
        raise ClipValueError(f"is truncated or damaged: {size} bytes are too few for the samples that it announces.")


def _read_samples(file: _SoundFile, n_samples: int) -> np.ndarray:
    """Read at most ``n_samples``; memory for formats of high compression grows with the samples that exist."""
    expected = min(max(_BLOCK // file.channels, 1), n_samples) if file.format in _IN_BLOCKS else n_samples
    samples = file.read(expected, dtype="float32", always_2d=True)
    n_read = len(samples)
    while n_read == expected < n_samples:
        expected = min(2 * expected, n_samples)
        samples.resize((expected, file.channels), refcheck=False)
        n_read += len(file.read(out=samples[n_read:]))
    return samples[:n_read]


def _refusal(part: Part, reason: str) -> ClipValueError:
    """Return the error about a file that libsndfile refuses; it names FFmpeg if that may read the file."""
    if part.demuxer is None:
        return ClipValueError(f"cannot be decoded ({reason}); {_EXPECTED}.")
    if not has_ffmpeg():
        return ClipValueError(f"cannot be decoded ({reason}); FFmpeg may read it: {how_to_install('av')}.")
    return _LibsndfileRefusalError(reason)
