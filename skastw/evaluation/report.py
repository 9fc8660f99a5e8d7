"""An evaluation on disk: numbers for machines, predictions for tables, pictures, and a page for people."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.artifact.folder import CONFIG, LABELS
from skastw.core.optional import import_optional
from skastw.core.text import readable, readable_values
from skastw.errors import OutputError
from skastw.evaluation.page import facts, figure, note, page, paragraph, section, table, tiles
from skastw.evaluation.scores import SCORES
from skastw.plots._canvas import shortened
from skastw.storage.outputs import check_file, check_folder, write_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from skastw.evaluation.evaluation import Evaluation

__all__ = ["FILES", "check_report", "save_report"]

_METRICS, _PREDICTIONS, _PAGE = "metrics.json", "predictions.csv", "report.html"
_MATRIX, _CURVES, _GROUPS = PICTURES = ("confusion_matrix.png", "learning_curves.png", "group_scores.png")
#: Names of the files of a report.
FILES = (_METRICS, _PREDICTIONS, _PAGE, *PICTURES)
#: Mistakes and groups that the page lists.
_MAX_MISTAKES, _MAX_GROUPS = 20, 30
#: Letters of a picture (points), and the width of one that a wide screen shows whole (inches).
_SMALLEST, _LARGEST, _WIDE = 6.5, 10.0, 9.6
#: Classes beyond which a confusion matrix has no numbers; colour of the name of a row that is empty.
_MAX_NUMBERS, _NO_CLIPS = 50, "0.65"
_NAMES = {"macro_f1": "macro-F1", "uar": "UAR", "f1": "F1", "support": "clips", "n_clips": "clips"}


def check_report(
    folder: str | os.PathLike[str], *, overwrite: bool, inputs: Iterable[Any] = (), others: Iterable[str] = ()
) -> None:
    """Raise unless :func:`save_report` can write its files into a folder, before there is anything to report.

    Parameters
    ----------
    folder : path
    overwrite : bool
        Whether files of a report that are there may be replaced.
    inputs : iterable of paths, optional
        Files that are read, which none of the report may be.
    others : iterable of str, optional
        Names of further files and folders that are results.

    Raises
    ------
    OutputError
        Naming what is in the way and what to do.
    MissingDependencyError
        Without the extra ``plot``.
    """
    _import_matplotlib()
    target, inputs = check_folder(folder), list(inputs)
    if all((target / name).exists() for name in (CONFIG, LABELS)):  # and its metrics.json is a part of it
        raise OutputError(
            f"Got output {str(target)!r}, which is the folder of a saved model, expected another folder; give one "
            "beside it."
        )
    existing = [name for name in (*others, *FILES) if os.path.lexists(target / name)]
    if existing and not overwrite:
        listed = ", ".join(existing[:3]) + ", ..." * (len(existing) > 3)
        raise OutputError(
            f"Got output {str(target)!r}, which already holds results ({listed}), expected a folder without any; give "
            "another folder, or set overwrite=True to replace them."
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
    metrics = {**evaluation.to_dict(), "about": dict(about)}
    pictures = {name: (_as_png(picture), picture.get_figwidth()) for name, picture in _draw(evaluation).items()}
    contents: dict[str, bytes | str] = {
        **{name: png for name, (png, _) in pictures.items()},
        _METRICS: json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n",
        _PREDICTIONS: evaluation.predictions.to_csv(index=False),
        _PAGE: _page(evaluation, title, about, pictures),
    }

    # everything is computed before the first file is replaced
    for name, content in contents.items():
        write_file(target / name, content)
    for name in set(PICTURES) - set(pictures):  # one that is not drawn now would tell of another model
        (target / name).unlink(missing_ok=True)
    return str(target)


# ------------------------------------------------------------------ pictures


def _draw(evaluation: Evaluation) -> dict[str, Figure]:
    _import_matplotlib()
    pictures = {_MATRIX: _draw_matrix(evaluation)}
    if evaluation.history:
        from skastw.plots import LearningCurvesDisplay

        display = LearningCurvesDisplay(evaluation.history, best_epoch=evaluation.best_epoch or 1)
        curves = _figure(_WIDE if display.scores else 6, 4)  # of two panels or one
        display.plot(curves.subplots())
        pictures[_CURVES] = curves
    if evaluation.per_group is not None:
        from skastw.plots import GroupScoresDisplay

        shown = evaluation.predictions
        points = _figure(5, min(12.0, max(3.0, 0.25 * len(evaluation.per_group) + 1.5)))
        ax = points.subplots()
        GroupScoresDisplay.from_predictions(shown["label"], shown["predicted"], shown["group"], ax=ax)
        ax.set_xlim(-0.03, 1.03)  # a difference of two clips is not to look like one of two worlds
        pictures[_GROUPS] = points
    return pictures


def _import_matplotlib() -> None:
    import_optional("matplotlib", extra="plot", purpose="Writing a report")


def _as_png(picture: Figure) -> bytes:
    content = io.BytesIO()
    picture.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _figure(width: float, height: float) -> Figure:
    """Return a figure that is no part of the user's windows."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw_matrix(evaluation: Evaluation) -> Figure:
    """Draw how many clips of each class were taken for which, coloured by their share of the class."""
    counts = evaluation.confusion_matrix
    n = len(counts)
    names = [shortened(label) for label in evaluation.labels.tolist()]
    room = 0.5 + _LARGEST / 120 * max(map(len, names))  # inches beside the cells, where a letter is 0.6 of its size
    # a cell has 0.6 inches or, of many classes, what one screen gives it, and not below 0.15
    side = max(2.4, min(0.6 * n, max(_WIDE - room, 0.15 * n), 24.0))
    cell = 72 * side / n  # points
    picture = _figure(side + room, side + room)
    ax = picture.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = min(_LARGEST, 0.65 * cell, 1.4 * cell / len(str(counts.max())))
    if n <= _MAX_NUMBERS and size >= _SMALLEST:
        for i, j in np.argwhere(counts):
            colour = "white" if shares[i, j] > 0.5 else "black"
            ax.text(j, i, str(counts[i, j]), ha="center", va="center", fontsize=size, color=colour)
    size = float(np.clip(0.75 * cell, _SMALLEST, _LARGEST))
    shown = range(0, n, int(np.ceil(1.17 * size / cell)))  # a line of text is so much higher than its size
    for axis, rotation in ((ax.xaxis, 90 if n > 3 else 0), (ax.yaxis, 0)):
        axis.set_ticks(shown, [names[i] for i in shown], rotation=rotation, fontsize=size, parse_math=False)
    for i, name in zip(shown, ax.get_yticklabels(), strict=True):
        name.set_color("black" if counts[i].any() else _NO_CLIPS)
    ax.set(xlabel="predicted", ylabel="true")
    return picture


