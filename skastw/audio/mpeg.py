"""Find and count the frames of MPEG audio (MP3, layers I and II) and of AAC in ADTS.

Such a file is a sequence of frames without an index. Some encoders write a length header (Xing, Info or VBRI): a first
frame without audio that gives the number of frames. Streams and files of other programs have none. Tags may lie before
and after the frames, and also between them if files were joined.
"""

import functools
import re
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO, NamedTuple

from skastw.audio.pieces import Piece, read_at
from skastw.errors import ClipValueError

#: Bit rates in kbit/s from index 1 on. Keys: whether the version is 1, layer.
_KBITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
#: Sample rates of version 1 (Hz), and the divisors of all versions by the two bits of a header.
_RATES, _RATE_DIVISORS = (44100, 48000, 32000), {3: 1, 2: 2, 0: 4}
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
#: The first bytes of a frame. Headers of MPEG audio with an invalid or free bit rate do not match.
_FRAME_START = re.compile(rb"\xff(?:[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef]|[\xf0\xf1\xf8\xf9])")
#: Number of consecutive frames that prove a match, and the bytes that they take at most.
_CERTAIN, _SPAN = 3, 2**14
#: Bytes that are read at a time, and bytes of a frame that may hold the fields of a length header.
_WINDOW, _HEAD = 2**20, 256
#: Largest number of other bytes between frames, and of runs of frames in a file.
_MAX_GAP, _MAX_RUNS = 2**22, 10_000
_LENGTH_WORDS = (b"Xing", b"Info", b"VBRI")


@dataclass(frozen=True)
class _Kind:
    """The common properties of all frames of a stream."""

    codec: str  #: "mp3", "mp2", "mp1" or "aac"
    rate: int  #: samples per second (Hz)
    frame_samples: int
    size: Callable[[bytes, int], int]  #: returns the bytes of the frame at a position of a buffer, or 0


@dataclass
class _Run:
    """Consecutive frames without a gap."""

    kind: _Kind
    start: int
    end: int = 0
    n_frames: int = 0
    is_cut: bool = False  #: one more frame begins but is incomplete
    heads: list[tuple[int, int, bytes]] = field(default_factory=list)  #: length headers: index, position, frame


class _LengthHeader(NamedTuple):
    """Fields of a length header; zero if a field, or the header, is missing."""

    at: int = 0  #: position of the word "Xing", "Info" or "VBRI" in the frame
    flags: int = 0  #: fields of Xing: 1 frames, 2 bytes, 4 table, 8 quality
    n_frames: int = 0
    n_bytes: int = 0


@dataclass
class Stream:
    """Frames that were encoded together: a whole file, or one of several files that were joined.

    Parameters
    ----------
    codec : {"mp3", "mp2", "mp1", "aac"}
    rate : int
        Samples per second (Hz).
    frame_samples : int
        Samples in each frame.
    start : int
        Position of the first frame, which may be a length header.
    head : bytes
        The frame that is the length header, or empty.
    n_frames : int
        Number of complete frames with audio.
    runs : list of (int, int)
        Ranges of consecutive frames: positions of the first byte and of the byte after the last.
    """

    codec: str
    rate: int
    frame_samples: int
    start: int
    head: bytes = b""
    n_frames: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def n_announced(self) -> int:
        """Number of frames according to the length header, or 0 if it is not given."""
        return _length_header(self.head).n_frames

    @property
    def n_bytes(self) -> int:
        """Number of bytes of the frames with audio."""
        return sum(end - start for start, end in self.runs)

    @property
    def is_as_announced(self) -> bool:
        """Whether a Xing header gives the right numbers of frames and bytes, and the frames have no gap."""
        header = _length_header(self.head)
        has_count = header.flags & 1 and self.n_frames <= header.n_frames
        is_close = abs(header.n_bytes - len(self.head) - self.n_bytes) <= 0.009 * header.n_bytes
        return bool(has_count) and len(self.runs) == 1 and (not header.n_bytes or is_close)

    def pieces(self, file: BinaryIO) -> list[Piece]:
        """Return the ranges of its frames, for MP3 after a length header with the right number of frames."""
        return [*([self._right_head(file)] if self.codec == "mp3" and self.runs else []), *self.runs]

    def _right_head(self, file: BinaryIO) -> bytes:
        """Return a length header with the right numbers, from which libsndfile reads the length."""
        at, flags, n_announced, _ = _length_header(self.head)
        if not flags & 1 or not n_announced:
            return _new_head(read_at(file, self.runs[0][0], 4), self.n_frames)

        head = bytearray(self.head)
        if self.n_frames > n_announced:
            head[at + 8 : at + 12] = self.n_frames.to_bytes(4, "big")
            # 12 bits in LAME's part give the padding at the end, which is right for fewer frames only
            lame = at + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
            if lame + 24 <= len(head):
                head[lame + 22 : lame + 24] = bytes([head[lame + 22] & 0xF0, 0])
        if flags & 2:
            head[at + 12 : at + 16] = (len(head) + self.n_bytes).to_bytes(4, "big")
        return bytes(head)


