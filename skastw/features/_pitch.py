"""Pitch and voicing: the best path through the peaks of the cross-correlation of each frame with its own future."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

#: Samples per second (Hz) above which a waveform is decimated, since voices have their periods far below.
_RATE = 12000
#: Length of the part of a frame that is compared (s), and the power that is added to both sides of a comparison,
#: relative to the peak of the clip, so that noise far below it is unvoiced.
_WINDOW, _QUIET = 0.030, 1e-6
#: Candidates of a frame; cost of an octave downwards; score of an unvoiced frame; cost of a change of voicing, and of a
#: jump by an octave.
_N_CANDIDATES, _OCTAVE, _UNVOICED, _CHANGE, _JUMP = 5, 0.03, 0.5, 0.14, 0.35
#: Frames whose correlations are computed at once.
_SLAB = 1024


def track_pitch(
    waveform: Tensor, sample_rate: int, hop: float, n_frames: int, fmin: float, fmax: float
) -> tuple[Tensor, Tensor]:
    """Return the pitch of each frame, and how periodic the frame is.

    The normalised cross-correlation of a frame has peaks at its periods. Each frame has the highest peaks as
    candidates, and the hypothesis that it is unvoiced. The path through all frames that has the highest sum of
    correlations, minus costs for jumps, is chosen.

    Parameters
    ----------
    waveform : Tensor of shape (N,)
        With the peak 1.
    sample_rate : int
        Samples per second (Hz).
    hop : float
        Time between frames (s). Frame t is centred on ``t * hop``.
    n_frames : int
        Number T of frames.
    fmin, fmax : float
        Range of the pitch (Hz).

    Returns
    -------
    pitch : Tensor of shape (T,), float32
        In Hz; 0 for unvoiced frames.
    strength : Tensor of shape (T,), float32
        Correlation between 0 and 1 of the chosen candidate, or of the best one for unvoiced frames.

    References
    ----------
    Talkin, "A robust algorithm for pitch tracking (RAPT)", 1995.
    Boersma, "Accurate short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled
    sound", 1993.

    Examples
    --------
    >>> import torch
    >>> from skastw.features._pitch import track_pitch
    >>> tone = torch.sin(2 * torch.pi * 200 * torch.arange(16000) / 16000)
    >>> pitch, strength = track_pitch(tone, 16000, hop=0.01, n_frames=100, fmin=60, fmax=600)
    >>> round(pitch[50].item(), 1), round(strength[50].item(), 2)
    (200.0, 1.0)
    """
    waveform, rate = decimated(waveform, sample_rate)
    lags, correlation = correlations(waveform, rate, hop, n_frames, fmin, fmax)
    frequency, score = candidates(lags, correlation, rate)

    cost = _OCTAVE * torch.log2(fmax / frequency)
    chosen = best_path(torch.log2(frequency).numpy(), (score - cost).numpy())
    voiced = _without_short_stretches(torch.from_numpy(chosen >= 0))
    index = torch.from_numpy(np.where(chosen >= 0, chosen, 0))[:, None]
    pitch = torch.where(voiced, frequency.gather(1, index)[:, 0], 0.0)
    return pitch, score.gather(1, index)[:, 0].clamp(0, 1)


def _without_short_stretches(voiced: Tensor) -> Tensor:
    """Return the mask (T,) without stretches of one or two frames, which the start of a sound may cause."""
    widest = nn.MaxPool1d(3, stride=1, padding=1)
    inner = 1 - widest(1 - voiced[None].float())
    return widest(inner)[0] > 0


def decimated(waveform: Tensor, sample_rate: int) -> tuple[Tensor, float]:
    """Return every n-th sample of the smoothed waveform, and the new sample rate, which is 12 to 24 kHz or the old one.

    Parameters
    ----------
    waveform : Tensor of shape (N,)
    sample_rate : int
        Samples per second (Hz).

    Examples
    --------
    >>> import torch
    >>> from skastw.features._pitch import decimated
    >>> samples, rate = decimated(torch.ones(44100), 44100)
    >>> len(samples), rate
    (14700, 14700.0)
    """
    factor = sample_rate // _RATE
    if factor <= 1:
        return waveform, float(sample_rate)
    kernel = torch.hann_window(4 * factor + 1, periodic=False, dtype=waveform.dtype)
    smoothed = nn.functional.conv1d(
        waveform[None, None], (kernel / kernel.sum())[None, None], stride=factor, padding=2 * factor
    )
    return smoothed[0, 0], sample_rate / factor


def correlations(
    waveform: Tensor, rate: float, hop: float, n_frames: int, fmin: float, fmax: float
) -> tuple[Tensor, Tensor]:
    """Return lags in samples (L,), and the normalised cross-correlation (T, L) at them.

    Parameters
    ----------
    waveform : Tensor of shape (N,)
    rate : float
        Samples per second (Hz).
    hop, n_frames, fmin, fmax
        See :func:`track_pitch`.
    """
    shortest, longest = max(2, math.floor(rate / fmax) - 1), math.ceil(rate / fmin) + 1
    width = round(_WINDOW * rate)
    size = width + longest

    # frame t begins half a frame before its centre
    start = (torch.arange(n_frames, dtype=torch.float64) * hop * rate).round().long()
    padded = nn.functional.pad(waveform, (size // 2, size + max(0, int(start[-1]) - len(waveform))))
    frames = padded.unfold(0, size, 1)

    values = []
    for slab in start.split(_SLAB):
        x = frames[slab]
        x = x - x.mean(dim=1, keepdim=True)

        n_fft = 2 ** math.ceil(math.log2(size))
        spectrum = torch.fft.rfft(x, n=n_fft)
        product = torch.fft.irfft(spectrum * torch.fft.rfft(x[:, :width], n=n_fft).conj(), n=n_fft)

        energy = nn.functional.pad(x.square().double().cumsum(dim=1), (1, 0))
        energy = (energy[:, width:] - energy[:, :-width]).float() + width * _QUIET  # of the part at each lag
        lags = slice(shortest, longest + 1)
        values.append(product[:, lags] / (energy[:, :1] * energy[:, lags]).sqrt())
    return torch.arange(shortest, longest + 1), torch.cat(values)


def candidates(lags: Tensor, correlation: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Return the frequencies (Hz) and heights of the highest peaks of each frame, both of shape (T, K).

    Parameters
    ----------
    lags : Tensor of shape (L,)
        In samples.
    correlation : Tensor of shape (T, L)
    rate : float
        Samples per second (Hz).
    """
    left, middle, right = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    is_peak = (middle >= left) & (middle > right)
    octaves = torch.log2(lags[1:-1] / lags[0])
    order = torch.where(is_peak, middle - _OCTAVE * octaves, -1.0)
    index = order.topk(min(_N_CANDIDATES, order.shape[1]), dim=1).indices

    # the top of the parabola through a peak and its neighbours
    a, b, c = left.gather(1, index), middle.gather(1, index), right.gather(1, index)
    bend = (2 * b - a - c).clamp(min=1e-6)
    shift = ((c - a) / (2 * bend)).clamp(-0.5, 0.5)
    height = torch.where(is_peak.gather(1, index), b + (c - a) * shift / 4, 0.0)
    return rate / (lags[1:-1][index] + shift), height


