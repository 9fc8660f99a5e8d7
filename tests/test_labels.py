"""Labels, targets, groups and weights: of which type they are, and what is said if some are missing or wrong."""

import datetime
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GroupKFold

from skastw import ASTWClassifier, ASTWRegressor
from skastw.datasets import describe_audio, make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import DataError
from skastw.evaluation import evaluate, evaluate_predictions
from skastw.plots import GroupScoresDisplay
from skastw.targets import SingleLabel

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
CLIPS, Y = make_tones(n_clips=8, n_classes=2, duration=(0.2, 0.2), random_state=0)
NAMES = ["cat", "dog"] * 4


def classifier(**params):
    return ASTWClassifier(**{"encoder": TINY, "epochs": 1, "val_split": None, **params})


def regressor(**params):
    return ASTWRegressor(**{"encoder": TINY, "epochs": 1, "val_split": None, **params})


def gaps(values, missing, positions=(2, 5)):
    return [missing if i in positions else value for i, value in enumerate(values)]


#: Labels of which the third and the sixth are missing.
WITHOUT = {
    "None in a list": gaps(NAMES, None),
    "NaN in a list of text": gaps(NAMES, float("nan")),
    "NaN in a list of integers": gaps([0, 1] * 4, float("nan")),
    "NA in a list": gaps(NAMES, pd.NA),
    "an array of objects": np.array(gaps(NAMES, None), dtype=object),
    "an array of floats": np.array(gaps([0.0, 1.0] * 4, np.nan)),
    "a Series": pd.Series(gaps(NAMES, None)),
    "a Series of strings": pd.Series(gaps(NAMES, None), dtype="string"),
    "nullable integers": pd.Series(gaps([0, 1] * 4, None), dtype="Int64"),
    "nullable booleans": pd.Series(gaps([False, True] * 4, None), dtype="boolean"),
    "categories": pd.Series(gaps(NAMES, None), dtype="category"),
    "a Categorical": pd.Categorical(gaps(NAMES, None)),
    "dates": pd.Series(gaps([pd.Timestamp(2020, 1, 1)] * 8, pd.NaT)),
    "a masked array": np.ma.masked_array([0, 1] * 4, mask=[i in (2, 5) for i in range(8)]),
    "a frame of one column": pd.DataFrame({"y": gaps(NAMES, None)}),
    "an indicator": [[1.0, 0.0] if i not in (2, 5) else [None, 1.0] for i in range(8)],
    "an indicator of floats": np.array([[1.0, 0.0] if i not in (2, 5) else [np.nan, 1.0] for i in range(8)]),
    "an indicator in a frame": pd.DataFrame({"a": gaps([0, 1] * 4, None), "b": [0, 1] * 4}, dtype="Int64"),
}
if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):  # of NumPy 2
    WITHOUT["texts of any length"] = np.array(gaps(NAMES, np.nan), dtype=np.dtypes.StringDType(na_object=np.nan))
POSITIONS = r"2 missing values of 8 .*at positions 2, 5: fill them in, or drop those clips"


@pytest.mark.parametrize("y", WITHOUT.values(), ids=WITHOUT)
def test_missing_labels_are_named_by_their_positions(y):
    with pytest.raises(DataError, match=f"^y has {POSITIONS}"):
        classifier().fit(CLIPS, y)


@pytest.mark.parametrize(
    "y",
    [
        gaps([1.0] * 8, None),
        np.array(gaps([1.0] * 8, np.nan)),
        pd.Series(gaps([1.0] * 8, None), dtype="Float64"),
        pd.DataFrame({"a": gaps([1.0] * 8, None), "b": [2.0] * 8}),
    ],
    ids=["list", "array", "Series", "frame"],
)
def test_missing_values_are_named_by_their_positions(y):
    for train in (regressor().fit, regressor().partial_fit):
        with pytest.raises(DataError, match=f"^y has {POSITIONS}"):
            train(CLIPS, y)


