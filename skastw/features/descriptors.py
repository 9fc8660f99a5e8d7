"""Descriptors of a clip: pitch, voicing, level, spectrum, cepstrum, chroma and rhythm, summarised in one row."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from skastw.core.mel import mel_filter_bank
from skastw.core.parameters import param, parameters, reals
from skastw.core.spectra import centred_window, in_slabs, librosa_windows
from skastw.core.text import did_you_mean
from skastw.errors import ComponentError, plain
from skastw.features._base import FeaturesModule, WholeClipFeatures, WholeClipModule
from skastw.features._functionals import FUNCTIONALS, N_WAVES, stretches, summaries, waves, with_slopes
from skastw.features._low_level import (
    ROLL_OFFS,
    contrast_edges,
    decibels,
    limited_decibels,
    peaks_and_valleys,
    spectral_shape,
    zero_crossing_rate,
)
from skastw.features._pitch import track_pitch
from skastw.features.statistics import cepstral_coefficients

#: Families of descriptors, and those that are computed by default.
FAMILIES = ("level", "pitch", "voicing", "spectrum", "mfcc", "mel", "chroma", "rhythm")
DEFAULT_FAMILIES = ("level", "pitch", "voicing", "spectrum", "mfcc", "chroma", "rhythm")

#: Time between frames, and shortest windows of spectra and of chroma (s). The Fourier transforms have the next power of 2.
_HOP, _WINDOW, _CHROMA_HOP, _CHROMA_WINDOW = 0.01, 0.032, 0.03, 0.128
_N_MELS, _N_MFCC = 40, 26
#: A frame is active if it is at most this far below the 95th percentile of the levels (dB), and above silence.
_ACTIVE_RANGE, _SILENCE = 35.0, -95.0
#: Frames that are summarised.
_SELECTIONS = ("active", "voiced", "unvoiced")
#: Pitch that counts as 0 semitones (Hz), and the pitch of a clip without one (semitones).
_REFERENCE, _NO_PITCH = 55.0, 20.0
#: Rates of modulation (Hz), and groups of mel bands whose modulation is measured.
_MODULATIONS, _N_GROUPS = (0.5, 1, 2, 4, 8, 16, 32, 50), 8


@parameters
class Descriptors(WholeClipFeatures):
    name = "descriptors"

    families: tuple[str, ...] | list[str] = param(
        default=DEFAULT_FAMILIES,
        valid=[tuple, list],
        doc="Families of descriptors to compute, of " + ", ".join(f'``"{family}"``' for family in FAMILIES) + ".",
    )
    fmin: float = param(default=60.0, valid=[reals(20, 2000)], doc="Lowest pitch (Hz).")
    fmax: float = param(default=600.0, valid=[reals(40, 4000)], doc="Highest pitch (Hz).")

    def value_names(self, sample_rate: int) -> list[str]:
        return self.build(sample_rate).names

    def build(self, sample_rate: int) -> FeaturesModule:
        return _DescriptorsModule(self, sample_rate)


class _DescriptorsModule(WholeClipModule):
    def __init__(self, params: Descriptors, sample_rate: int) -> None:
        super().__init__()
        import librosa
        self.params, self.sample_rate = params, sample_rate
        self.hop_length, self.chroma_hop = max(1, round(_HOP * sample_rate)), max(1, round(_CHROMA_HOP * sample_rate))
        self.n_fft, self.n_chroma_fft = (2 ** math.ceil(math.log2(s * sample_rate)) for s in (_WINDOW, _CHROMA_WINDOW))
        self.edges = contrast_edges(sample_rate)
        b = functools.partial(self.register_buffer, persistent=False)
        b("window", centred_window("hann", None, self.n_fft))
        b("chroma_window", centred_window("hann", None, self.n_chroma_fft))
        b("frequencies", torch.arange(self.n_fft // 2 + 1) * sample_rate / self.n_fft)
        b("filters", torch.from_numpy(mel_filter_bank(sample_rate, self.n_fft, _N_MELS).T.copy()))
        chroma = librosa.filters.chroma(sr=sample_rate, n_fft=self.n_chroma_fft, tuning=0.0)
        b("chroma_filters", torch.from_numpy(chroma.T.astype(np.float32).copy()))
        self.names = list(self.columns(torch.zeros(sample_rate)))
        self.n_features = len(self.names)

    def row(self, waveform):
        return torch.stack([torch.as_tensor(v, dtype=torch.float32) for v in self.columns(waveform).values()])

    def columns(self, waveform):
        lengths = torch.tensor([len(waveform)])
        frames = in_slabs(librosa_windows(waveform[None], lengths, self.n_fft, self.hop_length), self._frame)[0]
        T = len(frames); k = len(self.edges)
        level, shape, peaks, valleys, mel = frames.split([1, 3 + len(ROLL_OFFS), k, k, _N_MELS], dim=1)
        mel = limited_decibels(mel)
        z = zero_crossing_rate(waveform, self.n_fft, self.hop_length, T)[:, None]
        pitch, strength = track_pitch(waveform, self.sample_rate, self.hop_length / self.sample_rate, T, self.params.fmin, self.params.fmax)
        voiced = pitch > 0
        level = level[:, 0]
        active = level >= max(float(torch.quantile(level, 0.95)) - _ACTIVE_RANGE, _SILENCE)
        active = active if active.any() else torch.ones_like(active)
        rise = mel.diff(dim=0).clamp(min=0).mean(dim=1)
        flux = torch.cat([rise.new_zeros(1), rise])[:, None]

        curves = {}
        total = decibels(10 ** (level / 10)).mean() if False else decibels((10 ** (level / 10)).mean())
        curves["level"] = (["level"], (level - total)[:, None])
        curves["voicing"] = (["periodicity"], strength[:, None])
        hz = torch.log2(shape[:, :6].clamp(min=50) / 1000)
        contrast = limited_decibels(peaks) - limited_decibels(valleys)
        curves["spectrum"] = (["zero_crossings", "centroid", "bandwidth", *(f"rolloff{round(100*r)}" for r in ROLL_OFFS), "flatness", *(f"contrast{i}" for i in range(k)), "flux"],
            torch.cat([(z + 0.005).log2(), hz, shape[:, 6:], contrast, flux], dim=1))
        curves["mfcc"] = ([f"mfcc{i:02d}" for i in range(1, _N_MFCC + 1)], cepstral_coefficients(mel, _N_MFCC + 1)[:, 1:])
        curves["mel"] = ([f"mel{i:02d}" for i in range(_N_MELS)], mel - decibels((10 ** (mel / 10)).mean()))
        curves = {f: c for f, c in curves.items() if f in self.params.families}

        out = {}
        names = [(f, n) for f, (ns, _) in curves.items() for n in ns]
        X, dX = with_slopes(torch.cat([v for _, v in curves.values()], dim=1))
        for tag, sel in (("active", active), ("voiced", active & voiced), ("unvoiced", active & ~voiced), ):
            for fn, vals in zip(FUNCTIONALS, summaries(X, dX, sel, active).tolist()):
                for (f, n), v in zip(names, vals): out[(f, tag, fn, n)] = v
        for kk, vals in enumerate(waves(X, active).tolist()):
            for (f, n), v in zip(names, vals): out[(f, "shape", f"wave{kk+1}", n)] = v
        F = self.params.families
        if "level" in F:
            out["level", "", "mean", "rms"] = level.mean().item(); out["level", "", "active", "rms"] = level[active].mean().item()
            for q in (0.05, 0.5, 0.95): out["level", "", f"p{round(100*q):02d}", "rms"] = torch.quantile(level, q).item()
            out["level", "", "x", "active_share"] = active.float().mean().item()
            out["level", "", "x", "active_seconds"] = math.log(active.sum().item() * _HOP)
            out["level", "", "x", "seconds"] = math.log(T * _HOP)
        if "pitch" in F: self._pitch(out, pitch, level, strength)
        if "voicing" in F: self._voicing(out, voiced, active)
        if "chroma" in F: self._chroma(out, waveform)
        if "rhythm" in F: self._rhythm(out, mel, level, flux[:, 0])
        return out

    def _frame(self, windows):
        spectrum = torch.fft.rfft(windows * self.window)
        power = torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
        magnitudes = power.sqrt()
        return torch.cat([decibels(windows.square().mean(dim=1, keepdim=True)), spectral_shape(magnitudes, self.frequencies),
          *peaks_and_valleys(magnitudes, self.frequencies, self.edges), power @ self.filters], dim=1)

    def _pitch(self, out, pitch, level, strength):
        voiced = pitch > 0
        st = 12 * torch.log2(pitch.clamp(min=1) / _REFERENCE)
        P = {}
        if voiced.any():
            s = st[voiced]; med = s.median()
            q = torch.quantile(s, torch.tensor([0.05, 0.2, 0.5, 0.8, 0.95]))
            pair = voiced[1:] & voiced[:-1]
            dp = st.diff()[pair].clamp(-4, 4); dl = level.diff()[pair]
            tt = torch.nonzero(voiced)[:, 0].float() * _HOP; tt = tt - tt.mean(); c = s - s.mean()
            slope = (tt * c).sum() / tt.square().sum().clamp(min=0.05)
            n = max(1, len(s) // 3); early, late = s[:n].mean() - med, s[-n:].mean() - med
            inner = voiced.clone()
            for k in range(1, 4): inner[k:] &= voiced[:-k]; inner[:-k] &= voiced[k:]
            sm = with_slopes(st[:, None])[1][:, 0][inner] / _HOP
            r = strength[voiced].clamp(0.001, 0.9999); hn = 10 * torch.log10(r / (1 - r))
        else:
            q = torch.full((5,), _NO_PITCH); s = q; slope = early = late = torch.tensor(0.0); dp = dl = sm = torch.zeros(0); hn = torch.full((1,), 0.0)
        z = torch.zeros(1); dp, dl, sm = (x if len(x) else z for x in (dp, dl, sm))
        for a, b in zip(("05", "20", "50", "80", "95"), q.tolist()): P["p" + a] = b
        P |= dict(mean=s.mean(), std=s.std(correction=0), range90=q[4] - q[0], range60=q[3] - q[1], jitter=dp.abs().mean(), jitter50=dp.abs().median(), slope=slope, early=early, late=late,
          rise=sm.clamp(min=0).mean(), fall=(-sm).clamp(min=0).mean(), rising=(sm > 0).float().mean(), slope_std=sm.std(correction=0), slope_p95=torch.quantile(sm, .95), slope_p05=torch.quantile(sm, .05),
          shimmer=dl.abs().mean(), hnr=hn.mean(), hnr_std=hn.std(correction=0), hnr20=torch.quantile(hn, .2), hnr80=torch.quantile(hn, .8))
        for n, v in P.items(): out["pitch", "", "x", n] = float(v)

    def _voicing(self, out, voiced, active):
        s = stretches(voiced).float() * _HOP
        ln = s[:, 1] - s[:, 0]; gap = s[1:, 0] - s[:-1, 1]
        ln, gap = (x if len(x) else torch.zeros(1) for x in (ln, gap))
        P = dict(share=voiced.float().mean(), active_share=(voiced & active).sum() / active.sum(), rate=len(s) / (len(voiced) * _HOP + .1), active_rate=len(s) / (float(active.sum()) * _HOP + .1), length=ln.mean(), length_std=ln.std(correction=0), length_max=ln.max(), gap=gap.mean(), gap_std=gap.std(correction=0))
        for n, v in P.items(): out["voicing", "", "x", n] = float(v)

    def _chroma(self, out, waveform):
        w = librosa_windows(waveform[None], torch.tensor([len(waveform)]), self.n_chroma_fft, self.chroma_hop)
        def f(w):
            s = torch.fft.rfft(w * self.chroma_window)
            return torch.addcmul(s.real.square(), s.imag, s.imag) @ self.chroma_filters
        ch = in_slabs(w, f)[0]
        c = ch / ch.amax(1, keepdim=True).clamp(min=1e-10); cs = c / c.sum(1, keepdim=True).clamp(min=1e-10)
        a = torch.arange(12).float(); phi = torch.stack([torch.sin(a * 7 * torch.pi / 6), torch.cos(a * 7 * torch.pi / 6), torch.sin(a * 3 * torch.pi / 2), torch.cos(a * 3 * torch.pi / 2), .5 * torch.sin(a * 2 * torch.pi / 3), .5 * torch.cos(a * 2 * torch.pi / 3)])
        for nm, x in (("chroma", c), ("tonnetz", cs @ phi.T)):
            for i, (m, s) in enumerate(zip(x.mean(0).tolist(), x.std(0, correction=0).tolist())): out["chroma", "", "mean", nm + str(i)] = m; out["chroma", "", "std", nm + str(i)] = s
        out["chroma", "", "x", "peaky"] = c.mean().item()

    def _rhythm(self, out, mel, level, flux):
        g = mel.reshape(len(mel), _N_GROUPS, -1).mean(2); g = torch.cat([g, level[:, None]], 1); g = g - g.mean(0)
        nf = max(512, 2 ** math.ceil(math.log2(len(g)))); S = torch.fft.rfft(g, n=nf, dim=0).abs().square() / len(g); fr = torch.arange(nf // 2 + 1) / (nf * _HOP)
        for lo, hi in zip(_MODULATIONS, _MODULATIONS[1:]):
            for i, x in enumerate((10 * torch.log10(S[(fr >= lo) & (fr < hi)].mean(0) + 1e-2)).tolist()): out["rhythm", "", str(lo), f"mod{i}"] = x
        f = flux - flux.mean(); ac = torch.fft.irfft(torch.fft.rfft(f, n=2 * nf).abs().square())[:nf]; ac = ac / ac[0].clamp(min=1e-9)
        lag = torch.arange(20, 200); bpm = 60 / (lag * _HOP); w = torch.exp(-.5 * torch.log2(bpm / 120).square()); k = (ac[20:200] * w).argmax()
        out["rhythm", "", "x", "tempo"] = math.log2(bpm[k].item()); out["rhythm", "", "x", "clarity"] = ac[20:200].max().item()
        ev = (flux[1:-1] > flux[:-2]) & (flux[1:-1] >= flux[2:]) & (flux[1:-1] > flux.mean() + flux.std(correction=0))
        out["rhythm", "", "x", "events"] = float(ev.sum()) / (len(flux) * _HOP + .1)
