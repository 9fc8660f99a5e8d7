"""The benchmark suite: its plain references compute what the library computes, and its counts are right."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch.utils.flop_counter import FlopCounterMode

from skastw.encoders import ASTWEncoder
from skastw.features import LogMel
from skastw.network.model import build_model
from skastw.normalization import NoNormalization
from skastw.pooling import MeanPooling

FOLDER = Path(__file__).parent.parent / "examples" / "benchmarks"


@pytest.fixture
def speed(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("speed", FOLDER / "speed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("references", None)


@pytest.fixture
def benchmark(monkeypatch):
    """Return a function that imports a script; all scripts are forgotten afterwards."""
    monkeypatch.syspath_prepend(FOLDER)
    yield importlib.import_module
    for name, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) and Path(module.__file__).parent == FOLDER:
            del sys.modules[name]


def test_the_plain_network_is_the_default_network(speed):
    plain = speed.references.PlainEncoder(8).eval()
    model = speed.default_model(8).eval()
    state = dict(plain.state_dict())
    for name in list(state):
        new = name.replace("attention.in_proj_", "qkv.").replace("attention.out_proj", "out")
        state[new if new.startswith("head") else f"encoder.{new}"] = state.pop(name)
    model.load_state_dict(state)
    for n in (60, 41):
        frames = torch.randn(n, 80, generator=torch.Generator().manual_seed(n))
        batch, lengths = speed.references.collate([frames], None)
        with torch.inference_mode():
            torch.testing.assert_close(plain(batch, lengths), model.classify(batch, lengths), atol=1e-4, rtol=1e-4)


def test_the_counted_operations_are_those_that_are_run(speed):
    parts = LogMel(), NoNormalization(), ASTWEncoder(num_layers=2, drop_frames=0.0, drop_path=0.0), MeanPooling()
    model = build_model(*parts, n_outputs=8, sample_rate=16000, chunk_length=30.0)
    with FlopCounterMode(display=False) as counter:
        model.classify(torch.randn(4, 96, 80), torch.full((4,), 96)).sum().backward()
    assert counter.get_total_flops() == pytest.approx(speed.model_flops(96, 4, num_layers=2), rel=0.01)


def test_sides_run_in_turn_and_the_first_time_does_not_count(speed):
    calls = []
    seconds = speed.interleave({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert calls == ["a", "b"] * 3
    assert set(seconds) == {"a", "b"}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals and limits of POSIX")
def test_a_run_that_is_stopped_three_times_is_the_run_that_is_not_stopped(tmp_path):
    command = [sys.executable, FOLDER / "batches.py", "--clips", "120", "--block", "8", "--folder", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the same bytes" in result.stdout
    assert "the same table" in result.stdout


@pytest.mark.slow
def test_a_search_with_a_cache_decodes_each_clip_once():
    command = [sys.executable, FOLDER / "cache.py", "--clips", "50", "--epochs", "1"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [line.split()[-3] for line in result.stdout.splitlines()[1:4]] == ["5000", "50", "0"]


@pytest.mark.slow
def test_a_frozen_network_has_the_outputs_of_transformers():
    command = [sys.executable, FOLDER / "frozen.py", "--clips", "10", "--layers", "2", "--target", "inf"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


# ------------------------------------------------------------------ few clips

LABELS = np.array(["cat", "dog", "owl"]).repeat(24)
#: Cats and dogs have six groups of four clips; owls have one group of twenty, and four of one clip.
GROUPS = np.concatenate([np.arange(24) % 6, np.arange(24) % 6, np.maximum(np.arange(24) - 19, 0)])


@pytest.mark.parametrize("size", [1, 2, 5, 6, 20])
def test_a_draw_takes_as_many_clips_of_each_class_from_as_many_groups_as_possible(benchmark, size):
    draw_clips = benchmark("few_clips").draw_clips
    drawn = draw_clips(LABELS, GROUPS, size, 0)
    assert len(set(drawn)) == 3 * size
    for label in np.unique(LABELS):
        of_class = drawn[LABELS[drawn] == label]
        assert len(of_class) == size
        assert len(np.unique(GROUPS[of_class])) == min(size, len(np.unique(GROUPS[label == LABELS])))


def test_a_draw_is_repeatable_and_contains_the_smaller_ones(benchmark):
    draw_clips = benchmark("few_clips").draw_clips
    small, large = draw_clips(LABELS, GROUPS, 3, 1), draw_clips(LABELS, GROUPS, 9, 1)
    assert small.tolist() == draw_clips(LABELS, GROUPS, 3, 1).tolist()
    assert set(small) < set(large)
    assert small.tolist() != draw_clips(LABELS, GROUPS, 3, 2).tolist()


def test_the_figures_are_means_and_spreads_of_runs_in_the_order_of_the_models(benchmark):
    rows = [
        {"protocol": "digits", "model": model, "clips": 2, "uar": uar}
        for model, uar in (("tiny", 0.5), ("small", 0.8), ("tiny", 0.7))
    ]
    summary = benchmark("few_clips").summarized(pd.DataFrame(rows), ["small", "tiny", "absent"])
    assert summary.index.tolist() == [("digits", "small", 2), ("digits", "tiny", 2)]
    np.testing.assert_allclose(summary.to_numpy(), [[0.8, 0.0, 1], [0.6, 0.1, 2]], atol=1e-12)


@pytest.mark.parametrize("name", ["tiny", "descriptors", "statistics-svm", "default", "auto"])
def test_models_have_their_seed_and_folder(benchmark, tmp_path, name):
    model = benchmark("models").make_model(name, seed=7, cache_dir=tmp_path)
    params = {key.rpartition("__")[2]: value for key, value in model.get_params().items()}
    assert params["random_state"] == 7
    assert params["cache_dir"] == tmp_path


def test_a_pretrained_model_needs_weights(benchmark, tmp_path):
    make_model = benchmark("models").make_model
    assert make_model("frozen", seed=0, weights=tmp_path).encoder.weights == str(tmp_path)
    with pytest.raises(SystemExit, match="--weights"):
        make_model("frozen", seed=0)


@pytest.mark.parametrize(
    ("script", "options", "n_rows"),
    [
        ("few_clips", ["--clips", "2", "3", "1000", "--draws", "2"], 4),
        ("robustness", ["--condition", "clean", "clipping", "--seeds", "1"], 2),
    ],
)
def test_a_run_is_resumed_and_reported(benchmark, monkeypatch, capsys, tmp_path, script, options, n_rows):
    module, output = benchmark(script), tmp_path / "rows.jsonl"

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments), "--output", str(output)])
        module.main()
        return capsys.readouterr().out

    run = ("run", "--protocol", "digits", "--model", "statistics-svm", *options)
    main(*run)
    lines = output.read_text().splitlines()
    assert len(lines) == n_rows
    assert all(0.2 < json.loads(line)["uar"] <= 1.0 for line in lines)

    # only the row that is missing is measured again, and it is the same
    output.write_text("\n".join(lines[:-1]) + "\n")
    assert main(*run).count("'uar'") == 1
    assert {**json.loads(output.read_text().splitlines()[-1]), "seconds": 0} == {**json.loads(lines[-1]), "seconds": 0}
    assert "statistics-svm" in main("report")


def test_the_same_rows_give_the_same_picture(benchmark, tmp_path):
    module = benchmark("few_clips")
    rows = [
        {"protocol": protocol, "model": model, "clips": clips, "uar": clips / 20}
        for protocol in ("digits", "esc10")
        for model in ("tiny", "statistics")
        for clips in (2, 5, 10)
    ]
    pictures = []
    for name in ("first.svg", "second.svg"):
        module.draw_picture(module.summarized(pd.DataFrame(rows), ["tiny", "statistics"]), tmp_path / name)
        pictures.append((tmp_path / name).read_text(encoding="utf-8"))
    assert pictures[0] == pictures[1]
    assert all(f">{word}<" in pictures[0] for word in ("tiny", "statistics", "digits", "esc10", "10"))


# ------------------------------------------------------------------ robustness


def speech(n_samples=12345):
    """Return a buzz of 120 Hz with a slow melody of loudness, so that it has harmonics up to 8 kHz."""
    time = np.arange(n_samples) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 120 * time)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (0.1 * buzz).astype(np.float32)


def decibels(power):
    return 10 * np.log10(power)


def test_damaged_clips_keep_their_length_and_are_the_same_every_time(benchmark):
    robustness, waveform = benchmark("robustness"), speech()
    for condition in robustness.CONDITIONS:
        clip = robustness.damaged(waveform, condition, 3)
        assert clip.shape == waveform.shape
        assert clip.dtype == np.float32
        assert np.isfinite(clip).all()
        np.testing.assert_array_equal(clip, robustness.damaged(waveform, condition, 3))
        assert (condition == "clean") == np.array_equal(clip, waveform)


@pytest.mark.parametrize("condition", ["noise, 10 dB", "reverberation"])
def test_each_clip_has_its_own_noise(benchmark, condition):
    damaged, waveform = benchmark("robustness").damaged, speech()
    assert not np.array_equal(damaged(waveform, condition, 3), damaged(waveform, condition, 4))


@pytest.mark.parametrize("snr", [20, 10, 0])
def test_noise_has_the_ratio_of_its_name_and_is_white(benchmark, snr):
    waveform = speech()
    noise = benchmark("robustness").damaged(waveform, f"noise, {snr} dB", 0) - waveform
    assert decibels(np.mean(waveform**2) / np.mean(noise**2)) == pytest.approx(snr, abs=0.01)
    low, high = np.array_split(np.abs(np.fft.rfft(noise)) ** 2, 2)
    assert decibels(low.mean() / high.mean()) == pytest.approx(0, abs=0.5)


def test_a_telephone_passes_300_to_3400_hz(benchmark):
    damaged = benchmark("robustness").damaged
    time = np.arange(16000) / 16000
    passed = {}
    for frequency in (100, 1000, 5000):
        tone = np.sin(2 * np.pi * frequency * time).astype(np.float32)
        passed[frequency] = decibels(np.mean(damaged(tone, "telephone", 0)[2000:-2000] ** 2) / 0.5)
    assert passed[1000] == pytest.approx(0, abs=0.2)
    assert max(passed[100], passed[5000]) < -30


def test_mp3_has_its_bit_rate_and_is_not_delayed(benchmark, monkeypatch):
    robustness, sizes = benchmark("robustness"), []
    write = soundfile.write

    def counted(file, *args, **kwargs):
        write(file, *args, **kwargs)
        sizes.append(8 * file.tell())

    monkeypatch.setattr(soundfile, "write", counted)
    waveform = np.convolve(np.random.default_rng(0).standard_normal(160000), np.hanning(40), "same")
    waveform = (0.2 * waveform / np.abs(waveform).max()).astype(np.float32)
    decoded = robustness.through_mp3(waveform)
    assert sizes[0] / 10 == pytest.approx(32000, rel=0.02)
    assert decibels(np.mean(waveform**2) / np.mean((decoded - waveform) ** 2)) > 15


def test_levels_and_clipping(benchmark):
    damaged, waveform = benchmark("robustness").damaged, speech()
    for gain in (12, -12):
        np.testing.assert_allclose(damaged(waveform, f"{gain:+d} dB", 0), waveform * 10 ** (gain / 20), rtol=1e-5)
    clipped = damaged(waveform, "clipping", 0)
    assert np.abs(clipped).max() == np.abs(waveform).max()
    assert np.mean(np.abs(clipped) == np.abs(waveform).max()) > 0.5


#: Folders of the data sets, and of ``pretrained.pt`` of the package Resemblyzer.
DATA, VOICES = (os.environ.get(name) for name in ("SKASTW_DATA", "SKASTW_RESEMBLYZER"))


@pytest.mark.slow
@pytest.mark.skipif(not (DATA and VOICES), reason="set SKASTW_DATA and SKASTW_RESEMBLYZER to folders")
@pytest.mark.parametrize(("protocol", "least"), [("r4", 0.78), ("esc10", 0.77)])
def test_a_frozen_voice_encoder_recognises_emotions_and_sounds(monkeypatch, tmp_path, protocol, least):
    monkeypatch.syspath_prepend(FOLDER)
    pretrained = importlib.import_module("pretrained")
    chosen = pretrained.load_protocol(protocol, Path(DATA))
    model = pretrained.logistic(Path(VOICES) / "pretrained.pt", str(tmp_path), seed=0)
    predicted = pretrained.predictions(chosen, model)
    right = [predicted[fold] == chosen.labels[test] for fold, (_, test) in chosen.folds.items()]
    assert np.concatenate(right).mean() >= least