@pytest.mark.parametrize("name", ["groups", "sample_weight", "y_val", "sample_weight_val"])
@pytest.mark.parametrize("estimator", [classifier(), regressor()], ids=["classifier", "regressor"])
def test_what_comes_with_the_clips_may_not_be_missing(name, estimator):
    y_val = Y if name == "sample_weight_val" else None
    arguments = {"X_val": CLIPS, "y_val": y_val} if name.endswith("_val") else {}
    arguments[name] = gaps([0, 1] * 4, None)
    with pytest.raises(DataError, match=f"^{name} has {POSITIONS}"):
        estimator.fit(CLIPS, Y, **arguments)


def test_instalments_are_checked_like_everything_else():
    with pytest.raises(DataError, match=r"^classes has 1 missing value of 3 .*at position 1:"):
        classifier().partial_fit(CLIPS, NAMES, classes=["cat", None, "dog"])
    with pytest.raises(DataError, match=f"^y has {POSITIONS}"):
        classifier().partial_fit(CLIPS, gaps(NAMES, None), classes=["cat", "dog"])
    with pytest.raises(DataError, match=f"^sample_weight has {POSITIONS}"):
        classifier().partial_fit(CLIPS, NAMES, classes=["cat", "dog"], sample_weight=gaps([1.0] * 8, np.nan))


def test_classes_of_instalments_may_be_nullable():
    classes, clf = pd.Series([1, 3], dtype="Int64"), classifier()
    for _ in range(2):
        clf.partial_fit(CLIPS, pd.Series([3, 1] * 4, dtype="Int64"), classes=classes)
    assert (clf.classes_.tolist(), clf.classes_.dtype.kind) == ([1, 3], "i")


def test_evaluations_name_what_is_missing():
    fitted = classifier().fit(CLIPS, NAMES)
    with pytest.raises(DataError, match=f"^y has {POSITIONS}"):
        evaluate(fitted, CLIPS, gaps(NAMES, None))
    with pytest.raises(DataError, match=f"^groups has {POSITIONS}"):
        evaluate(fitted, CLIPS, NAMES, groups=gaps(NAMES, None))
    with pytest.raises(DataError, match=f"^y_true has {POSITIONS}"):
        evaluate_predictions(gaps(NAMES, None), NAMES)
    with pytest.raises(DataError, match=f"^groups has {POSITIONS}"):
        evaluate_predictions(NAMES, NAMES, groups=gaps(NAMES, np.nan))
    with pytest.raises(DataError, match=f"^groups has {POSITIONS}"):
        GroupScoresDisplay.from_predictions(NAMES, NAMES, gaps(NAMES, None))


def test_a_splitter_that_needs_what_is_missing_says_so():
    """Without splits, missing labels and groups are findings of the description."""
    with pytest.raises(DataError, match=f"^groups has {POSITIONS}"):
        describe_audio(CLIPS, NAMES, gaps(NAMES, None), splits=GroupKFold(2))
    with pytest.raises(DataError, match=f"^y has {POSITIONS}"):
        describe_audio(CLIPS, gaps(NAMES, None), splits=2)


# ------------------------------------------------------------------ types


@pytest.mark.parametrize(
    ("y", "kind", "classes"),
    [
        (pd.Series([3, 1] * 4, dtype="Int64"), "i", [1, 3]),
        (pd.Series([3, 1] * 4, dtype="UInt8"), "i", [1, 3]),
        (pd.array([3, 1] * 4, dtype="Int64"), "i", [1, 3]),
        (pd.DataFrame({"y": [3, 1] * 4}, dtype="Int64"), "i", [1, 3]),
        (np.array([3, 1] * 4, dtype=object), "i", [1, 3]),
        (pd.Series([True, False] * 4, dtype="boolean"), "b", [False, True]),
        (np.array([True, False] * 4, dtype=object), "b", [False, True]),
        (pd.Series(NAMES, dtype="string"), "U", ["cat", "dog"]),
        (pd.Series(NAMES, dtype="category"), "U", ["cat", "dog"]),
        (pd.Series([3, 1] * 4, dtype="category"), "i", [1, 3]),
        (pd.Categorical(NAMES), "U", ["cat", "dog"]),
    ],
    ids=[
        "Int64",
        "UInt8",
        "array",
        "frame",
        "ints",
        "boolean",
        "bools",
        "string",
        "category",
        "numbers",
        "Categorical",
    ],
)
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_labels_keep_their_type(y, kind, classes, tmp_path):
    clf = classifier().fit(CLIPS, y)
    assert clf.classes_.dtype.kind == clf.predict(CLIPS).dtype.kind == kind
    assert clf.classes_.tolist() == classes
    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    assert loaded.classes_.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(loaded.predict(CLIPS), clf.predict(CLIPS))
    assert clf.partial_fit(CLIPS, y).classes_.tolist() == classes


