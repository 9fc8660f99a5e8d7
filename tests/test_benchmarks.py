"""The benchmark suite: its plain references compute what the library computes, and its counts are right."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
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
