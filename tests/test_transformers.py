"""Networks of transformers: their outputs, their checkpoints, and what is wrong with checkpoints."""

import copy
import json
import os
import pickle
import shutil
import struct
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers import NETWORKS, small_network, torch_seed
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.core.batching import pad
from skastw.datasets import make_tones
from skastw.encoders import TransformersEncoder
from skastw.encoders._families import FAMILIES
from skastw.errors import ComponentError, ExportError, MissingDependencyError, WeightsError
from skastw.features import Frozen
from skastw.storage.checkpoints import open_checkpoint, read_tensors
from test_hub import Client

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers
    from transformers import (
        ASTConfig,
        ASTFeatureExtractor,
        ASTForAudioClassification,
        ClapAudioConfig,
        ClapAudioModel,
        ClapConfig,
        ClapFeatureExtractor,
        ClapModel,
        Data2VecAudioConfig,
        Data2VecAudioModel,
        HubertConfig,
        HubertModel,
        SeamlessM4TFeatureExtractor,
        UniSpeechSatConfig,
        UniSpeechSatModel,
        Wav2Vec2BertConfig,
        Wav2Vec2BertModel,
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Model,
        WavLMConfig,
        WavLMModel,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

RATE = 16000
BLOCKS = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
SAMPLES = {
    **BLOCKS,
    "conv_dim": (8, 8, 8),
    "conv_kernel": (10, 3, 3),
    "conv_stride": (10, 4, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}
STABLE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
SWIN = {"window_size": 4, "num_mel_bins": 16, "spec_size": 64, "patch_embeds_hidden_size": 8, "hidden_size": 16}
SWIN |= {"depths": [2, 2], "num_attention_heads": [2, 2]}
SOUND = {"feature_size": 16, "max_length_s": 1, "sampling_rate": RATE, "hop_length": 160, "fft_window_size": 512}
SOUND |= {"frequency_max": 7000}
TEXT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 10}
TOKENS = {"vocab_size": 10, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": 0}
SPEECH = {"d_model": 16, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "num_mel_bins": 20}
SPEECH |= {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_source_positions": 100}
CONFORMER = {**BLOCKS, "feature_projection_input_dim": 40, "conv_depthwise_kernel_size": 5}
CONFORMER |= {"left_max_position_embeddings": 6, "right_max_position_embeddings": 3}

#: Makers of a network and of its front end, by name, as transformers has them.
CASES = {
    "wav2vec2": lambda: (Wav2Vec2Model(Wav2Vec2Config(**SAMPLES)), Wav2Vec2FeatureExtractor()),
    "wav2vec2 with layer norms": lambda: (
        Wav2Vec2Model(Wav2Vec2Config(**SAMPLES, **STABLE)),
        Wav2Vec2FeatureExtractor(return_attention_mask=True),
    ),
    "wav2vec2 with a head": lambda: (
        Wav2Vec2ForCTC(Wav2Vec2Config(**SAMPLES, vocab_size=5)),
        Wav2Vec2FeatureExtractor(do_normalize=False),
    ),
    "hubert": lambda: (HubertModel(HubertConfig(**SAMPLES)), Wav2Vec2FeatureExtractor()),
    "hubert with a batch norm": lambda: (
        HubertModel(HubertConfig(**SAMPLES, conv_pos_batch_norm=True, feat_proj_layer_norm=False)),
        Wav2Vec2FeatureExtractor(),
    ),
    "wavlm": lambda: (
        WavLMModel(WavLMConfig(**SAMPLES, num_buckets=8, max_bucket_distance=20)),
        Wav2Vec2FeatureExtractor(),
    ),
    "wavlm with layer norms": lambda: (
        WavLMModel(WavLMConfig(**SAMPLES, **STABLE, num_buckets=8, max_bucket_distance=20)),
        Wav2Vec2FeatureExtractor(),
    ),
    "unispeech-sat": lambda: (UniSpeechSatModel(UniSpeechSatConfig(**SAMPLES)), Wav2Vec2FeatureExtractor()),
    "data2vec-audio": lambda: (
        Data2VecAudioModel(Data2VecAudioConfig(**{**SAMPLES, "num_conv_pos_embeddings": 3}, conv_pos_kernel_size=5)),
        Wav2Vec2FeatureExtractor(),
    ),
    "wav2vec2-bert": lambda: (
        Wav2Vec2BertModel(Wav2Vec2BertConfig(**CONFORMER)),
        SeamlessM4TFeatureExtractor(num_mel_bins=20, feature_size=20),
    ),
    "whisper": lambda: (
        WhisperForConditionalGeneration(WhisperConfig(**SPEECH, **TOKENS, max_target_positions=8)),
        WhisperFeatureExtractor(feature_size=20, chunk_length=2),
    ),
    "audio-spectrogram-transformer": lambda: (
        ASTForAudioClassification(ASTConfig(**BLOCKS, max_length=128, num_mel_bins=32)),
        ASTFeatureExtractor(num_mel_bins=32, max_length=128),
    ),
    "clap": lambda: (
        ClapModel(ClapConfig(audio_config=SWIN, text_config=TEXT, projection_dim=4)),
        ClapFeatureExtractor(**SOUND, truncation="rand_trunc"),
    ),
    "clap_audio_model": lambda: (
        ClapAudioModel(ClapAudioConfig(**SWIN, enable_fusion=True)),
        ClapFeatureExtractor(**SOUND, truncation="fusion"),
    ),
}
CLIPS = [
    (0.1 * np.random.default_rng(n).standard_normal(n) + 0.03).astype(np.float32) for n in (700, 3001, 8000, RATE - 1)
]


@pytest.fixture(scope="module")
def client(hub_server, tmp_path_factory):
    """Return a process that uses the Hub; see ``test_hub.py``."""
    process = Client(hub_server, tmp_path_factory.mktemp("hub") / "home")
    yield process
    process.close()


@pytest.fixture(scope="module", autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def filled(model):
    """Return a network with random weights with which all layers have outputs of order 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            values = torch.randn(weight.shape, generator=generator)
            around = 1.0 if name.endswith(("norm.weight", "layernorm_before.weight", "original0")) else 0.0
            weight.copy_(around + values * (1.0 if weight.ndim < 2 else 2 / weight[0].numel() ** 0.5))
        for name, values in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Return a function that returns a network, its front end, and the folder in which both are saved."""
    made = {}

    def get(name):
        if name not in made:
            model, extractor = CASES[name]()
            folder = tmp_path_factory.mktemp("checkpoint")
            filled(model).save_pretrained(folder)
            extractor.save_pretrained(folder)
            made[name] = model, extractor, folder
        return made[name]

    return get


@pytest.fixture
def checkpoint(saved, tmp_path):
    """Return the folder of a small wav2vec 2.0, which a test may change."""
    return Path(shutil.copytree(saved("wav2vec2")[2], tmp_path / "checkpoint"))


def loaded(weights, **params):
    """Return the module of an encoder with the weights of a checkpoint, as ``fit`` builds it."""
    encoder = TransformersEncoder(weights=weights, **params).resolved(RATE, 1.0)
    module = encoder.build(1, RATE).eval()
    module.load_state_dict(dict(encoder.initial_weights()))
    return module


def batch_of(*clips):
    return pad([torch.from_numpy(clip)[:, None] for clip in clips])


@torch.no_grad()
def by_transformers(model, extractor, clip, layer="last"):
    """Return the frames of a clip that transformers computes, before those of the padding are cut off."""
    inputs = dict(extractor(clip, sampling_rate=RATE, return_tensors="pt"))
    if isinstance(extractor, ClapFeatureExtractor):
        inputs = {"input_features": inputs["input_features"].float(), "is_longer": torch.tensor([[False]])}
        return getattr(model, "audio_model", model)(**inputs).last_hidden_state.mean(dim=2).transpose(1, 2)[0]
    if isinstance(extractor, Wav2Vec2FeatureExtractor):
        inputs = {"input_values": inputs["input_values"]}

    network = getattr(model, model.base_model_prefix, model)
    outputs = getattr(network, "encoder", network) if isinstance(extractor, WhisperFeatureExtractor) else network
    outputs = outputs(**inputs, output_hidden_states=True)
    state = outputs.last_hidden_state[0] if layer == "last" else outputs.hidden_states[layer][0]
    if isinstance(extractor, ASTFeatureExtractor):
        patches = state[2:].unflatten(0, (-1, 12)).mean(dim=0)
        return torch.cat([patches, state[:2].mean(dim=0).expand_as(patches)], dim=1)
    return state


# ------------------------------------------------------------------ outputs


@pytest.mark.parametrize("name", CASES)
def test_a_clip_has_the_outputs_that_transformers_computes_alone_and_padded(name, saved):
    model, extractor, folder = saved(name)
    module = loaded(folder)
    with torch.inference_mode():
        together, lengths = module(*batch_of(*CLIPS))
        for clip, frames, length in zip(CLIPS, together, lengths.tolist(), strict=True):
            expected = by_transformers(model, extractor, clip)[:length]
            alone, count = module(*batch_of(clip))
            assert int(count) == alone.shape[1] == length
            scale = max(1.0, float(expected.abs().max()))
            torch.testing.assert_close(alone[0], expected, atol=1e-5 * scale, rtol=0)
            torch.testing.assert_close(frames[:length], expected, atol=1e-5 * scale, rtol=0)
            assert not frames[length:].any()
    assert together.shape == (4, max(lengths), module.n_outputs)
    n_samples = [len(clip) for clip in CLIPS]
    assert np.allclose(lengths, np.array(n_samples) / module.stride, atol=1.5)


@pytest.mark.parametrize(
    "name", ["wav2vec2", "wavlm with layer norms", "wav2vec2-bert", "whisper", "audio-spectrogram-transformer"]
)
@pytest.mark.parametrize("layer", [0, 2])
def test_a_layer_is_a_hidden_state_of_transformers(name, layer, saved):
    model, extractor, folder = saved(name)
    module = loaded(folder, layer=layer)
    with torch.inference_mode():
        frames, lengths = module(*batch_of(CLIPS[1]))
    expected = by_transformers(model, extractor, CLIPS[1], layer)[: int(lengths)]
    torch.testing.assert_close(frames[0], expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)
    assert len(module.blocks) == layer


@pytest.mark.parametrize("name", ["wav2vec2 with layer norms", "audio-spectrogram-transformer"])
def test_weighted_layers_are_a_learned_mean_of_the_hidden_states(name, saved):
    *_, folder = saved(name)
    module = loaded(folder, layer="weighted")
    states = [loaded(folder, layer=layer)(*batch_of(CLIPS[1]))[0] for layer in range(4)]
    torch.testing.assert_close(module(*batch_of(CLIPS[1]))[0], torch.stack(states).mean(dim=0), atol=1e-4, rtol=0)
    torch.nn.init.constant_(module.layer_weights[2:3], 100.0)
    torch.testing.assert_close(module(*batch_of(CLIPS[1]))[0], states[2], atol=1e-4, rtol=0)


def test_a_clip_that_is_shorter_than_a_window_has_one_frame(saved):
    for name in ("wav2vec2", "wav2vec2-bert", "whisper", "audio-spectrogram-transformer", "clap"):
        module = loaded(saved(name)[2])
        for samples in (1, 2, 30):
            alone, count = module(*batch_of(CLIPS[0][:samples]))
            assert count.tolist() == [1]
            assert alone.isfinite().all()
            together, _ = module(*batch_of(CLIPS[0][:samples], CLIPS[1]))
            torch.testing.assert_close(together[0, :1], alone[0], atol=1e-4, rtol=0)


def test_a_network_can_be_copied_and_pickled_and_keeps_its_outputs(saved):
    for name in ("wav2vec2", "data2vec-audio", "audio-spectrogram-transformer"):
        module = loaded(saved(name)[2], layer="weighted")
        expected = module(*batch_of(*CLIPS[:2]))[0]
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(other(*batch_of(*CLIPS[:2]))[0], expected)
            other.load_state_dict(module.state_dict())


def test_weights_have_the_names_of_checkpoints_in_every_release(saved):
    """Saved models must load when a release of transformers renames its layers."""
    *_, folder = saved("audio-spectrogram-transformer")
    stored = {name for name in load_file(folder / "model.safetensors") if not name.startswith("classifier.")}
    module = loaded(folder)
    prefix = "audio_spectrogram_transformer."
    assert {f"{prefix}{name.removeprefix('network.')}" for name in module.state_dict()} == stored
    assert any("attention.attention.query" in name for name in stored)


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "clap_audio_model"])
def test_layers_are_those_below_the_blocks_and_each_block(name):
    module = small_network(name).build(1, 70)
    layers = module.parts_in_order()
    assert len(layers) == 2 + (2 if FAMILIES[name.split()[0]].front_end == "samples" else 1)
    counted = [id(weight) for layer in layers for weight in layer.parameters()]
    assert sorted(counted) == sorted(id(weight) for weight in module.parameters())
    weighted = small_network(name, layer="weighted").build(1, 70)
    counted = {id(weight) for part in weighted.parts_in_order() for weight in part.parameters()}
    assert [key for key, weight in weighted.named_parameters() if id(weight) not in counted] == ["layer_weights"]


def test_layers_that_are_not_trained_stay_in_evaluation_mode():
    encoder = small_network("wav2vec2")
    encoder.config |= {"hidden_dropout": 0.5, "feat_proj_dropout": 0.5, "attention_dropout": 0.5}
    with torch_seed(0):
        module = encoder.build(1, 70)
    bottom, *others, last = module.parts_in_order()
    samples = torch.randn(2, 70, 1, generator=torch.Generator().manual_seed(0)), torch.tensor([70, 50])

    def varies():
        module.train()
        return not torch.equal(module(*samples)[0], module(*samples)[0])

    assert varies()
    for part in (bottom, *others):
        part.requires_grad_(False)
    assert varies()
    assert last.training
    frozen = [inner for part in (bottom, *others) for inner in part.modules()]
    assert not any(inner.training for inner in frozen if not isinstance(inner, torch.nn.ModuleList))
    last.requires_grad_(False)
    assert not varies()


def test_batch_norms_keep_their_statistics():
    module = small_network("clap_audio_model").build(1, 70).train()
    before = {name: value.clone() for name, value in module.named_buffers()}
    module(torch.randn(2, 70, 1), torch.tensor([70, 50]))
    assert all(torch.equal(value, before[name]) for name, value in module.named_buffers())


TONES, Y = make_tones(n_clips=24, n_classes=2, sample_rate=RATE, duration=(0.1, 0.2), random_state=0)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("wav2vec2", {"train": "none"}),
        ("wav2vec2", {"train": "none", "layer": "weighted"}),
        ("wav2vec2", {"train": "all"}),
        ("wavlm", {"train": "top-1"}),
        ("audio-spectrogram-transformer", {"train": "top-1"}),
        ("clap", {"train": "none"}),
        ("whisper", {"train": "none", "layer": 2}),
    ],
    ids=str,
)
def test_a_model_is_trained_and_saved_and_loads_without_the_checkpoint(name, params, saved, tmp_path):
    folder = shutil.copytree(saved(name)[2], tmp_path / "checkpoint")
    encoder = TransformersEncoder(weights=folder, **params)
    clf = ASTWClassifier(encoder=encoder, features="waveform", augment=None, chunk_length=1.0, epochs=2, val_split=None)
    clf.set_params(precision="float32", batch_size=8).fit(TONES, Y)

    components = clf.trained_.components
    frozen = params["train"] == "none" and params.get("layer") != "weighted"
    assert (components.features.name, components.encoder.name) == (
        ("frozen", "identity") if frozen else ("waveform", "transformers")
    )
    network = clf.model_.features.encoder if frozen else clf.model_.encoder
    start = loaded(folder, layer=params.get("layer", "last")).state_dict()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, start[name])}
    expected = {
        "none": {"layer_weights"} if params.get("layer") == "weighted" else set(),
        "top-1": {n for n in start if ".layers.2." in n or ".layer.2." in n or n.startswith("network.layernorm")},
        "all": set(start),
    }[params["train"]]
    assert changed <= expected
    assert len(changed) >= 0.8 * len(expected)

    path = clf.save_pretrained(tmp_path / "model")
    shutil.rmtree(folder)
    again = ASTWClassifier.from_pretrained(path)
    np.testing.assert_allclose(again.predict_proba(TONES), clf.predict_proba(TONES), atol=1e-6)
    if frozen:
        assert json.loads((Path(path) / "config.json").read_text())["features"]["params"]["encoder"]["params"]["config"]


