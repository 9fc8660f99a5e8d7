"""Scores of the models of a comparison, and tests of their differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pandas import DataFrame
from sklearn.utils import check_random_state

from skastw.analysis.comparison import COSTS
from skastw.analysis.scores import SCORES, interval_of, resampled_scores, total_scores
from skastw.analysis.significance import bootstrap_p, corrected_t_test, exact_mcnemar, holm
from skastw.core.text import unknown_value
from skastw.errors import DataError

_NO_INTERVAL = (float("nan"), float("nan"))


def rank_models(
    folds: DataFrame,
    predictions: DataFrame,
    *,
    score: str = "uar",
    reference: str | None = None,
    n_bootstrap: int = 2000,
    random_state: Any = 0,
) -> tuple[DataFrame, DataFrame]:
    """Return the scores of each model, and the tests of its difference from a reference.

    Parameters
    ----------
    folds, predictions : DataFrame
        Results of :func:`skastw.analysis.comparison.run_models`.
    score, reference, n_bootstrap, random_state
        See :func:`skastw.evaluation.compare`.

    Returns
    -------
    table : DataFrame
        A row for each model, the best first; see :class:`skastw.evaluation.Comparison`.
    tests : DataFrame
        A row for each complete model other than the reference, whose name is in the column ``reference``.

    Raises
    ------
    ValueError
        If the score or the reference is unknown.
    DataError
        If no model has predictions in all splits.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from skastw.analysis.comparison import make_splits, run_models
    >>> from skastw.analysis.ranking import rank_models
    >>> X, y = np.array([[0.0], [1.0]] * 10), np.array(["cat", "dog"] * 10)
    >>> models = {"guess": DummyClassifier(), "tree": DecisionTreeClassifier()}
    >>> table, tests = rank_models(*run_models(models, X, y, splits=make_splits(y)))
    >>> table["uar"].to_dict(), tests["difference"].to_dict()
    ({'tree': 1.0, 'guess': 0.5}, {'guess': -0.5})
    """
    if score not in SCORES:
        raise ValueError(unknown_value("score", score, SCORES))
    failed = folds[folds["error"].notna()]
    names = list(dict.fromkeys(folds["model"]))
    complete = [name for name in names if name not in set(failed["model"])]
    if not complete:
        raise DataError(f"No model has predictions in all splits; the first error: {failed['error'].iloc[0]}")

    # one integer, so that all models get the same resamples
    seed = int(check_random_state(random_state).randint(2**31))
    unit = np.unique(predictions["group" if "group" in predictions else "position"], return_inverse=True)[1]
    predictions = predictions.assign(unit=unit)
    resamples = {name: _resampled(predictions, name, n_bootstrap, seed) for name in complete}

    rows = {}
    for name in names:
        own = folds[folds["model"] == name]
        scores = _score_row(own, predictions, name, resamples[name]) if name in resamples else {}
        counts = {"n_seeds": own["seed"].nunique(), "n_failed": int(own["error"].notna().sum())}
        rows[name] = {**scores, **_cost_row(own), **counts}
    table = DataFrame.from_dict(rows, orient="index").rename_axis("model")
    table = table.sort_values(score, ascending=False, kind="stable")

    reference = str(table.index[0]) if reference is None else reference
    if reference not in complete:
        raise ValueError(unknown_value("reference", reference, complete))
    return table, _tests(folds, predictions, table[score].to_dict(), resamples, score, reference)


def _resampled(predictions: DataFrame, name: str, n_bootstrap: int, seed: int) -> dict[str, np.ndarray]:
    """Return the mean scores of a model over its seeds in each resample."""
    own = predictions[predictions["model"] == name]
    by_seed = [
        resampled_scores(
            rows["label"].to_numpy(),
            rows["predicted"].to_numpy(),
            groups=rows["unit"].to_numpy(),
            n_bootstrap=n_bootstrap,
            random_state=seed,
        )
        for _, rows in own.groupby("seed")
    ]
    return {score: np.mean([values[score] for values in by_seed], axis=0) for score in by_seed[0]}


def _score_row(
    folds: DataFrame, predictions: DataFrame, name: str, resampled: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Return the scores of the pooled predictions, with their intervals and spread."""
    own = predictions[predictions["model"] == name]
    by_seed = DataFrame(
        [total_scores(rows["label"].to_numpy(), rows["predicted"].to_numpy()) for _, rows in own.groupby("seed")]
    )
    by_split = folds.groupby("split")[list(SCORES)].mean()

    row: dict[str, float] = {}
    for score in SCORES:
        low, high = interval_of(resampled[score]) if resampled else _NO_INTERVAL
        row |= {score: by_seed[score].mean(), f"{score}_low": low, f"{score}_high": high}
        row |= {f"{score}_fold_mean": by_split[score].mean(), f"{score}_fold_std": by_split[score].std()}
        row |= {f"{score}_seed_std": by_seed[score].std()}
    return row


def _cost_row(folds: DataFrame) -> dict[Any, float]:
    """Return the cost of a model: mean seconds of training and prediction, and medians of the rest."""
    means = folds[list(COSTS[:2])].astype(float).mean()
    medians = folds[list(COSTS[2:])].astype(float).median()
    return {**means.to_dict(), **medians.to_dict()}


def _tests(
    folds: DataFrame,
    predictions: DataFrame,
    scores: Mapping[Any, float],
    resamples: Mapping[str, Mapping[str, np.ndarray]],
    score: str,
    reference: str,
) -> DataFrame:
    """Return the tests of each complete model against the reference, in the order of the table of scores."""
    by_split = folds.groupby(["split", "model"])[score].mean().unstack()
    ratio = float((folds["n_test"] / folds["n_train"]).mean())

    rows: dict[str, dict[str, Any]] = {}
    for name in (name for name in scores if name in resamples and name != reference):
        gaps = resamples[name].get(score, np.empty(0)) - resamples[reference].get(score, np.empty(0))
        low, high = interval_of(gaps) if len(gaps) else _NO_INTERVAL
        t, p_t_test = corrected_t_test((by_split[name] - by_split[reference]).to_numpy(), ratio)
        rows[name] = {
            "reference": reference,
            "difference": scores[name] - scores[reference],
            "low": low,
            "high": high,
            "p_bootstrap": bootstrap_p(gaps),
            "t": t,
            "p_t_test": p_t_test,
            "p_mcnemar": _mcnemar(predictions, name, reference) if len(by_split) == 1 else np.nan,
        }

    columns = ["reference", "difference", "low", "high", "p_bootstrap", "t", "p_t_test", "p_mcnemar"]
    tests = DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("model")
    corrected = {f"{name}_holm": holm(tests[name].to_numpy()) for name in columns if name.startswith("p_")}
    return tests.assign(**corrected)


def _mcnemar(predictions: DataFrame, name: str, reference: str) -> float:
    """Return the p-value of McNemar's test of two models in one split, each with its first seed."""
    right = []
    for model in (name, reference):
        own = predictions[predictions["model"] == model]
        own = own[own["seed"] == own["seed"].iloc[0]]
        right.append((own["label"] == own["predicted"]).to_numpy())
    return exact_mcnemar(*right)
