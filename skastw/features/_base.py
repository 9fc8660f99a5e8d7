"""The contract of a front end."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from skastw.core.component import Component

__all__ = ["Features", "FeaturesModule"]


class FeaturesModule(nn.Module):
    """A built front end: ``(waveform (B, N), lengths (B,)) -> (frames (B, T, F), lengths (B,))``.

    Attributes
    ----------
    n_features : int
        Values in a frame, F.
    """

    n_features: int

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames of some clips, each as if it were alone.

        A front end may do better than one clip after the other.

        Parameters
        ----------
        waveforms : sequence of Tensors of shape (N_i,), float32

        Returns
        -------
        list of Tensors of shape (T_i, F), float32
        """
        return [self(waveform[None], torch.tensor([len(waveform)]))[0][0] for waveform in waveforms]


class Features(Component):
    """Parameters of a front end.

    ``build(sample_rate)`` returns a module with

    * ``forward(waveform (B, N) float32, lengths (B,)) -> (frames (B, T, F) float32, lengths (B,))``, where
      padding a clip changes none of its frames and frames beyond its length are zero;
    * ``n_features``, the number F of values in a frame.
    """

    kind: ClassVar[str] = "features"
    #: Whether frames are log powers of bands on the scale of :mod:`skastw.core.decibels`.
    log_mel: ClassVar[bool] = False

    @abstractmethod
    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module that computes frames at ``sample_rate`` (Hz)."""

    @abstractmethod
    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""

    def frequencies(self, sample_rate: int) -> np.ndarray | None:
        """Return the middle of each bin of a frame, shape (F,), in Hz, or None where bins are no frequency bands."""
        return None

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the content of ``preprocessor_config.json``, which describes the front end to other tools.

        Parameters
        ----------
        sample_rate : int
            Hz.
        chunk_length : float
            Seconds.
        """
        return {
            "feature_extractor_type": type(self).__name__,
            "sampling_rate": sample_rate,
            "chunk_length": chunk_length,
        }
