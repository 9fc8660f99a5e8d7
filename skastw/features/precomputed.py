"""Precomputed frames, for a classifier that follows ``ASTWFeaturizer`` in a pipeline."""

from torch import Tensor

from skastw.core.parameters import param, parameters, reals
from skastw.features._base import Features, FeaturesModule


@parameters
class Precomputed(Features):
    """No front end: X holds frames of shape (T, F) instead of clips.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> from skastw.features import Precomputed
    >>> Precomputed().frames_per_second(16000)
    100.0
    """

    name = "precomputed"
    log_mel = True

    frame_rate: float = param(
        default=100.0,
        valid=[reals(0, None, closed="neither")],
        doc=(
            "Frames per second (Hz), by which ``chunk_length`` of the estimator is converted to frames. The "
            "default is the frame rate of ``LogMel`` at 16 kHz."
        ),
    )

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
