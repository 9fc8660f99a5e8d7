"""Evaluation: scores agree with scikit-learn's, intervals with plain resampling, and the page holds what was found."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, balanced_accuracy_score, classification_report, confusion_matrix, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from helpers import HOSTILE, Page
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.data.failures import FailedClip
from skastw.datasets import make_tones
from skastw.encoders import ParallelCNNEncoder
from skastw.errors import ClipError
from skastw.evaluation import Evaluation, evaluate, evaluate_predictions, score_intervals, total_scores
from skastw.evaluation.report import _draw_matrix

CLIPS, Y = make_tones(n_clips=48, n_classes=3, random_state=0)
NAMES = np.array(["low", "middle", "high"])[Y]
REFERENCES = {
    "accuracy": accuracy_score,
    "macro_f1": lambda y, p: f1_score(y, p, average="macro", zero_division=0.0),
    "uar": balanced_accuracy_score,
}


def guesses(n=200, *, seed=0, right=0.7, labels=("cat", "cow", "dog", "hen")):
    """Return labels, predictions of which a share is right, and groups."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(labels, n, p=[0.5, 0.3, 0.15, 0.05])
    predicted = np.where(rng.random(n) < right, truth, rng.choice(labels, n))
    return truth, predicted, rng.integers(0, 12, n)


@pytest.fixture(scope="module")
def classifier():
    encoder = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)
    return ASTWClassifier(encoder=encoder, epochs=3, muon_lr=0.03).fit(CLIPS[:24], NAMES[:24])


# ------------------------------------------------------------------ scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_scores_are_those_of_scikit_learn(seed):
    truth, predicted, _ = guesses(5 + 20 * seed, seed=seed)
    result = evaluate_predictions(truth, predicted, n_bootstrap=0)
    for name, reference in REFERENCES.items():
        assert getattr(result, name) == pytest.approx(reference(truth, predicted)), name
    report = classification_report(truth, predicted, output_dict=True, zero_division=0.0)
    for label, row in result.per_class.iterrows():
        expected = report[label]
        assert row.tolist() == [expected[k] for k in ("precision", "recall", "f1-score", "support")]
    np.testing.assert_array_equal(result.confusion_matrix, confusion_matrix(truth, predicted, labels=result.labels))
    assert result.n_clips == len(truth) == result.confusion_matrix.sum()


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [
        (["a", "a", "b"], ["a", "a", "a"]),  # a class is never predicted
        (["a", "a", "a"], ["a", "b", "c"]),  # classes that are only predicted
        (["a"], ["b"]),  # one clip, and wrong
        ([1, 0, 1], [1, 0, 1]),
        ([True, False], [True, True]),
    ],
)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
def test_scores_of_odd_cases_are_those_of_scikit_learn(truth, predicted):
    found = total_scores(np.array(truth), np.array(predicted))
    assert found == pytest.approx({name: score(truth, predicted) for name, score in REFERENCES.items()})
    json.dumps(evaluate_predictions(truth, predicted).to_dict(), allow_nan=False)


def test_groups_and_folds_are_scored_by_themselves():
    truth, predicted, groups = guesses()
    result = evaluate_predictions(truth, predicted, groups=groups, folds=groups % 3, n_bootstrap=0)
    assert result.per_group["n_clips"].sum() == result.per_fold["n_clips"].sum() == len(truth)
    assert result.per_group.index.tolist() == sorted(set(groups.tolist()))
    for group, row in result.per_group.iterrows():
        own = groups == group
        assert row["accuracy"] == pytest.approx(accuracy_score(truth[own], predicted[own]))
    weights = result.per_fold["n_clips"] / len(truth)
    assert (result.per_fold["accuracy"] * weights).sum() == pytest.approx(result.accuracy)


# ------------------------------------------------------------------ intervals


