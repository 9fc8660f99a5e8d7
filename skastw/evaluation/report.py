"""An evaluation on disk: numbers for machines, predictions for tables, pictures, and a page for people."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw._optional import import_optional
from skastw.evaluation.page import facts, figure, page, paragraph, section, table, tiles
from skastw.evaluation.scores import SCORES

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from skastw.evaluation.evaluation import Evaluation

__all__ = ["save_report"]

_MATRIX, _CURVES, _GROUPS = PICTURES = ("confusion_matrix.png", "learning_curves.png", "group_scores.png")
#: Mistakes and groups that the page lists.
_MAX_MISTAKES, _MAX_GROUPS = 20, 30
#: Classes beyond which the numbers of a confusion matrix would be too small to read.
_MAX_NUMBERS = 20
_NAMES = {"macro_f1": "macro-F1", "uar": "UAR", "f1": "F1", "support": "clips", "n_clips": "clips"}


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
    target = Path(folder)
    pictures = _draw(evaluation)
    target.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:  # one that is not drawn now would tell of another model
        (target / name).unlink(missing_ok=True)
    for name, picture in pictures.items():
        picture.savefig(target / name, dpi=150)
    metrics = {**evaluation.to_dict(), "about": dict(about)}
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"
    (target / "metrics.json").write_text(text, encoding="utf-8")
    evaluation.predictions.to_csv(target / "predictions.csv", index=False)
    (target / "report.html").write_text(_page(evaluation, target, title, about, set(pictures)), encoding="utf-8")
    return str(target)


# ------------------------------------------------------------------ pictures


def _draw(evaluation: Evaluation) -> dict[str, Figure]:
    import_optional("matplotlib", extra="plot", purpose="Writing a report")
    pictures = {_MATRIX: _draw_matrix(evaluation)}
    if evaluation.history:
        from skastw.plots import LearningCurvesDisplay

        curves = _figure(10, 4)
        LearningCurvesDisplay(evaluation.history, best_epoch=evaluation.best_epoch or 1).plot(curves.subplots())
        pictures[_CURVES] = curves
    if evaluation.per_group is not None:
        from skastw.plots import GroupScoresDisplay

        shown = evaluation.predictions
        bars = _figure(7, min(12.0, max(3.0, 0.25 * len(evaluation.per_group) + 1.5)))
        GroupScoresDisplay.from_predictions(shown["label"], shown["predicted"], shown["group"], ax=bars.subplots())
        pictures[_GROUPS] = bars
    return pictures


def _figure(width: float, height: float) -> Figure:
    """Return a figure that is no part of the user's windows."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw_matrix(evaluation: Evaluation) -> Figure:
    """Draw how many clips of each class were taken for which, coloured by their share of the class."""
    from sklearn.metrics import ConfusionMatrixDisplay

    counts = evaluation.confusion_matrix
    n = len(counts)
    side = min(16.0, max(4.5, 0.55 * n + 1.5))
    picture = _figure(side, side)
    ax = picture.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    display = ConfusionMatrixDisplay(shares).plot(
        ax=ax, cmap="Blues", colorbar=False, include_values=n <= _MAX_NUMBERS, im_kw={"vmin": 0, "vmax": 1}
    )
    if display.text_ is not None:
        for text, count in zip(display.text_.flat, counts.flat, strict=True):
            text.set_text(str(count))
    size = float(np.clip(72 * side / (1.6 * n), 5, 10))
    names = [_short(label) for label in evaluation.labels.tolist()]
    ax.set_xticks(range(n), names, rotation=90 if n > 3 else 0, fontsize=size, parse_math=False)
    ax.set_yticks(range(n), names, fontsize=size, parse_math=False)
    ax.set(xlabel="predicted", ylabel="true")
    return picture


def _short(label: Any) -> str:
    text = " ".join(str(label).split())
    return text if len(text) <= 24 else f"{text[:23]}…"


# ------------------------------------------------------------------ the page


