"""BEATs: the formulas of the papers written out beside it, published files, and training."""

import importlib
import math
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from helpers import random_frames, torch_seed, white_noise
from skastw import ASTWClassifier
from skastw.encoders import BEATsEncoder
from skastw.errors import ComponentError, WeightsError
from skastw.features import FBank
from skastw.training.transfer import load_weights

#: A folder with the package deepaudio-x, installed without its dependencies.
REFERENCE = os.environ.get("SKASTW_DEEPAUDIOX")
FRONT_END = FBank(n_mels=128, mean=15.41663, std=2 * 6.55582)
CFG = {
    "activation_fn": "gelu",
    "conv_bias": False,
    "conv_pos": 10,
    "conv_pos_groups": 4,
    "deep_norm": True,
    "embed_dim": 6,
    "encoder_attention_heads": 3,
    "encoder_embed_dim": 12,
    "encoder_ffn_embed_dim": 24,
    "encoder_layers": 2,
    "gru_rel_pos": True,
    "input_patch_size": 16,
    "layer_norm_first": False,
    "max_distance": 12,
    "num_buckets": 16,
    "relative_position_embedding": True,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep converted weights in a folder of the test."""
    monkeypatch.setenv("SKASTW_CACHE", str(tmp_path / "cache"))


def published(cfg, seed=0):
    """Return random weights of order 1 with the names and shapes of a published checkpoint."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def add(name, *shape, scale=1.0, shift=0.0):
        tensors[name] = shift + scale * torch.randn(shape, generator=generator)

    def linear(name, n_out, n_in):
        add(f"{name}.weight", n_out, n_in, scale=n_in**-0.5)
        add(f"{name}.bias", n_out, scale=0.5)

    def norm(name, size):
        add(f"{name}.weight", size, scale=0.3, shift=1.0)
        add(f"{name}.bias", size, scale=0.3)

    width, heads, patch = cfg["encoder_embed_dim"], cfg["encoder_attention_heads"], cfg["input_patch_size"]
    add("patch_embedding.weight", cfg["embed_dim"], 1, patch, patch, scale=1 / patch)
    norm("layer_norm", cfg["embed_dim"])
    linear("post_extract_proj", width, cfg["embed_dim"])
    add("encoder.pos_conv.0.weight_g", 1, 1, cfg["conv_pos"])
    add("encoder.pos_conv.0.weight_v", width, width // cfg["conv_pos_groups"], cfg["conv_pos"])
    add("encoder.pos_conv.0.bias", width)
    norm("encoder.layer_norm", width)
    distances = torch.randn(cfg["num_buckets"], heads, generator=generator)
    for layer in range(cfg["encoder_layers"]):
        name = f"encoder.layers.{layer}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            linear(f"{name}.self_attn.{part}", width, width)
        linear(f"{name}.self_attn.grep_linear", 8, width // heads)
        add(f"{name}.self_attn.grep_a", 1, heads, 1, 1)
        tensors[f"{name}.self_attn.relative_attention_bias.weight"] = distances
        norm(f"{name}.self_attn_layer_norm", width)
        linear(f"{name}.fc1", cfg["encoder_ffn_embed_dim"], width)
        linear(f"{name}.fc2", width, cfg["encoder_ffn_embed_dim"])
        norm(f"{name}.final_layer_norm", width)
    linear("predictor", 527, width)
    return tensors


# ------------------------------------------------------------------ the formulas, one by one


def normalized(x, weights, name):
    """Return the layer norm of each row."""
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / (variance + 1e-5).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def bucket(distance, n_buckets, max_distance):
    """Return the row of the values for the distance from a query to a key."""
    half = n_buckets // 2
    exact = half // 2
    size = abs(distance)
    if size >= exact:
        size = exact + int(math.log(size / exact) / math.log(max_distance / exact) * (half - exact))
    return min(size, half - 1) + (half if distance > 0 else 0)


def positions_added(x, weights, groups):
    """Add the convolution over positions to a sequence (N, D)."""
    direction, length = weights["encoder.pos_conv.0.weight_v"], weights["encoder.pos_conv.0.weight_g"]
    kernel = direction * length / direction.square().sum(dim=(0, 1), keepdim=True).sqrt()
    n_out, n_in, width = kernel.shape
    result = []
    for position in range(len(x)):
        total = weights["encoder.pos_conv.0.bias"].clone()
        for offset in range(width):
            source = position + offset - width // 2
            if 0 <= source < len(x):
                by_group = x[source].view(groups, n_in)
                per_group = kernel[:, :, offset].view(groups, n_out // groups, n_in)
                total += torch.einsum("goi,gi->go", per_group, by_group).flatten()
        result.append(total)
    return x + gelu(torch.stack(result))


def attended(x, weights, name, cfg):
    """Return the attention of a sequence (N, D), head by head."""
    query, key, value = (linear(x, weights, f"{name}.{part}_proj") for part in "qkv")
    size = x.shape[1] // cfg["encoder_attention_heads"]
    distances = weights["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    rows = [[bucket(j - i, cfg["num_buckets"], cfg["max_distance"]) for j in range(len(x))] for i in range(len(x))]
    heads = []
    for head in range(cfg["encoder_attention_heads"]):
        part = slice(head * size, (head + 1) * size)
        gates = linear(query[:, part], weights, f"{name}.grep_linear")
        update, reset = gates[:, :4].sum(dim=1).sigmoid(), gates[:, 4:].sum(dim=1).sigmoid()
        gate = update * (reset * weights[f"{name}.grep_a"][0, head, 0, 0] - 1) + 2
        scores = query[:, part] @ key[:, part].T / math.sqrt(size) + gate[:, None] * distances[rows, head]
        heads.append(scores.softmax(dim=1) @ value[:, part])
    return linear(torch.cat(heads, dim=1), weights, f"{name}.out_proj")


def patches_of_the_paper(frames, weights, cfg):
    """Return the outputs (N, D) for frames (T, 128), one patch after the other: 8 for each time."""
    patch = cfg["input_patch_size"]
    kernel = weights["patch_embedding.weight"].flatten(1)
    x = torch.stack(
        [
            kernel @ frames[start : start + patch, low : low + patch].flatten()
            for start in range(0, len(frames) - patch + 1, patch)
            for low in range(0, 128, patch)
        ]
    )
    x = linear(normalized(x, weights, "layer_norm"), weights, "post_extract_proj")
    x = normalized(positions_added(x, weights, cfg["conv_pos_groups"]), weights, "encoder.layer_norm")

    alpha = (2 * cfg["encoder_layers"]) ** 0.25 if cfg["deep_norm"] else 1.0
    for layer in range(cfg["encoder_layers"]):
        name = f"encoder.layers.{layer}"
        x = normalized(
            alpha * x + attended(x, weights, f"{name}.self_attn", cfg), weights, f"{name}.self_attn_layer_norm"
        )
        forward = linear(gelu(linear(x, weights, f"{name}.fc1")), weights, f"{name}.fc2")
        x = normalized(alpha * x + forward, weights, f"{name}.final_layer_norm")
    return x


# ------------------------------------------------------------------ published files


def saved(path, cfg, weights):
    torch.save({"cfg": cfg, "model": weights}, path)
    return path


def loaded(path, **params):
    """Return the encoder for a file, as ``fit`` resolves it, and its module in double precision."""
    encoder = BEATsEncoder(weights=str(path), **params).resolved(16000, 10.0)
    with torch_seed(1):
        module = encoder.build(128, max_frames=1000)
    load_weights(module, encoder.initial_weights(), encoder)
    return encoder, module.double().eval()


@pytest.mark.parametrize("deep_norm", [True, False])
def test_the_outputs_are_those_of_the_formulas(tmp_path, deep_norm):
    cfg = {**CFG, "deep_norm": deep_norm}
    weights = published(cfg)
    _, module = loaded(saved(tmp_path / "beats.pt", cfg, weights))
    weights = {name: tensor.double() for name, tensor in weights.items()}
    lengths = [16, 31, 48, 70]
    frames, n_frames = random_frames(lengths, 128)
    frames = frames.double()
    with torch.inference_mode():
        together, n_outputs = module(frames, n_frames)
    assert n_outputs.tolist() == [1, 1, 3, 4]  # whole patches, as in the published network
    for item, (length, count) in enumerate(zip(lengths, n_outputs.tolist(), strict=True)):
        expected = patches_of_the_paper(frames[item, :length], weights, cfg)
        assert expected.std() > 0.5
        torch.testing.assert_close(
            together[item, :count], expected.view(count, 8, -1).mean(dim=1), atol=1e-10, rtol=1e-10
        )
        torch.testing.assert_close(together[item, :count].mean(dim=0), expected.mean(dim=0), atol=1e-10, rtol=1e-10)


def test_every_frame_counts_with_the_other_rounding_and_short_clips_have_one_patch(tmp_path):
    path = saved(tmp_path / "beats.pt", CFG, published(CFG))
    frames, lengths = random_frames([1, 15, 17, 32], 128)
    for rounding, counts in (("ceil", [1, 1, 2, 2]), ("floor", [1, 1, 1, 2])):
        _, module = loaded(path, rounding=rounding)
        together, n_outputs = module(frames.double(), lengths)
        assert n_outputs.tolist() == counts
        for item, length in enumerate(lengths.tolist()):
            alone, _ = module(frames[item : item + 1, :length].double(), lengths[item : item + 1])
            torch.testing.assert_close(together[item, : counts[item]], alone[0])


def test_the_sizes_come_from_the_file(tmp_path):
    encoder, module = loaded(saved(tmp_path / "beats.pt", CFG, published(CFG)))
    sizes = {
        name: encoder.get_params()[name] for name in ("d_model", "num_heads", "num_layers", "ff_mult", "embedding")
    }
    assert sizes == {"d_model": 12, "num_heads": 3, "num_layers": 2, "ff_mult": 2, "embedding": 6}
    assert (encoder.conv_width, encoder.conv_groups, encoder.num_buckets) == (10, 4, 16)
    assert (encoder.max_distance, encoder.deep_norm) == (12, True)
    assert encoder.resolved(16000, 30.0) is encoder  # a saved model can be built without the file
    assert module.n_outputs == 12


def test_files_of_openbeats_of_newer_torch_and_of_larger_networks_are_the_same(tmp_path):
    weights = published(CFG)
    _, module = loaded(saved(tmp_path / "beats.pt", CFG, weights))
    changed = {name: tensor for name, tensor in weights.items() if not name.startswith("predictor")}
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        changed[f"encoder.pos_conv.0.parametrizations.weight.{new}"] = changed.pop(f"encoder.pos_conv.0.{old}")
    changed |= {"patch_embedding_pad.weight": torch.ones(1, 1, 16, 16), "raw2fbank_pad.weight": torch.ones(1, 1, 400)}
    inside = {f"backbone.{name}": tensor for name, tensor in changed.items()} | {"head.weight": torch.ones(2)}
    for number, variant in enumerate((changed, inside)):
        _, other = loaded(saved(tmp_path / f"{number}.pt", CFG, variant))
        expected = module.state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in other.state_dict().items())


def test_settings_that_a_file_leaves_out_are_those_of_the_published_code(tmp_path):
    cfg = {name: value for name, value in CFG.items() if name not in ("deep_norm", "max_distance")}
    encoder, _ = loaded(saved(tmp_path / "beats.pt", cfg, published(CFG)))
    assert (encoder.deep_norm, encoder.max_distance) == (False, 1280)


@pytest.mark.parametrize(
    ("cfg", "change", "reason"),
    [
        ({"layer_norm_first": True}, {}, "layer_norm_first=True, expected False"),
        ({"activation_fn": "relu"}, {}, "activation_fn='relu', expected 'gelu'"),
        ({}, {"patch_embedding.weight": None}, "not those of BEATs"),
        ({}, {"patch_embedding.weight": torch.ones(2)}, "not those of BEATs"),
        ({}, {"encoder.layers.0.fc1.weight": torch.ones(8, 0)}, "not those of BEATs"),
        ({}, {"encoder.layers.1.fc2.bias": None}, r"encoder\.layers\.1\.fc2\.bias of shape None, expected \(12,\)"),
        ({}, {"extra.weight": torch.ones(2)}, r"extra\.weight of shape \(2,\), expected None"),
        ({}, {"layer_norm.weight": torch.tensor([1.0, math.nan])}, "'layer_norm.weight' hold NaN"),
    ],
)
def test_files_of_other_networks_are_refused_with_the_reason(tmp_path, cfg, change, reason):
    weights = {name: tensor for name, tensor in {**published(CFG), **change}.items() if tensor is not None}
    with pytest.raises(WeightsError, match=reason):
        loaded(saved(tmp_path / "beats.pt", {**CFG, **cfg}, weights))


def test_another_sample_rate_or_front_end_is_refused(tmp_path):
    path = saved(tmp_path / "beats.pt", CFG, published(CFG))
    with pytest.raises(ComponentError, match=r"sample_rate=8000.*expected 16000"):
        BEATsEncoder(weights=path).resolved(8000, 10.0)
    with pytest.raises(ComponentError, match=r"80 values per frame.*expected 128.*FBank"):
        BEATsEncoder(weights=path).resolved(16000, 10.0).build(80, 100)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"d_model": 10, "num_heads": 3}, "d_model=10, expected a multiple of num_heads=3"),
        ({"d_model": 12, "num_heads": 3, "conv_groups": 5}, "d_model=12, expected a multiple of conv_groups=5"),
        ({"max_distance": 80}, "max_distance=80, expected more than a quarter of num_buckets=320"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(params, reason):
    with pytest.raises(ComponentError, match=reason):
        BEATsEncoder(**params).build(128, 100)


# ------------------------------------------------------------------ in an estimator


CLIPS = [white_noise(8000, seed=seed) * np.sin(np.arange(8000) * 0.05 * (1 + seed % 2)) for seed in range(16)]
Y = [seed % 2 for seed in range(16)]


def test_a_frozen_network_gives_the_mean_over_its_patches(tmp_path):
    path = saved(tmp_path / "beats.pt", CFG, published(CFG))
    clf = ASTWClassifier(features=FRONT_END, encoder=BEATsEncoder(weights=str(path)), epochs=2)
    clf.set_params(normalization="none").fit(CLIPS, Y)
    frames, lengths = FRONT_END.build(16000)(torch.from_numpy(CLIPS[0].astype(np.float32))[None], torch.tensor([8000]))
    assert int(lengths) == 48
    expected = patches_of_the_paper(frames[0], published(CFG), CFG).mean(dim=0)
    torch.testing.assert_close(torch.from_numpy(clf.transform(CLIPS[:1])[0]), expected, atol=1e-5, rtol=1e-5)

    folder = clf.save_pretrained(tmp_path / "model")
    path.unlink()
    again = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(again.predict_proba(CLIPS), clf.predict_proba(CLIPS))


def test_fine_tuning_trains_the_top_layer_alone(tmp_path):
    path = saved(tmp_path / "beats.pt", CFG, published(CFG))
    encoder = BEATsEncoder(weights=str(path), train="top-1")
    clf = ASTWClassifier(features=FRONT_END, encoder=encoder, epochs=2, precision="float32").fit(CLIPS, Y)
    before, after = encoder.initial_weights(), clf.trained_.model.encoder.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("encoder.layers.1.")}


def test_all_weights_are_trained_weight_norm_too():
    encoder = BEATsEncoder(d_model=16, num_heads=2, num_layers=1, embedding=8, patch_frames=4)
    module = encoder.build(80, 3000)
    assert sorted(id(w) for layer in module.parts_in_order() for w in layer.parameters()) == sorted(
        id(w) for w in module.parameters()
    )
    first, second = (
        ASTWClassifier(encoder=encoder, epochs=epochs, val_split=None).fit(CLIPS, Y).trained_.model.encoder.state_dict()
        for epochs in (1, 2)
    )
    assert all(not torch.equal(first[name], second[name]) for name in first)


# ------------------------------------------------------------------ another implementation


def reference_model(cfg):
    """Return the model of deepaudio-x; its package and torchaudio, which it does not need here, are not imported."""
    for name in ("deepaudiox", "deepaudiox.modules", "deepaudiox.modules.backbones"):
        package = ModuleType(name)
        package.__path__ = [str(Path(REFERENCE, *name.split(".")))]
        sys.modules[name] = package
    for name in ("torchaudio", "torchaudio.compliance", "torchaudio.compliance.kaldi"):
        sys.modules[name] = ModuleType(name)
    before = sys.path[:]
    try:
        module = importlib.import_module("deepaudiox.modules.backbones.beats.beats_modules.BEATs")
    finally:
        sys.path[:] = before
        for name in [name for name in sys.modules if name.startswith(("deepaudiox", "torchaudio"))]:
            del sys.modules[name]
    return module.BEATs(module.BEATsConfig(cfg)).eval()


@pytest.mark.slow
@pytest.mark.skipif(REFERENCE is None, reason="SKASTW_DEEPAUDIOX is not set")
def test_the_outputs_are_those_of_another_implementation(tmp_path):
    sizes = {"encoder_embed_dim": 96, "encoder_attention_heads": 4, "encoder_ffn_embed_dim": 384, "embed_dim": 32}
    cfg = {**CFG, **sizes, "conv_pos": 128, "conv_pos_groups": 16, "num_buckets": 320, "max_distance": 800}
    reference = reference_model(cfg)
    weights = reference.state_dict()
    weights |= {name: tensor for name, tensor in published(cfg).items() if name in weights}
    reference.load_state_dict(weights)
    _, module = loaded(saved(tmp_path / "beats.pt", cfg, reference.state_dict()))

    frames = torch.randn(2, 16 * 110 + 5, 128, generator=torch.Generator().manual_seed(0))  # 880 patches
    with torch.inference_mode():
        expected = reference.double()(frames[:, None].double())
        found, lengths = module(frames.double(), torch.tensor([16 * 110 + 5] * 2))
    assert lengths.tolist() == [110, 110]
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected.unflatten(1, (-1, 8)).mean(dim=2), atol=1e-6, rtol=0)
