"""The log-mel front end against physics, librosa and transformers' Whisper extractor."""

import librosa
import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from helpers import white_noise
from skastw.audio import load_waveform
from skastw.core.mel import mel_filter_bank
from skastw.core.spectra import centred_windows, power_spectrum, whisper_scale
from skastw.datasets import load_spoken_digits
from skastw.errors import ComponentError
from skastw.features import MFCC, PCEN, LogMel, Precomputed

SETTINGS = [
    (16000, {}),
    (16000, {"n_fft": 2048, "n_mels": 128, "fmin": 20.0, "fmax": 7600.0}),
    (8000, {"n_fft": 512, "n_mels": 40, "hop_length": 80}),
    (44100, {"n_fft": 2048, "n_mels": 64, "hop_length": 441, "fmin": 300.0, "fmax": 12000.0}),
    (48000, {"n_fft": 4096, "n_mels": 128, "hop_length": 480}),
]


@pytest.fixture(scope="module")
def whisper():
    return WhisperFeatureExtractor()


def log_mel(waveform, sample_rate=16000, **settings):
    """Return the frames (T, F) of one waveform."""
    waveform = torch.as_tensor(np.asarray(waveform, dtype=np.float32))
    frames, lengths = LogMel(**settings).build(sample_rate)(waveform[None], torch.tensor([len(waveform)]))
    assert frames.shape[:2] == (1, int(lengths))
    return frames[0]


def tone(frequency, sample_rate, seconds=0.3, level=0.5):
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)


def band_centres(sample_rate, settings):
    """Return the centre of each band in Hz, by librosa's scale."""
    fmin, fmax = settings.get("fmin", 0.0), settings.get("fmax", sample_rate / 2)
    return librosa.mel_frequencies(settings.get("n_mels", 80) + 2, fmin=fmin, fmax=fmax)[1:-1]


# ------------------------------------------------------------------ physics


@pytest.mark.parametrize(("sample_rate", "settings"), SETTINGS)
def test_front_ends_say_where_their_bands_are(sample_rate, settings):
    for features in (LogMel(**settings), PCEN(**settings)):
        assert np.allclose(features.frequencies(sample_rate), band_centres(sample_rate, settings))
    for features in (MFCC(), Precomputed()):
        assert features.frequencies(sample_rate) is None


