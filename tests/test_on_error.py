"""Clips that cannot be read: an error, or left out, listed, and never given a label."""

import warnings
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import classification_report
from sklearn.pipeline import make_pipeline

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.data.failures import MAX_FAILED_SHARE, FailedClip
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ClipError, ClipValueError, DataError, PredictionError
from skastw.features import LogMel
from skastw.network.inference import ROUNDING

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


def without_bfloat16(**params):
    """Return a classifier whose training turns rounding of the frames into rounding of the weights, not into more."""
    return classifier(precision="float32", muon_lr=None, **params)


# ------------------------------------------------------------------ fit


@pytest.mark.parametrize("params", [{}, {"n_jobs": 2}, {"cache": "disk"}, {"val_split": None}, {"batch_size": 5}])
def test_training_leaves_them_out_as_if_they_had_not_been_there(params):
    clf = without_bfloat16(on_error="ignore", **params).fit(with_bad(), NAMES[Y])
    alone = without_bfloat16(**params).fit([CLIPS[i] for i in GOOD], NAMES[Y][GOOD])
    np.testing.assert_allclose(clf.predict_proba(CLIPS), alone.predict_proba(CLIPS), rtol=0, atol=ROUNDING)
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
    clf = without_bfloat16(on_error="ignore").fit(with_bad(), Y, sample_weight=weights, groups=groups)
    settings = {"sample_weight": weights[GOOD], "groups": groups[GOOD]}
    alone = without_bfloat16().fit([CLIPS[i] for i in GOOD], Y[GOOD], **settings)
    np.testing.assert_allclose(clf.predict_proba(CLIPS), alone.predict_proba(CLIPS), rtol=0, atol=ROUNDING)


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
def test_predictions_for_them_are_nan_and_the_others_are_unchanged(fitted_classifier, n_jobs):
    clf = deepcopy(fitted_classifier).set_params(on_error="ignore", n_jobs=n_jobs)
    for method in ("predict_proba", "predict_log_proba", "decision_function", "transform"):
        found = getattr(clf, method)(with_bad())
        assert np.isnan(found[list(BAD)]).all()
        np.testing.assert_allclose(found[GOOD], getattr(clf, method)(CLIPS)[GOOD], atol=ROUNDING)
        assert clf.failed_ == []  # of the last call
    assert (clf.predict(with_bad())[list(BAD)] == "").all()
    assert [clip.index for clip in clf.failed_] == [3, 8, 21]
    np.testing.assert_array_equal(clf.predict(with_bad())[GOOD], clf.predict(CLIPS)[GOOD])
    assert "" in classification_report(NAMES[Y], clf.predict(with_bad()), zero_division=0)


def test_a_clip_alone_that_cannot_be_read(fitted_classifier):
    clf = deepcopy(fitted_classifier).set_params(on_error="warn")
    with pytest.warns(UserWarning, match="1 of 1 clips cannot be used"):
        assert np.isnan(clf.predict_proba(["no/such/file.wav"])).all()
    with pytest.warns(UserWarning, match="1 of 1"):
        [[(label, probability)]] = clf.predict_top_k(["no/such/file.wav"])
    assert label == ""
    assert np.isnan(probability)
    clf.set_params(on_error="raise")
    with pytest.raises(ClipError):
        clf.predict(["no/such/file.wav"])


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
    network = without_bfloat16(features="precomputed", on_error="ignore")
    piped = make_pipeline(ASTWFeaturizer(on_error="ignore"), network)
    probabilities = piped.fit(with_bad(), Y).predict_proba(with_bad())
    assert np.isnan(probabilities[list(BAD)]).all()
    assert [clip.index for clip in piped[-1].failed_] == [3, 8, 21]
    together = without_bfloat16(on_error="ignore").fit(with_bad(), Y).predict_proba(with_bad())
    np.testing.assert_allclose(probabilities[GOOD], together[GOOD], rtol=0, atol=ROUNDING)


def test_nothing_is_said_where_nothing_fails():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = classifier(on_error="warn", epochs=1).fit(CLIPS, Y)
        clf.predict(CLIPS)
    assert clf.failed_ == []


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="on_error"):
        classifier(on_error="skip").fit(CLIPS, Y)


# ------------------------------------------------------------------ what others raise, and what nothing raises


class Damaged:
    """A decoder of torchcodec for a damaged file."""

    def get_all_samples(self):
        raise RuntimeError("Failed to decode")


class Column:
    """A column of a data set that decodes a row when it is indexed, and cannot decode row 5."""

    def __len__(self):
        return len(CLIPS)

    def __getitem__(self, index):
        if index == 5:
            raise OSError("row 5 is damaged")
        return CLIPS[index]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_what_decoders_and_containers_raise_costs_one_clip(n_jobs):
    X = Column()
    clf = classifier(epochs=1, on_error="ignore", n_jobs=n_jobs).fit(X, Y)
    assert [clip.index for clip in clf.failed_] == [5]
    assert "OSError: row 5 is damaged" in clf.failed_[0].reason
    assert np.isnan(clf.predict_proba(X)[5]).all()
    clf.predict([CLIPS[0], Damaged(), np.full(1000, 1e20), CLIPS[1]])
    assert [clip.index for clip in clf.failed_] == [1, 2]
    assert "RuntimeError: Failed to decode" in clf.failed_[0].reason
    with pytest.raises(ClipValueError, match="Clip 5: cannot be read"):
        classifier().fit(X, Y)


