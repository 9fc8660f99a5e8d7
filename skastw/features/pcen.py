"""Per-channel energy normalization."""

import math

import numpy as np
import torch
from torch import Tensor

from skastw.core.batching import frame_mask
from skastw.core.mel import mel_frequencies
from skastw.core.parameters import param, parameters, reals
from skastw.features._base import FeaturesModule
from skastw.features.log_mel import MelFeatures, MelModule

#: Value of a sample of 1 on the scale of 32-bit integers, for which the default parameters were chosen.
_FULL_SCALE = 2.0**31
#: Number of frames that are smoothed with one product of matrices.
_BLOCK = 128


@parameters
class PCEN(MelFeatures):
    """Per-channel energy normalization: each mel band is divided by its moving average, then compressed.

    A value of a frame is ``(E / (eps + M)**gain + bias)**power - bias**power``, where E is the magnitude in a band and
    M its exponential moving average over time. This reduces steady sounds and the level of the recording and emphasises
    onsets, which helps with distant microphones and background noise.

    The moving average only depends on past frames, so padding a clip does not change its frames. It starts with the
    value of the first frame. In ``librosa.pcen`` it starts near zero by default, so that each clip begins with an
    onset.

    The default parameters were chosen for samples of 32-bit integers, so waveforms in [-1, 1] are scaled to this range,
    as librosa recommends. The bands are sums of magnitudes instead of powers, as in librosa's example. With a ``gain``
    near 1 the scale has little effect: 20 dB change the frames of a steady sound by some hundredths.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Wang, Getreuer, Hughes, Lyon and Saurous, "Trainable Frontend For Robust and Far-Field Keyword Spotting",
    2017, equations 1 and 2. Coefficient of the average for a time constant: Lostanlen et al., "Per-Channel Energy
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

    gain: float = param(
        default=0.98,
        valid=[reals(0, 1)],
        doc="Exponent of the moving average; 1 removes the level of a steady sound completely, 0 keeps it.",
    )
    bias: float = param(
        default=2.0,
        valid=[reals(0, 1e6, closed="right")],
        doc="Offset that is added before the compression; much smaller ratios have little effect.",
    )
    power: float = param(default=0.5, valid=[reals(0, 1, closed="right")], doc="Exponent of the compression.")
    time_constant: float = param(
        default=0.4,
        valid=[reals(0, 1000, closed="right")],
        doc="Time constant of the moving average in seconds.",
    )
    eps: float = param(
        default=1e-6,
        valid=[reals(0, 1e6, closed="right")],
        doc="Value that is added to the moving average, on the scale of 32-bit integers.",
    )

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _PCENModule(self, sample_rate)

    def frequencies(self, sample_rate: int) -> np.ndarray:
        """Return the centre frequency of each mel band, shape (n_mels,), in Hz."""
        return mel_frequencies(sample_rate, self.n_mels, self.fmin, self.fmax)[1:-1]


class _PCENModule(MelModule):
    def __init__(self, params: PCEN, sample_rate: int) -> None:
        super().__init__(params, sample_rate)
        self.params = params
        # the response of this average is as wide as that of a continuous one with the time constant
        n_frames = params.time_constant * sample_rate / params.hop_length
        self.rate = 2 / (1 + math.sqrt(1 + 4 * n_frames**2))

    def spectrum(self, power: Tensor) -> Tensor:
        """Return the magnitude on the scale of 32-bit integers."""
        return power.sqrt() * _FULL_SCALE

    def scaled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        gain, bias, power, eps = self.params.gain, self.params.bias, self.params.power, self.params.eps
        frames = energy_normalized(mel, self.rate, gain=gain, bias=bias, power=power, eps=eps)
        return frames * frame_mask(frames, lengths)


def energy_normalized(
    energy: Tensor,
    rate: float | Tensor,
    *,
    gain: float | Tensor,
    bias: float | Tensor,
    power: float | Tensor,
    eps: float,
) -> Tensor:
    """Return ``(E / (eps + M)**gain + bias)**power - bias**power``, where M is the moving average of E over time.

    Parameters
    ----------
    energy : Tensor of shape (B, T, F)
    rate : float or Tensor of shape (F,)
        Weight of the current value in the moving average; see :func:`smoothed`.
    gain, bias, power : float or Tensor of shape (F,)
        Exponent of the moving average, offset, and exponent of the compression.
    eps : float
        Value that is added to the moving average.

    Returns
    -------
    Tensor of shape (B, T, F)

    Examples
    --------
    >>> import torch
    >>> from skastw.features.pcen import energy_normalized
    >>> energy_normalized(torch.full((1, 1, 1), 9.0), 0.5, gain=1.0, bias=3.0, power=0.5, eps=0.0).item()
    0.267949...
    """
    ratio = energy * (smoothed(energy, rate) + eps).pow(-gain)
    return bias**power * torch.expm1(power * torch.log1p(ratio / bias))


def smoothed(values: Tensor, rate: float | Tensor) -> Tensor:
    """Return the exponential moving average over time: ``m[t] = (1 - rate) m[t - 1] + rate x[t]`` with m[0] = x[0].

    Parameters
    ----------
    values : Tensor of shape (B, T, F)
    rate : float or Tensor of shape (F,)
        Weight of the current value, above 0 and at most 1, for all values of a frame or for each of them.

    Returns
    -------
    Tensor of shape (B, T, F)

    Notes
    -----
    Inside a block of frames, the recursion is a product with the lower triangular matrix of
    ``rate (1 - rate)**(i - j)``. From block to block, it is again a product with such a matrix.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.pcen import smoothed
    >>> smoothed(torch.tensor([[[0.0], [1.0], [1.0]]]), 0.5).flatten().tolist()
    [0.0, 0.5, 0.75]
    """
    n_items, n_frames, n_bins = values.shape
    n_blocks = (n_frames + _BLOCK - 1) // _BLOCK
    blocks = torch.nn.functional.pad(values, (0, 0, 0, n_blocks * _BLOCK - n_frames))
    blocks = blocks.view(n_items, n_blocks, _BLOCK, n_bins)
    rate = torch.as_tensor(rate, device=values.device, dtype=values.dtype)[..., None, None]
    decay, f = 1 - rate, "f" * (rate.ndim - 2)

    means = torch.einsum(f"{f}ij,bnjf->bnif", rate * _powers(decay, _BLOCK), blocks)

    # add the averages at the ends of the previous blocks, which the first product leaves out
    ends = torch.cat([values[:, :1], means[:, :-1, -1]], dim=1)
    before = torch.einsum(f"{f}ij,bjf->bif", _powers(decay**_BLOCK, n_blocks), ends)
    left = torch.arange(1, _BLOCK + 1, device=values.device)[:, None]
    means = means + decay.flatten() ** left * before[:, :, None]
    return means.flatten(1, 2)[:, :n_frames]


def _powers(base: Tensor, size: int) -> Tensor:
    """Return the lower triangular matrices (..., size, size) of ``base**(i - j)`` for ``base`` (..., 1, 1)."""
    step = torch.arange(size, device=base.device)
    return (base ** (step[:, None] - step).clamp(min=0)).tril()
