"""Recurrent layers with weights that were trained elsewhere, such as the voice encoder of Resemblyzer."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers import random_frames, torch_seed, white_noise
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.encoders import RNNEncoder
from skastw.errors import WeightsError
from skastw.features import Frozen, MelSpectrogram
from skastw.training.transfer import load_weights

#: A folder with the file ``pretrained.pt`` of the package Resemblyzer.
REFERENCE = os.environ.get("SKASTW_RESEMBLYZER")
FRONT_END = MelSpectrogram(n_mels=40, n_fft=400, hop_length=160, scale="power")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Keep converted weights in a folder of the test."""
    monkeypatch.setenv("SKASTW_CACHE", str(tmp_path / "cache"))


def voice_encoder(layer=nn.LSTM, n_features=40, hidden=8, **options):
    """Return layers of torch with weights of order 1, and a file of them with the names of Resemblyzer."""
    with torch_seed(0):
        model = nn.Module()
        model.lstm = layer(n_features, hidden, 3, batch_first=True, **options)
        model.linear = nn.Linear(hidden * (1 + model.lstm.bidirectional), 6)
        for weight in model.parameters():
            nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    state = model.state_dict() | {"similarity_weight": torch.ones(1), "similarity_bias": torch.ones(1)}
    return model, {"step": 3, "model_state": state, "optimizer_state": {"state": {0: {"exp_avg": torch.ones(3)}}}}


def saved(path, content):
    torch.save(content, path)
    return path


def loaded(path, n_features=40, **params):
    encoder = RNNEncoder(weights=str(path), **params).resolved(16000, 30.0)
    module = encoder.build(n_features, max_frames=1000)
    load_weights(module, encoder.initial_weights(), encoder)
    return module.eval()


@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["one direction", "both"])
@pytest.mark.parametrize("layer", [nn.RNN, nn.GRU, nn.LSTM])
def test_states_and_embeddings_are_those_of_torch(tmp_path, layer, options):
    model, content = voice_encoder(layer, **options)
    path = saved(tmp_path / "voice.pt", content)
    frames, lengths = random_frames([9, 4], 40)
    states, _ = loaded(path)(frames, lengths)
    embeddings, _ = loaded(path, embedding=6)(frames, lengths)
    for item, length in enumerate(lengths.tolist()):
        expected = model.lstm(frames[item, :length])[0]
        torch.testing.assert_close(states[item, :length], expected)
        torch.testing.assert_close(embeddings[item, :length], model.linear(expected).relu())


def test_a_file_without_recurrent_layers_and_one_with_others_are_refused(tmp_path):
    _, content = voice_encoder()
    with pytest.raises(WeightsError, match="no recurrent layer of torch"):
        loaded(saved(tmp_path / "linear.pt", {"linear.weight": torch.ones(2, 2)}))
    for shape in [(), (4,), (0, 0), (5, 2), (4, 1, 1)]:
        with pytest.raises(WeightsError, match="no recurrent layer of torch"):
            loaded(saved(tmp_path / "shape.pt", {"lstm.weight_hh_l0": torch.ones(shape)}))
    with pytest.raises(WeightsError, match=r"embed\.bias of shape \(6,\), expected \(5,\)"):
        loaded(saved(tmp_path / "voice.pt", content), embedding=5)
    content["model_state"]["attention.weight"] = torch.ones(2)
    with pytest.raises(WeightsError, match=r"attention\.weight of shape \(2,\), expected None"):
        loaded(saved(tmp_path / "voice.pt", content))


CLIPS = [white_noise(4000, seed=seed) for seed in range(12)]
Y = [seed % 2 for seed in range(12)]


def test_last_embeddings_of_clips_come_from_a_frozen_encoder(tmp_path):
    model, content = voice_encoder()
    path = saved(tmp_path / "voice.pt", content)
    encoder = RNNEncoder(weights=str(path), embedding=6)
    clf = ASTWClassifier(features=FRONT_END, encoder=encoder, pooling="last", epochs=2)
    clf.set_params(normalization="none").fit(CLIPS, Y)
    frames, _ = FRONT_END.build(16000)(torch.from_numpy(CLIPS[0])[None], torch.tensor([4000]))
    expected = model.linear(model.lstm(frames)[0][0, -1]).relu()
    torch.testing.assert_close(torch.from_numpy(clf.transform(CLIPS[:1])[0]), expected.detach(), atol=1e-5, rtol=1e-5)

    path.unlink()
    again = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict_proba(CLIPS), clf.predict_proba(CLIPS))


def test_fine_tuning_changes_the_weights_of_the_file(tmp_path):
    path = saved(tmp_path / "voice.pt", voice_encoder()[1])
    encoder = RNNEncoder(weights=str(path), train="all")
    clf = ASTWClassifier(features=FRONT_END, encoder=encoder, epochs=1, precision="float32").fit(CLIPS, Y)
    before, after = encoder.initial_weights(), clf.trained_.model.encoder.state_dict()
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert all((before[name] - after[name]).abs().max() < 0.01 for name in before)


@pytest.mark.slow
@pytest.mark.skipif(REFERENCE is None, reason="SKASTW_RESEMBLYZER is not set")
def test_the_hidden_states_of_resemblyzer_come_through_the_featurizer():
    path = Path(REFERENCE) / "pretrained.pt"
    state = torch.load(path, weights_only=True, map_location="cpu")["model_state"]
    lstm = nn.LSTM(40, 256, 3, batch_first=True)
    lstm.load_state_dict({name.removeprefix("lstm."): w for name, w in state.items() if name.startswith("lstm.")})

    found = ASTWFeaturizer(features=Frozen(features=FRONT_END, encoder=RNNEncoder(weights=path))).fit_transform(
        CLIPS[:1]
    )
    frames, _ = FRONT_END.build(16000)(torch.from_numpy(CLIPS[0])[None], torch.tensor([4000]))
    with torch.inference_mode():
        expected = lstm(frames)[0][0]
    assert expected.std() > 0.05
    torch.testing.assert_close(torch.from_numpy(found[0]), expected, atol=1e-5, rtol=1e-5)
