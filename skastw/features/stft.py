"""Short-time Fourier transform: magnitudes, phases and group delay."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor

from skastw.core.batching import trim
from skastw.core.parameters import param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.core.spectra import WINDOWS, centred_window, check_cost, in_slabs, librosa_windows, n_librosa_windows
from skastw.features._base import FeaturesModule, STFTFeatures

#: Lowest magnitude, for decibels and for the direction of a complex number.
_FLOOR = 1e-5
#: Value that is added to powers before a division.
_EPS = 1e-10


@parameters
class SpectrumFeatures(STFTFeatures):
    """Base of front ends with values for each bin of the Fourier transform; see :class:`STFT`."""

    window: str = param(default="hann", valid=[StrOptions(set(WINDOWS))], doc="Window function.")
    preemphasis: float = param(
        default=0.0,
        valid=[reals(0, 1)],
        doc="Share of the previous sample that is subtracted from each sample. 0.97 is usual for speech, 0 switches "
        "the pre-emphasis off.",
    )

    def frequencies(self, sample_rate: int) -> np.ndarray | None:
        """Return the centre frequency of each bin, shape (n_fft // 2 + 1,), in Hz."""
        return np.arange(self.n_fft // 2 + 1) * sample_rate / self.n_fft


@parameters
class ScaledSpectrumFeatures(SpectrumFeatures):
    """Base of front ends with magnitudes; see :class:`STFT`."""

    scale: str = param(
        default="db",
        valid=[StrOptions({"magnitude", "db"})],
        doc='Scale of the magnitudes: ``"magnitude"``, or ``"db"`` for ``20 log10(max(x, 1e-5))``.',
    )


@parameters
class STFT(ScaledSpectrumFeatures):
    """Magnitudes of the short-time Fourier transform.

    Windows are centred on every ``hop_length``-th sample, and half a window of zeros is added at both ends of the clip,
    as in ``librosa.stft``. A frame contains the magnitudes of all ``n_fft // 2 + 1`` bins, from 0 Hz to half the sample
    rate. Padding a clip does not change its frames.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Allen and Rabiner, "A unified approach to short-time Fourier analysis and synthesis", 1977.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import STFT
    >>> module = STFT(n_fft=512).build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist(), frames[0, 0, 0].item()
    ((2, 101, 257), [101, 51], -100.0)
    """

    name = "stft"

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _STFTModule(self, 1)


@parameters
class STFTPhase(ScaledSpectrumFeatures):
    """Phases and magnitudes of the short-time Fourier transform.

    A frame contains the cosines of the phases of all bins, their sines, and their magnitudes as in
    :class:`~skastw.features.STFT`. An angle would jump between -pi and pi although the sound changes little; cosine and
    sine do not, and are 0 for silence, which has no phase. The phase is relative to the first sample of the ``n_fft``
    samples around the middle of the window. Padding a clip does not change its frames.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Allen and Rabiner, "A unified approach to short-time Fourier analysis and synthesis", 1977.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import STFTPhase
    >>> module = STFTPhase(n_fft=512).build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 101, 771), [101, 51])
    """

    name = "stft_phase"

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _STFTPhaseModule(self, 3)

    def frequencies(self, sample_rate: int) -> None:
        """Return None, because three values of a frame belong to each frequency."""


@parameters
class GroupDelay(SpectrumFeatures):
    """Group delay: for each frequency, the position of its energy in the window, in samples.

    If X is the spectrum of a window, and Y the spectrum of the same samples, each multiplied by its position in the
    window (0, 1, 2, ...), the group delay is ``(Re X Re Y + Im X Im Y) / (|X|^2 + 1e-10)``. A click has the same delay
    at all frequencies, its position in the window. Frequencies without energy can have a delay far outside the window,
    which ``limit`` restricts. Silence has the delay 0. Windows lie as in :class:`~skastw.features.STFT`. Padding a clip
    does not change its frames. Use ``normalization="per_bin"`` to bring the frames to a scale for networks.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Yegnanarayana, Saikia and Krishnan, "Significance of group delay functions in signal reconstruction from spectral
    magnitude or phase", 1984.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import GroupDelay
    >>> module = GroupDelay(n_fft=400).build(16000)
    >>> click = torch.zeros(1, 1600)
    >>> click[0, 830] = 1  # 30 samples after the middle of the sixth window
    >>> frames, lengths = module(click, torch.tensor([1600]))
    >>> tuple(frames.shape), round(frames[0, 5].min().item()), round(frames[0, 5].max().item())
    ((1, 11, 201), 230, 230)
    """

    name = "group_delay"

    limit: float | None = param(
        default=1.0,
        valid=[reals(0, 1e6), None],
        doc="Largest distance of a delay from the window, in lengths of the window; larger ones are reduced to it. "
        "None stands for no limit.",
    )

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _GroupDelayModule(self)


class _SpectrumModule(FeaturesModule):
    """Base of the modules: values of each window, computed from its samples and the window function."""

    window: Tensor

    def __init__(self, params: SpectrumFeatures, values_per_bin: int) -> None:
        super().__init__()
        check_cost(params.n_fft, params.hop_length, n_mels=1)
        self.n_features = values_per_bin * (params.n_fft // 2 + 1)
        self.n_fft, self.hop_length, self.preemphasis = params.n_fft, params.hop_length, params.preemphasis
        window = centred_window(params.window, params.win_length, params.n_fft)
        self.register_buffer("window", window, persistent=False)

    @abstractmethod
    def values(self, windows: Tensor) -> Tensor:
        """Return the frames (n, F) of windows (n, n_fft)."""

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if self.preemphasis:
            waveform = emphasized(waveform, lengths, self.preemphasis)
        windows = librosa_windows(waveform, lengths, self.n_fft, self.hop_length)
        n_frames = n_librosa_windows(lengths, self.n_fft, self.hop_length)
        return trim(in_slabs(windows, self.values), n_frames), n_frames


class _STFTModule(_SpectrumModule):
    def __init__(self, params: ScaledSpectrumFeatures, values_per_bin: int) -> None:
        super().__init__(params, values_per_bin)
        self.scale = params.scale

    def values(self, windows: Tensor) -> Tensor:
        return self.scaled(torch.fft.rfft(windows * self.window).abs())

    def scaled(self, magnitudes: Tensor) -> Tensor:
        return 20 * magnitudes.clamp(min=_FLOOR).log10() if self.scale == "db" else magnitudes


class _STFTPhaseModule(_STFTModule):
    def values(self, windows: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(windows * self.window)
        magnitudes = spectrum.abs()
        length = magnitudes.clamp(min=_FLOOR)
        return torch.cat([spectrum.real / length, spectrum.imag / length, self.scaled(magnitudes)], dim=1)


class _GroupDelayModule(_SpectrumModule):
    position: Tensor

    def __init__(self, params: GroupDelay) -> None:
        super().__init__(params, values_per_bin=1)
        win_length = params.win_length or params.n_fft
        position = torch.arange(params.n_fft) - (params.n_fft - win_length) // 2
        self.register_buffer("position", position.to(self.window.dtype), persistent=False)
        distance = params.limit and params.limit * win_length
        self.limits = None if distance is None else (-distance, win_length + distance)

    def values(self, windows: Tensor) -> Tensor:
        windows = windows * self.window
        x, y = torch.fft.rfft(windows), torch.fft.rfft(windows * self.position)
        delay = (x.real * y.real + x.imag * y.imag) / (x.real.square() + x.imag.square() + _EPS)
        return delay if self.limits is None else delay.clamp(*self.limits)


def emphasized(waveform: Tensor, lengths: Tensor, coefficient: float) -> Tensor:
    """Return the waveform minus a share of the previous sample, which raises high frequencies.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
    lengths : Tensor of shape (B,)
        Samples of each clip.
    coefficient : float
        Share of the previous sample. The sample before the first one is zero.

    Returns
    -------
    Tensor of shape (B, M)
        M is the length of the longest clip. Zero beyond the length of each clip.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.stft import emphasized
    >>> emphasized(torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([2]), 0.75).tolist()
    [[1.0, 0.25]]
    """
    previous = torch.nn.functional.pad(waveform[:, :-1], (1, 0))
    return trim((waveform - coefficient * previous)[:, :, None], lengths)[:, :, 0]