def best_path(octave: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the candidate of each frame on the best path, or -1 for unvoiced frames.

    Parameters
    ----------
    octave : ndarray of shape (T, K)
        Logarithm to base 2 of the frequency of each candidate.
    score : ndarray of shape (T, K)
        Its score, which is compared with that of an unvoiced frame.

    Returns
    -------
    ndarray of shape (T,), int64
    """
    n_frames, n_candidates = score.shape
    jumps = np.full((n_frames, n_candidates + 1, n_candidates + 1), _CHANGE, dtype=np.float32)  # to, from
    jumps[1:, :-1, :-1] = _JUMP * np.abs(octave[1:, :, None] - octave[:-1, None, :])
    jumps[:, -1, -1] = 0.0
    local = np.concatenate([score, np.full((n_frames, 1), _UNVOICED, dtype=np.float32)], axis=1)

    best, came_from = local[0], np.zeros((n_frames, n_candidates + 1), dtype=np.int64)
    for t in range(1, n_frames):
        sums = best - jumps[t]
        came_from[t] = sums.argmax(axis=1)
        best = local[t] + sums.max(axis=1)

    path = np.empty(n_frames, dtype=np.int64)
    path[-1] = best.argmax()
    for t in range(n_frames - 1, 0, -1):
        path[t - 1] = came_from[t, path[t]]
    return np.where(path == n_candidates, -1, path)
