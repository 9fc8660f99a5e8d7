"""Evaluating a model: scores with their intervals, classes, groups, every prediction; as values, files or a page."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.analysis.tables import clip_names
from skastw.audio import as_clips, is_array_input
from skastw.core.text import readable_values
from skastw.core.warn import ignored_warnings, warn_user
from skastw.data.failures import FailedClip
from skastw.errors import plain
from skastw.estimators.classifier import ASTWClassifier
from skastw.evaluation.scores import SCORES, class_scores, part_scores, score_intervals, total_scores
from skastw.targets.checks import check_complete, check_label_texts, check_label_types, group_array, numpy_targets

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Evaluation", "evaluate", "evaluate_predictions"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What predictions are worth.

    Attributes
    ----------
    accuracy, macro_f1, uar : float
        UAR is the unweighted average recall, which is the balanced accuracy.
    intervals : dict of str to (float, float)
        Bootstrap interval of 95 % of each of the three; empty where nothing can be resampled.
    resampled : {"clips", "groups"}
        What was drawn for them.
    n_clips : int
        Clips that were scored.
    labels : ndarray of shape (n_classes,)
        The classes that occur, as what a clip is or was taken for, sorted.
    untested : list
        Classes that could have been predicted and that no clip is of: no score tells how well they are recognised.
    per_class : DataFrame of shape (n_classes, 4)
        Columns ``precision``, ``recall``, ``f1``, ``support``.
    confusion_matrix : ndarray of shape (n_classes, n_classes), int
        Rows are what the clips are, columns what was predicted.
    predictions : DataFrame of n_clips rows
        Columns ``clip`` (file, or position), ``label``, ``predicted``, ``correct`` and, where known, ``probability`` of
        the prediction, ``group`` and ``fold``.
    per_group, per_fold : DataFrame or None
        Columns ``n_clips``, ``accuracy``, ``macro_f1``, ``uar``; None where there were no groups or folds.
    failed : list of FailedClip
        Clips that could not be read; no score counts them.
    seconds : float or None
        Time of predicting.
    history : list of dict
        One row for each epoch of training, where the estimator has it.
    best_epoch : int or None
        The epoch whose weights were kept.
    trained_on : bool
        Whether the estimator was fitted on these very clips: the scores then tell what it remembers.
    """

    accuracy: float
    macro_f1: float
    uar: float
    intervals: dict[str, tuple[float, float]]
    resampled: str
    n_clips: int
    labels: np.ndarray
    per_class: DataFrame
    confusion_matrix: np.ndarray
    predictions: DataFrame
    untested: list[Any] = field(default_factory=list)
    per_group: DataFrame | None = None
    per_fold: DataFrame | None = None
    failed: list[FailedClip] = field(default_factory=list)
    seconds: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    trained_on: bool = False

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {getattr(self, name):.3f}{_brackets(self.intervals.get(name))}" for name in SCORES)
        classes = f" of {self.n_tested} of {self.n_known} classes" if self.untested else ""
        return f"{scores} on {self.n_clips} {'training ' * self.trained_on}clips{classes}"

    @property
    def n_tested(self) -> int:
        """Number of classes that clips are of."""
        return int((self.per_class["support"] > 0).sum())

    @property
    def n_known(self) -> int:
        """Number of classes that a clip could be taken for."""
        return self.n_tested + len(self.untested)

    @property
    def notes(self) -> list[str]:
        """What to know before the scores are believed, a sentence or two each; often nothing."""
        found = []
        if self.trained_on:
            found.append(
                "The model was trained on these very clips: the scores tell what it remembers, and not what it reaches "
                "on new ones."
            )
        if self.untested:
            more = len(self.untested) - 10
            shown = ", ".join(map(str, self.untested[:10])) + (f" and {more} more" if more > 0 else "")
            taken = len(np.intersect1d(self.labels, self.untested))
            found.append(
                f"{len(self.untested)} of {self.n_known} classes have no clip here, and no score tells how well they "
                f"are recognised: {shown}."
                + (f" Clips were taken for {taken} of them; each counts as 0 in macro-F1." if taken else "")
            )
        if self.per_group is not None and len(self.per_group) < 2:
            found.append(
                "There are no intervals: they come from drawing whole groups anew, which needs at least two groups, "
                "and all clips are of one."
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the single predictions and the history, as JSON values.

        Returns
        -------
        dict
        """
        tables = {"per_class": self.per_class, "per_group": self.per_group, "per_fold": self.per_fold}
        return {
            "n_clips": self.n_clips,
            **{name: getattr(self, name) for name in SCORES},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "resampled": self.resampled,
            "notes": self.notes,
            "trained_on": self.trained_on,
            "untested": self.untested,
            **{name: None if table is None else _rows(table) for name, table in tables.items()},
            "labels": self.labels.tolist(),
            "confusion_matrix": self.confusion_matrix.tolist(),
            "failed": [readable_values(asdict(clip)) for clip in self.failed],
            "seconds": self.seconds,
        }

    def save(
        self, folder: str | os.PathLike[str], *, title: str = "Evaluation", about: Mapping[str, Any] | None = None
    ) -> str:
        """Write ``metrics.json``, ``predictions.csv``, pictures and ``report.html``, a page that needs no network.

        The pictures are ``confusion_matrix.png``, with a history ``learning_curves.png``, and with groups
        ``group_scores.png``. Needs the extra ``plot``.

        Parameters
        ----------
        folder : path
            Made if missing. Files of these names in it are replaced, each in one step; others stay as they are.
        title : str, default="Evaluation"
            Of the page.
        about : mapping of str to JSON values, optional
            What to tell of the model and the clips, in the page and under ``about`` in ``metrics.json``.

        Returns
        -------
        str
            The folder.

        Raises
        ------
        MissingDependencyError
            Without the extra ``plot``.
        OutputError
            If a file cannot be written; it is then unchanged.
        """
        from skastw.evaluation.report import save_report

        return save_report(self, folder, title=title, about=about or {})


def evaluate_predictions(
    y_true: Any,
    y_pred: Any,
    *,
    groups: Any = None,
    folds: Any = None,
    clips: Sequence[Any] | None = None,
    probabilities: Any = None,
    classes: Any = None,
    n_bootstrap: int = 2000,
    random_state: Any = 0,
) -> Evaluation:
    """Score predictions that are there already.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_clips,)
        What the clips are, and what was predicted: one label a clip.
    groups : array-like of shape (n_clips,), optional
        Speaker or recording of each clip: each is scored by itself, and intervals come from resampling whole groups.
    folds : array-like of shape (n_clips,), optional
        Which model of a cross-validation predicted each clip.
    clips : sequence of n_clips files or names, optional
        What to call the clips; by default their positions.
    probabilities : array-like of shape (n_clips,), optional
        Of each prediction.
    classes : array-like of shape (n_classes,), optional
        All that could have been predicted, to tell which of them no clip is of; by default those that were.
    n_bootstrap : int, default=2000
        Resamples behind each interval; 0 for none.
    random_state : int, RandomState or None, default=0
        Of the resampling.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If the lengths differ, there are no clips, or y holds anything but one label a clip.

    Examples
    --------
    >>> from skastw.evaluation import evaluate_predictions
    >>> result = evaluate_predictions(["cat", "cat", "dog", "dog"], ["cat", "dog", "dog", "dog"], n_bootstrap=0)
    >>> print(result)
    accuracy 0.750, macro_f1 0.733, uar 0.750 on 4 clips
    >>> result.per_class.loc["dog", "precision"].round(3)
    np.float64(0.667)
    """
    import pandas as pd
    from sklearn.metrics import confusion_matrix
    from sklearn.utils import check_consistent_length
    from sklearn.utils.multiclass import unique_labels

    truth, predicted = _labels_of(y_true, "y_true"), _labels_of(y_pred, "y_pred")
    columns = {"probability": probabilities, "group": group_array(groups), "fold": folds}
    given = {name: np.asarray(values) for name, values in columns.items() if values is not None}
    names = readable_values(list(range(len(truth)) if clips is None else clips))
    check_consistent_length(truth, predicted, names, *given.values())
    labels = unique_labels(truth, predicted)
    groups, folds = given.get("group"), given.get("fold")
    scores = total_scores(truth, predicted)
    known = predicted if classes is None else np.union1d(predicted, classes)
    with ignored_warnings("A single label was found"):  # that is told by the numbers
        matrix = confusion_matrix(truth, predicted, labels=labels)
    return Evaluation(
        accuracy=scores["accuracy"],
        macro_f1=scores["macro_f1"],
        uar=scores["uar"],
        intervals=score_intervals(truth, predicted, groups=groups, n_bootstrap=n_bootstrap, random_state=random_state),
        resampled="clips" if groups is None else "groups",
        n_clips=len(truth),
        labels=labels,
        per_class=class_scores(truth, predicted, labels),
        confusion_matrix=matrix,
        predictions=pd.DataFrame(
            {"clip": names, "label": truth, "predicted": predicted, "correct": truth == predicted, **given}
        ),
        untested=plain(np.setdiff1d(known, truth)),
        per_group=None if groups is None else part_scores(truth, predicted, groups, "group"),
        per_fold=None if folds is None else part_scores(truth, predicted, folds, "fold"),
    )


def evaluate(
    estimator: Any, X: Any, y: Any, *, groups: Any = None, n_bootstrap: int = 2000, random_state: Any = 0
) -> Evaluation:
    """Predict clips whose labels are known, and score the predictions.

    Parameters
    ----------
    estimator : fitted classifier
        An :class:`~skastw.ASTWClassifier`, or anything of scikit-learn that predicts from clips, such as a pipeline.
    X : sequence of clips, or ndarray of shape (n_clips, n_samples)
        None of them may have trained the estimator, or the scores say nothing. This is noticed where they are all the
        clips of ``fit``, or all that trained or that validated; of a part, or of more, it is not.
    y : array-like of shape (n_clips,)
        What they are: one label a clip.
    groups : array-like of shape (n_clips,), optional
        Speaker or recording of each clip; see :func:`evaluate_predictions`.
    n_bootstrap : int, default=2000
        Resamples behind each interval; 0 for none.
    random_state : int, RandomState or None, default=0
        Of the resampling.

    Returns
    -------
    Evaluation
        Clips that cannot be read are listed in ``failed`` where the estimator's ``on_error`` leaves them out.

    Raises
    ------
    ClipError
        If a clip cannot be used and ``on_error`` is ``"raise"``.
    ValueError
        If no clip is left, the lengths differ, y holds anything but one label a clip, or no label that the estimator
        knows.

    Warns
    -----
    UserWarning
        If y holds labels that the estimator does not know, and cannot get right.

    Examples
    --------
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from skastw import ASTWFeaturizer
    >>> from skastw.datasets import make_tones
    >>> from skastw.evaluation import evaluate
    >>> clips, y = make_tones(n_clips=40, random_state=0)
    >>> model = make_pipeline(ASTWFeaturizer(output="statistics"), KNeighborsClassifier(1)).fit(clips[:20], y[:20])
    >>> evaluate(model, clips[20:], y[20:]).confusion_matrix.sum()
    np.int64(20)
    """
    clips = X if is_array_input(X) else as_clips(X)
    truth, classes = _labels_of(y, "y"), getattr(estimator, "classes_", None)
    groups = group_array(groups)
    _check_known(truth, classes)
    began = time.perf_counter()
    predicted, probabilities = _predict(estimator, X)
    seconds = time.perf_counter() - began
    # failed_ is of this prediction only where clips may be left out
    failed = estimator.failed_ if getattr(estimator, "on_error", "raise") != "raise" else []
    names = np.array(clip_names(clips), dtype=object)
    heard = np.setdiff1d(np.arange(len(names)), [clip.index for clip in failed])
    if len(predicted) != len(truth):
        raise ValueError(f"Got {len(truth)} labels in y for {len(predicted)} clips in X, expected one a clip.")
    result = evaluate_predictions(
        truth[heard],
        _labels_of(predicted[heard], "the predictions"),
        groups=None if groups is None else groups[heard],
        clips=names[heard].tolist(),
        probabilities=None if probabilities is None else probabilities[heard],
        classes=classes,
        n_bootstrap=n_bootstrap,
        random_state=random_state,
    )
    return replace(
        result,
        failed=failed,
        seconds=seconds,
        history=getattr(estimator, "history_", []),
        best_epoch=getattr(estimator, "best_epoch_", None),
        trained_on=isinstance(estimator, ASTWClassifier) and estimator._was_fitted_on(X, heard),
    )


def _check_known(truth: np.ndarray, classes: Any) -> None:
    """Raise where a classifier knows none of the labels, and warn where it does not know some."""
    if classes is None:
        return
    known, found = plain(np.asarray(classes)), plain(np.unique(truth))
    foreign = [label for label in found if label not in known]
    if not foreign:
        return
    told = f"Got clips of {foreign[:5]}, which the classifier does not know: its classes are {known[:10]}"
    if len(foreign) == len(found):
        raise ValueError(f"{told}. Give the labels that it was trained with.")
    warn_user(f"{told}; these clips can only be wrong.")


def _predict(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the label of each clip and, where one pass tells, its probability."""
    if isinstance(estimator, ASTWClassifier) and estimator.task_ == "classification":
        probabilities = estimator.predict_proba(X)
        return estimator.classes_[probabilities.argmax(axis=1)], probabilities.max(axis=1)
    return np.asarray(estimator.predict(X)), None


def _labels_of(values: Any, name: str) -> np.ndarray:
    from sklearn.utils import column_or_1d
    from sklearn.utils.multiclass import type_of_target

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


def _brackets(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"


def _rows(table: DataFrame) -> list[dict[str, Any]]:
    """Return a table as JSON: one object for each row, its index among the values."""
    return [{str(name): value for name, value in row.items()} for row in table.reset_index().to_dict(orient="records")]
