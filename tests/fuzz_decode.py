"""Decode damaged and hostile audio files: each is samples, or an error that says what is wrong.

    python tests/fuzz_decode.py --cases 1000000 --seed 0

The cases run in a child process with little memory and an alarm that ends it, so that a crash or a hang of a decoder's
C code has a case number too. Such a case is then given to ``isolated_decoding``, which must turn it into an error.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import fractions
import functools
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from skastw.audio import Limits, decode, load_waveform
from skastw.audio.isolation import _DECODER, Decoder, IsolatedDecoder
from skastw.errors import SkastwError

#: Seconds after which a case counts as hanging, and bytes that decoding may take.
TIMEOUT, MEMORY = 20, 256 * 2**20
LIMITS = Limits(values=2**22, file_size=2**20)
RATE = 16000
SOUNDFILE_FORMATS = {
    "wav 8 bit": ("WAV", "PCM_U8"),
    "wav 16 bit": ("WAV", "PCM_16"),
    "wav 24 bit": ("WAV", "PCM_24"),
    "wav 32 bit": ("WAV", "PCM_32"),
    "wav float": ("WAV", "FLOAT"),
    "wav mu-law": ("WAV", "ULAW"),
    "wav ms-adpcm": ("WAV", "MS_ADPCM"),
    "wav ima-adpcm": ("WAV", "IMA_ADPCM"),
    "wav extensible": ("WAVEX", "PCM_16"),
    "flac 16 bit": ("FLAC", "PCM_16"),
    "flac 24 bit": ("FLAC", "PCM_24"),
    "ogg vorbis": ("OGG", "VORBIS"),
    "ogg opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
#: What else libsndfile reads.
OTHER_FORMATS = (
    "AU",
    "AVR",
    "CAF",
    "HTK",
    "IRCAM",
    "MAT4",
    "MAT5",
    "MPC2K",
    "NIST",
    "PAF",
    "PVF",
    "RF64",
    "SDS",
    "SVX",
)
OTHER_FORMATS += ("AIFF", "VOC", "W64", "WVE", "XI")
PYAV_FORMATS = {"m4a": ("ipod", "aac"), "webm": ("webm", "libopus"), "aac": ("adts", "aac")}
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**36 - 1)
NUMBERS += (2**62, 2**63 - 1, 2**63, 2**64 - 1)


@functools.cache
def corpus() -> dict[str, bytes]:
    """Return small whole files of every format, the same ones each time."""
    time = np.arange(600) / RATE
    tones = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), 0.3 * np.sin(2 * np.pi * 3000 * time)]).astype(np.float32)
    files = {}
    for name, (form, subtype) in SOUNDFILE_FORMATS.items():
        for channels in (1, 2):
            file = io.BytesIO()
            soundfile.write(file, tones[:channels].T, RATE, format=form, subtype=subtype)
            files[f"{name} {channels} ch"] = sealed(_without_dates(file.getvalue()))
    for form in OTHER_FORMATS:
        file = io.BytesIO()
        soundfile.write(file, tones[0], 8000 if form == "WVE" else RATE, format=form)
        files[f"other {form}"] = _without_dates(file.getvalue())
    files |= _kinds_of_mp3_and_ogg(files)
    try:
        import av
    except ImportError:
        return files
    for name, (form, codec) in PYAV_FORMATS.items():
        file = io.BytesIO()
        rate = 48000 if codec == "libopus" else RATE
        with av.open(file, "w", format=form, options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream(codec, rate=rate, layout="stereo")
            frame = av.AudioFrame.from_ndarray(np.tile(tones, 3), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, 0, fractions.Fraction(1, rate)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        files[f"ffmpeg {name}"] = file.getvalue()
    return files


def _kinds_of_mp3_and_ogg(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return files whose length is found by walking them, or that hold several recordings."""
    mp3, wav, ogg = files["mp3 1 ch"], files["wav 16 bit 1 ch"], files["ogg vorbis 1 ch"]
    headerless = mp3[mp3.index(mp3[:2], 4) :]
    size = len(headerless).to_bytes(4, "little")
    form = b"U\0" + wav[22:28] + size + b"\1\0\0\0"  # MP3, then channels and rate
    flac = bytearray(files["flac 16 bit 1 ch"])
    flac[21], flac[22:26] = flac[21] & 0xF0, bytes(4)
    id3 = b"ID3\4\0\0\0\0\0\x10" + bytes(16)
    return {
        "mp3 no header": headerless,
        "mp3 between tags": id3 + headerless + b"TAG" + bytes(125),
        "mp3 joined": mp3 + id3 + mp3,
        "mp3 in wav": wav[:16] + b"\x10\0\0\0" + form + b"data" + size + headerless,
        "ogg chained": ogg + ogg,
        "ogg no end mark": sealed(_without_end_mark(ogg)),
        "flac unknown length": bytes(flac),
        "wav size zero": wav[:40] + bytes(4) + wav[44:],
    }


