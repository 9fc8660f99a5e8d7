"""Mel spectrogram with the values of librosa."""

import numpy as np
import torch
from torch import Tensor

from skastw.core.batching import trim
from skastw.core.mel import mel_filter_bank, mel_frequencies, warn_about_empty_bands
from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.core.spectra import (
    centred_window,
    check_cost,
    in_slabs,
    librosa_windows,
    n_librosa_windows,
    power_spectrum,
)
from skastw.features._base import FeaturesModule
from skastw.features.log_mel import MelFeatures


@parameters
class MelSpectrogram(MelFeatures):
    """Mel spectrogram with the values of ``librosa.feature.melspectrogram``, linear or on a logarithmic scale.

    Windows are centred on every ``hop_length``-th sample, and both ends of the clip are padded. A clip of N samples has
    ``1 + N // hop_length`` frames, one less if ``n_fft`` is odd and ``hop_length`` divides N. Padding a clip does not
    change its frames.

    ===========  ==========================================================================================
    model        settings
    ===========  ==========================================================================================
    PANNs        ``n_mels=64, n_fft=1024, hop_length=320, fmin=50, fmax=14000, pad_mode="reflect"``, at 32 kHz
    Resemblyzer  ``n_mels=40, n_fft=400, hop_length=160, scale="power", level=-30.0``, at 16 kHz
    ===========  ==========================================================================================

    Resemblyzer itself only raises the level of quieter clips; ``level`` also lowers that of louder ones.

    Parameters
    ----------
    {parameters}

    References
    ----------
    McFee et al., "librosa: Audio and Music Signal Analysis in Python", 2015.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import MelSpectrogram
    >>> module = MelSpectrogram(n_mels=40).build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist(), frames[0, 0, 0].item()
    ((2, 101, 40), [101, 51], -100.0)
    """

    name = "mel"

    pad_mode: str = param(
        default="constant",
        valid=[StrOptions({"constant", "reflect"})],
        doc="Padding of half a window at both ends of a clip: zeros, or the mirrored clip.",
    )
    power: int = param(
        default=2, valid=[integers(1, 2)], doc="1 sums magnitudes of the spectrum in each band, 2 sums powers."
    )
    mel_scale: str = param(
        default="slaney",
        valid=[StrOptions({"slaney", "htk"})],
        doc="Mel scale. Slaney's is linear below 1 kHz.",
    )
    norm: str = param(
        default="slaney",
        valid=[StrOptions({"slaney", "none"})],
        doc='Weights of a band: ``"slaney"`` gives each triangle the area 1, ``"none"`` the peak 1.',
    )
    scale: str = param(
        default="db",
        valid=[StrOptions({"power", "db", "log"})],
        doc='Scale of the bands: ``"power"`` for no logarithm, ``"db"`` for ``10 log10(max(x, 1e-10))``, or ``"log"`` '
        "for ``ln(x + offset)``.",
    )
    offset: float = param(
        default=1e-6,
        valid=[reals(0, 1e6, closed="right")],
        doc='Value that is added before the logarithm of ``scale="log"``.',
    )
    level: float | None = param(
        default=None,
        valid=[reals(-100, 20), None],
        doc="Level to which each clip is scaled before the transform (dB): the root of its mean square, relative to 1. "
        "None keeps the level of the clip.",
    )

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _MelSpectrogramModule(self, sample_rate)

    def frequencies(self, sample_rate: int) -> np.ndarray:
        """Return the centre frequency of each mel band, shape (n_mels,), in Hz."""
        return mel_frequencies(sample_rate, self.n_mels, self.fmin, self.fmax, scale=self.mel_scale)[1:-1]


class _MelSpectrogramModule(FeaturesModule):
    window: Tensor
    filters: Tensor

    def __init__(self, params: MelSpectrogram, sample_rate: int) -> None:
        super().__init__()
        check_cost(params.n_fft, params.hop_length, params.n_mels)
        self.params = params
        self.n_features = params.n_mels

        size, limits = (params.n_fft, params.n_mels), (params.fmin, params.fmax)
        filters = mel_filter_bank(sample_rate, *size, *limits, scale=params.mel_scale, norm=params.norm)
        warn_about_empty_bands(filters, sample_rate, params.n_fft)
        self.register_buffer("window", centred_window("hann", params.win_length, params.n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        n_fft, hop_length = self.params.n_fft, self.params.hop_length
        if self.params.level is not None:
            mean_square = waveform.square().sum(dim=1, keepdim=True) / lengths[:, None].to(waveform.device)
            waveform = waveform * 10 ** (self.params.level / 20) * mean_square.clamp(min=1e-10).rsqrt()

        windows = librosa_windows(waveform, lengths, n_fft, hop_length, self.params.pad_mode)
        n_frames = n_librosa_windows(lengths, n_fft, hop_length)
        return trim(in_slabs(windows, self._mel), n_frames), n_frames

    def _mel(self, windows: Tensor) -> Tensor:
        """Return the frames of windows (n, n_fft), shape (n, n_mels)."""
        power = power_spectrum(windows, self.window)
        mel = (power.sqrt() if self.params.power == 1 else power) @ self.filters
        if self.params.scale == "db":
            return 10 * mel.clamp(min=1e-10).log10()
        return (mel + self.params.offset).log() if self.params.scale == "log" else mel
