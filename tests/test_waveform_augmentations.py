"""What augmentations of waveforms do to sounds whose result follows from physics, and augmentations inside others."""

import json
import math
import random
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from scipy import signal, stats
from sklearn.base import clone

from helpers import Quieter, white_noise
from skastw import ASTWClassifier
from skastw.augment import (
    Audiomentations,
    Augment,
    Background,
    FrequencyWarp,
    Gain,
    Mixup,
    OneOf,
    Sequence,
    SpecAugment,
    TimeStretch,
    WaveformBackground,
    WaveformClipping,
    WaveformCodec,
    WaveformFilter,
    WaveformGain,
    WaveformNoise,
    WaveformPitch,
    WaveformPolarity,
    WaveformReverb,
    WaveformShift,
    WaveformSpeed,
    WaveformTelephone,
    _waveform,
)
from skastw.cli.models import info
from skastw.core.batching import Batch, pad
from skastw.core.component import component_names, component_to_config, resolve_component
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ComponentError
from skastw.network.components import resolve_components

RATE = 16000
TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
#: An impulse response whose direct sound is not its first sample.
ROOM = torch.tensor([0.02, -0.1, 0.0, 1.0, 0.5, -0.3, 0.0, 0.0, 0.2, 0.05])


def batch_of(*waveforms):
    """Return a batch of waveforms; the target of an item is its position."""
    inputs, lengths = pad([torch.as_tensor(waveform, dtype=torch.float32)[:, None] for waveform in waveforms])
    return Batch(inputs, lengths, torch.arange(len(waveforms)), torch.ones(len(waveforms)))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def transform_of(component, recordings=()):
    """Return what training calls, with waveforms (N,) for the recordings of the user."""
    return component.prepare(lambda paths: [torch.as_tensor(item)[:, None] for item in recordings], RATE)


def applied(component, *waveforms, recordings=(), seed=0):
    """Return the augmented waveforms without their padding; every item is changed."""
    component = clone(component).set_params(p=1.0)
    result = transform_of(component, recordings)(batch_of(*waveforms), generator(seed))
    return [item[:n, 0] for item, n in zip(result.inputs, result.lengths.tolist(), strict=True)]


def tone(frequency, seconds=1.0, amplitude=0.5):
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def noise(n_samples, seed=0, level=0.1):
    return torch.from_numpy(white_noise(n_samples, level, seed))


def power(waveform):
    return float(torch.as_tensor(waveform).double().square().mean())


def decibels(ratio):
    return 10 * math.log10(ratio)


def peak_frequency(waveform):
    """Return the frequency of the largest peak of a spectrum (Hz), without the ends of the waveform."""
    middle = waveform[len(waveform) // 8 : -(len(waveform) // 8)]
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle)), 2**18).abs()
    return float(spectrum.argmax()) * RATE / 2**18


def band_power(waveform, low, high):
    spectrum = torch.fft.rfft(torch.as_tensor(waveform).double()).abs().square()
    frequencies = torch.fft.rfftfreq(len(waveform), 1 / RATE)
    return float(spectrum[(frequencies >= low) & (frequencies < high)].sum())


# ------------------------------------------------------------------ levels and sounds


def test_gain_is_one_factor_for_an_item_with_the_levels_asked():
    waveforms = [noise(50, seed) for seed in range(400)]
    gains = []
    for before, after in zip(waveforms, applied(WaveformGain(min_gain=-20, max_gain=3), *waveforms), strict=True):
        torch.testing.assert_close(after / before, (after[0] / before[0]).expand(50))
        gains.append(20 * math.log10(float(after[0] / before[0])))
    assert stats.kstest(gains, stats.uniform(-20, 23).cdf).pvalue > 0.01


def test_polarity_is_the_sign():
    waveforms = [noise(50), noise(3)]
    for before, after in zip(waveforms, applied(WaveformPolarity(), *waveforms), strict=True):
        assert torch.equal(after, -before)


@pytest.mark.parametrize("snr", [-10.0, 0.0, 20.0])
def test_noise_has_the_signal_to_noise_ratio_asked_whatever_the_length(snr):
    waveforms = [noise(16000, level=0.2), tone(440, 0.1), noise(1, 3), 1e-4 * noise(700, 2), torch.zeros(900)]
    results = applied(WaveformNoise(min_snr=snr, max_snr=snr), *waveforms)
    for before, after in zip(waveforms[:-1], results[:-1], strict=True):
        assert decibels(power(before) / power(after - torch.as_tensor(before))) == pytest.approx(snr, abs=0.01)
    assert not results[-1].any(), "silence stays silent"


def test_the_ratio_of_signal_to_noise_is_uniform_in_its_range():
    waveforms = [noise(400, seed) for seed in range(400)]
    results = applied(WaveformNoise(min_snr=0, max_snr=10), *waveforms)
    snr = [decibels(power(x) / power(y - x)) for x, y in zip(waveforms, results, strict=True)]
    assert stats.kstest(snr, stats.uniform(0, 10).cdf).pvalue > 0.01


@pytest.mark.parametrize("exponent", [-2.0, -1.0, 0.0, 1.0, 2.0])
def test_the_power_of_noise_depends_on_frequency_as_its_colour_says(exponent):
    component = WaveformNoise(min_snr=0, max_snr=0, min_exponent=exponent, max_exponent=exponent)
    before = tone(440, 16)
    [after] = applied(component, before)
    octaves = [100 * 2**k for k in range(6)]
    level = [decibels(band_power(after - torch.from_numpy(before), low, 2 * low) / low) for low in octaves]
    slope = np.polyfit(np.log10(octaves), level, 1)[0] / 10
    assert slope == pytest.approx(exponent, abs=0.1)


