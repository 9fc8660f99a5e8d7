"""Scores of each group of clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer
from sklearn.utils import check_consistent_length

from skastw.core.warn import ignored_warnings
from skastw.data.failures import left_out
from skastw.errors import plain
from skastw.plots._canvas import one_panel, pyplot, shortened, styles, tick_names
from skastw.targets.checks import group_array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scoring = str | Callable[[Any, Any], float]


class GroupScoresDisplay:
    """The score of each group of clips, such as a speaker, and the score of all clips.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    groups : ndarray of shape (n_groups,)
        The groups, the lowest score first.
    scores : ndarray of shape (n_groups,)
        Score of each group; NaN if it is undefined.
    counts : ndarray of shape (n_groups,)
        Number of clips in each group.
    overall : float
        Score of all clips.
    name : str
        Name of the score.

    Attributes
    ----------
    ax_ : Axes
    figure_ : Figure
    points_ : Line2D
    overall_ : Line2D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastw.plots import GroupScoresDisplay
    >>> y, predicted, speakers = ["a", "b", "a", "b"], ["a", "b", "b", "b"], ["Eva", "Eva", "Jan", "Jan"]
    >>> display = GroupScoresDisplay.from_predictions(y, predicted, speakers)
    >>> display.groups.tolist(), display.scores.tolist(), display.overall
    (['Jan', 'Eva'], [0.5, 1.0], 0.75)
    """

    def __init__(
        self, groups: np.ndarray, scores: np.ndarray, *, counts: np.ndarray, overall: float, name: str
    ) -> None:
        self.groups = groups
        self.scores = scores
        self.counts = counts
        self.overall = overall
        self.name = name

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, y: Any, groups: Any, *, scoring: Scoring = "accuracy", ax: Axes | None = None
    ) -> GroupScoresDisplay:
        """Draw the scores of an estimator's predictions, without the clips that ``on_error`` leaves out.

        Parameters
        ----------
        estimator : estimator
            Any fitted object with ``predict``.
        X : sequence of clips
            As the estimator takes them.
        y : array-like of shape (n_clips,) or (n_clips, n_targets)
            True labels or values.
        groups, scoring, ax : see :meth:`from_predictions`

        Returns
        -------
        GroupScoresDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ClipError
            If a clip cannot be used.
        ValueError
            If an argument is not valid.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        predicted, y, groups = np.asarray(estimator.predict(X)), np.asarray(y), group_array(groups)
        check_consistent_length(y, predicted, groups)
        read = np.setdiff1d(np.arange(len(predicted)), [clip.index for clip in left_out(estimator)])
        return cls.from_predictions(y[read], predicted[read], groups[read], scoring=scoring, ax=ax)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_pred: Any, groups: Any, *, scoring: Scoring = "accuracy", ax: Axes | None = None
    ) -> GroupScoresDisplay:
        """Draw the scores of predictions.

        Parameters
        ----------
        y_true, y_pred : array-like of shape (n_clips,) or (n_clips, n_targets)
            True and predicted labels or values.
        groups : array-like of shape (n_clips,)
            Group of each clip, such as its speaker.
        scoring : str or callable, default="accuracy"
            Name of a scikit-learn score that needs predictions only, not probabilities, or a function
            ``(y_true, y_pred) -> float``.
        ax : Axes, optional
            Axes to draw in; by default in a new figure, whose height depends on the number of groups.

        Returns
        -------
        GroupScoresDisplay

        Raises
        ------
        ValueError
            If the lengths differ, or the score is not known or needs more than predictions.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        y_true, y_pred, groups = np.asarray(y_true), np.asarray(y_pred), group_array(groups)
        check_consistent_length(y_true, y_pred, groups)

        names, member, counts = np.unique(groups, return_inverse=True, return_counts=True)
        scores = np.array([_score(scoring, y_true[member == i], y_pred[member == i]) for i in range(len(names))])
        order = np.argsort(scores, kind="stable")
        overall = _score(scoring, y_true, y_pred)

        name = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")
        name = name.removeprefix("neg_").replace("_", " ") if isinstance(name, str) else "score"
        return cls(names[order], scores[order], counts=counts[order], overall=overall, name=name).plot(ax)

    def plot(self, ax: Axes | None = None) -> GroupScoresDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, optional
            Axes to draw in; by default in a new figure, whose height depends on the number of groups.

        Returns
        -------
        self
        """
        ax = one_panel(type(self), ax, size=(1.0, float(np.clip(0.2 + 0.042 * len(self.groups), 0.6, 4.0))))
        self.ax_, self.figure_ = ax, ax.figure

        first, second = (style["color"] for style in styles(2))
        places = np.arange(len(self.groups))
        (self.points_,) = ax.plot(self.scores, places, "o", color=first)
        self.overall_ = ax.axvline(self.overall, color=second, linestyle="--", label=f"all clips: {self.overall:.3g}")

        tick_names(ax, [f"{shortened(group)} ({n})" for group, n in zip(self.groups, self.counts, strict=True)])
        ax.set(xlabel=self.name, ylabel="group (clips)", ylim=(len(places) - 0.3, -0.7))  # the lowest on top
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        ax.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        return self


class _Predictions(BaseEstimator):
    """An estimator that returns X as its predictions, for scikit-learn's scorers."""

    def predict(self, X: Any) -> Any:
        return X


def _score(scoring: Scoring, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    with ignored_warnings():  # many groups do not have clips of every class
        if callable(scoring):
            return float(scoring(y_true, y_pred))
        try:
            return float(get_scorer(scoring)(_Predictions(), y_pred, y_true))
        except AttributeError:
            raise ValueError(
                f"Got scoring={plain(scoring)!r}, expected a score of predictions, not of probabilities."
            ) from None
