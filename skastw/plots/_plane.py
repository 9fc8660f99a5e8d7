"""The plane of time and frequency that pictures of a clip lie in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skastw.features.log_mel import hz_to_mel, mel_to_hz

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plane"]

#: Columns of a picture, of which neighbours are averaged where there are more: no screen has that many.
_COLUMNS = 4000


@dataclass(frozen=True)
class Plane:
    """Where the frames of a clip lie: in seconds, and in Hz where bins are frequency bands.

    Attributes
    ----------
    n_frames, n_bins : int
    frame_rate : float
        Frames per second (Hz); frame t is centred on ``t / frame_rate``.
    frequencies : ndarray of shape (n_bins,) or None
        Middle of the bins (Hz).
    """

    n_frames: int
    n_bins: int
    frame_rate: float
    frequencies: np.ndarray | None

    def time_edges(self, n: int) -> np.ndarray:
        """Return the borders (n + 1,) of ``n`` equal parts of the clip, in seconds."""
        return (np.linspace(0, self.n_frames, n + 1) - 0.5) / self.frame_rate

    def bin_edges(self, n: int) -> np.ndarray:
        """Return the borders (n + 1,) of ``n`` equal groups of bins, in Hz or, where bins are no bands, counted.

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
        mel = hz_to_mel(self.frequencies)
        steps = np.diff(mel) if len(mel) > 1 else np.ones(1)
        borders = np.concatenate([[mel[0] - steps[0] / 2], (mel[:-1] + mel[1:]) / 2, [mel[-1] + steps[-1] / 2]])
        return mel_to_hz(np.interp(position, np.arange(self.n_bins + 1), borders))

    def draw(self, ax: Axes, values: np.ndarray, *, cmap: Any, vmin: float, vmax: float) -> Any:
        """Draw ``values`` (n, m), of equal parts of the clip and groups of bins, as colours from ``vmin`` to ``vmax``.

        Data coordinates are seconds and Hz; equal mel are equally high.
        """
        group = -(-len(values) // _COLUMNS)
        starts = np.arange(0, len(values), group)
        ends = np.append(starts[1:], len(values))
        means = np.add.reduceat(values, starts) / (ends - starts)[:, None]
        x = self.time_edges(len(values))[np.append(starts, len(values))]
        y = self.bin_edges(values.shape[1])
        image = ax.pcolormesh(x, y, means.T, cmap=cmap, vmin=vmin, vmax=vmax, rasterized=True)
        ax.set_xlabel("time (s)")
        ax.set_ylabel("bin" if self.frequencies is None else "frequency (Hz)")
        if self.frequencies is not None:
            ax.set_yscale("function", functions=(hz_to_mel, mel_to_hz))
            _tick_octaves(ax, y[0], y[-1])
        ax.set_xlim(x[0], x[-1])
        ax.set_ylim(y[0], y[-1])
        return image


def _tick_octaves(ax: Axes, lowest: float, highest: float) -> None:
    """Put ticks at 500, 1000, 2000, ... Hz where at least three of them are seen; else they stay even."""
    octaves = [hz for hz in 500 * 2.0 ** np.arange(12) if lowest <= hz <= highest]
    if len(octaves) >= 3:
        ax.set_yticks(octaves, [f"{hz:g}" for hz in octaves])
