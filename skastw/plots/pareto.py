"""Scores of models against their costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.analysis.scores import SCORE_NAMES
from skastw.core.text import unknown_value
from skastw.plots._canvas import legend, one_panel, pyplot, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The costs of a comparison: the words and the factor of an axis.
_AXES = {
    "fit_seconds": ("training of one fold (s)", 1.0),
    "predict_seconds": ("prediction, per clip (ms)", 1e3),
    "latency": ("prediction of one clip alone (ms)", 1e3),
    "n_parameters": ("parameters", 1.0),
    "n_bytes": ("size on disk (MB)", 1e-6),
}


class ParetoDisplay:
    """The score of each model against its cost, and the models that no other model surpasses in both.

    Make one with :meth:`from_comparison`.

    Parameters
    ----------
    names : list of str
        Names of the models.
    scores, costs : ndarray of shape (n_models,)
        Score and cost of each model; a higher score and a lower cost are better.
    intervals : ndarray of shape (n_models, 2), optional
        Ends of the interval of each score.
    score : str
        Name of the score.
    cost : str
        Words for the cost, with its unit.

    Attributes
    ----------
    best : list of str
        Models that no other model surpasses, by increasing cost: none has a higher score at a cost that is not higher.
    ax_ : Axes
    figure_ : Figure
    points_ : list of ErrorbarContainer
    line_ : Line2D
        Through the best models.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import numpy as np
    >>> from skastw.plots import ParetoDisplay
    >>> display = ParetoDisplay(["tiny", "small", "large"], np.array([0.8, 0.9, 0.85]), np.array([1.0, 3.0, 9.0]))
    >>> display.plot().best
    ['tiny', 'small']
    """

    def __init__(
        self,
        names: list[str],
        scores: np.ndarray,
        costs: np.ndarray,
        *,
        intervals: np.ndarray | None = None,
        score: str = "score",
        cost: str = "cost",
    ) -> None:
        self.names = names
        self.scores = scores
        self.costs = costs
        self.intervals = intervals
        self.score = score
        self.cost = cost

        order = np.lexsort([-scores, costs])  # by cost, the higher score first
        highest = np.maximum.accumulate(np.concatenate([[-np.inf], scores[order][:-1]])) if len(order) else order
        self._best = order[scores[order] > highest]
        self.best = [names[i] for i in self._best]

    @classmethod
    def from_comparison(cls, comparison: Any, *, cost: str = "n_bytes", ax: Axes | None = None) -> ParetoDisplay:
        """Draw the models of a comparison that have a score and this cost.

        Parameters
        ----------
        comparison : Comparison
            Result of :func:`skastw.evaluation.compare`.
        cost : {"fit_seconds", "predict_seconds", "latency", "n_parameters", "n_bytes"}, default="n_bytes"
            Column of ``comparison.table``.
        ax : Axes, optional
            Axes to draw in; by default in a new figure.

        Returns
        -------
        ParetoDisplay

        Raises
        ------
        ValueError
            If the cost is unknown.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        if cost not in _AXES:
            raise ValueError(unknown_value("cost", cost, _AXES))
        score, (words, factor) = comparison.score, _AXES[cost]
        table = comparison.table.dropna(subset=[score, cost])
        display = cls(
            table.index.tolist(),
            table[score].to_numpy(dtype=float),
            table[cost].to_numpy(dtype=float) * factor,
            intervals=table[[f"{score}_low", f"{score}_high"]].to_numpy(dtype=float),
            score=SCORE_NAMES[score],
            cost=words,
        )
        return display.plot(ax)

    def plot(self, ax: Axes | None = None) -> ParetoDisplay:
        """Draw.

        Parameters
        ----------
        ax : Axes, optional
            Axes to draw in; by default in a new figure.

        Returns
        -------
        self
        """
        rows = min(len(self.names), 25)  # of the legend
        ax = one_panel(type(self), ax, size=(1.3 if len(self.names) > rows else 1.0, max(1.0, 0.045 * rows)))
        self.ax_, self.figure_ = ax, ax.figure

        (self.line_,) = ax.plot(
            self.costs[self._best], self.scores[self._best], color="0.7", drawstyle="steps-post", zorder=1
        )
        self.points_ = []
        for i, style in enumerate(styles(len(self.names))):
            errors = None
            if self.intervals is not None and np.isfinite(self.intervals[i]).all():  # the score may be outside of it
                errors = np.maximum(np.abs(self.intervals[i] - self.scores[i])[:, None], 0)
            look = {"color": style["color"], "marker": style["marker"], "capsize": 3, "linestyle": "none"}
            self.points_.append(ax.errorbar(self.costs[i], self.scores[i], yerr=errors, **look))

        if len(self.costs) and (self.costs > 0).all():
            from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

            ax.set_xscale("log")
            wide = self.costs.max() > 300 * self.costs.min()
            ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 3.0)))
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set(xlabel=self.cost, ylabel=self.score)
        ax.grid(color="0.93")
        ax.set_axisbelow(True)
        if self.names:
            legend(ax, [point.lines[0] for point in self.points_], self.names)
        return self
