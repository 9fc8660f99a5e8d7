"""Evidence of the parts of a clip for a class."""

from collections.abc import Sequence
from typing import Any, Self

from skastw.analysis.occlusion import Occlusion
from skastw.plots._canvas import Axes, panels, pyplot, shortened
from skastw.plots.spectrogram import SpectrogramDisplay, clip_spectrogram, fitted_or_set


class OcclusionDisplay:
    """The spectrogram of a clip, and below it the evidence of each part of the clip for a class.

    Make one with :meth:`from_estimator`.

    Parameters
    ----------
    occlusion : Occlusion
        Result of :meth:`~skastw.ASTWClassifier.explain`.
    spectrogram : SpectrogramDisplay
        Spectrogram of the clip.

    Attributes
    ----------
    ax_, axes_ : Axes and ndarray of Axes
        Panel of the saliency, and the panels of the spectrogram and the saliency.
    figure_ : Figure
    image_ : QuadMesh
        The saliency.

    References
    ----------
    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.2.

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.encoders import ASTWEncoder
    >>> from skastw.plots import OcclusionDisplay
    >>> clips, y = make_tones(n_clips=12, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=1).fit(clips, y)
    >>> display = OcclusionDisplay.from_estimator(clf, clips[0], label=1, n_times=5, n_bands=8)
    >>> display.occlusion.saliency.shape
    (5, 8)
    """

    def __init__(self, occlusion: Occlusion, spectrogram: SpectrogramDisplay) -> None:
        self.occlusion = occlusion
        self.spectrogram = spectrogram

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        clip: Any,
        *,
        label: Any = None,
        n_times: int = 20,
        n_bands: int = 16,
        fill: str = "clip",
        ax: Axes | Sequence[Axes] | None = None,
        cmap: Any = None,
    ) -> Self:
        """Hide parts of a clip in turn, and draw how the probability of a class drops.

        Parameters
        ----------
        estimator : ASTWClassifier
            Fitted.
        clip : clip
            As the estimator takes it.
        label : label, optional
            Class to explain; by default the most probable class.
        n_times, n_bands, fill : see :meth:`~skastw.ASTWClassifier.explain`
        ax : Axes or sequence of 2 Axes, optional
            Axes to draw in; a single Axes of a grid is divided. By default in a new figure.
        cmap : str or Colormap, optional
            Colours of the spectrogram; by default matplotlib's ``image.cmap``, viridis.

        Returns
        -------
        OcclusionDisplay

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
        """
        pyplot(cls)
        occlusion = estimator.explain(clip, label=label, n_times=n_times, n_bands=n_bands, fill=fill)
        features, sample_rate = fitted_or_set(estimator, "features"), fitted_or_set(estimator, "sample_rate")
        return cls(occlusion, clip_spectrogram(clip, features, sample_rate)).plot(ax, cmap=cmap)

    def plot(self, ax: Axes | Sequence[Axes] | None = None, *, cmap: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of 2 Axes, optional
            Axes to draw in; a single Axes of a grid is divided. By default in a new figure.
        cmap : str or Colormap, optional
            Colours of the spectrogram; by default matplotlib's ``image.cmap``, viridis.

        Returns
        -------
        self
        """
        self.axes_ = panels(type(self), ax, (2, 1), size=(1.2, 1.4), share=True)[:, 0]
        above, below = self.axes_
        self.ax_, self.figure_ = below, below.figure

        self.spectrogram.plot(above, cmap=cmap)
        above.set_xlabel("")
        above.tick_params(labelbottom=False)
        title = f"{shortened(self.occlusion.label)}: probability {self.occlusion.probability:.2f}"
        above.set_title(title, parse_math=False)

        saliency = self.occlusion.saliency
        largest = float(abs(saliency).max()) or 1.0
        self.image_ = self.spectrogram.draw(below, saliency, cmap="PuOr_r", vmin=-largest, vmax=largest)
        below.figure.colorbar(self.image_, ax=below, label="drop of log-probability")
        return self
