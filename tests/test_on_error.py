"""Clips that cannot be read: an error, or left out, listed, and never given a label."""

import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import classification_report
from sklearn.pipeline import make_pipeline

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ClipError, ClipValueError, DataError
from skastw.failures import MAX_FAILED_SHARE, FailedClip

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
CLIPS, Y = make_tones(n_clips=30, random_state=0)
#: Clips that cannot be read, at these positions of X.
BAD = {3: np.full(1000, np.nan), 8: "no/such/file.wav", 21: np.zeros(0)}
NAMES = np.array(["low", "mid", "high"])


def with_bad(bad=BAD):
    return [bad.get(i, clip) for i, clip in enumerate(CLIPS)]


GOOD = [i for i in range(len(CLIPS)) if i not in BAD]


def classifier(**params):
    return ASTWClassifier(**{"encoder": TINY, "epochs": 2, "random_state": 0, **params})


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(CLIPS, NAMES[Y])


# ------------------------------------------------------------------ fit


@pytest.mark.parametrize("params", [{}, {"n_jobs": 2}, {"cache": "disk"}, {"val_split": None}, {"batch_size": 5}])
def test_training_leaves_them_out_as_if_they_had_not_been_there(params):
    clf = classifier(on_error="ignore", **params).fit(with_bad(), NAMES[Y])
    alone = classifier(**params).fit([CLIPS[i] for i in GOOD], NAMES[Y][GOOD])
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), alone.predict_proba(CLIPS))
    assert [clip.index for clip in classifier(on_error="ignore").fit(with_bad(), Y).failed_] == [3, 8, 21]


def test_they_are_listed_with_path_and_reason_and_warned_of_once():
    with pytest.warns(
        UserWarning, match=r"3 of 30 clips cannot be used \(Clip 3: .*NaN.*; Clip 8 \(.*failed_"
    ) as caught:
        clf = classifier(on_error="warn", epochs=1).fit(with_bad(), Y)
    assert len(caught) == 1
    table = pd.DataFrame(clf.failed_)
    assert list(table.columns) == ["index", "path", "reason"]
    assert [clip.path for clip in clf.failed_] == [None, "no/such/file.wav", None]
    assert table["reason"].str.len().min() > 10
    assert isinstance(clf.failed_[0], FailedClip)


def test_by_default_the_first_of_them_is_an_error():
    with pytest.raises(ClipValueError, match="Clip 3"):
        classifier().fit(with_bad(), Y)


def test_weights_and_groups_stay_with_their_clips():
    weights, groups = np.linspace(1, 2, len(Y)), np.arange(len(Y)) // 3
    clf = classifier(on_error="ignore").fit(with_bad(), Y, sample_weight=weights, groups=groups)
    alone = classifier().fit([CLIPS[i] for i in GOOD], Y[GOOD], sample_weight=weights[GOOD], groups=groups[GOOD])
    np.testing.assert_array_equal(clf.predict_proba(CLIPS), alone.predict_proba(CLIPS))


def test_clips_of_weight_zero_are_not_read():
    weights = np.ones(len(Y))
    weights[list(BAD)] = 0
    assert classifier(epochs=1).fit(with_bad(), Y, sample_weight=weights).failed_ == []


def test_validation_clips_that_are_given_are_left_out_too():
    clf = classifier(on_error="ignore", epochs=1).fit(CLIPS, Y, X_val=with_bad(), y_val=Y)
    assert [clip.index for clip in clf.failed_] == [3, 8, 21]
    assert all(clip.reason.startswith("in X_val: ") for clip in clf.failed_)


def test_too_many_of_them_stop_training():
    bad = dict.fromkeys(range(7), "no/such/file.wav")
    assert len(bad) > MAX_FAILED_SHARE * len(CLIPS)
    for policy in ("warn", "ignore"):
        with pytest.raises(DataError, match=r"^7 of 30 clips cannot be used .* more than 20%"):
            classifier(on_error=policy).fit(with_bad(bad), Y)


def test_a_class_that_is_lost_stops_training():
    y = np.where(np.isin(np.arange(len(Y)), list(BAD)), "rare", NAMES[Y])
    with pytest.raises(DataError, match=r"^No clip of class 'rare' can be used"):
        classifier(on_error="ignore").fit(with_bad(), y)


def test_training_in_instalments_leaves_them_out():
    clf = classifier(on_error="ignore").partial_fit(with_bad(), Y, classes=[0, 1, 2]).partial_fit(CLIPS, Y)
    assert clf.failed_ == []
    assert [clip.index for clip in clf.partial_fit(with_bad(), Y).failed_] == [3, 8, 21]


def test_a_truncated_file_is_one_of_them(tmp_path):
    path = tmp_path / "cut.wav"
    soundfile.write(path, CLIPS[0], 16000)
    path.write_bytes(path.read_bytes()[:-5000])
    clf = classifier(on_error="ignore", epochs=1).fit([str(path), *CLIPS[1:]], Y)
    [failed] = clf.failed_
    assert failed.path == str(path)
    assert "truncated" in failed.reason


