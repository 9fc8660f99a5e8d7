"""Front ends against physics and independent implementations."""

import librosa
import numpy as np
import pytest
import scipy.signal
import torch
from transformers import ASTFeatureExtractor, SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor, audio_utils

from helpers import white_noise
from skastw import ASTWClassifier
from skastw.core.batching import pad
from skastw.core.kaldi import kaldi_windows
from skastw.datasets import make_tones
from skastw.encoders import RNNEncoder
from skastw.errors import ComponentError
from skastw.features import LEAF, STFT, FBank, GroupDelay, MelSpectrogram, STFTPhase, Waveform, leaf


def frames_of(component, waveform, sample_rate=16000):
    """Return the frames (T, F) of one waveform, as an ndarray."""
    frames, lengths = component.build(sample_rate)(*batch_of(waveform))
    assert frames.shape[:2] == (1, int(lengths))
    return frames[0].detach().numpy()


def tone(frequency, sample_rate=16000, seconds=0.5, level=0.1):
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * sample_rate)) / sample_rate)


def batch_of(*clips):
    """Return clips as a zero-padded batch of waveforms with their lengths."""
    return pad([torch.as_tensor(np.asarray(clip, dtype=np.float32)) for clip in clips])


# ------------------------------------------------------------------ waveform


def test_a_waveform_is_its_own_frames_even_beside_sounds_beyond_its_end():
    waveform, lengths = batch_of(white_noise(900), white_noise(400, seed=1))
    frames, n_frames = Waveform().build(16000)(waveform + 0.5, lengths)
    assert n_frames.tolist() == [900, 400]
    assert torch.equal(frames[0, :, 0], waveform[0] + 0.5)
    assert torch.equal(frames[1, :400, 0], waveform[1, :400] + 0.5)
    assert not frames[1, 400:].any()


def test_the_extractor_of_wav2vec2_reads_the_settings_of_the_waveform():
    settings = Waveform().to_preprocessor(8000, 30.0)
    assert settings.pop("feature_extractor_type") == "Wav2Vec2FeatureExtractor"
    extractor = Wav2Vec2FeatureExtractor(**settings)
    clips = [white_noise(900), white_noise(400, seed=1)]
    expected = extractor(clips, sampling_rate=8000, padding=True, return_tensors="np")["input_values"]
    frames, _ = Waveform().build(8000)(*batch_of(*clips))
    np.testing.assert_array_equal(frames[:, :, 0], expected)


# ------------------------------------------------------------------ fbank

AST = FBank(n_mels=128, window="hanning", scale=1, mean=-4.2677393, std=2 * 4.5689974)


@pytest.mark.filterwarnings("ignore:1 of n_mels=128 mel bands", "ignore:At least one mel filter")
@pytest.mark.parametrize("n_samples", [400, 560, 4001, 16000])
def test_filter_banks_are_those_of_the_extractors_of_ast_and_seamless(n_samples):
    waveform = white_noise(n_samples) + np.float32(0.05)
    n_frames = 1 + (n_samples - 400) // 160
    expected = ASTFeatureExtractor(max_length=n_frames)(waveform, sampling_rate=16000)["input_values"][0]
    np.testing.assert_allclose(frames_of(AST, waveform), expected, atol=1e-4)

    extractor = SeamlessM4TFeatureExtractor(stride=1)
    expected = extractor(waveform, sampling_rate=16000, do_normalize_per_mel_bins=False)["input_features"][0]
    np.testing.assert_allclose(frames_of(FBank(), waveform), expected[:n_frames], atol=1e-3)
    beats = FBank(mean=15.41663, std=2 * 6.55582)
    np.testing.assert_allclose(frames_of(beats, waveform), (expected[:n_frames] - 15.41663) / 13.11164, atol=1e-4)


