"""Every form of X in every tool of scikit-learn that an audio estimator meets, on real recordings."""

import datasets
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
    permutation_test_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.audio import load_waveform
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder

DIGITS = load_spoken_digits()
CHOSEN = np.isin(DIGITS.target, ["one", "six"]) & np.isin(DIGITS.groups, np.unique(DIGITS.groups)[:6])
PATHS = [str(path) for path in np.array(DIGITS.data)[CHOSEN]]
WAVEFORMS = [load_waveform(path, 16000) for path in PATHS]
Y, VOICES = DIGITS.target[CHOSEN], DIGITS.groups[CHOSEN]
FOLDS = StratifiedGroupKFold(2)


def audio_table():
    """Return rows as Hugging Face ``datasets`` holds them: a path, and bytes where it has them."""
    audio = datasets.Audio(decode=False)
    return datasets.Dataset.from_dict({"audio": PATHS, "label": Y}).cast_column("audio", audio)


def of_one_length():
    array = np.zeros((len(WAVEFORMS), 8000), dtype=np.float32)
    for row, waveform in zip(array, WAVEFORMS, strict=True):
        row[: len(waveform)] = waveform[:8000]
    return array


def column_of(items, shape):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


FORMS = {
    "list of paths": lambda: PATHS,
    "list of arrays": lambda: WAVEFORMS,
    "list of tuples": lambda: [(waveform, 16000) for waveform in WAVEFORMS],
    "list of dicts": lambda: [{"array": waveform, "sampling_rate": 16000} for waveform in WAVEFORMS],
    "Series": lambda: pd.Series(PATHS),
    "DataFrame": lambda: pd.DataFrame({"audio": PATHS}),
    "(n,) objects": lambda: column_of(WAVEFORMS, -1),
    "(n, 1) objects": lambda: column_of(PATHS, (-1, 1)),
    "2-D array": of_one_length,
    "datasets column": lambda: audio_table()["audio"],
    "datasets rows": lambda: list(audio_table()["audio"]),
}
#: Forms that hold the very same audio.
SAME = [form for form in FORMS if form != "2-D array"]


def network(**params):
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    return ASTWClassifier(**{"encoder": encoder, "epochs": 1, "val_split": None, **params})


def statistics():
    return make_pipeline(ASTWFeaturizer(output="statistics"), StandardScaler())


def check(model, X):
    """Fit and predict; return the predictions."""
    predicted = model.fit(X, Y).predict(X)
    assert set(predicted) <= {"one", "six"}
    assert predicted.shape == Y.shape
    if hasattr(model, "predict_proba"):
        proba = model.predict_proba(X)
        assert proba.shape == (len(Y), 2)
        np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    return predicted


def check_search(search, X):
    search.fit(X, Y, groups=VOICES)
    assert np.isfinite(search.best_score_)
    assert search.predict(X).shape == Y.shape


def grid(X):
    check_search(GridSearchCV(network(), {"encoder__d_model": [8, 16]}, cv=FOLDS), X)


def randomized(X):
    check_search(RandomizedSearchCV(network(), {"muon_lr": [0.01, 0.02]}, n_iter=2, cv=FOLDS, random_state=0), X)


def halving(X):
    search = HalvingRandomSearchCV(
        network(), {"muon_lr": [0.01, 0.02]}, resource="epochs", max_resources=2, factor=2, cv=FOLDS, random_state=0
    )
    check_search(search, X)
    assert search.best_estimator_.epochs == search.best_params_["epochs"]


def validate(X):
    result = cross_validate(network(), X, Y, groups=VOICES, cv=FOLDS, error_score="raise")
    assert np.isfinite(result["test_score"]).all()


def val_predict(X):
    assert cross_val_predict(network(), X, Y, groups=VOICES, cv=FOLDS, method="predict_proba").shape == (len(Y), 2)


def curve(X):
    sizes, _, scores = learning_curve(network(), X, Y, groups=VOICES, cv=FOLDS, train_sizes=[0.7, 1.0], shuffle=True)
    assert scores.shape == (len(sizes), 2)
    assert np.isfinite(scores).all()


def permutations(X):
    score, permuted, _ = permutation_test_score(network(), X, Y, groups=VOICES, cv=FOLDS, n_permutations=2)
    assert np.isfinite([score, *permuted]).all()