def test_labels_of_other_libraries_keep_their_type():
    class Column:
        """As of polars: its own dtype, and no method of NumPy but the conversion."""

        dtype = "String"

        def __len__(self):
            return len(NAMES)

        def __getitem__(self, index):
            return NAMES[index]

        def __array__(self, dtype=None, copy=None):
            return np.array(NAMES, dtype=dtype)

    assert classifier().fit(CLIPS, Column()).classes_.tolist() == ["cat", "dog"]
    assert classifier().fit(CLIPS, torch.tensor([3, 1] * 4)).classes_.tolist() == [1, 3]


def test_nullable_columns_are_indicators_values_weights_and_groups():
    table = pd.DataFrame({"low": [1, 0] * 4, "high": [0, 1] * 4}, dtype="Int64")
    assert classifier().fit(CLIPS, table).classes_.tolist() == ["low", "high"]
    values = regressor().fit(CLIPS, table.astype("Float64"))
    assert values.target_names_ == ["low", "high"]
    np.testing.assert_allclose(values.target_mean_, 0.5)
    weights, groups = pd.Series([1.0, 2.0] * 4, dtype="Float64"), pd.Series([1, 1, 2, 2] * 2, dtype="Int64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(val_split=0.5).fit(CLIPS, NAMES, sample_weight=weights, groups=groups)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (pd.to_datetime(pd.Series(["2020-01-01", "2021-01-01"] * 4)), r"dtype datetime64.*2020-01-01"),
        (pd.DataFrame({"y": pd.to_datetime(["2020-01-01"] * 8)}, index=range(5, 13)), "dtype datetime64"),
        (pd.Series([("a", 1)] * 8, index=range(5, 13)), "type tuple"),
        (pd.Series(["a", 1] * 4, index=range(5, 13)), r"'a' at position 0 and 1 at position 1"),
        ([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)] * 4, r"type date \(datetime\.date\(2020, 1, 1\) at"),
        (pd.Series([(1, 2), (3, 4)] * 4), r"type tuple \(\(1, 2\) at position 0\)"),
        ([Decimal(1), Decimal(2)] * 4, r"type Decimal"),
        ([b"cat", b"dog"] * 4, r"type bytes \(b'cat' at position 0\)"),
        (np.array([b"cat", b"dog"] * 4), r"dtype \|S3"),
        ([{"cat"}, {"dog"}] * 4, "type set"),
        (np.array([1j, 2j] * 4), "dtype complex128"),
        ([*NAMES[:-1], 1], r"several types \('cat' at position 0 and 1 at position 7\)"),
        (np.array([*NAMES[:-1], True], dtype=object), r"several types \('cat' at position 0 and True at position 7\)"),
    ],
    ids=[
        "times",
        "frame",
        "series of tuples",
        "mixed series",
        "dates",
        "tuples",
        "Decimal",
        "bytes",
        "array of bytes",
        "sets",
        "complex",
        "mixed",
        "objects",
    ],
)
def test_labels_that_no_folder_can_hold_are_refused_before_training(y, match):
    with pytest.raises(DataError, match=match) as caught:
        classifier().fit(["these", "files", "are", "not", "even", "looked", "for", "."], y)
    assert "expected" in str(caught.value)
    assert "y.astype(str)" in str(caught.value)


def test_several_values_a_clip_are_refused():
    with pytest.raises(DataError, match="'multiclass-multioutput', expected one label per clip"):
        classifier().fit(CLIPS, [(1, 2), (3, 4)] * 4)
    with pytest.raises(DataError, match="without labels"):
        classifier().fit(CLIPS, [])


