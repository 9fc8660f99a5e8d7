"""The front end in the training step: for augmentations of waveforms, and for front ends that are trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from skastw import ASTWClassifier
from skastw.augment import Augment
from skastw.core.batching import Batch
from skastw.datasets import make_tones
from skastw.encoders import RNNEncoder
from skastw.errors import ComponentError
from skastw.evaluation import evaluate
from skastw.features import Features, FeaturesModule, LogMel
from skastw.network.components import resolve_components
from skastw.network.inference import frames_of

SMALL_RNN = RNNEncoder(hidden=16)
CLIPS, Y = make_tones(n_clips=16, n_classes=2, random_state=0)


class Nothing(Augment):
    """An augmentation of waveforms that changes nothing."""

    stage = "waveform"

    def apply(self, batch, generator):
        return batch


class Recorded(Augment):
    """An augmentation of waveforms that keeps what it was given."""

    stage = "waveform"

    def apply(self, batch, generator):
        BATCHES.append(batch)
        return replace(batch, inputs=-batch.inputs)


BATCHES = []


class Scaled(Features):
    """Log-mel frames times a learned number."""

    trainable = True

    def build(self, sample_rate):
        return _Scaled(LogMel().build(sample_rate))

    def frames_per_second(self, sample_rate):
        return 100.0


class _Scaled(FeaturesModule):
    def __init__(self, inner):
        super().__init__()
        self.inner, self.n_features = inner, inner.n_features
        self.factor = nn.Parameter(torch.ones(()))

    def forward(self, waveform, lengths):
        frames, lengths = self.inner(waveform.float(), lengths)
        return self.factor * frames, lengths


def fitted(**params):
    defaults = {"encoder": SMALL_RNN, "epochs": 2, "augment": None, "batch_size": 4}
    return ASTWClassifier(**{**defaults, **params}).fit(CLIPS, Y)


def same_weights(first, second):
    ours, theirs = first.model_.state_dict(), second.model_.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_both_ways_give_the_same_frames():
    rates = {"epochs": 1, "muon_lr": 0.0, "adam_lr": 0.0}  # rounding errors change the direction of optimisers
    frames, waveforms = fitted(augment=None, **rates), fitted(augment=[Nothing()], **rates)
    assert not frames.trained_.components.in_step
    assert waveforms.trained_.components.in_step
    for name in ("loss", "val_loss"):
        assert waveforms.history_[0][name] == pytest.approx(frames.history_[0][name], rel=1e-5)
    assert waveforms.history_[0]["val_accuracy"] == frames.history_[0]["val_accuracy"]


def test_an_augmentation_of_waveforms_gets_whole_clips_in_samples():
    BATCHES.clear()
    clf = fitted(augment=[Recorded()], val_split=None, epochs=1, chunk_length=0.1)
    lengths = torch.cat([batch.lengths for batch in BATCHES])
    assert sorted(lengths.tolist()) == sorted(map(len, CLIPS))
    assert all(batch.inputs.shape[2] == 1 for batch in BATCHES)
    assert clf.model_.max_frames == 10


def test_a_chunk_is_cut_after_the_front_end():
    """The floor of log-mel frames depends on the whole clip, also on the part outside the chunk."""
    generator = np.random.default_rng(0)
    inputs = torch.arange(20.0)[None, :, None].expand(2, 20, 1)
    batch = Batch(inputs, torch.tensor([20, 7]), torch.zeros(2), torch.ones(2))
    chunk = batch.chunk(8, generator)
    assert chunk.lengths.tolist() == [8, 7]
    first = int(chunk.inputs[0, 0, 0])
    assert chunk.inputs[0, :, 0].tolist() == list(range(first, first + 8))
    assert chunk.inputs[1, :, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert {int(batch.chunk(8, generator).inputs[0, 0, 0]) for _ in range(300)} == set(range(13))


def test_statistics_come_from_clips_that_are_not_augmented():
    frames, waveforms = (
        fitted(augment=augment, normalization="per_bin", val_split=None, epochs=1) for augment in (None, [Recorded()])
    )
    for name in ("mean", "scale"):
        ours = getattr(waveforms.model_.normalization, name)
        torch.testing.assert_close(ours, getattr(frames.model_.normalization, name), atol=1e-5, rtol=1e-4)


def test_a_front_end_with_weights_is_trained_and_predicts_with_them():
    clf = fitted(features=Scaled(), epochs=3, patience=None, keep="last")
    factor = clf.model_.features.factor
    assert factor.item() != 1.0
    [frames] = frames_of(clf.model_, [torch.from_numpy(CLIPS[0])[:, None]])
    plain = LogMel().build(16000).extract([torch.from_numpy(CLIPS[0])])[0]
    torch.testing.assert_close(frames, factor.detach() * plain)

    before = clf.predict_proba(CLIPS[:2])
    with torch.no_grad():
        factor.mul_(0.5)
    assert not np.allclose(clf.predict_proba(CLIPS[:2]), before)


def test_validation_uses_the_present_weights_of_the_front_end():
    clf = fitted(features=Scaled(), epochs=2, keep="last", patience=None, muon_lr=0.0, adam_lr=0.1)
    losses = [row["val_loss"] for row in clf.history_]
    assert losses[0] != losses[1]


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_the_front_end_runs_in_the_step_in_every_precision(precision):
    clf = fitted(features=Scaled(), augment=[Nothing(), "spec_augment"], precision=precision, epochs=1)
    assert np.isfinite(clf.predict_proba(CLIPS[:2])).all()


def test_two_runs_give_the_same_weights_bit_for_bit():
    runs = [fitted(augment=[Recorded(), "random_crop"], features=features) for features in (Scaled(), Scaled())]
    assert same_weights(*runs)


def test_a_run_continues_from_its_checkpoint(tmp_path):
    params = {"augment": [Nothing(), "spec_augment"], "features": Scaled(), "epochs": 3}

    class StopAfterOne(Nothing):
        calls = 0

        def apply(self, batch, generator):
            type(self).calls += 1
            if type(self).calls > 4:
                raise RuntimeError("stopped by the test")
            return batch

    with pytest.raises(RuntimeError, match="stopped by the test"):
        fitted(**{**params, "augment": [StopAfterOne(), "spec_augment"]}, checkpoint_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert same_weights(fitted(**params, checkpoint_dir=tmp_path), fitted(**params))


def test_clips_that_were_trained_on_are_recognised():
    clf = fitted(augment=[Nothing()], val_split=None, epochs=1)
    assert evaluate(clf, CLIPS, Y).trained_on
    assert not evaluate(clf, CLIPS[:9], Y[:9]).trained_on


def test_frames_in_x_cannot_be_augmented_as_waveforms():
    with pytest.raises(ComponentError, match="features='precomputed'"):
        resolve_components(ASTWClassifier(features="precomputed", augment=[Nothing()]))


def test_partial_fit_trains_the_front_end_too():
    clf = ASTWClassifier(encoder=SMALL_RNN, features=Scaled(), augment=[Nothing()])
    clf.partial_fit(CLIPS, Y, classes=[0, 1])
    first = clf.model_.features.factor.item()
    clf.partial_fit(CLIPS, Y)
    assert len({1.0, first, clf.model_.features.factor.item()}) == 3


def test_a_cache_folder_keeps_waveforms(tmp_path, monkeypatch):
    from skastw.data import extraction

    params = {"augment": [Recorded()], "epochs": 1, "cache_dir": tmp_path / "cache"}
    first = fitted(**params)
    monkeypatch.setattr(extraction, "load_mono", lambda *args, **kwargs: pytest.fail("a clip was decoded again"))
    assert same_weights(first, fitted(**params))


class Dropped(Scaled):
    """Log-mel frames times a learned number, with dropout."""

    def build(self, sample_rate):
        return _Dropped(LogMel().build(sample_rate))


class _Dropped(_Scaled):
    def forward(self, waveform, lengths):
        frames, lengths = super().forward(waveform, lengths)
        return nn.functional.dropout(frames, 0.5, self.training), lengths


def test_validation_runs_the_front_end_in_evaluation_mode():
    clf = fitted(features=Dropped(), normalization="per_bin", keep="last", patience=None, muon_lr=0.0, adam_lr=0.0)
    losses = [row["val_loss"] for row in clf.history_]
    assert losses[0] == losses[1]


def test_batches_of_waveforms_have_similar_lengths():
    BATCHES.clear()
    clips = [np.resize(CLIPS[0], 4000 * 2 ** (i // 4)) for i in range(16)]
    ASTWClassifier(
        encoder=SMALL_RNN, epochs=1, batch_size=4, augment=[Recorded()], val_split=None, chunk_length=0.1
    ).fit(clips, Y)
    assert [len(set(batch.lengths.tolist())) for batch in BATCHES] == [1, 1, 1, 1]


def test_weights_that_stay_fixed_keep_their_number_format(tmp_path):
    params = {"features": "leaf", "precision": "float64", "epochs": 1}
    folder = fitted(**params).save_pretrained(tmp_path / "start")
    clf = fitted(**params, init_from=folder, init_train="none").partial_fit(CLIPS, Y)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), clf.predict_proba(CLIPS))