def plain_interval(truth, predicted, name, units, seed=1):
    """Return the interval from drawing units (arrays of positions) one draw at a time."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(600):
        drawn = np.concatenate([units[i] for i in rng.integers(0, len(units), len(units))])
        values.append(REFERENCES[name](truth[drawn], predicted[drawn]))
    return np.percentile(values, [2.5, 97.5])


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_intervals_are_those_of_drawing_clips_or_whole_groups(name, grouped):
    truth, predicted, groups = guesses(120)
    # a group that is always wrong: groups then matter
    predicted[groups == 3] = np.where(truth[groups == 3] == "cat", "cow", "cat")
    units = [np.flatnonzero(groups == g) for g in np.unique(groups)] if grouped else [[i] for i in range(len(truth))]
    expected = plain_interval(truth, predicted, name, [np.array(unit) for unit in units])
    found = score_intervals(truth, predicted, groups=groups if grouped else None)[name]
    width = expected[1] - expected[0]
    assert np.abs(np.array(found) - expected).max() < 0.15 * width


def test_clips_of_one_group_count_as_one_observation():
    """Every clip six times over: drawing clips feigns certainty, drawing whole groups does not."""
    truth, predicted, _ = guesses(40)
    once = score_intervals(truth, predicted)["accuracy"]
    groups = np.repeat(np.arange(40), 6)
    repeated = np.repeat(truth, 6), np.repeat(predicted, 6)
    by_group = score_intervals(*repeated, groups=groups)["accuracy"]
    by_clip = score_intervals(*repeated)["accuracy"]
    assert by_group == pytest.approx(once, abs=0.04)
    assert by_clip[1] - by_clip[0] < 0.6 * (by_group[1] - by_group[0])


def test_intervals_repeat_and_hold_the_score():
    truth, predicted, groups = guesses()
    one, two, other = (evaluate_predictions(truth, predicted, groups=groups, random_state=s) for s in (0, 0, 1))
    assert one.intervals == two.intervals != other.intervals
    assert one.resampled == "groups"
    for name, (low, high) in one.intervals.items():
        assert 0 <= low < getattr(one, name) < high <= 1


def test_perfect_predictions_have_an_interval_without_width():
    truth = np.repeat(["a", "b"], 20)
    assert set(score_intervals(truth, truth).values()) == {(1.0, 1.0)}


def test_there_is_no_interval_where_nothing_can_be_drawn():
    truth, predicted, _ = guesses()
    assert score_intervals(truth, predicted, n_bootstrap=0) == {}
    assert evaluate_predictions(truth, predicted, groups=np.zeros(len(truth))).intervals == {}


# ------------------------------------------------------------------ an estimator


def test_a_classifier_is_scored_on_what_it_predicts(classifier):
    groups = np.arange(24) // 4
    result = evaluate(classifier, CLIPS[24:], NAMES[24:], groups=groups)
    predicted = classifier.predict(CLIPS[24:])
    assert result.accuracy == accuracy_score(NAMES[24:], predicted)
    table = result.predictions
    assert table["predicted"].tolist() == predicted.tolist()
    assert table["correct"].tolist() == (predicted == NAMES[24:]).tolist()
    np.testing.assert_array_equal(table["probability"], classifier.predict_proba(CLIPS[24:]).max(axis=1))
    assert table["group"].tolist() == groups.tolist()
    assert table["clip"].tolist() == list(range(24))
    assert result.history == classifier.history_
    assert result.best_epoch == classifier.best_epoch_
    assert result.seconds > 0


@pytest.mark.parametrize("last", [SVC(), DummyClassifier()])
def test_any_classifier_of_scikit_learn_is_scored(last):
    model = make_pipeline(ASTWFeaturizer(output="statistics"), StandardScaler(), last).fit(CLIPS[:24], Y[:24])
    result = evaluate(model, pd.Series(CLIPS[24:]), Y[24:])
    assert result.accuracy == accuracy_score(Y[24:], model.predict(CLIPS[24:]))
    assert result.history == []
    assert "probability" not in result.predictions


def test_clips_that_cannot_be_read_are_listed_and_not_scored(classifier):
    X, y = [*CLIPS[24:30], "lost.wav", *CLIPS[30:34]], np.insert(NAMES[24:34], 6, "high")
    lenient = ASTWClassifier(encoder=classifier.encoder, epochs=1, on_error="ignore").fit(CLIPS[:24], NAMES[:24])
    result = evaluate(lenient, X, y, groups=np.arange(11))
    assert [(clip.index, clip.path) for clip in result.failed] == [(6, "lost.wav")]
    assert result.n_clips == len(result.predictions) == 10
    assert 6 not in result.predictions["group"].tolist()
    assert result.accuracy == accuracy_score(np.delete(y, 6), np.delete(lenient.predict(X), 6))
    with pytest.raises(ClipError, match=r"lost\.wav"):
        evaluate(classifier, X, y)
    with pytest.raises(ValueError, match=r"None of 1 clips can be read, expected at least one clip.*no such file"):
        evaluate(lenient, ["lost.wav"], ["low"])


def test_failures_of_training_are_not_those_of_the_evaluation(classifier):
    forgetful = ASTWClassifier(encoder=classifier.encoder, epochs=1, on_error="ignore")
    forgetful.fit([*CLIPS[:24], "lost.wav"], [*NAMES[:24], "low"]).set_params(on_error="raise")
    result = evaluate(forgetful, CLIPS[24:30], NAMES[24:30])
    assert (result.failed, result.n_clips) == ([], 6)


@pytest.mark.parametrize(
    ("y_true", "y_pred", "message"),
    [
        ([[0, 1], [1, 0]], [0, 1], "y_true of type 'multilabel-indicator', expected one label a clip"),
        ([0.5, 1.5], [0.5, 1.5], "y_true of type 'continuous'"),
        (["a", "b"], ["a"], "inconsistent numbers of samples"),
        ([], [], "expected at least one clip"),
        (["a", "b"], [1, 2], "Mix of label input types"),
    ],
)
def test_what_cannot_be_scored_is_refused(y_true, y_pred, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(y_true, y_pred)


def test_a_wrong_number_of_labels_or_groups_is_refused_before_the_prediction(classifier, monkeypatch):
    monkeypatch.setattr(ASTWClassifier, "predict_proba", lambda *_: pytest.fail("predicted"))
    with pytest.raises(ValueError, match="Got 3 labels in y for 4 clips"):
        evaluate(classifier, CLIPS[:4], NAMES[:3])
    for groups in ("abc", "abcde"):
        with pytest.raises(ValueError, match=f"Got {len(groups)} groups for 4 clips in X"):
            evaluate(classifier, CLIPS[:4], NAMES[:4], groups=list(groups))


def test_an_interval_without_width_says_that_groups_are_few(tmp_path):
    truth, predicted = np.array(["a", "b", "a", "b"] * 2), np.array(["a", "b", "b", "b"] * 2)
    result = evaluate_predictions(truth, predicted, groups=np.repeat(["ann", "bob"], 4))
    low, high = result.intervals["accuracy"]
    assert low == high == 0.75
    (note,) = result.notes
    assert "interval of accuracy, macro_f1, uar has no width, because there are too few groups" in note
    result.save(tmp_path)
    assert note in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "metrics.json").read_text())["notes"] == [note]

    differing = np.where(np.arange(8) == 7, "a", predicted)
    assert evaluate_predictions(truth, differing, groups=np.repeat(["ann", "bob"], 4)).notes == []
    many = evaluate_predictions(np.tile(truth, 5), np.tile(truth, 5), groups=np.repeat(np.arange(10), 4))
    assert many.notes == []


# ------------------------------------------------------------------ on disk


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    truth, predicted, groups = guesses(labels=("cat", HOSTILE, "dog", "hen"))
    history = [{"epoch": e, "loss": 1 / e, "val_loss": 1.2 / e, "val_macro_f1": 0.5, "seconds": 1.0} for e in (1, 2, 3)]
    result = evaluate_predictions(
        truth, predicted, groups=groups, clips=[f"{HOSTILE}/{i}.wav" for i in range(200)], probabilities=np.ones(200)
    )
    result = replace(result, history=history, best_epoch=2, failed=[FailedClip(7, HOSTILE, "no such file.")])
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    result.save(folder, title=HOSTILE, about={"model": HOSTILE, "data": {"folder": "owls"}})
    return result, folder


def test_everything_is_written(saved):
    result, folder = saved
    names = {"confusion_matrix.png", "learning_curves.png", "group_scores.png"}
    assert {path.name for path in folder.iterdir()} == names | {"metrics.json", "predictions.csv", "report.html"}
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in names)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    about = metrics.pop("about")
    assert about["data"] == {"folder": "owls"}
    assert metrics == json.loads(json.dumps(result.to_dict()))
    assert metrics["uar"] == result.uar
    assert metrics["per_class"][0].keys() == {"label", "precision", "recall", "f1", "support"}
    table = pd.read_csv(folder / "predictions.csv")
    assert table.columns.tolist() == result.predictions.columns.tolist()
    assert (table["label"] == table["predicted"]).mean() == result.accuracy


def test_the_page_loads_and_runs_nothing(saved):
    page = Page((saved[1] / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert len(page.loaded) == 3
    assert all(value.startswith("data:image/png;base64,") for value in page.loaded)
    assert "default-src 'none'" in (saved[1] / "report.html").read_text(encoding="utf-8")
    assert "http" not in re.sub("http-equiv", "", " ".join(page.words))


def test_the_page_tells_what_was_found(saved):
    result, folder = saved
    words = " ".join(Page((folder / "report.html").read_text(encoding="utf-8")).words)
    for score in (result.accuracy, result.macro_f1, result.uar, *result.intervals["uar"]):
        assert f"{score:.3f}" in words
    assert words.count(HOSTILE) > 5
    assert "12 groups" in words
    assert "no such file." in words


def test_the_page_is_as_wide_as_the_screen(saved):
    assert 'name="viewport"' in (saved[1] / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("n_classes", [2, 8, 20, 50, 80])
def test_every_name_and_number_of_a_confusion_matrix_can_be_read(n_classes):
    rng = np.random.default_rng(0)
    labels = np.array([f"species_of_owl_{i}" for i in range(n_classes)])
    truth, predicted = np.repeat(labels, 6), rng.choice(labels, 6 * n_classes)
    ax = _draw_matrix(evaluate_predictions(truth, predicted, n_bootstrap=0)).axes[0]
    ax.figure.draw_without_rendering()
    for names, start in ((ax.get_xticklabels(), "x0"), (ax.get_yticklabels(), "y0")):
        boxes = sorted((name.get_window_extent() for name in names), key=lambda box: getattr(box, start))
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
        assert min(name.get_fontsize() for name in names) >= 6.5
    numbers = [text for text in ax.texts if text.get_text()]
    assert sum(int(text.get_text()) for text in numbers) in (0, len(truth))
    for text in numbers:
        cell = ax.get_window_extent().width / n_classes
        assert text.get_window_extent().width < cell
        assert text.get_fontsize() >= 6.5
    if n_classes <= 50:  # all of it in a column of 58 rem, at 0.9 of its size at least
        assert ax.figure.get_figwidth() < 58 * 16 / 96 / 0.9
        assert len(numbers) == np.count_nonzero(ax.images[0].get_array())


def test_a_picture_is_shown_as_large_as_it_was_drawn(saved):
    text = (saved[1] / "report.html").read_text(encoding="utf-8")
    widths = [int(width) for width in re.findall(r'style="width:(\d+)px', text)]
    heads = [(saved[1] / name).read_bytes()[16:20] for name in ("confusion_matrix.png", "group_scores.png")]
    drawn = [int.from_bytes(head, "big") * 96 / 150 for head in heads]  # 150 pixels an inch, and 96 on the page
    assert widths[:2] == pytest.approx(drawn, abs=1)
    assert widths[2] > 900  # two panels of curves


# ------------------------------------------------------------------ what to know before believing a score


def test_classes_without_clips_are_told(tmp_path):
    truth, predicted = ["a", "a", "b", "b"], ["a", "c", "b", "b"]
    result = evaluate_predictions(truth, predicted, classes=list("abcde"), n_bootstrap=0)
    assert result.untested == ["c", "d", "e"]
    assert str(result).endswith("on 4 clips of 2 of 5 classes")
    (note,) = result.notes
    assert note.startswith("3 of 5 classes have no clip here")
    assert "c, d, e. 1 of them were predicted for clips of other classes; each counts as 0 in macro-F1" in note
    assert result.macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)
    metrics = result.to_dict()
    assert (metrics["untested"], metrics["notes"]) == (["c", "d", "e"], [note])
    result.save(tmp_path)
    words = " ".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).words)
    assert note in words
    assert "2 of 5 classes" in words
    assert "guessing among 5 classes reaches a UAR of 0.200" in words


def test_without_classes_those_that_were_predicted_are_known():
    assert evaluate_predictions(["a", "b"], ["a", "c"]).untested == ["c"]
    assert evaluate_predictions([1, 2], [1, 2]).notes == []


def test_a_classifier_tells_which_of_its_classes_were_not_tested(classifier):
    low = NAMES[24:] != "high"
    result = evaluate(classifier, [CLIPS[24 + i] for i in np.flatnonzero(low)], NAMES[24:][low])
    assert result.untested == ["high"]
    assert evaluate(classifier, CLIPS[24:], NAMES[24:]).untested == []


@pytest.mark.filterwarnings("error")
def test_one_group_has_no_intervals_and_that_is_explained(tmp_path):
    truth, predicted, _ = guesses()
    result = evaluate_predictions(truth, predicted, groups=["anna"] * len(truth))
    (note,) = result.notes
    assert "needs at least two groups, and all clips are of one" in note
    result.save(tmp_path)
    words = " ".join(Page((tmp_path / "report.html").read_text(encoding="utf-8")).words)
    assert note in words
    assert "nan" not in words.split()
    assert json.loads((tmp_path / "metrics.json").read_text())["notes"] == [note]


@pytest.fixture(scope="module")
def fitted(classifier, tmp_path_factory):
    """Return a classifier of 16 clips, validated on 8, and its copy from a folder."""
    clf = ASTWClassifier(encoder=classifier.encoder, epochs=1)
    clf.fit(CLIPS[:16], NAMES[:16], X_val=CLIPS[16:24], y_val=NAMES[16:24])
    folder = clf.save_pretrained(tmp_path_factory.mktemp("fitted"))
    return {"fitted": clf, "loaded": ASTWClassifier.from_pretrained(folder)}


@pytest.mark.parametrize("part", [(0, 24), (0, 16), (16, 24)], ids=["all", "training", "validation"])
@pytest.mark.parametrize("which", ["fitted", "loaded"])
def test_clips_that_trained_the_classifier_are_recognised_in_any_order(fitted, part, which):
    index = np.arange(*part)[::-1]
    result = evaluate(fitted[which], [CLIPS[i] for i in index], NAMES[index])
    assert result.trained_on
    assert result.to_dict()["trained_on"]
    assert "on these very clips" in result.notes[0]
    assert f"on {len(index)} training clips" in str(result)


def test_other_clips_are_not_taken_for_those_of_training(classifier):
    assert not evaluate(classifier, CLIPS[24:], NAMES[24:]).trained_on  # as many
    assert not evaluate(classifier, [*CLIPS[:23], CLIPS[24]], [*NAMES[:23], NAMES[24]]).trained_on
    assert not evaluate(classifier, CLIPS[:5], NAMES[:5]).trained_on  # a part is not told
    assert evaluate(classifier, CLIPS[:24], NAMES[:24]).trained_on


def test_clips_of_training_are_recognised_among_files_that_cannot_be_read(classifier):
    clf = ASTWClassifier(encoder=classifier.encoder, epochs=1, on_error="ignore").fit(CLIPS[:24], NAMES[:24])
    assert evaluate(clf, ["lost.wav", *CLIPS[:24]], ["low", *NAMES[:24]]).trained_on


def test_pictures_of_another_evaluation_do_not_stay(saved, tmp_path):
    saved[0].save(tmp_path)
    assert (tmp_path / "group_scores.png").exists()
    evaluate_predictions(["a", "b"], ["a", "a"]).save(tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"confusion_matrix.png"}


def test_saving_opens_no_windows(saved, tmp_path):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    saved[0].save(tmp_path)
    assert plt.get_fignums() == before


def test_an_evaluation_reads_well_in_a_shell():
    result = evaluate_predictions(["a", "b", "b"], ["a", "b", "a"], n_bootstrap=0)
    assert isinstance(result, Evaluation)
    assert str(result) == "accuracy 0.667, macro_f1 0.667, uar 0.750 on 3 clips"


def test_labels_that_a_classifier_does_not_know_are_told():
    model = make_pipeline(ASTWFeaturizer(output="statistics"), SVC()).fit(CLIPS[:24], NAMES[:24])
    with pytest.raises(ValueError, match=r"Got clips of \['cat', 'cow', 'dog'\], which the classifier does not know"):
        evaluate(model, CLIPS[24:], np.array(["cat", "cow", "dog"])[Y[24:]])
    some = np.where(np.arange(24) == 0, "cat", NAMES[24:])
    with pytest.warns(UserWarning, match=r"Got clips of \['cat'\].* can only be wrong"):
        result = evaluate(model, CLIPS[24:], some)
    assert result.per_class.loc["cat", "recall"] == 0
