"""Per-channel energy normalization against librosa and against what it is for."""

from itertools import pairwise

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from helpers import white_noise
from skastw import ASTWClassifier
from skastw.audio import load_waveform
from skastw.datasets import load_spoken_digits, make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ComponentError
from skastw.features import PCEN
from skastw.features.pcen import smoothed

WORDS = ("gain", "bias", "power", "time_constant", "eps")


def pcen(waveform, sample_rate=16000, **settings):
    """Return the frames (T, F) of one waveform, as an ndarray."""
    waveform = torch.as_tensor(np.asarray(waveform, dtype=np.float32))
    frames, lengths = PCEN(**settings).build(sample_rate)(waveform[None], torch.tensor([len(waveform)]))
    assert frames.shape[:2] == (1, int(lengths))
    return frames[0].numpy()


def rate_of(time_constant, sample_rate, hop_length):
    frames = time_constant * sample_rate / hop_length
    return (np.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)


def reference(waveform, sample_rate=16000, **settings):
    """Return librosa's values (T, F) of the same centred windows, smoothed from the first frame on."""
    normalization = {word: settings.pop(word) for word in WORDS if word in settings}
    words = {"n_fft": 400, "hop_length": 160, "n_mels": 80, **settings}
    magnitude = librosa.feature.melspectrogram(
        y=np.pad(waveform, (0, words["n_fft"])), sr=sample_rate, pad_mode="reflect", power=1, **words
    )[:, : -(-len(waveform) // words["hop_length"])].astype(np.float64)
    magnitude *= 2**31
    rate = rate_of(normalization.get("time_constant", 0.4), sample_rate, words["hop_length"])
    start = scipy.signal.lfilter_zi([rate], [1, rate - 1]) * magnitude[:, :1]
    return librosa.pcen(magnitude, sr=sample_rate, hop_length=words["hop_length"], zi=start, **normalization).T


@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [
        (16000, {}),
        (16000, {"gain": 0.8, "bias": 10.0, "power": 0.25, "time_constant": 0.06}),
        (16000, {"gain": 0.0, "eps": 1.0}),
        (16000, {"gain": 1.0, "power": 1.0, "win_length": 320, "fmin": 50.0, "fmax": 7600.0}),
        (8000, {"n_fft": 512, "n_mels": 40, "hop_length": 80}),
        (44100, {"n_fft": 2048, "n_mels": 64, "hop_length": 441, "time_constant": 5.0}),
    ],
)
@pytest.mark.parametrize("n_samples", [1, 250, 4001, 16000, 50_000])
def test_frames_are_those_of_librosa(sample_rate, settings, n_samples):
    waveform = white_noise(n_samples)
    expected = reference(waveform, sample_rate, **settings)
    np.testing.assert_allclose(pcen(waveform, sample_rate, **settings), expected, rtol=1e-3, atol=1e-4)


def test_frames_of_a_recording_are_those_of_librosa():
    waveform = load_waveform(load_spoken_digits().data[7], 16000, index=0)
    np.testing.assert_allclose(pcen(waveform), reference(waveform), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_frames", [1, 2, 63, 64, 65, 128, 129, 3000])
@pytest.mark.parametrize("rate", [1e-3, 0.025, 0.5, 1.0])
def test_the_mean_is_that_of_the_recursion(n_frames, rate):
    values = torch.rand(2, n_frames, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, expected = values[:, 0], []
    for frame in values.unbind(dim=1):
        mean = (1 - rate) * mean + rate * frame
        expected.append(mean)
    torch.testing.assert_close(smoothed(values, rate), torch.stack(expected, dim=1))


def test_a_mean_of_a_range_of_a_hundred_decibels_is_exact_in_single_precision():
    levels = 10 ** torch.linspace(5, -5, 500, dtype=torch.float64).view(1, 500, 1)
    torch.testing.assert_close(smoothed(levels.float(), 0.1).double(), smoothed(levels, 0.1), rtol=1e-4, atol=0)


def test_what_comes_later_changes_nothing_before():
    waveform = white_noise(16000)
    other = waveform.copy()
    other[8400:] *= 100  # frame 50 ends at sample 8200
    np.testing.assert_allclose(pcen(other)[:51], pcen(waveform)[:51], atol=1e-5)
    assert np.abs(pcen(other)[53:] - pcen(waveform)[53:]).max() > 1


def test_a_steady_sound_has_about_the_same_frames_at_every_level():
    frames = [pcen(white_noise(32000, level=level)) for level in (1e-4, 1e-3, 1e-2, 1e-1)]
    for softer, louder in pairwise(frames):
        assert 0 < (louder - softer).mean() < 0.05


def test_an_onset_stands_out_and_then_fades():
    waveform = np.concatenate([white_noise(16000, level=0.001), white_noise(32000, level=0.1, seed=1)])
    loudness = pcen(waveform).mean(axis=1)
    before, onset, after = loudness[:95].mean(), loudness[101:104].mean(), loudness[-50:].mean()
    assert onset > 5 * before
    assert after < 1.5 * before


def test_a_clip_does_not_begin_with_an_onset():
    frames = np.stack([pcen(white_noise(16000, seed=seed)) for seed in range(20)])
    assert frames[:, :10].mean() == pytest.approx(frames[:, 50:].mean(), rel=0.3)


def test_settings_that_do_not_fit_together_are_named():
    with pytest.raises(ComponentError, match=r"win_length=401.*n_fft=400"):
        PCEN(win_length=401).build(16000)


def test_a_classifier_of_normalized_energies_learns_and_loads_again(tmp_path):
    clips, y = make_tones(n_clips=60, n_classes=3, duration=(0.1, 0.2), random_state=0)
    clf = ASTWClassifier(
        features=PCEN(gain=0.5),  # the tones are steady
        normalization="per_bin",
        encoder=ASTWEncoder(d_model=32, num_heads=2, num_layers=1),
        epochs=20,
        precision="float32",
        device="cpu",
    ).fit(clips[:40], y[:40])
    assert clf.score(clips[40:], y[40:]) >= 0.8
    again = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"), device="cpu")
    np.testing.assert_array_equal(again.predict_proba(clips[40:]), clf.predict_proba(clips[40:]))
