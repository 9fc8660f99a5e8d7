"""Networks for images: the outputs of transformers, checkpoints, scaling, and training."""

import json
import pickle

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from helpers import IMAGE_NETWORKS, random_frames, small_image_network, torch_seed
from skastw import ASTWClassifier
from skastw.datasets import make_tones
from skastw.encoders import IdentityEncoder, ImageEncoder
from skastw.encoders._image_families import ARCHITECTURES, IMAGE_FAMILIES
from skastw.encoders._image_networks import scaled
from skastw.errors import ComponentError, WeightsError
from skastw.features import Frozen, LogMel

N_FEATURES = 24
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]

every_network = pytest.mark.parametrize("name", list(IMAGE_NETWORKS))


def network_of_transformers(name, **config):
    """Return a network with random weights that training may have left."""
    family = IMAGE_FAMILIES[name]
    config = getattr(transformers, family.config)(**{**IMAGE_NETWORKS[name], **config})
    with torch_seed(0):
        network = getattr(transformers, family.model)(config).eval()
        for key, value in network.state_dict().items():
            if key.endswith("running_var"):
                value.copy_(0.5 + torch.rand(value.shape))
            elif value.is_floating_point():
                noise = torch.randn(value.shape)
                value.copy_(0.3 * noise if value.ndim > 1 else 1 + 0.5 * noise if key.endswith("weight") else noise)
    return network


@pytest.fixture(scope="module")
def networks():
    return {name: network_of_transformers(name) for name in IMAGE_NETWORKS}


@pytest.fixture(scope="module")
def checkpoints(networks, tmp_path_factory):
    """Return the folders of checkpoints that transformers wrote, by model type."""
    folders = {name: tmp_path_factory.mktemp("checkpoint") / name for name in networks}
    for name, network in networks.items():
        network.save_pretrained(folders[name])
        processor = transformers.ViTImageProcessor(image_mean=MEAN, image_std=STD)
        processor.save_pretrained(folders[name])
    return folders


@pytest.fixture
def changed_checkpoint(checkpoints, tmp_path):
    """Return a function that writes a checkpoint with other settings or weights, and returns its folder."""

    def write(name, tensors=None, **config):
        settings = json.loads((checkpoints[name] / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**settings, **config}))
        tensors = tensors or (lambda items: items)
        save_file(tensors(load_file(checkpoints[name] / "model.safetensors")), tmp_path / "model.safetensors")
        return tmp_path

    return write


def built(weights, n_features=N_FEATURES, **params):
    """Return the module of a checkpoint, with its weights."""
    encoder = ImageEncoder(weights=weights, **params).resolved(sample_rate=16000, chunk_length=30.0)
    module = encoder.build(n_features, max_frames=100)
    module.load_state_dict(encoder.initial_weights())
    return module.eval()


def maps_of_transformers(network, pictures):
    """Return the last map (B, T', F', D) that a network of transformers has for pictures (B, C, T, F)."""
    vit = network.config.model_type == "vit"
    with torch.no_grad():
        output = network(pictures, **({"interpolate_pos_encoding": True} if vit else {})).last_hidden_state
    if output.ndim == 4:
        return output.permute(0, 2, 3, 1)
    return output[:, 1:] if vit else output


# ------------------------------------------------------------------ outputs


@every_network
def test_outputs_are_those_of_transformers(networks, checkpoints, name):
    module = built(checkpoints[name])
    frames, lengths = random_frames([5 * module.stride], N_FEATURES)
    low, high = frames.min(), frames.max()
    channels = [((frames - low) / (high - low) - m) / s for m, s in zip(MEAN, STD, strict=True)]
    expected = maps_of_transformers(networks[name], torch.stack(channels, dim=1))
    expected = expected.reshape(1, 5, -1, module.n_outputs).mean(dim=2)
    assert expected.abs().mean() > 0.1
    encoded, n_outputs = module(frames, lengths)
    assert n_outputs.tolist() == [5]
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=1e-5)