@pytest.mark.parametrize(("sample_rate", "settings"), SETTINGS)
def test_a_tone_peaks_in_the_band_whose_centre_is_nearest(sample_rate, settings):
    centres = band_centres(sample_rate, settings)
    in_range = [f for f in (440.0, 1000.0, 1234.0, 2500.0, 3300.0, 6500.0, 11000.0) if f < centres[-1]]
    for frequency in [*in_range, *centres[:: len(centres) // 8], centres[-1]]:
        nearest = int(np.abs(centres - frequency).argmin())
        frames = log_mel(tone(frequency, sample_rate), sample_rate, **settings)
        middle = frames[len(frames) // 4 : -len(frames) // 4]
        assert middle.argmax(dim=1).tolist() == [nearest] * len(middle), f"{frequency:g} Hz"


def test_a_tone_outside_the_range_of_the_bands_is_heard_less():
    inside, outside = (log_mel(tone(f, 16000), fmin=500.0, fmax=2000.0) for f in (1000.0, 5000.0))
    assert outside[5:-5].max() < inside[5:-5].max() - 1  # 40 dB


def test_ten_times_the_amplitude_adds_a_half_to_every_unfloored_value():
    waveform = white_noise(8000, level=0.01)
    quiet, loud = log_mel(waveform), log_mel(10 * waveform)
    assert quiet.max() - quiet.min() < 2, "nothing is floored in this signal"
    torch.testing.assert_close(loud, quiet + 2 / 4, atol=1e-5, rtol=0)


def test_the_floor_is_eighty_decibels_below_the_clips_own_maximum():
    waveform = np.concatenate([tone(1000, 16000), np.zeros(4000)])
    for level in (0.1, 1.0, 100.0):
        frames = log_mel(level * waveform)
        assert float(frames.max() - frames.min()) == pytest.approx(2, abs=1e-5)
        assert (frames == frames.min()).float().mean() > 0.3


def test_silence_lies_at_the_absolute_floor():
    assert log_mel(np.zeros(4000)).unique().tolist() == [(-10 + 4) / 4]


@pytest.mark.parametrize("n_samples", [1, 159, 160, 161, 320, 16000])
@pytest.mark.parametrize("hop_length", [1, 160, 441])
def test_there_is_a_frame_for_every_begun_hop(n_samples, hop_length):
    assert len(log_mel(white_noise(n_samples), hop_length=hop_length)) == -(-n_samples // hop_length)


@pytest.mark.parametrize("frame", [2, 10, 30, 48])
def test_a_click_is_loudest_in_the_frame_that_is_centred_on_it(frame):
    waveform = np.zeros(8000)
    waveform[160 * frame] = 1
    loudness = log_mel(waveform).sum(dim=1)
    assert int(loudness.argmax()) == frame
    silent = loudness == loudness.min()
    assert silent.sum() == 50 - 3  # a window of 400 samples meets three frames of 160
    assert loudness[frame - 1] == pytest.approx(float(loudness[frame + 1]), rel=1e-4)


def test_a_shorter_window_sees_a_click_in_fewer_frames():
    waveform = np.zeros(8000)
    waveform[4000] = 1
    heard = {}
    for win_length in (100, 400):
        frames = log_mel(waveform, hop_length=20, win_length=win_length)
        heard[win_length] = int((frames > frames.min()).any(dim=1).sum())
    assert heard[400] == pytest.approx(400 / 20, abs=2)
    assert heard[100] == pytest.approx(100 / 20, abs=2)


def test_a_delay_by_hops_shifts_the_frames():
    waveform = np.concatenate([np.zeros(800), white_noise(4000), np.zeros(1600)])
    late = np.concatenate([np.zeros(160 * 7), waveform])
    torch.testing.assert_close(log_mel(late)[7 + 2 :], log_mel(waveform)[2:], atol=1e-5, rtol=0)


def test_the_sign_of_the_waveform_does_not_matter():
    waveform = white_noise(4000)
    assert torch.equal(log_mel(waveform), log_mel(-waveform))


def test_a_quiet_clip_keeps_its_own_floor_beside_a_loud_one():
    mel = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(0)) + 0.01
    mel[1] *= 1e4
    mel[1, 4:] *= 1e12  # beyond the clip
    lengths = torch.tensor([6, 4])
    scaled = whisper_scale(mel, lengths)
    torch.testing.assert_close(scaled[:1], whisper_scale(mel[:1], lengths[:1]))
    torch.testing.assert_close(scaled[1:, :4], whisper_scale(mel[1:, :4], lengths[1:]))
    assert not scaled[1, 4:].any()


# ------------------------------------------------------------------ librosa


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels", "fmin", "fmax"),
    [
        (16000, 400, 80, 0.0, None),
        (8000, 512, 40, 100.0, 3800.0),
        (22050, 1024, 64, 50.0, 8000.0),
        (16000, 1024, 20, 950.0, 4000.0),
        (16000, 1024, 20, 100.0, 950.0),
        (44100, 2048, 128, 0.0, None),
        (48000, 1024, 1, 0.0, 500.0),
    ],
)
def test_filters_are_those_of_librosa(sample_rate, n_fft, n_mels, fmin, fmax):
    expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    found = mel_filter_bank(sample_rate, n_fft, n_mels, fmin, fmax)
    assert (found.shape, found.dtype) == ((n_mels, n_fft // 2 + 1), np.float32)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(
    ("sample_rate", "settings"), [*SETTINGS, (16000, {"win_length": 320}), (16000, {"n_fft": 401})]
)
def test_a_filter_passes_about_as_much_of_white_noise_as_every_other(sample_rate, settings):
    n_fft = settings.get("n_fft", 400)
    ranges = {name: settings[name] for name in ("fmin", "fmax") if name in settings}
    filters = mel_filter_bank(sample_rate, n_fft, settings.get("n_mels", 80), **ranges)
    area = filters.sum(axis=1) * sample_rate / n_fft
    assert (filters >= 0).all()
    np.testing.assert_allclose(area[len(area) // 2 :], 1, rtol=0.1)  # wide enough to hold several bins


@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [*SETTINGS, (16000, {"win_length": 320}), (16000, {"win_length": 241}), (16000, {"n_fft": 401})],
)
@pytest.mark.parametrize("n_samples", [250, 4001, 16000])
def test_the_spectrogram_is_that_of_librosa(sample_rate, settings, n_samples):
    words = {"n_fft": 400, "hop_length": 160, "n_mels": 80, **settings}
    waveform = white_noise(n_samples)
    followed_by_silence = np.pad(waveform, (0, words["n_fft"]))
    power = librosa.feature.melspectrogram(y=followed_by_silence, sr=sample_rate, pad_mode="reflect", **words)
    log = np.log10(np.maximum(power.T[: -(-n_samples // words["hop_length"])], 1e-10))
    expected = (np.maximum(log, log.max() - 8) + 4) / 4
    np.testing.assert_allclose(log_mel(waveform, sample_rate, **settings), expected, atol=1e-5)


def test_the_power_spectrum_keeps_the_energy():
    waveform, window = torch.from_numpy(white_noise(2000))[None], torch.ones(400)
    power = power_spectrum(centred_windows(waveform, 400, 400), window)[0, 1:5]  # four frames side by side
    energy = (2 * power.sum() - power[:, 0].sum() - power[:, -1].sum()) / 400
    torch.testing.assert_close(energy, waveform[0, 200:1800].square().sum(), rtol=1e-4, atol=0)


# ------------------------------------------------------------------ Whisper


def assert_equal_to_whisper(extractor, waveform, **settings):
    found = log_mel(waveform, extractor.sampling_rate, **settings)
    expected = extractor(waveform, sampling_rate=extractor.sampling_rate)["input_features"][0].T
    np.testing.assert_allclose(found, expected[: len(found)], atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_samples", [1, 3, 100, 159, 160, 161, 201, 399, 400, 401, 5000, 16000, 479_000])
def test_frames_are_those_of_whisper(whisper, n_samples):
    assert_equal_to_whisper(whisper, white_noise(n_samples))
    rising = (white_noise(n_samples) * np.linspace(1e-3, 1, n_samples)).astype(np.float32)
    assert_equal_to_whisper(whisper, rising)


def test_frames_of_recordings_are_those_of_whisper(whisper):
    paths = load_spoken_digits().data[::37]
    assert len(paths) == 11
    for index, path in enumerate(paths):
        assert_equal_to_whisper(whisper, load_waveform(path, 16000, index=index))


@pytest.mark.parametrize(
    "settings", [{"n_mels": 128}, {"n_mels": 40, "hop_length": 320}, {"n_fft": 512}, {"n_fft": 1024, "hop_length": 256}]
)
@pytest.mark.parametrize("chunk_length", [30.0, 2, 2.5])
def test_whispers_extractor_reads_the_settings(settings, chunk_length):
    preprocessor = LogMel(**settings).to_preprocessor(16000, chunk_length)
    assert preprocessor.pop("feature_extractor_type") == "WhisperFeatureExtractor"
    assert_equal_to_whisper(WhisperFeatureExtractor(**preprocessor), white_noise(20_000), **settings)


@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [(16000, {"fmin": 100.0}), (16000, {"fmax": 4000.0}), (16000, {"win_length": 320}), (44100, {}), (8000, {})],
)
def test_settings_that_whispers_extractor_lacks_are_not_passed_off_as_its_own(sample_rate, settings):
    """It has bands from 0 to 8000 Hz at any rate and a window of n_fft samples, whatever the file says."""
    preprocessor = LogMel(**settings).to_preprocessor(sample_rate, 30.0)
    if preprocessor.pop("feature_extractor_type") == "WhisperFeatureExtractor":
        assert_equal_to_whisper(WhisperFeatureExtractor(**preprocessor), white_noise(8000), **settings)


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"fmin": 4000.0, "fmax": 300.0}, ["fmin=4000", "fmax=300", "8000 Hz", "sample_rate=16000"]),
        ({"fmin": 500.0, "fmax": 500.0}, ["fmin=500", "fmax=500"]),
        ({"fmax": 8001.0}, ["fmax=8001", "8000 Hz", "sample_rate=16000"]),
        ({"fmin": 9000.0}, ["fmin=9000", "fmax=8000"]),
        ({"win_length": 401}, ["win_length=401", "n_fft=400"]),
        ({"n_fft": 256, "win_length": 400}, ["win_length=400", "n_fft=256"]),
    ],
)
def test_settings_that_do_not_fit_together_are_named(settings, named):
    with pytest.raises(ComponentError) as raised:
        LogMel(**settings).build(16000)
    assert all(value in str(raised.value) for value in named), raised.value


def test_a_negative_fmin_is_named():
    with pytest.raises(ComponentError, match=r"fmin=-1.*0 <= fmin"):
        mel_filter_bank(16000, 400, 80, fmin=-1.0)


def test_bands_that_hold_no_bin_are_warned_about():
    with pytest.warns(UserWarning, match="mel bands lie between the bins of n_fft=400"):
        LogMel().build(44100)