def id3_end(file: BinaryIO, start: int) -> int:
    """Return the end of the ID3v2 tags at a position.

    Parameters
    ----------
    file : binary file
    start : int
        Position of the first byte of a tag, if there is one.

    Returns
    -------
    int
        Position of the byte after the last tag, or ``start`` without a tag.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.mpeg import id3_end
    >>> id3_end(io.BytesIO(b"ID3\\4\\0\\0\\0\\0\\0\\5title" + bytes(100)), 0)
    15
    """
    while True:
        head = read_at(file, start, 10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:]) > 127:
            return start
        footer = 10 if head[5] & 0x10 else 0
        start += 10 + _id3_size(head) + footer


def simple_id3_end(file: BinaryIO) -> int:
    """Return the end of a single ID3v2 tag that libmpg123 can skip by itself, or 0.

    Parameters
    ----------
    file : binary file

    Examples
    --------
    >>> import io
    >>> from skastw.audio.mpeg import simple_id3_end
    >>> simple_id3_end(io.BytesIO(b"ID3\\4\\0\\0\\0\\0\\0\\5title" + bytes(100)))
    15
    """
    head = read_at(file, 0, 10)
    return 10 + _id3_size(head) if len(head) == 10 and head[:3] == b"ID3" and not head[5] & 0x10 else 0


def _id3_size(head: bytes) -> int:
    """Return the size of an ID3v2 tag, which is stored in four bytes of seven bits."""
    return head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]


def find_frames(file: BinaryIO, start: int, end: int, *, reach: int = 2**16) -> int | None:
    """Return the position of the first of several consecutive frames, or None.

    Parameters
    ----------
    file : binary file
    start, end : int
        Positions of the first byte to search and of the byte after the last.
    reach : int
        The first frame must begin less than this number of bytes after ``start``.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.mpeg import find_frames
    >>> frame = b"\\xff\\xfb\\x90\\x64".ljust(417, b"\\0")  # 128 kbit/s at 44.1 kHz
    >>> find_frames(io.BytesIO(b"some text" + 4 * frame), 0, 1677)
    9
    """
    match = _search(file, start, end, reach)
    return None if match is None else match[0]


