"""How the audio lies in a file, by its first bytes, headers and pages, before a decoder opens it.

Decoders believe a header, stop at the first of several recordings, or take a guess for a length. The survey of a file
decides which bytes a decoder is given, and says how much more audio the file announces than it holds.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from skastw.audio.mpeg import fills_file, find_frames, id3_end, split_streams, tags_end, tags_start
from skastw.audio.pieces import Piece

__all__ = ["TOLERANCE", "Part", "Survey", "describe_content", "survey"]

#: Seconds by which a file may be shorter than it announces. Headers are rounded, and codecs pad and trim.
TOLERANCE = 0.1
#: Encoders that write to a pipe cannot know a size; in WAV they write one near 2**31 or 2**32, in AIFF 0x7F00....
_UNKNOWN_SIZE, _UNKNOWN_AIFF_SIZE = 0x7FFF0000, 0x7F000000
#: No recording has more chunks.
_MAX_CHUNKS = 100_000
#: Format tags of WAV: MPEG audio (layer II, layer III), and the tag behind which the real one is.
_MPEG_TAGS, _EXTENSIBLE = (0x50, 0x55), 0xFFFE
#: Formats that only FFmpeg reads: how a file begins, and the demuxer.
_FFMPEG_ONLY = {
    b"0&\xb2u": "asf",
    b"#!AMR": "amr",
    b"wvpk": "wv",
    b"TTA1": "tta",
}
#: What follows the size of the first box of an MP4 or QuickTime file.
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
#: Codecs of Ogg by the first bytes of their first packet; libsndfile reads these two.
_OGG_CODECS = (b"\x01vorbis", b"OpusHead")


@dataclass
class Part:
    """Audio that one decoder decodes from its beginning to its end.

    Parameters
    ----------
    pieces : list of bytes or (int, int), optional
        The decoder reads these, as :class:`skastw.audio.pieces.Pieces`; by default the file as it is.
    demuxer : str, optional
        FFmpeg's demuxer that reads it.
    only_ffmpeg : bool
        Whether libsndfile cannot read it.
    n_samples : int
        Samples that are there at least, as far as is known.
    rate : int
        Of these samples (Hz).
    """

    pieces: list[Piece] | None = None
    demuxer: str | None = None
    only_ffmpeg: bool = False
    n_samples: int = 0
    rate: int = 1


@dataclass
class Survey:
    """The audio of a file.

    Parameters
    ----------
    parts : list of Part
        More than one if recordings were joined.
    announced : float
        Audio that the file announces, divided by the audio that it holds.
    is_cut : bool
        Whether the file ends inside a frame or a page, and does not say how much is missing.
    notes : list of str
        Doubts that a user should know of.
    is_known : bool
        Whether the first bytes say what format this is.
    """

    parts: list[Part] = field(default_factory=lambda: [Part()])
    announced: float = 1.0
    is_cut: bool = False
    notes: list[str] = field(default_factory=list)
    is_known: bool = True


def survey(file: BinaryIO, size: int) -> Survey:
    """Find out how the audio lies in a file.

    Parameters
    ----------
    file : binary file
    size : int
        Its bytes.

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
    start = id3_end(file, 0)
    if start >= size:  # the file ends inside a tag
        return Survey([], is_cut=True)
    head = _read(file, start, 64)
    result = _by_first_bytes(file, size, start, head)
    if result is None:
        if start == _simple_id3_end(file) and fills_file(file, start, size):
            return _one_part("mp3")
        first = tags_end(file, start)  # of APE, too
        frames = find_frames(file, first, size)
        n_strange = 0 if frames is None else len(_read(file, first, frames - first).lstrip(b"\0"))
        if frames is None and first:  # the size of a tag may be wrong
            frames = find_frames(file, 10, size, reach=2**20)
        if frames is None and head[:1] == b"\xff" and head[1:2] in (b"\xf0", b"\xf1", b"\xf8", b"\xf9"):
            return _one_part("aac", only_ffmpeg=True)  # a single frame
        if frames is None:
            return Survey(is_known=False)
        is_whole_file = frames == start == _simple_id3_end(file)
        return _mpeg(file, frames, size, is_whole_file=is_whole_file, n_before=n_strange)

    if start:
        for part in result.parts:
            part.pieces = part.pieces or [(start, size)]
    return result