# ------------------------------------------------------------------ predict


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_predictions_for_them_are_nan_and_the_others_are_unchanged(fitted, n_jobs):
    fitted.set_params(on_error="ignore", n_jobs=n_jobs)
    for method in ("predict_proba", "predict_log_proba", "decision_function", "transform"):
        found = getattr(fitted, method)(with_bad())
        assert np.isnan(found[list(BAD)]).all()
        np.testing.assert_allclose(found[GOOD], getattr(fitted, method)(CLIPS)[GOOD], atol=1e-5)
        assert fitted.failed_ == []  # of the last call
    assert (fitted.predict(with_bad())[list(BAD)] == "").all()
    assert [clip.index for clip in fitted.failed_] == [3, 8, 21]
    np.testing.assert_array_equal(fitted.predict(with_bad())[GOOD], fitted.predict(CLIPS)[GOOD])
    assert "" in classification_report(NAMES[Y], fitted.predict(with_bad()), zero_division=0)
    fitted.set_params(on_error="raise", n_jobs=None)


def test_a_clip_alone_that_cannot_be_read(fitted):
    fitted.set_params(on_error="warn")
    with pytest.warns(UserWarning, match="1 of 1 clips cannot be used"):
        assert np.isnan(fitted.predict_proba(["no/such/file.wav"])).all()
    with pytest.warns(UserWarning, match="1 of 1"):
        [[(label, probability)]] = fitted.predict_top_k(["no/such/file.wav"])
    assert label == ""
    assert np.isnan(probability)
    fitted.set_params(on_error="raise")
    with pytest.raises(ClipError):
        fitted.predict(["no/such/file.wav"])


@pytest.mark.parametrize(
    ("labels", "placeholder"),
    [
        ([0, 1, 2], -1),
        ([-1, 0, 1], -2),
        (np.array([0, 1, 2], dtype=np.uint8), -1),
        ([0.0, 1.0, 2.0], np.nan),
        (["", "a", "b"], None),
        (["x", "y", "z"], ""),
        (np.array(["x", "y", "z"], dtype=object), ""),
        ([False, True, True], None),
    ],
    ids=str,
)
def test_the_placeholder_is_none_of_the_classes(labels, placeholder):
    clf = classifier(epochs=1, on_error="ignore").fit(CLIPS, np.asarray(labels)[Y])
    found = clf.predict(with_bad())
    assert clf.placeholder_ == placeholder or (placeholder is np.nan and np.isnan(clf.placeholder_))
    assert all(value == placeholder or value is placeholder or value != value for value in found[list(BAD)].tolist())
    assert set(found[GOOD].tolist()) <= set(np.asarray(labels).tolist())


def test_several_labels_and_values():
    indicator = np.eye(3, dtype=int)[Y]
    found = classifier(epochs=1, on_error="ignore").fit(CLIPS, indicator).predict(with_bad())
    assert (found[list(BAD)] == -1).all()
    assert (found[GOOD] >= 0).all()
    values = (
        ASTWRegressor(encoder=TINY, epochs=1, on_error="ignore").fit(with_bad(), Y.astype(float)).predict(with_bad())
    )
    assert np.isnan(values[list(BAD)]).all()
    assert np.isfinite(values[GOOD]).all()


# ------------------------------------------------------------------ featurizer and pipelines


def test_the_featurizer_gives_no_frames_and_nan_statistics():
    featurizer = ASTWFeaturizer(output="statistics", on_error="ignore").fit(CLIPS)
    found = featurizer.transform(with_bad())
    assert np.isnan(found[list(BAD)]).all()
    assert np.isfinite(found[GOOD]).all()
    assert [clip.index for clip in featurizer.failed_] == [3, 8, 21]
    frames = ASTWFeaturizer(on_error="ignore").fit(CLIPS).transform(with_bad())
    assert [frames[i].shape for i in BAD] == [(0, 80)] * 3
    with pytest.raises(ClipError):
        ASTWFeaturizer().fit(CLIPS).transform(with_bad())
    with pytest.warns(UserWarning, match="3 of 30"):
        ASTWFeaturizer(on_error="warn").fit(CLIPS).transform(with_bad())


def test_a_pipeline_of_frames_passes_them_on():
    piped = make_pipeline(ASTWFeaturizer(on_error="ignore"), classifier(features="precomputed", on_error="ignore"))
    probabilities = piped.fit(with_bad(), Y).predict_proba(with_bad())
    assert np.isnan(probabilities[list(BAD)]).all()
    assert [clip.index for clip in piped[-1].failed_] == [3, 8, 21]
    np.testing.assert_array_equal(
        probabilities[GOOD], classifier(on_error="ignore").fit(with_bad(), Y).predict_proba(with_bad())[GOOD]
    )


def test_nothing_is_said_where_nothing_fails():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = classifier(on_error="warn", epochs=1).fit(CLIPS, Y)
        clf.predict(CLIPS)
    assert clf.failed_ == []


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="on_error"):
        classifier(on_error="skip").fit(CLIPS, Y)
