"""LEAF: a learned filter bank with learned compression."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skastw.core.batching import trim
from skastw.core.mel import mel_frequencies
from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.spectra import check_cost
from skastw.features._base import FeaturesModule, HopFeatures
from skastw.features.pcen import energy_normalized

#: Number of complex outputs of filters that are computed at once; they take 32 MB.
_SLAB = 2**22
#: Lower mean powers in a band are raised to this value.
_FLOOR = 5e-8
#: Width of a Gaussian at half of its maximum, in standard deviations.
_HALF_WIDTH = 2 * math.sqrt(2 * math.log(2))


@parameters
class LEAF(HopFeatures):
    """Learned filter bank: Gabor filters, Gaussian pooling and per-channel energy normalization, all trained.

    The waveform passes complex filters, each a sine wave under a Gaussian window. Their squared magnitudes are averaged
    with Gaussian weights around every ``hop_length``-th sample and compressed as in :class:`~skastw.features.PCEN`.
    A clip of N samples has ``ceil(N / hop_length)`` frames. Padding a clip does not change its frames.

    Each band has seven weights, stored as logarithms: the centre frequency and the bandwidth of the filter (Hz), the
    standard deviation of the pooling (s), and gain, bias, power and rate of the normalization. The filters start as mel
    bands from ``fmin`` to ``fmax``.

    The front end runs in each training step, because its weights change. It takes much longer than
    :class:`~skastw.features.LogMel`, because each filter is convolved with the waveform.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Zeghidour, Teboul, de Chaumont Quitry and Tagliasacchi, "LEAF: A Learnable Frontend for Audio Classification", 2021.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import LEAF
    >>> module = LEAF().build(16000)
    >>> frames, lengths = module(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist(), frames.requires_grad
    ((2, 100, 40), [100, 50], True)
    """

    name = "leaf"
    trainable = True

    n_filters: int = param(default=40, valid=[integers(1, 1024)], doc="Number of filters.")
    win_length: int = param(
        default=401, valid=[integers(3, 8192)], doc="Length of the filters and of the pooling in samples."
    )
    fmin: float = param(
        default=60.0, valid=[reals(0, None, closed="neither")], doc="Lower end of the first mel bands in Hz."
    )
    fmax: float = param(
        default=7800.0,
        valid=[reals(0, None, closed="neither")],
        doc="Upper end of the first mel bands in Hz; at most half the sample rate is used.",
    )

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _LEAFModule(self, sample_rate)


class _LEAFModule(FeaturesModule):
    time: Tensor

    def __init__(self, params: LEAF, sample_rate: int) -> None:
        super().__init__()
        check_cost(params.win_length, params.hop_length, params.n_filters, names=("win_length", "n_filters"))
        self.n_features = params.n_filters
        self.hop_length = params.hop_length
        self.sample_rate = sample_rate
        self.reach = (params.win_length - 1) / 2 / sample_rate
        time = torch.arange(params.win_length) / sample_rate - self.reach
        self.register_buffer("time", time, persistent=False)

        # the filters are as wide at half of their maximum as the roots of mel triangles
        edges = mel_frequencies(
            sample_rate, params.n_filters, params.fmin, min(params.fmax, sample_rate / 2), scale="htk"
        )
        bandwidth = 0.75 * (edges[2:] - edges[:-2]) / _HALF_WIDTH
        first = np.ones(params.n_filters)
        self.log_frequency = _logarithms(edges[1:-1])
        self.log_bandwidth = _logarithms(bandwidth.clip(*self._bandwidths()))
        self.log_pool_width = _logarithms(0.4 * self.reach * first)
        self.log_gain = _logarithms(0.96 * first)
        self.log_bias = _logarithms(2.0 * first)
        self.log_power = _logarithms(0.5 * first)
        self.log_rate = _logarithms(0.04 * first)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        energy = self._energy(waveform.to(self.time.dtype)).clamp(min=_FLOOR)
        gain, power, rate = (weight.clamp(max=0).exp() for weight in (self.log_gain, self.log_power, self.log_rate))
        frames = energy_normalized(energy, rate, gain=gain, bias=self.log_bias.exp(), power=power, eps=1e-12)
        n_frames = (lengths + self.hop_length - 1) // self.hop_length
        return trim(frames, n_frames), n_frames

    def _energy(self, waveform: Tensor) -> Tensor:
        """Return the mean power of waveforms (B, N) in each band around every hop, (B, ceil(N / hop_length), F)."""
        (n_clips, n_samples), size, hop = waveform.shape, len(self.time), self.hop_length
        n_frames = (n_samples + hop - 1) // hop
        n_before, n_needed = 2 * ((size - 1) // 2), (n_frames - 1) * hop + 2 * size - 1
        padded = F.pad(waveform, (n_before, max(0, n_needed - n_before - n_samples)))
        filters, pooling = self._filters(), self._pooling()

        def of_frames(start: int, stop: int) -> Tensor:
            part = padded[:, start * hop : (stop - 1) * hop + 2 * size - 1]
            return _band_energy(part, filters, pooling, hop)

        if torch.compiler.is_compiling():  # an exported graph has no loop
            return of_frames(0, n_frames)
        n_slab = max(1, _SLAB // (n_clips * hop * self.n_features))
        if n_frames <= n_slab:
            return of_frames(0, n_frames)
        # the outputs of the filters take gigabytes: the backward pass computes them again
        bounds = [(start, min(start + n_slab, n_frames)) for start in range(0, n_frames, n_slab)]
        return torch.cat([checkpoint(of_frames, *bound, use_reentrant=False) for bound in bounds], dim=1)

    def _filters(self) -> Tensor:
        """Return the filters, whose weights are limited."""
        frequency = self.log_frequency.clamp(max=math.log(self.sample_rate / 2)).exp()
        bandwidth = self.log_bandwidth.clamp(*map(math.log, self._bandwidths())).exp()
        return gabor_filters(frequency, bandwidth, self.time, self.sample_rate)

    def _pooling(self) -> Tensor:
        """Return the weights of the pooling, (F, win_length), whose sum is 1 for each filter."""
        low, high = 2 * self.reach / len(self.time), 0.5 * self.reach
        width = self.log_pool_width.clamp(math.log(low), math.log(high)).exp()
        weights = _gaussian(self.time / width[:, None])
        return weights / weights.sum(dim=1, keepdim=True)

    def _bandwidths(self) -> tuple[float, float]:
        """Return the lowest and the highest bandwidth (Hz): a filter fits into its window and spans half the range."""
        return self.sample_rate / len(self.time) / _HALF_WIDTH, self.sample_rate / 4 / _HALF_WIDTH


def gabor_filters(frequency: Tensor, bandwidth: Tensor, time: Tensor, sample_rate: int) -> Tensor:
    """Return complex filters: sine waves under Gaussian windows.

    Parameters
    ----------
    frequency, bandwidth : Tensor of shape (F,)
        Centre and standard deviation of the frequency response, a Gaussian whose maximum is 1, in Hz.
    time : Tensor of shape (N,)
        Times of the samples in seconds.
    sample_rate : int
        Samples per second (Hz).

    Returns
    -------
    Tensor of shape (2 F, N)
        The real parts of all filters, then the imaginary parts.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.leaf import gabor_filters
    >>> time = torch.arange(-200, 201) / 16000
    >>> filters = gabor_filters(torch.tensor([1000.0]), torch.tensor([50.0]), time, 16000)
    >>> tuple(filters.shape), round(torch.linalg.norm(filters @ torch.exp(2000j * torch.pi * time).real).item(), 2)
    ((2, 401), 0.5)
    """
    angle = 2 * math.pi * time
    envelope = _gaussian(bandwidth[:, None] * angle) * bandwidth[:, None] * math.sqrt(2 * math.pi) / sample_rate
    angle = frequency[:, None] * angle
    return torch.cat([envelope * angle.cos(), envelope * angle.sin()])


def _logarithms(values: np.ndarray) -> nn.Parameter:
    """Return weights that are the logarithms of ``values``."""
    weights = torch.empty(len(values))
    return nn.Parameter(weights.copy_(torch.from_numpy(np.log(values))))


def _gaussian(x: Tensor) -> Tensor:
    """Return ``exp(-x**2 / 2)``, but at least 1e-22: convolutions with subnormal numbers are very slow on a CPU."""
    return (-0.5 * x.square()).clamp(min=-50).exp()


def _band_energy(waveform: Tensor, filters: Tensor, pooling: Tensor, hop_length: int) -> Tensor:
    """Return the averaged squared magnitudes (B, T, F) of the outputs of complex filters.

    A direct convolution: with the default sizes, transforms of blocks are not faster on a CPU.
    """
    real, imaginary = F.conv1d(waveform[:, None], filters[:, None]).chunk(2, dim=1)
    power = real.square() + imaginary.square()
    return F.conv1d(power, pooling[:, None], stride=hop_length, groups=len(pooling)).transpose(1, 2)