def _by_first_bytes(file: BinaryIO, size: int, start: int, head: bytes) -> Survey | None:
    """Survey a file whose first bytes tell its format."""
    for mark, demuxer in _FFMPEG_ONLY.items():
        if head.startswith(mark):
            return _one_part(demuxer, only_ffmpeg=True)
    if head[4:8] == b"ftyp" or (head[4:8] in _BOXES and int.from_bytes(head[:4], "big") <= size):
        return _one_part("mp4", only_ffmpeg=True)
    if head[:4] == b"\x1aE\xdf\xa3":
        return Survey([Part(demuxer="matroska", only_ffmpeg=True)], is_cut=_matroska_is_cut(file, size, start))
    if head[:2] == b"\x0b\x77" and len(head) > 5:
        return _one_part("eac3" if head[5] >> 3 > 10 else "ac3", only_ffmpeg=True)

    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wav(file, size, start, "big" if head[:4] == b"RIFX" else "little")
    if head[:16] == _W64_RIFF:
        return _announcing("w64", size, *_w64_data(file, size, start))
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        return _aiff(file, size, start, head[8:12])
    if head[:4] == b"caff":
        return _announcing("caf", size, *_caf_data(file, size, start))
    if head[:4] == b".snd":
        first, length = struct.unpack(">II", head[4:12].ljust(8, b"\0"))
        return _announcing("au", size, start + first, None if length == 0xFFFFFFFF else length)
    if head[:4] == b"fLaC":
        has_length = int.from_bytes(head[18:26], "big") & (2**36 - 1)
        end = size if has_length else tags_start(file, start, size)  # libsndfile takes tags for damaged frames
        return Survey([Part(None if end == size else [(start, end)], "flac")])
    if head[:4] == b"OggS":
        return _ogg(file, size, start)
    if head[:7] == b"NIST_1A":
        return _announcing(None, size, *_nist_data(file, start))
    if head[:4] == b"2BIT" and len(head) > 30:  # AVR: 0 stands for mono, then bits, then the number of samples
        n_bytes = (2 if head[12:14] != b"\0\0" else 1) * (int.from_bytes(head[14:16], "big") + 7) // 8
        return _announcing(None, size, start + 128, n_bytes * int.from_bytes(head[26:30], "big"))
    if head[:19] == b"Creative Voice File":
        return _announcing(None, size, *_voc_data(file, size, start))
    return None


def _one_part(demuxer: str | None, *, only_ffmpeg: bool = False) -> Survey:
    return Survey([Part(demuxer=demuxer, only_ffmpeg=only_ffmpeg)])


def _announcing(demuxer: str | None, size: int, start: int, length: int | None) -> Survey:
    """Survey a file of one part whose header says how many bytes of audio lie where."""
    result = _one_part(demuxer)
    if length:
        there = min(size - start, length)
        result.announced, result.is_cut = length / max(there, 1), there <= 0
    return result


# ------------------------------------------------------------------ MPEG audio and AAC


def _simple_id3_end(file: BinaryIO) -> int:
    """Return where a single tag that libmpg123 skips by itself ends."""
    head = _read(file, 0, 10)
    if head[:3] != b"ID3" or head[5] & 0x10:
        return 0
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def _mpeg(file: BinaryIO, start: int, end: int, *, is_whole_file: bool = False, n_before: int = 0) -> Survey:
    """Survey rows of frames; nothing but a header in front, or a frame that is cut, tells that frames are missing.

    ``n_before`` is the number of bytes in front of the frames that are neither audio nor tags.
    """
    streams, n_strange, is_cut = split_streams(file, start, end)
    n_strange += n_before
    result = Survey([])
    n_seconds = n_missing = 0.0
    for stream in streams:
        seconds = stream.frame_samples / stream.rate
        n_seconds += stream.n_frames * seconds
        n_missing += max((stream.n_announced or 0) - stream.n_frames, 0) * seconds
        if not stream.runs:
            continue
        is_aac = stream.codec == "aac"
        part = Part(stream.pieces(file), "aac" if is_aac else "mp3", is_aac)
        if not stream.n_announced:
            part.n_samples, part.rate = stream.n_frames * stream.frame_samples, stream.rate
        if is_whole_file and len(streams) == 1 and not n_strange and stream.is_as_announced:
            part.pieces = None
        result.parts.append(part)

    has_length = bool(streams) and streams[-1].n_announced is not None
    result.announced = (n_seconds + n_missing) / n_seconds if n_seconds else 1.0
    result.is_cut = (is_cut and not has_length) or not n_seconds
    n_bytes = sum(stream.n_bytes for stream in streams)
    is_complete = all(stream.n_announced for stream in streams) and not n_missing
    if n_strange * n_seconds > TOLERANCE * n_bytes and not is_complete:
        result.notes.append(f"{n_strange} of its bytes are neither audio nor tags; a part of it may be lost.")
    return result


