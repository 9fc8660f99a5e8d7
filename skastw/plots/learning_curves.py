"""Learning curves."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from skastw.plots._canvas import Axes, panels, pyplot, styles

_NAMES = {"loss": "training loss", "val_loss": "validation loss", "val_macro_f1": "macro-F1", "val_r2": "R²"}


class LearningCurvesDisplay:
    """Losses and validation scores over the epochs, and the epoch of the selected weights.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    history : list of dict
        One row per epoch, as in ``history_`` of an estimator.
    best_epoch : int
        Epoch of the selected weights, counted from 1.

    Attributes
    ----------
    losses, scores : dict of str to list of float
        Values of each curve by its name; no scores without validation clips.
    ax_, axes_ : Axes and ndarray of Axes
        First panel, with the losses, and all panels.
    figure_ : Figure
    lines_ : list of Line2D

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastw.plots import LearningCurvesDisplay
    >>> history = [{"epoch": 1, "loss": 0.9, "val_loss": 1.0, "val_macro_f1": 0.4}]
    >>> display = LearningCurvesDisplay(history, best_epoch=1).plot()
    >>> list(display.losses), list(display.scores)
    (['training loss', 'validation loss'], ['macro-F1'])
    """

    def __init__(self, history: list[dict[str, Any]], *, best_epoch: int) -> None:
        self.history = history
        self.best_epoch = best_epoch
        self.losses = _curves(history, ["loss", "val_loss"])
        keys = dict.fromkeys(key for row in history for key in row)
        self.scores = _curves(history, [key for key in keys if key.startswith("val_") and key != "val_loss"])

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | Sequence[Axes] | None = None) -> Self:
        """Draw the learning curves of an estimator.

        Parameters
        ----------
        estimator : ASTWClassifier or ASTWRegressor
            Fitted, or loaded from a folder.
        ax : Axes or sequence of 2 Axes, optional
            Axes to draw in; a single Axes of a grid is divided. By default in a new figure.

        Returns
        -------
        LearningCurvesDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        check_is_fitted(estimator, "history_")
        return cls(estimator.history_, best_epoch=estimator.best_epoch_).plot(ax)

    def plot(self, ax: Axes | Sequence[Axes] | None = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of 2 Axes, optional
            Axes to draw in; a single Axes of a grid is divided. By default in a new figure. Without scores, one panel.

        Returns
        -------
        self
        """
        named = {"loss": self.losses, **({"validation score": self.scores} if self.scores else {})}
        self.axes_ = panels(type(self), ax, (1, len(named)), size=(0.25 + 0.75 * len(named), 1.0))[0]
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure

        from matplotlib.ticker import MaxNLocator  # after panels(), whose error names the extra

        self.lines_ = []
        epochs = [row["epoch"] for row in self.history]
        marker = "o" if len(epochs) < 10 else ""
        for panel, (title, curves) in zip(self.axes_, named.items(), strict=True):
            handles = [
                panel.plot(epochs, values, color=style["color"], linestyle=line, marker=marker, markersize=4)[0]
                for values, style, line in zip(curves.values(), styles(len(curves)), cycle(["-", "--"]), strict=False)
            ]
            self.lines_ += handles

            best = panel.axvline(self.best_epoch, color="0.4", linestyle=":")
            names = [name.removesuffix(" loss") for name in curves]
            panel.legend([*handles, best], [*names, f"epoch {self.best_epoch}, selected"], fontsize="small")
            panel.set(xlabel="epoch", ylabel=title)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return self


def _curves(history: list[dict[str, Any]], keys: list[str]) -> dict[str, list[float]]:
    """Return the existing columns of a history by their names in a plot."""
    return {
        _NAMES.get(key, key.removeprefix("val_").replace("_", " ")): [row.get(key, float("nan")) for row in history]
        for key in keys
        if any(key in row for row in history)
    }
