"""Models that are trained and tested on the same splits of the same clips.

A model is any object with ``fit`` and ``predict``. Each model is trained and tested on the same splits with the same
seeds. A fold is one model, with one seed, in one split. With a folder, each complete fold is a small JSON file, so that
a comparison that was stopped continues with the missing folds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
from pandas import DataFrame
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, check_cv
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import has_fit_parameter
from torch import nn

from skastw.analysis.scores import SCORES, total_scores
from skastw.analysis.tables import clip_names, clips_sha256
from skastw.audio import as_clips, is_array_input
from skastw.core.progress import ProgressBar, ProgressLines
from skastw.core.text import listed, unknown_value
from skastw.core.version import __version__
from skastw.core.warn import ignored_warnings, warn_user
from skastw.errors import DataError, SkastwError, plain
from skastw.network.model import count_parameters
from skastw.storage.outputs import check_folder, write_file
from skastw.storage.schema import Count, Finite, Text, check
from skastw.targets.checks import group_array, label_array

#: What happens if a model raises an error in a fold.
POLICIES = ("raise", "warn")
#: Measures of the cost of a model, as columns of a table of scores; of each, less is better.
COSTS = ("fit_seconds", "predict_seconds", "latency", "n_parameters", "n_bytes")
#: Folder with the records of complete folds.
RECORDS = "folds"
#: Parameters that never change a result, so that a fold with other values is not computed again.
_NO_RESULT = frozenset({"cache_dir", "cache_size", "memory", "n_jobs", "pre_dispatch", "verbose"})
#: Attributes of models without a network that hold learned numbers; the first line that a model has counts.
_LEARNED = (("coef_", "intercept_"), ("support_vectors_", "dual_coef_", "intercept_"))
#: Rounds of which the median is the latency.
_ROUNDS = 3

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A complete fold: the prediction for each test clip, and the cost of the model."""

    model: Text
    seed: Count
    split: Text
    predicted: list[Any]
    fit_seconds: Finite
    predict_seconds: Finite
    latency: Finite
    n_parameters: Count | None
    n_bytes: Count | None


@dataclass(frozen=True)
class _Fold:
    """A model with one seed in one split, and the name of its record."""

    model: str
    seed: int
    split: str
    train: np.ndarray
    test: np.ndarray
    record: Path | None


# ------------------------------------------------------------------ splits


