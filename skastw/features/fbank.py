"""Kaldi's log mel filter bank."""

from typing import Any

import numpy as np
from torch import Tensor

from skastw.core.batching import trim
from skastw.core.kaldi import WINDOWS, KaldiFilterBank, highest
from skastw.core.mel import mel_frequencies, warn_about_empty_bands
from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.features._base import FeaturesModule, HopFeatures


@parameters
class FBank(HopFeatures):
    """Log mel filter bank with the values of Kaldi, which many speech and sound models were trained on.

    The mean of each window is subtracted. The window is pre-emphasised, multiplied by a window function and padded with
    zeros to ``n_fft``. A frame contains the natural logarithms of the sums of powers in triangular bands over the mel
    scale, which are at least 2^-23, minus ``mean`` and divided by ``std``. There is no dither.

    With ``snip_edges``, windows lie completely inside the clip, so a clip of N samples has
    ``1 + (N - win_length) // hop_length`` frames. A clip that is shorter than a window is padded with zeros to one
    window. Padding a clip does not change its frames.

    ===========================  =================================================================================
    model                        settings, for waveforms at 16 kHz
    ===========================  =================================================================================
    AST                          ``n_mels=128, window="hanning", scale=1, mean=-4.2677393, std=2 * 4.5689974``
    BEATs                        ``n_mels=128, mean=15.41663, std=2 * 6.55582``
    SeamlessM4T, w2v-BERT 2.0    ``n_mels=80``, then each bin is standardised over the clip
    ===========================  =================================================================================

    Parameters
    ----------
    {parameters}

    References
    ----------
    Povey et al., "The Kaldi Speech Recognition Toolkit", 2011.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import FBank
    >>> module = FBank(n_mels=40).build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 98, 40), [98, 48])
    """

    name = "fbank"

    n_mels: int = param(default=80, valid=[integers(1, 1024)], doc="Number of mel bands.")
    n_fft: int | None = param(
        default=None,
        valid=[integers(2, 65536), None],
        doc="Length of the Fourier transform in samples, at least ``win_length``; None stands for the lowest power of "
        "two that is not below ``win_length``.",
    )
    win_length: int = param(default=400, valid=[integers(2, 65536)], doc="Length of the window in samples.")
    window: str = param(
        default="povey",
        valid=[StrOptions(set(WINDOWS))],
        doc='Window function. ``"povey"`` is the Hann window to the power of 0.85.',
    )
    preemphasis: float = param(
        default=0.97,
        valid=[reals(0, 1)],
        doc="Share of the previous sample that is subtracted from each sample; 0 switches the pre-emphasis off.",
    )
    remove_dc_offset: bool = param(
        default=True, valid=["boolean"], doc="Whether to subtract its mean from each window."
    )
    snip_edges: bool = param(
        default=True,
        valid=["boolean"],
        doc="Whether windows lie completely inside the clip. If False, the middles of the windows are half a hop from "
        "the start of the clip and then one hop apart, and the clip is mirrored at both ends.",
    )
    fmin: float = param(default=20.0, valid=[reals(0, None, closed="left")], doc="Lower end of the mel bands in Hz.")
    fmax: float | None = param(
        default=None,
        valid=[reals(-1e6, 1e6), None],
        doc="Upper end of the mel bands in Hz. None stands for half the sample rate, to which a negative value is "
        "added.",
    )
    use_power: bool = param(default=True, valid=["boolean"], doc="Whether bands are sums of powers, or of magnitudes.")
    scale: float = param(
        default=2.0**15,
        valid=[reals(0, 1e9, closed="right")],
        doc="Factor of the waveform, whose samples lie in [-1, 1]. Kaldi reads them as 16-bit integers.",
    )
    mean: float = param(default=0.0, valid=[reals(-1e6, 1e6)], doc="Value that is subtracted from the logarithms.")
    std: float = param(
        default=1.0, valid=[reals(0, 1e6, closed="right")], doc="Value that the difference is divided by."
    )

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _FBankModule(sample_rate, **self.get_params(deep=False))

    def frequencies(self, sample_rate: int) -> np.ndarray:
        """Return the centre frequency of each mel band, shape (n_mels,), in Hz."""
        fmax = highest(self.fmax, sample_rate)
        return mel_frequencies(sample_rate, self.n_mels, self.fmin, fmax, scale="kaldi")[1:-1]

    @property
    def n_lost(self) -> int:
        """Samples at the end of a clip that have no frame; see :class:`~skastw.features.Features`."""
        return max(0, self.win_length - self.hop_length) if self.snip_edges else 0


class _FBankModule(FeaturesModule):
    def __init__(self, sample_rate: int, *, mean: float, std: float, **settings: Any) -> None:
        super().__init__()
        self.bank = KaldiFilterBank(sample_rate, **settings)
        self.n_features = settings["n_mels"]
        self.mean, self.std = mean, std
        warn_about_empty_bands(self.bank.filters.T.numpy(), sample_rate, self.bank.n_fft)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        frames, n_frames = self.bank(waveform, lengths)
        return trim((frames - self.mean) / self.std, n_frames), n_frames
