"""Log-mel spectrogram with Whisper's normalisation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skastw.core.mel import mel_filter_bank, mel_frequencies, warn_about_empty_bands
from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.spectra import centred_window, centred_windows, check_cost, in_slabs, power_spectrum, whisper_scale
from skastw.features._base import Features, FeaturesModule, STFTFeatures


@parameters
class MelFeatures(STFTFeatures):
    """Base of front ends with a Hann window and a mel filter bank; see :class:`LogMel`."""

    n_mels: int = param(default=80, valid=[integers(1, 1024)], doc="Number of mel bands.")
    fmin: float = param(default=0.0, valid=[reals(0, None, closed="left")], doc="Lower end of the mel bands in Hz.")
    fmax: float | None = param(
        default=None,
        valid=[reals(0, None, closed="neither"), None],
        doc="Upper end of the mel bands in Hz; None stands for half the sample rate.",
    )


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
        If the window is longer than ``n_fft``, the settings need too much memory or time
        (:func:`~skastw.core.spectra.check_cost`), or the range of the bands exceeds half the sample rate.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, params: Any, sample_rate: int) -> None:
        super().__init__()
        check_cost(params.n_fft, params.hop_length, params.n_mels)
        self.n_features = params.n_mels
        self.n_fft = params.n_fft
        self.hop_length = params.hop_length

        filters = mel_filter_bank(sample_rate, params.n_fft, params.n_mels, params.fmin, params.fmax)
        warn_about_empty_bands(filters, sample_rate, params.n_fft)
        self.register_buffer("window", centred_window("hann", params.win_length, params.n_fft), persistent=False)
        self.register_buffer("filters", torch.from_numpy(filters.T.copy()), persistent=False)

    def scaled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Convert mel power (B, T, n_mels) with ``lengths`` (B,) to frames (B, T, F), zero beyond each length."""
        return whisper_scale(mel, lengths)

    def spectrum(self, power: Tensor) -> Tensor:
        """Convert the power spectrum (..., n_fft // 2 + 1) before the filter bank; by default it is unchanged."""
        return power

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mel = in_slabs(centred_windows(waveform, self.n_fft, self.hop_length), self._mel)
        n_frames = (lengths + self.hop_length - 1) // self.hop_length
        return self.scaled(mel[:, : int(n_frames.max())], n_frames), n_frames

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames of several clips; their windows are transformed together."""
        if not waveforms:
            return []
        windows = [centred_windows(waveform[None], self.n_fft, self.hop_length)[0] for waveform in waveforms]
        mel = in_slabs((torch.cat(windows) if len(windows) > 1 else windows[0])[None], self._mel)
        items = mel[0].split([len(item) for item in windows])
        return [self.scaled(item[None], torch.tensor([len(item)]))[0] for item in items]

    def _mel(self, windows: Tensor) -> Tensor:
        """Return the mel bands of windows (n, n_fft), shape (n, n_mels)."""
        return self.spectrum(power_spectrum(windows, self.window)) @ self.filters
