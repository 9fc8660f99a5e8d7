"""The selection of a model within a budget of time."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier

from skastw import ASTWAutoClassifier, ASTWClassifier
from skastw.analysis import selection
from skastw.analysis.comparison import make_splits
from skastw.analysis.selection import Candidate, Mixture, Selection, select
from skastw.datasets import make_tones
from skastw.errors import DataError, RecipeError
from skastw.estimators import auto as auto_module
from skastw.network.trained import SelectionRow

CLIPS, Y = make_tones(n_clips=36, n_classes=3, duration=(0.1, 0.3), random_state=0)
GROUPS = np.arange(36) // 3
NET = """
description: a small network
params:
  encoder: {rnn: {hidden: 8}}
  epochs: 2
  val_split: null
  keep: last
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "net.yaml"
    path.write_text(NET, encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def auto(recipe):
    return ASTWAutoClassifier(candidates=["statistics", recipe], device="cpu").fit(CLIPS, Y, groups=GROUPS)


class Told(ClassifierMixin, BaseEstimator):
    """A model whose certainty of the true class, which is X, is told; a fit takes ``seconds`` of a false clock."""

    def __init__(self, right=0.9, seconds=1.0, classes=(0, 1)):
        self.right, self.seconds, self.classes = right, seconds, classes

    def fit(self, X, y):
        CLOCK[0] += self.seconds
        self.classes_ = np.array(self.classes)
        return self

    def predict_proba(self, X):
        wrong = (1 - self.right) / (len(self.classes_) - 1)
        return np.where(np.asarray(X)[:, :1] == self.classes_, self.right, wrong)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


CLOCK = [0.0]
X, LABELS = np.tile([[0], [1]], (10, 1)), np.tile([0, 1], 10)
SPLITS = make_splits(LABELS, cv=2)


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    CLOCK[0] = 0.0
    monkeypatch.setattr(selection.time, "perf_counter", lambda: CLOCK[0])


def told(**models):
    return [Candidate(name, Told(*settings), cost) for name, (cost, *settings) in models.items()]


# ------------------------------------------------------------------ the selection


def test_the_best_score_wins_and_of_equal_scores_the_lower_log_loss():
    found = select(told(bad=(1, 0.1), sure=(1, 0.99), unsure=(1, 0.6)), X, LABELS, splits=SPLITS)
    assert str(found.best) == "sure"
    assert [row.model for row in found.rows] == ["sure", "unsure", "bad"]
    assert [row.selected for row in found.rows] == [True, False, False]
    assert found.rows[0].log_loss == pytest.approx(-np.log(0.99))
    assert (found.rows[0].uar, found.rows[2].uar) == (1.0, 0.0)


def test_a_mixture_averages_log_probabilities():
    candidates = told(one=(1, 0.8), two=(1, 0.4))
    found = select(candidates, X, LABELS, splits=SPLITS, mixed=[("one", "two")])
    rows = {row.model: row for row in found.rows}
    right = 0.8**0.5 * 0.4**0.5
    wrong = 0.2**0.5 * 0.6**0.5
    assert rows["one + two (share 0.5)"].log_loss == pytest.approx(-np.log(right / (right + wrong)))
    assert rows["one + two (share 0.5)"].seconds == 4.0
    assert len(rows) == 4


class Often(Told):
    """A model that is right for ``right`` of the clips, the first ones or the last ones; X numbers the clips."""

    def predict_proba(self, X):
        numbers, n_right = np.asarray(X)[:, 0], int(abs(self.right) * len(LABELS))
        is_right = numbers < n_right if self.right > 0 else numbers >= len(LABELS) - n_right
        labels = np.where(is_right, LABELS[numbers], 1 - LABELS[numbers])
        return np.where(labels[:, None] == self.classes_, 0.9, 0.1)


@pytest.mark.parametrize(
    ("one", "two", "selected"),
    [
        (0.9, 0.9, ("one", "two")),
        (0.9, 0.5, ("one", "two")),  # the mixture of 3 to 1 is as good
        (0.5, 0.6, ("one", "two")),  # behind by less than a standard error of 0.11
        (0.2, 1.0, ("two",)),
    ],
)
def test_a_mixture_is_selected_unless_a_single_model_is_clearly_better(one, two, selected):
    candidates = [Candidate("one", Often(one)), Candidate("two", Often(two))]
    numbers = np.arange(len(LABELS))[:, None]
    found = select(candidates, numbers, LABELS, splits=SPLITS, mixed=[("one", "two")])
    assert found.best.names == selected
    assert [row.model for row in found.rows if row.selected] == [str(found.best)]
    scores = [row.uar for row in found.rows]
    assert scores == sorted(scores, reverse=True)


def test_candidates_that_exceed_the_budget_are_left_out():
    # two folds of half of the clips and a last fit of all: four times the seconds of a fold
    candidates = told(first=(1, 0.6, 10.0), slow=(5, 0.9, 50.0), liar=(1, 0.95, 100.0), quick=(1, 0.8, 5.0))
    found = select(candidates, X, LABELS, splits=SPLITS, budget=200.0)
    assert str(found.best) == "quick"
    status = {row.model: (row.status, row.seconds) for row in found.rows}
    assert status["slow"] == ("left out: it would exceed the budget of 200 s", 0.0)  # by its cost, before any fold
    assert status["liar"] == ("left out: it would exceed the budget of 200 s", 100.0)  # after its first fold
    assert [name for name, (words, _) in status.items() if words == "complete"] == ["quick", "first"]


def test_the_first_candidate_is_never_left_out():
    found = select(told(only=(1, 0.6, 1000.0)), X, LABELS, splits=SPLITS, budget=1.0)
    assert (str(found.best), found.rows[0].status) == ("only", "complete")


def test_a_class_that_a_split_lacks_counts_as_improbable():
    labels = np.array([0] * 10 + [1] * 9 + [2])
    splits = {"1": (np.arange(19), np.array([19])), "2": (np.arange(10, 20), np.arange(10))}
    found = select([Candidate("guess", DummyClassifier())], np.zeros((20, 1)), labels, splits=splits)
    assert np.isfinite(found.rows[0].log_loss)
    assert found.rows[0].log_loss > 1


def test_a_mixture_in_words():
    assert [str(Mixture(("a",))), str(Mixture(("a", "b"), 0.25))] == ["a", "a + b (share 0.25)"]


# ------------------------------------------------------------------ the estimator


def test_the_table_has_all_candidates_and_mixtures(auto):
    assert len(auto.table_) == 2 + 2
    assert auto.table_["selected"].sum() == 1
    assert auto.table_["uar"].is_monotonic_decreasing
    assert (auto.table_["status"] == "complete").all()


def test_the_selected_model_is_saved_with_the_table(auto, tmp_path):
    folder = Path(auto.save_pretrained(tmp_path / "model"))
    loaded = ASTWClassifier.from_pretrained(folder)
    np.testing.assert_array_equal(loaded.predict_proba(CLIPS), auto.predict_proba(CLIPS))
    rows = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["selection"]
    assert [row["model"] for row in rows] == auto.table_["model"].tolist()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "selected" in card
    assert all(name in card for name in auto.table_["model"])


def test_the_selected_model_equals_one_with_its_parameters(auto):
    model = ASTWClassifier(**auto.best_params_).fit(CLIPS, Y, groups=GROUPS)
    np.testing.assert_array_equal(model.predict_proba(CLIPS), auto.predict_proba(CLIPS))
    np.testing.assert_array_equal(auto.classes_, [0, 1, 2])
    assert auto.score(CLIPS, Y) == model.score(CLIPS, Y)


def test_a_mixture_is_one_model_with_a_side_vector(recipe, monkeypatch):
    rows = [SelectionRow(model="net + statistics", seconds=1.0, selected=True)]
    chosen = Selection(Mixture((recipe, "statistics"), 0.3), rows)
    asked = {}
    monkeypatch.setattr(auto_module, "select", lambda *args, **options: asked.update(options) or chosen)
    auto = ASTWAutoClassifier(candidates=["statistics", recipe], device="cpu", cv=2).fit(CLIPS, Y)
    assert asked["mixed"] == [(recipe, "statistics")]
    best = auto.best_estimator_
    assert (best.side.name, best.side_share, best.C, best.encoder.hidden) == ("statistics", 0.3, 5.0, 8)
    assert float(best.model_.side.share) == pytest.approx(0.3)


def test_the_parameters_are_cloned_and_checked():
    auto = ASTWAutoClassifier(budget=60, candidates=["statistics"], cv=4, scoring="accuracy", random_state=3)
    assert clone(auto).get_params() == auto.get_params()
    for changes, match in (({"budget": -1}, "budget"), ({"cv": 1}, "cv"), ({"scoring": "auc"}, "scoring")):
        with pytest.raises(ValueError, match=match):
            clone(auto).set_params(**changes).fit(CLIPS, Y)
    with pytest.raises(RecipeError, match="tinny"):
        ASTWAutoClassifier(candidates=["tinny"]).fit(CLIPS, Y)


def test_several_labels_for_a_clip_are_refused():
    indicator = np.stack([Y == 0, Y >= 1], axis=1).astype(int)
    with pytest.raises(DataError, match="expected one label for each clip"):
        ASTWAutoClassifier(candidates=["statistics"]).fit(CLIPS, indicator)


def test_clips_of_a_high_rate_may_get_a_recipe_of_their_own():
    high = [(clip, 44100) for clip in CLIPS]
    assert "environmental" in ASTWAutoClassifier()._names(high)
    assert "environmental" not in ASTWAutoClassifier()._names(CLIPS)
