"""Mel-frequency cepstral coefficients."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor

from skastw.core.batching import length_mask
from skastw.core.decibels import UNIT
from skastw.core.sklearn_private import Interval
from skastw.errors import ComponentError
from skastw.features._base import Features, FeaturesModule
from skastw.features.log_mel import LogMel, MelModule, whisper_scale
from skastw.features.statistics import cepstral_coefficients

__all__ = ["MFCC", "local_slopes"]

#: Frames that a slope or a curvature is fitted to.
_WIDTH = 9


class MFCC(Features):
    """Mel-frequency cepstral coefficients: the cosine transform over the bands of a log-mel spectrum.

    The spectrum is that of :class:`~skastw.features.LogMel`, in decibels and floored 80 dB below the clip's
    maximum; the transform is the orthonormal one of type 2. The numbers are those of ``librosa.feature.mfcc``:
    the first coefficient, the level, lies between -900 and 500, the others within some tens. A network wants
    them on one scale: take ``normalization="per_bin"``. Padding a clip changes none of its frames.

    Parameters
    ----------
    n_mfcc : int, default=40
        Coefficients, from the first one; at most ``n_mels``.
    deltas : {0, 1, 2}, default=0
        1 appends the slope over time of each coefficient, 2 its curvature, too; see :func:`local_slopes`. A
        frame then has two or three times ``n_mfcc`` values.
    n_mels : int, default=80
        Mel bands that are transformed.
    n_fft : int, default=400
        Length of the Fourier transform in samples.
    hop_length : int, default=160
        Step between frames in samples.
    win_length : int or None, default=None
        Length of the Hann window in samples, centred in ``n_fft``; None is ``n_fft``.
    fmin, fmax : float, default=0.0 and None
        Range of the mel bands in Hz; ``fmax=None`` is half the sample rate.

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import MFCC
    >>> module = MFCC(n_mfcc=13, deltas=2).build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 100, 39), [100, 50])
    """

    name = "mfcc"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_mfcc": [Interval(Integral, 1, 1024, closed="both")],
        "deltas": [Interval(Integral, 0, 2, closed="both")],
        **LogMel._parameter_constraints,
    }

    def __init__(
        self,
        *,
        n_mfcc: int = 40,
        deltas: int = 0,
        n_mels: int = 80,
        n_fft: int = 400,
        hop_length: int = 160,
        win_length: int | None = None,
        fmin: float = 0.0,
        fmax: float | None = None,
    ) -> None:
        self.n_mfcc = n_mfcc
        self.deltas = deltas
        self.n_mels = n_mels
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.win_length = win_length
        self.fmin = fmin
        self.fmax = fmax

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _MFCCModule(self, sample_rate)

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""
        return sample_rate / self.hop_length

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the settings in librosa's words."""
        return {**super().to_preprocessor(sample_rate, chunk_length), **self.get_params(deep=False)}


class _MFCCModule(MelModule):
    basis: Tensor

    def __init__(self, params: MFCC, sample_rate: int) -> None:
        super().__init__(params, sample_rate)
        if params.n_mfcc > params.n_mels:
            raise ComponentError(f"Got n_mfcc={params.n_mfcc}, expected at most n_mels={params.n_mels}.")
        self.n_features = params.n_mfcc * (1 + params.deltas)
        self.deltas = params.deltas
        self.register_buffer("basis", cepstral_coefficients(torch.eye(params.n_mels), params.n_mfcc), persistent=False)

    def scaled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        decibels = (whisper_scale(mel, lengths) - 1) * UNIT
        coefficients = decibels @ self.basis
        orders = [local_slopes(coefficients, lengths, order) for order in range(1, self.deltas + 1)]
        frames = torch.cat([coefficients, *orders], dim=2)
        return frames * length_mask(lengths, frames.shape[1], frames.device)[:, :, None]


def local_slopes(frames: Tensor, lengths: Tensor, order: int = 1) -> Tensor:
    """Return how each value changes around each frame: a line or a parabola is fitted to the nine frames there.

    The first and the last frame of a clip are repeated beyond its ends, so padding changes nothing, and a clip
    may be shorter than nine frames.

    Parameters
    ----------
    frames : Tensor of shape (B, T, F)
    lengths : Tensor of shape (B,)
        Valid frames.
    order : {1, 2}, default=1
        1 is the slope of the line, 2 the second derivative of the parabola.

    Returns
    -------
    Tensor of shape (B, T, F)
        By the frame; what is beyond each length has no meaning.

    References
    ----------
    Savitzky and Golay, "Smoothing and Differentiation of Data by Simplified Least Squares Procedures", 1964.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.mfcc import local_slopes
    >>> ramp = 3 * torch.arange(20.0).view(1, 20, 1)
    >>> round(float(local_slopes(ramp, torch.tensor([20]))[0, 10, 0]), 4)
    3.0
    """
    half = _WIDTH // 2
    place = torch.arange(-half, half + 1, dtype=torch.float64)
    if order == 2:
        square = place.square() - place.square().mean()
        weights = 2 * square / square.square().sum()
    else:
        weights = place / place.square().sum()

    position = torch.arange(-half, frames.shape[1] + half)
    nearest = torch.minimum(position.clamp(min=0), lengths[:, None] - 1).to(frames.device)
    extended = frames[torch.arange(frames.shape[0], device=frames.device)[:, None], nearest]
    column = weights[:, None].to(frames.device, frames.dtype)  # onnxruntime 1.31 gets a product with a vector wrong
    return (extended.unfold(1, _WIDTH, 1) @ column).squeeze(3)
