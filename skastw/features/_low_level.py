"""Low-level descriptors: values that describe a short part of a sound, one row for each frame of a clip.

Those that librosa also computes have the same definitions here.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

#: Lowest power, and largest distance below the maximum of the clip (dB).
_FLOOR, _RANGE = 1e-10, 80.0
#: Spectral contrast: edge of the lowest band (Hz), most bands above it, share of the bins that make a peak or a valley.
_FIRST_EDGE, _MOST_BANDS, _QUANTILE = 200.0, 6, 0.02
#: Shares of the sum of the magnitudes that lie below the roll-off frequencies.
ROLL_OFFS = (0.25, 0.5, 0.85, 0.95)
#: Names of the values of :func:`spectral_shape`.
SHAPE = ("centroid", "bandwidth", *(f"rolloff{100 * share:.0f}" for share in ROLL_OFFS), "flatness")


def decibels(power: Tensor) -> Tensor:
    """Return ``10 log10(power)``, not below -100."""
    return 10 * power.clamp(min=_FLOOR).log10()


def limited_decibels(power: Tensor) -> Tensor:
    """Return decibels, at least the maximum of the clip minus 80, as ``librosa.power_to_db`` does."""
    values = decibels(power)
    return torch.maximum(values, values.max() - _RANGE)


def zero_crossing_rate(waveform: Tensor, n_fft: int, hop_length: int, n_frames: int) -> Tensor:
    """Return the share of samples in each frame whose sign differs from the sample before, shape (T,).

    It is that of ``librosa.feature.zero_crossing_rate``.

    Parameters
    ----------
    waveform : Tensor of shape (N,)
    n_fft, hop_length : int
        Length of a frame, and step between frames, in samples.
    n_frames : int
        Number T of frames, which are centred on every ``hop_length``-th sample.

    Examples
    --------
    >>> import torch
    >>> from skastw.features._low_level import zero_crossing_rate
    >>> zero_crossing_rate(torch.tensor([1.0, -1.0] * 8), n_fft=8, hop_length=8, n_frames=2).tolist()
    [0.375, 0.875]
    """
    sign = torch.where(waveform.abs() <= _FLOOR, 0.0, waveform).signbit()
    crossings = torch.cat([sign.new_zeros(1), sign[1:] != sign[:-1]])
    count = torch.nn.functional.pad(crossings.cumsum(0), (1, 0))

    # frame t begins half a frame before its centre; its first sample has no sample before
    start = torch.arange(n_frames) * hop_length - n_fft // 2
    first, last = (start + 1).clamp(0, len(waveform)), (start + n_fft).clamp(0, len(waveform))
    return (count[last] - count[first]).float() / n_fft


def spectral_shape(magnitudes: Tensor, frequencies: Tensor) -> Tensor:
    """Return the values :data:`SHAPE` of spectra, shape (T, 7): frequencies in Hz, and the flatness in decibels.

    Parameters
    ----------
    magnitudes : Tensor of shape (T, K)
    frequencies : Tensor of shape (K,)
        In Hz.
    """
    share = magnitudes / magnitudes.sum(dim=1, keepdim=True).clamp(min=1e-30)
    centroid = share @ frequencies[:, None]
    bandwidth = (share * (frequencies - centroid).square()).sum(dim=1, keepdim=True).sqrt()

    below = magnitudes.cumsum(dim=1)
    wanted = torch.tensor(ROLL_OFFS, dtype=below.dtype) * below[:, -1:]
    roll_offs = frequencies[torch.searchsorted(below, wanted).clamp(max=len(frequencies) - 1)]

    power = magnitudes.square().clamp(min=_FLOOR)
    flatness = 10 * (power.log10().mean(dim=1, keepdim=True) - power.mean(dim=1, keepdim=True).log10())
    return torch.cat([centroid, bandwidth, roll_offs, flatness], dim=1)


def contrast_edges(sample_rate: float) -> list[float]:
    """Return the lower edges of the bands of spectral contrast (Hz): 0, 200, 400, ... below half the sample rate.

    Parameters
    ----------
    sample_rate : float
        Samples per second (Hz).

    Examples
    --------
    >>> from skastw.features._low_level import contrast_edges
    >>> contrast_edges(16000)
    [0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0]
    """
    edges = [_FIRST_EDGE * 2**octave for octave in range(_MOST_BANDS)]
    return [0.0, *(edge for edge in edges if edge < sample_rate / 2)]


def peaks_and_valleys(magnitudes: Tensor, frequencies: Tensor, edges: list[float]) -> tuple[Tensor, Tensor]:
    """Return the mean of the largest and of the smallest magnitudes in each band, both of shape (T, n_bands).

    Their ratio in decibels is ``librosa.feature.spectral_contrast``.

    Parameters
    ----------
    magnitudes : Tensor of shape (T, K)
    frequencies : Tensor of shape (K,)
        In Hz.
    edges : list of float
        Lower edges of the bands (Hz). The last band extends to the highest frequency.
    """
    peaks, valleys = [], []
    for band, (low, high) in enumerate(zip(edges, [*edges[1:], math.inf], strict=True)):
        inside = torch.nonzero((frequencies >= low) & (frequencies <= high))[:, 0].tolist() or [0]
        first, last = max(0, inside[0] - (band > 0)), inside[-1]  # the bin before the band is part of it
        n_extreme = max(1, round(_QUANTILE * (last + 1 - first)))

        part = magnitudes[:, first : last + 1 if math.isinf(high) else max(last, first + 1)]
        ordered = torch.from_numpy(np.sort(part.numpy(), axis=1))  # in a fraction of the time of torch.topk
        peaks.append(ordered[:, -n_extreme:].mean(dim=1))
        valleys.append(ordered[:, :n_extreme].mean(dim=1))
    return torch.stack(peaks, dim=1), torch.stack(valleys, dim=1)


def tonal_centroids(chroma: Tensor) -> Tensor:
    """Return the position of each chroma vector on the circles of fifths, minor thirds and major thirds, shape (T, 6).

    It is that of ``librosa.feature.tonnetz``.

    Parameters
    ----------
    chroma : Tensor of shape (T, 12)

    References
    ----------
    Harte, Sandler and Gasser, "Detecting harmonic change in musical audio", 2006.
    """
    steps = torch.tensor([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3])[:, None]  # of pi, for a semitone
    quarter = torch.tensor([0.5, 0.0] * 3)[:, None]  # sine and cosine
    radius = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.5, 0.5])[:, None]
    basis = radius * torch.cos(math.pi * (steps * torch.arange(12) - quarter))
    return chroma / chroma.sum(dim=1, keepdim=True).clamp(min=_FLOOR) @ basis.T