# ------------------------------------------------------------------ the page


def _page(
    evaluation: Evaluation, title: str, about: Mapping[str, Any], pictures: Mapping[str, tuple[bytes, float]]
) -> str:
    """Return the page; ``pictures`` are PNG files with their widths in inches."""

    def shown(name: str, description: str) -> str:
        png, inches = pictures[name]
        return figure(png, description, inches=inches)

    parts = [paragraph(_summary(evaluation)), *map(note, evaluation.notes), _headline(evaluation)]
    if about:
        known = [(key, _in_words(value)) for key, value in about.items()]
        parts.append(section("About", facts([(key, words) for key, words in known if words])))
    tested = evaluation.per_class[evaluation.per_class["support"] > 0]
    parts.append(
        section(
            "Classes",
            paragraph(
                "How many clips of each class, the rows, were taken for which, the columns; dark is a large share of a "
                "row"
                + (", and the name of a row without clips is grey" if evaluation.untested else "")
                + ". Below, the class that is recognised worst comes first."
            ),
            shown(_MATRIX, "Confusion matrix"),
            _rows(tested.sort_values("recall", kind="stable"), "class"),
        )
    )
    if evaluation.per_group is not None:
        words = "The score of each group by itself, the worst first; a mean over all clips may hide them."
        if len(evaluation.per_group) > _MAX_GROUPS:
            words += f" {_MAX_GROUPS} of {len(evaluation.per_group)} are listed here, all in metrics.json."
        groups = evaluation.per_group.sort_values(["accuracy", "n_clips"], ascending=[True, False]).head(_MAX_GROUPS)
        picture = [shown(_GROUPS, "Scores of each group")] if len(evaluation.per_group) > 1 else []
        parts.append(section("Groups", paragraph(words), *picture, _rows(groups, "group")))
    if evaluation.per_fold is not None:
        words = "Each fold was predicted by a model that was trained on the others."
        parts.append(section("Folds", paragraph(words), _rows(evaluation.per_fold, "fold")))
    if _CURVES in pictures:
        words = f"The weights are those of epoch {evaluation.best_epoch} of {len(evaluation.history)}."
        parts.append(section("Training", paragraph(words), shown(_CURVES, "Learning curves")))
    parts += [_mistakes(evaluation), *_failures(evaluation)]
    return page(title, *parts)