# ------------------------------------------------------------------ Ogg


@dataclass
class _Link:
    """One of the recordings that follow one another in an Ogg file."""

    start: int
    packet: bytes  #: the beginning of the first
    end: int = 0
    last_page: int = 0
    has_audio: bool = False
    has_end_mark: bool = False


def _ogg(file: BinaryIO, size: int, start: int) -> Survey:
    """Walk the pages: each must be whole. An end mark says that a recording ends, a beginning that another follows."""
    links: list[_Link] = []
    position, is_cut = start, False
    while position < size:
        page = _read(file, position, 27 + 255 + 8)
        if page[:4] != b"OggS" or len(page) < 27:
            is_over = bool(links) and links[-1].has_end_mark
            following = _find(file, b"OggS", position + 1, size) if is_over else None
            if following is None:
                is_cut = not is_over
                break
            position = following
            continue

        table = page[27 : 27 + page[26]]
        end = position + 27 + page[26] + sum(table)
        is_beginning = bool(page[5] & 2)
        if not links or (is_beginning and links[-1].has_audio):
            links.append(_Link(position, page[27 + page[26] :]))
        link = links[-1]
        link.has_audio |= not is_beginning
        link.has_end_mark = bool(page[5] & 4)
        link.last_page, link.end = position, min(end, size)
        if end > size:
            is_cut = True
            break
        position = end

    if not links:
        return _one_part("ogg")
    result = Survey([_ogg_part(file, link, is_cut) for link in links], is_cut=is_cut)
    if len(links) == 1 and links[0].has_end_mark and start == 0:
        result.parts[0].pieces = None
    if not is_cut and not links[-1].has_end_mark:
        result.notes.append("its Ogg stream has no end mark; if its end was lost, nothing else would tell.")
    return result


def _ogg_part(file: BinaryIO, link: _Link, is_cut: bool) -> Part:
    """Return one recording; libsndfile reads Opus with an end mark only, so it gets one."""
    only_ffmpeg = not link.packet.startswith(_OGG_CODECS)
    if link.has_end_mark or is_cut or only_ffmpeg:
        return Part([(link.start, link.end)], "ogg", only_ffmpeg)

    page = bytearray(_read(file, link.last_page, link.end - link.last_page))
    page[5] |= 4
    page[22:26] = bytes(4)
    page[22:26] = _ogg_checksum(bytes(page))
    return Part([(link.start, link.last_page), bytes(page)], "ogg")


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> bytes:
    """Return the CRC-32 of a page: that of zlib, with the bits in the other order and nothing inverted."""
    register = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return register.to_bytes(4, "little").translate(_REVERSED)[::-1]


def _find(file: BinaryIO, word: bytes, start: int, end: int) -> int | None:
    for position in range(start, end, 2**16):
        at = _read(file, position, min(2**16 + len(word), end - position)).find(word)
        if at >= 0:
            return position + at
    return None


# ------------------------------------------------------------------ Matroska and WebM

#: Elements of Matroska: a segment holds information and clusters of blocks. A day of audio has fewer elements.
_SEGMENT, _INFO, _CLUSTER, _DURATION = b"\x18S\x80g", b"\x15I\xa9f", b"\x1fC\xb6u", b"D\x89"
_MAX_ELEMENTS = 10**7


