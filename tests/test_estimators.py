"""The estimators on real recordings: labels, input forms, splits, seeds, pipelines, searches."""

from copy import deepcopy

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.augment import SpecAugment
from skastw.datasets import load_spoken_digits, make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ClipError, ComponentError
from skastw.network.inference import ROUNDING
from skastw.pooling import MaxPooling

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)


def tiny(**params):
    return ASTWClassifier(**{"encoder": TINY, "epochs": 2, **params})


@pytest.fixture(scope="module")
def three_digits():
    clips = load_spoken_digits()
    chosen = np.isin(clips.target, ["one", "six", "nine"]) & np.isin(clips.groups, np.unique(clips.groups)[:8])
    return np.array(clips.data)[chosen], clips.target[chosen], clips.groups[chosen]


def test_the_defaults():
    clf = ASTWClassifier()
    assert clf.get_params(deep=False) == {
        "sample_rate": 16000,
        "chunk_length": 30.0,
        "features": "log_mel",
        "augment": "auto",
        "normalization": "per_bin",
        "encoder": "astw",
        "pooling": "mean",
        "side": None,
        "n_models": 1,
        "epochs": None,
        "min_steps": 0,
        "batch_size": 16,
        "muon_lr": 0.01,
        "adam_lr": 3e-4,
        "pretrained_lr": 1e-4,
        "weight_decay": 0.01,
        "warmup_ratio": 0.1,
        "label_smoothing": 0.1,
        "class_weight": None,
        "ema_decay": 0.99,
        "refit": "auto",
        "teacher": "auto",
        "teacher_share": 0.7,
        "solver": "gradient",
        "C": 1.0,
        "side_share": 0.5,
        "val_split": 0.2,
        "patience": 30,
        "keep": "best",
        "tta": 1,
        "warm_start": False,
        "init_from": None,
        "init_train": "all",
        "device": "auto",
        "precision": "auto",
        "cache": "auto",
        "cache_dir": None,
        "cache_size": 10.0,
        "n_jobs": None,
        "on_error": "raise",
        "checkpoint_dir": None,
        "random_state": 42,
        "verbose": 0,
    }
    assert clf.get_params()["encoder__d_model"] == 384
    assert (clf.get_params()["encoder__num_layers"], clf.get_params()["encoder__num_heads"]) == (8, 6)


@pytest.mark.parametrize(
    "names",
    [
        np.array(["low", "mid", "high"]),
        np.array(["low", "mid", "high"], dtype=object),
        np.array([7, -1, 30]),
        np.array([2.0, 1.0, 5.0]),
    ],
)
def test_labels_of_any_type_come_back(tone_clips, names):
    clips, y = tone_clips
    clf = tiny().fit(clips, names[y])
    assert clf.classes_.tolist() == sorted(names.tolist())
    assert clf.predict(clips[:3]).dtype == clf.classes_.dtype
    assert clf.predict_proba(clips[:5]).shape == (5, 3)


def test_boolean_labels_and_pandas_labels(tone_clips):
    clips, y = tone_clips
    clf = tiny().fit(clips, y == 1)
    assert clf.predict(clips[:2]).dtype == bool
    assert clf.decision_function(clips[:2]).shape == (2,)
    by_series = tiny().fit(pd.Series(clips), pd.Series(y, dtype="category").astype(str))
    assert by_series.classes_.tolist() == ["0", "1", "2"]


def test_outputs_agree_with_each_other(fitted_classifier, tone_clips):
    clips, _ = tone_clips
    proba, log_proba, logits = (
        getattr(fitted_classifier, m)(clips) for m in ("predict_proba", "predict_log_proba", "decision_function")
    )
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.log(proba), log_proba, atol=1e-5)
    assert (logits.argmax(axis=1) == proba.argmax(axis=1)).all()
    assert (fitted_classifier.classes_[proba.argmax(axis=1)] == fitted_classifier.predict(clips)).all()
    head = fitted_classifier.model_.head
    embeddings = torch.from_numpy(fitted_classifier.transform(clips))
    np.testing.assert_allclose(head(embeddings).detach().numpy(), logits, atol=1e-5)
    top = fitted_classifier.predict_top_k(clips[:1], k=2)[0]
    assert top[0][0] == fitted_classifier.predict(clips[:1])[0]
    assert top[0][1] >= top[1][1]
    assert len(fitted_classifier.predict_top_k(clips[:1], k=99)[0]) == 3
    with pytest.raises(ValueError, match="k=0"):
        fitted_classifier.predict_top_k(clips, k=0)