def make_splits(y: np.ndarray, groups: np.ndarray | None = None, cv: Any = None, random_state: Any = 0) -> Splits:
    """Return the splits of a comparison, with their names.

    Parameters
    ----------
    y : ndarray of shape (n_clips,)
        Labels.
    groups : ndarray of shape (n_clips,), optional
        Speaker or recording of each clip. No group may be on both sides of a split.
    cv : int, splitter, splits or one split, optional
        Number of folds, by default 5, of a stratified split that keeps groups together; an object with ``split``; an
        iterable of pairs of positions (train, test), or a mapping from names to them; or one such pair.
    random_state : int, RandomState or None, default=0
        Seed of the split into a number of folds.

    Returns
    -------
    dict of str to (ndarray, ndarray)
        Positions of the training clips and of the test clips.

    Raises
    ------
    ValueError
        If a side of a split is empty, or a clip or a group is on both sides.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.comparison import make_splits
    >>> y, speakers = np.array(["cat", "dog"] * 4), np.repeat(["ann", "bob", "cid", "dee"], 2)
    >>> list(make_splits(y, speakers, cv=2))
    ['1', '2']
    >>> make_splits(y, speakers, cv=([0, 1, 2, 3], [4, 5, 6, 7]))["1"][1].tolist()
    [4, 5, 6, 7]
    """
    if groups is not None and len(groups) != len(y):
        raise ValueError(f"Got {len(groups)} groups for {len(y)} labels in y, expected one a clip.")
    codes = np.arange(len(y)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if cv is None or isinstance(cv, Integral):
        crossing = StratifiedKFold if groups is None else StratifiedGroupKFold
        cv = crossing(5 if cv is None else int(cv), shuffle=True, random_state=random_state)
    if hasattr(cv, "split"):
        with ignored_warnings("The groups parameter is ignored"):
            cv = list(cv.split(np.zeros(len(y)), y, None if groups is None else codes))
    elif _is_one_split(cv):
        cv = [cv]

    named = cv if isinstance(cv, Mapping) else {str(i): sides for i, sides in enumerate(cv, start=1)}
    splits = {str(name): (_positions(train), _positions(test)) for name, (train, test) in named.items()}
    if not splits:
        raise ValueError("Got cv without a split, expected at least one pair of positions (train, test).")

    for name, (train, test) in splits.items():
        if not len(train) or not len(test):
            raise ValueError(
                f"The split {name!r} has {len(train)} clips for training and {len(test)} for testing, expected at "
                "least one of each: give fewer folds, or another cv."
            )
        if len(shared := np.intersect1d(codes[train], codes[test])):
            sides = [np.flatnonzero(codes == code)[0] for code in shared] if groups is not None else shared
            examples = listed(repr(plain(i if groups is None else groups[i])) for i in sides)
            raise ValueError(
                f"The split {name!r} has {len(shared)} {'clips' if groups is None else 'groups'} on both sides "
                f"({examples}), expected none: give another cv{'' if groups is None else ', or other groups'}."
            )
    return splits


def _is_one_split(cv: Any) -> bool:
    return isinstance(cv, Sequence) and len(cv) == 2 and all(not len(side) or np.ndim(side[0]) == 0 for side in cv)


def _positions(side: Any) -> np.ndarray:
    side = np.asarray(side)
    return np.flatnonzero(side) if side.dtype == bool else side


# ------------------------------------------------------------------ folds


def with_params(model: Any, **values: Any) -> Any:
    """Return a copy of a model, not fitted, with a value for every parameter of these names, at any depth.

    Parameters
    ----------
    model : estimator
    **values : object
        Value of each parameter. A model without the parameter is only copied.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.svm import SVC
    >>> from skastw.analysis.comparison import with_params
    >>> with_params(make_pipeline(SVC()), random_state=3)["svc"].random_state
    3
    """
    model = clone(model, safe=False)
    changes = {name: values[_last(name)] for name in _params(model) if _last(name) in values}
    return model.set_params(**changes) if changes else model


def _params(model: Any) -> dict[str, Any]:
    return model.get_params(deep=True) if hasattr(model, "get_params") else {}


def _last(name: str) -> str:
    """Return the last part of the name of a nested parameter."""
    return name.rpartition("__")[2]


def is_random(model: Any) -> bool:
    """Return whether a model, or a part of it, has the parameter ``random_state``."""
    return any(_last(name) == "random_state" for name in _params(model))


def run_models(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    splits: Splits,
    groups: Any = None,
    seeds: int | Sequence[int] = 1,
    n_jobs: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    on_error: str = "raise",
    verbose: int = 0,
) -> tuple[DataFrame, DataFrame]:
    """Train and test each model with each seed in each split.

    Parameters
    ----------
    models : mapping of str to estimators
    X, y, groups
        Clips, or the rows of a table of features, with their labels and groups.
    splits : dict
        See :func:`make_splits`.
    seeds, n_jobs, folder, on_error, verbose
        See :func:`skastw.evaluation.compare`.

    Returns
    -------
    folds : DataFrame
        A row for each fold: ``model``, ``seed``, ``split``, ``n_train``, ``n_test``, the scores, the costs and
        ``error``, which is None for a complete fold.
    predictions : DataFrame
        A row for each test clip of each complete fold: ``model``, ``seed``, ``split``, ``position`` in X, ``clip``,
        ``group``, if given, ``label`` and ``predicted``.

    Raises
    ------
    ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from skastw.analysis.comparison import make_splits, run_models
    >>> X, y = np.arange(8.0)[:, None], np.array(["cat", "dog"] * 4)
    >>> folds, predictions = run_models({"guess": DummyClassifier()}, X, y, splits=make_splits(y, cv=2))
    >>> folds["uar"].tolist(), len(predictions)
    ([0.5, 0.5], 8)
    """
    X = X if is_array_input(X) else as_clips(X)
    X = X if hasattr(X, "shape") or not is_array_input(X) else np.asarray(X)
    y, groups = label_array(y, "y"), group_array(groups)
    seeds = _check_arguments(models, X, y, groups, seeds, on_error)
    _warn_about_searches(models, y, groups)

    place = None if folder is None else (check_folder(folder), _data_sha256(X, y, groups))
    folds = [
        _Fold(name, seed, split, *sides, place and _record_file(*place, with_params(model, random_state=seed), *sides))
        for name, model in models.items()
        for seed in (seeds if is_random(model) else seeds[:1])
        for split, sides in splits.items()
    ]

    records = {id(fold): record for fold in folds if (record := _read(fold)) is not None}
    missing = [fold for fold in folds if id(fold) not in records]
    tasks = (
        joblib.delayed(_run_fold)(
            fold,
            with_params(models[fold.model], random_state=fold.seed),
            [take_rows(values, fold.train) for values in (X, y, groups)],
            take_rows(X, fold.test),
            on_error,
        )
        for fold in missing
    )
    show = ProgressBar if verbose == 1 else ProgressLines
    with show(total=len(folds), desc="compare", unit="fold", disable=not verbose) as bar:
        bar.initial += len(records)  # earlier folds do not count for the speed
        bar.update(len(records))
        for fold, record in zip(missing, joblib.Parallel(n_jobs=n_jobs, return_as="generator")(tasks), strict=True):
            records[id(fold)] = record
            bar.update(1)

    complete = [(fold, records[id(fold)]) for fold in folds]
    failed = [f"{_words(fold)}: {record}" for fold, record in complete if isinstance(record, str)]
    if failed:
        warn_user(f"{len(failed)} of {len(folds)} folds failed ({listed(failed)}); their models have no scores.")
    return _as_tables(complete, X, y, groups)


def _check_arguments(
    models: Mapping[str, Any], X: Any, y: np.ndarray, groups: np.ndarray | None, seeds: Any, on_error: str
) -> list[int]:
    """Raise unless the arguments are valid; return the seeds as a list."""
    if not models:
        raise ValueError("Got no models, expected at least one.")
    for name, model in models.items():
        if not isinstance(name, str) or not hasattr(model, "fit") or not hasattr(model, "predict"):
            raise ValueError(
                f"Got the model {name!r}: {model!r:.100}, expected a name and an object with fit, predict."
            )
    if on_error not in POLICIES:
        raise ValueError(unknown_value("on_error", on_error, POLICIES))

    n_clips = X.shape[0] if hasattr(X, "shape") else len(X)
    for values, what in ((y, "labels in y"), (groups, "groups")):
        if values is not None and len(values) != n_clips:
            raise ValueError(f"Got {len(values)} {what} for {n_clips} clips in X, expected one a clip.")

    seeds = list(range(seeds)) if isinstance(seeds, Integral) else list(seeds)
    if not seeds or any(not isinstance(seed, Integral) or seed < 0 for seed in seeds) or len({*seeds}) < len(seeds):
        raise ValueError(f"Got seeds={plain(seeds)!r}, expected a number of at least 1, or different seeds from 0.")
    return [int(seed) for seed in seeds]


def _warn_about_searches(models: Mapping[str, Any], y: np.ndarray, groups: np.ndarray | None) -> None:
    """Warn about searches whose inner splits would mix groups."""
    if groups is None:
        return
    inner = {name: [value for key, value in _params(m).items() if _last(key) == "cv"] for name, m in models.items()}
    mixing = [
        name
        for name, splitters in inner.items()
        if not all(_takes_groups(check_cv(cv, y, classifier=True), "split") for cv in splitters)
    ]
    if mixing:
        warn_user(
            f"The inner splits of {listed(map(repr, mixing))} ignore groups, so parameters are chosen on groups that "
            "the candidates were trained on: give the search cv=StratifiedGroupKFold()."
        )


def _takes_groups(consumer: Any, method: str) -> bool:
    """Return whether a method of an object takes groups, itself or by passing them on."""
    with config_context(enable_metadata_routing=True):
        return bool(get_routing_for_object(consumer).consumes(method, ["groups"]))


def take_rows(values: Any, index: np.ndarray) -> Any:
    """Return the items of a container at some positions.

    Parameters
    ----------
    values : array, table, list or None
        None is returned as it is.
    index : ndarray of positions

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.comparison import take_rows
    >>> take_rows(["a.wav", "b.wav", "c.wav"], np.array([2, 0]))
    ['c.wav', 'a.wav']
    """
    if values is None:
        return None
    if hasattr(values, "iloc"):
        return values.iloc[index]
    return [values[i] for i in index] if isinstance(values, list) else values[index]


def _run_fold(fold: _Fold, model: Any, training: list[Any], X_test: Any, on_error: str) -> _Record | str:
    """Train and test a model, and write the record; return the record, or the error in words."""
    try:
        record = _measured(fold, model, training, X_test)
    except Exception as error:
        if on_error == "raise":
            error.add_note(f"It was raised by {_words(fold)}.")
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())}"

    if fold.record is not None:
        write_file(fold.record, json.dumps(msgspec.structs.asdict(record)))
    return record