def _matroska_is_cut(file: BinaryIO, size: int, start: int) -> bool:
    """Walk the elements of a file that gives no duration, as browsers write them: the last must be whole."""
    for _ in range(_MAX_ELEMENTS):
        if start >= size:
            break
        head = _read(file, start, 12)
        id_length = 9 - head[0].bit_length()
        name, first = head[:id_length], head[id_length : id_length + 1]
        if name == _DURATION or id_length > 4 or first == b"\0":  # FFmpeg checks it, or no element begins here
            return False
        if not first:
            return True

        # the size follows as a number of one to eight bytes; ones only stand for an unknown size
        length = 9 - first[0].bit_length()
        most = (1 << 7 * length) - 1
        value = int.from_bytes(head[id_length : id_length + length], "big") & most
        start += id_length + length
        if name not in (_SEGMENT, _INFO) and not (name == _CLUSTER and value == most):
            start += value
    return start > size


# ------------------------------------------------------------------ chunks of WAV, AIFF and their relatives


def _chunks(file: BinaryIO, size: int, start: int, order: Literal["little", "big"]) -> Iterator[tuple[bytes, int, int]]:
    """Yield the names of chunks, where their contents begin, and how long they say these are."""
    for _ in range(_MAX_CHUNKS):
        if start + 8 > size:
            break
        head = _read(file, start, 8)
        length = int.from_bytes(head[4:], order)
        yield head[:4], start + 8, length
        start += 8 + length + length % 2


def _wav(file: BinaryIO, size: int, start: int, order: Literal["little", "big"]) -> Survey:
    tag, byte_rate, data_64 = 0, 0, None
    for name, first, length in _chunks(file, size, start + 12, order):
        if name == b"fmt ":
            form = _read(file, first, min(length, 40)).ljust(40, b"\0")
            tag, byte_rate = int.from_bytes(form[:2], order), int.from_bytes(form[8:12], order)
            tag = int.from_bytes(form[24:26], order) if tag == _EXTENSIBLE else tag
        elif name == b"ds64":
            data_64 = int.from_bytes(_read(file, first + 8, 8), "little")
        elif name == b"data":
            break
    else:
        return _one_part("wav")

    n_following = size - first
    if length == 0xFFFFFFFF and data_64:
        length = data_64
    elif length >= _UNKNOWN_SIZE:
        length = n_following
    elif length == 0 and n_following and not _are_chunks(file, size, first, order):
        length = n_following
        sizes = [min(n, 2**32 - 1).to_bytes(4, order) for n in (size - start - 8, n_following)]
        pieces: list[Piece] = [(start, start + 4), sizes[0], (start + 8, first - 4), sizes[1], (first, size)]
        return _recovered(pieces, "wav", n_following)

    result = _announcing("wav", size, first, length)
    if tag in _MPEG_TAGS and length and find_frames(file, first, size) is not None:
        frames = _mpeg(file, first, min(first + length, size))
        frames.announced = max(frames.announced, result.announced)
        frames.is_cut |= result.is_cut
        return frames

    end = first + length
    n_behind = size - end - length % 2
    are_chunks = any(_are_chunks(file, size, start, order) for start in (end + length % 2, end))  # some do not pad
    if n_behind > TOLERANCE * byte_rate > 0 and not are_chunks:
        result.notes.append(f"{n_behind} bytes follow the {length} bytes of audio that its header announces.")
    return result


def _are_chunks(file: BinaryIO, size: int, start: int, order: Literal["little", "big"]) -> bool:
    """Say whether chunks fill the rest of a file, as text about a recording without a sample does."""
    for name, first, length in _chunks(file, size, start, order):
        if not all(32 <= byte < 127 for byte in name) or first + length > size:
            return False
        start = first + length + length % 2
    return size - start < 8


def _recovered(pieces: list[Piece], demuxer: str, n_bytes: int) -> Survey:
    note = f"its header says 0 bytes of audio, as after a loss of power; the {n_bytes} bytes behind it are decoded."
    return Survey([Part(pieces, demuxer)], notes=[note])


