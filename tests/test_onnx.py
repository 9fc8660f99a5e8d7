"""One ONNX file computes what the library does, for clips of any length, and needs no torch to run."""

import errno
import io
import json
import logging
import subprocess
import sys
import warnings
from functools import cache
from itertools import cycle
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from torch import nn

from helpers import EXAMPLES, registered, torch_seed, with_sizes
from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor, __version__
from skastw.artifact import onnx as export
from skastw.artifact.onnx import FourierPower, write_onnx
from skastw.cli import cli
from skastw.core.batching import split_evenly
from skastw.core.component import component_names, resolve_component
from skastw.core.spectra import centred_windows, power_spectrum
from skastw.datasets import load_spoken_digits, make_tones
from skastw.encoders import Encoder, EncoderModule, ParallelCNNEncoder, RNNEncoder
from skastw.errors import ArtifactError, ExportError, MissingDependencyError, OutputError
from skastw.features import (
    LEAF,
    MFCC,
    PCEN,
    STFT,
    FBank,
    Features,
    FeaturesModule,
    Frozen,
    GroupDelay,
    LogMel,
    MelSpectrogram,
    OnnxFeatures,
    Precomputed,
    STFTPhase,
    Waveform,
)
from skastw.features._base import WholeClipFeatures
from skastw.network.model import build_model
from skastw.network.trained import Trained
from skastw.normalization import NoNormalization, Normalization, PerBinNormalization
from skastw.pooling import MeanPooling, Pooling
from skastw.targets import SingleLabel

SIZES = {"d_model": 32, "num_heads": 2, "num_layers": 1, "width": 8, "num_blocks": 1}
SIZES |= {"channels": 32, "hidden": 32, "embedding": 32, "se_channels": 8, "patch_frames": 4}
TINY = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)
CLIPS, Y = make_tones(n_clips=18, n_classes=3, random_state=0)
#: Beside chunks of half a second: a sample, an odd number of frames, a chunk, a bit more, several chunks.
CHUNK_LENGTH = 0.5
N_SAMPLES = (1, 2083, 8000, 8161, 30001)


def waveforms(n_samples, n_clips=2):
    """Return noise that fades, (n_clips, n_samples)."""
    noise = np.random.default_rng(n_samples).normal(size=(n_clips, n_samples))
    return (noise * np.linspace(0.5, 1e-4, n_samples)).astype(np.float32)


def trained_by_chance(features, normalization, encoder, pooling, **settings):
    """Return a model whose weights and statistics are all away from their first values."""
    generator = torch.Generator().manual_seed(0)
    settings = {"n_outputs": 3, "sample_rate": 16000, "chunk_length": CHUNK_LENGTH, **settings}
    with torch_seed(0):
        model = build_model(features, normalization, encoder, pooling, **settings).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    if hasattr(model.normalization, "mean"):
        model.normalization.mean.normal_(0, 0.1, generator=generator)
        model.normalization.scale.uniform_(0.5, 2, generator=generator)
    return model


def logits_of_the_library(model, clips):
    """Return what prediction averages: the logits of the chunks of each clip alone."""
    logits = []
    with torch.inference_mode():
        for clip in torch.from_numpy(clips):
            frames, lengths = model.features(clip[None], torch.tensor([len(clip)]))
            chunks = [frames[:, start:stop] for start, stop in split_evenly(int(lengths), model.max_frames)]
            logits.append(torch.cat([model.classify(c, torch.tensor([c.shape[1]])) for c in chunks]).mean(dim=0))
    return torch.stack(logits).numpy()


def written(path, model, **names):
    """Export a network as the model of three classes, whose components are called ``names``."""
    named = {kind: SimpleNamespace(name=names.get(kind, "mine")) for kind in ("normalization", "encoder", "pooling")}
    features = SimpleNamespace(name=names.get("features", "mine"), build=lambda rate: model.features)
    parts = {"features": features, **named}
    components = SimpleNamespace(features=features, parts=parts, sample_rate=16000, chunk_length=CHUNK_LENGTH)
    return write_onnx(path, Trained(components, model, SingleLabel(np.array(["a", "b", "c"])), None))


def session_of(model):
    content = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


