"""Comparisons: known cases of the statistics, the same splits for all models, and results that survive a stop."""

import json
from itertools import pairwise
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupShuffleSplit, PredefinedSplit, StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from helpers import HOSTILE, Page
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.analysis.comparison import make_splits, with_params
from skastw.analysis.ranking import rank_models
from skastw.analysis.significance import bootstrap_p, corrected_t_test, exact_mcnemar, holm
from skastw.errors import DataError
from skastw.estimators.baselines import baseline_names, make_baseline
from skastw.evaluation import compare, evaluate_predictions, total_scores
from skastw.evaluation.compare import named_models
from skastw.evaluation.comparison_page import FILES
from skastw.network.model import count_parameters
from skastw.recipes import recipe_text

RNG = np.random.default_rng(0)
Y = np.repeat(["cat", "dog", "owl"], 20)
X = RNG.normal(size=(60, 4)) + 0.6 * np.repeat(np.arange(3), 20)[:, None]
GROUPS = np.array([f"voice {i}" for i in np.arange(60) % 6])


class Noted(ClassifierMixin, BaseEstimator):
    """A classifier that notes its fits, and raises an error or predicts None if it is told to."""

    fits = ()

    def __init__(self, answer="cat", fails_from=None, verbose=0):
        self.answer, self.fails_from, self.verbose = answer, fails_from, verbose

    def fit(self, X, y, groups=None):
        if self.fails_from is not None and len(Noted.fits) >= self.fails_from:
            raise RuntimeError("out of <b>memory</b>")
        Noted.fits = (*Noted.fits, (X, y, groups))
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.answer, dtype=object)


@pytest.fixture(autouse=True)
def no_fits():
    Noted.fits = ()


def quick(models, X=X, y=Y, groups=GROUPS, cv=3, **options):
    return compare(models, X, y, groups, cv, **{"n_bootstrap": 200, **options})


# ------------------------------------------------------------------ statistics


def test_the_corrected_t_test_has_the_value_of_its_formula():
    t, p = corrected_t_test([0.1, 0.2, 0.3], ratio=0.25)
    expected = 0.2 / np.sqrt((1 / 3 + 0.25) * 0.01)
    assert t == pytest.approx(expected)
    assert p == pytest.approx(2 * stats.t.sf(expected, 2))
    values = RNG.normal(size=8)
    assert corrected_t_test(values, ratio=0) == pytest.approx(tuple(stats.ttest_1samp(values, 0)))


@pytest.mark.parametrize(
    ("values", "expected"), [([0.0, 0.0], (0.0, 1.0)), ([0.1, 0.1], (np.nan, np.nan)), ([0.3], (np.nan, np.nan))]
)
def test_the_corrected_t_test_of_constant_or_single_differences(values, expected):
    assert corrected_t_test(values, ratio=0.25) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_mcnemar_is_a_binomial_test_of_the_clips_that_one_model_recognises(seed):
    first, second = np.random.default_rng(seed).random((2, 40)) < 0.6
    counts = int((first & ~second).sum()), int((second & ~first).sum())
    assert exact_mcnemar(first, second) == pytest.approx(stats.binomtest(counts[0], sum(counts)).pvalue)
    assert exact_mcnemar(first, first) == 1.0


def test_holm_multiplies_the_smallest_by_the_number_of_comparisons():
    np.testing.assert_allclose(holm([0.01, 0.04, np.nan, 0.03, 0.5]), [0.04, 0.09, np.nan, 0.09, 0.5])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])


