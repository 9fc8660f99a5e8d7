"""Find the audio in a file by its first bytes, headers and pages, before a decoder opens it.

Decoders trust a wrong header, stop at the end of the first of several recordings, or guess a length. The survey of a
file selects the bytes that a decoder gets, and measures how much of the announced audio is missing.
"""

import codecs
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Literal, NamedTuple, TypeAlias

from skastw.audio.mpeg import Stream, fills_file, find_frames, id3_size, split_streams, tags_end, tags_start
from skastw.audio.pieces import Piece, find_all, read_at

#: Seconds by which a file may be shorter than announced, since headers are rounded and codecs pad and trim.
TOLERANCE = 0.1
#: Sizes from these on mean that the size is unknown, as programs that write to a pipe store them: in WAV, AIFF and
#: formats of 64 bits.
_UNKNOWN_SIZE, _UNKNOWN_AIFF_SIZE, _UNKNOWN_LENGTH = 0x7FFF0000, 0x7F000000, 2**62
#: Largest number of chunks that are read.
_MAX_CHUNKS = 100_000
#: Format tags of WAV: MPEG audio (layers II and III), and the tag for an extended header with the real tag.
_MPEG_TAGS, _EXTENSIBLE = (0x50, 0x55), 0xFFFE
#: Formats that only FFmpeg reads: how a file begins, and the name of the demuxer.
_FFMPEG_ONLY = (
    (rb"0&\xb2u", "asf"),
    (rb"#!AMR", "amr"),
    (rb"wvpk", "wv"),
    (rb"TTA1", "tta"),
    (rb"....ftyp", "mp4"),
    (rb"\x0b\x77...[\x58-\xff]", "eac3"),
    (rb"\x0b\x77....", "ac3"),
)
#: Types of the first box of an MP4 or QuickTime file, besides "ftyp".
_BOXES = (b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
#: First bytes of the first packet of the two Ogg codecs that libsndfile reads.
_OGG_CODECS = (b"\x01vorbis", b"OpusHead")

_Order: TypeAlias = Literal["little", "big"]


class _Layout(NamedTuple):
    """How a format stores its chunks."""

    head_size: int
    length: slice  #: bytes of the head that hold the length
    order: _Order
    multiple: int = 1  #: a chunk is padded to a multiple of so many bytes
    counts_head: bool = False  #: whether the length includes the head


_RIFF: dict[_Order, _Layout] = {
    "little": _Layout(8, slice(4, 8), "little", multiple=2),
    "big": _Layout(8, slice(4, 8), "big", multiple=2),
}
_CAF = _Layout(12, slice(4, 12), "big")
_W64 = _Layout(24, slice(16, 24), "little", multiple=8, counts_head=True)
_VOC = _Layout(4, slice(1, 4), "little")
#: Formats of chunks: how a file begins, name of the demuxer, position of the first chunk, layout of the chunks, and how
#: the head of the chunk with the audio begins. In VOC, this is only the first of the blocks of sound: after the sizes
#: that SoX writes, the next block is not found.
_CHUNKED: tuple[tuple[bytes, str | None, int, _Layout, tuple[bytes, ...]], ...] = (
    (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", "w64", 40, _W64, (b"data",)),
    (b"caff", "caf", 8, _CAF, (b"data",)),
    (b"Creative Voice File", None, 26, _VOC, (b"\x01", b"\x09")),
)


@dataclass
class Part:
    """One recording in a file, which is decoded from its beginning to its end.

    Parameters
    ----------
    pieces : list of bytes or (int, int), optional
        Content that the decoder gets, as for :class:`skastw.audio.pieces.Pieces`; by default the whole file.
    demuxer : str, optional
        Name of FFmpeg's demuxer for the format.
    only_ffmpeg : bool
        Whether FFmpeg can read the recording but libsndfile cannot.
    n_samples : int
        Number of samples that the decoder must find at least.
    rate : int
        Sample rate of ``n_samples`` (Hz).
    """

    pieces: list[Piece] | None = None
    demuxer: str | None = None
    only_ffmpeg: bool = False
    n_samples: int = 0
    rate: int = 1


@dataclass
class Survey:
    """Result of a survey: the recordings in a file, and whether they are complete.

    Parameters
    ----------
    parts : list of Part
        Recordings in the file; more than one if files were joined.
    announced : float
        Duration that the headers announce, divided by the duration of the audio in the file.
    is_cut : bool
        Whether the file ends inside a frame or page, so that an unknown amount of audio is missing.
    notes : list of str
        Warnings about the file.
    is_known : bool
        Whether the format is known from the first bytes.
    """

    parts: list[Part] = field(default_factory=lambda: [Part()])
    announced: float = 1.0
    is_cut: bool = False
    notes: list[str] = field(default_factory=list)
    is_known: bool = True


def survey(file: BinaryIO, size: int) -> Survey:
    """Find the recordings in a file, and check whether they are complete.

    Parameters
    ----------
    file : binary file
    size : int
        Size of the file in bytes.

    Returns
    -------
    Survey

    Examples
    --------
    >>> from skastw.audio.survey import survey
    >>> from skastw.datasets import load_spoken_digits
    >>> path = load_spoken_digits().data[0]
    >>> with open(path, "rb") as file:
    ...     survey(file, 10**4).parts[0].demuxer
    'ogg'
    """
    start = 0
    while tag_size := id3_size(read_at(file, start, 10)):
        start += tag_size
    if start >= size:  # the file ends inside a tag
        return Survey([], is_cut=True)

    head = read_at(file, start, 64)
    result = _by_first_bytes(file, size, start, head)
    if result is None:
        return _by_frames(file, size, start)

    if start:
        for part in result.parts:
            part.pieces = part.pieces or [(start, size)]
    return result


def _by_first_bytes(file: BinaryIO, size: int, start: int, head: bytes) -> Survey | None:
    """Survey a file if its first bytes identify the format."""
    for pattern, only_demuxer in _FFMPEG_ONLY:
        if re.match(pattern, head, re.DOTALL):
            return _one_part(only_demuxer, only_ffmpeg=True)
    if head[4:8] in _BOXES and int.from_bytes(head[:4], "big") <= size:
        return _one_part("mp4", only_ffmpeg=True)
    if head[:4] == b"\x1aE\xdf\xa3":
        return Survey([Part(demuxer="matroska", only_ffmpeg=True)], is_cut=_matroska_is_cut(file, size, start))

    # formats whose headers or pages show whether audio is missing
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wav(file, size, start, "big" if head[:4] == b"RIFX" else "little")
    for mark, demuxer, first, layout, names in _CHUNKED:
        if head.startswith(mark):
            return _announcing(demuxer, size, *_audio_chunk(file, size, start + first, layout, names)[:2])
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return _aiff(file, size, start, head[8:12])
    if head[:4] == b".snd":
        first, length = struct.unpack(">II", head[4:12].ljust(8, b"\0"))
        return _announcing("au", size, start + first, None if length == 0xFFFFFFFF else length)
    if head[:4] == b"fLaC":
        has_length = int.from_bytes(head[18:26], "big") & (2**36 - 1)
        end = size if has_length else tags_start(file, start, size)  # libsndfile would read tags as damaged frames
        return Survey([Part(None if end == size else [(start, end)], "flac")])
    if head[:4] == b"OggS":
        return _ogg(file, size, start)
    if head[:7] == b"NIST_1A":
        return _announcing(None, size, *_nist_data(file, start))
    if head[:4] == b"2BIT" and len(head) > 30:  # AVR: 0 stands for mono, then bits, then the number of samples
        n_bytes = (2 if head[12:14] != b"\0\0" else 1) * (int.from_bytes(head[14:16], "big") + 7) // 8
        return _announcing(None, size, start + 128, n_bytes * int.from_bytes(head[26:30], "big"))
    return None


def _one_part(demuxer: str | None, *, only_ffmpeg: bool = False) -> Survey:
    return Survey([Part(demuxer=demuxer, only_ffmpeg=only_ffmpeg)])


def _announcing(demuxer: str | None, size: int, start: int, length: int | None) -> Survey:
    """Survey a file whose header announces ``length`` bytes of audio from position ``start`` on."""
    result = _one_part(demuxer)
    if length:
        n_bytes = min(size - start, length)
        result.announced, result.is_cut = length / max(n_bytes, 1), n_bytes <= 0
    return result


# ------------------------------------------------------------------ MPEG audio and AAC


def _by_frames(file: BinaryIO, size: int, start: int) -> Survey:
    """Survey a file that may consist of MPEG frames."""
    head = read_at(file, 0, 10)
    is_simple = start == 0 or (start == id3_size(head) and not head[5] & 0x10)  # libmpg123 can skip the tag
    if is_simple and fills_file(file, start, size):
        return _one_part("mp3")

    first = tags_end(file, start)  # APE tags, too
    frames = find_frames(file, first, size)
    if frames is not None:
        frames -= len(read_at(file, first, frames - first).lstrip(b"\0"))  # zeros are padding, and no lost audio
    elif first:  # the size of a tag may be wrong
        frames = find_frames(file, 10, size, reach=2**20)
    if frames is not None:
        return _mpeg(file, frames, size)

    if re.match(rb"\xff[\xf0\xf1\xf8\xf9]", read_at(file, start, 2)):
        return _one_part("aac", only_ffmpeg=True)  # a single frame
    return Survey(is_known=False)


def _mpeg(file: BinaryIO, start: int, end: int) -> Survey:
    """Survey a sequence of frames: missing ones show in a length header, or in an incomplete last frame."""
    streams, n_unknown, is_cut = split_streams(file, start, end)
    n_seconds = sum(stream.n_frames * stream.frame_seconds for stream in streams)
    n_missing = sum(max(stream.n_announced - stream.n_frames, 0) * stream.frame_seconds for stream in streams)
    result = Survey([_mpeg_part(file, stream) for stream in streams if stream.runs], is_cut=not n_seconds)
    if n_seconds:
        result.announced = (n_seconds + n_missing) / n_seconds
        result.is_cut = is_cut and not streams[-1].n_announced

    n_bytes = sum(stream.n_bytes for stream in streams)
    is_complete = all(stream.n_announced for stream in streams) and not n_missing
    if n_unknown * n_seconds > TOLERANCE * n_bytes and not is_complete:
        result.notes.append(f"{n_unknown} of its bytes are neither audio nor tags; a part of the audio may be lost.")
    return result


def _mpeg_part(file: BinaryIO, stream: Stream) -> Part:
    is_aac = stream.kind.codec == "aac"
    n_samples = 0 if stream.n_announced else stream.n_frames * stream.kind.n_samples
    return Part(stream.pieces(file), "aac" if is_aac else "mp3", is_aac, n_samples, stream.kind.rate)


# ------------------------------------------------------------------ Ogg


@dataclass
class _Link:
    """One of the consecutive recordings in an Ogg file."""

    start: int
    packet: bytes  #: the first bytes of its first packet
    end: int = 0
    last_page: int = 0
    has_audio: bool = False
    has_end_mark: bool = False


def _ogg(file: BinaryIO, size: int, start: int) -> Survey:
    """Survey an Ogg file page by page. Each recording begins with a first page and should have an end mark."""
    links: list[_Link] = []
    position, is_cut = start, False
    while position < size and not is_cut:
        page = read_at(file, position, 27 + 255 + 8)
        if page[:4] != b"OggS" or len(page) < 27:  # after an end mark, tags may follow, and then another recording
            is_cut = not links or not links[-1].has_end_mark
            position = next(find_all(file, b"OggS", position + 1, size), size)
            continue

        is_beginning = bool(page[5] & 2)
        packet = 27 + page[26]
        if not links or (is_beginning and links[-1].has_audio):
            links.append(_Link(position, page[packet:]))

        end = position + packet + sum(page[27:packet])
        is_cut = end > size
        link = links[-1]
        link.has_audio |= not is_beginning
        link.has_end_mark = bool(page[5] & 4)
        link.last_page, link.end = position, min(end, size)
        position = end

    if not links:
        return _one_part("ogg")
    result = Survey([_ogg_part(file, link, is_cut) for link in links], is_cut=is_cut)
    if len(links) == 1 and links[0].has_end_mark and start == 0:
        result.parts[0].pieces = None
    if not is_cut and not links[-1].has_end_mark:
        result.notes.append("its Ogg stream has no end mark; its end may be lost.")
    return result


def _ogg_part(file: BinaryIO, link: _Link, is_cut: bool) -> Part:
    """Return one recording, with an end mark on its last page: libsndfile reads no Opus without one."""
    only_ffmpeg = not link.packet.startswith(_OGG_CODECS)
    if link.has_end_mark or is_cut or only_ffmpeg:
        return Part([(link.start, link.end)], "ogg", only_ffmpeg)

    page = bytearray(read_at(file, link.last_page, link.end - link.last_page))
    page[5] |= 4
    page[22:26] = bytes(4)
    page[22:26] = _ogg_checksum(bytes(page))
    return Part([(link.start, link.last_page), bytes(page)], "ogg")


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> bytes:
    """Return the CRC-32 of a page, which is zlib's with reversed bits and without inversion."""
    register = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return register.to_bytes(4, "little").translate(_REVERSED)[::-1]


# ------------------------------------------------------------------ Matroska and WebM

#: Elements of Matroska (a segment holds information and clusters of blocks), and the most that are read.
_SEGMENT, _INFO, _CLUSTER, _DURATION = b"\x18S\x80g", b"\x15I\xa9f", b"\x1fC\xb6u", b"D\x89"
_MAX_ELEMENTS = 10**7


def _matroska_is_cut(file: BinaryIO, size: int, start: int) -> bool:
    """Return whether the last element is incomplete in a file without a duration, as browsers record it."""
    for _ in range(_MAX_ELEMENTS):
        if start >= size:
            break

        head = read_at(file, start, 12)
        id_length = 9 - head[0].bit_length()
        name, first = head[:id_length], head[id_length : id_length + 1]
        if name == _DURATION or id_length > 4 or first == b"\0":  # FFmpeg checks durations; other bytes: no element
            return False
        if not first:
            return True

        # the size is a number of one to eight bytes; if all its bits are 1, it is unknown
        length = 9 - first[0].bit_length()
        most = (1 << 7 * length) - 1
        value = int.from_bytes(head[id_length : id_length + length], "big") & most
        start += id_length + length
        if name not in (_SEGMENT, _INFO) and not (name == _CLUSTER and value == most):
            start += value
    return start > size


# ------------------------------------------------------------------ formats of chunks: WAV, AIFF and others


def _chunks(file: BinaryIO, size: int, start: int, layout: _Layout) -> Iterator[tuple[bytes, int, int]]:
    """Yield the chunks of a file from a position on: head, and position and announced length of the content."""
    for _ in range(_MAX_CHUNKS):
        first = start + layout.head_size
        if first > size:
            break
        head = read_at(file, start, layout.head_size)
        length = int.from_bytes(head[layout.length], layout.order) - layout.head_size * layout.counts_head
        if length < 0:
            break
        yield head, first, length
        start = first + length + -length % layout.multiple


def _audio_chunk(
    file: BinaryIO, size: int, start: int, layout: _Layout, names: tuple[bytes, ...]
) -> tuple[int, int | None, dict[bytes, int]]:
    """Return the position and the length of the audio in the first chunk with one of ``names``, None if unknown.

    The third value holds the positions of the chunks before it, by the first four bytes of their heads.
    """
    before: dict[bytes, int] = {}
    for head, first, length in _chunks(file, size, start, layout):
        if head.startswith(names):
            return first, length if length < _UNKNOWN_LENGTH else None, before
        before[head[:4]] = first
    return 0, None, before


def _wav(file: BinaryIO, size: int, start: int, order: _Order) -> Survey:
    first, length, before = _audio_chunk(file, size, start + 12, _RIFF[order], (b"data",))
    if length is None:
        return _one_part("wav")

    n_following = size - first
    if length == 0xFFFFFFFF and b"ds64" in before:
        length = int.from_bytes(read_at(file, before[b"ds64"] + 8, 8), "little") or n_following
    elif length >= _UNKNOWN_SIZE:
        length = n_following
    elif length == 0 and n_following and not _are_chunks(file, size, first, order):
        numbers = {start + 4: size - start - 8, first - 4: n_following}
        return _recovered("wav", start, size, order, numbers, n_following)

    # the tag, or in an extended header the real tag, and the bytes per second
    form = read_at(file, before.get(b"fmt ", size), 40).ljust(40, b"\0")
    tag, byte_rate, extended_tag = (int.from_bytes(form[at], order) for at in (slice(2), slice(8, 12), slice(24, 26)))
    result = _announcing("wav", size, first, length)
    is_mpeg = (extended_tag if tag == _EXTENSIBLE else tag) in _MPEG_TAGS
    if is_mpeg and length and find_frames(file, first, size) is not None:
        frames = _mpeg(file, first, min(first + length, size))
        frames.announced = max(frames.announced, result.announced)
        frames.is_cut |= result.is_cut
        return frames

    end = first + length
    n_behind = size - end - length % 2
    are_chunks = any(_are_chunks(file, size, start, order) for start in (end + length % 2, end))  # or not padded
    if n_behind > TOLERANCE * byte_rate > 0 and not are_chunks:
        result.notes.append(f"{n_behind} bytes follow the {length} bytes of audio that its header announces.")
    return result


def _are_chunks(file: BinaryIO, size: int, start: int, order: _Order) -> bool:
    """Return whether the rest of a file consists of chunks, such as texts about a recording."""
    for head, first, length in _chunks(file, size, start, _RIFF[order]):
        if not all(32 <= byte < 127 for byte in head[:4]) or first + length > size:
            return False
        start = first + length + length % 2
    return size - start < 8


def _recovered(demuxer: str, start: int, size: int, order: _Order, numbers: dict[int, int], n_bytes: int) -> Survey:
    """Survey a file in which other ``numbers`` of 32 bits belong at some positions."""
    note = f"its header says 0 bytes of audio, as after a power failure; the {n_bytes} bytes after it are decoded."
    pieces: list[Piece] = []
    for position, number in sorted(numbers.items()):
        pieces += [(start, position), min(number, 2**32 - 1).to_bytes(4, order)]
        start = position + 4
    return Survey([Part([*pieces, (start, size)], demuxer)], notes=[note])


def _aiff(file: BinaryIO, size: int, start: int, form: bytes) -> Survey:
    first, length, before = _audio_chunk(file, size, start + 12, _RIFF["big"], (b"SSND", b"BODY"))
    if length is None:
        return _one_part("aiff")

    n_following = size - first
    common = before.get(b"COMM")
    if length >= _UNKNOWN_AIFF_SIZE:
        length = n_following
    elif length == 0 and n_following > 8 and form == b"AIFF" and common and not _are_chunks(file, size, first, "big"):
        channels, _, bits = struct.unpack(">HIH", read_at(file, common, 8))
        n_frames = (n_following - 8) * 8 // max(channels * bits, 1)
        numbers = {start + 4: size - start - 8, common + 2: n_frames, first - 4: n_following}
        return _recovered("aiff", start, size, "big", numbers, n_following - 8)
    return _announcing("aiff", size, first, length)


def _nist_data(file: BinaryIO, start: int) -> tuple[int, int | None]:
    """Return the position and the length of the audio after a NIST SPHERE header; None if it is compressed."""
    text = read_at(file, start, 1024)
    numbers = dict(re.findall(rb"^(sample_count|channel_count|sample_n_bytes) -i (\d+)", text, re.MULTILINE))
    header = re.match(rb"NIST_1A\s+(\d+)", text)
    if header is None or len(numbers) < 3 or b"-compressed" in text or b"shorten" in text:
        return start, None
    length = int(numbers[b"sample_count"]) * int(numbers[b"channel_count"]) * int(numbers[b"sample_n_bytes"])
    return start + int(header[1]), length


# ------------------------------------------------------------------ files without audio

#: How files without audio begin.
_LOOKS = (
    (rb"\0*\Z", "nothing but zeros"),
    (rb"version https://git-lfs", "a pointer of Git LFS: run 'git lfs pull'"),
    (rb"(?i)(\xef\xbb\xbf)?[ \t\r\n]*<(!doctype html|html|head|body)", "a web page"),
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive: unpack it"),
    (rb"\x1f\x8b", "a gzip archive: unpack it"),
    (rb"Rar!", "a RAR archive: unpack it"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (rb"\x89PNG", "an image (PNG)"),
    (rb"\xff\xd8\xff", "an image (JPEG)"),
    (rb"GIF8", "an image (GIF)"),
    (rb"\x93NUMPY", "a NumPy array: load it and pass the array"),
    (rb"MThd", "MIDI notes without sound"),
    (rb"#EXTM3U", "a playlist: pass the files that it names"),
    (rb"\0\x05\x16\x07", "a metadata file of macOS: leave out files whose names begin with '._'"),
    (rb"\x7fELF", "a program"),
)


def describe_content(head: bytes) -> str | None:
    """Return the kind of a file without audio by its first bytes, or None if it is not known.

    Parameters
    ----------
    head : bytes
        The first bytes of the file, some hundred of them.

    Examples
    --------
    >>> from skastw.audio.survey import describe_content
    >>> describe_content(b"<!DOCTYPE html><html>404</html>")
    'a web page'
    """
    for pattern, words in _LOOKS:
        if re.match(pattern, head):
            return words
    text_decoder = codecs.getincrementaldecoder("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")()
    try:
        text = text_decoder.decode(head)  # an incomplete character at the end is no error
    except UnicodeDecodeError:
        return None
    return "text" if all(letter.isprintable() or letter in "\t\r\n" for letter in text) else None
