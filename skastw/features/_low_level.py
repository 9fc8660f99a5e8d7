"""Low-level descriptors: values that describe a short part of a sound, one row for each frame of a clip."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from skastw.core.spectra import in_slabs, librosa_windows

#: Lowest power.
_FLOOR = 1e-10
#: Spectral contrast: edge of the lowest band (Hz), most bands above it, share of the bins that make a peak or a valley.
_FIRST_EDGE, _MOST_BANDS, _QUANTILE = 200.0, 6, 0.02
#: Shares of the magnitudes that lie below the roll-off frequencies.
ROLL_OFFS = (0.25, 0.5, 0.85, 0.95)


def decibels(power: Tensor) -> Tensor:
    """Return ``10 log10(power)``, not below -100."""
    return 10 * power.clamp(min=_FLOOR).log10()


def limited_decibels(power: Tensor) -> Tensor:
    """Return decibels, at least the maximum of the clip minus 80, as ``librosa.power_to_db`` does."""
    values = decibels(power)
    return torch.maximum(values, values.max() - 80)


def zero_crossing_rate(waveform: Tensor, n_fft: int, hop_length: int, n_frames: int) -> Tensor:
    """Return the share of samples in each frame (T,) whose sign differs from the sample before.

    It is the same as ``librosa.feature.zero_crossing_rate``.
    """
    sign = torch.where(waveform.abs() <= _FLOOR, 0.0, waveform).signbit()
    crossings = torch.cat([sign.new_zeros(1), sign[1:] != sign[:-1]])
    count = torch.nn.functional.pad(crossings.cumsum(0), (1, 0))

    # frame t begins half a frame before its centre; its first sample has no sample before
    start = torch.arange(n_frames) * hop_length - n_fft // 2
    first, last = (start + 1).clamp(0, len(waveform)), (start + n_fft).clamp(0, len(waveform))
    return (count[last] - count[first]).float() / n_fft


def contrast_edges(sample_rate: float) -> list[float]:
    """Return the edges of the bands of spectral contrast (Hz): 0, 200, 400, ... below half the sample rate.

    Examples
    --------
    >>> from skastw.features._low_level import contrast_edges
    >>> contrast_edges(16000)
    [0.0, 200.0, 400.0, 800.0, 1600.0, 3200.0, 6400.0]
    """
    edges = [_FIRST_EDGE * 2**i for i in range(_MOST_BANDS) if _FIRST_EDGE * 2**i < sample_rate / 2]
    return [0.0, *edges]


def peaks_and_valleys(magnitudes: Tensor, frequencies: Tensor, edges: list[float]) -> tuple[Tensor, Tensor]:
    """Return the means of the largest and smallest magnitudes in each band, both of shape (T, n_bands).

    Parameters
    ----------
    magnitudes : Tensor of shape (T, K)
    frequencies : Tensor of shape (K,)
        In Hz.
    edges : list of float
        Lower edges of the bands (Hz). The last band extends to the highest frequency.
    """
    peaks, valleys = [], []
    for band, low in enumerate(edges):
        high = edges[band + 1] if band + 1 < len(edges) else math.inf
        inside = torch.nonzero((frequencies >= low) & (frequencies <= high))[:, 0]
        first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 1)
        first = max(0, first - 1) if band else first
        n_extreme = max(1, round(_QUANTILE * (last - first)))
        stop = last if math.isinf(high) else max(first + 1, last - 1)

        part = magnitudes[:, first:stop]
        peaks.append(part.topk(min(n_extreme, part.shape[1]), dim=1).values.mean(dim=1))
        valleys.append(part.topk(min(n_extreme, part.shape[1]), dim=1, largest=False).values.mean(dim=1))
    return torch.stack(peaks, dim=1), torch.stack(valleys, dim=1)


def spectral_shape(magnitudes: Tensor, frequencies: Tensor) -> Tensor:
    """Return centroid and bandwidth (Hz), the roll-offs (Hz) and the flatness (dB) of spectra, shape (T, 7).

    They are those of librosa, except that the flatness is in decibels. Silence has the value 0 everywhere.

    Parameters
    ----------
    magnitudes : Tensor of shape (T, K)
    frequencies : Tensor of shape (K,)
        In Hz.
    """
    total = magnitudes.sum(dim=1, keepdim=True)
    share = magnitudes / total.clamp(min=1e-30)
    centroid = share @ frequencies[:, None]
    bandwidth = (share * (frequencies - centroid).square()).sum(dim=1, keepdim=True).sqrt()

    below = magnitudes.cumsum(dim=1)
    wanted = torch.tensor(ROLL_OFFS, dtype=below.dtype) * below[:, -1:]
    roll_offs = frequencies[torch.searchsorted(below, wanted).clamp(max=len(frequencies) - 1)]

    power = magnitudes.square().clamp(min=_FLOOR)
    flatness = 10 * (power.log10().mean(dim=1, keepdim=True) - power.mean(dim=1, keepdim=True).log10())
    return torch.cat([centroid, bandwidth, roll_offs, flatness], dim=1)