def frozen(X):
    fitted = network().fit(X, Y)
    model = CalibratedClassifierCV(FrozenEstimator(fitted), method="sigmoid").fit(X, Y)
    assert np.isfinite(model.predict_proba(X)).all()


def pandas_output(X):
    table = network().set_output(transform="pandas").fit(X, Y).transform(X)
    assert table.shape == (len(Y), 16)
    assert table.columns[0] == "astwclassifier0"


def statistics_and_svm(X):
    assert (check(make_pipeline(statistics(), SVC()), X) == Y).mean() > 0.9


def union(X):
    parts = [("statistics", statistics()), ("embedding", network())]
    model = make_pipeline(FeatureUnion(parts), LogisticRegression())
    assert (check(model, X) == Y).mean() > 0.9


def columns(X):
    frame = X.assign(sex=np.where(VOICES < "b", "f", "m"), age=np.arange(len(Y)))
    for selector in ("audio", ["audio"]):
        parts = [
            ("sound", statistics(), selector),
            ("sex", OneHotEncoder(), ["sex"]),
            ("age", StandardScaler(), ["age"]),
        ]
        model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(frame, Y)
        assert model.score(frame, Y) > 0.9


TOOLS = {
    "fit and predict": lambda X: check(network(), X),
    "Pipeline, frames": lambda X: check(make_pipeline(ASTWFeaturizer(), network(features="precomputed")), X),
    "Pipeline, statistics": statistics_and_svm,
    "GridSearchCV": grid,
    "RandomizedSearchCV": randomized,
    "HalvingRandomSearchCV": halving,
    "cross_validate": validate,
    "cross_val_predict": val_predict,
    "learning_curve": curve,
    "permutation_test_score": permutations,
    "CalibratedClassifierCV": lambda X: check(CalibratedClassifierCV(network(), method="sigmoid", cv=2), X),
    "TunedThresholdClassifierCV": lambda X: check(
        TunedThresholdClassifierCV(network(), cv=2, scoring="balanced_accuracy"), X
    ),
    "VotingClassifier": lambda X: check(
        VotingClassifier([("a", network()), ("b", make_pipeline(statistics(), LogisticRegression()))], voting="soft"), X
    ),
    "StackingClassifier": lambda X: check(
        StackingClassifier([("a", network()), ("b", make_pipeline(statistics(), SVC()))], cv=2), X
    ),
    "OneVsRestClassifier": lambda X: check(OneVsRestClassifier(network()), X),
    "BaggingClassifier": lambda X: check(BaggingClassifier(network(), n_estimators=2, random_state=0), X),
    "FrozenEstimator": frozen,
    "FeatureUnion": union,
    "ColumnTransformer": columns,
    "set_output": pandas_output,
}

#: The forms that a tool takes where scikit-learn itself takes no others, and why.
RESTRICTED = {
    "BaggingClassifier": ({"DataFrame", "(n, 1) objects", "2-D array"}, "it checks X as a two-dimensional array"),
    "ColumnTransformer": ({"DataFrame"}, "it selects columns of a table"),
}

CELLS = [(tool, form) for tool in TOOLS for form in FORMS]


@pytest.mark.parametrize(("tool", "form"), CELLS, ids=[f"{tool}-{form}" for tool, form in CELLS])
def test_a_form_in_a_tool(tool, form):
    takes, _ = RESTRICTED.get(tool, (set(FORMS), ""))
    if form in takes:
        TOOLS[tool](FORMS[form]())
    else:
        with pytest.raises((ValueError, TypeError, AttributeError)):
            TOOLS[tool](FORMS[form]())


@pytest.mark.parametrize("form", SAME)
def test_the_same_audio_gives_the_same_model_in_every_form(form):
    expected = network().fit(PATHS, Y).predict_proba(PATHS)
    np.testing.assert_array_equal(network().fit(FORMS[form](), Y).predict_proba(FORMS[form]()), expected)
    predicted = cross_val_predict(network(), FORMS[form](), Y, groups=VOICES, cv=FOLDS)
    np.testing.assert_array_equal(predicted, cross_val_predict(network(), PATHS, Y, groups=VOICES, cv=FOLDS))