class Stretches(FeaturesModule):
    """A front end of one's own, which torch exports in no time: the waveform in stretches of 160 samples."""

    n_features = 20

    def forward(self, waveform, lengths):
        frames = nn.functional.pad(waveform, (0, 160))[:, : (waveform.shape[1] + 159) // 160 * 160].unflatten(
            1, (-1, 160)
        )
        return 10 * frames[:, :, ::8], (lengths + 159) // 160


@cache
def graph_of_stretches(make=export._front_end_graph):
    return make(Stretches(), {})


# ------------------------------------------------------------------ every component


#: Encoders whose exports ``test_transformers.py`` tests, because they take samples.
OF_SAMPLES = ("transformers",)
#: Encoders that are made of the blocks of others, which are exported in each run of the tests.
OF_KNOWN_BLOCKS = ("cnn14", "conv_transformer", "crnn", "patch_transformer", "stacked_cnn")


def combinations():
    """Yield each encoder, with the normalizations and poolings in turn, so that each of them is there."""
    normalizations, poolings = (
        cycle([resolve_component(base, name) for name in component_names(base.kind)])
        for base in (Normalization, Pooling)
    )
    names = sorted(set(component_names("encoder")) - set(OF_SAMPLES))
    names.sort(key=OF_KNOWN_BLOCKS.__contains__)
    encoders = [EXAMPLES.get(("encoder", name)) or resolve_component(Encoder, name) for name in names]
    encoders = [with_sizes(encoder, SIZES) for encoder in encoders]
    gru, lstm = RNNEncoder(cell="gru", num_layers=2, hidden=32), RNNEncoder(cell="lstm", bidirectional=True, hidden=32)
    for encoder in (gru, lstm, *encoders):
        parts = next(normalizations), encoder, next(poolings)
        yield pytest.param(parts, marks=[pytest.mark.slow] * (encoder.name in OF_KNOWN_BLOCKS))


COMBINATIONS = list(combinations())
OTHER_FRONT_ENDS = [
    FBank(snip_edges=False, n_fft=400),
    MelSpectrogram(pad_mode="reflect"),
    STFT(n_fft=512, preemphasis=0.9),
    STFTPhase(scale="magnitude"),
    GroupDelay(),
    Waveform(),
    LEAF(n_filters=8, win_length=201),
]
FRONT_ENDS = [LogMel(n_fft=256, win_length=200, hop_length=100, n_mels=20), MFCC(n_mfcc=20, deltas=2), PCEN()]


def test_each_component_is_in_one_of_the_combinations():
    often = [parts for (parts,), marks, _ in COMBINATIONS if not marks]
    for position, base in enumerate((Normalization, Encoder, Pooling)):
        assert {parts[position].name for parts in often} == set(component_names(base.kind)) - {
            *OF_KNOWN_BLOCKS,
            *OF_SAMPLES,
        }
    front_ends = {component.name for component in (*FRONT_ENDS, *OTHER_FRONT_ENDS)}
    of_whole_clips = {c.name for c in registered(Features) if isinstance(c, WholeClipFeatures)}  # no graph has them
    expected = set(component_names("features")) - {Precomputed.name, Frozen.name, OnnxFeatures.name}
    assert front_ends == expected - of_whole_clips


def check_at_every_length(path, model):
    session = session_of(written(path, model))
    for n_samples in N_SAMPLES:
        clips = waveforms(n_samples)
        expected = logits_of_the_library(model, clips)
        probabilities, logits = session.run(None, {"waveform": clips})
        np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(probabilities, torch.from_numpy(expected).softmax(dim=1), atol=1e-5)
        np.testing.assert_allclose(session.run(["logits"], {"waveform": clips[1:]})[0], logits[1:], atol=1e-5)


@pytest.mark.parametrize("parts", COMBINATIONS, ids=lambda parts: "-".join(part.name for part in parts))
def test_every_network_gives_the_logits_of_the_library_at_every_length(parts, tmp_path, monkeypatch):
    model = trained_by_chance(LogMel(n_mels=Stretches.n_features, n_fft=512), *parts)
    model.features = Stretches()
    monkeypatch.setattr(export, "_front_end_graph", lambda *_: graph_of_stretches())
    check_at_every_length(tmp_path / "model.onnx", model)


