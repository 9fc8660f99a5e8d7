"""Decode files of many programs, whole and cut, and compare them with what FFmpeg's own program decodes.

    python tests/decode_corpus.py [-v] [words that a name must hold]

The files are made by ffmpeg, sox, lame, flac, opusenc and oggenc: containers, codecs, rates, channels, with and without
a length in the header, with tags, joined, and cut at every tenth. FFmpeg's program is the reference: a file that it
decodes without a complaint must decode to the same sound here, and a file that was cut must be refused, or decode to
all that is left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from skastw.audio import decode
from skastw.errors import ClipError, MissingDependencyError

PROGRAMS = ("ffmpeg", "sox", "lame", "flac", "opusenc", "oggenc")
SECONDS, TOLERANCE = 2.4, 0.1
FFMPEG = ("ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-bitexact")

#: Formats in which nothing says where they end: if one is cut between two frames or pages, the rest is a whole file.
ENDLESS = ("headerless", "adts", "mp2", "pipe", "no end mark", "ac3", "amr", "mp3 in wav", "paf", "pvf")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one file is made: a command that writes ``{out}`` from ``{in}``, then an edit of its bytes."""

    name: str
    command: tuple[str, ...]
    rate: int = 44100
    channels: int = 1
    suffix: str = ".bin"
    edit: str = ""
    cut: bool = False  #: also at every tenth of its bytes


def sound(rate: int, channels: int) -> np.ndarray:
    """Return a quiet half and a loud half, which a variable bit rate tells apart; a sweep aligns in one way only."""
    time = np.arange(round(SECONDS * rate)) / rate
    noise = np.random.default_rng(rate + channels).standard_normal((len(time), channels))
    envelope = np.where(time < SECONDS / 2, 0.02, 1.0)[:, None]
    sweep = np.sin(2 * np.pi * (200 * time + 200 * time**2))[:, None]
    return (envelope * (0.3 * sweep + 0.03 * noise)).astype(np.float32)


# ------------------------------------------------------------------ how the files are made


def recipes() -> list[Recipe]:
    """Return the whole corpus."""
    return [*_pcm(), *_mpeg(), *_ogg_and_flac(), *_ffmpeg_formats()]


def _ffmpeg(*options: str, to: str = "{out}") -> tuple[str, ...]:
    return (*FFMPEG, "-i", "{in}", *options, to)