def _words(fold: _Fold) -> str:
    return f"the model {fold.model!r} with seed {fold.seed} in split {fold.split!r}"


def _measured(fold: _Fold, model: Any, training: list[Any], X_test: Any) -> _Record:
    began = time.perf_counter()
    fit_with_groups(model, *training)
    fitted = time.perf_counter()
    predicted = label_array(model.predict(X_test), "the predictions")
    ended = time.perf_counter()
    model = _shipped(model)

    one, latencies = take_rows(X_test, np.array([0])), []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        model.predict(one)
        latencies.append(time.perf_counter() - start)

    return _Record(
        model=fold.model,
        seed=fold.seed,
        split=fold.split,
        predicted=plain(predicted),
        fit_seconds=fitted - began,
        predict_seconds=(ended - fitted) / len(predicted),
        latency=float(np.median(latencies)),
        n_parameters=_count_parameters(model),
        n_bytes=_count_bytes(model),
    )


def fit_with_groups(model: Any, X: Any, y: np.ndarray, groups: np.ndarray | None) -> None:
    """Fit a model, with groups if it takes them: for its inner splits, or for its validation clips.

    Parameters
    ----------
    model : estimator
        Is fitted in place.
    X, y : clips and labels
    groups : ndarray of shape (n_clips,), or None
        Speaker or recording of each clip.
    """
    if groups is not None and hasattr(model, "get_metadata_routing") and _takes_groups(model, "fit"):
        with config_context(enable_metadata_routing=True):  # so that a search or a pipeline passes them on
            model.fit(X, y, groups=groups)
    elif groups is not None and has_fit_parameter(model, "groups"):
        model.fit(X, y, groups=groups)
    else:
        model.fit(X, y)