@pytest.mark.parametrize("component", FRONT_ENDS, ids=lambda component: component.name)
def test_every_front_end_gives_the_logits_of_the_library_at_every_length(component, tmp_path):
    model = trained_by_chance(component, PerBinNormalization(), TINY, MeanPooling())
    model.normalization.learn([model.features(torch.from_numpy(waveforms(16000)), torch.full((2,), 16000))[0][0]])
    check_at_every_length(tmp_path / "model.onnx", model)


@pytest.mark.parametrize("component", OTHER_FRONT_ENDS, ids=repr)
def test_every_front_end_gives_its_frames_at_every_length(component):
    front_end = component.build(16000).eval().requires_grad_(False)
    with export._quiet(), torch.no_grad():
        graph = export._front_end_graph(front_end, {"features": component.name})
    opset = onnx.helper.make_opsetid("", export._OPSET)
    session = session_of(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10).SerializeToString())
    for n_samples in N_SAMPLES:
        clips = waveforms(n_samples)
        expected = front_end(torch.from_numpy(clips), torch.full((2,), n_samples))[0].numpy()
        frames = session.run(None, {graph.input[0].name: clips})[0]
        difference = np.abs(frames - expected) / np.abs(expected).max()
        assert np.quantile(difference, 0.999) < 1e-4
        assert difference.max() < 1e-2  # of the logarithms of very small values


# ------------------------------------------------------------------ what else a model may be


@pytest.fixture(scope="module")
def fitted():
    digits = load_spoken_digits()
    chosen = np.isin(digits.target, ["one", "six", "nine"])
    labels = np.array(["a", "ü", "猫"])[np.unique(digits.target[chosen], return_inverse=True)[1]]
    clf = ASTWClassifier(encoder=TINY, epochs=4, chunk_length=CHUNK_LENGTH, muon_lr=0.05, precision="float64")
    return clf.fit(np.array(digits.data)[chosen], labels)


@pytest.fixture(scope="module")
def graphs():
    """Return the graphs that torch made of the fitted model, by the name of the function."""
    return {}


@pytest.fixture(scope="module")
def path(fitted, graphs, tmp_path_factory):
    state = torch.random.get_rng_state(), logging.getLogger("torch.onnx").level, fitted.predict_proba(CLIPS)
    folder = tmp_path_factory.mktemp("onnx")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name in ("_front_end_graph", "_network_graph"):
            make = getattr(export, name)
            patch.setattr(export, name, lambda *args, name=name, make=make: graphs.setdefault(name, make(*args)))
        warnings.simplefilter("error")
        path = fitted.export_onnx(folder / "digits.onnx")
    assert [str(file) for file in folder.iterdir()] == [path]
    assert torch.equal(torch.random.get_rng_state(), state[0])
    assert logging.getLogger("torch.onnx").level == state[1]
    np.testing.assert_array_equal(fitted.predict_proba(CLIPS), state[2])
    return path


@pytest.fixture
def graphs_are_there(path, graphs, monkeypatch):
    """Let the fitted model be exported again with the graphs of the first time, since torch needs seconds for them."""
    for name, graph in graphs.items():
        monkeypatch.setattr(export, name, lambda *_, graph=graph: graph)


@pytest.fixture
def front_end_is_there(path, graphs, monkeypatch):
    """Let models with the default front end be exported with the graph of it that the fitted model has."""
    monkeypatch.setattr(export, "_front_end_graph", lambda *_: graphs["_front_end_graph"])


@pytest.mark.usefixtures("front_end_is_there")
def test_several_models_are_in_one_file(tmp_path):
    model = trained_by_chance(LogMel(), NoNormalization(), TINY, MeanPooling(), n_models=3)
    session, clips = session_of(written(tmp_path / "model.onnx", model)), waveforms(20000)
    np.testing.assert_allclose(
        session.run(["logits"], {"waveform": clips})[0], logits_of_the_library(model, clips), atol=1e-5
    )


def test_probabilities_are_those_of_predict_proba(fitted, path):
    session = session_of(path)
    for clip in (*CLIPS[:3], *waveforms(30001), np.zeros(1000, dtype=np.float32)):
        probabilities, logits = session.run(None, {"waveform": clip[None]})
        np.testing.assert_allclose(probabilities, fitted.predict_proba([clip]), atol=1e-5)
        np.testing.assert_allclose(logits, fitted.decision_function([clip]), atol=1e-4)


