"""Evaluation of a model: scores with intervals, for classes and groups too, as values, files or a page."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from pandas import DataFrame
from sklearn.metrics import confusion_matrix
from sklearn.utils import check_consistent_length
from sklearn.utils.multiclass import unique_labels

from skastw.analysis.scores import SCORES, class_scores, part_scores, score_intervals, total_scores
from skastw.analysis.tables import clip_names
from skastw.audio import as_clips, is_array_input
from skastw.core.parameters import take_params
from skastw.core.templates import summary
from skastw.core.text import aligned, readable_values
from skastw.core.warn import ignored_warnings, warn_user
from skastw.data.extraction import check_clips
from skastw.data.failures import FailedClip, FailedClips, left_out
from skastw.errors import DataError, plain
from skastw.estimators.classifier import ASTWClassifier
from skastw.network.inference import InferenceParams, was_trained_on
from skastw.targets.checks import group_array, label_array

#: Classes in the short table of an evaluation, and letters of their names.
_SHOWN, _LONGEST = 6, 40
#: Equal scores of fewer groups are likely even if the scores of groups differ.
_FEW_GROUPS = 5


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Scores of predictions, with their uncertainty.

    Attributes
    ----------
    accuracy, macro_f1, uar : float
        Scores of all clips. UAR is the unweighted average recall, also called balanced accuracy.
    intervals : dict of str to (float, float)
        Bootstrap interval of 95 % of each score; empty without resampling.
    resampled : {"clips", "groups"}
        Unit of the resampling.
    n_clips : int
        Number of scored clips.
    labels : ndarray of shape (n_classes,)
        Sorted classes, each the label or the prediction of at least one clip.
    untested : list
        Classes that could have been predicted but are not the label of any clip. The scores do not show how well they
        are recognised.
    per_class : DataFrame of shape (n_classes, 4)
        Columns ``precision``, ``recall``, ``f1``, ``support``.
    confusion_matrix : ndarray of shape (n_classes, n_classes), int
        Rows are true classes, columns are predicted classes.
    predictions : DataFrame of n_clips rows
        Columns ``clip`` (file or position), ``label``, ``predicted``, ``correct`` and, if known, ``probability`` of the
        prediction, ``group`` and ``fold``.
    per_group, per_fold : DataFrame or None
        Columns ``n_clips``, ``accuracy``, ``macro_f1``, ``uar``; None without groups or folds.
    failed : list of FailedClip
        Clips that could not be read; the scores do not include them.
    seconds : float or None
        Time of prediction (s).
    history : list of dict
        One row for each epoch of training, if the estimator has them.
    best_epoch : int or None
        Epoch of the selected weights.
    trained_on : bool
        Whether the estimator was fitted on these clips, so that the scores do not apply to new clips.
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
    failed: list[FailedClip] = field(default_factory=FailedClips)
    seconds: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    trained_on: bool = False

    def __str__(self) -> str:
        scores = ", ".join(f"{name} {getattr(self, name):.3f}{_brackets(self.intervals.get(name))}" for name in SCORES)
        classes = f" of {self.n_tested} of {self.n_known} classes" if self.untested else ""
        return f"{scores} on {self.n_clips} {'training ' * self.trained_on}clips{classes}"

    def __repr__(self) -> str:
        header, rows = self._hardest()
        remarks = (f"* {note}" for note in self._remarks())
        return "\n".join([str(self), *remarks, *aligned([header, *rows], "<>>>>")])

    def _repr_html_(self) -> str:
        header, rows = self._hardest()
        return summary(str(self), header=header, rows=rows, notes=self._remarks())

    def _hardest(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return the header and the rows of a table of the classes with the lowest recall."""
        tested = self.tested.sort_values("recall", kind="stable").head(_SHOWN)
        rows = [
            (" ".join(str(label).split())[:_LONGEST], *(f"{score:.3f}" for score in scores), str(support))
            for label, *scores, support in tested.itertuples()
        ]
        return ("class", "precision", "recall", "F1", "clips"), rows

    def _remarks(self) -> list[str]:
        """Return the notes, the number of clips that could not be read, and how many classes a table leaves out."""
        n_failed = len(self.failed)
        unread = [f"{n_failed} clip{'s' * (n_failed > 1)} could not be read; see failed."] * bool(n_failed)
        others = f"The table has the {_SHOWN} classes with the lowest recall; per_class has {self.n_tested}."
        return [*self.notes, *unread, *[others] * (self.n_tested > _SHOWN)]

    @property
    def tested(self) -> DataFrame:
        """The rows of ``per_class`` of classes with clips."""
        return self.per_class[self.per_class["support"] > 0]

    @property
    def n_tested(self) -> int:
        """Number of classes with clips."""
        return len(self.tested)

    @property
    def n_known(self) -> int:
        """Number of classes that could be predicted."""
        return self.n_tested + len(self.untested)

    @property
    def notes(self) -> list[str]:
        """Limits of the scores, in one or two sentences each; often none."""
        notes = []
        if self.trained_on:
            notes.append(
                "The model was trained on these very clips: the scores do not show how well it works on new clips."
            )

        if self.untested:
            more = len(self.untested) - 10
            names = ", ".join(map(str, self.untested[:10])) + (f" and {more} more" if more > 0 else "")
            predicted = len(np.intersect1d(self.labels, self.untested))
            notes.append(
                f"{len(self.untested)} of {self.n_known} classes have no clip here, so the scores do not show how well "
                f"they are recognised: {names}."
                + (
                    f" {predicted} of them were predicted for clips of other classes; each counts as 0 in macro-F1."
                    if predicted
                    else ""
                )
            )

        if self.per_group is not None and len(self.per_group) < 2:
            notes.append(
                "There are no intervals: resampling whole groups needs at least two groups, and all clips are of one."
            )

        flat = [name for name, (low, high) in self.intervals.items() if np.isclose(low, high)]
        if flat and self.per_group is not None and len(self.per_group) < _FEW_GROUPS:
            notes.append(
                f"The interval of {', '.join(flat)} has no width, because there are too few groups to resample: all "
                f"{len(self.per_group)} have the same score, which does not mean that other groups have it too. Score "
                "clips of more groups."
            )
        return notes

    def to_dict(self) -> dict[str, Any]:
        """Return everything except the predictions and the history, as JSON values.

        Returns
        -------
        dict
        """
        tables = {"per_class": self.per_class, "per_group": self.per_group, "per_fold": self.per_fold}
        rows = {name: None if t is None else t.reset_index().to_dict(orient="records") for name, t in tables.items()}

        return {
            "n_clips": self.n_clips,
            **{name: getattr(self, name) for name in SCORES},
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "resampled": self.resampled,
            "notes": self.notes,
            "trained_on": self.trained_on,
            "untested": self.untested,
            **rows,
            "labels": self.labels.tolist(),
            "confusion_matrix": self.confusion_matrix.tolist(),
            "failed": [readable_values(asdict(clip)) for clip in self.failed],
            "seconds": self.seconds,
        }

    def save(
        self, folder: str | os.PathLike[str], *, title: str = "Evaluation", about: Mapping[str, Any] | None = None
    ) -> str:
        """Write ``metrics.json``, ``predictions.csv``, pictures and ``report.html``, a page that needs no network.

        The pictures are ``confusion_matrix.png``, ``learning_curves.png`` (with a history) and ``group_scores.png``
        (with groups). Needs the extra ``plot``.

        Parameters
        ----------
        folder : path
            Made if missing. Files of these names are replaced, each in one step; other files are not changed.
        title : str, default="Evaluation"
            Title of the page.
        about : mapping of str to JSON values, optional
            Facts about the model and the clips, for the page and for ``about`` in ``metrics.json``.

        Returns
        -------
        str
            The folder.

        Raises
        ------
        MissingDependencyError
            Without the extra ``plot``.
        OutputError
            If a file cannot be written; the old file is then unchanged.
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
    """Score existing predictions.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_clips,)
        True labels and predicted labels, one for each clip.
    groups : array-like of shape (n_clips,), optional
        Speaker or recording of each clip. Each group is scored, and intervals come from resampling whole groups.
    folds : array-like of shape (n_clips,), optional
        Fold of a cross-validation in which each clip was predicted.
    clips : sequence of n_clips files or names, optional
        Names of the clips; by default their positions.
    probabilities : array-like of shape (n_clips,), optional
        Probability of each prediction.
    classes : array-like of shape (n_classes,), optional
        All classes that could have been predicted, to find classes without clips; by default the predicted classes.
    n_bootstrap : int, default=2000
        Number of resamples for the intervals; 0 for no intervals.
    random_state : int, RandomState or None, default=0
        Seed of the resampling.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If the lengths differ, no clips are given, or y is not one label per clip.

    Examples
    --------
    >>> from skastw.evaluation import evaluate_predictions
    >>> result = evaluate_predictions(["cat", "cat", "dog", "dog"], ["cat", "dog", "dog", "dog"], n_bootstrap=0)
    >>> print(result)
    accuracy 0.750, macro_f1 0.733, uar 0.750 on 4 clips
    >>> result.per_class.loc["dog", "precision"].round(3)
    np.float64(0.667)
    """
    truth, predicted = label_array(y_true, "y_true"), label_array(y_pred, "y_pred")
    optional = {"probability": probabilities, "group": group_array(groups), "fold": folds}
    columns = {name: np.asarray(values) for name, values in optional.items() if values is not None}
    names = readable_values(list(range(len(truth)) if clips is None else clips))
    check_consistent_length(truth, predicted, names, *columns.values())

    labels = unique_labels(truth, predicted)
    scores: dict[str, Any] = total_scores(truth, predicted)
    groups, folds = columns.get("group"), columns.get("fold")
    known = predicted if classes is None else np.union1d(predicted, classes)
    with ignored_warnings("A single label was found"):  # the scores show it
        matrix = confusion_matrix(truth, predicted, labels=labels)

    return Evaluation(
        **scores,
        intervals=score_intervals(truth, predicted, groups=groups, n_bootstrap=n_bootstrap, random_state=random_state),
        resampled="clips" if groups is None else "groups",
        n_clips=len(truth),
        labels=labels,
        per_class=class_scores(truth, predicted, labels),
        confusion_matrix=matrix,
        predictions=DataFrame(
            {"clip": names, "label": truth, "predicted": predicted, "correct": truth == predicted, **columns}
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
        An :class:`~skastw.ASTWClassifier`, or any scikit-learn classifier that predicts from clips, such as a pipeline.
    X : sequence of clips, or ndarray of shape (n_clips, n_samples)
        Clips that the estimator was not trained on; otherwise the scores do not apply to new clips. The result notes
        it if X is all clips of ``fit``, all training clips or all validation clips, but not if X is another selection.
    y : array-like of shape (n_clips,)
        True labels, one for each clip.
    groups : array-like of shape (n_clips,), optional
        Speaker or recording of each clip; see :func:`evaluate_predictions`.
    n_bootstrap : int, default=2000
        Number of resamples for the intervals; 0 for no intervals.
    random_state : int, RandomState or None, default=0
        Seed of the resampling.

    Returns
    -------
    Evaluation
        If ``on_error`` of the estimator leaves out clips that cannot be read, ``failed`` lists them.

    Raises
    ------
    ClipError
        If a clip cannot be used and ``on_error`` is ``"raise"``.
    ValueError
        If no clip is left, the lengths differ, y is not one label per clip, or the estimator knows none of the labels.

    Warns
    -----
    UserWarning
        If y has labels that the estimator does not know and so cannot predict.

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
    truth, classes = label_array(y, "y"), getattr(estimator, "classes_", None)
    groups = group_array(groups)
    _check_known(truth, classes)

    for values, name in ((truth, "labels in y"), (groups, "groups")):
        if values is not None and len(values) != len(clips):
            raise ValueError(f"Got {len(values)} {name} for {len(clips)} clips in X, expected one a clip.")

    began = time.perf_counter()
    predicted, probabilities = _predict(estimator, X)
    seconds = time.perf_counter() - began

    failed, names = left_out(estimator), np.array(clip_names(clips), dtype=object)
    read = np.setdiff1d(np.arange(len(names)), [clip.index for clip in failed])
    if not len(read):
        raise DataError(
            f"None of {len(names)} clips can be read, expected at least one clip to score; the first: "
            f"{failed[0].reason}"
        )

    result = evaluate_predictions(
        truth[read],
        label_array(predicted[read], "the predictions"),
        groups=None if groups is None else groups[read],
        clips=names[read].tolist(),
        probabilities=None if probabilities is None else probabilities[read],
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
        trained_on=_trained_on(estimator, X, read),
    )


def _check_known(truth: np.ndarray, classes: Any) -> None:
    """Raise an error if a classifier knows none of the labels, and warn if it does not know some of them."""
    if classes is None:
        return
    known, labels = plain(np.asarray(classes)), plain(np.unique(truth))
    unknown = [label for label in labels if label not in known]
    if not unknown:
        return

    message = f"Got clips of {unknown[:5]}, which the classifier does not know: its classes are {known[:10]}"
    if len(unknown) == len(labels):
        raise ValueError(f"{message}. Give the labels that it was trained with.")
    warn_user(f"{message}; these clips can only be wrong.")


def _trained_on(estimator: Any, X: Any, index: np.ndarray) -> bool:
    """Return whether a network was trained on the clips at ``index``."""
    if not isinstance(estimator, ASTWClassifier):
        return False
    clips = check_clips(estimator, X, reset=False)
    return was_trained_on(estimator.trained_, clips, index, take_params(InferenceParams, estimator))


def _predict(estimator: Any, X: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the predicted label of each clip and, if one pass gives both, its probability."""
    if isinstance(estimator, ASTWClassifier) and estimator.trained_.targets.exclusive:
        probabilities = estimator.predict_proba(X)
        return estimator.classes_[probabilities.argmax(axis=1)], probabilities.max(axis=1)
    return np.asarray(estimator.predict(X)), None


def _brackets(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"
