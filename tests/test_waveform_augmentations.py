"""What augmentations of waveforms do to sounds whose result follows from physics, and augmentations inside others."""

import json
import math
import random
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
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
from skastw.core.batching import Batch, length_mask, pad
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


def test_a_silent_impulse_response_is_refused_by_name():
    with pytest.raises(ComponentError, match=r"'b\.wav' is silent"):
        transform_of(WaveformReverb(paths=["a.wav", "b.wav"]), [ROOM, torch.zeros(100)])


# ------------------------------------------------------------------ recorders, lines and codecs


def test_clipping_is_what_a_recorder_does_whose_gain_is_too_high():
    waveforms = [tone(100, 0.2), noise(300), torch.zeros(5)]
    results = applied(WaveformClipping(min_overdrive=6, max_overdrive=6), *waveforms)
    for before, after in zip(waveforms, results, strict=True):
        peak = float(np.abs(before).max())
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