def _without_end_mark(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[_pages(content)[-1][0] + 5] &= 0xFB
    return bytes(changed)


def _without_dates(content: bytes) -> bytes:
    """Remove what differs from run to run: dates (WAV's PEAK chunk, MAT5) and the random numbers of Ogg."""
    changed = bytearray(content)
    if content[:10] == b"MATLAB 5.0":
        changed[50:100] = content[50:100].translate(bytes.maketrans(b"123456789", b"000000000"))
    if (peak := content.find(b"PEAK")) > 0:
        changed[peak + 12 : peak + 16] = bytes(4)
    for page, _ in _pages(content):
        changed[page + 14 : page + 18] = b"\1\0\0\0"
    return bytes(changed)


# ------------------------------------------------------------------ checksums, without which damage stops at the door


def sealed(content: bytes) -> bytes:
    """Return an Ogg or FLAC file with checksums that hold, so that what is inside reaches the decoder."""
    if content[:4] == b"OggS":
        return _sealed_ogg(content)
    return _sealed_flac(content) if content[:4] == b"fLaC" else content


def _pages(content: bytes) -> list[tuple[int, int]]:
    pages, start = [], 0
    while content[start : start + 4] == b"OggS" and start + 27 <= len(content):
        table = content[start + 27 : start + 27 + content[start + 26]]
        end = min(start + 27 + len(table) + sum(table), len(content))
        pages.append((start, end))
        start = end
    return pages


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _sealed_ogg(content: bytes) -> bytes:
    changed = bytearray(content)
    for start, end in _pages(content):
        changed[start + 22 : start + 26] = bytes(4)
        register = zlib.crc32(changed[start:end].translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
        changed[start + 22 : start + 26] = register.to_bytes(4, "little").translate(_REVERSED)[::-1]
    return bytes(changed)


def _crc_table(polynomial: int, bits: int) -> list[int]:
    table = []
    for byte in range(256):
        register = byte << (bits - 8)
        for _ in range(8):
            register = register << 1 ^ (polynomial if register >> (bits - 1) & 1 else 0)
        table.append(register & ((1 << bits) - 1))
    return table


_CRC16 = _crc_table(0x8005, 16)


def _sealed_flac(content: bytes) -> bytes:
    """Repair the checksum at the end of the file, which is that of the only frame."""
    start, last = 4, False
    while not last and start + 4 <= len(content):
        last = bool(content[start] & 0x80)
        start += 4 + int.from_bytes(content[start + 1 : start + 4], "big")
    if start + 2 >= len(content):
        return content
    register = 0
    for byte in content[start:-2]:
        register = (register << 8 & 0xFF00) ^ _CRC16[register >> 8 ^ byte]
    return content[:-2] + register.to_bytes(2, "big")


# ------------------------------------------------------------------ damage


def _somewhere(content: bytearray, rng: random.Random) -> int:
    """Return a position, half of the time in the header."""
    return rng.randrange(min(len(content), rng.choice((64, len(content)))) or 1)


def _flip(content: bytearray, rng: random.Random) -> bytearray:
    if content:
        content[_somewhere(content, rng)] ^= 1 << rng.randrange(8)
    return content


def _overwrite(content: bytearray, rng: random.Random) -> bytearray:
    at = _somewhere(content, rng)
    content[at : at + rng.choice((1, 2, 4, 16))] = rng.randbytes(rng.choice((1, 1, 2, 4, 16)))
    return content


def _announce(content: bytearray, rng: random.Random) -> bytearray:
    """Put a telling number where a size, a count or a rate may be."""
    at, size = _somewhere(content, rng), rng.choice((1, 2, 3, 4, 5, 8))
    number = rng.choice((*NUMBERS, len(content), rng.getrandbits(64))) & (256**size - 1)
    content[at : at + size] = number.to_bytes(size, rng.choice(("little", "big")))
    return content


def _cut(content: bytearray, rng: random.Random) -> bytearray:
    return content[: _somewhere(content, rng)]


def _repeat(content: bytearray, rng: random.Random) -> bytearray:
    start, end = sorted((_somewhere(content, rng), _somewhere(content, rng)))
    at = _somewhere(content, rng)
    return content[:at] + content[start:end] * rng.choice((1, 1, 2, 8)) + content[at:]


def _remove(content: bytearray, rng: random.Random) -> bytearray:
    start, end = sorted((_somewhere(content, rng), _somewhere(content, rng)))
    return content[:start] + content[end:]


def _splice(content: bytearray, rng: random.Random) -> bytearray:
    """Put the start of another file before, or its rest behind."""
    other = rng.choice(list(corpus().values()))
    at, cut = _somewhere(content, rng), _somewhere(bytearray(other), rng)
    return bytearray(other[:cut]) + content[at:] if rng.random() < 0.5 else content[:at] + other[cut:]


DAMAGE: tuple[Callable[[bytearray, random.Random], bytearray], ...]
DAMAGE = (_flip, _flip, _flip, _overwrite, _overwrite, _announce, _announce, _announce, _cut, _repeat, _remove, _splice)


def damaged(seed: int, case: int) -> tuple[str, bytes]:
    """Return the name of a whole file and its content after one to four accidents."""
    rng = random.Random(f"{seed}/{case}")
    family = rng.choice(("wav", "wav", "flac", "flac", "ogg", "ogg", "mp3", "mp3", "ffmpeg", "other"))
    name = rng.choice(sorted(name for name in corpus() if name.startswith(family)) or sorted(corpus()))
    content = bytearray(corpus()[name])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        content = rng.choice(DAMAGE)(content, rng)
    return name, sealed(bytes(content)) if rng.random() < 0.6 else bytes(content)


# ------------------------------------------------------------------ one case, in the child


def outcome_of(content: bytes, path: Path | None = None) -> str:
    """Decode and load a file; say whether it was decoded or refused, and raise whatever else happens.

    Parameters
    ----------
    content : bytes
    path : Path, optional
        Where to write the content, by default it is decoded from memory.
    """
    if path is not None:
        path.write_bytes(content)
    try:
        samples, rate = decode(content if path is None else path, limits=LIMITS)
        assert samples.dtype == np.float32
        assert samples.ndim == 2
        assert samples.size <= LIMITS.values
        assert isinstance(rate, int)
        waveform = load_waveform({"bytes": content}, RATE)
        assert waveform.dtype == np.float32
        assert waveform.ndim == 1
        assert 1 <= waveform.size <= LIMITS.values
        assert np.isfinite(waveform).all()
    except SkastwError:
        return "refused"
    return "decoded"


def child(first: int, last: int, seed: int, seconds: float, progress: str) -> None:
    """Run the cases from ``first`` to ``last``; print the outcomes, or what went wrong."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # decoders print notes on what they are given
    _DECODER.set(Decoder(LIMITS))
    folder = Path(progress).parent
    for content in corpus().values():  # imports are done, and buffers have their size
        outcome_of(content, folder / "clip")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, even in C code
    began, case, slowest = time.monotonic(), first, (0.0, first)
    with open(progress, "w", buffering=1) as outcomes:  # a line a case: what is there when a crash comes
        while case < last and time.monotonic() - began < seconds:
            name, content = damaged(seed, case)
            signal.alarm(TIMEOUT)
            start = time.perf_counter()
            try:
                outcome = outcome_of(content, folder / "clip" if case % 2 else None)
                outcomes.write(f"{name.split(' ')[0]}: {outcome}\n")
            except Exception as error:
                print(
                    json.dumps({"failed": f"seed {seed}, case {case} ({name}): {type(error).__name__}: {error}"}),
                    file=answers,
                )
                raise
            signal.alarm(0)
            slowest = max(slowest, (time.perf_counter() - start, case))
            case += 1
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"peak": peak, "slowest": slowest}), file=answers)


# ------------------------------------------------------------------ all cases, in the parent


@dataclasses.dataclass
class Report:
    """What came of the cases."""

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    crashes: list[str] = dataclasses.field(default_factory=list)  #: seed, case, format and signal; all were shielded
    peak: float = 0.0  #: MiB by which a child grew
    slowest: tuple[float, int] = (0.0, 0)  #: seconds, case


def fuzz(cases: int, seed: int, *, seconds: float = float("inf")) -> Report:
    """Decode ``cases`` damaged files.

    Raises
    ------
    AssertionError
        For a case that raises another error than a ``SkastwError``, hangs or takes too much memory, or that crashes
        and is not shielded by a worker; it names the case.
    """
    report, began, first = Report(), time.monotonic(), 0
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk waits for each file that is replaced
    with tempfile.TemporaryDirectory(dir=in_memory) as folder:
        progress = Path(folder) / "progress"
        while first < cases and (left := seconds - (time.monotonic() - began)) > 0:
            progress.write_text("")
            settings = [*map(str, (first, cases, seed, left)), str(progress)]
            with open(Path(folder) / "notes", "w+b") as notes:
                command = [sys.executable, __file__, "--child", *settings]
                ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=notes, text=True)
                notes.seek(max(0, notes.seek(0, os.SEEK_END) - 4000))
                last_words = notes.read().decode("utf-8", "replace")
            outcomes = progress.read_text().splitlines()
            report.counts.update(outcomes)
            case = first + len(outcomes)
            if ran.returncode < 0:
                ended_by = signal.Signals(-ran.returncode)
                where = f"seed {seed}, case {case} ({damaged(seed, case)[0]}): {ended_by.name}"
                assert ended_by != signal.SIGALRM, f"{where}: no answer within {TIMEOUT} s"
                _shielded(seed, case, where)
                report.crashes.append(where)
                first = case + 1
                continue
            found = json.loads(ran.stdout) if ran.stdout else {"failed": f"case {case}"}
            assert "failed" not in found, f"{found['failed']}\n{last_words}"
            report.peak = max(report.peak, found["peak"])
            report.slowest = max(report.slowest, tuple(found["slowest"]))
            break
    return report


def _shielded(seed: int, case: int, where: str) -> None:
    """Assert that a worker turns the crash into an error and that decoding goes on."""
    decoder = IsolatedDecoder(timeout=TIMEOUT, memory=MEMORY, limits=LIMITS)
    try:
        decoder(damaged(seed, case)[1])
    except SkastwError:
        pass
    finally:
        whole = decoder(corpus()["wav 16 bit 1 ch"])
        decoder.close()
    assert len(whole[0]) == 600, where


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*map(int, sys.argv[2:5]), float(sys.argv[5]), sys.argv[6])
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    started = time.monotonic()
    found = fuzz(options.cases, options.seed, seconds=options.seconds)
    print(
        f"{found.counts.total()} cases, seed {options.seed}, {time.monotonic() - started:.0f} s: {dict(found.counts)}"
    )
    print(f"peak {found.peak:.0f} MiB, slowest {found.slowest[0]:.2f} s (case {found.slowest[1]})")
    print(f"{len(found.crashes)} crashes, all shielded by a worker", *found.crashes[:50], sep="\n")