def _pcm() -> Iterator[Recipe]:
    for codec in ("u8", "s16le", "s24le", "s32le", "f32le", "f64le", "alaw", "mulaw"):
        for channels in (1, 2):
            command = _ffmpeg("-c:a", f"pcm_{codec}", "-f", "wav")
            yield Recipe(f"wav {codec} {channels} ch", command, channels=channels, suffix=".wav", cut=codec == "s16le")
    for rate in (8000, 11025, 16000, 22050, 32000, 48000, 96000):
        yield Recipe(f"wav s16le {rate} Hz", _ffmpeg("-f", "wav"), rate, suffix=".wav")

    for codec in ("adpcm_ima_wav", "adpcm_ms", "libgsm_ms", "g722", "g726", "adpcm_yamaha"):
        rate = 8000 if codec in ("libgsm_ms", "g726") else 16000
        yield Recipe(f"wav {codec}", _ffmpeg("-c:a", codec, "-f", "wav"), rate, suffix=".wav", cut=codec != "g726")
    for codec in ("aac", "ac3", "eac3", "wmav2", "mp2", "flac", "libspeex"):
        rate = 16000 if codec == "libspeex" else 44100
        yield Recipe(f"wav {codec}", _ffmpeg("-c:a", codec, "-f", "wav"), rate, suffix=".wav")
    dts = _ffmpeg("-c:a", "dca", "-strict", "-2", "-f", "wav")
    yield Recipe("wav dts", dts, channels=2, suffix=".wav")

    yield Recipe("wav pipe", _ffmpeg("-f", "wav", to="pipe:1"), suffix=".wav", cut=True)
    yield Recipe("wav sox pipe", ("sox", "{in}", "-t", "wav", "-"), suffix=".wav")
    yield Recipe("wav extensible 6 ch", _ffmpeg("-ac", "6", "-f", "wav"), channels=2, suffix=".wav")
    yield Recipe("wav list behind", _ffmpeg("-metadata", "title=a", "-f", "wav"), suffix=".wav")
    for edit in (
        "size zero",
        "size a little large",
        "size all ones",
        "id3 in front",
        "junk behind",
        "odd chunk behind",
    ):
        yield Recipe(f"wav {edit}", _ffmpeg("-f", "wav"), suffix=".wav", edit=edit)

    yield Recipe("rf64", _ffmpeg("-rf64", "always", "-f", "wav"), suffix=".wav", cut=True)
    for form, name in (("w64", "w64"), ("aiff", "aiff"), ("caf", "caf"), ("au", "au")):
        for channels in (1, 2):
            cut = channels == 1
            yield Recipe(f"{name} {channels} ch", _ffmpeg("-f", form), channels=channels, suffix=f".{name}", cut=cut)
    for form in ("aiff", "au", "caf", "w64"):
        yield Recipe(f"{form} pipe", _ffmpeg("-f", form, to="pipe:1"), suffix=f".{form}")
    for form in ("aiff", "au", "aifc"):
        yield Recipe(f"{form} sox pipe", ("sox", "{in}", "-t", form, "-"), suffix=f".{form}")
    for form in ("8svx", "voc", "sph", "htk", "avr", "ircam", "paf", "pvf", "xa", "gsm", "wve"):
        if form in ("avr", "voc", "8svx", "sph", "htk", "paf", "pvf"):
            yield Recipe(f"sox {form}", ("sox", "{in}", "-t", form, "{out}"), 16000, suffix=f".{form}", cut=True)

    for codec in ("alac", "libopus", "adpcm_ima_qt", "pcm_f32be", "flac"):
        rate = 48000 if codec == "libopus" else 44100
        yield Recipe(f"caf {codec}", _ffmpeg("-c:a", codec, "-f", "caf"), rate, suffix=".caf", cut=codec == "alac")
    for codec in ("pcm_f32be", "pcm_s24be", "pcm_alaw", "adpcm_ima_qt", "pcm_s16le"):
        yield Recipe(f"aiff {codec}", _ffmpeg("-c:a", codec, "-f", "aiff"), suffix=".aiff")
    for codec in ("pcm_mulaw", "pcm_f32be", "pcm_s8"):
        yield Recipe(f"au {codec}", _ffmpeg("-c:a", codec, "-f", "au"), suffix=".au")


LAME = {
    "cbr": ("-b", "128"),
    "vbr": ("-V2",),
    "abr": ("--abr", "96"),
    "cbr 320": ("-b", "320"),
    "cbr 32": ("-b", "32"),
    "cbr crc": ("-b", "128", "-p"),
    "id3v2 only": ("--tt", "a", "--id3v2-only"),
    "id3v1 only": ("--tt", "a", "--id3v1-only"),
}
MP3_EDITS = ("id3 in front", "id3 with footer", "two id3 in front", "id3v1 behind", "ape behind", "lyrics behind")
MP3_EDITS += ("id3 and id3v1", "zeros behind", "zeros in front", "joined", "joined id3", "part of a frame in front")
MP3_EDITS += ("picture with sync words", "junk behind")


