"""Cepstral coefficients and their slopes against librosa and against what they mean."""

import librosa
import numpy as np
import pytest
import torch

from helpers import white_noise
from skastw import ASTWClassifier
from skastw.audio import load_waveform
from skastw.datasets import load_spoken_digits, make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ComponentError
from skastw.features import MFCC
from skastw.features.mfcc import local_slopes


def mfcc(waveform, sample_rate=16000, **settings):
    """Return the frames (T, F) of one waveform, as an ndarray."""
    waveform = torch.as_tensor(np.asarray(waveform, dtype=np.float32))
    frames, lengths = MFCC(**settings).build(sample_rate)(waveform[None], torch.tensor([len(waveform)]))
    assert frames.shape[:2] == (1, int(lengths))
    return frames[0].numpy()


def reference(waveform, sample_rate=16000, n_mfcc=40, **settings):
    """Return librosa's coefficients of the same centred windows, (T, n_mfcc)."""
    words = {"n_fft": 400, "hop_length": 160, "n_mels": 80, **settings}
    power = librosa.feature.melspectrogram(
        y=np.pad(waveform, (0, words["n_fft"])), sr=sample_rate, pad_mode="reflect", **words
    )
    decibels = librosa.power_to_db(power[:, : -(-len(waveform) // words["hop_length"])])
    return librosa.feature.mfcc(S=decibels, n_mfcc=n_mfcc).T


@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [
        (16000, {}),
        (16000, {"n_mfcc": 13}),
        (16000, {"n_mfcc": 80}),
        (16000, {"n_mfcc": 20, "win_length": 320, "fmin": 50.0, "fmax": 7600.0}),
        (8000, {"n_fft": 512, "n_mels": 40, "hop_length": 80}),
        (44100, {"n_fft": 2048, "n_mels": 64, "hop_length": 441}),
    ],
)
@pytest.mark.parametrize("n_samples", [250, 4001, 16000])
def test_coefficients_are_those_of_librosa(sample_rate, settings, n_samples):
    waveform = white_noise(n_samples)
    found = mfcc(waveform, sample_rate, **settings)
    np.testing.assert_allclose(found, reference(waveform, sample_rate, **settings), atol=2e-3, rtol=0)


def test_coefficients_of_a_recording_are_those_of_librosa():
    waveform = load_waveform(load_spoken_digits().data[7], 16000, index=0)
    np.testing.assert_allclose(mfcc(waveform, n_mfcc=20), reference(waveform, n_mfcc=20), atol=5e-3, rtol=0)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("n_samples", [1440, 1441, 16000])
def test_deltas_are_those_of_librosa(order, n_samples):
    coefficients = mfcc(white_noise(n_samples), n_mfcc=13)
    found = mfcc(white_noise(n_samples), n_mfcc=13, deltas=order)
    assert found.shape == (len(coefficients), 13 * (1 + order))
    np.testing.assert_array_equal(found[:, :13], coefficients)
    for n in range(1, order + 1):
        expected = librosa.feature.delta(coefficients.T, width=9, order=n, mode="nearest").T
        np.testing.assert_allclose(found[:, 13 * n : 13 * (n + 1)], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("n_frames", range(1, 9))
@pytest.mark.parametrize("order", [1, 2])
def test_a_clip_shorter_than_the_width_is_one_whose_ends_last(n_frames, order):
    """librosa refuses it; repeating its first and last frame leads to a clip that librosa takes."""
    frames = np.random.default_rng(n_frames).normal(size=(n_frames, 3)).astype(np.float32)
    longer = np.pad(frames, ((20, 20), (0, 0)), mode="edge")
    expected = librosa.feature.delta(longer.T, width=9, order=order, mode="nearest").T[20 : 20 + n_frames]
    found = local_slopes(torch.from_numpy(frames)[None], torch.tensor([n_frames]), order)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_slopes_and_curvatures_of_a_parabola_are_its_derivatives():
    time = torch.arange(40, dtype=torch.float64)
    parabola = (2 - 3 * time + 0.25 * time**2).view(1, 40, 1)
    slope, curvature = (local_slopes(parabola, torch.tensor([40]), order)[0, 4:-4, 0] for order in (1, 2))
    torch.testing.assert_close(slope, (-3 + 0.5 * time)[4:-4])
    torch.testing.assert_close(curvature, torch.full_like(slope, 0.5))


@pytest.mark.parametrize("deltas", [0, 1, 2])
def test_padding_and_company_change_nothing_up_to_the_edges(deltas):
    module = MFCC(deltas=deltas).build(16000)
    clips = [white_noise(n, seed=n) for n in (1, 500, 1300, 5000)]
    lengths = torch.tensor([len(clip) for clip in clips])
    padded = torch.stack([torch.from_numpy(np.pad(clip, (0, 5000 - len(clip)))) for clip in clips])
    together, counts = module(padded, lengths)
    for item, clip, count in zip(together, clips, counts, strict=True):
        np.testing.assert_allclose(item[:count], mfcc(clip, deltas=deltas), atol=1e-3, rtol=0)
        assert not item[count:].any()


def test_ten_times_the_amplitude_raises_the_first_coefficient_by_twenty_decibels_in_every_band():
    quiet, loud = mfcc(white_noise(8000, level=0.01), deltas=1), mfcc(10 * white_noise(8000, level=0.01), deltas=1)
    expected = np.zeros(80)
    expected[0] = 20 * np.sqrt(80)  # a constant over 80 bands, by an orthonormal transform
    np.testing.assert_allclose(loud - quiet, np.broadcast_to(expected, quiet.shape), atol=2e-3)


def test_all_coefficients_keep_the_energy_of_the_spectrum():
    coefficients = mfcc(white_noise(4000), n_mfcc=80)
    decibels = reference(white_noise(4000), n_mfcc=80)
    np.testing.assert_allclose(np.square(coefficients).sum(axis=1), np.square(decibels).sum(axis=1), rtol=1e-5)


def test_settings_that_do_not_fit_together_are_named():
    with pytest.raises(ComponentError, match=r"n_mfcc=41.*n_mels=40"):
        MFCC(n_mfcc=41, n_mels=40).build(16000)
    with pytest.raises(ComponentError, match=r"win_length=401.*n_fft=400"):
        MFCC(win_length=401).build(16000)


def test_a_classifier_of_coefficients_learns_and_loads_again(tmp_path):
    clips, y = make_tones(n_clips=60, n_classes=3, duration=(0.1, 0.2), random_state=0)
    clf = ASTWClassifier(
        features=MFCC(n_mfcc=20, deltas=1),
        normalization="per_bin",
        encoder=ASTWEncoder(d_model=32, num_heads=2, num_layers=1),
        epochs=20,
        precision="float32",
        device="cpu",
    ).fit(clips[:40], y[:40])
    assert clf.score(clips[40:], y[40:]) >= 0.8
    again = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"), device="cpu")
    np.testing.assert_array_equal(again.predict_proba(clips[40:]), clf.predict_proba(clips[40:]))


@pytest.mark.parametrize("name", ["gain", "noise", "frequency_warp"])
def test_augmentations_of_bands_and_levels_refuse_coefficients(name):
    clips, y = make_tones(n_clips=8, n_classes=2, duration=(0.1, 0.2), random_state=0)
    with pytest.raises(ComponentError, match=f"augment='{name}' with features='mfcc'"):
        ASTWClassifier(features="mfcc", augment=name).fit(clips, y)