def test_the_file_says_what_it_is(path):
    onnx.checker.check_model(path, full_check=True)
    session = session_of(path)
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about.pop("labels")) == ["a", "ü", "猫"]
    assert about == {
        "task": "classification",
        "sample_rate": "16000",
        "chunk_length": "0.5",
        "library": "skastw",
        "library_version": __version__,
    }
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("waveform", "tensor(float)", ["batch", "n_samples"])
    outputs = [(output.name, output.shape) for output in session.get_outputs()]
    assert outputs == [("probabilities", ["batch", 3]), ("logits", ["batch", 3])]


@pytest.mark.usefixtures("front_end_is_there")
def test_a_regressor_gives_values_in_their_units(tmp_path):
    y = np.stack([300.0 * Y, 5.0 - Y], axis=1)
    regressor = ASTWRegressor(encoder=TINY, epochs=2).fit(CLIPS, y)
    session = session_of(regressor.export_onnx(tmp_path / "tones.onnx"))
    (values,) = session.run(None, {"waveform": CLIPS[0][None]})
    assert [output.name for output in session.get_outputs()] == ["values"]
    np.testing.assert_allclose(values, regressor.predict(CLIPS[:1]), rtol=1e-5)


@pytest.mark.usefixtures("front_end_is_there")
def test_a_pipeline_of_precomputed_frames_becomes_a_file_that_takes_waveforms(tmp_path):
    indicator = np.stack([Y == 0, Y > 0, Y == 2], axis=1).astype(int)  # and several labels have a probability each
    piped = make_pipeline(ASTWFeaturizer(), ASTWClassifier(features="precomputed", encoder=TINY, epochs=1))
    piped.fit(CLIPS, indicator)
    with pytest.raises(ArtifactError, match="pass featurizer="):
        piped[-1].export_onnx(tmp_path / "alone.onnx")
    session = session_of(piped[-1].export_onnx(tmp_path / "tones.onnx", featurizer=piped[0]))
    probabilities = session.run(["probabilities"], {"waveform": CLIPS[0][None]})[0]
    np.testing.assert_allclose(probabilities, piped.predict_proba(CLIPS[:1]), atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["task"] == "multilabel"


# ------------------------------------------------------------------ without torch, and from a shell

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["skastw"] = None  # importing them is an error
import json
import numpy as np
import onnxruntime
import soundfile
session = onnxruntime.InferenceSession(sys.argv[1])
about = session.get_modelmeta().custom_metadata_map
waveform, rate = soundfile.read(sys.argv[2], dtype="float32")
assert rate == int(about["sample_rate"])
(probabilities,) = session.run(["probabilities"], {"waveform": waveform[None]})
print(json.dumps(dict(zip(json.loads(about["labels"]), probabilities[0].tolist()))))
"""


def test_the_file_runs_without_torch(fitted, path):
    clip = load_spoken_digits().data[0]
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, path, clip], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    expected = dict(zip(fitted.classes_.tolist(), fitted.predict_proba(clip)[0].tolist(), strict=True))
    assert json.loads(run.stdout) == pytest.approx(expected, abs=1e-5)


@pytest.mark.usefixtures("graphs_are_there")
def test_the_command_writes_the_file(fitted, path, tmp_path):
    folder = fitted.save_pretrained(tmp_path / "digits")
    result = CliRunner().invoke(cli, ["export", folder, str(tmp_path / "digits.onnx")])
    assert (result.exit_code, result.output) == (0, f"{tmp_path / 'digits.onnx'}\n")
    found, expected = (
        session_of(file).run(None, {"waveform": waveforms(9000)}) for file in (tmp_path / "digits.onnx", path)
    )
    np.testing.assert_array_equal(found[0], expected[0])


# ------------------------------------------------------------------ what ONNX cannot express


class Branching(EncoderModule):
    n_outputs = 16

    def forward(self, frames, lengths):
        return (frames if float(frames.mean()) > 0 else -frames), lengths


class BranchingFrontEnd(FeaturesModule):
    n_features = 16

    def forward(self, waveform, lengths):
        frames = waveform.unfold(1, 16, 16)
        return (frames if float(frames.mean()) > 0 else -frames), lengths // 16


def test_a_component_without_a_form_is_named(tmp_path):
    model = trained_by_chance(LogMel(n_mels=16), NoNormalization(), TINY, MeanPooling())
    branching = trained_by_chance(LogMel(n_mels=16), NoNormalization(), TINY, MeanPooling())
    branching.encoder = Branching()
    with pytest.raises(ExportError, match="encoder='forking' cannot be expressed in ONNX"):
        written(tmp_path / "model.onnx", branching, encoder="forking")
    model.features = BranchingFrontEnd()
    with pytest.raises(ExportError, match="features='whale' cannot be expressed in ONNX"):
        written(tmp_path / "model.onnx", model, features="whale")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    right = FourierPower.forward
    monkeypatch.setattr(FourierPower, "forward", lambda self, waveform: 1.5 * right(self, waveform))
    model = trained_by_chance(LogMel(), NoNormalization(), TINY, MeanPooling())
    with pytest.raises(ExportError, match="would differ from the model by"):
        written(tmp_path / "model.onnx", model)
    assert list(tmp_path.iterdir()) == []


class FullDisk(io.BufferedRandom):
    """File on a disk that is full after half of the content."""

    def write(self, content):
        super().write(content[: len(content) // 2])
        self.flush()
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("graphs_are_there")
@pytest.mark.parametrize("before", [b"old", None])
def test_a_full_disk_leaves_the_old_file_or_none(fitted, tmp_path, monkeypatch, before):
    target, opened = tmp_path / "digits.onnx", []
    if before is not None:
        target.write_bytes(before)

    def open_on_a_full_disk(path, mode):
        opened.append(path)
        return FullDisk(io.FileIO(path, mode))

    monkeypatch.setattr("skastw.storage.outputs.open", open_on_a_full_disk, raising=False)
    with pytest.raises(OutputError, match=r"digits\.onnx': No space left on device\. An existing file is unchanged"):
        fitted.export_onnx(target)
    assert len(opened) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == (
        {} if before is None else {target.name: before}
    )


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(NotFittedError):
        ASTWClassifier().export_onnx(tmp_path / "model.onnx")
    model = trained_by_chance(LogMel(), NoNormalization(), TINY, MeanPooling())
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*skastw\[onnx\]"):
        written(tmp_path / "model.onnx", model)


# ------------------------------------------------------------------ the front end


@pytest.mark.parametrize("n_fft", [8, 400, 401])
@pytest.mark.parametrize("n_samples", [1, 3, 200, 201, 1000, 1001])
def test_the_power_is_that_of_the_fourier_transform(n_fft, n_samples):
    waveform, window = torch.from_numpy(waveforms(n_samples)), torch.hann_window(n_fft)
    expected = power_spectrum(centred_windows(waveform, n_fft, 160), window)
    found = FourierPower(window, 160)(waveform)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))


@pytest.mark.parametrize("component", [LogMel(), MFCC(deltas=2), PCEN()], ids=lambda component: component.name)
def test_frames_of_a_long_quiet_clip_are_those_of_the_front_end(component, monkeypatch):
    exported = []
    monkeypatch.setattr(export, "_graph", lambda module, example: exported.append(module))
    front_end = component.build(16000)
    clip = torch.from_numpy(waveforms(160 * 700 + 1))
    frames, _ = front_end(clip, torch.full((2,), clip.shape[1]))
    export._front_end_graph(front_end, {})
    torch.testing.assert_close(exported[0](clip), frames, rtol=1e-4, atol=1e-4 * float(frames.std()))


def test_a_file_that_onnxruntime_cannot_run_is_not_written(monkeypatch):
    class Broken:
        def __init__(self, *args, **kwargs):
            pass

        def run(self, *args):
            raise onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument("Invalid input shape: {1}")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Broken)
    model = trained_by_chance(LogMel(n_mels=20, n_fft=512), NoNormalization(), RNNEncoder(hidden=4), MeanPooling())
    with pytest.raises(ExportError, match=r"fails on a clip of 100 samples.*Invalid input shape"):
        export._check(b"", model, model.features, SingleLabel(np.array(["a", "b", "c"])), [100])
