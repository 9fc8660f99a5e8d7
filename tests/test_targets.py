"""Kinds of targets: several labels a clip, values; and training in instalments or from earlier weights."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.metrics import f1_score
from sklearn.model_selection import KFold, cross_val_score

from skastw import ASTWClassifier, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ArtifactError, DataError
from skastw.features import LogMel

TINY = ASTWEncoder(d_model=32, num_heads=2, num_layers=1)
CLIPS, Y = make_tones(n_clips=48, random_state=0)


def make_chords(n_clips, seed):
    """Return clips in which each of three tones sounds or not, and the indicator of which do."""
    rng = np.random.default_rng(seed)
    indicator = rng.integers(0, 2, size=(n_clips, 3))
    time = np.arange(4800) / 16000
    tones = np.sin(2 * np.pi * np.array([300, 1200, 3600])[:, None] * time)
    noise = 0.01 * rng.normal(size=(n_clips, len(time)))
    return list((indicator @ (0.3 * tones) + noise).astype(np.float32)), indicator


def classifier(**params):
    return ASTWClassifier(**{"encoder": TINY, "epochs": 12, **params})


def regressor(**params):
    return ASTWRegressor(**{"encoder": TINY, "epochs": 15, **params})


# ------------------------------------------------------------- multi-label


@pytest.fixture(scope="module")
def chords():
    clips, indicator = make_chords(96, 0)
    return classifier(epochs=25).fit(clips, indicator), *make_chords(40, 1)


def test_several_labels_a_clip_are_learned(chords):
    clf, clips, indicator = chords
    assert clf.task_ == "multilabel"
    assert clf.classes_.tolist() == [0, 1, 2]
    assert f1_score(indicator, clf.predict(clips), average="macro") > 0.9


def test_multilabel_outputs_follow_scikit_learn(chords):
    clf, clips, indicator = chords
    proba, logits, predicted = clf.predict_proba(clips), clf.decision_function(clips), clf.predict(clips)
    assert proba.shape == logits.shape == predicted.shape == indicator.shape
    np.testing.assert_array_equal(predicted, logits > 0)
    np.testing.assert_array_equal(predicted, proba > 0.5)
    np.testing.assert_allclose(clf.predict_log_proba(clips), np.log(proba), atol=1e-5)
    assert clf.score(clips, indicator) == (predicted == indicator).all(axis=1).mean()
    assert len(clf.predict_top_k(clips[:2], k=2)[0]) == 2


def test_multilabel_survives_the_round_trip(chords, tmp_path):
    clf, clips, _ = chords
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "chords"))
    np.testing.assert_array_equal(loaded.predict_proba(clips), clf.predict_proba(clips))
    np.testing.assert_array_equal(loaded.predict(clips), clf.predict(clips))


def test_an_indicator_may_be_a_frame_or_sparse():
    clips, indicator = make_chords(30, 0)
    framed = classifier(epochs=2).fit(clips, pd.DataFrame(indicator, columns=["low", "mid", "high"]))
    assert framed.classes_.tolist() == ["low", "mid", "high"]
    assert {label for label, _ in framed.predict_top_k(clips[:1], k=3)[0]} == {"low", "mid", "high"}
    plain = classifier(epochs=2).fit(clips, indicator)
    sparse = classifier(epochs=2).fit(clips, scipy.sparse.csr_matrix(indicator))
    np.testing.assert_array_equal(plain.predict_proba(clips), framed.predict_proba(clips))
    np.testing.assert_array_equal(plain.predict_proba(clips), sparse.predict_proba(clips))


def test_multilabel_mistakes_are_named(chords):
    clips, indicator = make_chords(30, 0)
    with pytest.raises(ValueError, match="class_weight='balanced' for multi-label"):
        classifier(class_weight="balanced").fit(clips, indicator)
    with pytest.raises(ValueError, match="indicator of 2 labels, expected 3"):
        classifier(epochs=1).fit(clips, indicator, X_val=clips, y_val=indicator[:, :2])
    with pytest.raises(ValueError, match="expected an indicator"):
        classifier(epochs=1).fit(clips, indicator, X_val=clips, y_val=indicator[:, 0])
    with pytest.raises(ValueError, match="expected one label per clip"):
        classifier(epochs=1).fit(clips, indicator + np.arange(3))


# -------------------------------------------------------------- regression


def test_values_are_learned_in_their_own_units():
    test, octave = make_tones(n_clips=30, random_state=5)
    model = regressor().fit(CLIPS, 1000.0 + 50.0 * Y)
    predicted = model.predict(test)
    assert predicted.shape == (30,)
    assert model.score(test, 1000.0 + 50.0 * octave) > 0.6
    assert 990 < predicted.mean() < 1110
    history = pd.DataFrame(model.history_)
    assert history.val_r2[model.best_epoch_ - 1] == history.val_r2.max()


def test_standardised_targets_make_units_irrelevant():
    first = regressor(epochs=3).fit(CLIPS, Y.astype(float))
    second = regressor(epochs=3).fit(CLIPS, 1e6 * Y - 3e5)
    np.testing.assert_allclose(1e6 * first.predict(CLIPS) - 3e5, second.predict(CLIPS), rtol=1e-4)


@pytest.mark.parametrize("values", [np.where(Y == 0, 1e300, 0.0), np.where(Y == 0, 1.7e308, -1.7e308)])
def test_values_beyond_what_can_be_standardised_are_refused(values):
    with pytest.raises(DataError, match=r"y holds values of up to 1\.?7?e\+30[08].*rescale y"):
        regressor(epochs=1).fit(CLIPS, values)


def test_several_values_a_clip(tmp_path):
    targets = pd.DataFrame({"octave": Y, "minus": -2.0 * Y})
    model = regressor().fit(CLIPS, targets)
    predicted = model.predict(CLIPS)
    assert predicted.shape == (48, 2)
    assert model.target_names_ == ["octave", "minus"]
    assert np.corrcoef(predicted.T)[0, 1] < -0.9
    loaded = ASTWRegressor.from_pretrained(model.save_pretrained(tmp_path / "values"))
    np.testing.assert_array_equal(loaded.predict(CLIPS), predicted)
    assert loaded.target_names_ == ["octave", "minus"]


def test_a_saved_regressor_is_no_classifier(tmp_path):
    model = regressor(epochs=1).fit(CLIPS, Y)
    folder = model.save_pretrained(tmp_path / "values")
    np.testing.assert_array_equal(ASTWRegressor.from_pretrained(folder).predict(CLIPS), model.predict(CLIPS))
    with pytest.raises(ArtifactError, match="'ASTWRegressor', expected 'ASTWClassifier'"):
        ASTWClassifier.from_pretrained(folder)


def test_regression_in_cross_validation_with_groups():
    scores = cross_val_score(regressor(epochs=8), CLIPS, Y, cv=KFold(2, shuffle=True, random_state=0))
    assert scores.mean() > 0.3
    model = regressor(epochs=2).fit(CLIPS, Y, groups=np.arange(48) // 4)
    assert model.trained_.record.split == "whole groups held out"


def test_regression_of_constant_and_of_few_clips():
    model = regressor(epochs=1).fit(CLIPS[:6], np.full(6, 3.0))
    np.testing.assert_allclose(model.predict(CLIPS[:2]), 3.0, atol=1.0)
    assert np.isfinite(pd.DataFrame(model.history_)["val_r2"]).all()
    with pytest.raises(ValueError, match="NaN"):
        regressor().fit(CLIPS, np.full(48, np.nan))


# ------------------------------------------------------------- instalments


def test_partial_fit_learns_in_instalments():
    clf = classifier()
    for epoch in range(10):
        part = slice(0, 24) if epoch % 2 == 0 else slice(24, 48)
        clf.partial_fit(CLIPS[part], Y[part], classes=[0, 1, 2])
    assert clf.n_epochs_ == len(clf.history_) == 10
    assert [row["epoch"] for row in clf.history_] == list(range(1, 11))
    test, truth = make_tones(n_clips=30, random_state=5)
    assert clf.score(test, truth) > 0.8


def test_partial_fit_goes_on_with_other_optimisers_when_asked():
    clf = classifier().partial_fit(CLIPS, Y, classes=[0, 1, 2])
    rates = []
    for muon_lr in (None, 0.01):
        rates.append(sorted(clf.set_params(muon_lr=muon_lr).partial_fit(CLIPS, Y).history_[-1]))
    assert "muon_lr" not in rates[0]
    assert "muon_lr" in rates[1]
    assert clf.n_epochs_ == 3


def test_partial_fit_knows_classes_that_come_later(tmp_path):
    clf = classifier().partial_fit(CLIPS[:2], Y[:2], classes=[0, 1, 2])
    assert clf.predict_proba(CLIPS[:1]).shape == (1, 3)
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    loaded.partial_fit(CLIPS, Y)
    assert loaded.n_epochs_ == 2
    values = regressor().partial_fit(CLIPS, Y).partial_fit(CLIPS, Y)
    assert values.n_epochs_ == 2


def test_partial_fit_repeats_bit_for_bit_and_survives_pickle():
    one, two = (classifier().partial_fit(CLIPS, Y, classes=[0, 1, 2]) for _ in range(2))
    two = pickle.loads(pickle.dumps(two))
    np.testing.assert_array_equal(
        one.partial_fit(CLIPS, Y).predict_proba(CLIPS), two.partial_fit(CLIPS, Y).predict_proba(CLIPS)
    )


def test_partial_fit_mistakes_are_named():
    with pytest.raises(ValueError, match="classes=None in the first call"):
        classifier().partial_fit(CLIPS, Y)
    clf = classifier().partial_fit(CLIPS, Y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match=r"expected the classes of the first call: \[0, 1, 2\]"):
        clf.partial_fit(CLIPS, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="labels"):
        clf.partial_fit(CLIPS, Y + 1)


# ---------------------------------------------------------- earlier weights


def test_warm_start_goes_on_where_the_last_fit_ended():
    clf = classifier(epochs=8, warm_start=True).fit(CLIPS, Y)
    first = clf.history_[0]["loss"]
    clf.set_params(epochs=1, muon_lr=1e-4).fit(CLIPS, Y)
    assert clf.history_[0]["loss"] < 0.8 * first
    assert clf.n_epochs_ == 1


def test_warm_start_and_init_from_take_a_new_head_for_new_classes(tmp_path):
    old = classifier(epochs=4).fit(CLIPS, Y)
    folder = old.save_pretrained(tmp_path / "old")
    frozen = {"epochs": 1, "muon_lr": 0.0, "adam_lr": 0.0, "weight_decay": 0.0}
    same = classifier(init_from=folder, **frozen).fit(CLIPS, Y)
    np.testing.assert_array_equal(same.predict_proba(CLIPS), old.predict_proba(CLIPS))
    other = classifier(init_from=folder, **frozen).fit(CLIPS, Y == 0)
    np.testing.assert_array_equal(other.transform(CLIPS), old.transform(CLIPS))
    assert other.predict_proba(CLIPS).shape == (48, 2)
    values = regressor(init_from=folder, **frozen).fit(CLIPS, Y)
    np.testing.assert_array_equal(values.transform(CLIPS), old.transform(CLIPS))
    warm = old.set_params(warm_start=True, **frozen)
    before = warm.transform(CLIPS)
    np.testing.assert_array_equal(warm.fit(CLIPS, Y == 0).transform(CLIPS), before)


def test_weights_that_do_not_match_are_named(tmp_path):
    folder = classifier(epochs=1).fit(CLIPS, Y).save_pretrained(tmp_path / "old")
    cases = [
        ({"encoder": ASTWEncoder(d_model=16, num_heads=2, num_layers=1)}, r"of shape \(32,\), expected \(16,\)"),
        ({"encoder": ASTWEncoder(d_model=32, num_heads=2, num_layers=2)}, "of shape None, expected"),
        ({"pooling": "attentive_stats"}, "head.weight of shape|pooling"),
        ({"features": LogMel(fmin=100.0)}, "has the front end"),
        ({"init_from": "no/such/folder"}, "expected an existing folder"),
    ]
    for params, message in cases:
        with pytest.raises(ArtifactError, match=message):
            classifier(**{"init_from": folder, **params}).fit(CLIPS, Y)


def test_training_does_not_touch_the_weights_it_started_from(tmp_path):
    old = classifier(epochs=1).fit(CLIPS, Y)
    weights = {name: tensor.clone() for name, tensor in old.model_.state_dict().items()}
    classifier(epochs=1, init_from=old.save_pretrained(tmp_path / "old")).fit(CLIPS, Y)
    for name, tensor in old.model_.state_dict().items():
        assert torch.equal(tensor, weights[name])