def _mpeg() -> Iterator[Recipe]:
    for rate in (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000):
        for channels in (1, 2):
            command = ("lame", "--quiet", "{in}", "{out}")
            yield Recipe(f"mp3 cbr {rate} Hz {channels} ch", command, rate, channels, ".mp3")
            yield Recipe(
                f"mp3 vbr headerless {rate} Hz {channels} ch",
                (*command[:2], "-V4", "-t", *command[2:]),
                rate,
                channels,
                ".mp3",
            )

    for name, options in LAME.items():
        cut = name in ("cbr", "vbr")
        plain = ("lame", "--quiet", *options, "{in}", "{out}")
        yield Recipe(f"mp3 {name}", plain, suffix=".mp3", cut=cut)
        yield Recipe(f"mp3 {name} headerless", (*plain[:2], "-t", *plain[2:]), suffix=".mp3", cut=cut)

    for vbr in ("cbr", "vbr"):
        option = ("-b", "96") if vbr == "cbr" else ("-V3",)
        for header in ("", " headerless"):
            command = ("lame", "--quiet", *option, *(("-t",) if header else ()), "{in}", "{out}")
            for edit in MP3_EDITS:
                yield Recipe(f"mp3 {vbr}{header} {edit}", command, 44100, 1 + (vbr == "vbr"), ".mp3", edit)
            yield Recipe(f"mp3 {vbr}{header} last frame cut", command, 44100, 1, ".mp3", "last bytes lost")

    vbri = ("lame", "--quiet", "-V4", "-t", "{in}", "{out}")
    yield Recipe("mp3 vbri", vbri, suffix=".mp3", edit="vbri", cut=True)
    yield Recipe(
        "mp3 xing without count", ("lame", "--quiet", "-V4", "{in}", "{out}"), suffix=".mp3", edit="xing without count"
    )

    for rate in (22050, 24000, 44100, 48000):
        for channels in (1, 2):
            command = _ffmpeg("-c:a", "mp2", "-f", "mp2")
            yield Recipe(f"mp2 {rate} Hz {channels} ch", command, rate, channels, ".mp2", cut=rate == 44100)
            yield Recipe(
                f"mp3 in wav {rate} Hz {channels} ch",
                _ffmpeg("-c:a", "libmp3lame", "-f", "wav"),
                rate,
                channels,
                ".wav",
                cut=(rate, channels) == (24000, 1),
            )
    yield Recipe("mp3 in wav vbr", _ffmpeg("-c:a", "libmp3lame", "-q:a", "4", "-f", "wav"), suffix=".wav")
    yield Recipe("mp3 ffmpeg pipe", _ffmpeg("-c:a", "libmp3lame", "-f", "mp3", to="pipe:1"), suffix=".mp3")
    yield Recipe(
        "mp3 ffmpeg vbr pipe", _ffmpeg("-c:a", "libmp3lame", "-q:a", "5", "-f", "mp3", to="pipe:1"), suffix=".mp3"
    )
    yield Recipe("mp3 in mp4", _ffmpeg("-c:a", "libmp3lame", "-f", "mp4"), suffix=".mp4")
    yield Recipe("mp3 in matroska", _ffmpeg("-c:a", "libmp3lame", "-f", "matroska"), suffix=".mka")


def _ogg_and_flac() -> Iterator[Recipe]:
    for channels in (1, 2, 6):
        ac = ("-ac", str(channels))
        yield Recipe(
            f"ogg vorbis {channels} ch", _ffmpeg(*ac, "-c:a", "libvorbis", "-f", "ogg"), suffix=".ogg", cut=channels < 3
        )
        yield Recipe(
            f"ogg opus {channels} ch",
            _ffmpeg(*ac, "-c:a", "libopus", "-f", "ogg"),
            48000,
            suffix=".opus",
            cut=channels < 3,
        )
        yield Recipe(f"flac {channels} ch", _ffmpeg(*ac, "-f", "flac"), suffix=".flac", cut=channels < 3)
    for rate in (8000, 16000, 22050, 48000):
        yield Recipe(f"ogg oggenc {rate} Hz", ("oggenc", "-Q", "{in}", "-o", "{out}"), rate, suffix=".ogg")
        yield Recipe(f"ogg opusenc {rate} Hz", ("opusenc", "--quiet", "{in}", "{out}"), rate, suffix=".opus")
        yield Recipe(f"flac {rate} Hz", ("flac", "-s", "{in}", "-o", "{out}"), rate, suffix=".flac")

    for codec in ("vorbis", "opus", "flac"):
        encoder = {"vorbis": "libvorbis", "opus": "libopus", "flac": "flac"}[codec]
        command = _ffmpeg("-c:a", encoder, "-f", "ogg")
        for edit in ("no end mark", "chained", "junk behind", "id3v1 behind"):
            yield Recipe(f"ogg {codec} {edit}", command, 48000, suffix=".ogg", edit=edit, cut=edit == "no end mark")
    small_pages = _ffmpeg("-c:a", "libvorbis", "-page_duration", "100000", "-f", "ogg")
    yield Recipe("ogg vorbis small pages", small_pages, suffix=".ogg", cut=True)
    small_pages = _ffmpeg("-c:a", "libopus", "-page_duration", "100000", "-f", "ogg")
    yield Recipe("ogg opus small pages", small_pages, 48000, suffix=".ogg", cut=True)
    yield Recipe("ogg flac", ("flac", "-s", "--ogg", "{in}", "-o", "{out}"), suffix=".oga", cut=True)
    yield Recipe("ogg speex", _ffmpeg("-c:a", "libspeex", "-f", "ogg"), 16000, suffix=".spx", cut=True)
    yield Recipe(
        "ogg comments", _ffmpeg("-c:a", "libvorbis", "-metadata", "title=" + 5000 * "a", "-f", "ogg"), suffix=".ogg"
    )

    yield Recipe("flac 24 bit", _ffmpeg("-sample_fmt", "s32", "-f", "flac"), suffix=".flac")
    yield Recipe("flac pipe", _ffmpeg("-f", "flac", to="pipe:1"), suffix=".flac", cut=True)
    yield Recipe("flac pipe 2 ch", _ffmpeg("-f", "flac", to="pipe:1"), channels=2, suffix=".flac")
    for edit in ("id3 in front", "id3v1 behind", "flac picture", "zeros behind"):
        yield Recipe(f"flac {edit}", _ffmpeg("-f", "flac"), suffix=".flac", edit=edit)