@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [
        (16000, {}),
        (16000, {"window": "hamming", "preemphasis": 0.9, "scale": 1.0}),
        (16000, {"window": "blackman", "remove_dc_offset": False, "preemphasis": 0.0}),
        (16000, {"window": "rectangular", "n_fft": 400, "use_power": False}),
        (16000, {"window": "hanning", "n_fft": 402, "fmin": 100.0, "fmax": 7000.0}),
        (8000, {"win_length": 200, "hop_length": 80, "n_mels": 23, "fmax": -200.0}),
        (44100, {"win_length": 1103, "hop_length": 441, "n_mels": 128, "fmin": 0.0}),
    ],
)
def test_every_setting_of_the_filter_bank_is_that_of_transformers(sample_rate, settings):
    words = {**FBank().get_params(), **settings}
    n_fft = words["n_fft"] or 2 ** int(np.ceil(np.log2(words["win_length"])))
    fmax = words["fmax"] if (words["fmax"] or 0) > 0 else sample_rate / 2 + (words["fmax"] or 0)
    filters = audio_utils.mel_filter_bank(
        n_fft // 2 + 1,
        words["n_mels"],
        words["fmin"],
        fmax,
        sample_rate,
        None,
        "kaldi",
        triangularize_in_mel_space=True,
    )
    n = words["win_length"]
    functions = {"rectangular": np.ones(n), "blackman": np.blackman(n)}
    window = functions.get(words["window"])
    if window is None:
        window = audio_utils.window_function(n, words["window"].replace("hanning", "hann"), periodic=False)

    waveform = white_noise(6000) + np.float32(0.05)
    expected = audio_utils.spectrogram(
        words["scale"] * waveform.astype(np.float64), window, n, words["hop_length"], fft_length=n_fft, center=False,
        power=2.0 if words["use_power"] else 1.0, preemphasis=words["preemphasis"] or None, mel_filters=filters,
        mel_floor=2.0**-23, log_mel="log", remove_dc_offset=words["remove_dc_offset"],
    ).T  # fmt: skip
    np.testing.assert_allclose(frames_of(FBank(**settings), waveform, sample_rate), expected, atol=2e-3)


