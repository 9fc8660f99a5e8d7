"""Functions that several test modules share."""

from __future__ import annotations

import fractions
import io
import multiprocessing
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.base import clone

from skastw.core.batching import pad
from skastw.core.component import component_names, resolve_component
from skastw.encoders import CNN10Encoder
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


#: Components that need arguments, by kind and name, for the tests that all components of a kind must pass.
EXAMPLES = {
    ("features", "frozen"): Frozen(encoder=CNN10Encoder(width=4), features="log_mel"),
    ("features", "onnx"): OnnxFeatures(models=[str(DATA / "block_means.onnx")], window=240, hop=160),
}


def registered(base):
    """Return an object of each component of a kind."""
    return [EXAMPLES.get((base.kind, name)) or resolve_component(base, name) for name in component_names(base.kind)]


def with_sizes(component, sizes):
    """Return a copy of a component with the sizes that it has as parameters."""
    return clone(component).set_params(**{k: v for k, v in sizes.items() if k in component.get_params()})


@contextmanager
def torch_seed(seed):
    """Seed torch's generator in a block, and leave it as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


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
