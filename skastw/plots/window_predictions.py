"""Predictions for the windows of a long clip."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from skastw.analysis.tables import RENAMED
from skastw.core.checks import check_positive
from skastw.core.text import did_you_mean
from skastw.errors import plain
from skastw.plots._canvas import Axes, legend, panels, pyplot, styles
from skastw.plots.spectrogram import SpectrogramDisplay, clip_spectrogram, fitted_or_set


class WindowPredictionsDisplay:
    """Probabilities of classes in the windows of a clip, over the clip's spectrogram.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`.

    Parameters
    ----------
    predictions : DataFrame of n_windows rows
        Columns ``start`` and ``end`` (s), and the probabilities of the classes to draw.
    spectrogram : SpectrogramDisplay, optional
        Spectrogram of the clip.

    Attributes
    ----------
    ax_, axes_ : Axes and ndarray of Axes
        Panel of the probabilities, and all panels.
    figure_ : Figure
    lines_ : list of Line2D
        One line per class, in the order of the columns, with a point in the middle of each window.
    legend_ : Legend

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> import pandas as pd
    >>> from skastw.plots import WindowPredictionsDisplay
    >>> windows = pd.DataFrame({"clip": 0, "start": [0.0, 1.0], "end": [1.0, 2.0], "cat": [0.9, 0.2]})
    >>> display = WindowPredictionsDisplay.from_predictions(windows)
    >>> display.lines_[0].get_xdata().tolist()
    [0.5, 1.5]
    """

    def __init__(self, predictions: pd.DataFrame, *, spectrogram: SpectrogramDisplay | None = None) -> None:
        self.predictions = predictions
        self.spectrogram = spectrogram

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        clip: Any,
        *,
        window: float,
        hop: float | None = None,
        k: int = 5,
        labels: Sequence[Any] | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        cmap: Any = None,
    ) -> Self:
        """Draw the predictions of a classifier for the windows of a clip.

        Parameters
        ----------
        estimator : ASTWClassifier
            Fitted.
        clip : clip
            As the estimator takes it.
        window : float
            Length of the windows (s).
        hop : float, optional
            Step between the windows (s); by default as in :meth:`~skastw.ASTWClassifier.predict_windows`.
        k, labels, ax, cmap : see :meth:`from_predictions`

        Returns
        -------
        WindowPredictionsDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ClipError
            If the clip cannot be used.
        ValueError
            If an argument is not valid.
        MissingDependencyError
            Without the extra ``plot``.

        Notes
        -----
        The spectrogram takes about 32 kB of memory per second. For a recording of many hours, draw only the table with
        :meth:`from_predictions`.
        """
        pyplot(cls)
        step = {} if hop is None else {"hop": hop}
        return cls.from_predictions(
            estimator.predict_windows([clip], window=window, **step),
            clip=clip,
            features=fitted_or_set(estimator, "features"),
            sample_rate=fitted_or_set(estimator, "sample_rate"),
            k=k,
            labels=labels,
            ax=ax,
            cmap=cmap,
        )

    @classmethod
    def from_predictions(
        cls,
        predictions: pd.DataFrame,
        *,
        clip: Any = None,
        features: Any = "log_mel",
        sample_rate: int = 16000,
        k: int = 5,
        labels: Sequence[Any] | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        cmap: Any = None,
    ) -> Self:
        """Draw predictions for the windows of a clip.

        Parameters
        ----------
        predictions : DataFrame of n_windows rows
            As :meth:`~skastw.ASTWClassifier.predict_windows` returns them for one clip: columns ``clip``, ``start`` and
            ``end`` (s), and the probability of each class.
        clip : clip, optional
            Predicted clip, whose spectrogram is drawn below; see :mod:`skastw.audio.clips`.
        features : str or Features, default="log_mel"
            Front end of the spectrogram.
        sample_rate : int, default=16000
            Rate that the clip is resampled to (Hz).
        k : int, default=5
            Number of classes to draw: the classes with the highest probability in any window.
        labels : sequence of labels, optional
            Classes to draw instead of the ``k`` highest.
        ax : Axes or sequence of 2 Axes, optional
            Axes to draw in; a single Axes of a grid is divided. By default in a new figure. Without a clip, one panel.
        cmap : str or Colormap, optional
            Colours of the spectrogram; by default matplotlib's ``image.cmap``, viridis.

        Returns
        -------
        WindowPredictionsDisplay

        Raises
        ------
        ClipError
            If the clip cannot be used.
        ValueError
            If the predictions lack a column or are not of exactly one clip that can be read, or a label or ``k`` is not
            valid.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        columns = ["start", "end", *_classes_to_draw(predictions, k, labels)]
        spectrogram = None if clip is None else clip_spectrogram(clip, features, sample_rate)
        return cls(predictions[columns], spectrogram=spectrogram).plot(ax, cmap=cmap)

    def plot(self, ax: Axes | Sequence[Axes] | None = None, *, cmap: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of 2 Axes, optional
            Axes to draw in; a single Axes of a grid is divided. By default in a new figure. Without a clip, one panel.
        cmap : str or Colormap, optional
            Colours of the spectrogram; by default matplotlib's ``image.cmap``, viridis.

        Returns
        -------
        self
        """
        n_panels = 1 if self.spectrogram is None else 2
        self.axes_ = panels(type(self), ax, (n_panels, 1), size=(1.4, 0.4 + 0.4 * n_panels))[:, 0]
        top = self.ax_ = self.axes_[0]
        self.figure_ = top.figure

        start, end = self.predictions["start"].to_numpy(), self.predictions["end"].to_numpy()
        classes = self.predictions.columns[2:]
        points = {"markersize": 4 if len(start) <= 100 else 0}
        self.lines_ = [
            top.plot((start + end) / 2, self.predictions[name], **style, **points)[0]
            for name, style in zip(classes, styles(len(classes)), strict=True)
        ]
        self.legend_ = legend(top, self.lines_, [RENAMED.get(name, name) for name in classes])
        top.set(ylim=(-0.03, 1.03), xlabel="time (s)", ylabel="probability")

        if self.spectrogram is None:
            top.set_xlim(start.min(), end.max())
        else:
            self.spectrogram.plot(self.axes_[1], cmap=cmap, colorbar=False)
            top.set_xlim(self.axes_[1].get_xlim())
            top.tick_params(labelbottom=False)
            top.set_xlabel("")  # the panel below has it
        return self


def _classes_to_draw(predictions: pd.DataFrame, k: int, labels: Sequence[Any] | None) -> list[Any]:
    """Return the columns of the classes to draw, the most probable first."""
    missing = [name for name in ("clip", "start", "end") if name not in predictions.columns]
    if missing:
        raise ValueError(f"Got predictions without the columns {missing}, expected a result of predict_windows.")
    n_clips = predictions["clip"].nunique(dropna=False)
    if n_clips != 1:
        raise ValueError(
            f"Got predictions of {n_clips} clips, expected one clip: predictions[predictions['clip'] == 0]."
        )
    if predictions["start"].isna().any():
        raise ValueError("Got predictions without times, expected a clip that can be read; failed_ has the reason.")

    classes = predictions.drop(columns=["clip", "start", "end"])
    if labels is not None:
        columns = {RENAMED.get(column, column): column for column in classes.columns}
        unknown = [label for label in labels if label not in columns]
        if unknown:
            meant = did_you_mean(unknown[0], columns) or "."
            raise ValueError(f"Got labels {plain(unknown[:5])}, expected labels among {plain([*columns][:10])}{meant}")
        return [columns[label] for label in labels]

    check_positive(k=k)
    highest = classes.max().fillna(-np.inf).to_numpy()
    return classes.columns[np.argsort(-highest, kind="stable")[:k]].tolist()
