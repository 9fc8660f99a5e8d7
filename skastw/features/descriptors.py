"""Descriptors of a clip: level, pitch, voicing, spectrum, cepstrum, chroma and rhythm, summarised in one row."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from skastw.core.mel import mel_filter_bank
from skastw.core.parameters import param, parameters, reals
from skastw.core.spectra import centred_window, in_slabs, librosa_windows, power_spectrum
from skastw.core.text import unknown_value
from skastw.errors import ComponentError, plain
from skastw.features._base import FeaturesModule, WholeClipFeatures, WholeClipModule
from skastw.features._functionals import FUNCTIONALS, N_WAVES, changes_of, percentiles, stretches, summaries, waves
from skastw.features._low_level import (
    SHAPE,
    contrast_edges,
    decibels,
    limited_decibels,
    peaks_and_valleys,
    spectral_shape,
    tonal_centroids,
    zero_crossing_rate,
)
from skastw.features._pitch import track_pitch
from skastw.features.statistics import cepstral_coefficients

#: Families of descriptors that are computed by default, and all families.
DEFAULT_FAMILIES = ("level", "pitch", "voicing", "spectrum", "mfcc", "chroma", "rhythm")
FAMILIES = (*DEFAULT_FAMILIES, "mel")

#: Time between frames (s), and shortest window (s); the Fourier transforms have the next power of two. Those of chroma.
_HOP, _WINDOW, _CHROMA_HOP, _CHROMA_WINDOW = 0.01, 0.032, 0.03, 0.128
_N_MELS, _N_MFCC = 40, 20
#: A frame is active if it is at most this far below the 95th percentile of the levels (dB).
_ACTIVE_RANGE = 35.0
#: The sets of frames that are summarised.
_SELECTIONS = ("active", "voiced", "unvoiced")
#: Frequency that is 0 octaves (Hz), and lowest frequency on this scale. Pitch that is 0 semitones (Hz), and pitch of
#: clips without one (semitones).
_OCTAVE_0, _LOWEST, _SEMITONE_0, _NO_PITCH = 1000.0, 50.0, 55.0, 20.0
#: Edges of the bands of the modulation spectrum (Hz), groups of mel bands whose levels are modulated, and shortest
#: Fourier transform of them (frames).
_MODULATIONS, _N_GROUPS, _N_MODULATION_FFT = (0.5, 1, 2, 4, 8, 16, 32, 50), 8, 512
#: Usual tempo, and lags between which the tempo is searched (frames).
_USUAL_TEMPO, _LAGS = 120.0, (20, 200)
#: Time that is added to durations before a division (s), and power that is added before a logarithm (dB squared).
_SHORT, _WEAK = 0.1, 1e-2


@parameters
class Descriptors(WholeClipFeatures):
    """Descriptors of pitch, voicing, level, spectrum and rhythm, summarised over the clip: one frame for each clip.

    Short windows, one every 10 ms, give the low-level descriptors, with the definitions of librosa where it has them.
    ``value_names(sample_rate)`` lists the values of a frame. The families are

    ``"level"``
        RMS in decibels; duration of the clip and of its active part; course of the level.
    ``"pitch"``
        Pitch in semitones above 55 Hz: percentiles, ranges, slopes; start and end, relative to the median; jitter,
        shimmer and harmonics-to-noise ratio.
    ``"voicing"``
        Share, number and lengths of voiced stretches; periodicity.
    ``"spectrum"``
        Zero crossings, centroid, bandwidth, roll-offs (in octaves above 1000 Hz), flatness (dB), contrast in octave
        bands (dB), flux.
    ``"mfcc"``
        20 mel-frequency cepstral coefficients, without the level.
    ``"chroma"``
        Mean and deviation of twelve pitch classes and of their tonal centroids.
    ``"rhythm"``
        Modulation spectrum of eight groups of bands and of the level (dB), tempo (beats per minute), events.
    ``"mel"``
        40 log-mel bands, relative to the power of the clip (dB).

    The values of level, voicing, spectrum, mfcc and mel over time are summarised for three sets of frames: ``active``
    (at most 35 dB below the loud ones), ``voiced`` (active, with a pitch) and ``unvoiced`` (active, without one). A set
    with fewer than five frames is replaced by the active ones. The functionals are ``mean``, ``std``, percentiles
    (``p05``, ...), ``skewness``, ``slope`` and ``curvature`` (trend over the frames), ``delta_std`` and ``delta_abs``
    (change per frame). ``course_1`` to ``course_5`` are the cosine transform from the first to the last active frame.

    A louder copy of a clip differs only in the values that begin with ``rms``. All values are finite. Padding a clip
    does not change its frame. Combine it with ``normalization="per_bin"`` and ``augment=None``; with
    ``encoder="identity"``, the model is linear.

    Parameters
    ----------
    {parameters}

    References
    ----------
    McFee et al., "librosa: Audio and Music Signal Analysis in Python", 2015.
    Eyben, "Real-time Speech and Music Classification by Large Audio Feature Space Extraction", 2016.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import Descriptors
    >>> tone = 0.1 * torch.sin(2 * torch.pi * 220 * torch.arange(16000) / 16000)
    >>> pitch = Descriptors(families=["pitch"])
    >>> frames, lengths = pitch.build(16000)(tone[None], torch.tensor([16000]))
    >>> tuple(frames.shape), pitch.value_names(16000)[0], round(frames[0, 0, 0].item())
    ((1, 1, 25), 'pitch_p05', 24)
    """

    name = "descriptors"

    families: tuple[str, ...] | list[str] = param(
        default=DEFAULT_FAMILIES,
        valid=[tuple, list],
        doc="Families of descriptors; all except ``mel`` by default.",
    )
    fmin: float = param(default=60.0, valid=[reals(20, 2000)], doc="Lowest pitch (Hz).")
    fmax: float = param(default=600.0, valid=[reals(40, 4000)], doc="Highest pitch (Hz).")

    def check_params(self) -> None:
        """Raise ComponentError if a parameter is not valid; see :class:`~skastw.core.component.Component`."""
        super().check_params()
        unknown = [family for family in self.families if family not in FAMILIES]
        if unknown:
            raise ComponentError(unknown_value("families", unknown[0], FAMILIES))
        if not self.families:
            raise ComponentError(f"Got families={plain(self.families)!r}, expected at least one of {FAMILIES}.")
        if not self.fmin < self.fmax:
            raise ComponentError(f"Got fmin={self.fmin} with fmax={self.fmax}, expected fmin below fmax.")

    def value_names(self, sample_rate: int) -> list[str]:
        """Return the names of the descriptors."""
        families = frozenset(self.families)
        return _names(families, _curve_names(families, len(contrast_edges(sample_rate))))

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _DescriptorsModule(self, sample_rate)


class _DescriptorsModule(WholeClipModule):
    """Built :class:`Descriptors`. It computes on the CPU, because its tensors are small."""

    def __init__(self, params: Descriptors, sample_rate: int) -> None:
        super().__init__()
        params.check_params()
        self.families, self.fmin, self.fmax = frozenset(params.families), params.fmin, params.fmax
        self.sample_rate = sample_rate
        self.edges = contrast_edges(sample_rate)
        self.curves = _curve_names(self.families, len(self.edges))
        self.names = _names(self.families, self.curves)
        self.n_features = len(self.names)

        self.hop_length, self.chroma_hop = (max(1, round(hop * sample_rate)) for hop in (_HOP, _CHROMA_HOP))
        self.n_fft, self.n_chroma_fft = (2 ** math.ceil(math.log2(s * sample_rate)) for s in (_WINDOW, _CHROMA_WINDOW))
        self.window, self.chroma_window = (centred_window("hann", None, n) for n in (self.n_fft, self.n_chroma_fft))
        self.frequencies = torch.arange(self.n_fft // 2 + 1) * sample_rate / self.n_fft
        self.mel_filters = torch.from_numpy(mel_filter_bank(sample_rate, self.n_fft, _N_MELS).T.copy())
        self.chroma_filters = _chroma_filters(sample_rate, self.n_chroma_fft)

    def row(self, waveform: Tensor) -> Tensor:
        # a copy with the peak 1, so that no lower limit depends on the level
        samples = waveform.detach().float().cpu()
        peak = float(samples.abs().max()) or 1.0
        samples = samples / peak

        clip = self.frames_of(samples, gain=20 * math.log10(peak))
        values = {
            **(_of_curves(clip, self.families, self.curves) if self.curves else {}),
            **(_of_level(clip) if "level" in self.families else {}),
            **(_of_pitch(clip) if "pitch" in self.families else {}),
            **(_of_voicing(clip) if "voicing" in self.families else {}),
            **(_of_chroma(self.chroma(samples)) if "chroma" in self.families else {}),
            **(_of_modulation(clip) | _of_onsets(clip.onsets) if "rhythm" in self.families else {}),
        }
        return torch.tensor([values[name] for name in self.names]).to(waveform.device)

    def frames_of(self, waveform: Tensor, gain: float) -> _Frames:
        """Return the low-level descriptors of each frame of a waveform (N,), and its levels plus ``gain`` (dB)."""
        windows = librosa_windows(waveform[None], torch.tensor([len(waveform)]), self.n_fft, self.hop_length)
        n_bands = len(self.edges)
        parts = in_slabs(windows, self._of_windows)[0].split([1, len(SHAPE), n_bands, n_bands, _N_MELS], dim=1)
        level, shape, peaks, valleys, mel_power = parts

        mel = limited_decibels(mel_power)
        rises = mel.diff(dim=0).clamp(min=0).mean(dim=1)
        onsets = torch.cat([rises.new_zeros(1), rises])  # librosa.onset.onset_strength, not shifted

        level = level[:, 0]
        n_frames = len(level)
        crossings = zero_crossing_rate(waveform, self.n_fft, self.hop_length, n_frames)
        hop = self.hop_length / self.sample_rate
        pitch, periodicity = track_pitch(waveform, self.sample_rate, hop, n_frames, self.fmin, self.fmax)

        octaves = torch.log2(shape[:, :-1].clamp(min=_LOWEST) / _OCTAVE_0)
        contrast = limited_decibels(peaks) - limited_decibels(valleys)
        spectrum = [crossings[:, None].add(0.005).log2(), octaves, shape[:, -1:], contrast, onsets[:, None]]
        return _Frames(
            level=level + gain,
            pitch=pitch,
            periodicity=periodicity,
            spectrum=torch.cat(spectrum, dim=1),
            mel=mel,
            onsets=onsets,
        )

    def chroma(self, waveform: Tensor) -> Tensor:
        """Return the energy of each pitch class, shape (T, 12)."""
        lengths = torch.tensor([len(waveform)])
        windows = librosa_windows(waveform[None], lengths, self.n_chroma_fft, self.chroma_hop)
        return in_slabs(windows, lambda part: power_spectrum(part, self.chroma_window) @ self.chroma_filters)[0]

    def _of_windows(self, windows: Tensor) -> Tensor:
        """Return the values of windows (n, n_fft) that depend on no other window, shape (n, F)."""
        level = decibels(windows.square().mean(dim=1, keepdim=True))
        power = power_spectrum(windows, self.window)
        magnitudes = power.sqrt()
        extremes = peaks_and_valleys(magnitudes, self.frequencies, self.edges)
        return torch.cat(
            [level, spectral_shape(magnitudes, self.frequencies), *extremes, power @ self.mel_filters], dim=1
        )


@functools.lru_cache(maxsize=8)
def _chroma_filters(sample_rate: int, n_fft: int) -> Tensor:
    """Return the share of each bin of a spectrum in each pitch class, shape (K, 12)."""
    import librosa

    filters = librosa.filters.chroma(sr=sample_rate, n_fft=n_fft, tuning=0.0)
    return torch.from_numpy(filters.T.astype(np.float32))


@dataclass(frozen=True)
class _Frames:
    """Low-level descriptors of a clip of T frames.

    Attributes
    ----------
    level : Tensor of shape (T,)
        RMS (dB).
    pitch, periodicity : Tensors of shape (T,)
        See :func:`~skastw.features._pitch.track_pitch`.
    spectrum : Tensor of shape (T, S)
    mel : Tensor of shape (T, 40)
        In decibels.
    onsets : Tensor of shape (T,)
        Mean rise of the mel bands since the frame before (dB).
    """

    level: Tensor
    pitch: Tensor
    periodicity: Tensor
    spectrum: Tensor
    mel: Tensor
    onsets: Tensor

    @functools.cached_property
    def active(self) -> Tensor:
        """Whether each frame is not much quieter than the loud ones."""
        return self.level >= float(percentiles(self.level, [95])) - _ACTIVE_RANGE

    @property
    def voiced(self) -> Tensor:
        """Whether each frame has a pitch."""
        return self.pitch > 0


# ------------------------------------------------------------------ names

#: Names of the values of the whole clip, by family.
_LEVEL = (
    *("rms_mean", "rms_active_mean", "rms_p05", "rms_p50", "rms_p95"),
    *("active_share", "active_log_seconds", "log_seconds"),
)
_PITCH = (
    *("pitch_p05", "pitch_p20", "pitch_p50", "pitch_p80", "pitch_p95", "pitch_mean", "pitch_std"),
    *("pitch_range90", "pitch_range60", "pitch_slope", "pitch_start", "pitch_end"),
    *("pitch_slope_std", "pitch_slope_p05", "pitch_slope_p95", "pitch_rise", "pitch_fall", "pitch_rising_share"),
    *("jitter_mean", "jitter_p50", "shimmer_mean", "hnr_mean", "hnr_std", "hnr_p20", "hnr_p80"),
)
_VOICING = (
    *("voiced_share", "voiced_active_share", "voiced_rate", "voiced_active_rate"),
    *("voiced_seconds_mean", "voiced_seconds_std", "voiced_seconds_max"),
    *("unvoiced_seconds_mean", "unvoiced_seconds_std"),
)
_CHROMA = (
    "chroma_mean",
    *(f"chroma{i:02d}_{functional}" for functional in ("mean", "std") for i in range(12)),
    *(f"tonnetz{i:02d}_{functional}" for functional in ("mean", "std") for i in range(6)),
)
_MODULATION = tuple(
    f"modulation_{name}_{low:g}hz"
    for low in _MODULATIONS[:-1]
    for name in (*(f"band{group}" for group in range(_N_GROUPS)), "level")
)
_OF_CLIP = {
    "level": _LEVEL,
    "pitch": _PITCH,
    "voicing": _VOICING,
    "chroma": _CHROMA,
    "rhythm": (*_MODULATION, "tempo", "tempo_clarity", "onset_rate"),
}


def _curve_names(families: frozenset[str], n_bands: int) -> list[str]:
    """Return the names of the values over time."""
    names = {
        "level": ["level"],
        "voicing": ["periodicity"],
        "spectrum": ["zero_crossings", *SHAPE, *(f"contrast{band}" for band in range(n_bands)), "flux"],
        "mfcc": [f"mfcc{i:02d}" for i in range(1, _N_MFCC + 1)],
        "mel": [f"mel{i:02d}" for i in range(_N_MELS)],
    }
    return [name for family, part in names.items() if family in families for name in part]


def _summary_names(curves: list[str]) -> list[str]:
    """Return the names of the summaries of values over time, row by row."""
    rows = [f"{selection}_{functional}" for selection in _SELECTIONS for functional in FUNCTIONALS]
    rows += [f"course_{order}" for order in range(1, N_WAVES + 1)]
    return [f"{name}_{row}" for row in rows for name in curves]


def _names(families: frozenset[str], curves: list[str]) -> list[str]:
    """Return the names of all values."""
    return [*_summary_names(curves), *(n for family, part in _OF_CLIP.items() if family in families for n in part)]


# ------------------------------------------------------------------ values over time, summarised


def _of_curves(clip: _Frames, families: frozenset[str], curves: list[str]) -> dict[str, float]:
    """Return the summaries of the values over time, which are named ``curves``."""
    parts = {
        "level": (clip.level - _total(clip.level))[:, None],
        "voicing": clip.periodicity[:, None],
        "spectrum": clip.spectrum,
        "mfcc": cepstral_coefficients(clip.mel, _N_MFCC + 1)[:, 1:],
        "mel": clip.mel - _total(clip.mel),
    }
    values = torch.cat([part for family, part in parts.items() if family in families], dim=1)

    changes, active, voiced = changes_of(values), clip.active, clip.voiced
    masks = active, active & voiced, active & ~voiced
    rows = torch.cat([*(summaries(values, changes, mask, active) for mask in masks), waves(values, active)])
    return dict(zip(_summary_names(curves), rows.flatten().tolist(), strict=True))


def _total(levels: Tensor) -> Tensor:
    """Return the level of the mean power (dB)."""
    return decibels((10 ** (levels / 10)).mean())


# ------------------------------------------------------------------ values of the whole clip


def _of_level(clip: _Frames) -> dict[str, float]:
    low, middle, high = percentiles(clip.level, [5, 50, 95]).tolist()
    n_active = int(clip.active.sum())
    return {
        "rms_mean": float(clip.level.mean()),
        "rms_active_mean": float(clip.level[clip.active].mean()),
        "rms_p05": low,
        "rms_p50": middle,
        "rms_p95": high,
        "active_share": n_active / len(clip.level),
        "active_log_seconds": math.log(n_active * _HOP),
        "log_seconds": math.log(len(clip.level) * _HOP),
    }


def _of_pitch(clip: _Frames) -> dict[str, float]:
    semitones = 12 * torch.log2(clip.pitch.clamp(min=1) / _SEMITONE_0)
    pitch = semitones[clip.voiced] if bool(clip.voiced.any()) else torch.full((1,), _NO_PITCH)
    quantiles = percentiles(pitch, [5, 20, 50, 80, 95])
    values = dict(zip(("p05", "p20", "p50", "p80", "p95"), quantiles.tolist(), strict=True))
    values |= {"mean": float(pitch.mean()), "std": float(pitch.std(correction=0))}
    values |= {"range90": values["p95"] - values["p05"], "range60": values["p80"] - values["p20"]}

    # over the whole clip: the line that fits best (semitones per second), and the first and the last third
    time = torch.nonzero(clip.voiced)[:, 0] * _HOP if len(pitch) > 1 else torch.zeros(1)
    time = time - time.mean()
    values["slope"] = float((time * (pitch - pitch.mean())).sum() / time.square().sum().clamp(min=0.05))
    third = max(1, len(pitch) // 3)
    values["start"], values["end"] = (float(part.mean()) - values["p50"] for part in (pitch[:third], pitch[-third:]))

    # inside voiced stretches, away from their ends
    inside = torch.nn.functional.avg_pool1d(clip.voiced[None].float(), 7, 1, padding=3)[0] > 0.999
    slopes = _or_zero((changes_of(semitones[:, None])[:, 0] / _HOP)[inside])
    steepest = percentiles(slopes, [5, 95]).tolist()
    values |= {"slope_std": float(slopes.std(correction=0)), "slope_p05": steepest[0], "slope_p95": steepest[1]}
    values |= {"rise": float(slopes.clamp(min=0).mean()), "fall": float((-slopes).clamp(min=0).mean())}
    values["rising_share"] = float((slopes > 0).float().mean())

    # from frame to frame
    pairs = clip.voiced[1:] & clip.voiced[:-1]
    jitter = _or_zero(semitones.diff()[pairs].clamp(-4, 4).abs())
    shimmer = _or_zero(clip.level.diff()[pairs].abs())
    periodic = _or_zero(clip.periodicity[clip.voiced]).clamp(1e-3, 0.9999)
    noise = 10 * torch.log10(periodic / (1 - periodic))
    low, high = percentiles(noise, [20, 80]).tolist()
    return {f"pitch_{name}": value for name, value in values.items()} | {
        "jitter_mean": float(jitter.mean()),
        "jitter_p50": float(jitter.median()),
        "shimmer_mean": float(shimmer.mean()),
        "hnr_mean": float(noise.mean()),
        "hnr_std": float(noise.std(correction=0)),
        "hnr_p20": low,
        "hnr_p80": high,
    }


def _of_voicing(clip: _Frames) -> dict[str, float]:
    parts = stretches(clip.voiced) * _HOP
    n_active = int(clip.active.sum())
    lengths, gaps = _or_zero(parts[:, 1] - parts[:, 0]), _or_zero(parts[1:, 0] - parts[:-1, 1])
    return {
        "voiced_share": float(clip.voiced.float().mean()),
        "voiced_active_share": int((clip.voiced & clip.active).sum()) / n_active,
        "voiced_rate": len(parts) / (len(clip.level) * _HOP + _SHORT),
        "voiced_active_rate": len(parts) / (n_active * _HOP + _SHORT),
        "voiced_seconds_mean": float(lengths.mean()),
        "voiced_seconds_std": float(lengths.std(correction=0)),
        "voiced_seconds_max": float(lengths.max()),
        "unvoiced_seconds_mean": float(gaps.mean()),
        "unvoiced_seconds_std": float(gaps.std(correction=0)),
    }


def _of_chroma(energy: Tensor) -> dict[str, float]:
    chroma = energy / energy.amax(dim=1, keepdim=True).clamp(min=1e-10)
    parts = [chroma.mean()[None]]
    for part in (chroma, tonal_centroids(chroma)):
        parts += [part.mean(dim=0), part.std(dim=0, correction=0)]
    return dict(zip(_CHROMA, torch.cat(parts).tolist(), strict=True))


def _of_modulation(clip: _Frames) -> dict[str, float]:
    groups = clip.mel.view(len(clip.mel), _N_GROUPS, -1).mean(dim=2)
    levels = torch.cat([groups, clip.level[:, None]], dim=1)
    n_fft = max(_N_MODULATION_FFT, 2 ** math.ceil(math.log2(len(levels))))
    power = torch.fft.rfft(levels - levels.mean(dim=0), n=n_fft, dim=0).abs().square() / len(levels)

    rates = torch.arange(len(power)) / (n_fft * _HOP)
    inside = [power[(rates >= low) & (rates < high)].mean(dim=0) for low, high in pairwise(_MODULATIONS)]
    return dict(zip(_MODULATION, (10 * (torch.cat(inside) + _WEAK).log10()).tolist(), strict=True))


def _of_onsets(onsets: Tensor) -> dict[str, float]:
    """Return the tempo: the lag of the autocorrelation of the onsets that is highest, preferably near 120 a minute."""
    centred = onsets - onsets.mean()
    size = max(2 * len(onsets), 2 * _LAGS[1])
    correlation = torch.fft.irfft(torch.fft.rfft(centred, n=size).abs().square(), n=size)
    correlation = correlation[slice(*_LAGS)] / correlation[0].clamp(min=1e-6)

    tempo = 60 / (_HOP * torch.arange(*_LAGS))
    usual = torch.exp(-0.5 * torch.log2(tempo / _USUAL_TEMPO).square())
    events = (onsets[1:-1] > onsets[:-2]) & (onsets[1:-1] >= onsets[2:])
    events = events & (centred[1:-1] > onsets.std(correction=0))
    return {
        "tempo": float(tempo[(correlation * usual).argmax()]),
        "tempo_clarity": float(correlation.max()),
        "onset_rate": int(events.sum()) / (len(onsets) * _HOP + _SHORT),
    }


def _or_zero(values: Tensor) -> Tensor:
    """Return the values, or a single zero if there are none."""
    return values if len(values) else torch.zeros(1)