def _ffmpeg_formats() -> Iterator[Recipe]:
    for rate in (8000, 16000, 22050, 44100, 48000):
        for channels in (1, 2):
            yield Recipe(
                f"m4a aac {rate} Hz {channels} ch",
                _ffmpeg("-c:a", "aac", "-f", "ipod"),
                rate,
                channels,
                ".m4a",
                cut=(rate, channels) == (44100, 1),
            )

    yield Recipe("m4a alac", _ffmpeg("-c:a", "alac", "-f", "ipod"), suffix=".m4a", cut=True)
    yield Recipe(
        "m4a moov in front", _ffmpeg("-c:a", "aac", "-movflags", "faststart", "-f", "mp4"), suffix=".m4a", cut=True
    )
    fragments = "frag_keyframe+empty_moov+default_base_moof"
    yield Recipe(
        "m4a fragments pipe",
        _ffmpeg("-c:a", "aac", "-movflags", fragments, "-frag_duration", "300000", "-f", "mp4"),
        suffix=".m4a",
        cut=True,
    )
    yield Recipe("m4a pictures and tags", _ffmpeg("-c:a", "aac", "-metadata", "title=a", "-f", "ipod"), suffix=".m4a")
    yield Recipe("mov pcm", _ffmpeg("-c:a", "pcm_s16le", "-f", "mov"), suffix=".mov", cut=True)
    yield Recipe("3gp amr", _ffmpeg("-c:a", "aac", "-f", "3gp"), 16000, suffix=".3gp")
    yield Recipe("mp4 trimmed by edit list", _ffmpeg("-ss", "0.51", "-c:a", "aac", "-f", "ipod"), suffix=".m4a")

    for codec in ("libopus", "libvorbis"):
        yield Recipe(f"webm {codec}", _ffmpeg("-c:a", codec, "-f", "webm"), 48000, suffix=".webm", cut=True)
        yield Recipe(
            f"webm {codec} live",
            _ffmpeg("-c:a", codec, "-f", "webm", "-live", "1"),
            48000,
            suffix=".webm",
            cut=codec == "libopus",
        )
    for codec in ("flac", "aac", "pcm_s16le", "ac3", "alac", "libopus"):
        yield Recipe(
            f"matroska {codec}", _ffmpeg("-c:a", codec, "-f", "matroska"), 48000, suffix=".mka", cut=codec == "aac"
        )
    for codec in ("wmav1", "wmav2"):
        for channels in (1, 2):
            yield Recipe(
                f"wma {codec} {channels} ch",
                _ffmpeg("-c:a", codec, "-f", "asf"),
                channels=channels,
                suffix=".wma",
                cut=channels == 1,
            )

    for rate in (16000, 44100, 48000):
        yield Recipe(f"adts {rate} Hz", _ffmpeg("-c:a", "aac", "-f", "adts"), rate, suffix=".aac", cut=rate == 44100)
    for edit in ("id3 in front", "id3v1 behind", "joined", "part of a frame in front"):
        yield Recipe(f"adts {edit}", _ffmpeg("-c:a", "aac", "-f", "adts"), suffix=".aac", edit=edit)
    yield Recipe("ac3", _ffmpeg("-c:a", "ac3", "-f", "ac3"), suffix=".ac3", cut=True)
    yield Recipe("wavpack", _ffmpeg("-c:a", "wavpack", "-f", "wv"), suffix=".wv", cut=True)
    yield Recipe("true audio", _ffmpeg("-c:a", "tta", "-f", "tta"), suffix=".tta")


# ------------------------------------------------------------------ edits of their bytes