@pytest.mark.parametrize("fault", ["raises", "is not finite"])
def test_what_the_front_end_cannot_take_costs_one_clip(fault, monkeypatch):
    """All clips but one of a group that is transformed together keep their frames."""
    module = type(LogMel().build(16000))
    scaled = module.scaled
    worst = max(np.abs(clip).max() for clip in CLIPS)

    def faulty(self, mel, lengths):
        frames = scaled(self, mel, lengths)
        if mel.max() > 1e6:
            if fault == "raises":
                raise RuntimeError("cannot scale this")
            frames[:, 0, 0] = np.nan
        return frames

    monkeypatch.setattr(module, "scaled", faulty)
    X = [clip * (1e6 if i == 4 else 1) / worst for i, clip in enumerate(CLIPS)]
    clf = classifier(epochs=1, on_error="ignore").fit(X, Y)
    assert [clip.index for clip in clf.failed_] == [4]
    assert ("RuntimeError: cannot scale this" if fault == "raises" else "NaN or infinite frames") in clf.failed_[
        0
    ].reason


def test_memory_that_runs_out_is_no_clips_fault(monkeypatch):
    module = type(LogMel().build(16000))

    def exhausted(*_):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(module, "extract", exhausted)
    with pytest.raises(RuntimeError, match="out of memory") as caught:
        classifier(on_error="ignore").fit(CLIPS, Y)
    assert not isinstance(caught.value, ClipError)


@pytest.mark.parametrize("amplitude", [1e18, 1e20, 1e30])
def test_a_level_that_overflows_is_an_error_and_no_label(fitted_classifier, amplitude):
    loud = (amplitude * CLIPS[0] / np.abs(CLIPS[0]).max()).astype(np.float32)
    lenient = classifier(epochs=1, on_error="ignore").fit([loud, *CLIPS[1:]], Y)
    assert [clip.index for clip in lenient.failed_] == [0]
    with pytest.raises(ClipValueError, match=r"Clip 1: .* expected at most 1e\+12"):
        fitted_classifier.predict([CLIPS[0], loud])
    with pytest.raises(ClipValueError, match=r"Clip 1: .* expected at most 1e\+12"):
        classifier(features="precomputed").fit([np.ones((9, 4)), np.full((9, 4), amplitude)], [0, 1])


@pytest.mark.parametrize("features", ["log_mel", "mfcc", "pcen", LogMel(n_fft=65536, n_mels=20)])
def test_the_highest_level_that_is_taken_does_not_overflow(features):
    square = np.float32(1e12) * np.sign(np.sin(np.arange(16000) * 0.3) + 0.5).astype(np.float32)
    frames = ASTWFeaturizer(features=features).fit_transform([square])
    assert np.isfinite(frames).all()


@pytest.mark.parametrize("part", ["head", "encoder"])
def test_weights_that_are_no_numbers_give_an_error_and_no_label(part):
    clf = classifier(epochs=1).fit(CLIPS, NAMES[Y])
    next(getattr(clf.model_, part).parameters()).data.fill_(np.nan)
    clf.set_params(on_error="ignore")
    for method in ("predict", "predict_proba", "decision_function", "predict_top_k"):
        with pytest.raises(
            PredictionError, match=r"for 1 of 1 clips \(the first is clip 1\): its weights are not finite"
        ):
            getattr(clf, method)(["lost.wav", CLIPS[0]])
    with pytest.raises(PredictionError):
        clf.explain(CLIPS[0])
    values = ASTWRegressor(encoder=TINY, epochs=1).fit(CLIPS, Y)
    next(getattr(values.model_, part).parameters()).data.fill_(np.nan)
    with pytest.raises(PredictionError, match="30 of 30"):
        values.predict(CLIPS)


# ------------------------------------------------------------------ channels that cancel each other


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("on_error", ["raise", "ignore"])
def test_training_warns_once_of_channels_that_cancel_each_other(n_jobs, on_error, tmp_path):
    X = [np.stack([clip, clip]) for clip in CLIPS]
    for index in (4, 7, 9, 20):
        X[index] = np.stack([CLIPS[index], -CLIPS[index]])
    soundfile.write(tmp_path / "opposite.wav", X[4].T, 16000)
    X[4] = str(tmp_path / "opposite.wav")
    match = r"channels of 4 of 30 clips cancel each other \(clip 4 \('.*opposite\.wav'\), clip 7, clip 9, \.\.\.\)"
    with pytest.warns(UserWarning, match=match) as caught:
        clf = classifier(epochs=1, n_jobs=n_jobs, on_error=on_error).fit(X, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert clf.failed_ == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf.predict(X)