def test_a_label_that_is_no_unicode_is_refused():
    with pytest.raises(DataError, match=r"the label 'caf\\udce9', expected text that UTF-8 can hold"):
        classifier().fit(CLIPS, ["caf\udce9", "bar"] * 4)


def test_groups_may_be_tuples():
    groups = np.empty(8, dtype=object)
    groups[:] = [("ann", 1), ("bob", 2)] * 4
    assert classifier(val_split=0.5).fit(CLIPS, [*NAMES[2:], "dog", "cat"], groups=groups).history_


def test_groups_of_several_columns_are_tuples_or_refused():
    pairs = [("ann", 1), ("bob", 2)] * 4
    y = [*NAMES[2:], "dog", "cat"]
    assert classifier(val_split=0.5).fit(CLIPS, y, groups=pairs).history_
    assert classifier(val_split=0.5).fit(CLIPS, y, groups=np.array([[1], [2]] * 4)).history_
    with pytest.raises(DataError, match=r"groups has shape \(8, 2\), expected one group per clip: join its columns"):
        classifier(val_split=0.5).fit(CLIPS, y, groups=np.array([[0, 1], [0, 2]] * 4))


def test_evaluations_take_labels_of_one_type():
    with pytest.raises(DataError, match="y_pred holds labels of several types"):
        evaluate_predictions(["cat", "dog"], np.array(["cat", 1], dtype=object))


def test_groups_of_several_types_are_refused():
    with pytest.raises(DataError, match=r"groups holds values of several types \(int, str\).*groups\.astype\(str\)"):
        classifier(val_split=0.5).fit(CLIPS, NAMES, groups=pd.Series(["ann", 1] * 4))


# ------------------------------------------------------------------ weights of classes


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0, 1e39, None, "2", True])
def test_class_weights_that_are_no_weights_are_refused(weight):
    with pytest.raises(DataError, match=r"class_weight=.* for 'dog', expected a number from 0 to 1e\+09"):
        classifier(class_weight={"cat": 1.0, "dog": weight}).fit(CLIPS, NAMES)


def test_a_class_that_is_no_class_suggests_the_one_that_was_meant():
    with pytest.raises(DataError, match=r"class_weight for \['dgo'\], .*\['cat', 'dog'\]; did you mean 'dog'\?"):
        classifier(class_weight={"dgo": 2.0}).fit(CLIPS, NAMES)
    with pytest.raises(DataError, match=r"class_weight for \['whale'\], expected classes of y: \['cat', 'dog'\]\.$"):
        classifier(class_weight={"whale": 2.0}).fit(CLIPS, NAMES)


def test_class_weights_by_the_text_of_a_class_act():
    """YAML and JSON know no integers as keys."""
    by_number = classifier(class_weight={1: 9.0}).fit(CLIPS, Y)
    by_text = classifier(class_weight={"1": 9.0}).fit(CLIPS, Y)
    of_floats = classifier(class_weight={1: 9.0}).fit(CLIPS, np.asarray(Y, dtype=float))
    np.testing.assert_array_equal(of_floats.predict_proba(CLIPS), by_number.predict_proba(CLIPS))
    unweighted = classifier().fit(CLIPS, Y)
    np.testing.assert_array_equal(by_text.predict_proba(CLIPS), by_number.predict_proba(CLIPS))
    assert not np.array_equal(by_text.predict_proba(CLIPS), unweighted.predict_proba(CLIPS))


@pytest.mark.parametrize("kind", [int, float, str])
def test_many_numbers_with_few_clips_each_are_told_to_be_taken_as_classes(kind):
    y = [kind(i) for i in range(120)]
    with pytest.warns(UserWarning, match=r"y has 60 different numbers for 120 clips, .* use ASTWRegressor"):
        SingleLabel.learn(np.array(y[:60] * 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "The number of unique classes")  # scikit-learn's, whatever the type
        for ordinary in (y[:60] * 3, y[:50], [f"c{i}" for i in y], [*"abc"] * 60):
            SingleLabel.learn(np.array(ordinary))
