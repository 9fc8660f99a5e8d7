"""Precomputed frames, for a classifier that follows ``ASTWFeaturizer`` in a pipeline."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

from torch import Tensor

from skastw.core.sklearn_private import Interval
from skastw.features._base import Features, FeaturesModule

__all__ = ["Precomputed"]


class Precomputed(Features):
    """No front end: X holds frames of shape (T, F) instead of clips.

    Parameters
    ----------
    frame_rate : float, default=100.0
        Frames per second (Hz), by which ``chunk_length`` of the estimator is converted to frames. The default is the
        frame rate of ``LogMel`` at 16 kHz.

    Examples
    --------
    >>> from skastw.features import Precomputed
    >>> Precomputed().frames_per_second(16000)
    100.0
    """

    name = "precomputed"
    log_mel = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"frame_rate": [Interval(Real, 0, None, closed="neither")]}

    def __init__(self, *, frame_rate: float = 100.0) -> None:
        self.frame_rate = frame_rate

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return a module that passes frames through; its ``n_features`` is set when X is known."""
        return _PassThrough()

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""
        return float(self.frame_rate)


class _PassThrough(FeaturesModule):
    n_features = 0  # set when X is known

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return frames, lengths
