"""An evaluation on disk: ``metrics.json``, ``predictions.csv``, pictures, and a page."""

from __future__ import annotations

import io
import json
import os
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.analysis.scores import SCORES
from skastw.artifact.folder import CONFIG, LABELS
from skastw.core.optional import import_optional
from skastw.core.templates import render
from skastw.core.text import listed, readable, readable_values
from skastw.errors import OutputError
from skastw.plots._canvas import shortened
from skastw.storage.outputs import check_file, check_folder, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from skastw.evaluation.evaluation import Evaluation

_METRICS, _PREDICTIONS, _PAGE = "metrics.json", "predictions.csv", "report.html"
_MATRIX, _CURVES, _GROUPS = PICTURES = ("confusion_matrix.png", "learning_curves.png", "group_scores.png")
#: File names of a report.
FILES = (_METRICS, _PREDICTIONS, _PAGE, *PICTURES)
#: Most mistakes and groups in the page.
_MAX_MISTAKES, _MAX_GROUPS = 20, 30
#: Pixels per inch of CSS.
_PIXELS_PER_INCH = 96
#: Smallest and largest letters in a picture (points), and the largest width that fits a wide screen (inches).
_SMALLEST, _LARGEST, _WIDE = 6.5, 10.0, 9.6
#: Most classes of a confusion matrix with numbers, and the colour of the name of an empty row.
_MAX_NUMBERS, _NO_CLIPS = 50, "0.65"
_NAMES = {"macro_f1": "macro-F1", "uar": "UAR", "f1": "F1", "support": "clips", "n_clips": "clips"}


def check_report(
    folder: str | os.PathLike[str], *, overwrite: bool, inputs: Iterable[Any] = (), others: Iterable[str] = ()
) -> None:
    """Raise an error if :func:`save_report` could not write its files into a folder.

    Parameters
    ----------
    folder : path
    overwrite : bool
        Whether existing files of a report may be replaced.
    inputs : iterable of paths, optional
        Input files, which must not be overwritten.
    others : iterable of str, optional
        Names of further results, which must not exist either.

    Raises
    ------
    OutputError
        If a file cannot be written, with its name and a remedy.
    MissingDependencyError
        Without the extra ``plot``.
    """
    _import_matplotlib()
    target, inputs = check_folder(folder), list(inputs)

    if all((target / name).exists() for name in (CONFIG, LABELS)):  # whose metrics.json must stay
        raise OutputError(
            f"Got output {str(target)!r}, which is the folder of a saved model, expected another folder; give one "
            "beside it."
        )
    existing = [name for name in (*others, *FILES) if os.path.lexists(target / name)]
    if existing and not overwrite:
        raise OutputError(
            f"Got output {str(target)!r}, which contains earlier results ({listed(existing)}), expected a folder "
            "without results: give another folder, or replace them with overwrite=True (on the command line: "
            "--overwrite)."
        )

    for name in FILES:
        check_file(target / name, inputs=inputs)


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
    check_report(folder, overwrite=True)
    target = Path(folder)
    title, about = readable(title), readable_values(about)

    # everything is computed before the first file is replaced
    metrics = {**evaluation.to_dict(), "about": dict(about)}
    pictures = {name: (_as_png(picture), picture.get_figwidth()) for name, picture in _draw(evaluation).items()}
    contents: dict[str, bytes | str] = {
        **{name: png for name, (png, _) in pictures.items()},
        _METRICS: json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n",
        _PREDICTIONS: evaluation.predictions.to_csv(index=False),
        _PAGE: _page(evaluation, title, about, pictures),
    }

    for name, content in contents.items():
        write_file(target / name, content)
    for name in set(PICTURES) - set(pictures):  # an old picture would belong to another evaluation
        (target / name).unlink(missing_ok=True)
    return str(target)


# ------------------------------------------------------------------ pictures


def _draw(evaluation: Evaluation) -> dict[str, Figure]:
    _import_matplotlib()
    pictures = {_MATRIX: _draw_matrix(evaluation)}

    if evaluation.history:
        from skastw.plots import LearningCurvesDisplay

        display = LearningCurvesDisplay(evaluation.history, best_epoch=evaluation.best_epoch or 1)
        curves = _figure(_WIDE if display.scores else 6, 4)  # two panels or one
        display.plot(curves.subplots())
        pictures[_CURVES] = curves

    if evaluation.per_group is not None:
        from skastw.plots import GroupScoresDisplay

        table = evaluation.predictions
        points = _figure(5, min(12.0, max(3.0, 0.25 * len(evaluation.per_group) + 1.5)))
        ax = points.subplots()
        GroupScoresDisplay.from_predictions(table["label"], table["predicted"], table["group"], ax=ax)
        ax.set_xlim(-0.03, 1.03)  # the full range, so that small differences look small
        pictures[_GROUPS] = points
    return pictures


def _import_matplotlib() -> None:
    import_optional("matplotlib", extra="plot", purpose="Writing a report")


def _as_png(picture: Figure) -> bytes:
    content = io.BytesIO()
    picture.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _figure(width: float, height: float) -> Figure:
    """Return a figure outside pyplot, which opens no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw_matrix(evaluation: Evaluation) -> Figure:
    """Draw the confusion matrix, coloured by the share of each true class."""
    counts = evaluation.confusion_matrix
    n = len(counts)
    names = [shortened(label) for label in evaluation.labels.tolist()]

    # a cell has 0.6 inches or, with many classes, its share of one screen, but at least 0.15 inches
    margin = 0.5 + _LARGEST / 120 * max(map(len, names))  # for the names: a letter is as wide as 0.6 of its size
    side = max(2.4, min(0.6 * n, max(_WIDE - margin, 0.15 * n), 24.0))
    cell = 72 * side / n  # points
    picture = _figure(side + margin, side + margin)
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


def _page(
    evaluation: Evaluation, title: str, about: Mapping[str, Any], pictures: Mapping[str, tuple[bytes, float]]
) -> str:
    """Return the page; ``pictures`` are PNG files with their widths (inches)."""
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
        scores=[(_NAMES.get(name, name), getattr(evaluation, name), evaluation.intervals.get(name)) for name in SCORES],
        about={name: words for name, value in about.items() if (words := _in_words(value))},
        classes=_table(evaluation.tested.sort_values("recall", kind="stable"), "class"),
        groups=None if groups is None else _table(groups, "group"),
        folds=None if evaluation.per_fold is None else _table(evaluation.per_fold, "fold"),
        mistakes=_table(worst),
        n_mistakes=len(mistakes),
        failed=[(clip.index, readable(clip.path or ""), readable(clip.reason)) for clip in evaluation.failed],
        pictures={
            name: {"png": b64encode(png).decode("ascii"), "width": round(_PIXELS_PER_INCH * width)}
            for name, (png, width) in pictures.items()
        },
    )


def _table(frame: DataFrame, index: str | None = None) -> dict[str, list[Any]]:
    """Return the header and the rows of a table, with its index if ``index`` is a heading for it."""
    rows = frame.astype(object).to_numpy().tolist()
    header = [_NAMES.get(column, column) for column in frame.columns]
    if index is None:
        return {"header": header, "rows": rows}
    return {
        "header": [index, *header],
        "rows": [[str(label), *row] for label, row in zip(frame.index, rows, strict=True)],
    }


def _in_words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_in_words(item)}" for key, item in value.items())
    return "; ".join(map(_in_words, value)) if isinstance(value, list | tuple) else str(value)