def id3(size: int, flags: int = 0, fill: bytes = b"\0") -> bytes:
    """Return an ID3v2 tag with a body of so many bytes."""
    sizes = bytes(size >> shift & 127 for shift in (21, 14, 7, 0))
    footer = b"3DI\4\0" + bytes([flags]) + sizes if flags & 0x10 else b""
    return b"ID3\4\0" + bytes([flags]) + sizes + (fill * size)[:size] + footer


def frames_start(content: bytes) -> int:
    """Return where the first frame of an MP3 without a tag in front, or behind one tag of ID3v2, begins."""
    if content[:3] != b"ID3":
        return 0
    return 10 + (content[6] << 21 | content[7] << 14 | content[8] << 7 | content[9])


def vbri_frame(content: bytes, n_frames: int) -> bytes:
    """Return a silent frame of 128 kbit/s with the length header that Fraunhofer's encoder writes."""
    header = content[:2] + bytes([content[2] & 0x0D | 0x90]) + content[3:4]
    table = b"VBRI" + struct.pack(">HHHIIHHHH", 1, 0, 75, len(content), n_frames, 1, 1, 1, n_frames) + b"\0\0"
    return (header + bytes(32) + table).ljust(417, b"\0")


def ogg_pages(content: bytes) -> list[tuple[int, int]]:
    """Return the start and the end of each page."""
    pages, start = [], 0
    while content[start : start + 4] == b"OggS":
        table = content[start + 27 : start + 27 + content[start + 26]]
        pages.append((start, start + 27 + len(table) + sum(table)))
        start = pages[-1][1]
    return pages


def _ogg_crc(page: bytes) -> bytes:
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = register << 1 & 0xFFFFFFFF ^ (0x04C11DB7 if register >> 31 else 0)
    return register.to_bytes(4, "little")


def without_end_mark(content: bytes) -> bytes:
    """Return an Ogg file whose last page does not say that it is the last."""
    start, end = ogg_pages(content)[-1]
    page = bytearray(content[start:end])
    page[5] &= 0xFB
    page[22:26] = bytes(4)
    page[22:26] = _ogg_crc(bytes(page))
    return content[:start] + bytes(page) + content[end:]


def second_link(content: bytes) -> bytes:
    """Return the file once more, under another serial number."""
    pages = []
    for start, end in ogg_pages(content):
        page = bytearray(content[start:end])
        page[14:18] = bytes(byte ^ 0x55 for byte in page[14:18])
        page[22:26] = bytes(4)
        page[22:26] = _ogg_crc(bytes(page))
        pages.append(bytes(page))
    return content + b"".join(pages)