def test_the_bootstrap_counts_the_rarer_sign():
    assert bootstrap_p(np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert bootstrap_p(np.zeros(99)) == 1.0
    assert np.isnan(bootstrap_p(np.empty(0)))


def test_equal_models_do_not_differ():
    for cv in (3, (np.arange(40), np.arange(40, 60))):
        result = quick({"one": SVC(), "two": SVC()}, groups=None, cv=cv)
        (row,) = result.tests.to_dict("records")
        assert (row["difference"], row["low"], row["high"]) == (0, 0, 0)
        p_values = [row[name] for name in result.tests if name.startswith("p_")]
        assert {p for p in p_values if not np.isnan(p)} == {1.0}
        assert np.isnan(row["p_mcnemar"]) == (cv == 3)


def test_scores_and_differences_are_those_of_the_predictions():
    result = quick({"svm": SVC(), "guess": DummyClassifier()}, n_bootstrap=500)
    sides = {}
    for name, rows in result.predictions.groupby("model"):
        rows = rows.set_index("position").sort_index()
        assert rows.index.tolist() == list(range(60))
        assert (rows["label"] == Y).all()
        assert (rows["group"] == GROUPS).all()
        sides[name] = rows["predicted"].to_numpy()
        for score, value in total_scores(Y, sides[name]).items():
            assert result.table.at[name, score] == pytest.approx(value)
        alone = evaluate_predictions(Y, sides[name], groups=GROUPS, n_bootstrap=500, random_state=1)
        low, high = alone.intervals["uar"]
        assert result.table.loc[name, ["uar_low", "uar_high"]].tolist() == pytest.approx([low, high], abs=0.05)

    # the paired bootstrap, one resample of whole groups at a time
    rng, gaps = np.random.default_rng(3), []
    names = np.unique(GROUPS)
    for _ in range(200):
        drawn = np.concatenate([np.flatnonzero(name == GROUPS) for name in rng.choice(names, len(names))])
        gaps.append(
            total_scores(Y[drawn], sides["guess"][drawn])["uar"] - total_scores(Y[drawn], sides["svm"][drawn])["uar"]
        )
    (row,) = result.tests.to_dict("records")
    assert row["difference"] == pytest.approx(result.table.at["guess", "uar"] - result.table.at["svm", "uar"])
    assert [row["low"], row["high"]] == pytest.approx(np.percentile(gaps, [2.5, 97.5]).tolist(), abs=0.05)

    by_split = result.folds.pivot_table(index="split", columns="model", values="uar")
    ratio = (result.folds["n_test"] / result.folds["n_train"]).mean()
    t, p = corrected_t_test(by_split["guess"] - by_split["svm"], ratio)
    assert (row["t"], row["p_t_test"]) == pytest.approx((t, p))
    assert result.table.at["svm", "uar_fold_mean"] == pytest.approx(by_split["svm"].mean())
    assert result.table.at["svm", "uar_fold_std"] == pytest.approx(by_split["svm"].std())


def test_the_reference_and_the_score_can_be_chosen():
    models = {"guess": DummyClassifier(), "svm": SVC(), "tree": DecisionTreeClassifier(max_depth=1)}
    result = quick(models, reference="guess", score="accuracy")
    assert result.tests.index.tolist() == [name for name in result.table.index if name != "guess"]
    assert (result.tests["difference"] >= 0).all()
    assert (result.tests["p_t_test_holm"] >= result.tests["p_t_test"]).all()
    assert "optimistic" not in str(result.notes)
    assert "optimistic" in str(quick(models).notes)
    with pytest.raises(ValueError, match=r"Got reference='gues', expected one of .* did you mean 'guess'"):
        quick(models, reference="gues")
    with pytest.raises(ValueError, match="Got score='uars', expected one of 'accuracy', 'macro_f1', 'uar'"):
        quick(models, score="uars")


# ------------------------------------------------------------------ splits


def test_all_models_get_the_same_splits_of_whole_groups():
    result = quick({"one": SVC(), "two": DummyClassifier(), "noted": Noted()}, cv=None)
    tests = [rows["position"].to_numpy() for _, rows in result.predictions.groupby(["split", "model"])]
    assert len(tests) == 15
    for three in np.array(tests, dtype=object).reshape(5, 3):
        assert all((a == b).all() for a, b in pairwise(three))
    for _, y, groups in Noted.fits:
        assert len(np.unique(y)) == 3
        assert len(np.unique(groups)) in (4, 5)  # of six
    splits = make_splits(Y, GROUPS)
    assert sorted(np.concatenate([test for _, test in splits.values()])) == list(range(60))
    for train, test in splits.values():
        assert not set(GROUPS[train]) & set(GROUPS[test])


@pytest.mark.parametrize(
    ("cv", "n_splits"),
    [
        (2, 2),
        (PredefinedSplit(np.arange(60) % 6 // 2), 3),
        (GroupShuffleSplit(4, random_state=0), 4),
        ([(np.arange(0, 60, 6), np.arange(1, 60, 6))] * 2, 2),
        ({"first": ([0, 6], [1, 7]), "second": ([0, 6], [2, 8])}, 2),
        ((np.arange(60) % 6 < 3, np.arange(60) % 6 >= 3), 1),
        (([0, 6, 12], [1, 7]), 1),
    ],
)
def test_any_way_to_split_works(cv, n_splits):
    splits = make_splits(Y, GROUPS, cv)
    assert list(splits) == (["first", "second"] if isinstance(cv, dict) else [str(i + 1) for i in range(n_splits)])
    for train, test in splits.values():
        assert not set(GROUPS[train]) & set(GROUPS[test])


@pytest.mark.parametrize(
    ("groups", "cv", "message"),
    [
        (GROUPS, ([0, 1], [6, 7]), "has 2 groups on both sides \\('voice 0', 'voice 1'\\), expected none"),
        (None, ([0, 1], [1, 2]), "has 1 clips on both sides \\(1\\)"),
        (None, ([0, 1], []), "has 2 clips for training and 0 for testing"),
        (None, [], "Got cv without a split"),
    ],
)
def test_splits_that_cannot_be_used_are_errors(groups, cv, message):
    with pytest.raises(ValueError, match=message):
        make_splits(Y, groups, cv)


# ------------------------------------------------------------------ groups and seeds


class Recording(StratifiedGroupKFold):
    """A splitter that notes the groups of each call."""

    seen = ()

    def split(self, X, y=None, groups=None):
        Recording.seen = (*Recording.seen, groups)
        return super().split(X, y, groups)


def test_groups_reach_fit_and_the_inner_splits_of_a_search():
    search = GridSearchCV(SVC(), {"C": [1, 10]}, cv=Recording(2))
    quick({"noted": Noted(), "search": search, "piped": make_pipeline(StandardScaler(), SVC())})
    for (_, y, groups), inner in zip(Noted.fits, Recording.seen, strict=True):
        np.testing.assert_array_equal(groups, inner)
        assert len(y) == len(groups)
    Noted.fits = ()
    quick({"noted": Noted()}, groups=None)
    assert all(groups is None for _, _, groups in Noted.fits)


def test_a_search_that_ignores_groups_is_named():
    models = {"mixing": make_pipeline(GridSearchCV(SVC(), {"C": [1, 10]}, cv=2))}
    with pytest.warns(UserWarning, match="The inner splits of 'mixing' ignore groups"):
        quick(models)
    quick(models, groups=None)


def test_seeds_are_set_in_models_that_have_them(recwarn):
    models = {"tree": DecisionTreeClassifier(max_features=1), "near": KNeighborsClassifier()}
    result = quick(models, seeds=3)
    assert result.folds.groupby("model")["seed"].unique().map(list).to_dict() == {"tree": [0, 1, 2], "near": [0]}
    pooled = result.predictions[result.predictions["model"] == "tree"].groupby("seed")
    uar = [total_scores(rows["label"].to_numpy(), rows["predicted"].to_numpy())["uar"] for _, rows in pooled]
    assert len(set(uar)) > 1
    assert result.table.at["tree", "uar"] == pytest.approx(np.mean(uar))
    assert result.table.at["tree", "uar_seed_std"] == pytest.approx(np.std(uar, ddof=1))
    assert np.isnan(result.table.at["near", "uar_seed_std"])
    assert quick(models, seeds=[4, 2]).folds["seed"].unique().tolist() == [4, 2]
    for seeds in (0, [], [1, 1], [-1], ["a"]):
        with pytest.raises(ValueError, match="Got seeds="):
            quick(models, seeds=seeds)


def test_parameters_are_set_at_any_depth():
    model = make_pipeline(StandardScaler(), GridSearchCV(DecisionTreeClassifier(), {"max_depth": [1]}))
    changed = with_params(model, random_state=7, device="cpu")
    assert changed.get_params()["gridsearchcv__estimator__random_state"] == 7
    assert model.get_params()["gridsearchcv__estimator__random_state"] is None


# ------------------------------------------------------------------ stops, failures, parallel jobs


def without_times(table):
    return table.drop(columns=["fit_seconds", "predict_seconds", "latency"])


def test_a_comparison_that_was_stopped_goes_on(tmp_path):
    models = {"tree": DecisionTreeClassifier(max_features=1), "noted": Noted(answer="dog")}
    with pytest.raises(RuntimeError, match="out of") as stopped:
        quick({**models, "noted": Noted(answer="dog", fails_from=2)}, folder=tmp_path, seeds=2)
    assert "the model 'noted' with seed 0 in split '3'" in stopped.value.__notes__[0]
    assert len(list((tmp_path / "folds").iterdir())) == 8

    quick(models, folder=tmp_path, seeds=2)
    first = len(Noted.fits)  # the parameters of the model that failed are others
    resumed = quick(models, folder=tmp_path, seeds=2)
    assert len(Noted.fits) == first == 5
    whole = quick(models, seeds=2)
    pd.testing.assert_frame_equal(resumed.predictions, whole.predictions)
    pd.testing.assert_frame_equal(without_times(resumed.folds), without_times(whole.folds))
    pd.testing.assert_frame_equal(resumed.tests, whole.tests)


@pytest.mark.parametrize(
    ("changes", "n_fits"),
    [
        ({}, 0),
        ({"models": {"renamed": Noted(verbose=1)}}, 0),  # neither changes a prediction
        ({"models": {"noted": Noted(answer="dog")}}, 3),
        ({"y": np.where(np.arange(60) < 1, "owl", Y)}, 3),
        ({"groups": np.char.add(GROUPS, "!")}, 3),
        ({"X": X + 1}, 3),
        ({"cv": 2}, 2),
        ({"random_state": 3}, 3),
    ],
)
def test_a_fold_is_run_again_if_something_changes_that_it_depends_on(changes, n_fits, tmp_path):
    call = {"models": {"noted": Noted()}, "folder": tmp_path}
    quick(**call)
    Noted.fits = ()
    quick(**(call | changes))
    assert len(Noted.fits) == n_fits


@pytest.mark.parametrize("damage", ["{", "{}", None])
def test_damaged_records_are_run_again(damage, tmp_path):
    first = quick({"noted": Noted()}, folder=tmp_path)
    for record in (tmp_path / "folds").iterdir():
        values = json.loads(record.read_text())
        record.write_text(json.dumps({**values, "predicted": ["cat"]}) if damage is None else damage)
    assert quick({"noted": Noted()}, folder=tmp_path).table["uar"].tolist() == first.table["uar"].tolist()
    assert len(Noted.fits) == 6


def test_a_parameter_without_a_name_cannot_be_recognised(tmp_path):
    search = GridSearchCV(SVC(), {"C": [1]}, scoring=lambda *_: 0.0, cv=2)
    quick({"search": search}, groups=None)
    with pytest.raises(ValueError, match="expected a value that can be recognised in another process"):
        quick({"search": search}, groups=None, folder=tmp_path)


def test_parallel_folds_give_the_same_result():
    models = {"tree": DecisionTreeClassifier(max_features=1), "svm": SVC()}
    with joblib.parallel_config("threading"):
        parallel = quick(models, seeds=2, n_jobs=2)
    serial = quick(models, seeds=2)
    pd.testing.assert_frame_equal(parallel.predictions, serial.predictions)
    pd.testing.assert_frame_equal(without_times(parallel.table), without_times(serial.table))


def test_a_model_that_fails_does_not_stop_the_others():
    with pytest.warns(UserWarning, match="1 of 6 folds failed .*'noted' with seed 0 in split '3': Run"):
        result = quick({"noted": Noted(fails_from=2), "svm": SVC()}, on_error="warn")
    assert result.failures.to_dict("records") == [
        {"model": "noted", "seed": 0, "split": "3", "error": "RuntimeError: out of <b>memory</b>"}
    ]
    assert result.table["n_failed"].to_dict() == {"svm": 0, "noted": 1}
    assert result.table.at["svm", "uar"] > 0.4
    assert np.isnan(result.table.at["noted", "uar"])
    assert result.tests.empty
    assert "noted" in result.notes[0]
    assert repr(result).splitlines()[-1].startswith("noted")
    with pytest.raises(ValueError, match="Got reference='noted', expected one of 'svm'"):
        rank_models(result.folds, result.predictions, reference="noted")


def test_a_missing_prediction_is_a_failure():
    with pytest.raises(DataError, match="the predictions has 20 missing values of 20"):
        quick({"noted": Noted(answer=None)})
    with pytest.raises(DataError, match="No model has"), pytest.warns(match="3 of 3 folds"):
        quick({"noted": Noted(answer=None)}, on_error="warn")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, "Got no models"),
        ({"models": {"cls": 3}}, "Got the model 'cls': 3, expected a name and an object with fit, predict"),
        ({"on_error": "ignore"}, "Got on_error='ignore', expected one of 'raise', 'warn'"),
        ({"X": X[:59]}, "Got 60 labels in y for 59 clips in X"),
        ({"groups": GROUPS[:59]}, "Got 59 groups for 60 labels in y"),
        ({"y": RNG.normal(size=60)}, "expected one label a clip"),
        ({"models": ["smal"]}, "Got model='smal', expected one of .* did you mean 'small'"),
        ({"models": ["tiny", "tiny"]}, "Got two models with the name 'tiny'"),
        ({"models": [SVC()]}, "Got the model SVC\\(\\) without a name"),
    ],
)
def test_arguments_that_are_not_valid_are_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        quick(**({"models": {"svm": SVC()}} | changes))


