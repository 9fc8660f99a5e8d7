"""PANNs with published weights: the embedding is that of the paper's code, and batch norm stays as it is."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers import random_frames, torch_seed, with_sizes
from skastw import ASTWClassifier
from skastw.datasets import make_tones
from skastw.encoders import CNN10Encoder, CNN14Encoder
from skastw.errors import ComponentError, WeightsError
from skastw.features import MelSpectrogram
from skastw.training.transfer import load_weights

#: A folder with the packages panns-inference and torchlibrosa, installed without their dependencies.
REFERENCE = os.environ.get("SKASTW_PANNS")
FRONT_END = MelSpectrogram(n_mels=64, n_fft=1024, hop_length=320, fmin=50, fmax=14000, pad_mode="reflect")
N_BLOCKS = {"cnn10": 4, "cnn14": 6}

encoders = pytest.mark.parametrize(
    "encoder", [CNN10Encoder(width=4), CNN14Encoder(width=4)], ids=lambda encoder: encoder.name
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep converted weights in a folder of the test."""
    monkeypatch.setenv("SKASTW_CACHE", str(tmp_path / "cache"))


def published(encoder, n_mels=64, n_frequencies=513, seed=0):
    """Return random weights of order 1 with the names and shapes of a published checkpoint."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, scale=1.0):
        return scale * torch.randn(shape, generator=generator)

    def norm(name, size):
        weights = {"weight": 1 + normal(size, scale=0.3), "bias": normal(size, scale=0.3)}
        weights |= {"running_mean": normal(size, scale=0.5), "running_var": 0.5 + torch.rand(size, generator=generator)}
        return {f"{name}.{key}": value for key, value in weights.items()} | {
            f"{name}.num_batches_tracked": torch.tensor(600_000)
        }

    widths = [1, *(encoder.width * 2**block for block in range(N_BLOCKS[encoder.name]))]
    tensors = {"spectrogram_extractor.stft.conv_real.weight": normal(n_frequencies, 1, 8)}
    tensors |= {"logmel_extractor.melW": normal(n_frequencies, n_mels), **norm("bn0", n_mels)}
    for block, n_out in enumerate(widths[1:], start=1):
        for layer, n_in in ((1, widths[block - 1]), (2, n_out)):
            tensors[f"conv_block{block}.conv{layer}.weight"] = normal(n_out, n_in, 3, 3, scale=(9 * n_in / 2) ** -0.5)
            tensors |= norm(f"conv_block{block}.bn{layer}", n_out)
    for name, n_out in (("fc1", widths[-1]), ("fc_audioset", 527)):
        tensors |= {
            f"{name}.weight": normal(n_out, widths[-1], scale=widths[-1] ** -0.5),
            f"{name}.bias": normal(n_out),
        }
    return tensors


def embedding_of_the_paper(frames, weights, n_pools):
    """Return the embedding (D,) of frames (T, F), in plain torch: pool by 2 x 2, mean and maximum, then dense."""

    def norm(x, name):
        names = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(weights[f"{name}.{key}"] for key in names))

    x = norm(frames.T[None], "bn0").transpose(1, 2)[:, None]
    n_blocks = sum(name.endswith("conv1.weight") for name in weights)
    for block in range(1, n_blocks + 1):
        for layer in (1, 2):
            name = f"conv_block{block}.{{}}{layer}"
            x = F.conv2d(x, weights[f"{name.format('conv')}.weight"], padding=1)
            x = norm(x, name.format("bn")).relu()
        if block <= n_pools:
            x = F.avg_pool2d(x, 2)  # leaves out what does not fill a window
    x = x.mean(dim=3)[0]
    x = x.amax(dim=1) + x.mean(dim=1)
    return F.linear(x, weights["fc1.weight"], weights["fc1.bias"]).relu()


def loaded(encoder, weights, n_features=64):
    """Return the module of an encoder with published weights, as ``fit`` builds it."""
    encoder = with_sizes(encoder, {"weights": "x.pth"})
    with torch_seed(1):
        module = encoder.build(n_features, max_frames=1000)
    load_weights(module, encoder.converted(weights), encoder)
    return module


@encoders
def test_the_embedding_is_that_of_the_paper_for_every_length(encoder):
    weights = {name: tensor.double() for name, tensor in published(encoder).items()}
    module = loaded(encoder, weights).double().eval()
    lengths = [32, 47, 63, 95]
    frames, n_frames = random_frames(lengths, 64)
    together, n_outputs = module(frames.double(), n_frames)
    assert n_outputs.tolist() == [1] * len(lengths)
    for item, length in enumerate(lengths):
        expected = embedding_of_the_paper(frames[item, :length].double(), weights, n_pools=min(len(module.blocks), 5))
        assert expected.std() > 0.1
        torch.testing.assert_close(together[item, 0], expected, atol=1e-9, rtol=1e-9)


@encoders
def test_clips_too_short_for_the_paper_have_an_embedding_too(encoder):
    module = loaded(encoder, published(encoder)).eval()
    frames, lengths = random_frames([1, 2, 31, 40], 64)
    together, n_outputs = module(frames, lengths)
    assert n_outputs.tolist() == [1] * 4
    for item, length in enumerate(lengths.tolist()):
        alone, _ = module(frames[item : item + 1, :length], lengths[item : item + 1])
        assert alone.isfinite().all()
        torch.testing.assert_close(together[item], alone[0], atol=1e-5, rtol=1e-5)


def test_rounding_and_dense_layer_can_be_chosen():
    frames, lengths = random_frames([50], 12)
    shapes = {}
    for rounding in ("ceil", "floor"):
        for dense in ("frame", "clip"):
            module = CNN10Encoder(width=4, rounding=rounding, dense=dense).build(12, 100).eval()
            shapes[rounding, dense] = tuple(module(frames, lengths)[0].shape[1:])
    assert shapes == {
        ("ceil", "frame"): (4, 32),
        ("floor", "frame"): (3, 32),
        ("ceil", "clip"): (1, 32),
        ("floor", "clip"): (1, 32),
    }


def test_weights_without_the_counts_of_old_releases_load():
    encoder = CNN10Encoder(width=4)
    weights = {name: tensor for name, tensor in published(encoder).items() if not name.endswith("num_batches_tracked")}
    loaded(encoder, weights)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: weights.pop("conv_block2.conv1.weight"), r"blocks\.1\.first\.conv\.weight of shape None"),
        (lambda weights: weights.update(att_block=torch.ones(3)), r"att_block of shape \(3,\), expected None"),
        (lambda weights: weights.update({"bn0.weight": torch.ones(80)}), r"input_norm\.weight of shape \(80,\)"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(change, named):
    encoder = CNN10Encoder(width=4)
    weights = published(encoder)
    change(weights)
    with pytest.raises(WeightsError, match=named):
        loaded(encoder, weights)


@pytest.mark.parametrize(("n_frequencies", "sample_rate"), [(513, 32000), (257, 16000), (129, 8000)])
def test_another_sample_rate_than_that_of_the_weights_is_refused(tmp_path, n_frequencies, sample_rate):
    path = tmp_path / "Cnn10.pth"
    torch.save({"iteration": 1, "model": published(CNN10Encoder(width=4), n_frequencies=n_frequencies)}, path)
    encoder = CNN10Encoder(width=4, weights=path)
    assert encoder.resolved(sample_rate, 10.0).source["weights"] == "Cnn10.pth"
    with pytest.raises(ComponentError, match=f"sample_rate=44100.*expected {sample_rate}"):
        encoder.resolved(44100, 10.0)


# ------------------------------------------------------------------ in an estimator


CLIPS, Y = make_tones(n_clips=24, n_classes=2, random_state=0)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "Cnn10_mAP=0.380.pth"
    torch.save({"iteration": 1, "model": published(CNN10Encoder(width=4), n_mels=80, n_frequencies=100)}, path)
    return path


def test_a_frozen_network_is_a_front_end_that_is_saved_with_the_model(checkpoint, tmp_path):
    encoder = CNN10Encoder(width=4, weights=str(checkpoint))
    clf = ASTWClassifier(encoder=encoder, normalization="none", epochs=3).fit(CLIPS, Y)
    weights = torch.load(checkpoint, weights_only=True)["model"]
    features = clf.trained_.model.features
    frames, lengths = features.features(torch.from_numpy(CLIPS[0])[None], torch.tensor([len(CLIPS[0])]))
    assert lengths[0] >= 16
    expected = embedding_of_the_paper(frames[0], weights, n_pools=4)
    torch.testing.assert_close(torch.from_numpy(clf.transform(CLIPS[:1])[0]), expected, atol=1e-5, rtol=1e-5)

    folder = clf.save_pretrained(tmp_path / "model")
    checkpoint.unlink()
    again = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(again.predict_proba(CLIPS), clf.predict_proba(CLIPS))


def test_fine_tuning_leaves_the_statistics_alone_and_trains_the_top(checkpoint):
    encoder = CNN10Encoder(width=4, weights=str(checkpoint), train="top-2")
    clf = ASTWClassifier(encoder=encoder, epochs=3, precision="float32").fit(CLIPS, Y)
    before = encoder.converted(torch.load(checkpoint, weights_only=True)["model"])
    after = clf.trained_.model.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {
        name for name in before if name.startswith(("blocks.3", "dense")) and name.endswith(("weight", "bias"))
    }


# ------------------------------------------------------------------ the paper's own code


def reference_models():
    """Return the module ``models`` of panns-inference; its package would download files when it is imported."""
    folder = Path(REFERENCE)
    package = ModuleType("panns_inference")
    package.__path__ = [str(folder / "panns_inference")]
    sys.path.insert(0, str(folder))
    sys.modules["panns_inference"] = package
    try:
        spec = importlib.util.spec_from_file_location(
            "panns_inference.models", folder / "panns_inference" / "models.py"
        )
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
        del sys.modules["panns_inference"]
    return module


@pytest.mark.slow
@pytest.mark.skipif(REFERENCE is None, reason="SKASTW_PANNS is not set")
def test_the_embedding_is_that_of_panns_inference():
    reference = reference_models().Cnn14(32000, 1024, 320, 64, 50, 14000, 527).eval()
    encoder = CNN14Encoder()
    weights = reference.state_dict()
    weights |= {name: tensor for name, tensor in published(encoder).items() if not name.startswith(("spec", "logmel"))}
    reference.load_state_dict(weights)
    module = loaded(encoder, weights).eval()

    n_samples = 3 * 32000 + 700
    waveforms = 0.1 * torch.randn(2, n_samples, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = reference(waveforms)["embedding"]
        frames = reference.logmel_extractor(reference.spectrogram_extractor(waveforms))[:, 0]
        of_their_frames, _ = module(frames, torch.full((2,), frames.shape[1]))
        of_waveforms, _ = module(*FRONT_END.build(32000)(waveforms, torch.full((2,), n_samples)))
    assert expected.std() > 0.1
    largest = float(expected.abs().max())
    torch.testing.assert_close(of_their_frames[:, 0], expected, atol=1e-5 * largest, rtol=0)
    torch.testing.assert_close(of_waveforms[:, 0], expected, atol=1e-4 * largest, rtol=0)
