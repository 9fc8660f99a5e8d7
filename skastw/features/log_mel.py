"""Log-mel spectrogram with Whisper's normalisation."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skastw.core.batching import frame_mask, is_padded
from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.warn import warn_user
from skastw.errors import ComponentError, plain
from skastw.features._base import Features, FeaturesModule

#: Windows that are transformed at once, and samples in them. Such a part fits into the cache of a processor, and limits
#: the memory for recordings of hours.
_SLAB, _SLAB_SIZE = 1024, 2**23
#: Largest number of windows that contain the same sample (``n_fft / hop_length``); 2 to 16 are usual.
MAX_OVERLAP = 1024
#: Largest product ``n_fft * n_mels``; the filters take twice as many bytes.
MAX_FILTER_SIZE = 2**23


@parameters
class MelFeatures(Features):
    """Base of front ends with a mel filter bank; see :class:`LogMel`."""

    n_mels: int = param(default=80, valid=[integers(1, 1024)], doc="Number of mel bands.")
    n_fft: int = param(
        default=400,
        valid=[integers(8, 65536)],
        doc="Length of the Fourier transform in samples.",
    )
    hop_length: int = param(default=160, valid=[integers(1, 65536)], doc="Step between frames in samples.")
    win_length: int | None = param(
        default=None,
        valid=[integers(2, 65536), None],
        doc="Length of the Hann window in samples, which is centred in ``n_fft``; None stands for ``n_fft``.",
    )
    fmin: float = param(default=0.0, valid=[reals(0, None, closed="left")], doc="Lower end of the mel bands in Hz.")
    fmax: float | None = param(
        default=None,
        valid=[reals(0, None, closed="neither"), None],
        doc="Upper end of the mel bands in Hz; None stands for half the sample rate.",
    )

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""
        return sample_rate / self.hop_length

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the settings by the names of the parameters, which are librosa's."""
        return {**super().to_preprocessor(sample_rate, chunk_length), **self.get_params(deep=False)}


@parameters
class LogMel(MelFeatures):
    """Log-mel spectrogram: short-time power spectrum, mel filter bank, log10, Whisper's scaling.

    A frame is centred on every ``hop_length``-th sample, so a clip of N samples has ``ceil(N / hop_length)`` frames.
    The waveform is mirrored at its start and padded with zeros at its end, as in Whisper. Padding a clip does not
    change its frames.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, section 2.2.
    Mel scale and band weights: Slaney, "Auditory Toolbox", 1998.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import LogMel
    >>> module = LogMel().build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 100, 80), [100, 50])
    """

    name = "log_mel"
    log_mel = True

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return MelModule(self, sample_rate)

    def frequencies(self, sample_rate: int) -> np.ndarray:
        """Return the centre frequency of each mel band, shape (n_mels,), in Hz."""
        return mel_frequencies(sample_rate, self.n_mels, self.fmin, self.fmax)[1:-1]

    def to_preprocessor(self, sample_rate: int, chunk_length: float) -> dict[str, Any]:
        """Return the settings by the names of ``WhisperFeatureExtractor`` in ``transformers``.

        This extractor has bands from 0 to 8000 Hz and a window of ``n_fft`` samples. Other settings have the same
        names, but another ``feature_extractor_type``. Since it pads to whole seconds, ``chunk_length`` is rounded up.
        """
        seconds = math.ceil(chunk_length)
        n_samples = seconds * sample_rate
        settings = {
            "sampling_rate": sample_rate,
            "feature_size": self.n_mels,
            "n_fft": self.n_fft,
            "hop_length": self.hop_length,
            "chunk_length": seconds,
            "n_samples": n_samples,
            "nb_max_frames": n_samples // self.hop_length,
            "padding_side": "right",
            "padding_value": 0.0,
            "dither": 0.0,
            "return_attention_mask": False,
        }

        whole_band = self.fmin == 0 and self.fmax in (None, 8000) and sample_rate == 16000
        if whole_band and self.win_length in (None, self.n_fft):
            return {"feature_extractor_type": "WhisperFeatureExtractor", **settings}
        own = {"win_length": self.win_length or self.n_fft, "fmin": self.fmin, "fmax": self.fmax or sample_rate / 2}
        return {**Features.to_preprocessor(self, sample_rate, seconds), **settings, **own}


