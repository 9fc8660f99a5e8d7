"""A comparison on disk: ``comparison.json``, tables, pictures, and a page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas import DataFrame

from skastw.analysis.scores import SCORE_NAMES, SCORES
from skastw.core.templates import render
from skastw.core.text import readable, readable_values
from skastw.evaluation.pages import Picture, as_pictures, as_table, check_results, in_words, new_figure, write_results

if TYPE_CHECKING:
    from skastw.evaluation.compare import Comparison

_RESULT, _PAGE = "comparison.json", "comparison.html"
_TABLES = ("models.csv", "tests.csv", "folds.csv", "predictions.csv")
#: Costs of the pictures, with their descriptions.
_COSTS = {"n_bytes": "size", "fit_seconds": "seconds of training", "latency": "latency"}
PICTURES = tuple(f"pareto_{cost}.png" for cost in _COSTS)
#: File names of a comparison.
FILES = (_RESULT, _PAGE, *_TABLES, *PICTURES)
#: Most rows of the tables of folds and classes in the page.
_MAX_ROWS = 60
_COST_NAMES = {
    "fit_seconds": "training of a fold (s)",
    "predict_seconds": "a clip of many (ms)",
    "latency": "a clip alone (ms)",
    "n_parameters": "parameters",
    "n_bytes": "size (MB)",
}
_TESTS = {
    "difference": "difference",
    "low": "from",
    "high": "to",
    "p_t_test_holm": "p, t-test",
    "p_bootstrap_holm": "p, bootstrap",
    "p_mcnemar_holm": "p, McNemar",
}


def save_comparison(
    comparison: Comparison, folder: str | os.PathLike[str], *, title: str, about: Mapping[str, Any]
) -> str:
    """Write the files of :meth:`skastw.evaluation.Comparison.save`.

    Parameters
    ----------
    comparison : Comparison
    folder : path
    title : str
    about : mapping of str to JSON values

    Returns
    -------
    str
        The folder.
    """
    check_results(folder, FILES, overwrite=True)
    title, about = readable(title), readable_values(about)

    # everything is computed before the first file is replaced
    result = {**comparison.to_dict(), "about": dict(about)}
    pictures = _draw(comparison)
    tables = (comparison.table.reset_index(), comparison.tests.reset_index(), comparison.folds, comparison.predictions)
    contents: dict[str, bytes | str] = {
        **{name: picture.content for name, picture in pictures.items()},
        **{name: table.to_csv(index=False) for name, table in zip(_TABLES, tables, strict=True)},
        _RESULT: json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n",
        _PAGE: _page(comparison, title, about, pictures),
    }
    return write_results(folder, contents, PICTURES)


def _draw(comparison: Comparison) -> dict[str, Picture]:
    """Draw the score against each cost that a model has."""
    from skastw.plots import ParetoDisplay

    figures = {}
    for name, cost in zip(PICTURES, _COSTS, strict=True):
        if comparison.table[[comparison.score, cost]].notna().all(axis=1).any():
            figures[name] = new_figure(4.7, max(2.8, 0.22 * len(comparison.table) + 1))
            ParetoDisplay.from_comparison(comparison, cost=cost, ax=figures[name].subplots())
    return as_pictures(figures)


def _page(comparison: Comparison, title: str, about: Mapping[str, Any], pictures: Mapping[str, Picture]) -> str:
    table, score = comparison.table, comparison.score
    ranks = []
    for name, row in table.iterrows():
        interval = None if np.isnan(row[f"{score}_low"]) else (row[f"{score}_low"], row[f"{score}_high"])
        ranks.append((name, None if np.isnan(row[score]) else row[score], interval))

    tests = comparison.tests[[name for name in _TESTS if comparison.tests[name].notna().any()]]
    by_split = comparison.folds.pivot_table(index="split", columns="model", values=score, sort=False)
    per_class = comparison.per_class
    return render(
        "skastw.evaluation",
        "comparison.html",
        title=title,
        comparison=comparison,
        score=SCORE_NAMES[score],
        ranks=ranks,
        about={name: words for name, value in about.items() if (words := in_words(value))},
        scores=_plain_table(_score_columns(table, score), "model"),
        tests=_plain_table(tests, "model"),
        costs=_plain_table(_cost_columns(table), "model"),
        splits=_plain_table(
            by_split.reindex(columns=table.index.intersection(by_split.columns)).head(_MAX_ROWS), "split"
        ),
        classes=_plain_table(per_class.head(_MAX_ROWS), "class"),
        n_classes=len(per_class),
        failed=comparison.failures.to_numpy().tolist(),
        pictures=[
            (pictures[name], words) for name, words in zip(PICTURES, _COSTS.values(), strict=True) if name in pictures
        ],
    )


def _plain_table(frame: DataFrame, index: str) -> dict[str, list[Any]]:
    """Return a table for the page, without missing values."""
    return as_table(frame.astype(object).where(frame.notna(), None), {**SCORE_NAMES, **_TESTS}, index)


def _score_columns(table: DataFrame, score: str) -> DataFrame:
    """Return the scores, and the spread of one over the splits and, if there are several, over the seeds."""
    spreads = {"± splits": "fold_std", **({"± seeds": "seed_std"} if table["n_seeds"].max() > 1 else {})}
    columns = {SCORE_NAMES[name]: table[name] for name in SCORES}
    return DataFrame(columns | {words: table[f"{score}_{name}"] for words, name in spreads.items()})


def _cost_columns(table: DataFrame) -> DataFrame:
    """Return the costs in the units of their names."""
    factors = {"predict_seconds": 1e3, "latency": 1e3, "n_bytes": 1e-6}
    columns = {words: table[name] * factors.get(name, 1.0) for name, words in _COST_NAMES.items()}
    counts = [None if np.isnan(n) else round(n) for n in columns["parameters"]]
    return DataFrame(columns | {"parameters": np.array(counts, dtype=object)}, index=table.index)
