"""Per-channel energy normalization."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from skastw.core.batching import length_mask
from skastw.core.sklearn_private import Interval
from skastw.features._base import Features, FeaturesModule
from skastw.features.log_mel import LogMel, MelModule, mel_frequencies

__all__ = ["PCEN", "smoothed"]

#: What a sample of 1 counts as: the defaults of the gain control are those of 32-bit integers.
_FULL_SCALE = 2.0**31
#: Frames that are smoothed by one multiplication of matrices.
_BLOCK = 128


class PCEN(Features):
    """Per-channel energy normalization: each mel band is divided by its own recent mean, then compressed.

    ``(E / (eps + M)**gain + bias)**power - bias**power``, where E is the magnitude in a band and M its
    exponential moving average over time. Steady sounds and the level of the recording fade, onsets stand out:
    for distant microphones and noisy places.

    It is causal, so padding a clip changes none of its frames. M starts at the first frame, as if the sound
    before the clip had been like it; ``librosa.pcen`` starts from near silence by default, at which every clip
    would begin with an onset.

    The default parameters are those of 32-bit integer samples, and waveforms in [-1, 1] are taken to that
    scale first, as librosa advises; the bands are sums of magnitudes, as in its example, not of powers. With a
    ``gain`` near 1 the scale hardly matters: 20 dB change the frames of a steady sound by some hundredths.

    Parameters
    ----------
    gain : float, default=0.98
        Exponent of the mean that is divided by; 1 takes away all of a steady sound's level, 0 nothing.
    bias : float, default=2.0
        What is added before the compression: ratios far below it count little.
    power : float, default=0.5
        Exponent of the compression.
    time_constant : float, default=0.4
        Of the moving average, in seconds.
    eps : float, default=1e-6
        Least mean, on the scale of 32-bit integers.
    n_mels : int, default=80
        Mel bands F.
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
    Wang, Getreuer, Hughes, Lyon and Saurous, "Trainable Frontend For Robust and Far-Field Keyword Spotting",
    2017, equations 1 and 2. The average's coefficient for a time constant: Lostanlen et al., "Per-Channel Energy
    Normalization: Why and How", 2019.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import PCEN
    >>> module = PCEN().build(16000)
    >>> frames, lengths = module(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist(), bool((frames >= 0).all())
    ((2, 100, 80), [100, 50], True)
    """

    name = "pcen"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "gain": [Interval(Real, 0, 1, closed="both")],
        "bias": [Interval(Real, 0, 1e6, closed="right")],
        "power": [Interval(Real, 0, 1, closed="right")],
        "time_constant": [Interval(Real, 0, 1000, closed="right")],
        "eps": [Interval(Real, 0, 1e6, closed="right")],
        **LogMel._parameter_constraints,
    }

    def __init__(
        self,
        *,
        gain: float = 0.98,
        bias: float = 2.0,
        power: float = 0.5,
        time_constant: float = 0.4,
        eps: float = 1e-6,
        n_mels: int = 80,
        n_fft: int = 400,
        hop_length: int = 160,
        win_length: int | None = None,
        fmin: float = 0.0,
        fmax: float | None = None,
    ) -> None:
        self.gain = gain
        self.bias = bias
        self.power = power
        self.time_constant = time_constant
        self.eps = eps
        self.n_mels = n_mels
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.win_length = win_length
        self.fmin = fmin
        self.fmax = fmax

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _PCENModule(self, sample_rate)

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""
        return sample_rate / self.hop_length

    def frequencies(self, sample_rate: int) -> np.ndarray:
        """Return the middle of each mel band, shape (n_mels,), in Hz."""
        return mel_frequencies(sample_rate, self.n_mels, self.fmin, self.fmax)[1:-1]

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the settings in librosa's words."""
        return {**super().to_preprocessor(sample_rate, chunk_length), **self.get_params(deep=False)}


class _PCENModule(MelModule):
    def __init__(self, params: PCEN, sample_rate: int) -> None:
        super().__init__(params, sample_rate)
        self.params = params
        frames = params.time_constant * sample_rate / params.hop_length
        self.rate = 2 / (
            1 + math.sqrt(1 + 4 * frames**2)
        )  # of a mean whose response is as wide as that of the constant

    def spectrum(self, power: Tensor) -> Tensor:
        """Return the magnitude on the scale of 32-bit integers."""
        return power.sqrt() * _FULL_SCALE

    def scaled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        gain, bias, power, eps = self.params.gain, self.params.bias, self.params.power, self.params.eps
        ratio = mel * (smoothed(mel, self.rate) + eps).pow(-gain)
        frames = bias**power * torch.expm1(power * torch.log1p(ratio / bias))
        return frames * length_mask(lengths, frames.shape[1], frames.device)[:, :, None]


def smoothed(values: Tensor, rate: float) -> Tensor:
    """Return the exponential moving average over time, ``m[t] = (1 - rate) m[t - 1] + rate x[t]``, m[0] = x[0].

    Parameters
    ----------
    values : Tensor of shape (B, T, F)
    rate : float
        Share of the present in the mean, above 0 and at most 1.

    Returns
    -------
    Tensor of shape (B, T, F)

    Notes
    -----
    Within blocks of frames the recursion is a product with the lower triangular matrix of
    ``rate (1 - rate)**(i - j)``, and from block to block it is one with such a matrix again.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.pcen import smoothed
    >>> smoothed(torch.tensor([[[0.0], [1.0], [1.0]]]), 0.5).flatten().tolist()
    [0.0, 0.5, 0.75]
    """
    n_items, n_frames, n_bins = values.shape
    n_blocks = (n_frames + _BLOCK - 1) // _BLOCK
    whole = torch.nn.functional.pad(values, (0, 0, 0, n_blocks * _BLOCK - n_frames))
    left = torch.arange(1, _BLOCK + 1, device=values.device, dtype=values.dtype)[:, None]

    means = rate * _powers(1 - rate, _BLOCK, values) @ whole.view(n_items, n_blocks, _BLOCK, n_bins)
    ends = torch.cat([values[:, :1], means[:, :-1, -1]], dim=1)  # of each block but the last, as if nothing were before
    before = _powers((1 - rate) ** _BLOCK, n_blocks, values) @ ends
    means = means + (1 - rate) ** left * before[:, :, None]
    return means.flatten(1, 2)[:, :n_frames]


def _powers(base: float, size: int, like: Tensor) -> Tensor:
    """Return the lower triangular matrix (size, size) of ``base**(i - j)``."""
    step = torch.arange(size, device=like.device, dtype=like.dtype)
    return (base ** (step[:, None] - step).clamp(min=0)).tril()