def test_frames_of_a_frozen_network_are_those_of_transformers(saved):
    model, extractor, folder = saved("hubert")
    front_end = Frozen(encoder=TransformersEncoder(weights=folder), chunk_length=1.0)
    frames = ASTWFeaturizer(features=front_end, sample_rate=RATE).fit_transform(CLIPS[2:3])[0]
    np.testing.assert_allclose(frames, by_transformers(model, extractor, CLIPS[2]), atol=1e-4)


# ------------------------------------------------------------------ settings


def test_another_sample_rate_or_a_longer_chunk_is_refused_with_the_value_to_set(saved):
    encoder = TransformersEncoder(weights=saved("clap")[2])
    with pytest.raises(ComponentError, match=r"sample_rate=22050.*clap_audio_model.*set sample_rate=16000"):
        encoder.resolved(22050, 1.0)
    with pytest.raises(ComponentError, match=r"chunks of 30 s.*at most 1 s: set chunk_length=1\."):
        encoder.resolved(RATE, 30.0)
    with pytest.raises(ComponentError, match=r"chunks of 2 s.*at most 1.28 s: set chunk_length=1.28"):
        TransformersEncoder(weights=saved("audio-spectrogram-transformer")[2]).resolved(RATE, 2.0)
    with pytest.raises(ComponentError, match="set chunk_length=1"):
        encoder.resolved(RATE, 1.0).build(1, 3 * RATE)
    TransformersEncoder(weights=saved("wav2vec2")[2]).resolved(RATE, 3600.0)


