"""The spectrogram of a clip."""

from typing import Any, Self

import numpy as np
from torch import Tensor

from skastw.core.component import resolve_component
from skastw.core.decibels import UNIT
from skastw.data.extraction import ReadParams, read_frames
from skastw.features import Features
from skastw.plots._canvas import Axes, one_panel, pyplot

#: Range of levels that is drawn (dB), as in a log-mel front end.
_RANGE = 80.0
#: Most columns of an image; the mean of neighbours is drawn beyond, because screens have fewer pixels.
_COLUMNS = 4000


class SpectrogramDisplay:
    """Frames of a clip, the input of a model, over time and frequency.

    Make one with :meth:`from_clip`, :meth:`from_estimator` or :meth:`from_frames`.

    Parameters
    ----------
    values : ndarray of shape (n_frames, n_bins)
        Levels or other values to draw.
    frame_rate : float
        Frames per second (Hz).
    frequencies : ndarray of shape (n_bins,) or None
        Centres of the bins (Hz); None if bins are not frequency bands.
    quantity : str, default="level (dB)"
        Name of the values.

    Attributes
    ----------
    times : ndarray of shape (n_frames,)
        Centres of the frames (s).
    ax_ : Axes
    figure_ : Figure
    image_ : QuadMesh
    colorbar_ : Colorbar or None

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastw.datasets import make_tones
    >>> from skastw.plots import SpectrogramDisplay
    >>> clips, y = make_tones(n_clips=1, random_state=0)
    >>> display = SpectrogramDisplay.from_clip(clips[0])
    >>> display.ax_.get_xlabel(), display.ax_.get_ylabel()
    ('time (s)', 'frequency (Hz)')
    """

    def __init__(
        self,
        values: np.ndarray,
        *,
        frame_rate: float,
        frequencies: np.ndarray | None,
        quantity: str = "level (dB)",
    ) -> None:
        self.values = values
        self.frame_rate = frame_rate
        self.times = np.arange(len(values)) / frame_rate
        self.frequencies = frequencies
        self.quantity = quantity

    @classmethod
    def from_clip(
        cls,
        clip: Any,
        features: Any = "log_mel",
        *,
        sample_rate: int = 16000,
        ax: Axes | None = None,
        cmap: Any = None,
        colorbar: bool = True,
    ) -> Self:
        """Draw the frames that a front end computes from a clip.

        Parameters
        ----------
        clip : clip
            See :mod:`skastw.audio.clips`; with ``features="precomputed"``, its frames.
        features : str or Features, default="log_mel"
            Front end.
        sample_rate : int, default=16000
            Rate that the clip is resampled to (Hz).
        ax : Axes, optional
            Axes to draw in; by default in a new figure.
        cmap : str or Colormap, optional
            By default matplotlib's ``image.cmap``, viridis.
        colorbar : bool, default=True
            Whether to draw a colour bar.

        Returns
        -------
        SpectrogramDisplay

        Raises
        ------
        ClipError
            If the clip cannot be used.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        frames = clip_frames(clip, features, sample_rate)
        return cls.from_frames(frames, features, sample_rate=sample_rate).plot(ax, cmap=cmap, colorbar=colorbar)

    @classmethod
    def from_estimator(
        cls, estimator: Any, clip: Any, *, ax: Axes | None = None, cmap: Any = None, colorbar: bool = True
    ) -> Self:
        """Draw the frames that the front end of an estimator computes from a clip.

        Parameters
        ----------
        estimator : ASTWClassifier, ASTWRegressor or ASTWFeaturizer
            It need not be fitted.
        clip : clip
            As the estimator takes it.
        ax, cmap, colorbar : see :meth:`from_clip`

        Returns
        -------
        SpectrogramDisplay

        Raises
        ------
        ClipError
            If the clip cannot be used.
        MissingDependencyError
            Without the extra ``plot``.
        """
        features, sample_rate = fitted_or_set(estimator, "features"), fitted_or_set(estimator, "sample_rate")
        return cls.from_clip(clip, features, sample_rate=sample_rate, ax=ax, cmap=cmap, colorbar=colorbar)

    @classmethod
    def from_frames(cls, frames: Any, features: Any = "log_mel", *, sample_rate: int = 16000) -> Self:
        """Return the display of computed frames; :meth:`plot` draws it.

        Parameters
        ----------
        frames : array or Tensor of shape (n_frames, n_bins)
            Frames of one clip.
        features : str or Features, default="log_mel"
            Front end that computed the frames.
        sample_rate : int, default=16000
            Sample rate of the waveform (Hz).

        Returns
        -------
        SpectrogramDisplay
            Not drawn.
        """
        features = resolve_component(Features, features)
        values, quantity = np.asarray(frames, dtype=np.float32), "value"
        frequencies = features.frequencies(sample_rate)
        if features.log_mel and frequencies is not None:
            values, quantity = UNIT * (values - 1), "level (dB)"
        frame_rate = features.frames_per_second(sample_rate)
        return cls(values, frame_rate=frame_rate, frequencies=frequencies, quantity=quantity)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        cmap: Any = None,
        colorbar: bool = True,
        vmin: float | None = None,
        vmax: float | None = None,
    ) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes, optional
            Axes to draw in; by default in a new figure.
        cmap : str or Colormap, optional
            By default matplotlib's ``image.cmap``, viridis.
        colorbar : bool, default=True
            Whether to draw a colour bar.
        vmin, vmax : float, optional
            Ends of the colour scale; by default :attr:`span`.

        Returns
        -------
        self
        """
        ax = one_panel(type(self), ax)
        self.ax_, self.figure_, self.colorbar_ = ax, ax.figure, None
        low, high = self.span
        low, high = (low if vmin is None else vmin), (high if vmax is None else vmax)
        self.image_ = self.draw(ax, self.values, cmap=cmap, vmin=low, vmax=high)

        if colorbar:
            below, above = bool((self.values < low).any()), bool((self.values > high).any())
            extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get((below, above), "neither")
            self.colorbar_ = ax.figure.colorbar(self.image_, ax=ax, label=self.quantity, extend=extend)
        return self

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest value of the colour scale.

        For levels, this is 80 dB up to the maximum. For bins without frequencies, of which a few can have much larger
        values than the others, it covers 90 % of the values.
        """
        if self.frequencies is None:
            low, high = np.percentile(self.values, [5, 95])
            return float(low), float(high)
        low, high = float(self.values.min()), float(self.values.max())
        return (max(low, high - _RANGE) if self.quantity == "level (dB)" else low), high

    def draw(self, ax: Axes, values: np.ndarray, *, cmap: Any, vmin: float, vmax: float) -> Any:
        """Draw a matrix as an image over the time and the frequencies of the clip.

        The time axis is in seconds. The frequency axis is in Hz, on a mel scale, or, without frequencies, in bins.

        Parameters
        ----------
        ax : Axes
        values : ndarray of shape (n, m)
            One row for each of n equal parts of the clip, one column for each of m equal groups of bins.
        cmap : str or Colormap
        vmin, vmax : float
            Values of the first and the last colour.

        Returns
        -------
        QuadMesh
        """
        import librosa
        import librosa.display

        columns = [*range(0, len(values), -(-len(values) // _COLUMNS)), len(values)]
        time_edges = (np.linspace(0, len(self.values), len(values) + 1) - 0.5) / self.frame_rate
        x, y = time_edges[columns], self._bin_edges(values.shape[1])
        means = librosa.util.sync(values.T, columns)

        # "frames" keeps matplotlib's ticks, which do not overlap in small panels as librosa's for seconds do
        axes: dict[str, Any] = {
            "x_axis": "frames",
            "y_axis": "frames",
            "x_coords": x,
            "y_coords": y,
            "auto_aspect": False,
        }
        image = librosa.display.specshow(means, ax=ax, cmap=cmap, vmin=vmin, vmax=vmax, **axes)
        if self.frequencies is not None:
            ax.set_yscale("function", functions=(librosa.hz_to_mel, librosa.mel_to_hz))
        ax.set(xlabel="time (s)", ylabel="bin" if self.frequencies is None else "frequency (Hz)")
        ax.set(xlim=x[[0, -1]], ylim=y[[0, -1]])

        # ticks at 500, 1000, 2000, ... Hz if at least three are in range
        octaves = [hz for hz in 500 * 2.0 ** np.arange(12) if y[0] <= hz <= y[-1]]
        if self.frequencies is not None and len(octaves) >= 3:
            ax.set_yticks(octaves, [f"{hz:g}" for hz in octaves])
        return image

    def _bin_edges(self, n: int) -> np.ndarray:
        """Return the borders (n + 1,) of ``n`` equal groups of bins, in Hz or, without frequencies, in bins."""
        position = np.linspace(0, self.values.shape[1], n + 1)
        if self.frequencies is None:
            return position - 0.5

        import librosa

        # borders are halfway between centres, of which one more is added at either end
        mel = librosa.hz_to_mel(self.frequencies)
        steps = np.diff(mel) if len(mel) > 1 else np.ones(1)
        centres = np.concatenate([[mel[0] - steps[0]], mel, [mel[-1] + steps[-1]]])
        borders = (centres[:-1] + centres[1:]) / 2
        return librosa.mel_to_hz(np.interp(position, np.arange(self.values.shape[1] + 1), borders))


def clip_frames(clip: Any, features: Any, sample_rate: int) -> Tensor:
    """Return the frames of one clip, shape (n_frames, n_bins).

    Parameters
    ----------
    clip : clip
        With precomputed ``features``, the frames themselves.
    features : str or Features
        Front end.
    sample_rate : int
        Hz.

    Raises
    ------
    ClipError
        If the clip cannot be used.
    """
    features = resolve_component(Features, features)
    features.check_params()
    [outcome] = read_frames([clip], [0], features, sample_rate, ReadParams(device="cpu"))
    assert isinstance(outcome.result, Tensor)
    return outcome.result


def clip_spectrogram(clip: Any, features: Any, sample_rate: int) -> SpectrogramDisplay:
    """Return the display, not drawn, of the frames that ``features`` computes from a ``clip`` at ``sample_rate``."""
    return SpectrogramDisplay.from_frames(clip_frames(clip, features, sample_rate), features, sample_rate=sample_rate)


def fitted_or_set(estimator: Any, name: str) -> Any:
    """Return a parameter from ``fit``, or its current value before ``fit`` and for estimators that do not store it.

    Parameters
    ----------
    estimator : estimator
    name : {"augment", "features", "sample_rate"}
    """
    return getattr(estimator, f"{name}_", getattr(estimator, name))
