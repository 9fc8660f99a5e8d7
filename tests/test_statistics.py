"""Summary statistics against numpy and scipy: values, names, and what they do not depend on."""

import numpy as np
import pytest
import scipy.fft
import torch

from skastw import ASTWFeaturizer
from skastw.datasets import make_tones
from skastw.errors import ComponentError
from skastw.features.statistics import cepstral_coefficients, frame_statistics, statistic_names


def random_frames(n_frames, n_features, seed=0):
    return np.random.default_rng(seed).normal(size=(n_frames, n_features)).astype(np.float32)


def named(frames):
    """Return the statistics as a dict from name to value."""
    values = frame_statistics(torch.as_tensor(np.asarray(frames, dtype=np.float32)))
    return dict(zip(statistic_names(np.shape(frames)[1]), values.tolist(), strict=True))


@pytest.mark.parametrize("n_features", [1, 5, 40, 80, 128])
@pytest.mark.parametrize("n_mfcc", [1, 20])
def test_cepstral_coefficients_are_the_orthonormal_cosine_transform(n_features, n_mfcc):
    n_mfcc = min(n_mfcc, n_features)
    frames = random_frames(7, n_features)
    expected = scipy.fft.dct(frames.astype(float), type=2, norm="ortho", axis=1)[:, :n_mfcc]
    np.testing.assert_allclose(cepstral_coefficients(torch.from_numpy(frames), n_mfcc), expected, atol=1e-5)


def test_all_cepstral_coefficients_keep_the_energy():
    frames = torch.from_numpy(random_frames(9, 80))
    cepstra = cepstral_coefficients(frames, 80)
    torch.testing.assert_close(cepstra.square().sum(dim=1), frames.square().sum(dim=1))


@pytest.mark.parametrize(("n_frames", "n_features"), [(2, 80), (3, 12), (50, 1), (200, 80), (31, 20), (31, 21)])
def test_statistics_match_numpy_and_scipy(n_frames, n_features):
    frames = random_frames(n_frames, n_features) * 2 + 5
    cepstra = scipy.fft.dct(frames.astype(float), type=2, norm="ortho", axis=1)[:, :20]
    values = np.concatenate([frames.astype(float), cepstra], axis=1)
    expected = np.concatenate([values.mean(axis=0), values.std(axis=0), np.diff(values, axis=0).std(axis=0)])
    found = frame_statistics(torch.from_numpy(frames))
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_a_clip_of_one_frame_is_its_own_mean():
    frame = random_frames(1, 80)
    mean, deviation, change = frame_statistics(torch.from_numpy(frame)).reshape(3, 100)
    np.testing.assert_array_equal(mean[:80], frame[0])
    assert mean.isfinite().all()
    assert not deviation.any()
    assert not change.any()


def test_two_frames_have_one_change_and_so_no_spread_of_changes():
    statistics = named(random_frames(2, 8))
    assert all(value == 0 for name, value in statistics.items() if name.endswith("_delta_std"))
    assert all(value > 0 for name, value in statistics.items() if name.endswith("_std") and "delta" not in name)


@pytest.mark.parametrize(("n_features", "n_names"), [(1, 6), (12, 72), (20, 120), (80, 300), (128, 444)])
def test_each_value_has_one_name(n_features, n_names):
    names = statistic_names(n_features)
    assert len(names) == len(set(names)) == n_names
    assert len(frame_statistics(torch.zeros(4, n_features))) == n_names


@pytest.mark.parametrize("band", [0, 7, 79])
def test_names_line_up_with_values(band):
    frames = np.zeros((400, 80), dtype=np.float32)
    frames[:, band] = 3 + np.tile([1, -1], 200)  # two levels in turn, around 3
    statistics = named(frames)
    assert statistics[f"mel{band:02d}_mean"] == pytest.approx(3)
    assert statistics[f"mel{band:02d}_std"] == pytest.approx(1)
    assert statistics[f"mel{band:02d}_delta_std"] == pytest.approx(2, rel=1e-4)
    others = [name for name in statistics if name.startswith("mel") and not name.startswith(f"mel{band:02d}_")]
    assert len(others) == 79 * 3
    assert all(statistics[name] == 0 for name in others)


@pytest.mark.parametrize("order", [0, 1, 5, 19])
def test_a_ripple_over_bands_is_one_cepstral_coefficient(order):
    ripple = np.cos(np.pi / 80 * order * (np.arange(80) + 0.5))
    statistics = named(np.tile(ripple, (10, 1)))
    found = {name: value for name, value in statistics.items() if name.startswith("mfcc") and name.endswith("_mean")}
    assert len(found) == 20
    assert found.pop(f"mfcc{order:02d}_mean") == pytest.approx(np.linalg.norm(ripple), rel=1e-5)
    assert max(abs(value) for value in found.values()) < 1e-5


def test_a_louder_recording_moves_the_level_alone():
    frames = random_frames(60, 80)
    quiet, loud = named(frames), named(frames + 0.5)  # log-mel: a gain adds a constant
    for name, value in quiet.items():
        moved = {"mfcc00_mean": 0.5 * np.sqrt(80)}.get(name, 0.5 if name.startswith("mel") and "mean" in name else 0)
        assert loud[name] == pytest.approx(value + moved, abs=1e-4)


def test_a_recording_played_backwards_has_the_same_statistics():
    frames = torch.from_numpy(random_frames(60, 80))
    torch.testing.assert_close(frame_statistics(frames.flip(0)), frame_statistics(frames), atol=1e-5, rtol=1e-5)


def test_the_order_of_frames_matters_to_their_changes_only():
    frames = torch.linspace(0, 1, 64)[:, None].repeat(1, 10)
    shuffled = frames[torch.from_numpy(np.random.default_rng(0).permutation(64))]
    steady, jumpy = named(frames), named(shuffled)
    for name in steady:
        if name.endswith("_delta_std") and name.startswith("mel"):
            assert steady[name] < 1e-4
            assert jumpy[name] > 0.1
        elif "delta" not in name:
            assert jumpy[name] == pytest.approx(steady[name], abs=1e-4)


@pytest.mark.parametrize("features", ["mfcc", "pcen"])
def test_statistics_are_of_log_mel_frames_only(features):
    clips, _ = make_tones(n_clips=2, random_state=0)
    with pytest.raises(ComponentError, match=f"{features}.*log_mel"):
        ASTWFeaturizer(features=features, output="statistics").fit_transform(clips)
    assert ASTWFeaturizer(features=features).fit_transform(clips)[0].ndim == 2
