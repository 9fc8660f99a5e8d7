"""Checks of labels, targets, groups and weights, which have one value for each clip."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import type_of_target

from skastw.core.text import did_you_mean, listed, readable, readable_values
from skastw.errors import DataError, plain

#: Kinds of NumPy arrays whose values JSON can represent (booleans, integers, floats, strings), and the types of these
#: values.
_PLAIN_KINDS = "biufU"
_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
_LABELS = (str, *_NUMBERS)
#: More different numbers, and fewer clips of each number on average, look like values of a regression.
_MANY_NUMBERS, _FEW_CLIPS = 50, 3
#: Limit of class weights, which are multiplied with losses and summed in float32.
_LARGEST_WEIGHT = 1e9


def check_complete(values: Any, name: str) -> None:
    """Raise DataError if a value is missing: None, NaN, NaT or pandas' NA.

    Parameters
    ----------
    values : array-like of shape (n,) or (n, n_columns), or None
        None is an argument that was not passed.
    name : str
        Name of the argument in the error message.

    Raises
    ------
    DataError
        If a value is missing. The message names the positions.

    Examples
    --------
    >>> from skastw.targets.checks import check_complete
    >>> check_complete(["cat", None, "dog"], "y")
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: y has 1 missing value of 3 (None, NaN or NA), at position 1: fill them in, ...
    """
    missing = np.flatnonzero(_is_missing(values))
    if not len(missing):
        return
    plural = "s" * (len(missing) > 1)
    raise DataError(
        f"{name} has {len(missing)} missing value{plural} of {len(values)} (None, NaN or NA), at position{plural} "
        f"{listed(map(str, missing), 5)}: fill them in, or drop those clips."
    )


def _is_missing(values: Any) -> np.ndarray:
    """Return which rows have a missing value, shape (n,), bool."""
    import pandas as pd

    if values is None or hasattr(values, "toarray"):  # a sparse matrix, which scikit-learn checks
        return np.zeros(0, dtype=bool)
    try:
        # an object array, because NumPy converts a NaN among strings to a string
        array = np.array(values, dtype=object) if isinstance(values, list | tuple) else np.asanyarray(values)
    except ValueError:  # rows of different lengths, which scikit-learn reports
        return np.zeros(0, dtype=bool)

    if array.ndim == 0:
        return np.zeros(0, dtype=bool)
    if hasattr(values, "isna"):
        flags = np.asarray(values.isna())
    elif np.ma.is_masked(array):
        flags = np.ma.getmaskarray(array)
    else:  # pandas does not find missing values in NumPy's variable-width strings (kind T)
        flags = np.asarray(pd.isna(array.astype(object) if array.dtype.kind == "T" else array))
    return np.asarray(flags.any(axis=tuple(range(1, flags.ndim))))


def numpy_targets(values: Any) -> Any:
    """Return labels or values with NumPy types instead of pandas types.

    Parameters
    ----------
    values : array-like of shape (n,) or (n, n_columns)
        Labels or values, none of them missing.

    Returns
    -------
    array-like of the same shape
        A nullable or categorical Series becomes an ndarray, and so does an object array of only integers, only
        booleans or only numbers. A DataFrame stays a DataFrame. Other values are returned unchanged.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.targets.checks import numpy_targets
    >>> numpy_targets(pd.Series([3, 1], dtype="Int64")), numpy_targets(pd.Series([True, False], dtype="boolean"))
    (array([3, 1]), array([ True, False]))
    """
    import pandas as pd

    if isinstance(values, pd.DataFrame):
        if all(isinstance(dtype, np.dtype) and dtype.kind != "O" for dtype in values.dtypes):
            return values
        columns = {i: numpy_targets(values.iloc[:, i]) for i in range(values.shape[1])}
        return pd.DataFrame(columns).set_axis(values.columns, axis=1)

    dtype = getattr(values, "dtype", None)
    if dtype is None or np.ndim(values) != 1:
        return values
    if not isinstance(dtype, np.dtype) or dtype.kind == "T":
        return np.array(values.tolist()) if hasattr(values, "tolist") else np.asarray(values)
    if dtype.kind == "O":
        items = values.tolist()
        n_booleans = sum(isinstance(item, bool | np.bool_) for item in items)
        if n_booleans in (0, len(items)) and all(isinstance(item, _NUMBERS) for item in items):
            return np.array(items)
    return values


def check_label_types(labels: Any, name: str) -> None:
    """Raise DataError if the labels have several types, or a type that a saved model cannot represent.

    Parameters
    ----------
    labels : array-like of shape (n,) or (n, 1)
        Labels, none of them missing. scikit-learn checks other shapes.
    name : str
        Name of the argument in the error message.

    Raises
    ------
    DataError
        The message names the first label of another type, and the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.targets.checks import check_label_types
    >>> check_label_types(np.array(["2020-01-01"], dtype="datetime64[D]"), "y")
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: y holds labels of dtype datetime64[D] (2020-01-01 at position 0), expected strings, ...
    """
    array = np.array(labels, dtype=object) if isinstance(labels, list | tuple) else np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind in _PLAIN_KINDS:
        return

    expected = "strings, integers, booleans or floats: convert them, for example by y.astype(str)"
    if array.dtype.kind != "O":
        raise DataError(
            f"{name} holds labels of dtype {array.dtype} ({array[0]!s} at position 0), expected {expected}."
        )

    first: dict[bool, int] = {}  # positions of the first text and of the first number
    for position, label in enumerate(array.tolist()):
        if not isinstance(label, _LABELS):
            raise DataError(
                f"{name} holds labels of type {type(label).__name__} ({label!r:.50} at position {position}), expected "
                f"{expected}."
            )
        first.setdefault(isinstance(label, str), position)
    if len(first) > 1:
        examples = " and ".join(f"{plain(array[i])!r} at position {i}" for i in first.values())
        raise DataError(f"{name} holds labels of several types ({examples}), expected one of {expected}.")


def look_like_values(labels: np.ndarray) -> bool:
    """Return whether labels look like values of a regression: many different numbers, with few clips of each.

    Parameters
    ----------
    labels : ndarray of shape (n,)

    Returns
    -------
    bool
        True if the labels are numbers or texts of numbers, more than 50 different ones, and there are fewer than 3
        clips for each of them on average.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.targets.checks import look_like_values
    >>> look_like_values(np.arange(60)), look_like_values(np.arange(300) % 60)
    (True, False)
    """
    classes = np.unique(labels)
    if len(classes) <= _MANY_NUMBERS or len(labels) >= _FEW_CLIPS * len(classes):
        return False
    try:
        return bool(np.isfinite(classes.astype(float)).all())
    except ValueError:  # a text that is not a number
        return False


def check_label_texts(classes: np.ndarray) -> None:
    """Raise DataError if a class cannot be written as UTF-8, such as a file name that is not Unicode.

    Parameters
    ----------
    classes : ndarray of shape (n_classes,)

    Raises
    ------
    DataError
        The message names the class.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.targets.checks import check_label_texts
    >>> check_label_texts(np.array(["caf\\udce9"]))
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: y holds the label 'caf\\udce9', expected text that UTF-8 can hold: rename the class.
    """
    for label in classes.tolist():
        if readable(str(label)) != str(label):
            raise DataError(f"y holds the label {label!r}, expected text that UTF-8 can hold: rename the class.")


def label_array(values: Any, name: str) -> np.ndarray:
    """Return labels as an array, one label for each clip.

    Parameters
    ----------
    values : array-like of shape (n,)
    name : str
        Name of the argument in the error message.

    Raises
    ------
    DataError, ValueError
        If a label is missing, the labels have several types, or there is not one label for each clip.

    Examples
    --------
    >>> from skastw.targets.checks import label_array
    >>> label_array(["cat", "dog"], "y").tolist()
    ['cat', 'dog']
    >>> label_array([0.5, 1.5], "y")
    Traceback (most recent call last):
        ...
    ValueError: Got y of type 'continuous', expected one label a clip: strings, integers or booleans.
    """
    check_complete(values, name)
    values = numpy_targets(values)
    check_label_types(values, name)
    kind = type_of_target(values, input_name=name)
    if kind not in ("binary", "multiclass"):
        raise ValueError(f"Got {name} of type {kind!r}, expected one label a clip: strings, integers or booleans.")
    labels = column_or_1d(values)
    check_label_texts(np.unique(labels))
    if not len(labels):
        raise ValueError(f"Got no labels in {name}, expected at least one clip to score.")
    return labels


def group_array(groups: Any) -> np.ndarray | None:
    """Return groups as an array that can be sorted, or None if ``groups`` is None.

    Parameters
    ----------
    groups : array-like of shape (n,), or None

    Returns
    -------
    ndarray of shape (n,), or None
        Groups. Strings that are not Unicode, such as parts of file names, are escaped.

    Raises
    ------
    DataError
        If a group is missing, or the groups have several types and cannot be sorted.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.targets.checks import group_array
    >>> group_array(pd.Series(["ann", "bob"], dtype="string")).tolist(), group_array(None)
    (['ann', 'bob'], None)
    """
    if groups is None:
        return None

    check_complete(groups, "groups")
    array = np.asarray(numpy_targets(groups))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    elif array.ndim > 1 and isinstance(groups, list | tuple):  # tuples, such as a speaker and a session
        array = np.empty(len(groups), dtype=object)
        array[:] = [tuple(group) for group in groups]
    if array.ndim != 1:
        raise DataError(
            f"groups has shape {array.shape}, expected one group per clip: join its columns into one string."
        )

    array = readable_values(array)
    types = {type(group).__name__ for group in array.tolist()} if array.dtype.kind == "O" else set()
    if len(types) > 1:
        raise DataError(
            f"groups holds values of several types ({', '.join(sorted(types))}), expected one: use groups.astype(str)."
        )
    return array


def class_weights(weights: Mapping[Any, Any], classes: np.ndarray) -> dict[int, float]:
    """Return the weight of each class by its position in ``classes``, which is 1 by default.

    Parameters
    ----------
    weights : mapping
        Weights by class. A class may also be given as a string.
    classes : ndarray of shape (n_classes,)

    Raises
    ------
    DataError
        If a key is not a class, or a weight is not a number from 0 to 1e9.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.targets.checks import class_weights
    >>> class_weights({"dog": 2}, np.array(["cat", "dog"]))
    {0: 1.0, 1: 2.0}
    >>> class_weights({"dgo": 2}, np.array(["cat", "dog"]))
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got class_weight for ['dgo'], expected classes of y: ['cat', 'dog']; did you mean 'dog'?
    """
    labels = classes.tolist()
    positions = {str(label): i for i, label in enumerate(labels)} | {label: i for i, label in enumerate(labels)}
    by_position = {positions.get(key, positions.get(str(key))): weight for key, weight in weights.items()}
    if None in by_position:
        unknown = [plain(key) for key in weights if key not in positions and str(key) not in positions]
        meant = did_you_mean(str(unknown[0]), map(str, labels)) or "."
        raise DataError(f"Got class_weight for {unknown[:5]}, expected classes of y: {plain(classes[:10])}{meant}")

    for position, weight in by_position.items():
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 <= float(weight) <= _LARGEST_WEIGHT:
            raise DataError(
                f"Got class_weight={plain(weight)!r} for {labels[position]!r}, expected a number from 0 to "
                f"{_LARGEST_WEIGHT:.0e}."
            )
    return {i: float(by_position.get(i, 1.0)) for i in range(len(labels))}