def test_every_form_of_a_clip_gives_the_same_prediction(fitted_classifier, tmp_path):
    waveform = make_tones(n_clips=1, random_state=3)[0][0]
    path = tmp_path / "tone.wav"
    soundfile.write(path, waveform, 16000, subtype="FLOAT")
    expected = fitted_classifier.predict_proba([waveform])
    forms = [
        [str(path)],
        [path],
        str(path),
        path,
        (waveform,),
        [(waveform, 16000)],
        [{"array": waveform, "sampling_rate": 16000}],
        {"array": waveform, "sample_rate": 16000},
        {"path": str(path), "bytes": None},
        {"path": None, "bytes": path.read_bytes()},
        [np.stack([waveform, waveform])],
        pd.Series([str(path)]),
        pd.DataFrame({"audio": [str(path)]}),
        np.array([[str(path)]], dtype=object),
        waveform[None],
    ]
    for X in forms:
        np.testing.assert_allclose(fitted_classifier.predict_proba(X), expected, rtol=0, atol=ROUNDING)


def test_a_prediction_does_not_depend_on_the_other_clips(fitted_classifier):
    clips, _ = make_tones(n_clips=20, duration=(0.01, 1.5), random_state=1)
    together = fitted_classifier.predict_proba(clips)
    alone = np.concatenate([fitted_classifier.predict_proba([clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, atol=ROUNDING)
    np.testing.assert_allclose(clone(fitted_classifier).set_params(batch_size=3).batch_size, 3)
    in_other_batches = deepcopy(fitted_classifier).set_params(batch_size=3).predict_proba(clips)
    np.testing.assert_allclose(together, in_other_batches, atol=ROUNDING)


def test_a_long_clip_is_predicted_from_all_of_its_chunks(tone_clips):
    clips, y = tone_clips
    clf = tiny(chunk_length=0.5, epochs=8).fit(clips, y)
    quarter = [make_tones(n_clips=3, duration=(0.4, 0.4), noise=0.0, random_state=5)[0][k] for k in range(3)]
    # 40 frames a part, three parts: chunks of 40 frames that meet between the parts
    whole = clf.transform([np.concatenate(quarter)])
    parts = clf.transform(quarter).mean(axis=0, keepdims=True)
    assert np.abs(whole - parts).max() < 0.25 * np.abs(parts).max()
    tail = np.concatenate([quarter[0], quarter[0], np.zeros(3200, np.float32), quarter[2][:800]])
    changed = tail.copy()
    changed[-400:] = 0.9
    assert np.abs(clf.transform([tail]) - clf.transform([changed])).max() > 1e-4


def test_clips_shorter_than_a_window_train_and_predict():
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=n).astype(np.float32) for n in (1, 2, 50, 150, 399, 401, 3, 160)]
    clf = tiny().fit(clips, [0, 1] * 4)
    assert np.isfinite(clf.predict_proba(clips)).all()


def test_training_on_clips_longer_than_a_chunk(tone_clips):
    clips, y = tone_clips
    clf = tiny(chunk_length=0.1).fit(clips, y)
    assert clf.model_.max_frames == 10
    assert np.isfinite([row["loss"] for row in clf.history_]).all()


def test_history_has_one_row_an_epoch_with_what_was_promised(fitted_classifier):
    frame = pd.DataFrame(fitted_classifier.history_)
    expected = ["epoch", "loss", "val_loss", "val_accuracy", "val_macro_f1", "muon_lr", "adam_lr", "seconds"]
    assert frame.columns.tolist() == expected
    assert frame.epoch.tolist() == list(range(1, fitted_classifier.n_epochs_ + 1))
    assert frame.val_macro_f1.max() == frame.val_macro_f1[fitted_classifier.best_epoch_ - 1]


def test_the_restored_weights_are_those_of_the_best_epoch(tone_clips):
    clips, y = tone_clips
    valid, y_valid = make_tones(n_clips=18, random_state=9)
    clf = tiny(epochs=12, precision="float32").fit(clips, y, X_val=valid, y_val=y_valid)
    best = clf.history_[clf.best_epoch_ - 1]
    assert f1_score(y_valid, clf.predict(valid), average="macro") == pytest.approx(best["val_macro_f1"])


def test_a_seed_repeats_bit_for_bit_and_leaves_torch_alone(tone_clips):
    clips, y = tone_clips
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = tiny().fit(clips, y)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(6)
    second = tiny().fit(clips, y)
    np.testing.assert_array_equal(first.predict_proba(clips), second.predict_proba(clips))
    other = tiny(random_state=1).fit(clips, y)
    assert (first.predict_proba(clips) != other.predict_proba(clips)).any()


def test_fit_changes_no_parameter(tone_clips):
    clf = tiny(augment=[SpecAugment(), "spec_augment"], pooling="max")
    before = clf.get_params()
    clf.fit(*tone_clips)
    assert clf.get_params() == before


def test_groups_stay_whole_in_the_internal_split(three_digits):
    X, y, voices = three_digits
    clf = tiny(epochs=1).fit(X, y, groups=voices)
    assert clf.trained_.record.split == "whole groups held out"
    assert clf.trained_.record.n_validation % 6 == 0  # six clips a voice


def test_names_of_components_stand_for_objects_in_grids():
    clf = ASTWClassifier()
    clf.set_params(encoder__d_model=192, pooling__hidden=8, pooling="attentive_stats")
    assert clf.encoder.d_model == 192
    assert clf.pooling.hidden == 8
    assert clone(clf).get_params()["encoder__d_model"] == 192
    assert ASTWClassifier().get_params()["encoder__d_model"] == 384
    with pytest.raises(ValueError, match="no_such"):
        clf.set_params(encoder__no_such=1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("epoch", "did you mean 'epochs'"),
        ("n-models", "did you mean 'n_models'"),
        ("encoder.d_model", "did you mean 'encoder__d_model'"),
        ("encoder__dmodel", "ASTWEncoder has no parameter 'dmodel'; did you mean 'd_model'"),
        ("learning_rate", "expected one of C, adam_lr, .*muon_lr"),
    ],
)
def test_a_mistyped_parameter_brings_the_one_that_was_meant(given, said):
    clf = ASTWClassifier()
    with pytest.raises(ValueError, match=said):
        clf.set_params(**{given: 1})


