"""An evaluation on disk: ``metrics.json``, ``predictions.csv``, pictures, and a page."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.analysis.scores import SCORE_NAMES, SCORES
from skastw.core.templates import render
from skastw.core.text import readable, readable_values
from skastw.evaluation.pages import (
    Picture,
    as_pictures,
    as_table,
    check_results,
    import_matplotlib,
    in_words,
    new_figure,
    write_results,
)
from skastw.plots._canvas import shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skastw.evaluation.evaluation import Evaluation

_METRICS, _PREDICTIONS, _PAGE = "metrics.json", "predictions.csv", "report.html"
_MATRIX, _CURVES, _GROUPS = PICTURES = ("confusion_matrix.png", "learning_curves.png", "group_scores.png")
#: File names of a report.
FILES = (_METRICS, _PREDICTIONS, _PAGE, *PICTURES)
#: Most mistakes and groups in the page.
_MAX_MISTAKES, _MAX_GROUPS = 20, 30
#: Smallest and largest letters in a picture (points), and the largest width that fits a wide screen (inches).
_SMALLEST, _LARGEST, _WIDE = 6.5, 10.0, 9.6
#: Most classes of a confusion matrix with numbers, and the colour of the name of an empty row.
_MAX_NUMBERS, _NO_CLIPS = 50, "0.65"
_NAMES = {**SCORE_NAMES, "f1": "F1", "support": "clips", "n_clips": "clips"}


def save_report(evaluation: Evaluation, folder: str | os.PathLike[str], *, title: str, about: Mapping[str, Any]) -> str:
    """Write the files of :meth:`skastw.evaluation.Evaluation.save`.

    Parameters
    ----------
    evaluation : Evaluation
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
    metrics = {**evaluation.to_dict(), "about": dict(about)}
    pictures = as_pictures(_draw(evaluation))
    contents: dict[str, bytes | str] = {
        **{name: picture.content for name, picture in pictures.items()},
        _METRICS: json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n",
        _PREDICTIONS: evaluation.predictions.to_csv(index=False),
        _PAGE: _page(evaluation, title, about, pictures),
    }
    return write_results(folder, contents, PICTURES)


# ------------------------------------------------------------------ pictures


def _draw(evaluation: Evaluation) -> dict[str, Figure]:
    import_matplotlib()
    pictures = {_MATRIX: _draw_matrix(evaluation)}

    if evaluation.history:
        from skastw.plots import LearningCurvesDisplay

        display = LearningCurvesDisplay(evaluation.history, best_epoch=evaluation.best_epoch or 1)
        curves = new_figure(_WIDE if display.scores else 6, 4)  # two panels or one
        display.plot(curves.subplots())
        pictures[_CURVES] = curves

    if evaluation.per_group is not None:
        from skastw.plots import GroupScoresDisplay

        table = evaluation.predictions
        points = new_figure(5, min(12.0, max(3.0, 0.25 * len(evaluation.per_group) + 1.5)))
        ax = points.subplots()
        GroupScoresDisplay.from_predictions(table["label"], table["predicted"], table["group"], ax=ax)
        ax.set_xlim(-0.03, 1.03)  # the full range, so that small differences look small
        pictures[_GROUPS] = points
    return pictures


def _draw_matrix(evaluation: Evaluation) -> Figure:
    """Draw the confusion matrix, coloured by the share of each true class."""
    counts = evaluation.confusion_matrix
    n = len(counts)
    names = [shortened(label) for label in evaluation.labels.tolist()]

    # a cell has 0.6 inches or, with many classes, its share of one screen, but at least 0.15 inches
    margin = 0.5 + _LARGEST / 120 * max(map(len, names))  # for the names: a letter is as wide as 0.6 of its size
    side = max(2.4, min(0.6 * n, max(_WIDE - margin, 0.15 * n), 24.0))
    cell = 72 * side / n  # points
    picture = new_figure(side + margin, side + margin)
    ax = picture.subplots()

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = min(_LARGEST, 0.65 * cell, 1.4 * cell / len(str(counts.max())))
    if n <= _MAX_NUMBERS and size >= _SMALLEST:
        for i, j in np.argwhere(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            ax.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=size, color=colour)

    # of too many names, every second or so is written
    size = float(np.clip(0.75 * cell, _SMALLEST, _LARGEST))
    ticks = range(0, n, int(np.ceil(1.17 * size / cell)))  # 1.17: height of a line of text, in sizes
    for axis, rotation in ((ax.xaxis, 90 if n > 3 else 0), (ax.yaxis, 0)):
        axis.set_ticks(ticks, [names[i] for i in ticks], rotation=rotation, fontsize=size, parse_math=False)
    for i, name in zip(ticks, ax.get_yticklabels(), strict=True):
        name.set_color("black" if counts[i].any() else _NO_CLIPS)
    ax.set(xlabel="predicted", ylabel="true")
    return picture


# ------------------------------------------------------------------ the page


def _page(evaluation: Evaluation, title: str, about: Mapping[str, Any], pictures: Mapping[str, Picture]) -> str:
    groups = evaluation.per_group
    if groups is not None:
        groups = groups.sort_values(["accuracy", "n_clips"], ascending=[True, False]).head(_MAX_GROUPS)

    mistakes = evaluation.predictions[~evaluation.predictions["correct"]].drop(columns="correct")
    if "probability" in mistakes:
        mistakes = mistakes.sort_values("probability", ascending=False, kind="stable")
    worst = mistakes.head(_MAX_MISTAKES)
    worst = worst.assign(clip=["/".join(PurePath(str(clip)).parts[-2:]) for clip in worst["clip"]])

    return render(
        "skastw.evaluation",
        "report.html",
        title=title,
        evaluation=evaluation,
        scores=[(SCORE_NAMES[name], getattr(evaluation, name), evaluation.intervals.get(name)) for name in SCORES],
        about={name: words for name, value in about.items() if (words := in_words(value))},
        classes=as_table(evaluation.tested.sort_values("recall", kind="stable"), _NAMES, "class"),
        groups=None if groups is None else as_table(groups, _NAMES, "group"),
        folds=None if evaluation.per_fold is None else as_table(evaluation.per_fold, _NAMES, "fold"),
        mistakes=as_table(worst, _NAMES),
        n_mistakes=len(mistakes),
        failed=[(clip.index, readable(clip.path or ""), readable(clip.reason)) for clip in evaluation.failed],
        pictures=pictures,
    )