# ------------------------------------------------------------------ models


def test_recipes_stand_for_models(tmp_path):
    (tmp_path / "mine.yaml").write_text(recipe_text("tiny"))
    named = named_models(["small", tmp_path / "mine.yaml"])
    assert list(named) == ["small", "mine"]
    assert named["mine"].get_params().keys() == ASTWClassifier.from_recipe("tiny").get_params().keys()
    assert list(named_models("tiny")) == ["tiny"]
    models = {"a": "tiny", "b": SVC(), "c": "statistics-svm"}
    assert isinstance(named_models(models)["a"], ASTWClassifier)
    assert named_models(models)["b"] is models["b"]
    assert named_models(models)["c"]["featurizer"].output == "statistics"
    assert list(named_models(baseline_names())) == baseline_names()


def test_a_cache_does_not_hide_the_latency(tone_clips, tmp_path, monkeypatch):
    clips, y = tone_clips
    settings = []
    transform = ASTWFeaturizer.transform
    monkeypatch.setattr(
        ASTWFeaturizer, "transform", lambda self, X: settings.append((len(X), self.cache_dir)) or transform(self, X)
    )
    baseline = with_params(make_baseline("statistics-svm"), cache_dir=str(tmp_path))
    compare({"baseline": baseline}, clips, y, cv=2, n_bootstrap=0)
    assert {cache for n, cache in settings if n == 1} == {None}
    assert {cache for n, cache in settings if n > 1} == {str(tmp_path)}


