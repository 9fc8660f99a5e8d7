"""Kinds of targets: several labels a clip, values; and training in instalments or from earlier weights."""

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, r2_score
from sklearn.model_selection import KFold, cross_val_score

from skastw import ASTWClassifier, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ArtifactError, DataError
from skastw.features import LogMel
from skastw.network.inference import InferenceParams, predict
from skastw.targets import ClassTargets, SingleLabel, Targets, _base, learn_targets, targets_from_json

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


# ------------------------------------------------------------ each kind by itself

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [-1.0, 0.25, 0.75], [1.5, 1.0, -0.5], [0.1, 0.2, 0.3]])
WEIGHTS = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.0])
PETS, CHOSEN = ["ant", "bee", "cat"], [0, 1, 2, 0, 2]
LEARNED = {
    "one label": learn_targets(["bee", "cat", "ant"], "classifier"),
    "indicator": learn_targets(np.eye(3, dtype=int) + np.eye(3, k=1, dtype=int), "classifier"),
    "values": learn_targets([[1.0, 10.0, -5.0], [3.0, 10.0, 5.0]], "regressor"),
}


@pytest.mark.parametrize(
    ("y", "estimator", "kind", "labels"),
    [
        (["b", "a", "b"], "classifier", "classification", ["a", "b"]),
        ([3, 1, 3], "classifier", "classification", [1, 3]),
        ([True, False], "classifier", "classification", [False, True]),
        ([0.0, 2.0], "classifier", "classification", [0.0, 2.0]),
        (pd.Series(["b", "a"], dtype="category"), "classifier", "classification", ["a", "b"]),
        (np.array([["b"], ["a"]]), "classifier", "classification", ["a", "b"]),
        ([[0, 1], [1, 1]], "classifier", "multilabel", [0, 1]),
        (np.array([[True, False], [True, True]]), "classifier", "multilabel", [0, 1]),
        (scipy.sparse.csr_matrix([[0, 1], [1, 0]]), "classifier", "multilabel", [0, 1]),
        (pd.DataFrame({"b": [0, 1], "a": [1, 1]}), "classifier", "multilabel", ["b", "a"]),
        ([1, 2], "regressor", "regression", ["target0"]),
        ([[1, 0], [0, 1]], "regressor", "regression", ["target0", "target1"]),
        (pd.DataFrame({"age": [1.0, 2.0]}), "regressor", "regression", ["age"]),
        (pd.Series([1, 2], dtype="Int64"), "regressor", "regression", ["target0"]),
    ],
)
@pytest.mark.filterwarnings("ignore:A column-vector y")
def test_the_kind_of_y_is_found_and_survives_json(y, estimator, kind, labels):
    targets = learn_targets(y, estimator)
    assert (targets.name, targets.labels, targets.n_outputs) == (kind, labels, len(labels))
    again = targets_from_json(json.loads(json.dumps({"task": targets.name, **targets.to_json()})))
    assert type(again) is type(targets)
    assert again.labels == labels
    assert [type(label) for label in again.labels] == [type(label) for label in labels]
    assert again.to_json() == targets.to_json()
    np.testing.assert_array_equal(again.encode(y), targets.encode(y))
    outputs = torch.linspace(-1, 1, 2 * len(labels)).reshape(2, -1)
    np.testing.assert_array_equal(again.decide(outputs), targets.decide(outputs))
    assert again.decide(outputs).dtype == targets.decide(outputs).dtype


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_losses_are_those_of_the_formulas(smoothing):
    outputs = LOGITS.double().numpy()
    log_softmax = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    smoothed = (1 - smoothing) * np.eye(3)[CHOSEN] + smoothing / 3
    loss = LEARNED["one label"].loss(LOGITS, torch.tensor(CHOSEN), smoothing)
    np.testing.assert_allclose(loss, -(smoothed * log_softmax).sum(axis=1), rtol=1e-5)

    indicator = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]])
    probability, smoothed = 1 / (1 + np.exp(-outputs)), (1 - smoothing) * indicator + smoothing / 2
    expected = -(smoothed * np.log(probability) + (1 - smoothed) * np.log(1 - probability)).mean(axis=1)
    loss = LEARNED["indicator"].loss(LOGITS, torch.tensor(indicator), smoothing)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)

    loss = LEARNED["values"].loss(LOGITS, torch.ones(5, 3), smoothing)
    np.testing.assert_allclose(loss, ((outputs - 1) ** 2).mean(axis=1), rtol=1e-5)


