"""Functions that several test modules share."""

from __future__ import annotations

import fractions
import io
import multiprocessing
import os
import random
from contextlib import contextmanager
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.base import clone

from skastw.augment import Audiomentations, Noise, OneOf, Sequence, TimeStretch
from skastw.core.batching import pad
from skastw.core.component import component_names, resolve_component
from skastw.encoders import CNN10Encoder, ImageEncoder, TransformersEncoder
from skastw.features import Frozen, OnnxFeatures

DATA = Path(__file__).parent / "data"

# ------------------------------------------------------------------ sounds

#: A tenth of a second of noise at 16 kHz, and the same as float32, which 16-bit PCM holds exactly.
INT16 = np.random.default_rng(0).integers(-20000, 20000, size=1600, dtype=np.int16)
WAVEFORM = (INT16 / 32768).astype(np.float32)


def white_noise(n_samples, level=0.1, seed=0):
    return (level * np.random.default_rng(seed).normal(size=n_samples)).astype(np.float32)


def tone_sequence(*classes, seconds=1.0, sample_rate=8000):
    """Return a recording of one tone after the other, in the noise that ``make_tones`` has."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    sound = np.concatenate([0.5 * np.sin(2 * np.pi * 300 * 2**k * time) for k in classes])
    return (sound + 0.01 * np.random.default_rng(1).standard_normal(len(sound))).astype(np.float32)


def random_frames(lengths, n_features, seed=0):
    """Return a batch of random frames, which are zero beyond each length, and the lengths."""
    generator = torch.Generator().manual_seed(seed)
    return pad([torch.randn(length, n_features, generator=generator) for length in lengths])


# ------------------------------------------------------------------ audio files


def encode(samples, sample_rate, form="WAV", subtype=None, **options):
    """Return the bytes of a file that libsndfile writes from samples of shape (n,) or (n, channels)."""
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=form, subtype=subtype, **options)
    return file.getvalue()


def encode_by_pyav(samples, sample_rate, form, codec, bit_rate=None):
    """Return the bytes of a file that FFmpeg writes from samples of shape (channels, n)."""
    import av

    file, layout = io.BytesIO(), {1: "mono", 2: "stereo"}[len(samples)]
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        if bit_rate:
            stream.bit_rate = bit_rate

        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, fractions.Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


# ------------------------------------------------------------------ components


class Quieter:
    """A transform as the library audiomentations has them: it draws from Python's generator, and has parameters."""

    def __init__(self, min_factor=0.1, p=0.9):
        self.min_factor, self.p = min_factor, p
        self.parameters = {"should_apply": None}

    def __call__(self, samples, sample_rate):
        self.parameters["should_apply"] = random.random() < self.p
        return samples * random.uniform(self.min_factor, 1) if self.parameters["should_apply"] else samples

    def __repr__(self):
        return f"Quieter(min_factor={self.min_factor}, p={self.p})"


_BLOCKS = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
}
_CONVS = {"conv_dim": [16, 16], "conv_kernel": [8, 4], "conv_stride": [4, 3], "num_conv_pos_embedding_groups": 2}
_POSITIONS = {"num_conv_pos_embeddings": 4}
_NORMS = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
_PATCHES = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
#: Small networks of transformers without dropout, and the settings of their front ends.
NETWORKS = {
    "wav2vec2": (_BLOCKS | _CONVS | _POSITIONS, {}),
    "wav2vec2 with layer norms": (_BLOCKS | _CONVS | _POSITIONS | _NORMS, {"do_normalize": False}),
    "hubert": (_BLOCKS | _CONVS | _POSITIONS | {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}, {}),
    "wavlm": (_BLOCKS | _CONVS | _POSITIONS | {"num_buckets": 8, "max_bucket_distance": 12}, {}),
    "unispeech-sat": (_BLOCKS | _CONVS | _POSITIONS, {}),
    "data2vec-audio": (_BLOCKS | _CONVS | {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 3}, {}),
    "wav2vec2-bert": (
        _BLOCKS | {"feature_projection_input_dim": 16, "conv_depthwise_kernel_size": 3, "conformer_conv_dropout": 0.0},
        {"num_mel_bins": 8},
    ),
    "whisper": (
        {
            "d_model": 16,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "num_mel_bins": 4,
            "max_source_positions": 10,
            "dropout": 0.0,
        },
        {"n_fft": 16, "hop_length": 4},
    ),
    "audio-spectrogram-transformer": (
        {**_PATCHES, **{k: v for k, v in _BLOCKS.items() if "dropout" not in k}}
        | {"max_length": 24, "num_mel_bins": 16, "patch_size": 8, "frequency_stride": 8, "time_stride": 4},
        {},
    ),
    "clap_audio_model": (
        {
            **_PATCHES,
            "window_size": 2,
            "num_mel_bins": 4,
            "spec_size": 16,
            "patch_size": 2,
            "patch_stride": [2, 2],
            "patch_embeds_hidden_size": 8,
            "depths": [2, 1],
            "num_attention_heads": [2, 2],
        },
        {"sampling_rate": 16000, "fft_window_size": 16, "hop_length": 4, "max_length_s": 0.005, "frequency_max": 7000},
    ),
}


