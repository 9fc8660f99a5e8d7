"""Measure the speed of skastw relative to plain PyTorch, librosa and transformers, as ratios within one run.

Each measurement alternates between the candidates and compares their medians, so that a temporary slowdown of the
machine affects all of them. The sub-command ``machine`` measures the limits of the machine.

    python examples/benchmarks/speed.py train --data-dir path/to/data
    python examples/benchmarks/speed.py all --data-dir path/to/data --json speed.json

``--data-dir`` contains ``ravdess/Actor_XX/*.flac`` and ``esc10/audio/*.ogg``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import references
import torch

from skastw import ASTWClassifier
from skastw.audio import load_waveform
from skastw.augment import Audiomentations, Augment, NestedAugment
from skastw.core.batching import Batch, round_length, shuffled_buckets
from skastw.core.component import component_names, resolve_component
from skastw.core.device import autocast, has_native_bfloat16, resolve_device
from skastw.data.dataset import Data
from skastw.data.extraction import extract_frames
from skastw.data.frames import FrameSet, FrameStore
from skastw.encoders import ASTWEncoder
from skastw.features import LogMel
from skastw.network.components import resolve_components
from skastw.network.model import build_model
from skastw.normalization import NoNormalization
from skastw.pooling import MeanPooling
from skastw.targets import SingleLabel
from skastw.training import Run, TrainingSettings, train
from skastw.training.optim import OptimizerParams, build_optimizers

Row = dict[str, Any]
BATCH = 16


def main() -> None:
    """Run the requested measurements and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["all", *MEASUREMENTS], help="what to measure")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of ravdess and esc10")
    parser.add_argument("--threads", type=int, help="threads of torch; by default chosen by torch")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each candidate")
    parser.add_argument("--clips", type=int, default=20_000, help="clips for measuring memory")
    parser.add_argument("--json", type=Path, help="write the rows to this file too")
    options = parser.parse_args()

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    chosen = (
        [name for name in MEASUREMENTS if name not in ("memory", "gpu")] if options.what == "all" else [options.what]
    )

    rows = []
    for name in chosen:
        for row in MEASUREMENTS[name](options):
            rows.append({"measurement": name, **row})
            target = f"target {row['target']}" if row.get("target") else ""
            print(f"{name:<9} {row['what']:<66} {row['value']:>8.3f} {row['unit']:<12} {target}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def interleave(sides: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Run each candidate once to warm it up, then all in turn; return the median seconds of each."""
    for run in sides.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(what: str, value: float, unit: str = "x", target: str = "") -> Row:
    """Return one line of the table."""
    return {"what": what, "value": value, "unit": unit, "target": target}


# ----------------------------------------------------------------- data


def ravdess(data_dir: Path, n: int | None = None) -> list[str]:
    """Return random recordings of all actors."""
    paths = [str(path) for path in sorted(data_dir.glob("ravdess/Actor_*/*.flac"))]
    return chosen(paths, n, data_dir)


def esc10(data_dir: Path, n: int | None = None) -> list[str]:
    """Return recordings of ESC-10."""
    return chosen([str(path) for path in sorted(data_dir.glob("esc10/audio/*.ogg"))], n, data_dir)


def chosen(paths: list[str], n: int | None, data_dir: Path) -> list[str]:
    """Return n paths at random."""
    if not paths:
        raise SystemExit(
            f"No recordings under {str(data_dir)!r}: expected ravdess/Actor_XX/*.flac and esc10/audio/*.ogg."
        )
    order = np.random.default_rng(0).permutation(len(paths))[:n]
    return [paths[i] for i in order]


def log_mel(paths: list[str]) -> list[torch.Tensor]:
    """Return the frames of clips."""
    return [outcome.result for outcome in extract_frames(paths, LogMel().build(16000), sample_rate=16000)]


def default_model(n_outputs: int = 8) -> torch.nn.Module:
    """Return the default network with fresh weights."""
    encoder = ASTWEncoder(drop_frames=0.0, drop_path=0.0)  # all frames and blocks, as in the references
    parts = LogMel(), NoNormalization(), encoder, MeanPooling()
    return build_model(*parts, n_outputs=n_outputs, sample_rate=16000, chunk_length=30.0)


# ------------------------------------------------------ limits of the machine


def products(n_frames: int, batch: int, dtype: torch.dtype, device: str = "cpu") -> tuple[Callable[[], None], float]:
    """Return the matrix products of a block of the default network, forwards and backwards, and their FLOPs."""
    rows = batch * n_frames // 2
    operands = []
    for n_in, n_out in ((384, 1152), (384, 384), (384, 1536), (1536, 384)):
        x, w = torch.randn(rows, n_in, dtype=dtype, device=device), torch.randn(n_out, n_in, dtype=dtype, device=device)
        operands.append((x, w, torch.randn(rows, n_out, dtype=dtype, device=device)))

    def run() -> None:
        for x, w, gradient in operands:
            x @ w.T
            gradient @ w
            gradient.T @ x

    return run, sum(3 * 2 * x.shape[0] * w.numel() for x, w, _ in operands)


def machine(options: argparse.Namespace) -> Iterator[Row]:
    """Measure matrix products with the shapes of a block, and the memory bandwidth."""
    for dtype in (torch.float32, torch.bfloat16):
        run, flops = products(376, BATCH, dtype)
        seconds = interleave({"products": run}, 5 * options.repeats)["products"]
        yield row(f"matrix products of a block, {str(dtype)[6:]}", flops / seconds / 1e12, "TFLOP/s")
    source = torch.randn(64 * 2**20)
    target = torch.empty_like(source)
    seconds = interleave({"copy": lambda: target.copy_(source)}, 2 * options.repeats)["copy"]
    yield row("memory bandwidth, copy of 256 MB", 2 * source.nbytes / seconds / 1e9, "GB/s")


# ------------------------------------------------------------------ training


def training(options: argparse.Namespace) -> Iterator[Row]:
    """Measure clips per second in an epoch, and with the same network in plain PyTorch."""
    paths = ravdess(options.data_dir, 320)
    frames = log_mel(paths)
    targets = torch.tensor([int(Path(path).stem.split("-")[2]) - 1 for path in paths])
    data = FrameSet(FrameStore(frames), targets, torch.ones(len(frames)))
    model = default_model()
    plain = references.PlainEncoder(8)
    theirs = references.plain_optimizers(plain)
    run = default_run(model, 8, training_settings())
    rng = np.random.default_rng(0)

    def skastw_epoch() -> None:
        from skastw.core.device import retained_heap

        run.epoch, run.done = 0, False
        with retained_heap():
            train(run, Data(data, None, "no validation"))

    def plain_steps(n: int, pad_to: int | None) -> None:
        for _ in range(n):
            index = rng.permutation(len(frames))[:BATCH]
            references.train_step(plain, theirs, [frames[i] for i in index], targets[index], pad_to=pad_to)

    n_r2 = 6
    median = interleave(
        {
            "skastw": skastw_epoch,
            "R1": lambda: plain_steps(1, 3000),
            "R2": lambda: plain_steps(n_r2, None),
        },
        options.repeats,
    )
    rates = {"skastw": len(frames) / median["skastw"], "R1": BATCH / median["R1"], "R2": n_r2 * BATCH / median["R2"]}
    for name, rate in rates.items():
        yield row(f"training, {name}", rate, "clips/s")
    yield row("training / R1 (float32, padded to 30 s)", rates["skastw"] / rates["R1"], target=">= 22")
    yield row("training / R2 (float32, padded to the batch's longest)", rates["skastw"] / rates["R2"], target=">= 2")


def training_settings() -> TrainingSettings:
    """Return the default settings, for one epoch."""
    machine = {"device": resolve_device("cpu"), "precision": "auto", "seed": 0, "verbose": 0}
    return TrainingSettings(epochs=1, patience=None, batch_size=BATCH, **machine)


def default_run(model: torch.nn.Module, n_classes: int, settings: TrainingSettings) -> Run:
    """Return a training run of the default classifier."""
    clf, targets = ASTWClassifier(), SingleLabel(np.arange(n_classes))
    transforms = [augmentation.apply for augmentation in resolve_components(clf).augment]
    loss = partial(targets.loss, label_smoothing=clf.label_smoothing)
    return Run(model, targets, settings, loss=loss, transforms=transforms)


def model_flops(n_frames: int, batch: int, *, d_model: int = 384, num_layers: int = 8) -> float:
    """Return the FLOPs of matrix products and convolutions, forwards and backwards, of the default network."""
    tokens = batch * n_frames // 2
    stem = 2 * batch * n_frames * 3 * 80 * d_model + 2 * tokens * 3 * d_model**2
    stem_backward = stem + 2 * tokens * 3 * d_model**2  # the input of the first convolution needs no gradient
    block = 2 * tokens * 12 * d_model**2 + 4 * tokens * (n_frames // 2) * d_model
    return stem + stem_backward + 3 * num_layers * block


def step(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the parts of a training step."""
    from skastw.core.device import retained_heap

    n_frames = 376
    model = default_model().train()
    optimizers = build_optimizers(model, OptimizerParams()).values()
    frames, targets = torch.randn(BATCH, n_frames, 80), torch.randint(8, (BATCH,))
    lengths = torch.full((BATCH,), n_frames) - torch.arange(BATCH)

    def forward_backward() -> None:
        with autocast("auto", torch.device("cpu")):
            logits = model.classify(frames, lengths)
        torch.nn.functional.cross_entropy(logits, targets).backward()

    def optimizer_step() -> None:
        for optimizer in optimizers:
            optimizer.step()
        # without gradients, so that the next forward_backward does the same work as in training
        for weight in model.parameters():
            weight.grad = None

    def with_gradients(run: Callable[[], None]) -> Callable[[], None]:
        gradients = [torch.randn_like(weight) for weight in model.parameters()]

        def prepared() -> None:
            for weight, gradient in zip(model.parameters(), gradients, strict=True):
                weight.grad = gradient
            run()

        return prepared

    dtype = torch.bfloat16 if has_native_bfloat16(torch.device("cpu")) else torch.float32
    run, flops = products(n_frames, BATCH, dtype)
    with retained_heap():
        median = interleave(
            {"products": run, "forward, backward": forward_backward, "optimisers": with_gradients(optimizer_step)},
            3 * options.repeats,
        )
    rate = flops / median["products"]
    reached = model_flops(n_frames, BATCH) / median["forward, backward"]
    yield row(f"rate of bare matrix products, {str(dtype)[6:]}", rate / 1e12, "TFLOP/s")
    yield row("rate of forward + backward", reached / 1e12, "TFLOP/s")
    yield row("forward + backward / bare matrix products", reached / rate, "", ">= 0.65")
    whole = median["forward, backward"] + median["optimisers"]
    yield row("optimisers' share of a step", median["optimisers"] / whole, "", "<= 0.15")


def padding(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the ratio of padded to real frames in an epoch."""
    lengths = np.array([len(frames) for frames in log_mel(ravdess(options.data_dir))])
    rng = np.random.default_rng(0)
    padded, random = 0, 0
    epochs = 10
    seen = set()

    for _ in range(epochs):
        batches = shuffled_buckets(lengths, BATCH, rng)
        padded += sum(round_length(int(lengths[batch].max()), 3000) * len(batch) for batch in batches)
        seen |= {tuple(sorted(batch)) for batch in batches}

        # R2 draws batches at random
        order = rng.permutation(len(lengths))
        random += sum(
            lengths[order[i : i + BATCH]].max() * len(order[i : i + BATCH]) for i in range(0, len(order), BATCH)
        )

    yield row("padded / real frames", padded / lengths.sum() / epochs, "", "<= 1.08")
    yield row("padded / real frames of batches drawn at random (R2)", random / lengths.sum() / epochs, "")
    n_batches = epochs * -(-len(lengths) // BATCH)
    yield row("batches that an earlier epoch had too", 1 - len(seen) / n_batches, "")


# ------------------------------------------------------------------ inference


def small_fit(frames: list[torch.Tensor], **settings: Any) -> ASTWClassifier:
    """Return a fitted default classifier that takes frames."""
    y = np.arange(len(frames[:8])) % 8
    return ASTWClassifier(features="precomputed", epochs=1, val_split=None, **settings).fit(frames[:8], y)


def predict(options: argparse.Namespace) -> Iterator[Row]:
    """Measure clips per second of predict_proba, in batches and one by one."""
    frames = log_mel(ravdess(options.data_dir, 320))
    clf = small_fit(frames)
    plain = references.PlainEncoder(8)
    model = clf.model_

    def ours(precision: str) -> Callable[[], Any]:
        return lambda: clf.set_params(precision=precision).predict_proba(frames)

    median = interleave(
        {
            "float32": ours("float32"),
            "bfloat16": ours("bfloat16"),
            "R2": lambda: references.evaluate(plain, frames, BATCH),
        },
        options.repeats,
    )
    for name in median:
        yield row(f"predict_proba, {name}", len(frames) / median[name], "clips/s")
    yield row("predict_proba, float32 / R2", median["R2"] / median["float32"], target=">= 1.4")
    yield row("predict_proba, bfloat16 / R2", median["R2"] / median["bfloat16"], target=">= 2.5")

    clf.set_params(precision="float32")
    clip = frames[0]

    @torch.inference_mode()
    def bare() -> None:
        model.classify(clip[None], torch.tensor([len(clip)]))

    median = interleave({"one": lambda: clf.predict_proba([clip]), "bare": bare}, 10 * options.repeats)
    yield row("one clip: predict_proba / the bare module", median["one"] / median["bare"], target="<= 1.3")


def latency(options: argparse.Namespace) -> Iterator[Row]:
    """Measure milliseconds per clip of predictions by recipes, from waveforms at their rate: alone and in batches."""
    for recipe, target in (("small", "<= 10"), ("tiny", ""), ("environmental", "")):
        clf = ASTWClassifier.from_recipe(recipe).set_params(epochs=1, min_steps=0, batch_size=BATCH)
        paths = ravdess(options.data_dir, 4 * BATCH)
        clips = [(load_waveform(path, clf.sample_rate), clf.sample_rate) for path in paths]
        clf.fit(clips[:BATCH], np.arange(BATCH) % 4)
        for precision in ("float32", "bfloat16"):
            clf.set_params(precision=precision)
            one = interleave({"one": partial(clf.predict_proba, clips[:1])}, 20 * options.repeats)["one"]
            many = interleave({"all": partial(clf.predict_proba, clips)}, options.repeats)["all"]
            yield row(f"{recipe}, {precision}: one clip alone", 1000 * one, "ms", target)
            yield row(f"{recipe}, {precision}: one of {BATCH}", 1000 * many / len(clips), "ms", target)


# ------------------------------------------------------------------- features


def features(options: argparse.Namespace) -> Iterator[Row]:
    """Measure clips per second from file to log-mel, in one thread and in two."""
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(limits=1):
        yield from features_in_one_thread(options)
    torch.set_num_threads(threads)


def features_in_one_thread(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the front end while libraries start no threads of their own."""
    import librosa
    from transformers import WhisperFeatureExtractor

    front_end = LogMel().build(16000)
    whisper = WhisperFeatureExtractor(feature_size=80)
    for name, paths in (("RAVDESS", ravdess(options.data_dir, 64)), ("ESC-10", esc10(options.data_dir, 64))):
        median = interleave(
            {
                "skastw": lambda paths=paths: list(extract_frames(paths, front_end, sample_rate=16000)),
                "R3": lambda paths=paths: [references.librosa_features(path) for path in paths],
                "two": lambda paths=paths: list(extract_frames(paths, front_end, sample_rate=16000, n_jobs=2)),
            },
            options.repeats,
        )
        yield row(f"{name}: decode, resample, log-mel, one thread", len(paths) / median["skastw"], "clips/s")
        yield row(f"{name}: the same / R3 (librosa)", median["R3"] / median["skastw"], target=">= 2")
        yield row(f"{name}: n_jobs=2 / n_jobs=1", median["skastw"] / median["two"], target=">= 1.8")

    waveforms = [librosa.load(path, sr=16000)[0] for path in ravdess(options.data_dir, 64)]
    median = interleave(
        {
            "skastw": lambda: list(extract_frames(waveforms, front_end, sample_rate=16000)),
            "librosa": lambda: [
                librosa.feature.melspectrogram(y=w, sr=16000, n_fft=400, hop_length=160, n_mels=80) for w in waveforms
            ],
            "R4": lambda: [whisper(w, sampling_rate=16000, padding="longest", return_tensors="pt") for w in waveforms],
        },
        options.repeats,
    )
    yield row("log-mel alone", len(waveforms) / median["skastw"], "clips/s")
    yield row("log-mel alone / librosa", median["librosa"] / median["skastw"], target=">= 4")
    yield row("log-mel alone / R4 (WhisperFeatureExtractor)", median["R4"] / median["skastw"], target=">= 2")


# ------------------------------------------------------------- start, load, memory


def python(code: str) -> Callable[[], Any]:
    """Return a call that runs code in a new interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


IMPORT = """
import time, torch, sklearn
began = time.perf_counter()
import skastw
skastw.ASTWClassifier
print(time.perf_counter() - began)
"""


def start(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the seconds to import, to print the help, and to predict a clip from the command line."""
    from skastw.datasets import load_spoken_digits

    clips = load_spoken_digits()
    skastw = [str(Path(sys.executable).with_name("skastw"))]
    with tempfile.TemporaryDirectory() as folder:
        default_folder(folder, clips)
        clip = str(clips.data[0])
        median = interleave(
            {
                "base": python("import torch, sklearn"),
                "help": lambda: subprocess.run([*skastw, "--help"], check=True, capture_output=True),
                "predict": lambda: subprocess.run(
                    [*skastw, "predict", clip, "--model", folder], check=True, capture_output=True
                ),
            },
            2 * options.repeats,
        )
        loaded = ASTWClassifier.from_pretrained(folder)
        inside = interleave(
            {"load": lambda: ASTWClassifier.from_pretrained(folder), "forward": lambda: loaded.predict_proba([clip])},
            2 * options.repeats,
        )
    yield row("import torch, sklearn", median["base"], "s")
    beyond = [float(python(IMPORT)().stdout) for _ in range(2 * options.repeats)]
    yield row("import skastw beyond that", statistics.median(beyond), "s", "<= 0.15")
    yield row("skastw --help", median["help"], "s", "<= 0.4")
    yield row("skastw predict", median["predict"], "s")
    whole = median["base"] + inside["load"] + inside["forward"]
    yield row("skastw predict / (import + load + forward)", median["predict"] / whole, target="<= 1.25")
    yield row("from_pretrained of the default model", inside["load"], "s", "<= 0.25")


def default_folder(folder: str, clips: Any) -> None:
    """Save a default classifier after one epoch on a few clips."""
    ASTWClassifier(epochs=1, val_split=None).fit(clips.data[::20], clips.target[::20]).save_pretrained(folder)


FIT = """
import resource, sys, numpy as np
from skastw import ASTWClassifier
from skastw.encoders import ASTWEncoder
import torch
folder, n, cache, small = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "small"
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
paths = [f"{folder}/{i % 20000:05d}.wav" for i in range(n)]
encoder = ASTWEncoder(d_model=64, num_heads=2, num_layers=1) if small else "astw"
clf = ASTWClassifier(encoder=encoder, epochs=1, cache=cache)
idle = peak()
import time
began = time.perf_counter()
clf.fit(paths, np.arange(n) % 5)
print(peak() - idle, time.perf_counter() - began, clf.history_[0]["seconds"])
"""


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the peak memory of ``fit`` above the idle process, by number of clips and by cache."""
    import soundfile

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.clips):
            soundfile.write(f"{folder}/{i:05d}.wav", 0.1 * rng.standard_normal(80_000).astype(np.float32), 16000)
        few = options.clips // 10
        for n, cache, size, target in (
            (few, "auto", "default", "<= 1.5"),
            (few, "auto", "small", ""),
            (options.clips, "auto", "small", "<= 1.5"),
            (options.clips, "disk", "small", ""),
            (few, "memory", "small", ""),
        ):
            command = [sys.executable, "-c", FIT, folder, str(n), cache, size]
            result = subprocess.run(command, check=True, capture_output=True, text=True)
            gigabytes, seconds, epoch = map(float, result.stdout.split())
            what = f"fit of {n} clips, {size} model, cache={cache!r}"
            yield row(f"{what}: peak memory above idle", gigabytes, "GB", target)
            yield row(f"{what}: epoch's share of the time", epoch / seconds, "")


# -------------------------------------------------------------------- search


def search(options: argparse.Namespace) -> Iterator[Row]:
    """Measure a search with four small candidates, in one process and in two."""
    from sklearn.model_selection import GridSearchCV

    X = ravdess(options.data_dir, 320)
    y = [Path(path).stem.split("-")[2] for path in X]
    clf = ASTWClassifier(encoder=ASTWEncoder(d_model=64, num_heads=2, num_layers=2), epochs=8, val_split=None)
    grid = {"muon_lr": [0.003, 0.01], "adam_lr": [1e-4, 3e-4]}

    def run(n_jobs: int) -> Callable[[], Any]:
        return lambda: GridSearchCV(clf, grid, cv=3, n_jobs=n_jobs, refit=False).fit(X, y)

    median = interleave({"one": run(1), "two": run(2)}, max(1, options.repeats // 2))
    yield row("GridSearchCV of four candidates, three folds, n_jobs=1", median["one"], "s")
    yield row("GridSearchCV of four candidates, n_jobs=2 / n_jobs=1", median["one"] / median["two"], target=">= 1.7")


# -------------------------------------------------------------- augmentations


def augmentations(options: argparse.Namespace) -> Iterator[Row]:
    """Measure each augmentation with its defaults, as a share of a training step of the recipe ``small``."""
    recipe = ASTWClassifier.from_recipe("small")
    components, device = resolve_components(recipe), torch.device("cpu")
    model = components.build(4).train()
    optimizers = build_optimizers(model, OptimizerParams(adam_lr=1e-3)).values()
    inputs = torch.rand(BATCH, 224, components.features.n_mels)
    batch = Batch(inputs, torch.full((BATCH,), 224), torch.arange(BATCH) % 4, torch.ones(BATCH))
    n_samples = round(224 / components.features.frames_per_second(components.sample_rate) * components.sample_rate)
    waveforms = replace(batch, inputs=torch.randn(BATCH, n_samples, 1), lengths=torch.full((BATCH,), n_samples))
    generator = torch.Generator().manual_seed(0)

    def training_step() -> None:
        with autocast("auto", device):
            logits = model.classify(batch.inputs, batch.lengths)
        torch.nn.functional.cross_entropy(logits, batch.targets).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def ten_times(augmentation: Augment) -> Callable[[], None]:
        inputs = waveforms if augmentation.stage == "waveform" else batch
        recordings = [torch.rand(2000, inputs.inputs.shape[2])]
        transform = augmentation.prepare(lambda paths: recordings, components.sample_rate)
        return lambda: [transform(inputs, generator) for _ in range(10)] and None

    chosen = [resolve_component(Augment, name) for name in component_names("augment")]
    chosen = [item for item in chosen if not isinstance(item, NestedAugment | Audiomentations)]  # they need parts
    for augmentation in chosen:
        if augmentation.name.endswith("background"):
            augmentation.set_params(paths=["background"])

    sides = {"step": training_step} | {augmentation.name: ten_times(augmentation) for augmentation in chosen}
    seconds = interleave(sides, options.repeats)
    for augmentation in chosen:
        share = seconds[augmentation.name] / 10 / seconds["step"]
        target = "< 0.1" if augmentation.stage == "frames" else ""
        yield row(f"{augmentation.name} / training step of small, batch {BATCH}", share, target=target)


# ----------------------------------------------------------------------- GPU


def gpu(options: argparse.Namespace) -> Iterator[Row]:
    """Measure the default network with clips as in ESC-50: 5 s, batch size 64."""
    if not torch.cuda.is_available():
        raise SystemExit("No CUDA device was found; this measurement needs one.")
    device, batch, n_frames = torch.device("cuda"), 64, 500
    rng = np.random.default_rng(0)
    data = FrameSet(
        FrameStore([torch.randn(n_frames, 80) for _ in range(1600)]), torch.arange(1600) % 50, torch.ones(1600)
    )
    model = default_model(50).to(device)
    training_run = default_run(model, 50, replace(training_settings(), batch_size=batch, device=device))

    def epoch() -> None:
        training_run.epoch, training_run.done = 0, False
        train(training_run, Data(data, None, "no validation"))
        torch.cuda.synchronize()

    run, flops = products(n_frames, batch, torch.bfloat16, "cuda")

    def timed_products() -> None:
        for _ in range(100):
            run()
        torch.cuda.synchronize()

    median = interleave({"epoch": epoch, "products": timed_products}, options.repeats)
    rate = 100 * flops / median["products"]
    yield row("training", 1600 / median["epoch"], "clips/s")
    yield row("rate of bare matrix products, bfloat16", rate / 1e12, "TFLOP/s")
    reached = model_flops(n_frames, batch) * (1600 / batch) / median["epoch"]
    yield row("training / bare matrix products", reached / rate, "", ">= 0.4")
    X = [(0.1 * rng.standard_normal(80_000)).astype(np.float32) for _ in range(1600)]
    began = time.perf_counter()
    ASTWClassifier(batch_size=batch).fit(X, np.arange(1600) % 50)
    yield row("default fit on 1600 clips", time.perf_counter() - began, "s")


MEASUREMENTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "machine": machine,
    "train": training,
    "step": step,
    "padding": padding,
    "predict": predict,
    "latency": latency,
    "features": features,
    "start": start,
    "search": search,
    "augment": augmentations,
    "memory": memory,
    "gpu": gpu,
}

if __name__ == "__main__":
    main()