def test_each_item_has_noise_of_its_own_colour():
    before = tone(440)
    results = applied(WaveformNoise(min_snr=0, max_snr=0), *[before] * 50)
    sounds = [result - torch.from_numpy(before) for result in results]
    shares = [band_power(sound, 2000, 8000) / band_power(sound, 0, 8000) for sound in sounds]
    assert min(shares) < 0.05
    assert max(shares) > 0.8


# ------------------------------------------------------------------ the user's recordings


@pytest.mark.parametrize("snr", [-5.0, 15.0])
@pytest.mark.parametrize("n_samples", [30, 5000, 40000])
def test_a_background_has_the_ratio_asked(snr, n_samples):
    waveforms = [noise(16000, 1), tone(440, 0.2), noise(1, 2)]
    component = WaveformBackground(paths=["rain.wav"], min_snr=snr, max_snr=snr)
    results = applied(component, *waveforms, recordings=[noise(n_samples, 3)])
    for before, after in zip(waveforms, results, strict=True):
        assert decibels(power(before) / power(after - torch.as_tensor(before))) == pytest.approx(snr, abs=0.02)


def test_a_background_is_a_segment_in_one_piece_and_a_short_one_is_repeated():
    component = WaveformBackground(paths=["a.wav", "b.wav"], min_snr=-60, max_snr=-60)
    long, short = noise(3000, 1), noise(37, 2)
    heard = {"long": set(), "short": set()}
    for seed in range(40):
        before = noise(500, 9, level=1e-3)
        [after] = applied(component, before, recordings=[long, short], seed=seed)
        sound = (after - before) / (after - before).norm()
        for name, recording in (("long", long), ("short", short.repeat(30))):
            segments = recording.unfold(0, 500, 1)
            likeness = (segments @ sound) / segments.norm(dim=1)
            if likeness.max() > 0.99:
                heard[name].add(int(likeness.argmax()))
    assert len(heard["long"]) > 10
    assert len(heard["short"]) > 5


def test_recordings_are_read_once():
    read = []

    def extract(paths):
        read.append(list(paths))
        return [noise(100, seed)[:, None] for seed, _ in enumerate(paths)]

    transform = WaveformBackground(paths=["a.wav", "b.wav"]).prepare(extract, RATE)
    for seed in range(3):
        transform(batch_of(noise(200), noise(20)), generator(seed))
    assert read == [["a.wav", "b.wav"]]


