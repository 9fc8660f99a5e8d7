"""Train models on clean clips, and report the UAR on test clips that are damaged in nine ways.

    python examples/benchmarks/robustness.py run --protocol r4-21 --model tiny statistics --data-dir path/to/data
    python examples/benchmarks/robustness.py report

The models are trained on the training part of the first fold of a protocol and tested on its test part, once for each
condition of ``CONDITIONS``. All clips are resampled to 16 kHz before they are damaged. The damage of a clip is drawn
with a seed of its own, from its position and the condition: every model with every seed hears the same clips. They keep
their length.

A run appends a JSON line for each model, seed and condition to ``--output``, and trains only the models for which a
line is missing. The names of models are described in ``few_clips.py``, and protocols in ``accuracy.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch

from skastw.audio import load_waveform
from skastw.augment import (
    Augment,
    WaveformClipping,
    WaveformGain,
    WaveformNoise,
    WaveformReverb,
    WaveformTelephone,
)
from skastw.core.batching import Batch

sys.path.insert(0, str(Path(__file__).parent))
from accuracy import read_rows, scores
from models import NEED_WEIGHTS, SAMPLE_RATE, append_row, fit, make_model, model_names
from protocols import PROTOCOLS, Protocol, load_protocol

#: Columns that name a row.
KEY = ("protocol", "fold", "model", "seed", "condition")
#: MP3 of 16 kHz has 8 to 160 kbit/s. libsndfile expects the distance to the highest rate, from 0 to 1.
LEAST_KBITS, MOST_KBITS = 8.0, 160.0
#: Samples by which encoder and decoder together delay the sound: 576 and 529.
MP3_DELAY = 576 + 529


# ------------------------------------------------------------------ conditions


def white_noise(snr: float) -> WaveformNoise:
    """Return an augmentation that adds white noise, ``snr`` dB below the mean power of the clip."""
    return WaveformNoise(min_exponent=0.0, max_exponent=0.0, min_snr=snr, max_snr=snr, p=1.0)


def level(gain: float) -> WaveformGain:
    """Return an augmentation that changes the level by ``gain`` dB."""
    return WaveformGain(min_gain=gain, max_gain=gain, p=1.0)


def through_mp3(waveform: np.ndarray, kbits: float = 32.0) -> np.ndarray:
    """Return a waveform of 16 kHz, shape (n,), after it was encoded as MP3 of ``kbits`` kbit/s and decoded."""
    if "MP3" not in soundfile.available_formats():
        raise SystemExit("The installed libsndfile does not write MP3: install a wheel of soundfile that contains it.")
    padded = np.pad(waveform, (0, MP3_DELAY))
    file = io.BytesIO()
    distance = (MOST_KBITS - kbits) / (MOST_KBITS - LEAST_KBITS)
    soundfile.write(file, padded, SAMPLE_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=distance)

    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return decoded[MP3_DELAY : MP3_DELAY + len(waveform)]


#: What is done to each test clip: nothing, an augmentation of the library with fixed parameters, or a function.
CONDITIONS: dict[str, Augment | Callable[[np.ndarray], np.ndarray] | None] = {
    "clean": None,
    "noise, 20 dB": white_noise(20.0),
    "noise, 10 dB": white_noise(10.0),
    "noise, 0 dB": white_noise(0.0),
    "telephone": WaveformTelephone(p=1.0),
    "MP3, 32 kbit/s": through_mp3,
    "reverberation": WaveformReverb(min_rt60=0.6, max_rt60=0.6, min_drr=0.0, max_drr=0.0, p=1.0),
    "clipping": WaveformClipping(min_overdrive=12.0, max_overdrive=12.0, p=1.0),
    "+12 dB": level(12.0),
    "-12 dB": level(-12.0),
}


def damaged(waveform: np.ndarray, condition: str, position: int) -> np.ndarray:
    """Return a clip as it sounds under a condition.

    Parameters
    ----------
    waveform : ndarray of shape (n,)
        At 16 kHz.
    condition : str
        One of ``CONDITIONS``.
    position : int
        Position of the clip in the protocol, which together with the condition is the seed.

    Returns
    -------
    ndarray of shape (n,), float32
    """
    damage = CONDITIONS[condition]
    if damage is None:
        return waveform
    if not isinstance(damage, Augment):
        return damage(waveform)

    generator = torch.Generator().manual_seed(zlib.crc32(f"{condition} {position}".encode()))
    clip = torch.from_numpy(waveform)[None, :, None]
    batch = Batch(clip, torch.tensor([len(waveform)]), torch.zeros(1), torch.ones(1))
    change = damage.prepare(lambda paths: [], SAMPLE_RATE)
    return change(batch, generator).inputs[0, :, 0].numpy()


# ------------------------------------------------------------------ command line


def main() -> None:
    """Train and test, or report the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    run_parser = commands.add_parser("run", help="train and test")
    run_parser.add_argument("--protocol", nargs="+", choices=sorted(PROTOCOLS), required=True)
    run_parser.add_argument("--model", nargs="+", choices=model_names(), required=True)
    run_parser.add_argument("--condition", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    run_parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ...")
    run_parser.add_argument("--weights", type=Path, help="folder of a pretrained encoder")
    run_parser.add_argument("--budget", type=float, default=600.0, help="seconds of a fit of 'auto'")
    run_parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder that contains the sets")
    run_parser.add_argument("--cache-dir", type=Path, help="folder that keeps the frames of clips")
    run_parser.set_defaults(command=run)

    report_parser = commands.add_parser("report", help="print means over seeds")
    report_parser.set_defaults(command=report)

    for subparser in (run_parser, report_parser):
        subparser.add_argument("--output", type=Path, default=Path("exports/robustness.jsonl"))
    options = parser.parse_args()
    options.command(options)


def run(options: argparse.Namespace) -> None:
    """Train the models, and test them under the conditions that the output does not contain yet."""
    done = {tuple(row[name] for name in KEY) for row in read_rows(options.output)}
    protocols = [load_protocol(name, options.data_dir) for name in options.protocol]
    for protocol, model, seed in product(protocols, options.model, range(options.seeds)):
        fold = next(iter(protocol.folds))
        shown = f"{model} {options.weights.name}" if model in NEED_WEIGHTS and options.weights else model
        trained = {"protocol": protocol.name, "fold": fold, "model": shown, "seed": seed}
        todo = [name for name in options.condition if (*trained.values(), name) not in done]
        if todo:
            run_model(options, protocol, model, trained, todo)


def run_model(
    options: argparse.Namespace, protocol: Protocol, name: str, trained: dict[str, Any], conditions: list[str]
) -> None:
    """Train a model, and append a row for each condition."""
    train, test = protocol.folds[trained["fold"]]
    model = make_model(
        name,
        seed=trained["seed"],
        cache_dir=options.cache_dir,
        weights=options.weights,
        budget=options.budget,
    )
    began = time.perf_counter()
    fit(model, protocol.audio[train], protocol.labels[train], protocol.groups[train])
    seconds = round(time.perf_counter() - began, 1)

    for condition in conditions:
        clips = damaged_clips(tuple(protocol.audio[test]), tuple(test.tolist()), condition)
        predictions = np.asarray(model.predict(clips)).tolist()
        row = {
            **trained,
            "condition": condition,
            **{score: round(value, 4) for score, value in scores(protocol.labels[test], predictions).items()},
            "seconds": seconds,
            "hash": hashlib.sha256("\n".join(predictions).encode()).hexdigest()[:16],
        }
        append_row(options.output, row)


@cache
def damaged_clips(paths: tuple[str, ...], positions: tuple[int, ...], condition: str) -> list[tuple[np.ndarray, int]]:
    """Return the test clips as all models hear them under a condition, each with its sampling rate."""
    clips = []
    for path, position in zip(paths, positions, strict=True):
        clips.append((damaged(load_waveform(path, SAMPLE_RATE), condition, position), SAMPLE_RATE))
    return clips


def report(options: argparse.Namespace) -> None:
    """Print the UAR of each condition and model: mean (spread) over seeds, and the mean loss of each model."""
    rows = pd.DataFrame(read_rows(options.output))
    if rows.empty:
        raise SystemExit(f"{str(options.output)!r} contains no rows: `run` writes them.")
    scored = rows.groupby(["protocol", "condition", "model"], sort=False)["uar"]
    spread = scored.std(ddof=0).map(" ({:.3f})".format).where(scored.size() > 1, "")
    text = scored.mean().map("{:.3f}".format) + spread
    print(text.unstack("model", sort=False).fillna("").to_string())

    # one number for each model: the loss against clean clips, averaged over the other conditions
    means = scored.mean().unstack("condition", sort=False)
    lost = means.drop(columns="clean").rsub(means["clean"], axis=0).mean(axis=1)
    print("\nmean loss over the damaged conditions")
    print(lost.unstack("model", sort=False).map("{:.3f}".format).to_string())
    print(f"\nseeds of a cell: {scored.size().min()} to {scored.size().max()}")


if __name__ == "__main__":
    main()