def _page(evaluation: Evaluation, folder: Path, title: str, about: Mapping[str, Any], pictures: set[str]) -> str:
    parts = [paragraph(_summary(evaluation)), _headline(evaluation)]
    if about:
        known = [(key, _in_words(value)) for key, value in about.items()]
        parts.append(section("About", facts([(key, words) for key, words in known if words])))
    parts.append(
        section(
            "Classes",
            paragraph("Rows are what the clips are, columns what they were taken for; dark is a large share of a row."),
            figure(folder / _MATRIX, "Confusion matrix"),
            _rows(evaluation.per_class.sort_values("recall", kind="stable"), "class"),
        )
    )
    if evaluation.per_group is not None:
        words = "The score of each group by itself, the worst first; a mean over all clips may hide them."
        if len(evaluation.per_group) > _MAX_GROUPS:
            words += f" {_MAX_GROUPS} of {len(evaluation.per_group)} are listed here, all in metrics.json."
        groups = evaluation.per_group.sort_values(["accuracy", "n_clips"], ascending=[True, False]).head(_MAX_GROUPS)
        picture = figure(folder / _GROUPS, "Scores of each group")
        parts.append(section("Groups", paragraph(words), picture, _rows(groups, "group")))
    if evaluation.per_fold is not None:
        words = "Each fold was predicted by a model that was trained on the others."
        parts.append(section("Folds", paragraph(words), _rows(evaluation.per_fold, "fold")))
    if _CURVES in pictures:
        words = f"The weights are those of epoch {evaluation.best_epoch} of {len(evaluation.history)}."
        parts.append(section("Training", paragraph(words), figure(folder / _CURVES, "Learning curves")))
    parts += [_mistakes(evaluation), *_failures(evaluation)]
    return page(title, *parts)


def _summary(evaluation: Evaluation) -> str:
    n_units = len(evaluation.predictions["group"].unique()) if evaluation.per_group is not None else None
    of_groups = "" if n_units is None else f" of {n_units} {'group' if n_units == 1 else 'groups'}"
    time = evaluation.seconds
    speed = f" Predicted in {time:.1f} s, {evaluation.n_clips / time:.1f} clips a second." if time else ""
    return f"{evaluation.n_clips} clips{of_groups}, {len(evaluation.labels)} classes.{speed}"


def _headline(evaluation: Evaluation) -> str:
    scores = [(_NAMES.get(name, name), getattr(evaluation, name), evaluation.intervals.get(name)) for name in SCORES]
    if not evaluation.intervals:
        words = "No intervals: there was nothing to resample."
    elif evaluation.resampled == "groups":
        words = (
            "The ranges hold 95 % of the scores when whole groups are drawn anew, as if other speakers or recordings "
            "of the same kind had been tested. With few groups they are too narrow."
        )
    else:
        words = (
            "The ranges hold 95 % of the scores when clips are drawn anew. Where clips share speakers or recordings, "
            "give groups: the ranges are wider then."
        )
    meaning = f"UAR is the mean of the classes' recalls; guessing reaches {1 / len(evaluation.labels):.3f}."
    return tiles(scores) + paragraph(f"{words} {meaning}")


def _mistakes(evaluation: Evaluation) -> str:
    wrong = evaluation.predictions[~evaluation.predictions["correct"]]
    if not len(wrong):
        return section("Mistakes", paragraph("None."))
    words = f"{len(wrong)} clips were taken for something else"
    if "probability" in wrong:
        wrong = wrong.sort_values("probability", ascending=False, kind="stable")
        words += ", the most certain first: listen to these for wrong labels and blind spots"
    shown = wrong.head(_MAX_MISTAKES).drop(columns="correct")
    rest = f" ({len(shown)} of them here, all in predictions.csv)" if len(wrong) > len(shown) else ""
    shown = shown.assign(clip=[_end_of_path(clip) for clip in shown["clip"]])
    return section("Mistakes", paragraph(f"{words}{rest}."), table(shown.columns, shown.to_numpy(object).tolist()))


def _end_of_path(clip: Any) -> str:
    """Return a file with the folder that it is in, which is enough to know it by."""
    return "/".join(PurePath(str(clip)).parts[-2:])


def _failures(evaluation: Evaluation) -> list[str]:
    if not evaluation.failed:
        return []
    words = f"{len(evaluation.failed)} clips could not be read; no score counts them."
    rows = [(clip.index, clip.path or "", clip.reason) for clip in evaluation.failed]
    return [section("Clips that failed", paragraph(words), table(("index", "file", "reason"), rows))]


def _rows(scores: DataFrame, name: str) -> str:
    header = [name, *(_NAMES.get(column, column) for column in scores.columns)]
    return table(header, [(str(label), *row) for label, row in zip(scores.index, _values(scores), strict=True)])


def _values(scores: DataFrame) -> list[list[Any]]:
    return scores.astype(object).to_numpy().tolist()


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_in_words(item)}" for key, item in value.items())
    return "; ".join(map(_in_words, value)) if isinstance(value, list | tuple) else str(value)
