"""Load damaged and hostile model folders: each is the model that was saved, or an error that says what is wrong.

    python tests/fuzz_artifact.py --cases 1000000 --seed 0

Half of the cases are accidents: bytes of one file change. The other half are attacks: the folder is sealed again
afterwards, so that hashes hold and the parsers have to.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import resource
import shutil
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from skastw import ASTWClassifier
from skastw.artifact.folder import FILES, seal
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import SkastwError
from skastw.features import LogMel

#: Seconds of processor time, and of any time, after which a load counts as hanging: a run may be suspended for a while.
LIMIT, WAIT = 20, 1200
HOSTILE = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 255, 10**9, -(10**9), 2**31, 2**63, 10**30, 1e-300, 1e308, -0.0, 0.5),
    *("", "a", "\0", "..", "/etc/passwd", "os.system", "__class__", "\ud800", "é" * 300, "1", "NaN"),
    *([], {}, [[]], [None], [0, 0], {"name": "astw"}, {"name": "resnet", "params": {}}, {"": 0}, [1] * 1000),
)
WORDS = [b"NaN", b"Infinity", b"null", b"1e999", b"9" * 5000, b"[" * 20000, b'{"a":' * 3000, b"\xff\xfe", b'"\\ud800"']


class Hung(BaseException):
    """A load took too long; not an Exception, so that nothing catches it."""


def saved_model(parent: Path) -> tuple[Path, list[np.ndarray], np.ndarray]:
    """Save a very small model; return its folder, clips and the probabilities that it gives them."""
    clips, y = make_tones(n_clips=12, random_state=0)
    clf = ASTWClassifier(
        features=LogMel(n_mels=8, n_fft=64, hop_length=64),
        encoder=ASTWEncoder(d_model=8, num_heads=1, num_layers=1, ff_mult=1),
        chunk_length=0.2,
        epochs=1,
    )
    folder = Path(clf.fit(clips, np.array(["low", "mid", "high"])[y]).save_pretrained(parent / "model"))
    return folder, clips[:2], clf.predict_proba(clips[:2])


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return ``content`` after one to three accidents."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(ACCIDENTS)(bytearray(content), rng)
    return content


def _flip(content: bytearray, rng: random.Random) -> bytes:
    if content:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _replace(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    content[at : at + rng.choice((1, 1, 4, 8, 64))] = rng.randbytes(rng.choice((0, 1, 1, 4, 8, 64)))
    return bytes(content)


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content) + 1)])


def _double(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return bytes(content[:at] + content[at - rng.randrange(at + 1) : at] + content[at:])


def _splice(content: bytearray, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return bytes(content[:at] + rng.choice(WORDS) + content[at:])


def _announce(content: bytearray, rng: random.Random) -> bytes:
    content[:8] = rng.choice((0, 1, len(content), 2**20, 2**27, 2**40, 2**63, 2**64 - 1)).to_bytes(8, "little")
    return bytes(content)


def _number(content: bytearray, rng: random.Random) -> bytes:
    digits = [i for i, byte in enumerate(content[:20000]) if 48 <= byte <= 57]
    if digits:
        content[rng.choice(digits)] = rng.choice(b"0123456789-.e")
    return bytes(content)


ACCIDENTS = (_flip, _flip, _replace, _cut, _double, _splice, _announce, _number, _number)


def attacked(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one place inside it changed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if rng.random() < 0.1:
            return {**value, str(rng.choice(HOSTILE)): rng.choice(HOSTILE)}
        return {**value, key: attacked(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], attacked(value[at], rng), *value[at + rng.randrange(2) :]]
    return rng.choice(HOSTILE)


def change(folder: Path, whole: dict[str, bytes], rng: random.Random) -> bool:
    """Damage or attack a folder; say whether it was sealed again."""
    name = rng.choice((*FILES, "config.json", "model.safetensors"))
    content = whole[name]
    if rng.random() < 0.5:
        (folder / name).write_bytes(damaged(content, rng))
        return False
    if name.endswith(".json") and rng.random() < 0.7:
        content = json.dumps(attacked(json.loads(content), rng)).encode("utf-8", "replace")
    elif name == "model.safetensors" and rng.random() < 0.7:
        length = int.from_bytes(content[:8], "little")
        header = json.dumps(attacked(json.loads(content[8 : 8 + length]), rng)).encode()
        content = len(header).to_bytes(8, "little") + header + content[8 + length :]
    else:
        content = damaged(content, rng)
    (folder / name).write_bytes(content)
    try:
        config = json.loads((folder / "config.json").read_bytes())
        (folder / "config.json").write_text(json.dumps(seal(config, folder)))
    except (ValueError, TypeError, RecursionError):
        pass  # such a config is not to be sealed
    return True


def fuzz(
    cases: int, seed: int, *, first: int = 0, seconds: float = float("inf"), verbose: bool = False
) -> collections.Counter[str]:
    """Load changed folders, those of the cases from ``first`` to ``cases``; return how often each outcome was seen.

    Raises
    ------
    AssertionError
        For a load that predicts otherwise, hangs, or raises another error than a ``SkastwError``; it names the case.
    """
    outcomes: collections.Counter[str] = collections.Counter()
    began = time.monotonic()
    signal.signal(signal.SIGALRM, _hang)
    signal.signal(signal.SIGPROF, _hang)
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # a disk waits for each file that is replaced
    with tempfile.TemporaryDirectory(dir=in_memory) as parent:
        folder, clips, expected = saved_model(Path(parent))
        whole = {name: (folder / name).read_bytes() for name in FILES}
        for case in tqdm(range(first, cases), disable=not verbose, mininterval=60):
            if time.monotonic() - began > seconds:
                break
            sealed = change(folder, whole, random.Random(f"{seed}/{case}"))
            outcome = _load(folder, clips, expected, sealed, f"seed {seed}, case {case}")
            outcomes[f"{'attack' if sealed else 'accident'}: {outcome}"] += 1
            for name, content in whole.items():
                (folder / name).write_bytes(content)
        shutil.rmtree(folder)
    return outcomes


def _load(folder: Path, clips: list[np.ndarray], expected: np.ndarray, sealed: bool, case: str) -> str:
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    signal.alarm(WAIT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clf = ASTWClassifier.from_pretrained(folder)
            if sealed:
                return "loaded"
            np.testing.assert_array_equal(clf.predict_proba(clips), expected, err_msg=case)
        return "loaded, the same predictions"
    except SkastwError:
        return "refused"
    except AssertionError:
        raise
    except (Exception, Hung) as error:
        raise AssertionError(f"{case}: {type(error).__name__}: {error}") from error
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def _hang(*_: Any) -> None:
    raise Hung(f"no answer within {LIMIT} s of processor time or {WAIT} s")


def peak_memory() -> int:
    """Return the most memory that this process has had, in the system's unit."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the case to begin with")
    options = parser.parse_args()
    fuzz(20, seed=-1)
    before, started = peak_memory(), time.monotonic()
    found = fuzz(options.cases, options.seed, first=options.first, verbose=True)
    print(dict(found), f"{time.monotonic() - started:.0f} s")
    print(f"peak memory {peak_memory() / before:.2f} times that of loading whole folders")