@every_network
def test_padding_does_not_change_the_outputs_of_a_checkpoint(checkpoints, name):
    module = built(checkpoints[name]).double()
    frames, lengths = random_frames([1, 5, 16, 17, 33, 40], N_FEATURES)
    frames = nn.functional.pad(frames, (0, 0, 0, 9)).double()
    together, n_outputs = module(frames, lengths)
    for item, length in enumerate(lengths.tolist()):
        alone, count = module(frames[item : item + 1, :length], lengths[item : item + 1])
        assert int(count) == int(n_outputs[item]) == -(-length // module.stride)
        torch.testing.assert_close(together[item, :count], alone[0], atol=1e-6, rtol=1e-6)


def test_zeros_fill_the_last_frames_and_bins(checkpoints):
    module = built(checkpoints["convnext"])
    pictures = module.pictures(*random_frames([9], 6))
    assert pictures.shape == (1, 3, 12, 8)
    assert pictures[:, :, :9, :6].abs().min() > 0
    assert not pictures[:, :, 9:].any()
    assert not pictures[:, :, :, 6:].any()


@pytest.mark.parametrize(("window_size", "n_bins"), [(4, 16), (4, 8), (3, 24), (7, 14)])
def test_windows_of_swin_are_those_of_transformers(window_size, n_bins, tmp_path):
    """A window that covers all bands does not shift; transformers cannot process maps smaller than a window."""
    network = network_of_transformers("swin", window_size=window_size, depths=[2], num_heads=[2])
    network.save_pretrained(tmp_path)
    module = built(tmp_path, n_bins)
    frames, lengths = random_frames([n_bins], n_bins)
    for _ in range(2):  # transformers' layers keep the window of an earlier picture
        module(*random_frames([3], n_bins))
        expected = maps_of_transformers(network, module.pictures(frames, lengths))
        encoded = module(frames, lengths)[0]
        torch.testing.assert_close(encoded, expected.unflatten(1, (n_bins // 2, -1)).mean(dim=2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_architectures_have_the_sizes_of_their_papers(architecture):
    published = {"resnet-18": 11.2, "resnet-34": 21.3, "resnet-50": 23.5, "convnext-atto": 3.4, "convnext-nano": 15.0}
    published |= {"convnext-tiny": 27.8, "efficientnet-b0": 4.0, "efficientnet-b1": 6.5, "vit-tiny": 5.5}
    published |= {"vit-small": 21.6, "vit-base": 85.6, "swin-tiny": 27.5, "resnet-10": 4.9}
    encoder = ImageEncoder(architecture=architecture)
    with torch.device("meta"):
        module = encoder.build(80, 100)
    assert round(sum(weight.numel() for weight in module.parameters()) / 1e6, 1) == pytest.approx(
        published[architecture], abs=0.2
    )
    assert encoder.stride == module.stride == (16 if "vit" in architecture else 32)


# ------------------------------------------------------------------ scaling


def test_a_clip_is_scaled_by_its_real_frames():
    frames = torch.tensor([[[1.0, 3.0], [5.0, 3.0], [0.0, 0.0]]])
    mask = torch.tensor([[[True], [True], [False]]])
    assert scaled(frames, mask, "range")[:, :2].tolist() == [[[0.0, 0.5], [1.0, 0.5]]]
    standard = scaled(frames, mask, "standard")[:, :2]
    assert standard.mean().abs() < 1e-6
    assert standard.square().mean() == pytest.approx(1)
    assert torch.equal(scaled(frames, mask, "none"), frames)


@pytest.mark.parametrize("scaling", ["range", "standard"])
def test_silence_is_finite_and_the_level_does_not_matter(scaling):
    module = small_image_network("resnet", scaling=scaling).build(N_FEATURES, 100).eval()
    frames, lengths = random_frames([20], N_FEATURES)
    torch.testing.assert_close(module(3 * frames + 7, lengths)[0], module(frames, lengths)[0], atol=1e-4, rtol=1e-4)
    silence = torch.full((1, 9, N_FEATURES), -1.5, requires_grad=True)
    encoded = module(silence, torch.tensor([9]))[0]
    encoded.square().sum().backward()
    assert encoded.isfinite().all()
    assert silence.grad.isfinite().all()


# ------------------------------------------------------------------ checkpoints


def test_the_settings_of_a_checkpoint_are_kept(checkpoints):
    encoder = ImageEncoder(weights=checkpoints["vit"]).resolved(sample_rate=16000, chunk_length=30.0)
    assert encoder.preprocessor == {"image_mean": MEAN, "image_std": STD}
    assert encoder.config["hidden_size"] == IMAGE_NETWORKS["vit"]["hidden_size"]
    assert encoder.stride == 4
    assert len(encoder.source["sha256"]) == 64
    json.dumps(encoder.get_params()["config"])


def test_the_head_of_a_checkpoint_is_left_out(networks, tmp_path):
    config = networks["vit"].config
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert any(name.startswith("vit.") for name in weights)
    module = built(tmp_path)  # there is no preprocessor_config.json
    assert torch.equal(module.state_dict()["network.embeddings.cls_token"], weights["vit.embeddings.cls_token"])
    assert module.mean.tolist() == module.std.tolist() == [[[0.5]]]


def test_constants_that_earlier_releases_stored_are_left_out(changed_checkpoint):
    key = "encoder.layers.0.blocks.0.attention.self.relative_position_index"
    folder = changed_checkpoint("swin", lambda items: {**items, key: torch.zeros(9, 9, dtype=torch.int64)})
    assert f"network.{key}" not in built(folder).state_dict()


@every_network
def test_names_in_saved_models_are_those_in_checkpoints(checkpoints, name):
    stored = load_file(checkpoints[name] / "model.safetensors")
    module = built(checkpoints[name])
    own = {key.removeprefix("network."): value for key, value in module.state_dict().items()}
    assert own.keys() <= stored.keys()
    torch.testing.assert_close(own, {key: stored[key] for key in own}, atol=0, rtol=0)
    left_out = {key for key in stored if key not in own}
    assert all(key.startswith(("pooler.", "layernorm.")) or "relative_position_index" in key for key in left_out)


@pytest.mark.parametrize(
    ("name", "tensors", "config", "message"),
    [
        ("vit", None, {"model_type": "beit"}, "model_type='beit', expected one of resnet"),
        ("vit", None, {"patch_size": [4, 4]}, "patch_size"),
        ("vit", None, {"hidden_size": 32}, "expected \\[1, 1, 32\\]"),
        ("resnet", None, {"depths": [3, 1]}, "lack encoder.stages.0.layers.2"),
        ("resnet", None, {"depths": [1, 1]}, "have the unknown encoder.stages.0.layers.1"),
        ("efficientnet", None, {"strides": [1, 0, 1]}, "0 frames for each output"),
        ("efficientnet", None, {"hidden_dim": 64}, "hidden_dim=64, expected 320"),
        ("convnext", None, {"hidden_act": "no_such"}, "cannot be built"),
        ("swin", lambda items: {k: v for k, v in items.items() if "layers.1" not in k}, {}, "lack encoder.layers.1"),
    ],
)
def test_a_checkpoint_of_another_network_is_refused(changed_checkpoint, name, tensors, config, message):
    folder = changed_checkpoint(name, tensors, **config)
    with pytest.raises(WeightsError, match=message):
        ImageEncoder(weights=folder).resolved(sample_rate=16000, chunk_length=30.0)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"config": {"model_type": ["vit"]}}, "model_type"),
        ({"architecture": "efficientnet-b0", "config": {"width_coefficient": 0.5}}, "hidden_dim=1280, expected 640"),
        ({"preprocessor": {"image_mean": [0.1, 0.2]}}, "image_mean=\\[0.1, 0.2\\], expected 1 or num_channels=1"),
        ({"preprocessor": {"image_std": [0.0]}}, "image_std"),
        ({"preprocessor": {"image_mean": "bright"}}, "image_mean"),
        ({"weights": "folder"}, "expected None, so that fit reads the settings"),
        ({"config": {"hidden_sizes": 7}}, "hidden_sizes|cannot be built"),
    ],
)
def test_settings_that_are_not_valid_are_refused(params, message):
    with pytest.raises(ComponentError, match=message):
        ImageEncoder(**params).build(N_FEATURES, 100)