def _aiff(file: BinaryIO, size: int, start: int, form: bytes) -> Survey:
    common = None
    for name, first, length in _chunks(file, size, start + 12, "big"):
        if name == b"COMM" and length >= 18:
            common = first
        elif name in (b"SSND", b"BODY"):
            break
    else:
        return _one_part("aiff")

    n_following = size - first
    if length >= _UNKNOWN_AIFF_SIZE:
        length = n_following
    elif length == 0 and n_following > 8 and form == b"AIFF" and common and not _are_chunks(file, size, first, "big"):
        channels, _, bits = struct.unpack(">HIH", _read(file, common, 8))
        n_frames = (n_following - 8) * 8 // max(channels * bits, 1)
        sizes = [min(n, 2**32 - 1).to_bytes(4, "big") for n in (size - start - 8, n_frames, n_following)]
        before: list[Piece] = [(start, start + 4), sizes[0], (start + 8, common + 2), sizes[1]]
        pieces = [*before, (common + 6, first - 4), sizes[2], (first, size)]
        return _recovered(pieces, "aiff", n_following - 8)
    return _announcing("aiff", size, first, length)


def _caf_data(file: BinaryIO, size: int, start: int) -> tuple[int, int | None]:
    position = start + 8
    while position + 12 <= size:
        head = _read(file, position, 12)
        length = int.from_bytes(head[4:], "big", signed=True)
        if head[:4] == b"data" or length < 0:
            return position + 12, length if length >= 0 else None
        position += 12 + length
    return size, None


def _w64_data(file: BinaryIO, size: int, start: int) -> tuple[int, int | None]:
    position = start + 40
    while position + 24 <= size:
        head = _read(file, position, 24)
        length = int.from_bytes(head[16:], "little")
        if head[:4] == b"data" or length < 24:
            return position + 24, length - 24 if 24 <= length < 2**62 else None
        position += (length + 7) // 8 * 8
    return size, None


def _nist_data(file: BinaryIO, start: int) -> tuple[int, int | None]:
    """Read a NIST SPHERE header, which is text; it does not say how long compressed audio is."""
    text = _read(file, start, 1024)
    numbers = dict(re.findall(rb"^(sample_count|channel_count|sample_n_bytes) -i (\d+)", text, re.MULTILINE))
    header = re.match(rb"NIST_1A\s+(\d+)", text)
    if header is None or len(numbers) < 3 or b"-compressed" in text or b"shorten" in text:
        return start, None
    length = int(numbers[b"sample_count"]) * int(numbers[b"channel_count"]) * int(numbers[b"sample_n_bytes"])
    return start + int(header[1]), length


def _voc_data(file: BinaryIO, size: int, start: int) -> tuple[int, int | None]:
    """Read the size of the first block of sound: SoX writes sizes from which the next block is not found."""
    position = start + int.from_bytes(_read(file, start + 20, 2), "little")
    while position + 4 <= size:
        head = _read(file, position, 4)
        length = int.from_bytes(head[1:], "little")
        if head[0] in (1, 9):
            return position + 4, length
        position += 4 + length
    return size, None


# ------------------------------------------------------------------ what is no audio

_LOOKS = (
    (b"version https://git-lfs", "a pointer of Git LFS: run 'git lfs pull'"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive: unpack it"),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"Rar!", "a RAR archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"\x89PNG", "an image (PNG)"),
    (b"\xff\xd8\xff", "an image (JPEG)"),
    (b"GIF8", "an image (GIF)"),
    (b"\x93NUMPY", "a NumPy array: load it and pass the array"),
    (b"MThd", "MIDI notes, which hold no sound"),
    (b"#EXTM3U", "a playlist: pass the files that it names"),
    (b"\0\x05\x16\x07", "notes of macOS about another file: leave files that begin with '._' out"),
    (b"\x7fELF", "a program"),
)


def describe_content(head: bytes) -> str | None:
    """Return the kind of a file without audio, as far as its first bytes tell, or None.

    Parameters
    ----------
    head : bytes
        Some hundred bytes.

    Examples
    --------
    >>> from skastw.audio.survey import describe_content
    >>> describe_content(b"<!DOCTYPE html><html>404</html>")
    'a web page'
    """
    for mark, words in _LOOKS:
        if head.startswith(mark):
            return words
    if not head.strip(b"\0"):
        return "nothing but zeros"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page"
    try:
        text = head.decode("utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not a letter that the last byte cuts
            return None
        text = head[: error.start].decode("utf-8")
    return "text" if all(letter.isprintable() or letter in "\t\r\n" for letter in text) else None


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    file.seek(start)
    return file.read(size)