# ------------------------------------------------------------------ speed and pitch


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.07, 1.5])
@pytest.mark.parametrize("frequency", [200, 1000, 3000])
def test_speed_divides_the_length_and_multiplies_the_frequency(speed, frequency):
    waveforms = [tone(frequency, 1.0), tone(frequency, 0.3), torch.ones(1)]
    results = applied(WaveformSpeed(min_speed=speed, max_speed=speed), *waveforms)
    assert [len(result) for result in results] == [max(1, round(len(item) / speed)) for item in waveforms]
    for result in results[:2]:
        assert peak_frequency(result) == pytest.approx(speed * frequency, rel=1e-3)
        middle = result[len(result) // 4 : -len(result) // 4]
        assert power(middle) == pytest.approx(0.125, rel=0.02)


def test_a_faster_waveform_is_the_same_signal_at_other_times():
    speed, time = 1.13, np.arange(8000)
    envelope = partial(np.interp, xp=[0, 4000, 8000], fp=[0, 1, 0])

    def sound(samples):
        return envelope(samples) * (np.sin(0.1 * samples) + np.cos(0.7 * samples) + np.sin(1.9 * samples + 1))

    [faster] = applied(WaveformSpeed(min_speed=speed, max_speed=speed), sound(time))
    exact = torch.from_numpy(sound(np.arange(len(faster)) * float(np.float32(speed))))
    torch.testing.assert_close(
        faster.double(), exact, atol=2e-3, rtol=0
    )  # the bend of the envelope is not band-limited


def test_frequencies_beyond_the_band_are_removed_and_not_mirrored():
    [faster] = applied(WaveformSpeed(min_speed=1.5, max_speed=1.5), tone(7000))
    assert power(faster[2000:-2000]) < 1e-8


@pytest.mark.parametrize("shift", [-12.0, -3.0, 0.5, 2.0, 7.0])
@pytest.mark.parametrize("frequency", [220.0, 1000.0])
def test_pitch_moves_a_tone_by_its_ratio_at_the_same_length_and_level(shift, frequency):
    waveforms = [tone(frequency, 1.0), tone(frequency, 0.4)]
    results = applied(WaveformPitch(min_shift=shift, max_shift=shift), *waveforms)
    for before, after in zip(waveforms, results, strict=True):
        assert len(after) == len(before)
        assert peak_frequency(after) == pytest.approx(frequency * 2 ** (shift / 12), rel=1e-3)
        assert power(after) == pytest.approx(power(before), rel=1e-3)
        quarter = len(after) // 4
        assert power(after[quarter:-quarter]) == pytest.approx(0.125, rel=0.05)


def test_pitch_keeps_the_time_of_events():
    sound = torch.zeros(16000)
    sound[3000:5000], sound[11000:11500] = noise(2000), noise(500)
    [shifted] = applied(WaveformPitch(min_shift=4, max_shift=4), sound)
    heard = [power(shifted[start : start + 500]) for start in range(0, 16000, 500)]
    assert {i for i, value in enumerate(heard) if value > 0.2 * max(heard)} <= {5, 6, 7, 8, 9, 10, 21, 22, 23}
    assert decibels(max(heard[13:20]) / max(heard)) < -20


# ------------------------------------------------------------------ time shifts


@pytest.mark.parametrize("rotate", [True, False])
def test_a_shift_is_a_rotation_or_lets_silence_enter(rotate):
    waveforms = [noise(1000), noise(300, 1), noise(7, 2), noise(1, 3)]
    component = WaveformShift(min_shift=-0.02, max_shift=0.02, rotate=rotate)  # 320 samples
    shifts = set()
    for seed in range(30):
        for before, after in zip(waveforms, applied(component, *waveforms, seed=seed), strict=True):
            n = len(before)
            for shift in range(-min(320, n // 2), min(320, n // 2) + 1):
                expected = before.roll(shift)
                if not rotate:
                    expected[: max(shift, 0)] = 0
                    expected[n + min(shift, 0) :] = 0
                if torch.equal(after, expected):
                    shifts.add((n, shift))
                    break
            else:
                pytest.fail("no shift within the range")
    assert min(shift for n, shift in shifts if n == 1000) < -250
    assert max(shift for n, shift in shifts if n == 1000) > 250
    assert max(abs(shift) for n, shift in shifts if n == 300) > 130


# ------------------------------------------------------------------ filters


def cookbook(shape, frequency, gain):
    """Return numerator and denominator of a filter, from Bristow-Johnson's formulas in z."""
    w, a = 2 * math.pi * frequency / RATE, 10 ** (gain / 40)
    c, s = math.cos(w), math.sin(w)
    alpha = s / 2 if shape == "peak" else s / math.sqrt(2)
    root = 2 * math.sqrt(a) * alpha
    return {
        "low_pass": ([(1 - c) / 2, 1 - c, (1 - c) / 2], [1 + alpha, -2 * c, 1 - alpha]),
        "high_pass": ([(1 + c) / 2, -1 - c, (1 + c) / 2], [1 + alpha, -2 * c, 1 - alpha]),
        "band_pass": ([alpha, 0, -alpha], [1 + alpha, -2 * c, 1 - alpha]),
        "peak": ([1 + alpha * a, -2 * c, 1 - alpha * a], [1 + alpha / a, -2 * c, 1 - alpha / a]),
        "low_shelf": (
            [a * (a + 1 - (a - 1) * c + root), 2 * a * (a - 1 - (a + 1) * c), a * (a + 1 - (a - 1) * c - root)],
            [a + 1 + (a - 1) * c + root, -2 * (a - 1 + (a + 1) * c), a + 1 + (a - 1) * c - root],
        ),
        "high_shelf": (
            [a * (a + 1 + (a - 1) * c + root), -2 * a * (a - 1 + (a + 1) * c), a * (a + 1 + (a - 1) * c - root)],
            [a + 1 - (a - 1) * c + root, 2 * (a - 1 - (a + 1) * c), a + 1 - (a - 1) * c - root],
        ),
    }[shape]


@pytest.mark.parametrize("shape", ["low_pass", "high_pass", "band_pass", "peak", "low_shelf", "high_shelf"])
@pytest.mark.parametrize("frequency", [60.0, 900.0, 5000.0])
@pytest.mark.parametrize("gain", [-9.0, 6.0])
def test_a_filter_is_the_one_of_the_cookbook(shape, frequency, gain):
    pinned = {"min_frequency": frequency, "max_frequency": frequency, "min_gain": gain, "max_gain": gain}
    waveforms = [noise(3000), noise(50, 1), torch.ones(1)]
    for before, after in zip(waveforms, applied(WaveformFilter(shape=shape, **pinned), *waveforms), strict=True):
        expected = signal.lfilter(*cookbook(shape, frequency, gain), before.double().numpy())
        np.testing.assert_allclose(after.numpy(), expected, atol=2e-5)


def cut_off(waveform, *, low):
    """Return the frequency (Hz) below or above which a filter of an impulse weakens by 3 dB."""
    response = torch.fft.rfft(waveform, 2**15).abs() > math.sqrt(0.5)
    passed = torch.nonzero(response)[:, 0] * RATE / 2**15
    return float(passed.min() if low else passed.max())


def test_low_pass_and_high_pass_filters_leave_a_band_between_them_and_others_use_the_whole_range():
    impulses = [torch.tensor([1.0, *[0.0] * 4000])] * 200
    ranges = {"min_frequency": 100.0, "max_frequency": 6400.0}  # 800 Hz is the middle
    low = [cut_off(item, low=False) for item in applied(WaveformFilter(shape="low_pass", **ranges), *impulses)]
    high = [cut_off(item, low=True) for item in applied(WaveformFilter(shape="high_pass", **ranges), *impulses)]
    assert stats.kstest(np.log2(low), stats.uniform(np.log2(800), 3).cdf).pvalue > 0.01
    assert stats.kstest(np.log2(high), stats.uniform(np.log2(100), 3).cdf).pvalue > 0.01

    drawn = torch.stack(applied(WaveformFilter(**ranges, min_gain=12, max_gain=12), *impulses))
    response = torch.fft.rfft(drawn).abs()
    lowest, highest, largest = response[:, 1], response[:, -1], response.amax(dim=1)
    kinds = {
        "low_pass": (lowest > 0.9) & (highest < 0.1),
        "high_pass": (lowest < 0.1) & (highest > 0.9),
        "band_pass": (lowest < 0.5) & (highest < 0.5),
        "peak": (lowest < 1.5) & (highest < 1.5) & (largest > 3),
        "low_shelf": lowest > 3,
        "high_shelf": highest > 2,
    }
    counts = {
        name: int((is_kind & (largest < 1.5 if "pass" in name else largest > 1.5)).sum())
        for name, is_kind in kinds.items()
    }
    assert min(counts.values()) > 15, counts


# ------------------------------------------------------------------ rooms


def test_an_impulse_sounds_as_the_impulse_response_at_its_time_and_level():
    clicks = []
    for n, place in ((300, 100), (50, 5), (10, 0)):
        click = torch.zeros(n)
        click[place] = 2.0
        clicks.append(click)
    results = applied(WaveformReverb(paths=["room.wav"]), *clicks, recordings=[ROOM])
    for click, result in zip(clicks, results, strict=True):
        full = np.convolve(click.numpy(), ROOM.numpy())[3 : 3 + len(click)]
        expected = torch.from_numpy(full * np.linalg.norm(click) / np.linalg.norm(full)).float()
        torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)
        assert int(result.argmax()) == int(click.argmax())


def test_each_item_has_one_of_the_users_rooms():
    results = applied(WaveformReverb(paths=["a.wav", "b.wav"]), *[noise(200)] * 40, recordings=[ROOM, ROOM[3:5]])
    assert len({tuple(result.tolist()) for result in results}) == 2


@pytest.mark.parametrize("rt60", [0.2, 0.6])
@pytest.mark.parametrize("drr", [-3.0, 6.0])
def test_a_synthetic_room_decays_and_is_as_reverberant_as_asked(rt60, drr):
    click = torch.zeros(32000)
    click[100] = 1.0
    pinned = {"min_rt60": rt60, "max_rt60": rt60, "min_drr": drr, "max_drr": drr}
    for response in applied(WaveformReverb(**pinned), *[click] * 3):
        assert int(response.abs().argmax()) == 100
        assert not response[:100].abs().max() > 1e-6
        tail = response[101:]
        assert decibels(float(response[100].square() / tail.square().sum())) == pytest.approx(drr, abs=0.01)
        n = round(rt60 * RATE / 8)
        levels = [decibels(power(tail[k * n : (k + 1) * n])) for k in range(7)]
        assert np.polyfit(range(7), levels, 1)[0] == pytest.approx(-60 / 8, abs=0.4)


def test_reverberation_keeps_the_length_and_the_level():
    waveforms = [noise(16000), tone(440, 0.1), noise(1, 2), torch.zeros(50)]
    for before, after in zip(waveforms, applied(WaveformReverb(), *waveforms), strict=True):
        assert len(after) == len(before)
        assert power(after) == pytest.approx(power(before), rel=1e-4)


def test_a_silent_impulse_response_and_an_empty_list_are_refused():
    with pytest.raises(ComponentError, match=r"'b\.wav' is silent"):
        transform_of(WaveformReverb(paths=["a.wav", "b.wav"]), [ROOM, torch.zeros(100)])
    with pytest.raises(ComponentError, match=r"paths=\[\].*at least one audio file, or None"):
        transform_of(WaveformReverb(paths=[]))


# ------------------------------------------------------------------ recorders, lines and codecs


def test_clipping_is_what_a_recorder_does_whose_gain_is_too_high():
    waveforms = [tone(100, 0.2), noise(300), torch.zeros(5)]
    results = applied(WaveformClipping(min_overdrive=6, max_overdrive=6), *waveforms)
    for before, after in zip(waveforms, results, strict=True):
        peak = float(np.abs(np.asarray(before)).max())
        expected = np.clip(np.asarray(before) * 10 ** (6 / 20), -peak, peak)
        np.testing.assert_allclose(after.numpy(), expected, rtol=1e-5)
    assert float((results[0].abs() == 0.5).float().mean()) > 0.5


def test_a_telephone_passes_the_band_of_speech_and_nothing_else():
    [after] = applied(WaveformTelephone(mu_law=False), noise(64000))
    for low, high, expected in ((0, 190, 0), (310, 3390, 1), (4010, 8000, 0)):
        share = band_power(after, low, high) / band_power(noise(64000), low, high)
        assert share == pytest.approx(expected, abs=1e-3)


def test_mu_law_adds_noise_that_is_soft_at_all_levels():
    before = [tone(1000, 0.5), 0.01 * tone(1000, 0.5) + 1e-9, tone(700, 0.5) * np.linspace(0.01, 1, 8000, dtype="f")]
    pairs = zip(*(applied(WaveformTelephone(mu_law=law), *before) for law in (False, True)), strict=True)
    for clean, coded in pairs:
        assert 34 < decibels(power(clean) / power(coded - clean)) < 46
    [heard] = applied(WaveformTelephone(), noise(16000))
    assert band_power(heard, 4010, 8000) < 1e-4 * band_power(heard, 0, 4010)


def test_a_codec_removes_the_band_above_a_frequency_within_its_range():
    results = applied(WaveformCodec(min_cutoff=2000, max_cutoff=6000, quantize=False), *[noise(32000)] * 60)
    edges = []
    for result in results:
        spectra = [torch.fft.rfft(item).abs().square() for item in (result, noise(32000))]
        ours, theirs = (spectrum[:16000].view(80, 200).sum(dim=1) for spectrum in spectra)  # bands of 100 Hz
        share = ours / theirs
        edge = int((share < 0.5).nonzero()[0])
        assert share[: edge - 3].min() > 0.99
        assert share[edge + 3 :].max() < 1e-4
        edges.append(100 * edge)
    assert 1900 <= min(edges) < 2400
    assert 5400 < max(edges) <= 6000


@pytest.mark.parametrize("snr", [5.0, 10.0, 20.0])
def test_the_noise_of_a_codec_is_as_much_softer_as_asked_in_each_band(snr):
    settings = {"min_cutoff": 7900, "max_cutoff": 7900, "min_snr": snr, "max_snr": snr}
    coloured = torch.from_numpy(signal.lfilter([1], [1, -0.95], noise(64000).numpy()).astype(np.float32))
    [clean], [coded] = (applied(WaveformCodec(**settings, quantize=q), coloured) for q in (False, True))
    for low, high in ((100, 500), (500, 2000), (2000, 7000)):
        ratio = decibels(band_power(clean, low, high) / band_power(coded - clean, low, high))
        assert ratio == pytest.approx(snr, abs=1.5)


# ------------------------------------------------------------------ batches


PINNED = [
    WaveformGain(min_gain=-3, max_gain=-3),
    WaveformSpeed(min_speed=1.1, max_speed=1.1),
    WaveformSpeed(min_speed=0.7, max_speed=0.7),
    WaveformPitch(min_shift=3, max_shift=3),
    WaveformPitch(min_shift=-5, max_shift=-5),
    WaveformShift(min_shift=0.01, max_shift=0.01),
    WaveformPolarity(),
    WaveformFilter(shape="high_pass", min_frequency=200, max_frequency=200),
    WaveformFilter(shape="high_shelf", min_frequency=2000, max_frequency=2000, min_gain=6, max_gain=6),
    WaveformReverb(paths=["room.wav"]),
    WaveformClipping(min_overdrive=5, max_overdrive=5),
    WaveformTelephone(mu_law=False),
    WaveformCodec(min_cutoff=3000, max_cutoff=3000, quantize=False),
]


@pytest.mark.parametrize("component", PINNED, ids=lambda component: component.name)
def test_a_batch_gives_the_results_of_its_clips_alone(component, monkeypatch):
    waveforms = [noise(12000), noise(700, 1, 1e-3), tone(440, 0.25), noise(1, 2), torch.zeros(300), noise(4001, 3)]
    together = applied(component, *waveforms, recordings=[ROOM])
    monkeypatch.setattr(_waveform, "_MAX_SAMPLES", 30000)  # two or three clips at once
    in_parts = applied(component, *waveforms, recordings=[ROOM])
    for waveform, result, part in zip(waveforms, together, in_parts, strict=True):
        [alone] = applied(component, waveform, recordings=[ROOM])
        scale = max(1e-9, float(np.abs(np.asarray(waveform)).max()))
        torch.testing.assert_close(result, alone, atol=2e-5 * scale, rtol=0)
        torch.testing.assert_close(part, alone, atol=2e-5 * scale, rtol=0)


WAVEFORM = [name for name in component_names("augment") if name.startswith("waveform_")]


@pytest.mark.parametrize("name", WAVEFORM)
def test_a_probability_is_that_of_items_and_the_others_stay_bit_for_bit(name):
    component = resolve_component(Augment, name)
    if "paths" in component.get_params():
        component.set_params(paths=["room.wav"])
    batch = batch_of(*[noise(64, seed) for seed in range(400)])
    assert component.p == 0.5
    result = transform_of(component, [ROOM])(batch, generator(1))
    is_same = [
        n == 64 and torch.equal(x[:64], y[:64])
        for n, x, y in zip(result.lengths, result.inputs, batch.inputs, strict=True)
    ]
    assert np.mean(is_same) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("name", WAVEFORM)
def test_limits_in_the_wrong_order_are_refused(name):
    component = resolve_component(Augment, name)
    for low in (param for param in component.get_params() if param.startswith("min_")):
        high = low.replace("min_", "max_")
        wrong = clone(component).set_params(**{low: getattr(component, high), high: getattr(component, low)})
        with pytest.raises(ComponentError, match=f"{low}=.*expected {low} of at most {high}"):
            wrong.check_params()


def test_without_a_sample_rate_nothing_is_applied():
    with pytest.raises(ComponentError, match=r"WaveformGain\.prepare"):
        WaveformGain().apply(batch_of(noise(5)), generator())
    with pytest.raises(ComponentError, match=r"WaveformBackground.*paths=None.*at least one"):
        transform_of(WaveformBackground())


# ------------------------------------------------------------------ one of several, and several in a row


def frames_of(*lengths):
    """Return a batch of frames."""
    inputs, lengths = pad([torch.rand(n, 80, generator=generator(n)) - 0.5 for n in lengths])
    return Batch(inputs, lengths, torch.arange(len(lengths)), torch.ones(len(lengths)))


def gain_of(level):
    return WaveformGain(min_gain=level, max_gain=level, p=1.0)


@pytest.mark.parametrize(("weights", "shares"), [(None, (0.5, 0.5)), ([3, 1], (0.75, 0.25)), ([0.0, 2], (0.0, 1.0))])
def test_one_augmentation_is_drawn_for_each_item_by_the_weights(weights, shares):
    waveforms = [noise(20 + seed % 7, seed) for seed in range(600)]
    component = OneOf(augmentations=[gain_of(6.0), gain_of(-6.0)], weights=weights, p=0.8)
    batch = batch_of(*waveforms)
    result = transform_of(component)(batch, generator())
    factors = (result.inputs[:, 0, 0] / batch.inputs[:, 0, 0]).log2().round()
    for factor, share in ((1, 0.8 * shares[0]), (-1, 0.8 * shares[1]), (0, 0.2)):
        assert float((factors == factor).float().mean()) == pytest.approx(share, abs=0.05)


def test_the_lengths_of_a_batch_follow_the_augmentation_of_each_item():
    faster, slower = (WaveformSpeed(min_speed=speed, max_speed=speed, p=1.0) for speed in (2.0, 0.5))
    waveforms = [noise(100 * (seed + 1), seed) for seed in range(12)]
    batch = batch_of(*waveforms)
    result = transform_of(OneOf(augmentations=[faster, slower, "waveform_polarity"], p=0.9))(batch, generator(1))
    factors = (result.lengths / batch.lengths).tolist()
    assert set(factors) == {0.5, 1.0, 2.0}
    assert result.inputs.shape[1] == int(result.lengths.max())
    for waveform, item, n, factor in zip(waveforms, result.inputs[..., 0], result.lengths, factors, strict=True):
        assert not item[n:].any()
        changed = {0.5: faster, 2.0: slower}.get(factor)
        expected = applied(changed, waveform)[0] if changed else waveform * item[0].sign() * waveform[0].sign()
        torch.testing.assert_close(item[:n], expected, atol=1e-5, rtol=0)


def test_a_sequence_is_applied_in_its_order_and_to_an_item_as_a_whole():
    clipped_last = Sequence(augmentations=[gain_of(20.0), WaveformClipping(min_overdrive=12, max_overdrive=12, p=1.0)])
    before = tone(100, 0.1)
    [first], [second] = (
        applied(Sequence(augmentations=order), before)
        for order in (clipped_last.augmentations, clipped_last.augmentations[::-1])
    )
    torch.testing.assert_close(first, second)  # clipping is relative to the peak
    assert float(first.abs().max()) == pytest.approx(5.0, rel=1e-3)

    batch = batch_of(*[noise(30, seed) for seed in range(500)])
    both = Sequence(augmentations=[gain_of(6.0), WaveformShift(min_shift=0.001, max_shift=0.001, p=1.0)], p=0.3)
    result = transform_of(both)(batch, generator())
    factor = 10 ** (6 / 20)
    is_both = torch.isclose(result.inputs, batch.inputs.roll(15, 1) * factor).all(dim=(1, 2))
    is_same = (result.inputs == batch.inputs).all(dim=(1, 2))
    assert (is_both | is_same).all()
    assert float(is_both.float().mean()) == pytest.approx(0.3, abs=0.06)


def test_choices_may_be_sequences_and_names():
    component = OneOf(augmentations=[Sequence(augmentations=["waveform_speed", gain_of(-40.0)]), "waveform_polarity"])
    component.check_params()
    batch = batch_of(*[noise(64, seed) for seed in range(60)])
    result = transform_of(component)(batch, generator())
    softer = (result.inputs.abs().amax(dim=(1, 2)) < 0.05).tolist()
    assert 15 < sum(softer) < 45
    assert {n != 64 for n, is_softer in zip(result.lengths.tolist(), softer, strict=True) if not is_softer} == {False}


def test_a_choice_with_mixing_is_made_for_the_batch():
    batch = frames_of(40, 30, 35, 40)
    component = OneOf(augmentations=[Mixup(p=1.0), Gain(p=1.0)], p=0.8)
    assert component.mixes
    seen = set()
    for seed in range(40):
        result = component.apply(batch, generator(seed))
        if result.shares is not None:
            assert sorted(result.partners.tolist()) == [0, 1, 2, 3], "every item has a partner in the whole batch"
            seen.add("mixup")
        else:
            is_same = (result.inputs == batch.inputs).all(dim=(1, 2))
            assert is_same.all() or not is_same.any()
            seen.add("none" if is_same.all() else "gain")
    assert seen == {"mixup", "gain", "none"}

    mixed = Mixup(p=1.0).apply(batch, generator())
    after = OneOf(augmentations=[TimeStretch(), Gain()]).apply(mixed, generator())
    assert torch.equal(after.partners, mixed.partners)
    assert torch.equal(after.shares, mixed.shares)


@pytest.mark.parametrize("cls", [OneOf, Sequence])
def test_stage_and_other_properties_follow_from_the_parts(cls):
    waveform, stretch = cls(augmentations=["waveform_gain"]), cls(augmentations=[TimeStretch(), FrequencyWarp()])
    assert (waveform.stage, waveform.log_mel, waveform.mixes, waveform.test_time) == ("waveform", False, False, False)
    assert (stretch.stage, stretch.log_mel, stretch.mixes, stretch.test_time) == ("frames", True, False, True)
    both = cls(augmentations=["mixup", cls(augmentations=["spec_augment"])])
    assert (both.stage, both.log_mel, both.mixes, both.test_time) == ("frames", False, True, False)


def nested(n_levels):
    component = Gain()
    for _ in range(n_levels):
        component = OneOf(augmentations=[component])
    return component


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (OneOf(), r"OneOf\(augmentations=\[\]\), expected at least one"),
        (
            Sequence(augmentations=["gain", "waveform_gain"]),
            "Sequence of 'gain' .frames. and 'waveform_gain' .waveform.",
        ),
        (OneOf(augmentations=["waveform_gian"]), "did you mean 'waveform_gain'"),
        (OneOf(augmentations=[Gain(max_gain=-3)]), "max_gain.*Got -3"),
        (OneOf(augmentations=["gain", "noise"], weights=[1]), r"weights=\[1\].*expected 2 numbers"),
        (OneOf(augmentations=["gain", "noise"], weights=[1, -1]), "not negative"),
        (OneOf(augmentations=["gain", "noise"], weights=[0, 0]), "not all zero"),
        (OneOf(augmentations=["gain", "noise"], weights=[1, "2"]), "expected 2 numbers"),
        (nested(4), "nested 4 times, expected at most 3"),
    ],
)
def test_a_wrong_combination_is_refused_with_what_is_expected(component, message):
    with pytest.raises(ComponentError, match=message):
        component.check_params()