def test_wrong_parameters_are_named(tone_clips):
    clips, y = tone_clips
    cases = [
        ({"pooling": "avg"}, "pooling='avg', expected one of 'attentive_stats', 'first', 'last', 'max', 'mean'"),
        ({"encoder": "transformer"}, "expected one of 'astw'"),
        ({"encoder": MaxPooling()}, "encoder"),
        ({"encoder": ASTWEncoder(d_model=10, num_heads=3)}, "d_model=10, expected a multiple of num_heads=3"),
        ({"encoder": ASTWEncoder(dropout=2.0)}, "dropout"),
        ({"augment": ["spec_augment", "whistle"]}, "augment='whistle'"),
        ({"augment": "gain", "features": "mfcc"}, "augment='gain' with features='mfcc'"),
        ({"augment": "background"}, "paths"),
        ({"normalization": "per_word"}, "normalization='per_word'"),
        ({"keep": "first"}, "keep"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"n_models": 0}, "n_models"),
        ({"tta": 0}, "tta"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"val_split": 1.0}, "val_split"),
        ({"precision": "half"}, "precision"),
        ({"device": "tpu9"}, "device='tpu9'"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"chunk_length": 0}, "chunk_length"),
        ({"random_state": "seed"}, "random_state"),
        ({"class_weight": {9: 1.0}}, "class_weight for"),
    ]
    for params, message in cases:
        with pytest.raises(ValueError, match=message):
            tiny(**params).fit(clips, y)
    with pytest.raises(ComponentError, match="precomputed"):
        ASTWFeaturizer(features="precomputed").fit(clips)


