"""What several test modules share. The session's objects are never changed: a test that changes one takes a copy."""

import json

import numpy as np
import pytest
import soundfile

from helpers import INT16, TEMPLATES, torch_seed
from hub_server import HubServer
from skastw import ASTWClassifier
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder

# ------------------------------------------------------------------ sounds


@pytest.fixture(scope="session")
def tone_clips():
    """Return 24 tones of three octaves and their classes 0, 1 and 2."""
    return make_tones(n_clips=24, random_state=0)


@pytest.fixture
def wav(tmp_path):
    """Return the path of a file of 16-bit noise at 16 kHz, whose samples are ``helpers.INT16``."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, INT16, 16000)
    return path


@pytest.fixture(scope="session")
def make_tone_folder(tmp_path_factory):
    """Return a function that writes tones of two classes into a new folder ``clips`` and returns its path."""

    def write(n_clips, *, session_size=None):
        """Write ``high/3.wav``, or ``high/session_0/3.wav`` with sessions of ``session_size`` clips."""
        folder = tmp_path_factory.mktemp("tones") / "clips"
        clips, y = make_tones(n_clips=n_clips, n_classes=2, random_state=0)

        for i, (clip, label) in enumerate(zip(clips, y, strict=True)):
            session = f"session_{i // session_size}" if session_size else ""
            path = folder / ("low", "high")[label] / session / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, clip, 16000)
        return folder

    return write


# ------------------------------------------------------------------ models


@pytest.fixture(scope="session")
def fitted_classifier(tone_clips):
    """Return a small classifier of the tones, whose classes are "high", "low" and "mid"."""
    clips, y = tone_clips
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    return ASTWClassifier(encoder=encoder, epochs=8).fit(clips, np.array(["low", "mid", "high"])[y])


@pytest.fixture(scope="session")
def two_classifiers(tone_clips):
    """Return two small classifiers of the same classes with different weights."""
    clips, y = tone_clips
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    classifiers = [ASTWClassifier(encoder=encoder, epochs=1, random_state=seed) for seed in range(2)]
    return [clf.fit(clips, np.array(["low", "mid", "high"])[y]) for clf in classifiers]


@pytest.fixture(scope="session")
def wav2vec2_folder(tmp_path_factory):
    """Return the folder of a small wav2vec 2.0 with random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=[8] * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "wav2vec2"
    with torch_seed(0):
        transformers.Wav2Vec2Model(config).save_pretrained(folder)
    settings = {"sampling_rate": 16000, "do_normalize": True, "feature_size": 1}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def from_recipe(request):
    """Return a function that makes a classifier from a recipe, with weights if it needs them."""

    def make(name):
        weights = request.getfixturevalue("wav2vec2_folder") if name in TEMPLATES else None
        return ASTWClassifier.from_recipe(name, weights=weights)

    return make


# ------------------------------------------------------------------ servers


@pytest.fixture(scope="module")
def hub_server():
    """Return a server that answers as the Hub does."""
    server = HubServer()
    server.start()
    yield server
    server.stop()
