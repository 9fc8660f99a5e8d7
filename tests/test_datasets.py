"""The data sets: what they hold, that every clip decodes, and the physics of the generated ones."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skastw.audio import as_clips, decode, load_waveform
from skastw.datasets import load_spoken_digits, make_tones

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


# ------------------------------------------------------------------ spoken digits


def test_digits_are_a_bunch_of_aligned_columns():
    clips = load_spoken_digits()
    assert clips.target_names == DIGITS
    assert len(clips.data) == len(clips.target) == len(clips.groups) == 400
    assert all(isinstance(path, str) for path in clips.data)
    assert clips.data == sorted(clips.data)  # on every file system
    assert clips.target.dtype.kind == clips.groups.dtype.kind == "U"
    assert clips.frame is None
    for word in ("MIT", "16 kHz", "400 clips"):
        assert word in clips.DESCR
    for path, digit, voice in zip(clips.data, clips.target, clips.groups, strict=True):
        assert Path(path).name.startswith(f"{DIGITS.index(digit)}_{voice}_")


def test_every_voice_speaks_every_digit_equally_often():
    clips = load_spoken_digits()
    counts = pd.crosstab(clips.groups, clips.target)
    assert sorted(counts.columns) == sorted(DIGITS)
    assert len(counts) >= 12
    assert (counts == counts.iloc[0, 0]).all(axis=None)
    assert counts.iloc[0, 0] >= 1


def test_every_digit_decodes_to_audible_speech():
    seen = set()
    for path in load_spoken_digits().data:
        samples, rate = decode(path)
        assert (rate, samples.shape[1]) == (16000, 1)
        assert 0.1 < len(samples) / rate < 1.5
        assert np.isfinite(samples).all()
        assert 0.05 < np.abs(samples).max() <= 1.3  # a lossy codec overshoots
        assert np.abs(samples.mean()) < 0.01
        seen.add(samples.tobytes())
    assert len(seen) == 400  # no recording twice


def test_durations_are_those_of_the_description():
    clips = load_spoken_digits()
    seconds = [len(load_waveform(path, 16000)) / 16000 for path in clips.data]
    shortest, longest = map(float, re.search(r"([\d.]+) to ([\d.]+) seconds", clips.DESCR).groups())
    assert min(seconds) == pytest.approx(shortest, abs=0.1)
    assert max(seconds) == pytest.approx(longest, abs=0.1)


def test_digits_are_small_enough_to_carry():
    files = [Path(path) for path in load_spoken_digits().data]
    folder = files[0].parent
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 2_000_000
    assert sorted(files) == sorted(folder.iterdir())


def test_return_x_y():
    clips = load_spoken_digits()
    data, target = load_spoken_digits(return_X_y=True)
    assert data == clips.data
    np.testing.assert_array_equal(target, clips.target)


def test_as_frame():
    clips = load_spoken_digits()
    framed = load_spoken_digits(as_frame=True)
    assert framed.data.columns.tolist() == ["audio"]
    assert isinstance(framed.target, pd.Series)
    assert framed.frame.columns.tolist() == ["audio", "target", "voice"]
    assert as_clips(framed.data) == framed.frame["audio"].tolist() == clips.data
    assert framed.target.tolist() == framed.frame["target"].tolist() == clips.target.tolist()
    assert framed.frame["voice"].tolist() == clips.groups.tolist()
    np.testing.assert_array_equal(framed.groups, clips.groups)


def test_as_frame_with_return_x_y():
    data, target = load_spoken_digits(return_X_y=True, as_frame=True)
    assert data.shape == (400, 1)
    assert target.name == "target"
    assert target.index.equals(data.index)


def test_each_call_loads_afresh():
    load_spoken_digits().data.clear()
    assert len(load_spoken_digits().data) == 400


def test_arguments_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        load_spoken_digits(True)


# ------------------------------------------------------------------ tones


def peak_frequency(clip, sample_rate):
    """Return the frequency (Hz) at which a windowed, zero-padded spectrum is largest."""
    n = 2 * sample_rate
    return np.abs(np.fft.rfft(clip * np.hanning(len(clip)), n)).argmax() / n * sample_rate


@pytest.mark.parametrize(("n_classes", "sample_rate"), [(1, 4000), (3, 16000), (5, 16000), (6, 44100)])
def test_each_tone_lies_within_a_semitone_of_its_class(n_classes, sample_rate):
    clips, y = make_tones(n_clips=30, n_classes=n_classes, sample_rate=sample_rate, random_state=0)
    assert set(y) == set(range(n_classes))
    semitones = [
        12 * np.log2(peak_frequency(clip, sample_rate) / (300 * 2**k)) for clip, k in zip(clips, y, strict=True)
    ]
    assert np.abs(semitones).max() <= 1.05  # 5 cents for the resolution of the spectrum
    assert np.std(semitones) > 0.3  # the pitch varies within a class


def test_tones_are_float32_of_the_promised_length_and_level():
    clips, y = make_tones(n_clips=50, duration=(0.1, 0.3), noise=0, random_state=0)
    assert (len(clips), y.shape, y.dtype) == (50, (50,), np.int64)
    assert all(clip.dtype == np.float32 and clip.ndim == 1 for clip in clips)
    lengths = np.array([len(clip) for clip in clips])
    assert lengths.min() >= 1600
    assert lengths.max() <= 4800
    assert len(set(lengths)) > 20
    levels = np.array([np.abs(clip).max() for clip in clips])
    assert levels.min() > 0.09
    assert levels.max() <= 0.9
    assert np.ptp(levels) > 0.4


@pytest.mark.parametrize("noise", [0.01, 0.1])
def test_noise_has_the_asked_level(noise):
    clips, _ = make_tones(n_clips=10, n_classes=1, duration=(1, 1), noise=noise, random_state=0)
    for clip in clips:
        window = np.hanning(len(clip))
        power = np.abs(np.fft.rfft(clip * window)[1000:]) ** 2 / (window**2).sum()  # above 1 kHz there is no tone
        np.testing.assert_allclose(np.sqrt(power.mean()), noise, rtol=0.05)


@pytest.mark.parametrize("n_clips", [1, 7, 60])
def test_classes_are_balanced(n_clips):
    clips, y = make_tones(n_clips=n_clips, random_state=0)
    assert len(clips) == n_clips
    assert np.ptp(np.bincount(y, minlength=3)) <= 1


def test_the_seed_decides_everything():
    first, y = make_tones(n_clips=6, random_state=3)
    again, y_again = make_tones(n_clips=6, random_state=np.random.RandomState(3))
    other, _ = make_tones(n_clips=6, random_state=4)
    np.testing.assert_array_equal(y, y_again)
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert not any(np.array_equal(one, two) for one, two in zip(first, other, strict=True))
    assert not np.array_equal(first[0], first[3])  # two clips of one class


def test_a_seed_leaves_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    make_tones(n_clips=3, random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(("n_classes", "sample_rate"), [(6, 16000), (40, 16000), (1, 600), (4, 4800)])
def test_a_tone_above_half_the_sample_rate_is_refused(n_classes, sample_rate):
    with pytest.raises(ValueError, match=f"n_classes={n_classes} at sample_rate={sample_rate}.*half the sample rate"):
        make_tones(n_classes=n_classes, sample_rate=sample_rate)
