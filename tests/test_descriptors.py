"""Descriptors against librosa and physics, and as table, front end and saved model."""

import librosa
import numpy as np
import pytest
import torch

from helpers import white_noise
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.datasets import load_spoken_digits
from skastw.errors import ComponentError, ExportError
from skastw.features import Descriptors, Statistics
from skastw.features._functionals import percentiles
from skastw.features._low_level import (
    contrast_edges,
    limited_decibels,
    peaks_and_valleys,
    spectral_shape,
    tonal_centroids,
    zero_crossing_rate,
)
from skastw.features._pitch import track_pitch
from skastw.features.descriptors import DEFAULT_FAMILIES, FAMILIES
from skastw.features.statistics import frame_statistics

SAMPLE_RATE = 16000
N_FFT, HOP = 512, 160
TIME = np.arange(SAMPLE_RATE) / SAMPLE_RATE


def harmonic(pitch, level=0.1):
    """Return a second of a sound with ten harmonics; ``pitch`` (Hz) may be an array with the pitch of each sample."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(pitch, TIME.shape)) / SAMPLE_RATE
    return (level * sum(np.sin(k * phase) / k for k in range(1, 11))).astype(np.float32)


def named(waveform, families=FAMILIES, sample_rate=SAMPLE_RATE):
    """Return the descriptors of a waveform as a dict from name to value."""
    component = Descriptors(families=families)
    row = component.build(sample_rate).extract([torch.from_numpy(waveform)])[0][0]
    return dict(zip(component.value_names(sample_rate), row.tolist(), strict=True))


@pytest.fixture(scope="module")
def words():
    """Return a second and a half of speech and noise at very different levels."""
    digits = load_spoken_digits()
    speech, _ = librosa.load(digits.data[0], sr=SAMPLE_RATE)
    return np.concatenate([speech, white_noise(8000, 0.01), np.zeros(2000, np.float32), harmonic(150)[:8000]])


# ------------------------------------------------------------------ the definitions of librosa


@pytest.fixture(scope="module")
def magnitudes(words):
    """Return the spectra of librosa, shape (K, T)."""
    return np.abs(librosa.stft(words, n_fft=N_FFT, hop_length=HOP))


def test_the_shape_of_a_spectrum_is_that_of_librosa(magnitudes):
    spectra = torch.from_numpy(magnitudes.T.copy())
    centroid, bandwidth, *roll_offs, flatness = spectral_shape(
        spectra, torch.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT
    ).T.numpy()
    close = {"rtol": 1e-3, "atol": 0.1}
    np.testing.assert_allclose(centroid, librosa.feature.spectral_centroid(S=magnitudes, sr=SAMPLE_RATE)[0], **close)
    np.testing.assert_allclose(bandwidth, librosa.feature.spectral_bandwidth(S=magnitudes, sr=SAMPLE_RATE)[0], **close)
    for share, roll_off in zip((0.25, 0.5, 0.85, 0.95), roll_offs, strict=True):
        expected = librosa.feature.spectral_rolloff(S=magnitudes, sr=SAMPLE_RATE, roll_percent=share)[0]
        loud = magnitudes.sum(axis=0) > 1e-3
        assert np.abs(roll_off - expected)[loud].max() <= SAMPLE_RATE / N_FFT  # a bin, because of rounding
    expected = 10 * np.log10(librosa.feature.spectral_flatness(S=magnitudes)[0])
    np.testing.assert_allclose(flatness, expected, atol=1e-2)


def test_spectral_contrast_is_that_of_librosa(magnitudes):
    frequencies, edges = torch.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT, contrast_edges(SAMPLE_RATE)
    peaks, valleys = peaks_and_valleys(torch.from_numpy(magnitudes.T.copy()), frequencies, edges)
    contrast = limited_decibels(peaks) - limited_decibels(valleys)
    expected = librosa.feature.spectral_contrast(S=magnitudes, sr=SAMPLE_RATE)
    np.testing.assert_allclose(contrast.T, expected, atol=1e-2)


def test_zero_crossings_are_those_of_librosa(words):
    expected = librosa.feature.zero_crossing_rate(words, frame_length=N_FFT, hop_length=HOP)[0]
    found = zero_crossing_rate(torch.from_numpy(words), N_FFT, HOP, len(expected))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_tonal_centroids_are_those_of_librosa():
    chroma = np.random.default_rng(0).uniform(size=(12, 7)).astype(np.float32)
    expected = librosa.feature.tonnetz(chroma=chroma)
    np.testing.assert_allclose(tonal_centroids(torch.from_numpy(chroma.T.copy())).T, expected, atol=1e-5)


def test_means_are_those_of_librosa(words):
    values = named(words)
    mel = librosa.feature.melspectrogram(y=words, sr=SAMPLE_RATE, n_fft=N_FFT, hop_length=HOP, n_mels=40)
    rms = librosa.feature.rms(y=words, frame_length=N_FFT, hop_length=HOP)[0]
    levels = 20 * np.log10(np.maximum(rms, 1e-5 * np.abs(words).max()))
    active = levels >= np.percentile(levels, 95) - 35
    assert values["rms_mean"] == pytest.approx(levels.mean(), abs=1e-2)
    assert values["active_share"] == pytest.approx(active.mean(), abs=0.01)

    cepstra = librosa.feature.mfcc(S=librosa.power_to_db(mel), n_mfcc=21)[1:, active]
    for i, row in enumerate(cepstra, start=1):
        assert values[f"mfcc{i:02d}_active_mean"] == pytest.approx(row.mean(), abs=0.05)
        assert values[f"mfcc{i:02d}_active_p25"] == pytest.approx(np.percentile(row, 25), abs=0.05)

    power = np.abs(librosa.stft(words, n_fft=2048, hop_length=480)) ** 2
    chroma = np.nan_to_num(librosa.feature.chroma_stft(S=power, sr=SAMPLE_RATE, n_fft=2048, tuning=0.0))
    found = [values[f"chroma{i:02d}_mean"] for i in range(12)]
    np.testing.assert_allclose(found, chroma.mean(axis=1), atol=1e-3)


def test_the_pitch_of_speech_is_that_of_pyin(words):
    expected, voiced, _ = librosa.pyin(words, fmin=60, fmax=600, sr=SAMPLE_RATE, frame_length=1024, hop_length=HOP)
    pitch, _ = track_pitch(torch.from_numpy(words), SAMPLE_RATE, 0.01, len(expected), 60.0, 600.0)
    both = voiced & (pitch.numpy() > 0)
    assert both.sum() > 0.7 * voiced.sum()
    semitones = 12 * np.abs(np.log2(pitch.numpy()[both] / expected[both]))
    assert np.median(semitones) < 0.25
    assert np.mean(semitones > 2) < 0.05  # no jumps of an octave


@pytest.mark.parametrize("shape", [(1,), (7,), (100, 3)])
def test_percentiles_are_those_of_numpy(shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    wanted = [0, 5, 25, 50, 99, 100]
    expected = np.percentile(values, wanted, axis=0)
    np.testing.assert_allclose(percentiles(torch.from_numpy(values), wanted), expected, atol=1e-6)


# ------------------------------------------------------------------ physics


@pytest.mark.parametrize("sample_rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("pitch", [80.0, 200.0, 333.0])
def test_a_harmonic_sound_has_its_pitch_at_every_sample_rate(pitch, sample_rate):
    time = np.arange(sample_rate) / sample_rate
    sound = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 10)).astype(np.float32)
    values = named(0.1 * sound, ["pitch", "voicing"], sample_rate)
    assert values["pitch_p50"] == pytest.approx(12 * np.log2(pitch / 55), abs=0.05)
    assert values["pitch_std"] < 0.1
    assert values["voiced_share"] > 0.9
    assert values["hnr_mean"] > 20
    assert values["jitter_mean"] < 0.02


def test_a_pitch_that_rises_by_an_octave_has_its_slope():
    values = named(harmonic(150 * 2**TIME), ["pitch"])
    assert values["pitch_slope"] == pytest.approx(12, abs=0.3)
    assert values["pitch_range90"] == pytest.approx(0.9 * 12, abs=0.5)
    assert values["pitch_rising_share"] > 0.95
    assert values["pitch_start"] < -3 < 3 < values["pitch_end"]


def test_noise_and_silence_have_no_pitch():
    for waveform in (white_noise(SAMPLE_RATE), np.zeros(SAMPLE_RATE, np.float32)):
        values = named(waveform, ["pitch", "voicing"])
        assert values["voiced_share"] < 0.1
    assert values["pitch_p50"] == 20.0


def test_voiced_stretches_are_counted_and_measured():
    pause = white_noise(4800, 1e-3)
    values = named(np.concatenate([pause, harmonic(150)[:8000], pause, harmonic(200)[:4800], pause]), ["voicing"])
    assert values["voiced_seconds_max"] == pytest.approx(0.5, abs=0.06)
    assert values["voiced_seconds_mean"] == pytest.approx(0.4, abs=0.06)
    assert values["unvoiced_seconds_mean"] == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("frequency", [500.0, 1000.0, 4000.0])
def test_the_centroid_of_a_pure_tone_is_its_frequency(frequency):
    tone = (0.1 * np.sin(2 * np.pi * frequency * TIME)).astype(np.float32)
    values = named(tone, ["spectrum"])
    octaves = np.log2(frequency / 1000)
    assert values["centroid_active_p50"] == pytest.approx(octaves, abs=0.02)
    assert values["rolloff50_active_p50"] == pytest.approx(octaves, abs=0.1)
    assert values["zero_crossings_active_p50"] == pytest.approx(np.log2(2 * frequency / 16000 + 0.005), abs=0.05)


def test_noise_is_flatter_than_a_tone():
    noise, tone = named(white_noise(SAMPLE_RATE), ["spectrum"]), named(harmonic(200), ["spectrum"])
    assert noise["flatness_active_mean"] > -4
    assert tone["flatness_active_mean"] < -15


@pytest.mark.parametrize("pitch_class", [0, 9])
def test_a_note_has_its_pitch_class(pitch_class):
    note = (0.1 * np.sin(2 * np.pi * 440 * 2 ** ((pitch_class - 9) / 12) * TIME)).astype(np.float32)
    values = named(note, ["chroma"])
    classes = [values[f"chroma{i:02d}_mean"] for i in range(12)]
    assert np.argmax(classes) == pitch_class
    assert values[f"chroma{pitch_class:02d}_mean"] > 0.99


@pytest.mark.parametrize("tempo", [75, 120])
def test_clicks_have_their_tempo(tempo):
    clicks = librosa.clicks(times=np.arange(0, 6, 60 / tempo), sr=SAMPLE_RATE, length=6 * SAMPLE_RATE)
    values = named(clicks.astype(np.float32) + white_noise(len(clicks), 1e-3), ["rhythm"])
    assert values["tempo"] == pytest.approx(tempo, rel=0.03)
    assert values["onset_rate"] == pytest.approx(tempo / 60, rel=0.2)


def test_modulation_is_in_the_band_of_its_rate():
    quiet_and_loud = white_noise(4 * SAMPLE_RATE) * (1 + 0.9 * np.sin(2 * np.pi * 6 * np.tile(TIME, 4)))
    values = named(quiet_and_loud.astype(np.float32), ["rhythm"])
    of_level = {name: value for name, value in values.items() if name.startswith("modulation_level")}
    assert max(of_level, key=of_level.get) == "modulation_level_4hz"


def test_a_louder_copy_differs_only_in_the_level(words):
    sound = words + white_noise(len(words), 1e-3)  # without noise, valleys of spectra are rounding errors
    quiet, loud = named(0.1 * sound), named(sound)
    for name, value in quiet.items():
        moved = 20.0 if name.startswith("rms") else 0.0
        assert loud[name] == pytest.approx(value + moved, abs=0.02, rel=0.01), name


def test_quiet_around_a_sound_changes_no_summary_of_voiced_frames():
    sound, quiet = harmonic(180) + white_noise(SAMPLE_RATE, 1e-3), white_noise(SAMPLE_RATE, 1e-4)
    alone, inside = named(sound), named(np.concatenate([quiet, sound, quiet]))
    for name in ("pitch_p50", "centroid_voiced_p50", "mfcc01_voiced_p50", "periodicity_voiced_p50", "jitter_mean"):
        assert inside[name] == pytest.approx(alone[name], rel=0.05, abs=0.05), name


@pytest.mark.parametrize("sample_rate", [1000, 4000, 16000, 96000])
def test_every_value_is_finite_for_silence_and_for_the_shortest_clips(sample_rate):
    module = Descriptors(families=FAMILIES).build(sample_rate)
    clips = [torch.zeros(1), torch.ones(1), torch.zeros(9999), torch.full((500,), 1e-30), -torch.ones(3000)]
    clips += [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (2, 161, 700)]
    for frames in module.extract(clips):
        assert frames.shape == (1, module.n_features)
        assert frames.isfinite().all()


# ------------------------------------------------------------------ families and names


def test_families_choose_columns_and_change_no_value():
    sound = harmonic(180) + white_noise(SAMPLE_RATE, 0.01)
    everything = named(sound)
    parts = [named(sound, [family]) for family in FAMILIES]
    assert sum(map(len, parts)) == len(everything)
    for part in parts:
        assert part == pytest.approx({name: everything[name] for name in part}, rel=1e-3, abs=1e-4)
    assert set(named(sound, DEFAULT_FAMILIES)) == {n for n in everything if not n.startswith("mel")}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"families": ["pich"]}, "families='pich'.*did you mean 'pitch'"),
        ({"families": []}, "at least one"),
        ({"families": "pitch"}, "families"),
        ({"fmin": 500.0, "fmax": 400.0}, "fmin=500.0 with fmax=400.0"),
    ],
)
def test_wrong_parameters_are_refused(params, message):
    with pytest.raises(ComponentError, match=message):
        Descriptors(**params).check_params()


# ------------------------------------------------------------------ as a table


@pytest.fixture(scope="module")
def clips(tone_clips):
    return tone_clips[0][:10]


def test_the_table_has_a_named_column_for_each_descriptor(clips):
    featurizer = ASTWFeaturizer(output="descriptors").set_output(transform="pandas").fit(clips)
    table = featurizer.transform(clips)
    names = Descriptors().value_names(16000)
    assert table.columns.tolist() == featurizer.get_feature_names_out().tolist() == names
    one_by_one = [featurizer.transform([clip]).to_numpy()[0] for clip in clips]
    np.testing.assert_array_equal(table, one_by_one)
    assert table["pitch_p50"].iloc[0] == pytest.approx(named(clips[0])["pitch_p50"])


def test_the_table_is_the_same_in_parallel_and_from_the_cache(clips, tmp_path):
    serial = ASTWFeaturizer(output="descriptors").fit_transform(clips)
    cached = ASTWFeaturizer(output="descriptors", n_jobs=3, cache_dir=tmp_path)
    np.testing.assert_array_equal(cached.fit_transform(clips), serial)
    assert any(path.is_file() for path in tmp_path.rglob("??/*"))
    np.testing.assert_array_equal(cached.fit_transform(clips), serial)


def test_the_front_end_chooses_the_families_of_the_table(clips):
    featurizer = ASTWFeaturizer(output="descriptors", features=Descriptors(families=["pitch"])).fit(clips)
    assert featurizer.transform(clips).shape == (10, 25)
    featurizer.set_params(features__families=["chroma"])
    assert featurizer.transform(clips).shape == (10, 37)
    assert featurizer.get_feature_names_out()[0] == "chroma_mean"


def test_another_front_end_cannot_give_the_table(clips):
    with pytest.raises(ComponentError, match="output='descriptors' with features='mfcc'"):
        ASTWFeaturizer(output="descriptors", features="mfcc").fit(clips)


def test_windows_have_the_descriptors_of_their_part(clips):
    featurizer = ASTWFeaturizer(output="descriptors", features=Descriptors(families=["pitch", "level"])).fit(clips)
    table = featurizer.transform_windows([harmonic(100), harmonic(200)], window=0.4)
    pitch = table.groupby("clip")["pitch_p50"].agg(["min", "max"])
    np.testing.assert_allclose(pitch.to_numpy(), np.log2([[100 / 55] * 2, [200 / 55] * 2]) * 12, atol=0.1)


# ------------------------------------------------------------------ as front ends of a network


@pytest.mark.parametrize("features", ["descriptors", "statistics"])
def test_a_linear_model_of_clips_is_saved_as_a_network(features, tone_clips, tmp_path):
    clips, y = tone_clips
    params = {"encoder": "identity", "normalization": "per_bin", "augment": None, "chunk_length": 0.05}
    clf = ASTWClassifier(features=features, epochs=15, adam_lr=0.01, device="cpu", **params).fit(clips, y)
    assert clf.score(clips, y) >= 0.9

    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path / "model"))
    np.testing.assert_allclose(loaded.predict_proba(clips), clf.predict_proba(clips), atol=1e-5)
    with pytest.raises(ExportError, match="one frame for each clip"):
        loaded.export_onnx(tmp_path / "model.onnx")


def test_the_front_end_of_statistics_gives_the_statistics_of_the_featurizer(clips):
    expected = ASTWFeaturizer(output="statistics").fit(clips)
    frames = ASTWFeaturizer(features="statistics").fit_transform(clips)
    np.testing.assert_array_equal(frames[:, 0], expected.transform(clips))
    assert Statistics().value_names(16000) == expected.get_feature_names_out().tolist()


def test_statistics_take_the_parameters_of_their_log_mel_frames(clips):
    component = Statistics(features="log_mel")
    frames = ASTWFeaturizer(features=component, sample_rate=16000).fit(clips).transform(clips)
    log_mel = ASTWFeaturizer().fit_transform(clips[:1])[0]
    np.testing.assert_allclose(frames[0, 0], frame_statistics(torch.from_numpy(log_mel)), atol=1e-5)


@pytest.mark.parametrize("features", ["mfcc", "precomputed", "statistics"])
def test_statistics_are_of_log_mel_frames_of_clips(features):
    with pytest.raises(ComponentError, match=f"Statistics.*{features}"):
        Statistics(features=features).build(16000)