@pytest.mark.parametrize(
    ("model_type", "longest"), [("whisper", 30), ("audio-spectrogram-transformer", 10.24), ("clap", 10)]
)
def test_the_published_networks_take_clips_of_these_lengths(model_type, longest):
    rate = 48000 if model_type == "clap" else RATE
    encoder = TransformersEncoder(config={"model_type": model_type})
    encoder.resolved(rate, longest)
    with pytest.raises(ComponentError, match=rf"set chunk_length={longest}\."):
        encoder.resolved(rate, longest + 0.1)


def test_a_network_needs_samples_and_settings():
    with pytest.raises(ComponentError, match="set features='waveform'"):
        small_network("wav2vec2").build(80, 1000)
    with pytest.raises(ComponentError, match=r"config=None.*weights="):
        TransformersEncoder().build(1, 1000)


def test_the_extra_is_named_if_transformers_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match=r"'transformers'.*\[pretrained\]"):
        small_network("wav2vec2").build(1, 70)


@pytest.mark.parametrize(("name", "layer"), [("clap_audio_model", 0), ("clap_audio_model", "weighted"), ("wavlm", 3)])
def test_a_layer_that_a_network_does_not_have_is_refused(name, layer):
    with pytest.raises(ComponentError, match=f"layer={layer!r}.*expected"):
        small_network(name, layer=layer).build(1, 70)