def _shipped(model: Any) -> Any:
    """Return a fitted model as it would be used: the best model of a search, without a cache that knows the clips."""
    model = getattr(model, "best_estimator_", model)
    uncached = {name: None for name in _params(model) if _last(name) == "cache_dir"}
    return model.set_params(**uncached) if uncached else model


def _count_parameters(model: Any) -> int | None:
    """Return the number of trained weights of a network, a linear model or a support vector machine, else None."""
    while hasattr(model, "best_estimator_") or hasattr(model, "steps"):
        model = model.best_estimator_ if hasattr(model, "best_estimator_") else model.steps[-1][1]
    if isinstance(getattr(model, "model_", None), nn.Module):
        return count_parameters(model.model_)
    learned = next((names for names in _LEARNED if hasattr(model, names[0])), ())
    return sum(int(np.size(getattr(model, name))) for name in learned) or None


def _count_bytes(model: Any) -> int | None:
    """Return the size of a model on disk: of its saved folder, or of its pickle; None if it has neither."""
    if hasattr(model, "save_pretrained"):
        with contextlib.suppress(SkastwError), tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(Path(folder) / "model")
            return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    try:
        return len(pickle.dumps(model))
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


def _as_tables(
    complete: list[tuple[_Fold, Any]], X: Any, y: np.ndarray, groups: np.ndarray | None
) -> tuple[DataFrame, DataFrame]:
    """Return the tables of folds and of predictions."""
    names = np.arange(len(y)) if is_array_input(X) else np.array(clip_names(X), dtype=object)
    rows: list[dict[str, Any]] = []
    columns: dict[str, list[Any]] = {name: [] for name in ("model", "seed", "split", "position", "predicted")}
    for fold, record in complete:
        row = {"model": fold.model, "seed": fold.seed, "split": fold.split}
        row |= {"n_train": len(fold.train), "n_test": len(fold.test)}
        if isinstance(record, str):
            rows.append({**row, "error": record})
            continue

        scores = total_scores(y[fold.test], np.asarray(record.predicted))
        rows.append({**row, **scores, **{name: getattr(record, name) for name in COSTS}, "error": None})
        for name in ("model", "seed", "split"):
            columns[name] += [row[name]] * len(fold.test)
        columns["position"] += fold.test.tolist()
        columns["predicted"] += record.predicted

    position = np.array(columns["position"], dtype=int)
    of_clips = {
        "clip": names[position],
        **({} if groups is None else {"group": groups[position]}),
        "label": y[position],
    }
    predicted = columns.pop("predicted")
    folds = DataFrame(rows, columns=[*("model", "seed", "split", "n_train", "n_test"), *SCORES, *COSTS, "error"])
    return folds, DataFrame({**columns, **of_clips, "predicted": predicted})