def mp3_frames(content: bytes) -> int:
    position, n_frames = 0, 0
    rates, bits = (44100, 48000, 32000), (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    while position + 4 <= len(content) and content[position] == 0xFF:
        third = content[position + 2]
        position += 144_000 * bits[third >> 4] // rates[third >> 2 & 3] + (third >> 1 & 1)
        n_frames += 1
    return n_frames


def with_wav_size(content: bytes, size: int) -> bytes:
    at = content.index(b"data") + 4
    riff = min(size + at - 4, 2**32 - 1)
    return content[:4] + struct.pack("<I", riff) + content[8:at] + struct.pack("<I", size) + content[at + 4 :]


ID3V1 = b"TAG" + bytes(125)
APE = b"".join(
    b"APETAGEX" + struct.pack("<IIII", 2000, 96, 1, flags) + bytes(8) + items
    for flags, items in ((0xA0000000, bytes(64)), (0x80000000, b""))
)
LYRICS = b"LYRICSBEGIN" + b"IND00002" + b"10" + b"000021LYRICS200"
EDITS = {
    "": lambda content: content,
    "id3 in front": lambda content: id3(3000) + content,
    "id3 with footer": lambda content: id3(500, 0x10) + content,
    "two id3 in front": lambda content: id3(300) + id3(700) + content,
    "id3v1 behind": lambda content: content + ID3V1,
    "ape behind": lambda content: content + APE,
    "lyrics behind": lambda content: content + LYRICS + ID3V1,
    "id3 and id3v1": lambda content: id3(1000) + content + ID3V1,
    "zeros behind": lambda content: content + bytes(4096),
    "zeros in front": lambda content: bytes(800) + content,
    "junk behind": lambda content: content + b"\x01\x02junk" * 20,
    "joined": lambda content: content + content,
    "joined id3": lambda content: id3(200) + content + ID3V1 + id3(400) + content + ID3V1,
    "part of a frame in front": lambda content: content[-97:] + content,
    "picture with sync words": lambda content: id3(5000, fill=b"\xff\xfb\x90\x64\0\0\0") + content,
    "last bytes lost": lambda content: content[:-40],
    "vbri": lambda content: vbri_frame(content, mp3_frames(content)) + content,
    "xing without count": lambda content: content.replace(b"Xing\0\0\0\x0f", b"Xing\0\0\0\0"),
    "no end mark": without_end_mark,
    "chained": second_link,
    "flac picture": lambda content: content[:42] + b"\6\0\x40\0" + bytes(2**14) + content[42:],
    "size zero": lambda content: with_wav_size(content, 0),
    "size a little large": lambda content: with_wav_size(content, len(content) - content.index(b"data") - 8 + 6),
    "size all ones": lambda content: with_wav_size(content, 2**32 - 1),
    "odd chunk behind": lambda content: content + b"LIST" + struct.pack("<I", 5) + b"note!\0",
}


def make(recipe: Recipe, folder: Path) -> bytes:
    """Make one file of the corpus."""
    source, out = folder / f"{recipe.rate}-{recipe.channels}.wav", folder / f"out{recipe.suffix}"
    if not source.exists():
        soundfile.write(source, sound(recipe.rate, recipe.channels), recipe.rate, subtype="PCM_16")
    for old in folder.glob("out*"):
        old.unlink()
    names = {"in": str(source), "out": str(out)}
    command = [word.format(**names) if "{" in word else word for word in recipe.command]
    ran = subprocess.run(command, capture_output=True, check=True)
    written = [path for path in folder.glob("out*") if path.stat().st_size]
    return EDITS[recipe.edit](written[0].read_bytes() if written else ran.stdout)


# ------------------------------------------------------------------ the reference, and the comparison


def by_ffmpeg(path: Path) -> tuple[np.ndarray, int, str]:
    """Return the mono samples that FFmpeg's program decodes, their rate, and its complaints."""
    out = path.with_name("reference.wav")
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-i", path, "-map", "0:a:0"]
    ran = subprocess.run([*command, "-c:a", "pcm_f32le", "-f", "wav", out], capture_output=True, text=True)
    if ran.returncode or not out.exists():
        return np.zeros(0, np.float32), 0, ran.stderr or f"exit status {ran.returncode}"
    samples, rate = soundfile.read(out, dtype="float32", always_2d=True)
    out.unlink()
    return samples.mean(axis=1), rate, ran.stderr


def correlation(one: np.ndarray, two: np.ndarray, rate: int) -> float:
    """Return the correlation of two waveforms where they overlap, at the best of all shifts up to the tolerance."""
    n = min(len(one), len(two))
    if n < rate // 20:
        return 1.0
    one, two = one[:n].astype(np.float64), two[:n].astype(np.float64)
    size = 1 << (2 * n - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(two, size)), size)
    reach = round(TOLERANCE * rate)
    shift = int(np.concatenate([products[-reach:], products[: reach + 1]]).argmax()) - reach
    one, two = (one[shift:], two[: n - shift]) if shift >= 0 else (one[: n + shift], two[-shift:])
    return float(one @ two / max(np.linalg.norm(one) * np.linalg.norm(two), 1e-12))