@pytest.mark.parametrize("model_type", ["bert", "wav2vec3", None, 3, "../wav2vec2"])
def test_only_known_networks_are_built(model_type):
    with pytest.raises(ComponentError, match=r"model_type.*wav2vec2-bert"):
        TransformersEncoder(config={"model_type": model_type}).check_params()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hidden_size", 10**9),
        ("hidden_size", -16),
        ("hidden_size", 15),
        ("hidden_size", "16"),
        ("num_attention_heads", 0),
        ("conv_stride", [0, 0]),
        ("conv_stride", [2] * 1000),
        ("conv_kernel", {"a": 1}),
        ("hidden_act", "os.system"),
        ("layer_norm_eps", float("inf")),
    ],
)
def test_settings_that_make_no_network_are_refused(setting, value):
    encoder = small_network("wav2vec2")
    encoder.config = {**encoder.config, setting: value}
    with pytest.raises(ComponentError, match=r"Got config|has |holds"):
        encoder.build(1, 70)


@pytest.mark.parametrize(
    ("name", "where", "change"),
    [
        ("whisper", "config", {"max_source_positions": 60000}),
        ("whisper", "preprocessor", {"hop_length": 65536 * 64}),
        ("whisper", "preprocessor", {"hop_length": 0}),
        ("clap_audio_model", "config", {"window_size": 5000}),
        ("clap_audio_model", "preprocessor", {"max_length_s": 60000, "sampling_rate": 60000}),
        ("wav2vec2-bert", "config", {"position_embeddings_type": "rotary"}),
        ("wav2vec2-bert", "preprocessor", {"stride": 3}),
        ("wav2vec2-bert", "preprocessor", {"stride": "x"}),
        ("whisper", "preprocessor", {"n_fft": None}),
        ("clap_audio_model", "preprocessor", {"frequency_min": [50]}),
        ("clap_audio_model", "preprocessor", {"max_length_s": 1e300}),
        ("clap_audio_model", "config", {"patch_stride": [4]}),
        ("audio-spectrogram-transformer", "preprocessor", {"std": 0}),
    ],
)
def test_settings_that_need_absurd_memory_or_do_not_fit_are_refused(name, where, change):
    encoder = small_network(name)
    setattr(encoder, where, {**getattr(encoder, where), **change})
    with pytest.raises(ComponentError, match="expected"):
        encoder.build(1, 70)