def test_wrong_targets_and_arguments_are_named(tone_clips):
    clips, y = tone_clips
    cases = [
        ({"y": None}, "requires y"),
        ({"y": y[:-1]}, "inconsistent numbers of samples"),
        ({"y": np.zeros(len(y))}, "one class"),
        ({"y": np.linspace(0, 1, len(y))}, "continuous"),
        ({"sample_weight": -np.ones(len(y))}, "[Nn]egative"),
        ({"sample_weight": np.zeros(len(y))}, "zero"),
        ({"groups": np.zeros(len(y))}, "1 group"),
        ({"groups": [1, 2]}, "inconsistent numbers of samples"),
        ({"X_val": clips}, "X_val alone"),
        ({"X_val": clips, "y_val": y[:-1]}, "inconsistent numbers of samples"),
        ({"X_val": clips, "y_val": y + 5}, "not in the training data"),
        ({"sample_weight_val": np.ones(len(y))}, "without X_val"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            tiny().fit(clips, **{"y": y, **arguments})
    with pytest.raises(ValueError, match="0 sample"):
        tiny().fit([], [])


def test_a_bad_clip_is_named_before_training(tone_clips):
    clips, y = tone_clips
    for bad in (np.array([np.nan, 1.0]), "missing.wav", None, np.zeros(0)):
        with pytest.raises(ClipError, match="Clip 7"):
            tiny(epochs=10**9).fit([*clips[:7], bad, *clips[8:]], y)


def test_not_fitted_is_said():
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform", "predict_top_k"):
        with pytest.raises(NotFittedError):
            getattr(tiny(), method)(["a.wav"])


def test_weights_and_class_weights_shift_the_predictions(tone_clips):
    clips, y = tone_clips
    plain = tiny(epochs=4, val_split=None).fit(clips, y)
    heavy = tiny(epochs=4, val_split=None, class_weight={2: 50.0}).fit(clips, y)
    by_sample = tiny(epochs=4, val_split=None).fit(clips, y, sample_weight=np.where(y == 2, 50.0, 1.0))
    assert heavy.predict_proba(clips)[:, 2].mean() > plain.predict_proba(clips)[:, 2].mean()
    np.testing.assert_array_equal(heavy.predict_proba(clips), by_sample.predict_proba(clips))
    balanced = tiny(class_weight="balanced").fit(clips[:20], y[:20])
    assert np.isfinite(balanced.history_[-1]["loss"])


def test_pipeline_of_frames_equals_the_classifier_alone(tone_clips):
    clips, y = tone_clips
    steady = {"precision": "float32", "muon_lr": None}  # rounding of the frames stays rounding
    alone = tiny(**steady).fit(clips, y)
    piped = make_pipeline(ASTWFeaturizer(), tiny(features="precomputed", **steady)).fit(clips, y)
    np.testing.assert_allclose(piped.predict_proba(clips), alone.predict_proba(clips), atol=ROUNDING)


def test_precomputed_frames_are_checked(tone_clips):
    clips, y = tone_clips
    frames = ASTWFeaturizer().fit_transform(clips)
    clf = tiny(features="precomputed").fit(frames, y)
    assert clf.predict(list(frames)).shape == y.shape
    with pytest.raises(ClipError, match=r"shape \(5, 79\), expected \(n_frames, 80\)"):
        clf.predict([np.zeros((5, 79))])
    with pytest.raises(ClipError, match="Clip 1: got shape"):
        clf.predict([np.zeros((5, 80)), np.zeros(80)])
    with pytest.raises(ClipError, match="NaN"):
        clf.predict([np.full((5, 80), np.nan)])


def test_statistics_feed_a_classical_model(three_digits):
    X, y, voices = three_digits
    model = make_pipeline(ASTWFeaturizer(output="statistics", n_jobs=2), StandardScaler(), SVC())
    scores = cross_validate(model, X, y, groups=voices, cv=StratifiedGroupKFold(4))
    assert scores["test_score"].mean() > 0.6
    table = ASTWFeaturizer(output="statistics").set_output(transform="pandas").fit_transform(list(X[:3]))
    assert table.shape == (3, 300)
    assert table.columns[0] == "mel00_mean"
    assert not hasattr(ASTWFeaturizer(), "get_feature_names_out")


def test_grid_search_and_cross_validation_with_whole_voices(three_digits):
    X, y, voices = three_digits
    search = GridSearchCV(
        tiny(epochs=12), {"encoder__d_model": [16, 32]}, cv=StratifiedGroupKFold(2), scoring="f1_macro"
    )
    search.fit(X, y, groups=voices)
    assert {c["encoder__d_model"] for c in search.cv_results_["params"]} == {16, 32}
    assert search.best_estimator_.model_.head.in_features == search.best_params_["encoder__d_model"]
    assert search.best_score_ > 0.5

    result = cross_validate(tiny(epochs=12), X, y, groups=voices, cv=StratifiedGroupKFold(2), return_estimator=True)
    assert len(result["estimator"]) == 2
    assert result["test_score"].mean() > 0.5


@pytest.mark.parametrize("name", list(ASTWClassifier().get_params(deep=False)))
def test_every_parameter_of_a_wrong_type_is_named(tone_clips, name):
    with pytest.raises(ValueError, match=name):
        tiny(**{name: object()}).fit(*tone_clips)


def test_searches_in_threads_do_not_crash(tone_clips):
    clips, y = tone_clips
    with joblib.parallel_config(backend="threading"):
        search = GridSearchCV(tiny(epochs=1), {"encoder__d_model": [8, 16]}, cv=2, n_jobs=2).fit(clips, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