def test_scores_are_those_of_scikit_learn():
    true, weight = np.array([0, 1, 1, 0, 2]), WEIGHTS.numpy()
    predicted = LOGITS.argmax(dim=1).numpy()
    scores = LEARNED["one label"].scores(LOGITS, torch.from_numpy(true), WEIGHTS)
    assert scores == {
        "accuracy": pytest.approx(accuracy_score(true, predicted, sample_weight=weight)),
        "macro_f1": pytest.approx(f1_score(true, predicted, sample_weight=weight, average="macro")),
    }
    assert scores["accuracy"] != accuracy_score(true, predicted)

    indicator = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]], dtype=np.float32)
    chosen = (LOGITS > 0).numpy()
    scores = LEARNED["indicator"].scores(LOGITS, torch.from_numpy(indicator), WEIGHTS)
    assert scores == {
        "accuracy": pytest.approx(accuracy_score(indicator, chosen, sample_weight=weight)),
        "macro_f1": pytest.approx(f1_score(indicator, chosen, sample_weight=weight, average="macro")),
    }

    values = torch.from_numpy(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    scores = LEARNED["values"].scores(LOGITS, values, WEIGHTS)
    assert scores == {"r2": pytest.approx(r2_score(values, LOGITS, sample_weight=weight))}
    assert LEARNED["values"].scores(LOGITS[:1], torch.zeros(1, 3), WEIGHTS[:1])["r2"] == pytest.approx(-0.75)


@pytest.mark.parametrize(
    ("kind", "true"),
    [
        ("one label", np.array([0, 1, 1, 0, 0])),
        ("indicator", np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]] + [[0, 1, 0]] * 2)),
    ],
)
def test_scores_of_each_class_are_those_of_scikit_learn(kind, true):
    targets = LEARNED[kind]
    predicted = targets.chosen(LOGITS).numpy()
    expected = precision_recall_fscore_support(
        true, predicted, labels=[0, 1, 2], sample_weight=WEIGHTS.numpy(), zero_division=0.0
    )
    rows = targets.class_scores(LOGITS, torch.from_numpy(true), WEIGHTS)
    for row, precision, recall, f1 in zip(rows, *expected[:3], strict=True):
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx([precision, recall, f1])
    counts = np.bincount(true, minlength=3) if true.ndim == 1 else true.sum(axis=0)
    assert [row["support"] for row in rows] == counts.tolist()


def test_average_recall_leaves_out_classes_without_clips():
    rows = [{"recall": 0.5, "support": 4}, {"recall": 1.0, "support": 1}, {"recall": 0.0, "support": 0}]
    assert LEARNED["one label"].averages(rows) == {"uar": 0.75}
    assert LEARNED["one label"].averages(rows[2:]) == {}
    assert LEARNED["indicator"].averages(rows) == {}
    assert LEARNED["values"].class_scores(LOGITS, LOGITS, WEIGHTS) is None


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (np.array(["ant", "bee"]), ["bee", "", "ant"]),
        (np.array(["", "bee"]), ["bee", None, ""]),
        (np.array([0, 7]), [7, -1, 0]),
        (np.array([-4, 7]), [7, -5, -4]),
        (np.array([3, 200], dtype=np.uint8), [200, -1, 3]),
        (np.array([False, True]), [True, None, False]),
        (np.array([0.5, 7.0]), [7.0, np.nan, 0.5]),
    ],
)
def test_a_clip_without_outputs_gets_a_label_that_is_no_class(classes, expected):
    targets = SingleLabel(classes)
    outputs = torch.tensor([[0.0, 1.0], [torch.nan, torch.nan], [1.0, 0.0]])
    decided = targets.decide(outputs).tolist()
    assert decided[::2] == expected[::2]
    assert decided[1] == expected[1] or (expected[1] != expected[1] and decided[1] != decided[1])
    assert decided[1] not in classes.tolist()
    assert targets.decide(outputs[::2]).dtype == classes.dtype