# ------------------------------------------------------------------ training


@every_network
def test_each_weight_is_in_one_layer(name):
    module = small_image_network(name).build(N_FEATURES, 100)
    parts = [{id(weight) for weight in part.parameters()} for part in module.parts_in_order()]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(list(module.parameters()))
    assert len(parts) == {"resnet": 4, "convnext": 4, "efficientnet": 4, "vit": 3, "swin": 5}[name]
    pickle.loads(pickle.dumps(module))


def test_statistics_of_a_checkpoint_and_layers_that_are_not_trained_stay(checkpoints):
    module = built(checkpoints["resnet"])
    module.parts_in_order()[0].requires_grad_(False)
    before = {name: value.clone() for name, value in module.named_buffers()}
    module.train()(*random_frames([20, 9], N_FEATURES))
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())
    assert not any(layer.training for part in module.parts_in_order()[:1] for layer in list(part.modules())[1:])
    assert any(layer.training for part in module.parts_in_order()[1:2] for layer in list(part.modules())[1:])


@pytest.fixture(scope="module")
def tones():
    return make_tones(n_clips=12, duration=(0.2, 0.4), random_state=0)


def test_the_last_layer_is_fine_tuned_and_the_model_is_saved_whole(checkpoints, tones, tmp_path):
    encoder = ImageEncoder(weights=checkpoints["resnet"], train="top-1")
    clf = ASTWClassifier(features=LogMel(n_mels=N_FEATURES), encoder=encoder, epochs=2, batch_size=4).fit(*tones)
    stored = load_file(checkpoints["resnet"] / "model.safetensors")
    own = clf.model_.encoder.state_dict()
    moved = {name for name, value in stored.items() if not torch.equal(own[f"network.{name}"], value)}
    assert moved
    assert all(name.startswith("encoder.stages.1.layers.0.") for name in moved)
    assert not any("running" in name for name in moved)

    folder = clf.save_pretrained(tmp_path / "model")
    encoder.set_params(weights=tmp_path / "gone")
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(tones[0]), clf.predict_proba(tones[0]))
    assert loaded.encoder.config["model_type"] == "resnet"


def test_a_frozen_network_becomes_a_front_end(checkpoints, tones, tmp_path):
    encoder = ImageEncoder(weights=checkpoints["convnext"])
    clf = ASTWClassifier(features=LogMel(n_mels=N_FEATURES), encoder=encoder, normalization="none", epochs=2).fit(
        *tones
    )
    components = clf.trained_.components
    assert isinstance(components.features, Frozen)
    assert isinstance(components.encoder, IdentityEncoder)
    module = built(checkpoints["convnext"])
    frames, lengths = LogMel(n_mels=N_FEATURES).build(16000)(
        torch.from_numpy(tones[0][0])[None], torch.tensor([len(tones[0][0])])
    )
    expected = module(frames, lengths)[0].mean(dim=1)
    np.testing.assert_allclose(clf.transform(tones[0][:1]), expected.detach().numpy(), atol=1e-4)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(tones[0]), clf.predict_proba(tones[0]))