def test_augmentations_inside_others_are_checked_against_the_front_end():
    resolve_components(
        ASTWClassifier(features="mfcc", augment=OneOf(augmentations=["time_shift", "waveform_gain"][:1]))
    )
    with pytest.raises(ComponentError, match="'one_of' with features='mfcc'"):
        resolve_components(ASTWClassifier(features="mfcc", augment=OneOf(augmentations=["gain", "time_shift"])))
    inner = Sequence(augmentations=["waveform_gain"])
    with pytest.raises(ComponentError, match="precomputed"):
        resolve_components(ASTWClassifier(features="precomputed", augment=OneOf(augmentations=[inner])))


# ------------------------------------------------------------------ the library audiomentations


class Recording:
    """A transform that remembers what it was called with."""

    def __init__(self, p=1.0):
        self.p, self.calls = p, []

    def __call__(self, samples, sample_rate):
        self.calls.append((samples.copy(), sample_rate))
        samples += 1  # a transform may change its argument
        return samples[: max(1, len(samples) // 2)].astype(np.float64)


class Compose:
    """Transforms one after another, as in the library."""

    def __init__(self, transforms, p=1.0):
        self.transforms, self.p = transforms, p

    def __call__(self, samples, sample_rate):
        for transform in self.transforms:
            samples = transform(samples, sample_rate)
        return samples


class AddNoise:
    """A transform that draws from NumPy's generator."""

    def __init__(self, sounds_path="/home/anna/rain.wav", levels=(0.1, 0.5), function=max, p=0.5):
        self.sounds_path, self.levels, self.function, self.p = sounds_path, np.array(levels), function, p

    def __call__(self, samples, sample_rate):
        return samples + np.random.normal(size=len(samples)).astype(np.float32)  # noqa: NPY002


def test_a_transform_gets_one_waveform_at_a_time_without_its_padding():
    transform, waveforms = Recording(), [noise(400), noise(30, 1), noise(1, 2)]
    batch = batch_of(*waveforms)
    result = transform_of(Audiomentations(transform=transform))(batch, generator())
    for waveform, (samples, sample_rate) in zip(waveforms, transform.calls, strict=True):
        assert sample_rate == RATE
        assert samples.dtype == np.float32
        np.testing.assert_array_equal(samples, waveform.numpy())
    assert result.lengths.tolist() == [200, 15, 1]
    assert result.inputs.dtype == torch.float32
    torch.testing.assert_close(result.inputs[1, :15, 0], waveforms[1][:15] + 1)
    assert torch.equal(batch.inputs[1, :30, 0], waveforms[1])


def test_transforms_draw_from_seeds_of_the_run_and_global_generators_stay_as_they_were():
    component = Audiomentations(transform=Compose([Quieter(), AddNoise()]))
    batch = batch_of(*[noise(50)] * 4)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first = transform_of(component)(batch, generator(0)).inputs
    assert states == (random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002
    random.seed(2)
    assert torch.equal(transform_of(component)(batch, generator(0)).inputs, first)
    assert not torch.equal(transform_of(component)(batch, generator(1)).inputs, first)
    assert len({tuple(item.flatten().tolist()) for item in first}) == 4, "each waveform has draws of its own"


def test_the_global_generators_are_restored_after_an_error():
    def fail(samples, sample_rate):
        random.random()
        raise RuntimeError("no such codec")

    state = random.getstate()
    with pytest.raises(RuntimeError, match="no such codec"):
        transform_of(Audiomentations(transform=fail))(batch_of(noise(9)), generator())
    assert random.getstate() == state


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (np.array([0.0, np.nan]), "returned NaN or infinite samples for a clip of 9 samples at 16000 Hz"),
        (np.full(3, np.inf), "NaN or infinite"),
        (np.zeros((2, 9)), r"an array of shape \(2, 9\)"),
        (np.zeros(0), r"shape \(0,\)"),
    ],
)
def test_an_output_that_cannot_be_used_is_an_error_with_the_names_of_the_transforms(output, message):
    class Broken(Quieter):
        def __call__(self, samples, sample_rate):
            return output

    with pytest.raises(ComponentError, match=message) as raised:
        transform_of(Audiomentations(transform=Compose([Broken(), Quieter()])))(batch_of(noise(9)), generator())
    assert "Compose(Broken, Quieter)" in str(raised.value)


def test_a_transform_is_described_by_its_names_and_parameters():
    component = Audiomentations(transform=Compose([AddNoise(), Quieter(min_factor=0.5)], p=0.7))
    config = json.loads(json.dumps(component_to_config(component)))
    assert config["params"]["transform"] is None
    noise_params = {
        "sounds_path": "rain.wav",
        "levels": [0.1, 0.5],
        "function": {"name": "max", "params": {}},
        "p": 0.5,
    }
    quieter = {"name": "Quieter", "params": {"min_factor": 0.5, "p": 0.9}}
    described = {"transforms": [{"name": "AddNoise", "params": noise_params}, quieter], "p": 0.7}
    assert json.loads(config["params"]["settings"]) == {"name": "Compose", "params": described}
    assert "Compose" in repr(component)
    assert clone(component).transform.transforms[1].min_factor == 0.5


@pytest.mark.parametrize("value", [b"text", range(3), torch.ones(2), slice(1), type])
def test_an_argument_without_a_description_is_named_by_its_type(value):
    component = Audiomentations(transform=Quieter(min_factor=value))
    described = json.loads(component.saved_params()["settings"])["params"]["min_factor"]
    assert described == {"name": type(value).__name__, "params": {}}


def test_the_description_of_a_transform_inside_itself_ends():
    transform = Quieter()
    transform.min_factor = transform
    settings = Audiomentations(transform=transform).saved_params()["settings"]
    assert settings.count("Quieter") > 1
    assert '"..."' in settings


def test_without_a_transform_nothing_can_be_trained():
    with pytest.raises(ComponentError, match=r"it is None\. Pass Audiomentations\(transform=\.\.\.\)"):
        transform_of(Audiomentations())


@pytest.mark.slow
def test_the_transforms_of_the_library_run_and_repeat():
    """With the folder of the library on PYTHONPATH; it need not be in the environment."""
    library = pytest.importorskip("audiomentations")
    transform = library.Compose(
        [
            library.AddGaussianNoise(p=0.5),
            library.OneOf([library.PitchShift(p=1.0), library.TimeStretch(leave_length_unchanged=False, p=1.0)]),
            library.SomeOf((1, 2), [library.LowPassFilter(p=1.0), library.Gain(p=1.0), library.Shift(p=1.0)]),
            library.Resample(p=0.3),
        ]
    )
    component = Audiomentations(transform=transform)
    waveforms = [noise(16000), tone(440, 0.3), noise(2000, 1)]
    batch, lengths = batch_of(*waveforms), set()
    for seed in range(10):
        first, again = (transform_of(component)(batch, generator(seed)) for _ in range(2))
        assert torch.equal(first.inputs, again.inputs)
        assert first.inputs.isfinite().all()
        lengths |= set(first.lengths.tolist())
    assert len(lengths) > 5
    names = json.loads(component.saved_params()["settings"])["params"]["transforms"]
    assert [item["name"] for item in names] == ["AddGaussianNoise", "OneOf", "SomeOf", "Resample"]
    clips, y = make_tones(n_clips=8, n_classes=2, duration=(0.1, 0.2), random_state=0)
    clf = ASTWClassifier(encoder=TINY, epochs=1, augment=component, device="cpu").fit(clips, y)
    assert np.isfinite(clf.predict_proba(clips)).all()


@pytest.mark.slow
def test_the_snippet_with_the_library_runs(tmp_path, monkeypatch):
    """The page shows a snippet that the usual tests leave out, because they do not have the library."""
    pytest.importorskip("audiomentations")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "waveform_augmentation.md").read_text(encoding="utf-8")
    first, *_ = re.findall(r"^```python\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    [snippet] = re.findall(r"^```py\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    namespace = {}
    for code in (first, snippet):
        exec(code, namespace)
    assert "TanhDistortion" in namespace["clf"].augment_[0].saved_params()["settings"]


# ------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a model that was trained with all kinds of augmentations, its clips, and the folder it was saved to."""
    folder = tmp_path_factory.mktemp("trained")
    clips, y = make_tones(n_clips=24, n_classes=2, duration=(0.1, 0.3), random_state=0)
    for name, sound in (("room.wav", ROOM.numpy()), ("rain.wav", white_noise(4000))):
        soundfile.write(folder / name, sound, RATE)
    rooms = WaveformReverb(paths=[folder / "room.wav"])
    rain = WaveformBackground(paths=[str(folder / "rain.wav")])
    augment = [
        OneOf(augmentations=[Sequence(augmentations=[rooms, rain]), "waveform_filter", "waveform_telephone"]),
        "waveform_speed",
        Audiomentations(transform=Compose([Quieter()])),
        OneOf(augmentations=[Background(paths=[folder / "rain.wav"]), SpecAugment(time_warp=3)], weights=[1, 2]),
    ]
    clf = ASTWClassifier(encoder=TINY, epochs=6, muon_lr=0.03, augment=augment, device="cpu", random_state=0)
    clf.set_params(normalization="none", ema_decay=None).fit(clips, y)
    saved = clf.save_pretrained(folder / "model")
    for name in ("room.wav", "rain.wav"):
        (folder / name).unlink()
    return clf, clips, y, saved


def test_a_model_learns_from_augmented_waveforms(trained):
    clf, clips, y, _ = trained
    assert clf.score(clips, y) > 0.8
    assert clf.history_[-1]["loss"] < clf.history_[0]["loss"]


def test_a_saved_model_predicts_without_recordings_and_transforms(trained):
    clf, clips, _, folder = trained
    again = ASTWClassifier.from_pretrained(folder, device="cpu")
    np.testing.assert_array_equal(again.predict_proba(clips), clf.predict_proba(clips))
    assert repr(again.augment[1]) == repr(WaveformSpeed())
    assert json.loads(again.augment[2].settings)["params"]["transforms"][0]["name"] == "Quieter"


def test_a_saved_model_names_no_folder_of_the_machine_inside_augmentations(trained):
    _, _, _, folder = trained
    for name in ("config.json", "README.md"):
        text = Path(folder, name).read_text(encoding="utf-8")
        assert str(Path(folder).parent) not in text
        assert "room.wav" in text
        assert "Quieter" in text
    assert "transform=" not in Path(folder, "README.md").read_text(encoding="utf-8")


def test_the_card_and_the_command_info_show_augmentations_inside_others_in_full(trained):
    _, _, _, folder = trained
    card = Path(folder, "README.md").read_text(encoding="utf-8")
    assert "OneOf(augmentations=[Sequence(augmentations=[WaveformReverb(paths=['room.wav'])," in " ".join(card.split())
    assert "..." not in next(line for line in card.splitlines() if line.startswith("| augment"))
    shown = CliRunner().invoke(info, [folder]).output
    assert "one_of(augmentations=[sequence(augmentations=[waveform_reverb(" in shown


def test_a_saved_model_is_not_trained_again_without_its_transform(trained):
    _, clips, y, folder = trained
    again = ASTWClassifier.from_pretrained(folder, device="cpu")
    again.set_params(augment=again.augment[2])
    with pytest.raises(ComponentError, match=r'saved as \{"name": "Compose".*Pass Audiomentations\(transform='):
        again.fit(clips, y)
    again.set_params(augment=Audiomentations(transform=Quieter()), epochs=1).fit(clips, y)


def test_a_seed_repeats_a_training_with_augmented_waveforms(trained):
    _, clips, y, _ = trained
    augment = [
        "waveform_noise",
        "waveform_reverb",
        "waveform_pitch",
        "waveform_codec",
        Audiomentations(transform=AddNoise()),
    ]
    settings = {"encoder": TINY, "epochs": 1, "augment": augment, "device": "cpu"}
    first, again, other = (ASTWClassifier(**settings, random_state=seed).fit(clips, y) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.predict_proba(clips), again.predict_proba(clips))
    assert (first.predict_proba(clips) != other.predict_proba(clips)).any()