class MelModule(FeaturesModule):
    """Built :class:`LogMel`, and base of built front ends that convert mel bands to other frames.

    Parameters
    ----------
    params : Features
        Front end with the parameters of :class:`LogMel`.
    sample_rate : int
        Samples per second (Hz).

    Raises
    ------
    ComponentError
        If the window is longer than ``n_fft``, the settings need too much memory or time (:func:`check_cost`), or the
        range of the bands exceeds half the sample rate.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, params: Any, sample_rate: int) -> None:
        super().__init__()
        win_length = params.win_length or params.n_fft
        if win_length > params.n_fft:
            raise ComponentError(f"Got win_length={win_length}, expected at most n_fft={params.n_fft}.")
        check_cost(params.n_fft, params.hop_length, params.n_mels)

        self.n_features = params.n_mels
        self.n_fft = params.n_fft
        self.hop_length = params.hop_length

        filters = mel_filter_bank(sample_rate, params.n_fft, params.n_mels, params.fmin, params.fmax)
        before = (params.n_fft - win_length) // 2
        window = nn.functional.pad(torch.hann_window(win_length), (before, params.n_fft - win_length - before))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)

    def scaled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Convert mel power (B, T, n_mels) with ``lengths`` (B,) to frames (B, T, F), zero beyond each length."""
        return whisper_scale(mel, lengths)

    def spectrum(self, power: Tensor) -> Tensor:
        """Convert the power spectrum (..., n_fft // 2 + 1) before the filter bank; by default it is unchanged."""
        return power

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        windows = centred_windows(waveform, self.n_fft, self.hop_length)
        mel = self._mel(windows.flatten(0, 1)).view(len(waveform), -1, self.filters.shape[1])
        n_frames = (lengths + self.hop_length - 1) // self.hop_length
        return self.scaled(mel[:, : int(n_frames.max())], n_frames), n_frames

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames of several clips; their windows are transformed together."""
        if not waveforms:
            return []
        windows = [centred_windows(waveform[None], self.n_fft, self.hop_length)[0] for waveform in waveforms]
        mel = self._mel(torch.cat(windows) if len(windows) > 1 else windows[0])
        items = mel.split([len(item) for item in windows])
        return [self.scaled(item[None], torch.tensor([len(item)]))[0] for item in items]

    def _mel(self, windows: Tensor) -> Tensor:
        """Return the mel bands of windows (n, n_fft), shape (n, n_mels)."""
        n_windows = min(_SLAB, max(1, _SLAB_SIZE // self.n_fft))
        slabs = [self.spectrum(power_spectrum(slab, self.window)) @ self.filters for slab in windows.split(n_windows)]
        return slabs[0] if len(slabs) == 1 else torch.cat(slabs)


def check_cost(n_fft: int, hop_length: int, n_mels: int) -> None:
    """Raise an error if the filters would take gigabytes, or each sample would be transformed thousands of times.

    Such settings are a mistake, or come from an untrusted model folder.

    Parameters
    ----------
    n_fft, hop_length : int
        Length of the Fourier transform and step between frames in samples. Each sample may lie in at most
        :data:`MAX_OVERLAP` windows.
    n_mels : int
        Number of mel bands. The product ``n_fft * n_mels`` may be at most :data:`MAX_FILTER_SIZE`.

    Raises
    ------
    ComponentError
        If a limit is exceeded. The message names the values, the limit and the remedy.

    Examples
    --------
    >>> from skastw.features.log_mel import check_cost
    >>> check_cost(n_fft=65536, hop_length=1, n_mels=80)
    Traceback (most recent call last):
        ...
    skastw.errors.ComponentError: Got n_fft=65536 with hop_length=1: ... Take a hop_length of 64 or more...
    """
    min_hop = -(-n_fft // MAX_OVERLAP)
    if hop_length < min_hop:
        raise ComponentError(
            f"Got n_fft={n_fft} with hop_length={hop_length}: each sample lies in {n_fft // hop_length} windows, "
            f"expected at most {MAX_OVERLAP}. Take a hop_length of {min_hop} or more, or a smaller n_fft."
        )
    if n_fft * n_mels > MAX_FILTER_SIZE:
        raise ComponentError(
            f"Got n_fft={n_fft} with n_mels={n_mels}, whose product is {n_fft * n_mels}, expected at most "
            f"{MAX_FILTER_SIZE}. Lower n_mels to {MAX_FILTER_SIZE // n_fft}, or n_fft to {MAX_FILTER_SIZE // n_mels}."
        )


def centred_windows(waveform: Tensor, n_fft: int, hop_length: int) -> Tensor:
    """Return windows of a waveform that are centred on every ``hop_length``-th sample.

    The waveform is mirrored at its start and padded with zeros at its end.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
        Waveforms, zero beyond the length of each clip.
    n_fft, hop_length : int
        Length of a window and step between windows in samples.

    Returns
    -------
    Tensor of shape (B, ceil(N / hop_length), n_fft)
        Window t is centred on sample ``t * hop_length``. The result is a view: overlapping windows share memory.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.log_mel import centred_windows
    >>> centred_windows(torch.tensor([[1.0, 2.0, 3.0]]), n_fft=4, hop_length=2)[0].tolist()
    [[3.0, 2.0, 1.0, 2.0], [1.0, 2.0, 3.0, 0.0]]
    """
    n_samples, half = waveform.shape[1], n_fft // 2
    size = (-(-n_samples // hop_length) - 1) * hop_length + n_fft
    if n_samples <= half:  # the mirrored part includes zeros of the padding
        waveform = nn.functional.pad(waveform, (0, half + 1 - n_samples))
    zeros = waveform.new_zeros(len(waveform), max(0, size - half - waveform.shape[1]))
    padded = torch.cat([waveform[:, 1 : half + 1].flip(1), waveform, zeros], dim=1)
    return padded[:, :size].unfold(1, n_fft, hop_length)


def power_spectrum(windows: Tensor, window: Tensor) -> Tensor:
    """Return the power spectrum of windows.

    Parameters
    ----------
    windows : Tensor of shape (..., n_fft)
        Samples.
    window : Tensor of shape (n_fft,)
        Window function: weight of each sample.

    Returns
    -------
    Tensor of shape (..., n_fft // 2 + 1)
    """
    spectrum = torch.fft.rfft(windows * window)
    return torch.addcmul(spectrum.real * spectrum.real, spectrum.imag, spectrum.imag)


def mel_filter_bank(
    sample_rate: float, n_fft: int, n_mels: int, fmin: float = 0.0, fmax: float | None = None
) -> np.ndarray:
    """Return triangular mel filters of unit area on Slaney's mel scale.

    Parameters
    ----------
    sample_rate : float
        Samples per second (Hz).
    n_fft : int
        Length of the Fourier transform in samples.
    n_mels : int
        Number of bands.
    fmin, fmax : float
        Range of the bands in Hz; ``fmax=None`` is half the sample rate.

    Returns
    -------
    ndarray of shape (n_mels, n_fft // 2 + 1), float32

    Raises
    ------
    ComponentError
        If the range is empty or passes half the sample rate.

    Notes
    -----
    The scale is linear below 1 kHz (15 mel per kHz) and logarithmic above (27 mel per factor of 6.4). Each triangle is
    divided by half its width in Hz.

    Examples
    --------
    >>> from skastw.features.log_mel import mel_filter_bank
    >>> mel_filter_bank(16000, 400, 80).shape
    (80, 201)
    """
    filters, n_empty = _mel_filters(sample_rate, n_fft, n_mels, fmin, fmax)
    if n_empty:
        warn_user(
            f"{n_empty} of n_mels={n_mels} mel bands lie between the bins of n_fft={n_fft} at {sample_rate:g} Hz "
            "and are constant: raise n_fft or lower n_mels."
        )
    return filters.copy()


@functools.lru_cache(maxsize=16)
def _mel_filters(
    sample_rate: float, n_fft: int, n_mels: int, fmin: float, fmax: float | None
) -> tuple[np.ndarray, int]:
    """Return the filters and the number of empty ones, cached because each prediction builds its front end."""
    edges = mel_frequencies(sample_rate, n_mels, fmin, fmax)
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    n_empty = int((triangles.max(axis=1) == 0).sum())
    return (triangles * 2 / (upper - lower)).astype(np.float32), n_empty


def mel_frequencies(sample_rate: float, n_mels: int, fmin: float = 0.0, fmax: float | None = None) -> np.ndarray:
    """Return the edges and centres of mel bands. Each band extends from the centre of the previous to that of the next.

    Parameters
    ----------
    sample_rate : float
        Samples per second (Hz).
    n_mels : int
        Number of bands.
    fmin, fmax : float
        Range of the bands in Hz; ``fmax=None`` is half the sample rate.

    Returns
    -------
    ndarray of shape (n_mels + 2,)
        ``fmin``, the centre of each band, and ``fmax`` in Hz.

    Raises
    ------
    ComponentError
        If the range is empty or passes half the sample rate.

    Examples
    --------
    >>> from skastw.features.log_mel import mel_frequencies
    >>> mel_frequencies(16000, 4, fmax=1000.0).tolist()
    [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
    """
    fmax = sample_rate / 2 if fmax is None else fmax
    if not 0 <= fmin < fmax <= sample_rate / 2:
        raise ComponentError(
            f"Got fmin={plain(fmin)!r} and fmax={plain(fmax)!r}, expected 0 <= fmin < fmax <= {sample_rate / 2:g} Hz, "
            f"half of sample_rate={sample_rate:g}."
        )
    return mel_to_hz(np.linspace(hz_to_mel(fmin), hz_to_mel(fmax), n_mels + 2))


def hz_to_mel(hz: float | np.ndarray) -> np.ndarray:
    """Convert frequencies ``hz`` to Slaney's mel scale; see :func:`mel_filter_bank`."""
    hz = np.asarray(hz, dtype=np.float64)
    above = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    return np.where(hz < 1000, hz * 15 / 1000, above)


def mel_to_hz(mel: float | np.ndarray) -> np.ndarray:
    """Convert values ``mel`` on Slaney's mel scale to frequencies in Hz."""
    mel = np.asarray(mel, dtype=np.float64)
    above = 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27)
    return np.where(mel < 15, mel * 1000 / 15, above)


def whisper_scale(mel: Tensor, lengths: Tensor) -> Tensor:
    """Return ``(x + 4) / 4``, where x is log10 of the mel power, but at least the maximum of the clip minus 8.

    Parameters
    ----------
    mel : Tensor of shape (B, T, F)
        Non-negative mel power.
    lengths : Tensor of shape (B,)
        Number of valid frames.

    Returns
    -------
    Tensor of shape (B, T, F)
        Frames, zero beyond each length. The values of a clip span at most 2 (80 dB).
    """
    log = mel.clamp(min=1e-10).log10()
    if not is_padded(mel, lengths):
        return torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8.0).add_(4.0).div_(4.0)
    mask = frame_mask(mel, lengths)
    floor = log.masked_fill(~mask, -10.0).amax(dim=(1, 2), keepdim=True) - 8.0
    return ((torch.maximum(log, floor) + 4.0) / 4.0) * mask