@pytest.mark.parametrize("n_samples", [1, 79, 80, 100, 239, 240, 401, 4001])
@pytest.mark.parametrize(("win_length", "hop_length"), [(400, 160), (101, 161)])
def test_without_snipped_edges_the_clip_is_mirrored_around_the_middles_of_hops(n_samples, win_length, hop_length):
    waveform, n_frames = white_noise(n_samples), max(1, (n_samples + hop_length // 2) // hop_length)
    start = hop_length // 2 - win_length // 2
    mirrored = np.pad(waveform, 2000, mode="symmetric")[2000 + start :]
    expected = [mirrored[hop_length * t : hop_length * t + win_length] for t in range(n_frames)]
    windows = kaldi_windows(*batch_of(waveform), win_length, hop_length, snip_edges=False)
    np.testing.assert_array_equal(windows[0], expected)

    settings = {"win_length": win_length, "hop_length": hop_length, "n_mels": 20}
    found = frames_of(FBank(snip_edges=False, **settings), waveform)
    inside = mirrored[: (n_frames - 1) * hop_length + win_length]
    np.testing.assert_allclose(found, frames_of(FBank(**settings), inside), atol=1e-5)


def test_a_clip_shorter_than_a_window_is_padded_with_zeros_to_one():
    short = white_noise(250)
    np.testing.assert_array_equal(frames_of(FBank(), short), frames_of(FBank(), np.pad(short, (0, 150))))
    assert [len(frames_of(FBank(), white_noise(n))) for n in (1, 399, 400, 559, 560)] == [1, 1, 1, 1, 2]


@pytest.mark.parametrize("component", [FBank(), FBank(snip_edges=False, fmax=-1000.0, window="hamming")])
def test_a_tone_peaks_in_its_mel_band(component):
    centres = component.frequencies(16000)
    for band in (20, 45, 70):
        assert (frames_of(component, tone(centres[band]))[2:-2].argmax(axis=1) == band).all()


def test_ten_times_the_amplitude_adds_the_logarithm_of_a_hundred_and_silence_lies_at_the_floor():
    waveform = white_noise(4000, level=0.01)
    np.testing.assert_allclose(frames_of(FBank(), 10 * waveform), frames_of(FBank(), waveform) + np.log(100), atol=1e-4)
    np.testing.assert_allclose(frames_of(FBank(mean=1.0, std=2.0), np.zeros(800)), (np.log(2.0**-23) - 1) / 2)


def test_settings_of_the_filter_bank_that_do_not_fit_together_are_named():
    for settings, named in [
        ({"n_fft": 256}, "n_fft=256, expected at least win_length=400"),
        ({"fmax": -8000.0}, "fmin=20.0 and fmax=0.0"),
        ({"fmax": 9000.0}, "fmax=9000.0"),
        ({"win_length": 65536, "hop_length": 1}, "hop_length of 64"),
    ]:
        with pytest.raises(ComponentError, match=named):
            FBank(**settings).build(16000)


# ------------------------------------------------------------------ mel

PANNS = {"n_mels": 64, "n_fft": 1024, "hop_length": 320, "fmin": 50.0, "fmax": 14000.0, "pad_mode": "reflect"}


@pytest.mark.filterwarnings("ignore:n_fft=")
@pytest.mark.parametrize("n_samples", [1, 2, 150, 480, 4001])
@pytest.mark.parametrize(
    ("sample_rate", "settings"),
    [
        (32000, PANNS),
        (16000, {"n_mels": 40, "scale": "power"}),
        (16000, {"n_fft": 401, "pad_mode": "reflect", "power": 1, "scale": "power"}),
        (22050, {"n_fft": 2048, "hop_length": 512, "win_length": 1001, "mel_scale": "htk", "norm": "none"}),
        (16000, {"n_fft": 512, "hop_length": 200, "fmin": 200.0, "mel_scale": "htk", "scale": "log", "offset": 1e-3}),
    ],
    ids=["panns", "resemblyzer", "magnitudes", "htk", "log"],
)
def test_mel_spectrograms_are_those_of_librosa(sample_rate, settings, n_samples):
    words = {**MelSpectrogram().get_params(), **settings}
    assert words.pop("level") is None
    scale, offset = words.pop("scale"), words.pop("offset")
    words |= {"htk": words.pop("mel_scale") == "htk", "norm": {"none": None}.get(words["norm"], words["norm"])}
    waveform = white_noise(n_samples)
    mel = librosa.feature.melspectrogram(y=waveform, sr=sample_rate, **words).T
    scales = {"power": mel, "log": np.log(mel + offset), "db": librosa.power_to_db(mel, amin=1e-10, top_db=None)}
    expected = scales[scale]
    tolerance = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(frames_of(MelSpectrogram(**settings), waveform, sample_rate), expected, atol=tolerance)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_each_clip_of_a_batch_is_padded_by_its_own_end(pad_mode):
    component = MelSpectrogram(pad_mode=pad_mode, n_fft=1024, n_mels=40)
    clips = [white_noise(n, level, seed=n) for n, level in ((4000, 1.0), (3841, 0.01), (700, 0.1), (1, 0.5))]
    frames, lengths = component.build(16000)(*batch_of(*clips))
    assert lengths.tolist() == [26, 25, 5, 1]
    for item, length, clip in zip(frames, lengths, clips, strict=True):
        np.testing.assert_allclose(item[:length], frames_of(component, clip), atol=1e-4)
        assert not item[length:].any()


def test_a_tone_peaks_in_its_mel_band_and_its_level_is_that_of_the_scale():
    for settings in ({}, {"mel_scale": "htk", "norm": "none", "n_fft": 1024}):
        component = MelSpectrogram(**settings)
        for band in (12, 50, 72):
            sound = tone(component.frequencies(16000)[band])
            quiet, loud = (frames_of(component, level * sound)[8:-8] for level in (0.1, 1.0))
            assert (loud.argmax(axis=1) == band).all()
            np.testing.assert_allclose(loud[:, band], quiet[:, band] + 20, atol=1e-3)


# ------------------------------------------------------------------ Fourier transform

TRANSFORMS = [
    {},
    {"n_fft": 401, "hop_length": 100, "window": "hamming"},
    {"n_fft": 512, "win_length": 301, "window": "blackman", "preemphasis": 0.97},
    {"n_fft": 256, "hop_length": 300, "win_length": 200, "window": "bartlett", "preemphasis": 0.5},
]


def transform(waveform, *, n_fft=400, hop_length=160, win_length=None, window="hann", preemphasis=0.0, factors=1.0):
    """Return librosa's Fourier transform (T, n_fft // 2 + 1) with the window function times ``factors``."""
    win_length = win_length or n_fft
    emphasized = np.append(waveform[:1], waveform[1:] - preemphasis * waveform[:-1])
    function = librosa.filters.get_window(window, win_length) * factors
    return librosa.stft(emphasized, n_fft=n_fft, hop_length=hop_length, win_length=win_length, window=function).T


@pytest.mark.parametrize("settings", TRANSFORMS)
@pytest.mark.parametrize("n_samples", [1000, 4000])
def test_magnitudes_and_phases_are_those_of_librosa(settings, n_samples):
    waveform = white_noise(n_samples)
    expected = transform(waveform, **settings)
    magnitudes = frames_of(STFT(scale="magnitude", **settings), waveform)
    decibels = frames_of(STFT(**settings), waveform)
    cosines, sines, levels = np.split(frames_of(STFTPhase(**settings), waveform), 3, axis=1)

    np.testing.assert_allclose(magnitudes, np.abs(expected), atol=1e-5)
    np.testing.assert_allclose(decibels, librosa.amplitude_to_db(np.abs(expected), top_db=None), atol=1e-2)
    np.testing.assert_array_equal(levels, decibels)
    heard = np.abs(expected) > 0.01
    np.testing.assert_allclose(cosines[heard], np.cos(np.angle(expected))[heard], atol=1e-3)
    np.testing.assert_allclose(sines[heard], np.sin(np.angle(expected))[heard], atol=1e-3)


@pytest.mark.parametrize("settings", TRANSFORMS)
def test_the_group_delay_is_the_quotient_of_two_transforms(settings):
    waveform = white_noise(4000)
    size = settings.get("win_length", settings.get("n_fft", 400))
    x, y = transform(waveform, **settings), transform(waveform, **settings, factors=np.arange(size))
    expected = (x.real * y.real + x.imag * y.imag) / (np.abs(x) ** 2 + 1e-10)
    heard = np.abs(x) > 0.05
    assert heard.mean() > 0.9
    found = frames_of(GroupDelay(limit=None, **settings), waveform)
    np.testing.assert_allclose(found[heard], expected[heard], atol=0.05)
    limited = frames_of(GroupDelay(limit=0.5, **settings), waveform)
    np.testing.assert_array_equal(limited, np.clip(found, -0.5 * size, 1.5 * size))


def test_the_group_delay_of_a_click_is_its_position_in_the_window():
    click = np.zeros(4000)
    click[2000] = 0.5
    frames = frames_of(GroupDelay(n_fft=512, win_length=400, hop_length=50, window="hamming"), click)
    for frame in range(37, 44):
        np.testing.assert_allclose(frames[frame], 2000 - 50 * frame + 200, atol=0.01)
    assert not frames[:35].any(), "silence has no delay"


def test_a_tone_peaks_in_its_bin_and_its_phase_turns_by_the_hop():
    component = STFTPhase(n_fft=400, hop_length=100)
    frequency = STFT(n_fft=400).frequencies(16000)[30]
    assert frequency == 1200
    cosines, sines, levels = np.split(frames_of(component, tone(frequency + 40 / 3))[4:-4], 3, axis=1)
    assert (levels.argmax(axis=1) == 30).all()
    turned = np.diff(np.unwrap(np.arctan2(sines[:, 30], cosines[:, 30])))
    np.testing.assert_allclose(
        turned % (2 * np.pi), 2 * np.pi * (frequency + 40 / 3) * 100 / 16000 % (2 * np.pi), atol=1e-3
    )


def test_silence_has_the_lowest_level_no_phase_and_no_delay():
    silence = np.zeros(500)
    assert set(frames_of(STFT(), silence).flat) == {-100.0}
    assert set(frames_of(STFTPhase(scale="magnitude"), silence).flat) == {0.0}
    assert set(frames_of(GroupDelay(), silence).flat) == {0.0}


def test_pre_emphasis_of_a_batch_ends_with_each_clip():
    component = STFT(preemphasis=0.97)
    clips = white_noise(2000), np.ones(950)
    frames, lengths = component.build(16000)(*batch_of(*clips))
    for item, length, clip in zip(frames, lengths, clips, strict=True):
        np.testing.assert_allclose(item[:length], frames_of(component, clip), atol=1e-3)


@pytest.mark.parametrize("component", [STFT, STFTPhase, GroupDelay])
def test_transforms_that_are_too_expensive_or_too_short_are_refused(component):
    with pytest.raises(ComponentError, match="win_length=500, expected at most n_fft=400"):
        component(win_length=500).build(16000)
    with pytest.raises(ComponentError, match="hop_length of 64"):
        component(n_fft=65536, hop_length=1).build(16000)


# ------------------------------------------------------------------ LEAF


def leaf_frames(waveform, weights, sample_rate=16000, size=401, hop_length=160):
    """Return the frames by the equations of the paper, one filter and one frame after the other."""
    time = (np.arange(size) - size // 2) / sample_rate
    frames = []
    for frequency, bandwidth, width, gain, bias, power, rate in zip(*weights, strict=True):
        deviation = 1 / (2 * np.pi * bandwidth)
        gabor = np.exp(2j * np.pi * frequency * time) * np.exp(-(time**2) / (2 * deviation**2))
        gabor /= np.sqrt(2 * np.pi) * deviation * sample_rate
        output = np.abs(scipy.signal.fftconvolve(np.pad(waveform, size), gabor, mode="same")) ** 2
        lowpass = np.exp(-(time**2) / (2 * width**2))
        energy = scipy.signal.fftconvolve(output, lowpass / lowpass.sum(), mode="same")[size:][: len(waveform)]

        average, values = None, []
        for e in np.maximum(energy[::hop_length], 5e-8):
            average = e if average is None else (1 - rate) * average + rate * e
            values.append((e / average**gain + bias) ** power - bias**power)
        frames.append(values)
    return np.transpose(frames)


def test_the_learned_filter_bank_follows_its_equations():
    module = LEAF(n_filters=6).build(16000)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in module.parameters():
            weights -= 0.3 * torch.rand(6, generator=generator)
    names = ("frequency", "bandwidth", "pool_width", "gain", "bias", "power", "rate")
    weights = [module.state_dict()[f"log_{name}"].double().exp().numpy() for name in names]
    assert set(module.state_dict()) == {f"log_{name}" for name in names}

    waveform = np.concatenate([white_noise(3000), np.zeros(3000, dtype=np.float32), white_noise(1001, level=0.01)])
    frames = module(*batch_of(waveform))[0][0].detach()
    assert frames.shape == (44, 6)
    np.testing.assert_allclose(frames, leaf_frames(waveform, weights), atol=1e-4)


@pytest.mark.parametrize(("sample_rate", "highest"), [(16000, 7800), (8000, 4000), (44100, 7800)])
def test_the_filters_start_as_mel_bands(sample_rate, highest):
    size = sample_rate // 40 + 1
    module = LEAF(win_length=size, hop_length=sample_rate // 100).build(sample_rate)
    edges = librosa.mel_frequencies(42, fmin=60, fmax=highest, htk=True)
    centres = edges[1:-1]
    np.testing.assert_allclose(module.log_frequency.exp().detach(), centres, rtol=1e-5)

    frequency, bandwidth = (weights.detach().double().exp() for weights in (module.log_frequency, module.log_bandwidth))
    filters = leaf.gabor_filters(frequency, bandwidth, module.time.double(), sample_rate)
    real, imaginary = filters.numpy().reshape(2, 40, size)
    frequencies = np.fft.fftfreq(2**17, 1 / sample_rate)
    for band in (12, 25, 39):
        response = np.abs(np.fft.fft(real[band] + 1j * imaginary[band], 2**17))
        assert response.max() == pytest.approx(1, abs=0.01)
        assert frequencies[response.argmax()] == pytest.approx(centres[band], rel=0.01)
        width = np.ptp(frequencies[response > 0.5 * response.max()])
        assert width == pytest.approx(0.75 * (edges[band + 2] - edges[band]), rel=0.05)


def test_pooling_and_compression_start_as_in_the_paper():
    weights = LEAF().build(16000).state_dict()
    for name, value in [("pool_width", 0.4 * 0.0125), ("gain", 0.96), ("bias", 2), ("power", 0.5), ("rate", 0.04)]:
        np.testing.assert_allclose(weights[f"log_{name}"].exp(), value, rtol=1e-5)


def test_a_tone_peaks_in_its_learned_filter_and_its_level_matters_little():
    module = LEAF().build(16000)
    for band in (8, 20, 35):
        sound = tone(float(module.log_frequency[band].detach().exp()))
        quiet, loud = (frames_of(LEAF(), level * sound)[5:-5] for level in (0.1, 1.0))
        assert (loud.argmax(axis=1) == band).all()
        np.testing.assert_allclose(quiet[:, band], loud[:, band], atol=0.1)


def test_weights_beyond_their_limits_act_like_the_limits():
    module = LEAF(n_filters=3).build(16000)
    for name, limits in [
        ("log_frequency", [np.log(8000)]),
        ("log_bandwidth", [np.log(16000 / 401 / 2.35482), np.log(4000 / 2.35482)]),
        ("log_pool_width", [np.log(0.025 / 401), np.log(0.00625)]),
        ("log_gain", [0.0]),
        ("log_power", [0.0]),
        ("log_rate", [0.0]),
    ]:
        weights = getattr(module, name)
        before = weights.detach().clone()
        for limit in limits:
            frames = []
            for value in (limit, limit + (3 if limit == limits[-1] else -3)):
                weights.data.fill_(value)
                frames.append(module(*batch_of(white_noise(2000)))[0].detach())
            torch.testing.assert_close(*frames, atol=1e-4, rtol=0)
        weights.data.copy_(before)


def test_a_long_batch_is_processed_in_parts_with_the_same_frames_and_gradients(monkeypatch):
    module = LEAF(n_filters=8).build(16000)
    results = []
    for slab in (leaf._SLAB, 8 * 160 * 2 * 7):  # seven frames at once
        monkeypatch.setattr(leaf, "_SLAB", slab)
        frames, _ = module(*batch_of(white_noise(7000), white_noise(5000, seed=1)))
        gradients = torch.autograd.grad(frames.square().sum(), list(module.parameters()))
        results.append((frames.detach(), *gradients))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_classifier_trains_its_filters_and_loads_again(precision, tmp_path):
    clips, y = make_tones(n_clips=8, n_classes=2, duration=(0.1, 0.2), random_state=0)
    features = LEAF(n_filters=8, win_length=201)
    settings = {"encoder": RNNEncoder(hidden=8), "epochs": 2, "val_split": None, "precision": precision}
    clf = ASTWClassifier(features=features, **settings).fit(clips, y)
    first = features.build(16000).state_dict()
    learned = clf.model_.features.state_dict()
    assert [name for name, weights in learned.items() if torch.equal(weights, first[name])] == []

    loaded = ASTWClassifier.from_pretrained(clf.save_pretrained(tmp_path))
    np.testing.assert_array_equal(loaded.predict_proba(clips), clf.predict_proba(clips))
    assert all(torch.equal(weights, learned[name]) for name, weights in loaded.model_.features.state_dict().items())


def test_settings_of_the_learned_filter_bank_that_do_not_fit_together_are_named():
    with pytest.raises(ComponentError, match=r"fmin=9000\.0 and fmax=7800\.0"):
        LEAF(fmin=9000.0).build(16000)
    with pytest.raises(ComponentError, match=r"win_length=8000 with hop_length=1: .* hop_length of 8 or more"):
        LEAF(win_length=8000, hop_length=1).build(16000)


def test_a_mel_spectrogram_does_not_depend_on_the_level_of_the_clip_if_it_is_given():
    module = MelSpectrogram(scale="power", level=-30.0).build(16000)
    noise = torch.from_numpy(white_noise(4000))
    loud, quiet, padded = module.extract([noise, 0.01 * noise, noise])
    torch.testing.assert_close(loud, quiet, rtol=1e-4, atol=0)
    together, lengths = module(torch.nn.functional.pad(noise, (0, 999))[None], torch.tensor([4000]))
    torch.testing.assert_close(together[0, : int(lengths[0])], padded)

    scaled = noise * 10 ** (-30 / 20) / noise.square().mean().sqrt()
    [expected] = MelSpectrogram(scale="power").build(16000).extract([scaled])
    torch.testing.assert_close(loud, expected, rtol=1e-4, atol=0)
    assert module.extract([torch.zeros(500)])[0].isfinite().all()
