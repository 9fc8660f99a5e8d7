"""Find and count the frames of MPEG audio (MP3, layers I and II) and of AAC in ADTS.

Such a file is a sequence of frames without an index. Some encoders write a length header (Xing, Info or VBRI): a first
frame without audio that gives the number of frames. Streams and files of other programs have none. Tags may lie before
and after the frames, and also between them if files were joined.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import BinaryIO, NamedTuple

from skastw.audio.pieces import Piece, find_all, read_at
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
_FRAME_START = rb"\xff(?:[\xe2-\xe7\xf2-\xf7\xfa-\xff][\x10-\xef]|[\xf0\xf1\xf8\xf9])"
#: Number of consecutive frames that prove a match.
_CERTAIN = 3
#: Number of bytes of a frame that hold its header, and that hold the fields of a length header too.
_HEADER_SIZE, _FIELDS_SIZE = 6, 54
#: Largest number of other bytes between frames, and of interruptions in a file.
_MAX_GAP, _MAX_RUNS = 2**22, 10_000


class Kind(NamedTuple):
    """What all frames of a stream have in common.

    Attributes
    ----------
    codec : {"mp3", "mp2", "mp1", "aac"}
    rate : int
        Samples per second (Hz).
    n_samples : int
        Samples in a frame.
    """

    codec: str
    rate: int
    n_samples: int


class _Frame(NamedTuple):
    kind: Kind
    size: int  #: number of bytes


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
    kind : Kind
    head : bytes
        The frame that is the length header, or empty.
    n_frames : int
        Number of complete frames with audio.
    runs : list of (int, int)
        Ranges of consecutive frames: positions of the first byte and of the byte after the last.
    """

    kind: Kind
    head: bytes = b""
    n_frames: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def n_announced(self) -> int:
        """Number of frames according to the length header, or 0 if it is not given."""
        return _length_header(self.head).n_frames

    @property
    def frame_seconds(self) -> float:
        """Duration of a frame (s)."""
        return self.kind.n_samples / self.kind.rate

    @property
    def n_bytes(self) -> int:
        """Number of bytes of the frames with audio."""
        return sum(end - start for start, end in self.runs)

    def add_frame(self, start: int, end: int) -> None:
        """Add a frame with audio, given by the positions of its first byte and of the byte after its last."""
        if self.runs and self.runs[-1][1] == start:
            start, _ = self.runs.pop()
        self.runs.append((start, end))
        self.n_frames += 1

    def pieces(self, file: BinaryIO) -> list[Piece]:
        """Return the ranges of its frames, for MP3 after a length header with the right number of frames."""
        return [self._right_head(file), *self.runs] if self.kind.codec == "mp3" else [*self.runs]

    def _right_head(self, file: BinaryIO) -> bytes:
        """Return a length header with the right numbers, from which libsndfile reads the length."""
        header = _length_header(self.head)
        if self.n_frames > header.n_frames or not header.flags & 1:
            return _new_head(read_at(file, self.runs[0][0], 4), self.n_frames)

        head = bytearray(self.head)
        if header.flags & 2:  # libmpg123 prints a message if the number of bytes is wrong
            struct.pack_into(">I", head, header.at + 12, len(head) + self.n_bytes)
        return bytes(head)


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
    for first in find_all(file, _FRAME_START, start, min(start + reach, end)):
        if _are_frames(file, first, end, may_be_alone=first == start):
            return first
    return None


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
    head = read_at(file, start, _FIELDS_SIZE)
    frame = _parsed(head)
    header = _length_header(head) if frame is not None and frame.kind.codec == "mp3" else _LengthHeader()
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
    >>> stream.n_frames, stream.kind.rate, n_unknown, is_cut
    (4, 44100, 0, False)
    """
    streams: list[Stream] = []
    position, end = start, tags_start(file, start, end)
    n_unknown = n_runs = 0
    is_cut = False
    while position < end and (first := find_frames(file, position, end, reach=_MAX_GAP)) is not None:
        n_runs += 1
        if n_runs > _MAX_RUNS:
            raise ClipValueError(f"cannot be decoded (its frames are interrupted {_MAX_RUNS} times); export it again.")
        n_unknown += first - position
        position = _add_run(streams, file, first, end)
        is_cut = position > end or (0 < end - position < _HEADER_SIZE and read_at(file, position, 1) == b"\xff")
        position = end if is_cut else tags_end(file, position)
    return streams, n_unknown + max(end - position, 0), is_cut


def _add_run(streams: list[Stream], file: BinaryIO, start: int, end: int) -> int:
    """Add consecutive frames to the streams; return the end of the last frame, which is not added if it is cut."""
    position = start
    for first, (kind, size), fields in _frames(file, start, end):
        position = first + size
        if position > end:
            break
        is_header = kind.codec == "mp3" and _length_header(fields[:size]).at > 0
        if is_header or not streams or streams[-1].kind != kind:
            streams.append(Stream(kind, read_at(file, first, size) if is_header else b""))
        if not is_header:
            streams[-1].add_frame(first, position)
    return position


def _frames(file: BinaryIO, position: int, end: int) -> Iterator[tuple[int, _Frame, bytes]]:
    """Yield consecutive frames of one kind: their positions, headers and first bytes. The last one may be cut."""
    kind = None
    while position + _HEADER_SIZE <= end:
        fields = read_at(file, position, _FIELDS_SIZE)
        frame = _parsed(fields)
        if frame is None or frame.kind != (kind or frame.kind):
            break
        kind = frame.kind
        yield position, frame, fields
        position += frame.size


def _are_frames(file: BinaryIO, position: int, end: int, *, may_be_alone: bool) -> bool:
    """Return whether enough frames of one kind follow one another, or all up to the end of the file.

    After other bytes, a single frame at the end proves nothing: videos contain frames of MP3 too.
    """
    n_frames = 0
    for first, frame, _ in islice(_frames(file, position, end), _CERTAIN):
        position = first + frame.size
        n_frames += 1
    is_alone = n_frames == 1 and may_be_alone and position <= end
    return n_frames == _CERTAIN or (position + _HEADER_SIZE > end and (n_frames > 1 or is_alone))


def _length_header(frame: bytes) -> _LengthHeader:
    """Return the fields of a length header by the first bytes of a frame of layer III."""
    if frame[36:40] == b"VBRI" and len(frame) >= _FIELDS_SIZE:
        return _LengthHeader(36, n_frames=int.from_bytes(frame[50:54], "big"))

    # Xing's word follows the side information, which is silent; a checksum of 2 bytes may lie before
    at = 4 + _side_size(frame) if frame else 0
    if frame[at : at + 4] not in (b"Xing", b"Info") or any(frame[6:at]) or len(frame) < at + 16:
        return _LengthHeader()
    flags, n_frames, n_bytes = struct.unpack_from(">7xB2I", frame, at)
    return _LengthHeader(at, flags, n_frames if flags & 1 else 0, n_bytes if flags & 3 == 3 else 0)


def _side_size(header: bytes) -> int:
    """Return the bytes of side information in a frame of layer III."""
    is_version_1, is_mono = header[1] & 8, header[3] >> 6 == 3
    return (17 if is_mono else 32) if is_version_1 else (9 if is_mono else 17)


def _new_head(header: bytes, n_frames: int) -> bytes:
    """Return a length header for frames with this header.

    It has the largest bit rate, since old releases of mpg123 ignore a length header in a frame of less than 192 bytes.
    """
    first = bytes([header[0], header[1] | 1, 0xE0 | header[2] & 0x0D, header[3]])  # without a checksum
    frame = _mpeg_frame(first[:3])
    assert frame is not None
    return (first + bytes(_side_size(header)) + b"Xing" + struct.pack(">II", 1, n_frames)).ljust(frame.size, b"\0")


def _parsed(head: bytes) -> _Frame | None:
    """Return the kind and the size of the frame that begins with these bytes, or None."""
    if len(head) < _HEADER_SIZE or head[0] != 0xFF:
        return None
    return _adts_frame(head) if head[1] & 0xF6 == 0xF0 else _mpeg_frame(head[:3])


def _adts_frame(head: bytes) -> _Frame | None:
    rate_index, size = head[2] >> 2 & 15, int.from_bytes(head[3:6], "big") >> 5 & 0x1FFF
    if rate_index >= len(_ADTS_RATES) or size < 7:
        return None
    return _Frame(Kind("aac", _ADTS_RATES[rate_index], 1024), size)


@cache
def _mpeg_frame(head: bytes) -> _Frame | None:
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bit_rate, rate_index, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if not re.match(_FRAME_START, head, re.DOTALL) or version not in _RATE_DIVISORS or layer == 4 or rate_index == 3:
        return None

    rate = _RATES[rate_index] // _RATE_DIVISORS[version]
    n_samples = {1: 384, 2: 1152, 3: 1152 if version == 3 else 576}[layer]
    slot = 4 if layer == 1 else 1  # a frame of layer I consists of slots of four bytes
    kbits = _KBITS[version == 3, layer][bit_rate - 1]
    return _Frame(Kind(f"mp{layer}", rate, n_samples), (n_samples // 8 // slot * 1000 * kbits // rate + padding) * slot)


# ------------------------------------------------------------------ tags


def id3_size(head: bytes) -> int:
    """Return the size of the ID3v2 tag that begins with these bytes, or 0 if it is none.

    Parameters
    ----------
    head : bytes
        Ten bytes or more.

    Examples
    --------
    >>> from skastw.audio.mpeg import id3_size
    >>> id3_size(b"ID3\\4\\0\\0\\0\\0\\0\\5title")
    15
    """
    if len(head) < 10 or head[:3] != b"ID3" or max(head[6:10]) > 127:
        return 0
    size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
    return size + (20 if head[5] & 0x10 else 10)  # a footer repeats the header


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
    while size := _tag_size(read_at(file, start, 32)):
        start += size
    return start


def _tag_size(head: bytes) -> int:
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        return 32 + (int.from_bytes(head[12:16], "little") if head[23] & 0x20 else 0)
    return id3_size(head)


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
