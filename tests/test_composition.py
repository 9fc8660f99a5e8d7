"""Every form of X in every tool of scikit-learn that an audio estimator meets, on real recordings."""

import traceback
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import sklearn
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
from sklearn.tree import DecisionTreeClassifier

import skastw
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.audio import load_waveform
from skastw.datasets import load_spoken_digits
from skastw.encoders import ASTWEncoder
from skastw.network.inference import ROUNDING

DIGITS = load_spoken_digits()
CHOSEN = np.isin(DIGITS.target, ["one", "six"]) & np.isin(DIGITS.groups, np.unique(DIGITS.groups)[:6])
PATHS = [str(path) for path in np.array(DIGITS.data)[CHOSEN]]
WAVEFORMS = [load_waveform(path, 16000) for path in PATHS]
Y, VOICES = DIGITS.target[CHOSEN], DIGITS.groups[CHOSEN]
FOLDS = StratifiedGroupKFold(2)
#: Columns beside the audio. They belong to the voice, and each voice says both digits equally often.
VOICE = np.unique(VOICES, return_inverse=True)[1]
SEX, AGE = np.where(VOICE < 3, 0, 1), VOICE * 5 + 20


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


def check_hears(model, X):
    """Predict voices never heard, since even noise in so many columns tells the training clips apart."""
    predicted = cross_val_predict(model, X, Y, groups=VOICES, cv=FOLDS)
    assert (predicted == Y).mean() > 0.9


def check_search(search, X):
    search.fit(X, Y, groups=VOICES)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()  # a fit that failed leaves nan
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
    assert search.n_resources_ == [1, 2]
    assert len(search.best_estimator_.history_) == 2


def validate(X):
    result = cross_validate(network(), X, Y, groups=VOICES, cv=FOLDS, error_score="raise")
    assert np.isfinite(result["test_score"]).all()


def val_predict(X):
    proba = cross_val_predict(network(), X, Y, groups=VOICES, cv=FOLDS, method="predict_proba")
    assert proba.shape == (len(Y), 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)


def curve(X):
    sizes, _, scores = learning_curve(network(), X, Y, groups=VOICES, cv=FOLDS, train_sizes=[0.7, 1.0], shuffle=True)
    assert scores.shape == (len(sizes), 2)
    assert np.isfinite(scores).all()


def permutations(X):
    score, permuted, _ = permutation_test_score(network(), X, Y, groups=VOICES, cv=FOLDS, n_permutations=2)
    assert np.isfinite([score, *permuted]).all()


def frozen(X):
    fitted = network().fit(X, Y)
    check(CalibratedClassifierCV(FrozenEstimator(fitted), method="sigmoid"), X)


def pandas_output(X):
    model = network().fit(X, Y)
    expected = model.transform(X)
    table = model.set_output(transform="pandas").transform(X)
    assert list(table.columns) == [f"embedding_{i}" for i in range(16)]
    np.testing.assert_array_equal(table, expected)


def statistics_and_svm(X):
    model = make_pipeline(statistics(), SVC())
    check(model, X)
    check_hears(model, X)


def union(X):
    parts = [("statistics", statistics()), ("embedding", network())]
    model = make_pipeline(FeatureUnion(parts), LogisticRegression())
    check(model, X)
    check_hears(model, X)


def columns(X):
    """Put the other columns beside the audio, wherever X is a table or becomes one, and select each."""
    if isinstance(X, pd.DataFrame):
        table, sounds, sex, age = X.assign(sex=SEX, age=AGE), ("audio", ["audio"]), ["sex"], ["age"]
    elif isinstance(X, np.ndarray) and X.ndim == 2:
        table, sex, age = np.column_stack([X, SEX, AGE]), [-2], [-1]
        sounds = (0, [0]) if X.dtype == object else (slice(0, -2),)
    elif isinstance(X, list) and isinstance(X[0], tuple):  # rows of a table, to ColumnTransformer
        table = [(*clip, sex, age) for clip, sex, age in zip(X, SEX, AGE, strict=True)]
        sounds, sex, age = (0, [0]), [-2], [-1]  # the rate stays behind: arrays at the estimator's own rate
    else:
        table, sounds, sex, age = X, (0, [0]), [], []
    for sound in sounds:
        parts = [("sound", statistics(), sound), ("sex", OneHotEncoder(), sex), ("age", StandardScaler(), age)]
        model = make_pipeline(ColumnTransformer(parts), LogisticRegression()).fit(table, Y)
        assert model[0].transform(table).shape == (len(Y), 300 + 2 + 1)
        check_hears(model, table)


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

#: The forms that a tool takes where scikit-learn itself takes no others, why, and what it says to the others.
#: (A list of arrays of one length is a 2-D array to both; these lengths differ.)
RESTRICTED = {
    "BaggingClassifier": (
        {"DataFrame", "(n, 1) objects", "2-D array"},
        "it makes a two-dimensional array of X",
        "Expected 2D array|Expected a 2-dimensional container|setting an array element with a sequence",
    ),
    "ColumnTransformer": (
        {"DataFrame", "(n, 1) objects", "2-D array", "list of tuples"},
        "it selects columns, and the others have one dimension",
        "Expected 2D array, got 1D array|tuple index out of range",
    ),
}

CELLS = [(tool, form) for tool in TOOLS for form in FORMS]


@pytest.mark.parametrize(("tool", "form"), CELLS, ids=[f"{tool}-{form}" for tool, form in CELLS])
def test_a_form_in_a_tool(tool, form):
    takes, _, message = RESTRICTED.get(tool, (set(FORMS), "", ""))
    X = FORMS[form]()
    if form in takes:
        TOOLS[tool](X)
        return
    with pytest.raises((ValueError, IndexError), match=message) as caught:
        TOOLS[tool](X)
    ran = [Path(frame.filename) for frame in traceback.extract_tb(caught.tb)]
    assert ran[-1].is_relative_to(Path(sklearn.__file__).parent)  # not this file, nor what it prepares X with
    assert not any(path.is_relative_to(Path(skastw.__file__).parent) for path in ran)


def test_the_other_columns_tell_nothing_of_the_digit():
    others = np.column_stack([SEX, AGE])
    assert DecisionTreeClassifier().fit(others, Y).score(others, Y) == 0.5


def probabilities(X):
    """Return what a network says of the clips that it was fitted on, and of voices never heard.

    Training in float32 with AdamW alone turns a change of rounding into one of rounding, not into a larger one.
    """
    steady = network(precision="float32", muon_lr=None, adam_lr=0.01)
    unheard = cross_val_predict(steady, X, Y, groups=VOICES, cv=FOLDS, method="predict_proba")
    return np.stack([steady.fit(X, Y).predict_proba(X), unheard])


@pytest.mark.parametrize("form", SAME)
def test_the_same_audio_gives_the_same_model_in_every_form(form):
    expected = probabilities(PATHS)
    assert (np.ptp(expected, axis=1) > 0.01).all()  # what ignores the audio would be the same in every form too
    np.testing.assert_allclose(probabilities(FORMS[form]()), expected, rtol=0, atol=ROUNDING)


def test_a_2d_array_gives_the_model_of_its_rows():
    array = of_one_length()
    rows = [(row, 16000) for row in array]
    np.testing.assert_allclose(probabilities(array), probabilities(rows), rtol=0, atol=ROUNDING)