def test_a_network_is_compared_with_its_costs(tone_clips, fitted_classifier, tmp_path):
    clips, y = tone_clips
    network = clone(fitted_classifier).set_params(epochs=1)
    voices = np.arange(24) // 3 % 4
    result = compare({"network": network, "guess": DummyClassifier()}, clips, y, voices, 2, n_bootstrap=0)
    weights = Path(fitted_classifier.save_pretrained(tmp_path / "model")) / "model.safetensors"
    assert result.table.at["network", "n_parameters"] == count_parameters(fitted_classifier.model_)
    assert result.table.at["network", "n_bytes"] > weights.stat().st_size > 1000
    assert (result.table[["fit_seconds", "predict_seconds", "latency", "n_bytes"]] > 0).all(axis=None)
    assert np.isnan(result.table.at["guess", "n_parameters"])
    assert np.isnan(result.table["uar_low"]).all()


def test_the_weights_of_classical_models_are_counted():
    models = {
        "linear": LogisticRegression(),
        "machine": make_pipeline(StandardScaler(), SVC()),
        "search": GridSearchCV(LogisticRegression(), {"C": [1]}, cv=StratifiedGroupKFold(2)),
    }
    counts = quick(models).folds.groupby("model")["n_parameters"].unique()
    assert counts["linear"].tolist() == counts["search"].tolist() == [3 * 4 + 3]
    train, _ = make_splits(Y, GROUPS, 3)["1"]
    machine = models["machine"].fit(X[train], Y[train])[-1]
    assert machine.support_vectors_.size + machine.dual_coef_.size + machine.intercept_.size in counts["machine"]