def fills_file(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether the number of bytes in a Xing header is exact up to the end of the file or its tags.

    The frames of such a file need not be counted: the decoder knows their number and notices if some are missing.

    Parameters
    ----------
    file : binary file
    start, end : int
        Positions of the first frame and of the byte after the tags at the end.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.mpeg import fills_file
    >>> frame = b"\\xff\\xfb\\x90\\x64".ljust(417, b"\\0")
    >>> fills_file(io.BytesIO(4 * frame), 0, 4 * 417)
    False
    """
    head = read_at(file, start, 2**11)
    kind = _kind(head[:3])
    size = kind.size(head, 0) if kind is not None and kind.codec == "mp3" else 0
    header = _length_header(head[:size])
    return bool(header.n_frames and header.n_bytes) and start + header.n_bytes == tags_start(file, start, end)


def split_streams(file: BinaryIO, start: int, end: int) -> tuple[list[Stream], int, bool]:
    """Walk the frames of a file and split them into streams, at each length header and each other kind of frame.

    Parameters
    ----------
    file : binary file
    start, end : int
        Positions of the first byte to read and of the byte after the last. Tags and other bytes around and between the
        frames are skipped.

    Returns
    -------
    streams : list of Stream
        Streams in the order of the file.
    n_unknown : int
        Number of bytes that are neither frames nor tags.
    is_cut : bool
        Whether the last frame is incomplete.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.mpeg import split_streams
    >>> frame = b"\\xff\\xfb\\x90\\x64".ljust(417, b"\\0")
    >>> (stream,), n_unknown, is_cut = split_streams(io.BytesIO(4 * frame + b"TAG" + bytes(125)), 0, 4 * 417 + 128)
    >>> stream.n_frames, stream.rate, n_unknown, is_cut
    (4, 44100, 0, False)
    """
    runs, n_unknown = _runs(file, start, end)
    streams: list[Stream] = []
    for run in runs:
        marks = [*run.heads, (run.n_frames, run.end, b"")]
        if marks[0][0] > 0:
            marks.insert(0, (0, run.start, b""))
        for (first, start, head), (last, end, _) in pairwise(marks):
            kind = run.kind
            if head or not streams or (streams[-1].codec, streams[-1].rate) != (kind.codec, kind.rate):
                streams.append(Stream(kind.codec, kind.rate, kind.frame_samples, start, head))

            n_frames = last - first - bool(head)
            if n_frames:
                streams[-1].n_frames += n_frames
                streams[-1].runs.append((start + len(head), end))
    return streams, n_unknown, bool(runs) and runs[-1].is_cut


def _runs(file: BinaryIO, start: int, end: int) -> tuple[list[_Run], int]:
    """Return the runs of frames, and the number of bytes that are neither frames nor tags."""
    end = tags_start(file, start, end)
    runs: list[_Run] = []
    n_unknown, position = 0, start
    while position < end and (match := _search(file, position, end, _MAX_GAP)) is not None:
        if len(runs) == _MAX_RUNS:
            raise ClipValueError(f"cannot be decoded (its frames are interrupted {_MAX_RUNS} times); export it again.")
        first, kind = match
        n_unknown += first - position
        runs.append(_walk(file, first, end, kind))
        position = end if runs[-1].is_cut else tags_end(file, runs[-1].end)
    return runs, n_unknown + max(end - position, 0)


def _search(file: BinaryIO, start: int, end: int, reach: int) -> tuple[int, _Kind] | None:
    """Return the position of the first of several consecutive frames, and their kind."""
    position, step = start, 2**12
    while position < min(start + reach, end):
        window = read_at(file, position, min(step + _SPAN, end - position))
        is_last = position + len(window) >= end
        for match in _FRAME_START.finditer(window, 0, step + 2):
            kind = _kind(window[match.start() : match.start() + 3])
            first = position + match.start()
            if kind is not None and _are_frames(window, match.start(), kind, is_last, may_be_alone=first == start):
                return first, kind

        position, step = position + step, min(4 * step, 2**16)
    return None


def _are_frames(window: bytes, position: int, kind: _Kind, is_last: bool, *, may_be_alone: bool) -> bool:
    """Return whether enough frames of one kind follow one another, or all up to the end of the file.

    After other bytes, a single frame at the end proves nothing: videos contain frames of MP3 too.
    """
    for n_frames in range(_CERTAIN):
        if position + 6 > len(window):
            return is_last and (n_frames > 1 or (may_be_alone and n_frames == 1 and position <= len(window)))
        size = kind.size(window, position)
        if not size:
            return False
        position += size
    return True


def _walk(file: BinaryIO, start: int, end: int, kind: _Kind) -> _Run:
    """Follow the frames from a position on, in growing windows: a run may be short or long."""
    run, size_of = _Run(kind, start), kind.size
    position, window_size, is_over = start, 2**14, False
    while not is_over:
        window = read_at(file, position, min(window_size, end - position))
        is_over = position + len(window) >= end

        at, last, starts = 0, len(window) - (6 if is_over else _HEAD), []
        while at <= last:
            size = size_of(window, at)
            if not size:
                is_over = True
                break
            starts.append(at)
            at += size

        for index, first in _length_headers(window, starts) if kind.codec == "mp3" else ():
            head = read_at(file, position + first, size_of(window, first))
            run.heads.append((run.n_frames + index, position + first, head))
        run.n_frames += len(starts)
        position += at
        is_over = is_over or not starts
        window_size = min(4 * window_size, _WINDOW)

    if position > end:
        position, run.n_frames, run.is_cut = position - size, run.n_frames - 1, True
        run.heads = [head for head in run.heads if head[0] < run.n_frames]
    run.is_cut = run.is_cut or (0 < end - position < 6 and read_at(file, position, 1) == b"\xff")
    run.end = position
    return run


def _length_headers(window: bytes, starts: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the indices and positions of frames that are length headers."""
    for place in sorted(place for word in _LENGTH_WORDS for place in _places(window, word)):
        index = bisect_left(starts, place) - 1
        if index >= 0 and place - starts[index] < _HEAD:
            first = starts[index]
            if _word_at(window[first : first + _HEAD]) == place - first:
                yield index, first


def _length_header(frame: bytes) -> _LengthHeader:
    """Return the fields of a length header."""
    at = _word_at(frame)
    if not at:
        return _LengthHeader()
    if frame[at : at + 4] == b"VBRI":
        return _LengthHeader(at, n_frames=int.from_bytes(frame[at + 14 : at + 18], "big"))

    flags = frame[at + 7]
    first, second = (int.from_bytes(frame[start : start + 4], "big") for start in (at + 8, at + 12))
    return _LengthHeader(at, flags, first if flags & 1 else 0, second if flags & 3 == 3 else 0)


def _word_at(frame: bytes) -> int:
    """Return the position of the word "Xing", "Info" or "VBRI" in a length header, or 0 for other frames."""
    if frame[36:40] == b"VBRI" and len(frame) >= 54:
        return 36
    if len(frame) < 40:
        return 0

    # Xing's word follows the side information, which is silent; a checksum of 2 bytes may lie before
    at = 4 + _side_size(frame)
    is_silent = not any(frame[6:at])
    return at if is_silent and frame[at : at + 4] in (b"Xing", b"Info") and len(frame) >= at + 16 else 0


def _side_size(header: bytes) -> int:
    """Return the bytes of side information in a frame of layer III."""
    is_version_1, is_mono = header[1] & 8, header[3] >> 6 == 3
    return (17 if is_mono else 32) if is_version_1 else (9 if is_mono else 17)


def _new_head(header: bytes, n_frames: int) -> bytes:
    """Return a length header for frames with this header."""
    kind = _kind(header[:3])
    assert kind is not None
    for index in range(1, 15):
        third = index << 4 | header[2] & 0x0D
        first = bytes([header[0], header[1] | 1, third, header[3]])  # without a checksum
        size = kind.size(first, 0)
        if size >= 192:  # old releases of mpg123 ignore a length header in a smaller frame
            break
    return (first + bytes(_side_size(header)) + b"Xing" + struct.pack(">II", 1, n_frames)).ljust(size, b"\0")


def _kind(header: bytes) -> _Kind | None:
    """Return the kind of frame that begins with three bytes, or None."""
    if len(header) < 3:
        return None
    if header[1] & 0xF6 == 0xF0:
        return _adts_kind(header[2] >> 2 & 15)
    return _mpeg_kind(header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3), header[2] >> 2 & 3)


