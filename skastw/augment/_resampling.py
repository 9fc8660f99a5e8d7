"""Resampling of waveforms by any factors, and stretching of time at the same pitch."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from skastw.augment._waveform import fft_size, from_spectra, to_spectra

#: Share of the band below the Nyquist frequency that resampling keeps; the rest is the slope of the filter.
_PASSED = 0.94


def resample_by(waveform: Tensor, speed: Tensor, n_samples: int) -> Tensor:
    """Return waveforms at other speeds: sample n of the result is the waveform at the time ``n * speed``.

    The spectrum is evaluated at these times by the chirp-z transform, which takes another factor for each item.
    Frequencies that would exceed the Nyquist frequency are removed.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
    speed : Tensor of shape (B,)
        Greater than 0.
    n_samples : int
        Length of the result.

    Returns
    -------
    Tensor of shape (B, n_samples)

    References
    ----------
    Rabiner, Schafer and Rader, "The Chirp z-Transform Algorithm", 1969.
    """
    size = fft_size(waveform.shape[1] + 1024)  # the padding separates the end from the start
    n_bins = size // 2 + 1
    speed = speed.double()[:, None]  # on the CPU, because some devices have no float64

    # keep the band that is below both Nyquist frequencies, and count bins for negative frequencies too
    share = torch.arange(n_bins) / (n_bins - 1) * speed.clamp(min=1)
    response = (1 + torch.cos(math.pi * ((share - _PASSED) / (1 - _PASSED)).clamp(min=0, max=1))).to(waveform)
    response[:, 0] = 1
    spectrum = torch.fft.rfft(waveform, size) * response

    # exp(2πi kn speed / size) is a product of three chirps, since 2kn = k² + n² - (n - k)²
    place = torch.arange(max(n_bins, n_samples)).double()
    turns = (place.square() * (speed / (2 * size))).frac()
    chirp = _from_polar(torch.ones_like(waveform[:, :1]), 2 * math.pi * turns.to(waveform))

    length = fft_size(n_bins + n_samples)
    kernel = chirp.new_zeros(len(chirp), length)
    kernel[:, :n_samples] = chirp[:, :n_samples].conj()
    kernel[:, length - n_bins + 1 :] = chirp[:, 1:n_bins].conj().flip(1)
    product = torch.fft.fft(spectrum * chirp[:, :n_bins], length) * torch.fft.fft(kernel)
    return (torch.fft.ifft(product)[:, :n_samples] * chirp[:, :n_samples]).real / size


def stretch(waveform: Tensor, factor: Tensor, window_size: int) -> Tensor:
    """Return waveforms whose time is stretched at the same pitch, by a phase vocoder, with the fading of their ends.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
    factor : Tensor of shape (B,)
        Length of the result as a multiple of the length of the waveform.
    window_size : int
        Samples in a window, a multiple of 4.

    Returns
    -------
    Tensor of shape (B, N')

    References
    ----------
    Flanagan and Golden, "Phase Vocoder", 1966; Laroche and Dolson, "Improved Phase Vocoder Time-Scale Modification of
    Audio", 1999 (phase locking).
    """
    hop, window = window_size // 4, torch.hann_window(window_size, device=waveform.device, dtype=waveform.dtype)
    frames = to_spectra(F.pad(waveform, (0, window_size)), window, hop).transpose(1, 2)
    levels, phases = frames.abs(), frames.angle()

    # between which two frames each new frame lies; the last two frames are silent
    n_samples = math.ceil((waveform.shape[1] + 2 * hop) * float(factor.max())) + 2 * hop
    position = torch.arange(n_samples // hop + 2) / factor[:, None].double()
    below = position.long().clamp(max=frames.shape[1] - 2)
    item, weight = torch.arange(len(frames))[:, None], position.frac()[:, :, None].to(waveform)
    magnitude = torch.lerp(levels[item, below], levels[item, below + 1], weight)

    # the phase of a peak advances from frame to frame as in the waveform, and the two bins on either side turn with it
    phase = phases[item, below]
    advance = phases[item, below + 1] - phase
    turned = advance.cumsum(dim=1) - advance + phases[:, :1] - phase
    _, peak = F.max_pool1d(magnitude, 5, stride=1, padding=2, return_indices=True)
    phase = phase + turned.gather(2, peak)
    return from_spectra(_from_polar(magnitude, phase).transpose(1, 2), window, hop, n_samples)


def _from_polar(magnitude: Tensor, phase: Tensor) -> Tensor:
    """Return complex numbers, quicker than ``torch.polar``."""
    return torch.complex(magnitude * phase.cos(), magnitude * phase.sin())