def small_network(name, **params):
    """Return the encoder of a small network with random weights."""
    config, preprocessor = NETWORKS[name]
    return TransformersEncoder(config={"model_type": name.split()[0], **config}, preprocessor=preprocessor, **params)


#: Small networks for images without dropout, by ``model_type``.
IMAGE_NETWORKS = {
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [2, 1], "layer_type": "basic"},
    "convnext": {
        "patch_size": 2,
        "num_stages": 2,
        "hidden_sizes": [8, 16],
        "depths": [1, 2],
        "layer_scale_init_value": 0.5,
    },
    "efficientnet": {
        "width_coefficient": 0.25,
        "depth_coefficient": 0.3,
        "depth_divisor": 4,
        "hidden_dim": 320,
        "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 40],
        "kernel_sizes": [3, 5, 3],
        "strides": [1, 2, 1],
        "num_block_repeats": [1, 2, 2],
        "expand_ratios": [1, 2, 2],
        "drop_connect_rate": 0.0,
    },
    "vit": {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "image_size": 16,
        "patch_size": 4,
    },
    "swin": {
        "embed_dim": 8,
        "depths": [2, 2],
        "num_heads": [2, 2],
        "window_size": 3,
        "patch_size": 2,
        "image_size": 16,
        "drop_path_rate": 0.0,
    },
}


def small_image_network(name, **params):
    """Return the encoder of a small network for images with random weights."""
    return ImageEncoder(config={"model_type": name, "num_channels": 1, **IMAGE_NETWORKS[name]}, **params)


#: Recipes that need the weights of a checkpoint.
TEMPLATES = ["finetune", "frozen"]

#: Components that need arguments, by kind and name, for the tests that all components of a kind must pass.
EXAMPLES = {
    ("features", "frozen"): Frozen(encoder=CNN10Encoder(width=4), features="log_mel"),
    ("augment", "audiomentations"): Audiomentations(transform=Quieter()),
    ("augment", "one_of"): OneOf(augmentations=[Noise(p=1.0), "time_stretch"]),
    ("augment", "sequence"): Sequence(augmentations=["gain", TimeStretch()]),
    ("features", "onnx"): OnnxFeatures(models=[str(DATA / "block_means.onnx")], window=240, hop=160),
    ("encoder", "transformers"): small_network("wav2vec2"),
    ("encoder", "image"): small_image_network("resnet"),
}


#: Front ends of the feature sets of openSMILE, whose package is not part of the extra ``test``.
OF_OPENSMILE = ("compare", "egemaps")
needs_opensmile = pytest.mark.skipif(find_spec("opensmile") is None, reason="needs the package opensmile")


def can_be_built(component):
    """Return whether the package of a component is installed."""
    return component.name not in OF_OPENSMILE or find_spec("opensmile") is not None


def frame_size(encoder, otherwise):
    """Return the number of values in a frame that an encoder takes: one sample, or any number."""
    return 1 if isinstance(encoder, TransformersEncoder) else otherwise


def example(base, name):
    """Return an object of a component."""
    return clone(EXAMPLES.get((base.kind, name)) or resolve_component(base, name))


def registered(base):
    """Return an object of each component of a kind."""
    return [example(base, name) for name in component_names(base.kind)]


def with_sizes(component, sizes):
    """Return a copy of a component with the sizes that it has as parameters."""
    return clone(component).set_params(**{k: v for k, v in sizes.items() if k in component.get_params()})


@contextmanager
def torch_seed(seed):
    """Seed torch's generator in a block, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


# ------------------------------------------------------------------ pages


class Page(HTMLParser):
    """What a page holds: text, tags, and everything that an attribute could load."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loaded, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data):
        self.words.append(data)


HOSTILE = "<script>alert('1')</script> & \"$x^2$\" \u202e"


# ------------------------------------------------------------------ processes

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


def start_child(function):
    """Start a function in a forked process, and return the process."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    return process


def run_in_child(function):
    """Run a function in a forked process, and return its exit code, which is negative if a signal ended it."""
    process = start_child(function)
    process.join()
    return process.exitcode
