"""Base classes of front ends."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from skastw.core.batching import pad
from skastw.core.component import Component, component_to_config
from skastw.core.parameters import integers, param, parameters
from skastw.errors import ExportError


class FeaturesModule(nn.Module):
    """A built front end: ``(waveform (B, N), lengths (B,)) -> (frames (B, T, F), lengths (B,))``.

    Attributes
    ----------
    n_features : int
        Number F of values in a frame.
    """

    n_features: int

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames of several clips.

        By default the clips are processed one after another. A subclass may do it faster, with the same result.

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
      padding a clip must not change its frames, and frames beyond its length are zero;
    * ``n_features``, the number F of values in a frame.
    """

    kind: ClassVar[str] = "features"
    #: Whether the front end has weights that training changes. Clips are then kept as waveforms during training.
    trainable: ClassVar[bool] = False
    #: Whether frames are log powers of frequency bands on the scale of :mod:`skastw.core.decibels`.
    log_mel: ClassVar[bool] = False

    @abstractmethod
    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module for waveforms at ``sample_rate`` (Hz)."""

    @abstractmethod
    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz); 0 if a clip of any length has one frame."""

    @property
    def n_lost(self) -> int:
        """Largest number of samples at the end of a clip that have no frame, at most a window; by default 0."""
        return 0

    def frequencies(self, sample_rate: int) -> np.ndarray | None:
        """Return the centre frequency (Hz) of each bin, shape (F,), or None if bins do not stand for frequencies."""
        return None

    def value_names(self, sample_rate: int) -> list[str] | None:
        """Return the names of the F values in a frame, or None if they have no names."""
        return None

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the content of ``preprocessor_config.json``, which describes the front end to other tools.

        Parameters
        ----------
        sample_rate : int
            Samples per second (Hz).
        chunk_length : float
            Length of the longest chunk in seconds.
        """
        return {
            "feature_extractor_type": type(self).__name__,
            "sampling_rate": sample_rate,
            "chunk_length": chunk_length,
        }


@parameters
class HopFeatures(Features):
    """Base of front ends that return a frame every ``hop_length`` samples."""

    hop_length: int = param(default=160, valid=[integers(1, 65536)], doc="Step between frames in samples.")

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""
        return sample_rate / self.hop_length

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the settings by the names of the parameters."""
        return {**super().to_preprocessor(sample_rate, chunk_length), **self.get_params(deep=False)}


@parameters
class STFTFeatures(HopFeatures):
    """Base of front ends that compute a short-time Fourier transform with a symmetric window."""

    n_fft: int = param(default=400, valid=[integers(8, 65536)], doc="Length of the Fourier transform in samples.")
    win_length: int | None = param(
        default=None,
        valid=[integers(2, 65536), None],
        doc="Length of the window in samples, which is centred in ``n_fft``; None stands for ``n_fft``.",
    )


class WholeClipModule(FeaturesModule):
    """Base of built front ends that give one frame for each clip, computed from the whole clip."""

    @abstractmethod
    def row(self, waveform: Tensor) -> Tensor:
        """Return the values (F,) of a clip (N,)."""

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames (1, F) of several clips, computed one after another."""
        return [self.row(waveform)[None] for waveform in waveforms]

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames (B, 1, F) of waveforms (B, N); see :class:`Features`."""
        if torch.compiler.is_compiling():
            raise ExportError("a front end with one frame for each clip is computed by code that ONNX cannot express")
        return pad(self.extract([item[:length] for item, length in zip(waveform, lengths.tolist(), strict=True)]))


@parameters
class WholeClipFeatures(Features):
    """Base of front ends that give one frame for each clip, a row of values that describe it as a whole."""

    def frames_per_second(self, sample_rate: int) -> float:
        """Return 0: a clip has one frame, however long it is. It is therefore never cut into chunks."""
        return 0.0

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the parameters, and the names of the values."""
        params = component_to_config(self)["params"]
        return {**super().to_preprocessor(sample_rate, chunk_length), **params, "values": self.value_names(sample_rate)}
