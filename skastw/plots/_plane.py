"""The axes of plots of a clip, time and frequency, drawn by librosa."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Most columns of an image; the mean of neighbours is drawn beyond, because screens have fewer pixels.
_COLUMNS = 4000


@dataclass(frozen=True)
class Plane:
    """Positions of the frames of a clip in seconds, and of their bins in Hz if they are frequency bands.

    Attributes
    ----------
    n_frames, n_bins : int
    frame_rate : float
        Frames per second (Hz); frame t is centred on ``t / frame_rate``.
    frequencies : ndarray of shape (n_bins,) or None
        Centres of the bins (Hz).
    """

    n_frames: int
    n_bins: int
    frame_rate: float
    frequencies: np.ndarray | None

    def time_edges(self, n: int) -> np.ndarray:
        """Return the borders (n + 1,) of ``n`` equal parts of the clip, in seconds."""
        return (np.linspace(0, self.n_frames, n + 1) - 0.5) / self.frame_rate

    def bin_edges(self, n: int) -> np.ndarray:
        """Return the borders (n + 1,) of ``n`` equal groups of bins, in Hz or, without frequencies, in bins.

        Examples
        --------
        >>> import numpy as np
        >>> from skastw.plots._plane import Plane
        >>> Plane(1, 4, 100.0, np.array([100.0, 200.0, 300.0, 400.0])).bin_edges(2).round().tolist()
        [50.0, 250.0, 450.0]
        """
        position = np.linspace(0, self.n_bins, n + 1)
        if self.frequencies is None:
            return position - 0.5

        import librosa

        # borders are halfway between centres, of which one more is added at either end
        mel = librosa.hz_to_mel(self.frequencies)
        steps = np.diff(mel) if len(mel) > 1 else np.ones(1)
        centres = np.concatenate([[mel[0] - steps[0]], mel, [mel[-1] + steps[-1]]])
        borders = (centres[:-1] + centres[1:]) / 2
        return librosa.mel_to_hz(np.interp(position, np.arange(self.n_bins + 1), borders))

    def draw(self, ax: Axes, values: np.ndarray, *, cmap: Any, vmin: float, vmax: float) -> Any:
        """Draw a matrix as an image over the time and the frequencies of the clip.

        The time axis is in seconds. The frequency axis is in Hz, on a mel scale.

        Parameters
        ----------
        ax : Axes
        values : ndarray of shape (n, m)
            One row for each of n equal parts of the clip, one column for each of m equal groups of bins.
        cmap : str or Colormap
        vmin, vmax : float
            Values of the first and the last colour.
        """
        import librosa
        import librosa.display

        columns = [*range(0, len(values), -(-len(values) // _COLUMNS)), len(values)]
        x, y = self.time_edges(len(values))[columns], self.bin_edges(values.shape[1])
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