@functools.cache
def _mpeg_kind(version: int, layer: int, rate_index: int) -> _Kind | None:
    if version not in _RATE_DIVISORS or layer == 4 or rate_index == 3:
        return None
    version_1, rate = version == 3, _RATES[rate_index] // _RATE_DIVISORS[version]
    samples = {1: 384, 2: 1152, 3: 1152 if version_1 else 576}[layer]

    # sizes by the first three bytes of a header; a frame of layer I consists of slots of four bytes
    sizes: dict[bytes, int] = {}
    slot = 4 if layer == 1 else 1
    for index, kbits in enumerate(_KBITS[version_1, layer], start=1):
        for bits in range(8):
            second = 0xE0 | version << 3 | (4 - layer) << 1 | bits >> 2
            third = index << 4 | rate_index << 2 | bits & 3
            padding = bits >> 1 & 1
            sizes[bytes([0xFF, second, third])] = (samples // 8 // slot * 1000 * kbits // rate + padding) * slot

    def size(buffer: bytes, at: int) -> int:
        return sizes.get(buffer[at : at + 3], 0)

    return _Kind(f"mp{layer}", rate, samples, size)


@functools.cache
def _adts_kind(rate_index: int) -> _Kind | None:
    if rate_index >= len(_ADTS_RATES):
        return None

    def size(buffer: bytes, at: int) -> int:
        if buffer[at] != 0xFF or buffer[at + 1] & 0xF6 != 0xF0 or buffer[at + 2] >> 2 & 15 != rate_index:
            return 0
        length = (buffer[at + 3] & 3) << 11 | buffer[at + 4] << 3 | buffer[at + 5] >> 5
        return length if length >= 7 else 0

    return _Kind("aac", _ADTS_RATES[rate_index], 1024, size)


# ------------------------------------------------------------------ tags


def tags_end(file: BinaryIO, start: int) -> int:
    """Return the end of the tags at a position: ID3v1, ID3v2 and APE, as between two files that were joined.

    Parameters
    ----------
    file : binary file
    start : int
        Position of the first byte of a tag, if there is one.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.mpeg import tags_end
    >>> tags_end(io.BytesIO(b"TAG" + bytes(125) + b"ID3\\4\\0\\0\\0\\0\\0\\5title"), 0)
    143
    """
    while True:
        head = read_at(file, start, 32)
        if head[:3] == b"TAG":
            end = start + 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            end = start + 32 + (int.from_bytes(head[12:16], "little") if head[23] & 0x20 else 0)
        else:
            end = id3_end(file, start)
        if end == start:
            return start
        start = end


def tags_start(file: BinaryIO, start: int, end: int) -> int:
    """Return the start of the tags at the end of a file: ID3v1, APE and Lyrics3.

    Parameters
    ----------
    file : binary file
    start, end : int
        Positions of the first byte that may belong to a tag and of the byte after the last.

    Examples
    --------
    >>> import io
    >>> from skastw.audio.mpeg import tags_start
    >>> tags_start(io.BytesIO(b"audio" + b"TAG" + bytes(125)), 0, 133)
    5
    """
    while True:
        tail = read_at(file, max(end - 160, start), min(160, end - start))
        if tail[-128:-125] == b"TAG":
            end -= 128
        elif tail[-32:-24] == b"APETAGEX":
            has_header = tail[-9] & 0x80
            end -= max(int.from_bytes(tail[-20:-16], "little"), 32) + (32 if has_header else 0)
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            end -= int(tail[-15:-9]) + 15
        else:
            return max(end, start)


def _places(window: bytes, word: bytes) -> Iterator[int]:
    """Yield the positions of a word, ten times as fast as a regular expression."""
    at = window.find(word)
    while at >= 0:
        yield at
        at = window.find(word, at + 1)