# ------------------------------------------------------------------ checkpoints


def rewrite(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def test_the_settings_and_the_source_of_a_checkpoint_are_kept(checkpoint):
    (checkpoint / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: none\n")
    encoder = TransformersEncoder(weights=checkpoint).resolved(RATE, 1.0)
    assert encoder.config["model_type"] == "wav2vec2"
    assert encoder.config["conv_kernel"] == [10, 3, 3]
    assert not {"_name_or_path", "architectures", "vocab_size", "layerdrop"} & encoder.config.keys()
    assert encoder.preprocessor == {"sampling_rate": RATE, "do_normalize": True}
    assert encoder.source["weights"] == "checkpoint"
    assert encoder.source["license"] == "apache-2.0"
    assert len(encoder.source["sha256"]) == 64

    shutil.rmtree(checkpoint)
    assert encoder.resolved(RATE, 1.0).source == encoder.source
    encoder.build(1, RATE)
    with pytest.raises(WeightsError, match="checkpoint"):
        encoder.initial_weights()


def test_other_weights_than_those_of_fit_are_refused(checkpoint):
    encoder = TransformersEncoder(weights=checkpoint).resolved(RATE, 1.0)
    weights = load_file(checkpoint / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in weights.items()}, checkpoint / "model.safetensors")
    with pytest.raises(WeightsError, match=r"SHA-256.*changed"):
        encoder.initial_weights()


def test_settings_of_a_processor_and_of_the_user_are_used(checkpoint):
    (checkpoint / "preprocessor_config.json").rename(checkpoint / "processor_config.json")
    content = json.loads((checkpoint / "processor_config.json").read_text())
    (checkpoint / "processor_config.json").write_text(
        json.dumps({"feature_extractor": {**content, "do_normalize": False}})
    )
    assert TransformersEncoder(weights=checkpoint).resolved(RATE, 1.0).preprocessor["do_normalize"] is False
    encoder = TransformersEncoder(weights=checkpoint, preprocessor={"do_normalize": True})
    assert encoder.resolved(RATE, 1.0).preprocessor["do_normalize"] is True


def test_a_file_needs_its_settings(checkpoint, saved):
    file = checkpoint / "model.safetensors"
    config = json.loads((checkpoint / "config.json").read_text())
    with pytest.raises(WeightsError, match=r"no config.json.*config="):
        loaded(file)
    with pytest.raises(WeightsError, match=r"no preprocessor_config.json.*preprocessor="):
        loaded(file, config=config)
    module = loaded(file, config=config, preprocessor={})
    assert torch.equal(module(*batch_of(CLIPS[0]))[0], loaded(saved("wav2vec2")[2])(*batch_of(CLIPS[0]))[0])


def test_checkpoints_in_parts_and_in_half_precision_are_read(saved, tmp_path):
    model, extractor, folder = saved("hubert")
    expected = loaded(folder)(*batch_of(*CLIPS[:2]))[0]
    model.save_pretrained(tmp_path / "parts", max_shard_size="8KB")
    extractor.save_pretrained(tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    assert torch.equal(loaded(tmp_path / "parts")(*batch_of(*CLIPS[:2]))[0], expected)

    for dtype in (torch.bfloat16, torch.float16):
        half = tmp_path / str(dtype)
        copy.deepcopy(model).to(dtype).save_pretrained(half)
        extractor.save_pretrained(half)
        module = loaded(half)
        assert {value.dtype for value in module.state_dict().values()} == {torch.float32}
        torch.testing.assert_close(
            module.state_dict(),
            {name: value.to(dtype).float() for name, value in loaded(folder).state_dict().items()},
        )


def test_weight_norm_has_had_two_pairs_of_names(checkpoint):
    expected = loaded(checkpoint).state_dict()
    weights = load_file(checkpoint / "model.safetensors")
    pairs = (".parametrizations.weight.original0", ".weight_g"), (".parametrizations.weight.original1", ".weight_v")
    for ends in pairs:
        (found,) = [name for name in weights if name.endswith(ends)]
        (old,) = [end for end in ends if found.endswith(end)]
        (new,) = set(ends) - {old}
        weights[found.removesuffix(old) + new] = weights.pop(found)
    save_file(weights, checkpoint / "model.safetensors")
    torch.testing.assert_close(loaded(checkpoint).state_dict(), expected)


def test_a_folder_with_a_file_of_torch_is_converted(checkpoint, saved, tmp_path, monkeypatch):
    monkeypatch.setenv("SKASTW_CACHE", str(tmp_path / "cache"))
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    torch.testing.assert_close(loaded(checkpoint).state_dict(), loaded(saved("wav2vec2")[2]).state_dict())


def test_code_of_a_repository_is_never_used(checkpoint):
    rewrite(checkpoint / "config.json", auto_map={"AutoModel": "evil.Model"}, _name_or_path="elsewhere/evil")
    (checkpoint / "evil.py").write_text("raise SystemExit('executed')")
    encoder = TransformersEncoder(weights=checkpoint).resolved(RATE, 1.0)
    assert not {"auto_map", "_name_or_path"} & encoder.config.keys()
    loaded(checkpoint)


def damage(folder, how):
    """Change a checkpoint so that it cannot be used."""
    weights = load_file(folder / "model.safetensors")
    name = "encoder.layers.1.attention.k_proj.weight"
    if how == "missing":
        del weights[name]
    elif how == "unknown":
        weights["encoder.layers.1.attention.gate"] = torch.ones(2)
    elif how == "shape":
        weights[name] = weights[name][:, :8].contiguous()
    elif how == "nan":
        weights[name][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    file = folder / "model.safetensors"
    if how == "pickle":
        torch.save(weights, file)
    elif how == "only a program":
        file.unlink()
        torch.save({**weights, "run": Path("evil")}, folder / "pytorch_model.bin")
    elif how == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "another network":
        rewrite(
            folder / "config.json", model_type="hubert", conv_dim=[8, 8, 8, 8], conv_kernel=[3] * 4, conv_stride=[2] * 4
        )
    elif how == "unknown network":
        rewrite(folder / "config.json", model_type="nemo")
    elif how == "larger":
        rewrite(folder / "config.json", hidden_size=32)
    elif how == "deeper":
        rewrite(folder / "config.json", num_hidden_layers=60000)
    elif how == "nested":
        (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    elif how == "a part elsewhere":
        file.rename(folder.parent / "model.safetensors")
        index = {"weight_map": dict.fromkeys(weights, "../model.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"lack encoder.layers.1.attention.k_proj.weight"),
        ("unknown", r"unknown encoder.layers.1.attention.gate"),
        ("shape", r"k_proj.weight of shape \[16, 8\], expected \[16, 16\]"),
        ("nan", "NaN.*k_proj.weight"),
        ("pickle", "torch.save"),
        ("only a program", r"cannot be converted.*Nothing in it was executed"),
        ("cut", "damaged"),
        ("another network", "lack "),
        ("unknown network", "model_type='nemo'.*wav2vec2"),
        ("larger", r"of shape \[\d+(, \d+)*\], expected"),
        ("deeper", "more weights than model.safetensors"),
        ("nested", "cannot be read as JSON"),
        ("a part elsewhere", "weight_map.*expected the name of a safetensors file"),
    ],
)
def test_what_is_wrong_with_a_checkpoint_is_said(how, message, checkpoint):
    damage(checkpoint, how)
    with pytest.raises(WeightsError, match=message) as raised:
        loaded(checkpoint)
    assert str(checkpoint) in str(raised.value)


def test_a_config_that_does_not_fit_allocates_no_network(checkpoint):
    rewrite(checkpoint / "config.json", hidden_size=65536, intermediate_size=65536, num_attention_heads=1)
    before = _resident()
    with pytest.raises(WeightsError, match="expected"):
        loaded(checkpoint)
    assert _resident() - before < 200e6


def _resident():
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs /proc")
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_file_is_no_checkpoint_because_of_its_name(tmp_path):
    for content in (b"", b"PK\x03\x04 and so on", struct.pack("<Q", 2**40) + b"{}", b"\x80\x02}q\x00."):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(WeightsError, match=r"model\.safetensors"):
            open_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        open_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize(
    "card", ["", "---\nlicense: [\n", "---\nlicense: other \nlicense_name: my-own # ours\n---\n", "license: mit\n"]
)
def test_the_licence_is_that_of_the_metadata(card, checkpoint):
    (checkpoint / "README.md").write_text(card)
    assert open_checkpoint(checkpoint).source.get("license") == ("my-own" if "my-own" in card else None)


# ------------------------------------------------------------------ the Hub


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_a_repository_is_loaded_once_and_then_offline(hub_server, client, saved):
    *_, folder = saved("wav2vec2")
    commit = hub_server.add("lab/w2v", {**files_of(folder), "README.md": b"---\nlicense: mit\n---\n"})
    expected = loaded(folder)(*batch_of(CLIPS[0]))[0][0].tolist()
    answer = client.ask("frames_of_encoder", "lab/w2v", CLIPS[0].tolist())
    assert "pin its commit" in answer.warnings[0]
    stated = {"weights": "lab/w2v", "commit": commit, "license": "mit"}
    assert answer.value["source"] == {**answer.value["source"], **stated}
    assert answer.value["frames"] == expected

    hub_server.add("lab/w2v", files_of(saved("hubert")[2]))  # another commit does not matter
    n_requests = len(hub_server.seen)
    pinned = client.ask("frames_of_encoder", "lab/w2v", CLIPS[0].tolist(), revision=commit)
    assert pinned.value["frames"] == expected
    assert len(hub_server.seen) == n_requests

    hub_server.stop()
    try:
        assert client.ask("frames_of_encoder", "lab/w2v", CLIPS[0].tolist(), revision=commit).value == pinned.value
        other = client.ask("frames_of_encoder", "lab/other", CLIPS[0].tolist(), revision=commit)
        assert (other.error, "cannot be reached" in other.message) == ("WeightsError", True), other.message
    finally:
        hub_server.start()


def test_half_a_download_is_repaired_or_named(hub_server, client, saved):
    commit = hub_server.add("lab/half", files_of(saved("wav2vec2")[2]))
    where = ("lab/half", CLIPS[0].tolist())
    first = client.ask("frames_of_encoder", *where, revision=commit)
    (blob,) = [path.resolve() for path in client.home.rglob("models--lab--half/**/model.safetensors")]
    blob.write_bytes(blob.read_bytes()[:-1000])
    again = client.ask("frames_of_encoder", *where, revision=commit)
    assert (again.error, again.value) == ("", first.value)

    blob.write_bytes(blob.read_bytes()[:-1000])
    rule = hub_server.fail("lab/half", status=500)
    broken = client.ask("frames_of_encoder", *where, revision=commit)
    assert broken.error == "WeightsError"
    assert "damaged" in broken.message
    hub_server.rules.remove(rule)


def test_a_repository_in_parts_is_loaded(hub_server, client, saved):
    files = files_of(saved("wav2vec2")[2])
    names = read_tensors(open_checkpoint(saved("wav2vec2")[2]))
    files["a.safetensors"] = files.pop("model.safetensors")
    files["model.safetensors.index.json"] = json.dumps({"weight_map": dict.fromkeys(names, "a.safetensors")}).encode()
    hub_server.add("lab/parts", files)
    answer = client.ask("frames_of_encoder", "lab/parts", CLIPS[0].tolist(), revision="main")
    assert answer.value["frames"] == loaded(saved("wav2vec2")[2])(*batch_of(CLIPS[0]))[0][0].tolist()


def test_what_a_repository_lacks_is_said(hub_server, client, saved):
    files = files_of(saved("wav2vec2")[2])
    hub_server.add("lab/pickle", {"pytorch_model.bin": b"PK", "config.json": files["config.json"]})
    hub_server.add("lab/settings", {name: files[name] for name in ("config.json", "model.safetensors")})
    hub_server.fail("lab/gone", status=503)
    messages = {"lab/pickle": "torch.save", "lab/settings": "preprocessor=", "lab/none": "lab/none", "lab/gone": "503"}
    for name, message in messages.items():
        answer = client.ask("frames_of_encoder", name, CLIPS[0].tolist(), revision="main")
        assert (answer.error, message in answer.message) == ("WeightsError", True), answer.message


# ------------------------------------------------------------------ ONNX


def fitted(name, **params):
    """Return a model with a small network, whose chunks are as long as the network takes."""
    lengths = {"whisper": 0.005, "clap_audio_model": 0.005, "audio-spectrogram-transformer": 0.24}
    encoder = small_network(name, **params)
    clf = ASTWClassifier(encoder=encoder, features="waveform", augment=None, epochs=1, val_split=None)
    return clf.set_params(chunk_length=lengths.get(name, 1.0)).fit(TONES[:8], Y[:8])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "clap_audio_model"])
def test_networks_are_exported_to_onnx(name, tmp_path):
    fitted(name, layer="weighted").export_onnx(tmp_path / "model.onnx")  # compares the file with the model


@pytest.mark.slow
def test_a_frozen_network_is_exported_to_onnx(saved, tmp_path):
    encoder = TransformersEncoder(weights=saved("wavlm")[2])
    clf = ASTWClassifier(encoder=encoder, features="waveform", augment=None, chunk_length=1.0, epochs=1, val_split=None)
    clf.fit(TONES[:8], Y[:8]).export_onnx(tmp_path / "model.onnx")


@pytest.mark.slow
def test_onnx_says_what_it_cannot_express(tmp_path):
    with pytest.raises(ExportError, match="encoder='transformers' cannot be expressed"):
        fitted("clap_audio_model").export_onnx(tmp_path / "model.onnx")