def _summary(evaluation: Evaluation) -> str:
    n_units = len(evaluation.predictions["group"].unique()) if evaluation.per_group is not None else None
    of_groups = "" if n_units is None else f" of {_counted(n_units, 'group')}"
    classes = f"{evaluation.n_tested} of " * bool(evaluation.untested) + _counted(evaluation.n_known, "class")
    time = evaluation.seconds
    speed = f" Predicted in {time:.1f} s, {evaluation.n_clips / time:.1f} clips a second." if time else ""
    return f"{_counted(evaluation.n_clips, 'clip')}{of_groups}, {classes}.{speed}"


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{'es' if noun.endswith('s') else 's'}"


def _headline(evaluation: Evaluation) -> str:
    scores = [(_NAMES.get(name, name), getattr(evaluation, name), evaluation.intervals.get(name)) for name in SCORES]
    if not evaluation.intervals:
        words = ""  # a note says why, or nobody asked for them
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
    meaning = (
        "Accuracy is the share of clips that were recognised, macro-F1 the mean of the classes' F1, UAR that of their "
        f"recalls; guessing among {evaluation.n_known} classes reaches a UAR of {1 / evaluation.n_known:.3f}."
    )
    return tiles(scores) + paragraph(f"{meaning} {words}".rstrip())


def _mistakes(evaluation: Evaluation) -> str:
    wrong = evaluation.predictions[~evaluation.predictions["correct"]]
    if not len(wrong):
        return section("Mistakes", paragraph("None."))
    words = f"{_counted(len(wrong), 'clip')} {'was' if len(wrong) == 1 else 'were'} taken for something else"
    if "probability" in wrong:
        wrong = wrong.sort_values("probability", ascending=False, kind="stable")
        words += ", the most certain first: listen to these for wrong labels and blind spots"
    shown = wrong.head(_MAX_MISTAKES).drop(columns="correct")
    rest = f" ({len(shown)} of them here, all in predictions.csv)" if len(wrong) > len(shown) else ""
    shown = shown.assign(clip=[_end_of_path(clip) for clip in shown["clip"]])
    return section(
        "Mistakes", paragraph(f"{words}{rest}."), table(list(map(str, shown.columns)), shown.to_numpy(object).tolist())
    )


def _end_of_path(clip: Any) -> str:
    """Return a file with the folder that it is in, which is enough to know it by."""
    return "/".join(PurePath(str(clip)).parts[-2:])


def _failures(evaluation: Evaluation) -> list[str]:
    if not evaluation.failed:
        return []
    words = f"{_counted(len(evaluation.failed), 'clip')} could not be read and counted by no score."
    rows = [(clip.index, readable(clip.path or ""), readable(clip.reason)) for clip in evaluation.failed]
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