# ------------------------------------------------------------------ the page


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    names = np.where(Y == "dog", HOSTILE, Y)
    models = {HOSTILE: SVC(), "guess": DummyClassifier(), "noted": Noted(fails_from=0)}
    with pytest.warns(UserWarning, match="3 of 9 folds failed"):
        result = quick(models, y=names, groups=np.where(GROUPS == "voice 1", HOSTILE, GROUPS), on_error="warn")
    folder = tmp_path_factory.mktemp("comparison") / "new" / "folder"
    result.save(folder, title=HOSTILE, about={"data": HOSTILE})
    return result, folder


def test_a_comparison_is_written(saved):
    result, folder = saved
    assert {path.name for path in folder.iterdir()} == set(FILES)
    written = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert written.pop("about") == {"data": HOSTILE}
    assert written == json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["models"][0]["model"] == HOSTILE
    assert written["models"][-1]["uar"] is None
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == len(result.predictions) == 120
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in FILES if name.endswith(".png"))


def test_the_page_loads_nothing_and_escapes_everything(saved):
    result, folder = saved
    text = (folder / "comparison.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert all(address.startswith("data:image/png;base64,") for address in page.loaded)
    assert len(page.loaded) == 3
    words = " ".join(" ".join(page.words).split())
    assert words.count(" ".join(HOSTILE.split())) >= 4  # title, model, class, about
    assert f"{result.table['uar'].iloc[0]:.3f}" in words
    assert "RuntimeError: out of <b>memory</b>" in words
    assert "&lt;script&gt;" in result._repr_html_()
    assert "<script>" not in result._repr_html_()


def test_pictures_of_another_comparison_do_not_stay(saved, tmp_path):
    result, _ = saved
    result.save(tmp_path)
    result.table["n_bytes"] = np.nan
    result.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES) - {"pareto_n_bytes.png"}


def test_one_split_has_a_page_too(tmp_path):
    one = (np.arange(60) % 6 < 4, np.arange(60) % 6 >= 4)
    result = quick({"svm": SVC(), "guess": DummyClassifier()}, cv=one)
    result.save(tmp_path)
    words = " ".join(Page((tmp_path / "comparison.html").read_text(encoding="utf-8")).words)
    assert "p, McNemar" in words
    assert "p, t-test" not in words
    assert "only 2 groups" in words
    assert result.tests["p_mcnemar"].notna().all()