def test_rows_of_nan_stay_apart_in_indicators_and_values():
    outputs = LOGITS[:2].clone()
    outputs[1] = torch.nan
    np.testing.assert_array_equal(LEARNED["indicator"].decide(outputs), [[1, 0, 1], [-1, -1, -1]])
    np.testing.assert_allclose(LEARNED["values"].decide(outputs), [[4.0, 9.0, -2.5 + 5.0], [np.nan] * 3])
    assert LEARNED["values"].decide(outputs).dtype == np.float64
    flat = learn_targets([1.0, 3.0], "regressor")
    np.testing.assert_allclose(flat.decide(torch.tensor([[0.5], [torch.nan]])), [2.5, np.nan])


def test_probabilities_and_values_follow_from_outputs():
    one, several, values = LEARNED.values()
    np.testing.assert_allclose(one.finish(LOGITS).sum(dim=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(one.finish(LOGITS)[0], np.exp([2, -1, 0.5]) / np.exp([2, -1, 0.5]).sum(), rtol=1e-6)
    np.testing.assert_allclose(several.finish(LOGITS), 1 / (1 + np.exp(-LOGITS.numpy())), rtol=1e-6)
    np.testing.assert_allclose(values.finish(LOGITS), values.decide(LOGITS), rtol=1e-6)
    for targets in (one, several):
        np.testing.assert_allclose(targets.log_probabilities(LOGITS), targets.finish(LOGITS).log(), rtol=1e-5)
    pair = SingleLabel(np.array([0, 1]))
    np.testing.assert_array_equal(pair.decision(LOGITS[:, :2]), LOGITS[:, 1] - LOGITS[:, 0])
    np.testing.assert_array_equal(one.decision(LOGITS), LOGITS)
    np.testing.assert_array_equal(several.decision(LOGITS), LOGITS)


def test_values_are_standardised_with_their_weights():
    targets = learn_targets([0.0, 4.0, 100.0], "regressor", [3.0, 1.0, 0.0])
    assert (targets.mean.tolist(), targets.scale.tolist()) == ([1.0], [pytest.approx(3**0.5)])
    np.testing.assert_allclose(targets.encode([1.0, 4.0]), [[0.0], [3**0.5]])
    assert learn_targets([5, 5], "regressor").scale.tolist() == [1.0]
    with pytest.raises(ValueError, match="Got 2 targets, expected 1"):
        targets.encode([[1.0, 2.0]])


def test_strata_spread_what_can_be_spread():
    labels = np.array([2, 0, 1, 1])
    np.testing.assert_array_equal(LEARNED["one label"].strata(labels, grouped=False), labels)
    np.testing.assert_array_equal(LEARNED["one label"].strata(labels, grouped=True), labels)

    indicator = np.array([[1, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    strata = LEARNED["indicator"].strata(indicator, grouped=False)
    assert strata.shape == (4,)
    assert strata[0] == strata[2]
    assert len(set(strata)) == 3
    assert LEARNED["indicator"].strata(indicator, grouped=True).tolist() == [0, 0, 0, 0]

    values = np.random.default_rng(0).permutation(50.0 * np.arange(50))[:, None]
    strata = LEARNED["values"].strata(values, grouped=False)
    np.testing.assert_array_equal(strata, (values[:, 0] // 250).astype(int))
    assert set(LEARNED["values"].strata(values, grouped=True)) == {0}
    assert set(LEARNED["values"].strata(np.hstack([values, values]), grouped=False)) == {0}
    assert set(LEARNED["values"].strata(values[:4], grouped=False)) == {0}


def test_a_class_that_is_lost_is_named():
    targets = LEARNED["one label"]
    assert targets.lost(np.array([0, 1, 2]), np.array([0, 2])) == "class 'bee'"
    assert targets.lost(np.array([0, 2]), np.array([2, 0, 0])) is None
    assert LEARNED["indicator"].lost(np.eye(3), np.eye(3)[:1]) is None


@pytest.mark.parametrize(
    ("kind", "y", "match"),
    [
        (
            "one label",
            ["ant", "dog"],
            r"Got labels \['dog'\] that are not in the training data, expected labels among \['ant', 'bee', 'cat'\]",
        ),
        ("one label", [[0, 1, 1]], "expected one label per clip"),
        ("indicator", [[0, 1], [1, 1]], "Got an indicator of 2 labels, expected 3"),
        ("indicator", ["ant", "bee"], "expected an indicator"),
        ("values", [1.0, 2.0], "Got 1 targets, expected 3"),
        ("values", [["a", "b", "c"]], "could not convert"),
    ],
)
def test_a_y_that_was_not_learned_is_refused(kind, y, match):
    with pytest.raises(ValueError, match=match):
        LEARNED[kind].encode(y)


CLASSES, VALUES = LEARNED["one label"].to_json(), LEARNED["values"].to_json()


@pytest.mark.parametrize(
    ("task", "labels", "match"),
    [
        (None, CLASSES, "task=None, expected one of"),
        ("speech", CLASSES, "task='speech', expected one of"),
        (["classification"], CLASSES, "expected one of"),
        ("regression", CLASSES, "has no 'named'"),
        ("classification", VALUES, "has no 'dtype'"),
        *(
            (task, {**CLASSES, **change}, match)
            for task in ("classification", "multilabel")
            for change, match in [
                ({"labels": []}, r"has labels: \[\], expected a list of labels"),
                ({"labels": None}, "has labels: None"),
                ({"labels": "ant"}, "has labels: 'ant'"),
                ({"labels": ["ant", None, "cat"]}, r"has labels\[1\]: None"),
                ({"labels": ["ant", ["bee"], "cat"]}, r"has labels\[1\]"),
                ({"labels": ["ant", "ant", "cat"]}, "a label occurs twice"),
                ({"labels": ["ant", "beetle", "cat"]}, "is not a value of dtype"),
                ({"labels": ["ant", 3, "cat"]}, "is not a value of dtype"),
                ({"dtype": "<i8"}, "not valid"),
                ({"dtype": "<i1", "labels": [1, 300]}, "not valid"),
                ({"dtype": "<u8", "labels": [1, 2**64]}, "not valid"),
                ({"dtype": "<f4", "labels": [0.1, 0.2]}, "is not a value of dtype"),
                ({"dtype": "|b1", "labels": [3, 4]}, "not valid"),
                ({"dtype": "object", "labels": ["ant", 3]}, "not valid"),
                ({"dtype": "<U99999999"}, "exceed"),
                ({"dtype": "<i9", "labels": [1, 2]}, "not valid"),
                ({"dtype": "U3,U3"}, "expected the dtype of an array"),
                ({"dtype": "(2,)<i8"}, "expected the dtype of an array"),
                ({"dtype": "<M8"}, "expected the dtype of an array"),
                ({"dtype": "|V8"}, "expected the dtype of an array"),
                ({"dtype": "O"}, "expected the dtype of an array"),
                ({"dtype": 8}, "has dtype: 8"),
            ]
        ),
        *(
            ("regression", {**VALUES, **change}, match)
            for change, match in [
                ({"labels": ["a", "b"]}, "not lists of one length"),
                ({"labels": [], "mean": [], "scale": []}, "not lists of one length"),
                ({"labels": [1, 2, 3]}, r"has labels\[0\]: 1, expected text"),
                ({"mean": [0.0, 1.0]}, "not lists of one length"),
                ({"mean": [0.0, 1.0, "2"]}, r"has mean\[2\]: '2', expected a finite number"),
                ({"mean": [0.0, 1.0, np.nan]}, r"has mean\[2\]: nan, expected a finite number"),
                ({"mean": 0.0}, "has mean: 0.0, expected a list"),
                ({"scale": [1.0, 1.0, np.inf]}, r"has scale\[2\]: inf, expected a finite number"),
                ({"scale": None}, "has scale: None"),
                ({"scale": [1.0, 1.0, 10**400]}, r"has scale\[2\]: 1000"),
                ({"named": 1}, "has named: 1, expected true or false"),
                ({"one_dimensional": None}, "has one_dimensional: None"),
            ]
        ),
    ],
)
def test_labels_that_are_not_valid_are_refused(task, labels, match):
    with pytest.raises(ArtifactError, match=f"labels.json.*{match}"):
        targets_from_json({"task": task, **labels})


# ------------------------------------------------------------ a kind of one's own


@dataclass(frozen=True, eq=False)
class _Levels(ClassTargets):
    """Ordered categories: the loss is the squared distance of the mean level."""

    noun: ClassVar[str] = "levels, from low to high"
    purpose: ClassVar[str] = "Ranking by the levels below"
    limits: ClassVar[str] = "The model cannot tell how far two levels are apart."

    @classmethod
    def accepts(cls, y):
        return isinstance(getattr(y, "dtype", None), pd.CategoricalDtype) and y.dtype.ordered

    @classmethod
    def learn(cls, y, sample_weight=None):
        return cls(np.array(y.cat.categories))

    def encode(self, y):
        return np.array([self.labels.index(label) for label in y])

    def loss(self, outputs, targets, label_smoothing=0.0):
        return (self.level(outputs) - targets).square()

    def level(self, outputs):
        return outputs.softmax(dim=1) @ torch.arange(self.n_outputs).to(outputs)

    def chosen(self, outputs):
        return self.level(outputs).round().long()

    def decide(self, outputs):
        return self.classes[self.chosen(outputs).numpy()]

    def log_probabilities(self, outputs):
        return outputs.log_softmax(dim=1)

    def finish(self, outputs):
        return outputs.softmax(dim=1)


@dataclass(frozen=True, eq=False)
class _Counts(Targets):
    """Counts: a Poisson regression, whose outputs are logarithms of rates."""

    base: float

    estimator: ClassVar[str] = "regressor"
    monitor: ClassVar[str] = "likelihood"
    exported: ClassVar[tuple[str, ...]] = ("rates",)
    noun: ClassVar[str] = "numbers of events"
    purpose: ClassVar[str] = "Counting events"
    limits: ClassVar[str] = "The model counts to about ten."

    labels = property(lambda self: ["events"])

    @classmethod
    def accepts(cls, y):
        return getattr(y, "dtype", np.dtype(float)).kind == "u"

    @classmethod
    def learn(cls, y, sample_weight=None):
        return cls(float(np.average(y, weights=sample_weight)))

    def encode(self, y):
        return np.asarray(y, dtype=np.float64)[:, None]

    def loss(self, outputs, targets, label_smoothing=0.0):
        rates = self.finish(outputs)
        return (rates - targets * rates.log())[:, 0]

    def scores(self, outputs, targets, weights):
        return {"likelihood": -float((self.loss(outputs, targets) * weights).sum() / weights.sum())}

    def finish(self, outputs):
        return self.base * outputs.exp()

    def decide(self, outputs):
        return self.finish(outputs)[:, 0].numpy()

    def to_json(self):
        return {"labels": self.labels, "base": self.base}

    @classmethod
    def from_json(cls, labels):
        return cls(labels["base"])


@pytest.fixture
def own_kinds(monkeypatch):
    """Register two kinds for a test, as a new file in ``skastw/targets`` would."""
    monkeypatch.setattr(_base, "_REGISTRY", dict(_base._REGISTRY))
    return [type(kind.__name__[1:], (kind,), {"name": kind.__name__[1:].lower()}) for kind in (_Levels, _Counts)]


LEVELS = pd.Series(pd.Categorical(np.array(["mild", "loud", "awful"])[Y], ["mild", "loud", "awful"], ordered=True))


def test_special_kinds_are_asked_before_general_ones(own_kinds):
    levels, counts = own_kinds
    assert isinstance(learn_targets(LEVELS, "classifier"), levels)
    assert isinstance(learn_targets(LEVELS.astype(str), "classifier"), SingleLabel)
    assert isinstance(learn_targets(Y.astype(np.uint8), "regressor"), counts)
    assert isinstance(learn_targets(Y.astype(np.uint8), "classifier"), SingleLabel)
    assert learn_targets(Y, "regressor").name == "regression"
    assert learn_targets([[0, 1], [1, 1]], "classifier").name == "multilabel"


#: A small network that does not learn: the loss in its history is that of the network that predicts.
STILL = {
    "encoder": ASTWEncoder(d_model=8, num_heads=2, num_layers=1, ff_mult=2, dropout=0.0, drop_frames=0.0),
    "augment": None,
    "epochs": 2,
    "muon_lr": 0.0,
    "adam_lr": 0.0,
    "weight_decay": 0.0,
    "precision": "float32",
}


@pytest.mark.parametrize("kind", ["levels", "counts"])
def test_a_kind_of_ones_own_is_fitted_saved_loaded_and_described(own_kinds, kind, tmp_path, monkeypatch):
    make, y, words = {
        "levels": (classifier, LEVELS[:24], _Levels),
        "counts": (regressor, Y[:24].astype(np.uint8), _Counts),
    }[kind]
    clips = CLIPS[:24]
    model = make(**STILL).fit(clips, y, X_val=clips, y_val=y)
    targets, record = model.trained_.targets, model.trained_.record
    assert model.task_ == kind
    outputs, _ = predict(model.trained_, clips, InferenceParams())
    losses = targets.loss(outputs, torch.from_numpy(targets.encode(y)))
    assert record.history[0]["loss"] == pytest.approx(float(losses.mean()), rel=1e-5)
    scores = targets.scores(outputs, torch.from_numpy(targets.encode(y)), torch.ones(24))
    assert {name: record.validation[name] for name in scores} == pytest.approx(scores, rel=1e-5)

    folder = Path(model.save_pretrained(tmp_path / kind))
    loaded = type(model).from_pretrained(folder)
    assert type(loaded.trained_.targets) is type(targets)
    np.testing.assert_array_equal(loaded.predict(clips), model.predict(clips))
    card = (folder / "README.md").read_text(encoding="utf-8")
    for text in (words.noun, words.purpose, words.limits, *targets.labels):
        assert text in card
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert (config["task"], config["labels"]) == (kind, targets.labels)

    monkeypatch.undo()  # as in a program that does not know the kind
    with pytest.raises(ArtifactError, match=f"task='{kind}', expected one of"):
        type(model).from_pretrained(folder)


def test_a_kind_of_ones_own_is_exported_to_onnx(own_kinds, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = classifier(**{**STILL, "encoder": "rnn", "epochs": 1}, chunk_length=0.5).fit(CLIPS[:6], LEVELS[:6])
    assert model.classes_.tolist() == ["mild", "loud", "awful"]
    session = onnxruntime.InferenceSession(model.export_onnx(tmp_path / "levels.onnx"))
    metadata = session.get_modelmeta().custom_metadata_map
    assert (metadata["task"], json.loads(metadata["labels"])) == ("levels", ["mild", "loud", "awful"])
    probabilities, _ = session.run(["probabilities", "logits"], {"waveform": CLIPS[0][None]})
    np.testing.assert_allclose(probabilities, model.predict_proba(CLIPS[:1]), atol=1e-5)


# ------------------------------------------------------------ corners


@pytest.mark.parametrize("columns", [[1, "1"], ["a", "a\0"]])
def test_columns_whose_names_are_one_text_are_refused(columns):
    with pytest.raises(DataError, match="expected names that differ as text"):
        learn_targets(pd.DataFrame([[0, 1], [1, 0]], columns=columns), "classifier")


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_the_smallest_integer_of_a_type_may_be_a_class(dtype):
    limits = np.iinfo(dtype)
    targets = SingleLabel(np.array([limits.min, limits.max], dtype=dtype))
    decided = targets.decide(torch.tensor([[1.0, 0.0], [torch.nan, torch.nan]]))
    assert decided[0] == limits.min
    assert decided[1] not in targets.classes


def test_classes_that_are_not_sorted_are_refused_or_encoded_right():
    try:
        targets = targets_from_json({"task": "classification", "dtype": "<U3", "labels": ["dog", "cat"]})
    except ArtifactError:
        return
    assert targets.encode(["cat", "dog"]).tolist() == [1, 0]


@pytest.mark.parametrize("change", [{"one_dimensional": True}, {"scale": [1.0, 0.0, 1.0]}, {"scale": [1.0, -1.0, 1.0]}])
def test_values_that_no_fit_learns_are_refused(change):
    with pytest.raises(ArtifactError, match=next(iter(change))):
        targets_from_json({"task": "regression", **VALUES, **change})


def test_a_named_series_names_its_value():
    assert learn_targets(pd.Series([1.0, 2.0], name="age"), "regressor").labels == ["age"]