def likeness(one: np.ndarray, two: np.ndarray, rate: int, n_parts: int) -> float:
    """Return the least correlation of the parts of a file, which may lie apart where recordings were joined."""
    margin = 0 if n_parts == 1 else round(TOLERANCE * rate)
    halves = zip(np.array_split(one, n_parts), np.array_split(two, n_parts), strict=True)
    return min(correlation(a[margin : len(a) - margin], b[margin : len(b) - margin], rate) for a, b in halves)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one file."""

    name: str
    verdict: str  #: "decoded", "refused" (as is right), or what is wrong
    detail: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """Say whether this must not be."""
        return self.verdict not in ("decoded", "refused")


def outcome_of(name: str, content: bytes, whole: bool, path: Path, seconds: float) -> Outcome:
    """Decode a file, by path and as bytes, and judge the result by FFmpeg's.

    Parameters
    ----------
    name : str
    content : bytes
    whole : bool
        False for a file that was cut.
    path : Path
        Where the file is written.
    seconds : float
        How long FFmpeg's program says the whole file is.
    """
    path.write_bytes(content)
    reference, rate, complaints = by_ffmpeg(path)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            samples, found_rate = decode(path)
            from_bytes, _ = decode(content)
    except (ClipError, MissingDependencyError) as error:
        wrong = whole and not complaints and len(reference)
        return Outcome(name, "refused without reason" if wrong else "refused", str(error))
    except Exception as error:
        return Outcome(name, "another error", f"{type(error).__name__}: {error}")
    notes = tuple(str(warning.message) for warning in caught)
    if not np.array_equal(samples, from_bytes):
        return Outcome(name, "bytes are not the file", f"{samples.shape} and {from_bytes.shape}")
    n_seconds = len(samples) / found_rate
    detail = f"{n_seconds:.2f} s, FFmpeg {len(reference) / max(rate, 1):.2f} s"
    if not whole and n_seconds < seconds - TOLERANCE and not (notes or any(word in name for word in ENDLESS)):
        return Outcome(name, "shortened in silence", detail, notes)
    if not rate:
        return Outcome(name, "decoded", f"{detail} ({complaints.strip()[:80]})", notes)
    if found_rate != rate and "opus" in name:  # FFmpeg decodes it at 48 kHz, libsndfile at the rate of its source
        reference, rate = soxr.resample(reference, rate, found_rate), found_rate
    if found_rate != rate:
        return Outcome(name, "another rate", f"{found_rate} Hz, FFmpeg {rate} Hz", notes)
    if n_seconds < len(reference) / rate - TOLERANCE:
        return Outcome(name, "shortened in silence", detail, notes)
    if n_seconds > len(reference) / rate + TOLERANCE and not complaints:
        return Outcome(name, "too long", detail, notes)
    n_parts = 2 if "joined" in name or "chained" in name else 1
    alike = likeness(samples.mean(axis=1), reference, rate, n_parts)
    if alike < 0.99 and not complaints:
        return Outcome(name, "another sound", f"{detail}, correlation {alike:.3f}", notes)
    return Outcome(name, "decoded", detail, notes)


def outcomes(*words: str) -> Iterator[Outcome]:
    """Make, decode and judge the files whose names hold all of ``words``."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for recipe in recipes():
            if not all(word in recipe.name for word in words):
                continue
            try:
                content = make(recipe, folder)
            except subprocess.CalledProcessError as error:
                yield Outcome(recipe.name, "not made", error.stderr.decode("utf-8", "replace").strip()[-200:])
                continue

            path = folder / f"clip{recipe.suffix}"
            path.write_bytes(content)
            reference, rate, _ = by_ffmpeg(path)
            seconds = len(reference) / max(rate, 1)
            yield outcome_of(recipe.name, content, recipe.edit != "last bytes lost", path, seconds)
            for tenth in range(1, 10) if recipe.cut else ():
                cut = content[: len(content) * tenth // 10]
                yield outcome_of(f"{recipe.name}, cut at 0.{tenth}", cut, False, path, seconds)


def missing_programs() -> list[str]:
    """Return the programs that the corpus needs and this machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    options, words = ([word for word in sys.argv[1:] if (word == "-v") == wanted] for wanted in (True, False))
    counts: Counter[tuple[str, str]] = Counter()
    with contextlib.suppress(BrokenPipeError), tempfile.TemporaryFile() as noise:
        stderr = os.dup(2)
        os.dup2(noise.fileno(), 2)
        for outcome in outcomes(*words):
            kind = "cut" if ", cut at" in outcome.name else "whole"
            counts[kind, outcome.verdict] += 1
            is_told = outcome.wrong or outcome.warnings or (kind, outcome.verdict) == ("whole", "refused")
            if is_told or "-v" in options:
                print(f"{outcome.name:45s} {outcome.verdict:24s} {outcome.detail[:170]}", *outcome.warnings)
        os.dup2(stderr, 2)
        noise.seek(0)
        lines = [line for line in noise.read().decode("utf-8", "replace").splitlines() if line.strip()]
    print("\n".join(f"{kind:6s} {verdict:24s} {count:4d}" for (kind, verdict), count in sorted(counts.items())))
    print(
        f"{sum(counts.values())} files; {len(lines)} lines on standard error",
        *Counter(lines).most_common(12),
        sep="\n  ",
    )