# ------------------------------------------------------------------ records


def _record_file(folder: Path, data: str, model: Any, train: np.ndarray, test: np.ndarray) -> Path:
    """Return the file of a fold, whose name is a hash of everything that its predictions depend on."""
    key = [__version__, _described(model), data, train.tolist(), test.tolist()]
    return folder / RECORDS / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.json"


def _data_sha256(X: Any, y: np.ndarray, groups: np.ndarray | None) -> str:
    clips = joblib.hash(X) if is_array_input(X) else clips_sha256(X)
    labelled = [clips, plain(y), None if groups is None else plain(groups)]
    return hashlib.sha256(json.dumps(labelled, default=str).encode()).hexdigest()


def _described(value: Any) -> Any:
    """Return a model, or a parameter of it, as values of JSON that are the same in another process."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, Mapping):
        return [kind, [[_described(key), _described(item)] for key, item in value.items()]]
    if isinstance(value, list | tuple):
        return [kind, [_described(item) for item in value]]
    if hasattr(value, "get_params") and not isinstance(value, type):
        params = {key: item for key, item in value.get_params(deep=False).items() if key not in _NO_RESULT}
        return [kind, {key: _described(item) for key, item in sorted(params.items())}]
    try:
        return [kind, joblib.hash(value)]
    except (pickle.PicklingError, AttributeError, TypeError):
        raise ValueError(
            f"Got the parameter {value!r:.100} of a model with folder=..., expected a value that can be recognised in "
            "another process, such as a function with a name; or leave out folder."
        ) from None


def _read(fold: _Fold) -> _Record | None:
    """Return the record of a complete fold; None if it is missing or damaged."""
    if fold.record is None:
        return None
    try:
        record = check(json.loads(fold.record.read_bytes()), _Record, str(fold.record), DataError)
    except (OSError, ValueError):
        return None
    return record if len(record.predicted) == len(fold.test) else None
