"""Stop a run over many files three times, continue it, and compare the result with a run that was not stopped.

Writes short clips, a few of which are damaged, and predicts them with ``skastw predict --output predictions.csv``. The
first stop is Ctrl-C, the second SIGKILL, the third a disk that takes no more data (a limit on the size of files). Then
four shards write the same table into one folder.

    python examples/benchmarks/batches.py --clips 20000
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from skastw import ASTWClassifier
from skastw.datasets import make_tones

DAMAGED = 1000  # one of so many files is empty
SHARDS = 4


def main() -> None:
    """Run all steps; print a line for each, and exit with status 1 if a result differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=0.1, help="length of a clip")
    parser.add_argument("--block", type=int, default=256, help="clips in a part")
    parser.add_argument("--folder", type=Path, help="folder for all files, by default a temporary one")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        model = make_model(folder / "model")
        for n_clips in (options.clips // 10, options.clips):
            write_clips(folder / f"clips_{n_clips}", n_clips, options.seconds)
        ok = compare(folder, model, options.clips, options.block)
    sys.exit(0 if ok else 1)


def compare(folder: Path, model: str, n_clips: int, block: int) -> bool:
    """Return whether the stopped run and the shards have the result of the whole run."""

    def command(output: str, n: int = n_clips, *others: str) -> list[str]:
        arguments = ["predict", str(folder / f"clips_{n}"), "--model", model, "--output", str(folder / output)]
        return [sys.executable, "-m", "skastw", *arguments, "--block", str(block), "--device", "cpu", *others]

    run("a tenth of the clips", command("tenth.csv", n_clips // 10))
    run("all clips, not stopped", command("whole.csv"))

    stopped, parts = command("stopped.csv"), folder / "stopped.csv.parts"
    n_parts = -(-n_clips // block)
    run("stopped by Ctrl-C", stopped, stop=signal.SIGINT, when=lambda: count(parts) >= n_parts // 4)
    print_parts(parts, n_parts)
    run("stopped by SIGKILL", stopped, stop=signal.SIGKILL, when=lambda: count(parts) >= n_parts // 2)
    print_parts(parts, n_parts)
    run("stopped by a full disk", stopped, max_bytes=(parts / "part-00000.csv").stat().st_size // 2)
    print_parts(parts, n_parts)
    run("continued to the end", stopped)
    same = (folder / "stopped.csv").read_bytes() == (folder / "whole.csv").read_bytes() and not parts.exists()
    print(f"the stopped run and the whole run: {'the same bytes' if same else 'DIFFERENT'}", flush=True)

    shards = [command("shards", n_clips, "--shard", f"{i}/{SHARDS}", "--jobs", "2") for i in range(1, SHARDS + 1)]
    processes = [subprocess.Popen(shard, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for shard in shards]
    print(f"{SHARDS} shards at the same time: exit status {[process.wait() for process in processes]}", flush=True)
    texts = [pd.read_csv(path, dtype=str) for path in sorted((folder / "shards").glob("part-*.csv"))]
    equal = pd.concat(texts, ignore_index=True).equals(pd.read_csv(folder / "whole.csv", dtype=str))
    print(f"all parts of the shards and the whole run: {'the same table' if equal else 'DIFFERENT'}", flush=True)
    return same and equal


def make_model(folder: Path) -> str:
    """Train the recipe ``"tiny"`` for an epoch, and save it."""
    clips, y = make_tones(n_clips=24, n_classes=3, random_state=0)
    classifier = ASTWClassifier.from_recipe("tiny").set_params(epochs=1, min_steps=0)
    return classifier.fit(clips, np.array(["low", "mid", "high"])[y]).save_pretrained(folder)


def write_clips(folder: Path, n_clips: int, seconds: float) -> None:
    """Write clips of noise with different levels and tones; one of each ``DAMAGED`` is empty."""
    folder.mkdir(exist_ok=True)
    times = np.arange(round(16000 * seconds)) / 16000
    for i in range(n_clips):
        path = folder / f"{i:07}.wav"
        if i % DAMAGED == DAMAGED // 2:
            path.write_bytes(b"")
        if path.exists():
            continue

        random = np.random.default_rng(i)
        tone = 0.5 * np.sin(2 * np.pi * random.uniform(100, 4000) * times)
        soundfile.write(path, tone + random.normal(scale=0.05, size=len(times)), 16000)


def run(
    what: str,
    command: list[str],
    *,
    stop: signal.Signals | None = None,
    when: Callable[[], bool] = lambda: False,
    max_bytes: int | None = None,
) -> None:
    """Run a command, send it a signal at a moment, and print its exit status, time, peak memory and last messages."""

    def limit() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets programs in the background ignore it
        if max_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))

    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, preexec_fn=limit)
        running = partial(os.waitid, os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        while stop is not None and not when() and running() is None:
            time.sleep(0.01)
        if stop is not None:
            process.send_signal(stop)
        _, status, usage = os.wait4(process.pid, 0)
        errors.seek(0)
        lines = errors.read().replace("\n\n", "\n").splitlines()[-4:]

    seconds, megabytes = time.perf_counter() - began, usage.ru_maxrss / 1024
    code = process.returncode = os.waitstatus_to_exitcode(status)
    print(f"{what}: exit status {code}, {seconds:.0f} s, at most {megabytes:.0f} MB", *lines, sep="\n    ", flush=True)


def count(parts: Path) -> int:
    """Return the number of parts in a folder."""
    return sum(1 for _ in parts.glob("part-*"))


def print_parts(parts: Path, n_parts: int) -> None:
    """Print the number of parts, and the names of all other files."""
    others = sorted(path.name for path in parts.iterdir() if not path.name.startswith("part-"))
    print(f"    {count(parts)} of {n_parts} parts are kept; other files: {others}", flush=True)


if __name__ == "__main__":
    main()
