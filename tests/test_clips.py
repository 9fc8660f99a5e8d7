"""Every form of a clip gives the same waveform; every bad input gives an error that says what to do."""

import io
import pickle
from collections import UserDict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import soundfile
import torch

from helpers import INT16, WAVEFORM, encode
from skastw import ASTWFeaturizer
from skastw.audio import as_clips, is_array_input, load_samples, load_waveform, stream_waveform
from skastw.audio.isolation import Decoder
from skastw.errors import ClipError, ClipTypeError, ClipValueError, MissingDependencyError, SkastwError

RATE = 16000


def tone(frequency, rate, *, seconds=1.0, amplitude=0.5):
    """Return a sine that fades in and out, so that its spectrum is narrow."""
    time = np.arange(round(seconds * rate)) / rate
    return (amplitude * np.hanning(len(time)) * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


# ------------------------------------------------------------------ forms of a clip

FORMS = {
    "str path": str,
    "Path": Path,
    "1-D float32": lambda _: WAVEFORM,
    "1-D float64": lambda _: WAVEFORM.astype(float),
    "1-D int16": lambda _: INT16,
    "1-D strided": lambda _: np.repeat(WAVEFORM, 2)[::2],
    "1-D tensor": lambda _: torch.from_numpy(WAVEFORM),
    "Series of samples": lambda _: pd.Series(WAVEFORM),
    "list of samples": lambda _: WAVEFORM.tolist(),
    "(1, samples)": lambda _: WAVEFORM[None],
    "(channels, samples)": lambda _: np.stack([WAVEFORM, WAVEFORM]),
    "Fortran-ordered channels": lambda _: np.asfortranarray(np.stack([WAVEFORM, WAVEFORM])),
    "(array, rate)": lambda _: (WAVEFORM, RATE),
    "(array, float rate)": lambda _: (WAVEFORM, float(RATE)),
    "(array, numpy rate)": lambda _: (WAVEFORM, np.int64(RATE)),
    "(channels, rate)": lambda _: (np.stack([WAVEFORM, WAVEFORM]), RATE),
    "dict sample_rate": lambda _: {"array": WAVEFORM, "sample_rate": RATE},
    "dict sampling_rate": lambda _: {"array": WAVEFORM, "sampling_rate": RATE},
    "dict of a datasets row": lambda path: {"path": str(path), "array": WAVEFORM, "sampling_rate": RATE},
    "dict of channels": lambda _: {"array": np.stack([WAVEFORM, WAVEFORM]), "sample_rate": RATE},
    "dict path": lambda path: {"path": str(path)},
    "dict Path": lambda path: {"path": path},
    "dict bytes": lambda path: {"bytes": path.read_bytes()},
    "dict bytes and path": lambda path: {"bytes": path.read_bytes(), "path": "gone.wav"},
    "dict path, no bytes": lambda path: {"bytes": None, "path": str(path)},
    "dict path, no array": lambda path: {"array": None, "path": str(path)},
    "another mapping": lambda path: UserDict(path=str(path)),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_gives_the_same_waveform(form, wav):
    waveform = load_waveform(form(wav), RATE)
    assert waveform.dtype == np.float32
    assert waveform.flags.c_contiguous
    np.testing.assert_array_equal(waveform, WAVEFORM)


def test_forms_that_carry_a_rate_are_resampled_alike(tmp_path):
    path = tmp_path / "low.wav"
    soundfile.write(path, INT16, 8000)
    expected = load_waveform((WAVEFORM, 8000), RATE)
    assert len(expected) == 2 * len(WAVEFORM)
    for clip in (
        path,
        {"path": path},
        {"bytes": path.read_bytes()},
        {"array": WAVEFORM, "sample_rate": 8000},
        {"array": WAVEFORM, "sampling_rate": 8000},
    ):
        np.testing.assert_array_equal(load_waveform(clip, RATE), expected)


def test_a_bare_array_is_at_the_rate_of_the_estimator():
    for rate in (8000, 16000, 44100):
        np.testing.assert_array_equal(load_waveform(WAVEFORM, rate), WAVEFORM)


@pytest.mark.parametrize("rates", [{"sample_rate": None, "sampling_rate": RATE}, {"sample_rate": RATE}])
def test_a_missing_rate_leaves_the_other_key(rates):
    np.testing.assert_array_equal(load_waveform({"array": WAVEFORM, **rates}, RATE), WAVEFORM)


def test_loading_leaves_the_users_array_alone():
    samples = WAVEFORM.copy()
    waveform = load_waveform(samples, RATE)
    waveform[:] = 0
    np.testing.assert_array_equal(samples, WAVEFORM)


# ------------------------------------------------------------------ containers

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "Series": pd.Series,
    "Series of objects": lambda paths: pd.Series(paths, dtype=object),
    "Series of pandas strings": lambda paths: pd.Series(paths, dtype="string"),
    "Series with another index": lambda paths: pd.Series(paths, index=[7, 5, 3]),
    "DataFrame": lambda paths: pd.DataFrame({"audio": paths}),
    "DataFrame of pandas strings": lambda paths: pd.DataFrame({"audio": paths}, dtype="string"),
    "values of a Series": lambda paths: pd.Series(paths).values,
    "values of pandas strings": lambda paths: pd.Series(paths, dtype="string").values,
    "Index": pd.Index,
    "(n,) objects": lambda paths: np.array(paths, dtype=object),
    "(n, 1) objects": lambda paths: np.array(paths, dtype=object)[:, None],
    "(n,) strings": np.array,
    "(n, 1) strings": lambda paths: np.array(paths)[:, None],
    "(n,) Paths": lambda paths: np.array([Path(path) for path in paths]),
}


@pytest.fixture
def three_files(tmp_path):
    """Return three paths whose files hold WAVEFORM at half, a third and a quarter of its level."""
    paths = [str(tmp_path / f"{name}.wav") for name in "abc"]
    for divisor, path in enumerate(paths, start=2):
        soundfile.write(path, WAVEFORM / divisor, RATE, subtype="FLOAT")
    return paths


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_every_container_gives_the_same_clips_in_order(container, three_files):
    X = container(three_files)
    assert not is_array_input(X)
    waveforms = [load_waveform(clip, RATE) for clip in as_clips(X)]
    expected = np.stack([WAVEFORM / divisor for divisor in (2, 3, 4)])
    np.testing.assert_array_equal(waveforms, expected)


def test_an_indexable_sequence_is_a_container(three_files):
    class Rows:
        def __len__(self):
            return len(three_files)

        def __getitem__(self, index):
            return {"path": three_files[index]}

    assert [clip["path"] for clip in as_clips(Rows())] == three_files


@pytest.mark.parametrize(
    "bare", [str, Path, lambda path: {"path": path}, lambda _: {"array": WAVEFORM, "sample_rate": RATE}]
)
def test_a_bare_path_or_dict_is_one_clip(bare, wav):
    clips = as_clips(bare(wav))
    assert len(clips) == 1
    np.testing.assert_array_equal(load_waveform(clips[0], RATE), WAVEFORM)


def test_arrays_keep_their_form_inside_containers():
    stereo = np.stack([WAVEFORM, -WAVEFORM])
    series = pd.Series([WAVEFORM, (stereo, 8000), {"array": WAVEFORM, "sample_rate": RATE}])
    first, second, third = as_clips(series)
    np.testing.assert_array_equal(load_waveform(first, RATE), WAVEFORM)
    assert len(load_waveform(second, RATE)) == 2 * len(WAVEFORM)
    np.testing.assert_array_equal(load_waveform(third, RATE), WAVEFORM)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_a_numeric_array_or_table_is_clips_of_equal_length(dtype):
    rows = np.random.default_rng(1).integers(-9000, 9000, size=(3, 4000)).astype(dtype)
    one_by_one = ASTWFeaturizer().fit_transform(list(rows))
    for X in (rows, pd.DataFrame(rows), torch.from_numpy(rows)):
        assert is_array_input(X)
        np.testing.assert_array_equal(ASTWFeaturizer().fit_transform(X), one_by_one)


def test_nested_lists_of_equal_length_are_an_array():
    rows = np.random.default_rng(1).uniform(-0.5, 0.5, size=(3, 4000))
    assert is_array_input(rows.tolist())
    np.testing.assert_array_equal(ASTWFeaturizer().fit_transform(rows.tolist()), ASTWFeaturizer().fit_transform(rows))


# ------------------------------------------------------------------ integer scaling, channels


@pytest.mark.parametrize(
    ("dtype", "samples"),
    [
        ("uint8", [0, 64, 128, 192]),
        ("int8", [-128, -64, 0, 64]),
        ("int16", [-(2**15), -(2**14), 0, 2**14]),
        ("int32", [-(2**31), -(2**30), 0, 2**30]),
    ],
)
def test_integer_pcm_is_scaled_to_full_scale(dtype, samples):
    expected = np.array([-1, -0.5, 0, 0.5], dtype=np.float32)
    pcm = np.array(samples, dtype=dtype)
    np.testing.assert_array_equal(load_waveform(pcm, RATE), expected)
    np.testing.assert_array_equal(load_waveform((np.stack([pcm, pcm]), RATE), RATE), expected)
    assert load_waveform(np.full(9, np.iinfo(dtype).max, dtype), RATE).max() <= 1


@pytest.mark.parametrize(("subtype", "dtype"), [("PCM_U8", "uint8"), ("PCM_16", "int16"), ("PCM_32", "int32")])
def test_an_integer_array_sounds_as_loud_as_its_file(subtype, dtype, tmp_path):
    info = np.iinfo(dtype)
    pcm = np.random.default_rng(2).integers(info.min, info.max, size=500, dtype=dtype)
    exact = (pcm.astype(float) - (128 if dtype == "uint8" else 0)) / 2 ** (info.bits - 1)
    soundfile.write(tmp_path / "pcm.wav", exact, RATE, subtype=subtype)
    np.testing.assert_allclose(load_waveform(tmp_path / "pcm.wav", RATE), load_waveform(pcm, RATE), atol=1e-6)


def test_channels_are_averaged():
    left, right = np.random.default_rng(3).uniform(-1, 1, size=(2, 800)).astype(np.float32)
    stereo = np.stack([left, right])
    np.testing.assert_allclose(load_waveform(stereo, RATE), (left + right) / 2, atol=1e-7)
    np.testing.assert_allclose(load_waveform({"bytes": encode(stereo.T, RATE)}, RATE), (left + right) / 2, atol=1e-4)


def test_channels_in_opposite_phase_cancel():
    assert np.abs(load_waveform(np.stack([WAVEFORM, -WAVEFORM]), RATE)).max() == 0
    loudest = np.full((2, 100), np.iinfo(np.int16).max, np.int16)  # the sum of two would overflow 16 bits
    np.testing.assert_allclose(load_waveform(loudest, RATE), 32767 / 32768)


def test_six_channels_are_averaged():
    surround = np.arange(6, dtype=np.float32)[:, None] / 10 * np.ones(100, np.float32)
    np.testing.assert_allclose(load_waveform(surround, RATE), 0.25, atol=1e-6)


# ------------------------------------------------------------------ resampling


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_a_tone_keeps_pitch_level_and_timing_through_resampling(rate):
    waveform = load_waveform((tone(1000, rate), rate), RATE)
    assert abs(len(waveform) - RATE) <= 1
    spectrum = np.abs(np.fft.rfft(waveform, RATE))
    assert spectrum.argmax() == 1000  # bins are 1 Hz apart
    reference = tone(1000, RATE)[: len(waveform)]
    np.testing.assert_allclose(waveform[: len(reference)], reference, atol=2e-3)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_tones_close_to_the_new_nyquist_frequency_keep_their_level(rate):
    waveform = load_waveform((tone(7000, rate), rate), RATE)
    assert np.abs(np.fft.rfft(waveform, RATE)).argmax() == 7000
    assert np.linalg.norm(waveform) == pytest.approx(np.linalg.norm(tone(7000, RATE)), rel=0.01)


@pytest.mark.parametrize("frequency", [8500, 10000, 15000, 20000])
def test_a_tone_above_the_new_nyquist_frequency_vanishes(frequency):
    waveform = load_waveform((tone(frequency, 44100), 44100), RATE)
    assert np.abs(waveform).max() < 0.5e-3  # 60 dB down


def test_raising_the_rate_adds_no_image():
    spectrum = np.abs(np.fft.rfft(load_waveform((tone(3000, 8000), 8000), RATE), RATE))
    assert spectrum[4100:].max() < 1e-3 * spectrum.max()


def test_resampling_keeps_a_constant():
    waveform = load_waveform((np.full(44100, 0.25), 44100), RATE)
    np.testing.assert_allclose(waveform[1000:-1000], 0.25, atol=1e-4)


@pytest.mark.parametrize("rate", [100, 8000, 16000, 44100, 768000])
@pytest.mark.parametrize("n_samples", [1, 2, 3])
def test_the_shortest_clips_keep_a_sample(n_samples, rate):
    waveform = load_waveform((np.full(n_samples, 0.5), rate), RATE)
    assert waveform.ndim == 1
    assert waveform.size >= max(1, n_samples * RATE // rate - 1)
    assert np.isfinite(waveform).all()
    assert 0 < np.abs(waveform).max() < 1


def test_a_clip_of_one_sample(tmp_path):
    soundfile.write(tmp_path / "one.wav", [0.5], RATE)
    for clip in (np.array([0.5]), np.array([[0.5]]), [0.5], (np.array([0.5]), RATE), tmp_path / "one.wav"):
        np.testing.assert_array_equal(load_waveform(clip, RATE), np.float32([0.5]))


# ------------------------------------------------------------------ bad files

NOISE = np.random.default_rng(4).uniform(-0.5, 0.5, size=2 * RATE).astype(np.float32)


def cut(form):
    content = encode(NOISE, RATE, form)
    return content[: len(content) // 2]


BAD_FILES = {
    "empty.wav": (b"", "empty"),
    "text.wav": (b"These are the notes of the recording.\n" * 20, "cannot be decoded.*expected a WAV, FLAC"),
    "picture.mp3": (b"\x89PNG\r\n\x1a\n" + bytes(500), "cannot be decoded.*expected a WAV, FLAC"),
    "silent.wav": (encode(np.zeros(0), RATE), "no samples"),
    "silent.ogg": (encode(np.zeros(0), RATE, "OGG"), "no samples"),
    "cut.wav": (cut("WAV"), "truncated"),
    "cut.flac": (cut("FLAC"), "truncated|cannot be decoded"),
    "cut.ogg": (cut("OGG"), "truncated|cannot be decoded"),
    "cut.mp3": (cut("MP3"), "truncated|cannot be decoded"),
    "header.wav": (encode(NOISE, RATE)[:44], "truncated"),
}


def check_message(error, *, where):
    """Check what every message promises: the place, a full sentence, a length that fits a terminal, no addresses."""
    message = str(error)
    assert message.startswith(where)
    assert message.endswith(".")
    assert len(message) < 600
    assert " at 0x" not in message
    assert isinstance(error, SkastwError)


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_named(name, tmp_path):
    content, match = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    for clip in (str(path), path, {"path": str(path)}, {"bytes": None, "path": str(path)}):
        with pytest.raises(ClipValueError, match=match) as caught:
            load_waveform(clip, RATE, index=7)
        assert isinstance(caught.value, ValueError)
        assert (caught.value.index, caught.value.path) == (7, str(path))
        check_message(caught.value, where=f"Clip 7 ({str(path)!r}): ")


@pytest.mark.parametrize("name", [name for name, (content, _) in BAD_FILES.items() if content])
def test_bad_bytes_are_named_by_the_path_beside_them(name):
    content, match = BAD_FILES[name]
    with pytest.raises(ClipValueError, match=match) as caught:
        load_waveform({"bytes": content, "path": f"train/{name}"}, RATE, index=7)
    check_message(caught.value, where=f"Clip 7 ('train/{name}'): ")


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path, folder in (("audio/dog.wav", tmp_path / "audio"), ("/sounds/dog.wav", Path("/sounds"))):
        with pytest.raises(ClipValueError, match="no such file") as caught:
            load_waveform(path, RATE, index=7)
        check_message(caught.value, where=f"Clip 7 ({path!r}): ")
        assert f"there is no folder {str(folder)!r}" in str(caught.value)

    for name in ("hoot.wav", "clip_1.wav"):
        Path(name).touch()
    ends = {"hot.wav": "; did you mean 'hoot.wav'?).", "hoot.flac": "; did you mean 'hoot.wav'?).", "clip_2.wav": "')."}
    for path, end in ends.items():
        with pytest.raises(ClipValueError, match="no such file") as caught:
            load_waveform(path, RATE)
        assert str(caught.value).endswith(f"looked in {str(tmp_path)!r}{end}".replace("''", "'"))


def test_a_folder_is_no_clip(tmp_path):
    with pytest.raises(ClipValueError, match="is a folder, expected a WAV") as caught:
        load_waveform(tmp_path, RATE, index=7)
    check_message(caught.value, where=f"Clip 7 ({str(tmp_path)!r}): ")


@pytest.mark.parametrize(("samples", "what"), [([0, np.nan, 0], "NaN"), ([0, -np.inf, 0], "infinite")])
def test_a_file_with_samples_that_are_no_numbers(samples, what, tmp_path):
    path = tmp_path / "float.wav"
    soundfile.write(path, np.array(samples), RATE, subtype="FLOAT")
    with pytest.raises(ClipValueError, match=f"has {what} samples.*repair or drop") as caught:
        load_waveform(path, RATE, index=7)
    check_message(caught.value, where=f"Clip 7 ({str(path)!r}): ")


def test_an_empty_path_is_not_taken_for_the_current_folder():
    with pytest.raises(ClipValueError, match=r"empty|no such file"):
        load_waveform("", RATE, index=7)


def test_a_name_with_a_nul_character():
    with pytest.raises(ClipValueError, match="cannot be read") as caught:
        load_waveform("dog\0.wav", RATE, index=7)
    check_message(caught.value, where="Clip 7 ('dog\\x00.wav'): ")


# ------------------------------------------------------------------ bad clips in memory

A_CLIP_IS = r"expected a path, a 1-D array, a \(channels, samples\) array"
RATE_RANGE = "expected 100 to 1000000 Hz; check that the rate is in samples per second"
HUGE = np.finfo(np.float32).max * np.sign(np.sin(np.arange(4000) * 0.7)).astype(np.float32)

BAD_VALUES = {
    "no samples": (np.zeros(0), "no samples"),
    "empty list": ([], "no samples"),
    "no samples in two channels": (np.zeros((2, 0)), "no samples"),
    "no channels": (np.zeros((0, 5)), "no samples|no channels|shape"),
    "no samples, other rate": ((np.zeros(0), 44100), "no samples"),
    "NaN": (np.array([0, np.nan]), "NaN samples; repair or drop"),
    "NaN and infinity": (np.array([np.nan, np.inf]), "NaN samples; repair or drop"),
    "infinity": (np.array([0, np.inf]), "infinite samples; repair or drop"),
    "one bad channel": (np.array([[0, 0, 0], [0, np.nan, 0]]), "NaN samples; repair or drop"),
    "NaN, other rate": ((np.array([0, np.nan]), 8000), "NaN samples; repair or drop"),
    "beyond float32": (np.array([0, 1e300]), "infinite samples; repair or drop"),
    "too large for the front ends": (
        np.array([0.5, -3e18]),
        r"of up to 3e\+18, expected at most 1e\+12 \(full scale is 1",
    ),
    "too large, as integers": (np.array([0, 2**62]), r"of up to 4\.61e\+18, expected at most 1e\+12"),
    "close to the end of float32, other rate": (
        (HUGE, 44100),
        "divide them by the full scale of their format, or drop",
    ),
    "3-D": (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\), expected \(samples,\) or \(channels, samples\)"),
    "transposed": (
        np.zeros((100, 2)),
        r"shape \(100, 2\), .*\(samples, channels\), as soundfile .*\(channels, samples\): write waveform\.T\.$",
    ),
    "transposed, with rate": ((np.zeros((100, 2)), 8000), r"write \(waveform\.T, sample_rate\)\.$"),
    "transposed, in a dict": (
        {"array": np.zeros((9, 2)), "sample_rate": 8000},
        r"write \{'array': waveform\.T, \.\.\.\}",
    ),
    "frames": (np.zeros((100, 80)), r"shape \(100, 80\), with more rows than columns"),
    "rate 0": ((WAVEFORM, 0), f"sample rate of 0, {RATE_RANGE}"),
    "negative rate": ((WAVEFORM, -16000), f"sample rate of -16000, {RATE_RANGE}"),
    "NaN rate": ((WAVEFORM, float("nan")), f"sample rate of nan, {RATE_RANGE}"),
    "infinite rate": ((WAVEFORM, float("inf")), f"sample rate of inf, {RATE_RANGE}"),
    "huge rate": ((WAVEFORM, 10**9), f"sample rate of 1000000000, {RATE_RANGE}"),
    "rate in kHz": ((WAVEFORM, 44.1), f"sample rate of 44.1, {RATE_RANGE}"),
    "dict, rate 0": ({"array": WAVEFORM, "sample_rate": 0}, f"sample rate of 0, {RATE_RANGE}"),
    "dict without rate": ({"array": WAVEFORM}, r"no rate, expected 'sample_rate' \(or 'sampling_rate'\) too"),
    "dict, rate None": ({"array": WAVEFORM, "sampling_rate": None}, "no rate, expected 'sample_rate'"),
    "dict, unknown keys": ({"audio": WAVEFORM, "rate": 8000}, r"keys \['audio', 'rate'\], expected 'array', 'bytes'"),
    "dict, nothing": ({}, "expected 'array', 'bytes' or 'path'"),
    "dict, all None": ({"array": None, "bytes": None, "path": None}, "expected 'array', 'bytes' or 'path'"),
    "dict, empty bytes": ({"bytes": b""}, "empty|expected 'array', 'bytes' or 'path'"),
}


class Segment:
    """Audio of another package."""

    frame_rate = 8000

    def get_array_of_samples(self):
        return [0, 1]


BAD_TYPES = {
    "None": (None, f"missing value, {A_CLIP_IS}"),
    "float NaN": (float("nan"), f"missing value, {A_CLIP_IS}"),
    "pandas.NA": (pd.NA, f"missing value, {A_CLIP_IS}"),
    "pandas.NaT": (pd.NaT, f"missing value, {A_CLIP_IS}"),
    "int": (3, f"got int 3, {A_CLIP_IS}"),
    "bool": (True, f"got bool True, {A_CLIP_IS}"),
    "0-D array": (np.array(3.0), A_CLIP_IS),
    "set": ({1, 2}, f"got set.*{A_CLIP_IS}"),
    "object": (SkastwError, A_CLIP_IS),
    "bytes": (b"RIFF", r"got bytes, .*: write \{'bytes': content\}\.$"),
    "bytes of a file": (encode(NOISE, RATE), "got bytes"),
    "open file": (io.BytesIO(b"RIFF"), r"got BytesIO, .*: write \{'bytes': file\.read\(\)\}\.$"),
    "segment": (Segment(), r"got Segment, .*: write \(numpy\.array\(.*\), segment\.frame_rate\)\.$"),
    "tensor": (torch.ones(5, requires_grad=True), r"got Tensor, .*: write tensor\.detach\(\)"),
    "number of NumPy": (np.float32(3), f"got float32 3.0, {A_CLIP_IS}"),
    "nested paths": (["a.wav"], "got list that holds str 'a.wav'"),
    "generator": ((i for i in range(3)), "got generator"),
    "bool array": (np.zeros(5, bool), "dtype bool, expected integers or floats"),
    "complex array": (np.zeros(5, complex), "dtype complex128, expected integers or floats"),
    "strings": (np.array(["a", "b"]), "dtype <U1, expected integers or floats"),
    "objects": (np.array([1, "a"], dtype=object), "dtype object, expected integers or floats"),
    "dates": (np.array(["2020-01-01"], dtype="datetime64[s]"), "dtype datetime64.*expected integers or floats"),
    "list of strings": (["a.wav", "b.wav"], "expected integers or floats"),
    "ragged list": ([[0.0, 1.0], [0.0]], "got list"),
    "three values": ((WAVEFORM, RATE, "dog"), r"got .*tuple.*\(array, sample_rate\)"),
    "swapped": ((RATE, WAVEFORM), r"\(sample_rate, array\) tuple, expected \(array, sample_rate\): swap"),
    "path and rate": (("dog.wav", RATE), "expected the path alone"),
    "None and rate": ((None, RATE), r"expected .*\(array, sample_rate\)"),
    "str rate": ((WAVEFORM, "16000"), r"sample rate of type str \('16000'\), expected a number of hertz"),
    "bool rate": ((WAVEFORM, True), r"sample rate of type bool \(True\), expected a number of hertz"),
    "numpy bool rate": ((WAVEFORM, np.True_), "sample rate of type bool.*expected a number of hertz"),
    "None rate": ((WAVEFORM, None), "sample rate of type NoneType.*expected a number of hertz"),
    "complex rate": ((WAVEFORM, 16000j), "sample rate of type complex.*expected a number of hertz"),
    "dict, str rate": ({"array": WAVEFORM, "sample_rate": "16k"}, "sample rate of type str.*a number of hertz"),
    "dict, list of strings": ({"array": ["a", "b"], "sample_rate": RATE}, "expected integers or floats"),
    "dict, path is a number": ({"path": 3}, "'path'"),
    "dict, path is NaN": ({"path": float("nan")}, "'path'"),
    "dict, bytes are str": ({"bytes": "RIFF"}, "'bytes'"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("clip", "match"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_bad_content_is_a_value_error(clip, match):
    with pytest.raises(ClipValueError, match=match) as caught:
        load_waveform(clip, RATE, index=7)
    assert isinstance(caught.value, ValueError)
    check_message(caught.value, where="Clip 7: ")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("clip", "match"), BAD_TYPES.values(), ids=BAD_TYPES)
def test_a_bad_form_is_a_type_error(clip, match):
    with pytest.raises(ClipTypeError, match=match) as caught:
        load_waveform(clip, RATE, index=7)
    assert isinstance(caught.value, TypeError)
    check_message(caught.value, where="Clip 7: ")


def test_bytes_in_a_bytearray_are_decoded(wav):
    np.testing.assert_array_equal(load_waveform({"bytes": bytearray(wav.read_bytes())}, RATE), WAVEFORM)


def test_bad_samples_beside_a_path_name_the_path():
    row = {"array": np.array([np.nan]), "sampling_rate": RATE, "path": "train/dog.wav"}
    with pytest.raises(ClipValueError, match="NaN") as caught:
        load_waveform(row, RATE, index=7)
    check_message(caught.value, where="Clip 7 ('train/dog.wav'): ")


# ------------------------------------------------------------------ bad containers

LIST_WANTED = "expected a list of clips; a clip is a path"
BAD_CONTAINERS = {
    "bare (array, rate)": (lambda: (WAVEFORM, RATE), ClipTypeError, r"pass \[\(array, sample_rate\)\]"),
    "bare (array, numpy rate)": (lambda: (WAVEFORM, np.int64(RATE)), ClipTypeError, r"pass \[\(array, sample_rate\)\]"),
    "bare (rate, array)": (lambda: (RATE, WAVEFORM), ClipTypeError, r"\(array, sample_rate\)"),
    "set": (lambda: {"a.wav"}, ClipTypeError, f"type set, {LIST_WANTED}"),
    "frozenset": (lambda: frozenset({"a.wav"}), ClipTypeError, f"type frozenset, {LIST_WANTED}"),
    "dict keys": (lambda: {"a.wav": 1}.keys(), ClipTypeError, f"type dict_keys, {LIST_WANTED}"),
    "bytes": (lambda: b"RIFF", ClipTypeError, f"type bytes, {LIST_WANTED}"),
    "bytearray": (lambda: bytearray(b"RIFF"), ClipTypeError, f"type bytearray, {LIST_WANTED}"),
    "None": (lambda: None, ClipTypeError, f"type NoneType, {LIST_WANTED}"),
    "int": (lambda: 3, ClipTypeError, f"type int, {LIST_WANTED}"),
    "pandas.NA": (lambda: pd.NA, ClipTypeError, f"type NAType, {LIST_WANTED}"),
    "generator": (lambda: (path for path in ["a.wav"]), ClipTypeError, f"type generator, {LIST_WANTED}"),
    "list of numbers": (
        lambda: [0.1, np.float32(2)],
        ClipTypeError,
        r"list of 2 numbers, expected a list of clips: write \[numpy\.array\(samples\)\]",
    ),
    "open file": (lambda: io.BytesIO(b"RIFF"), ClipTypeError, r"type BytesIO, .*write \[\{'bytes': file\.read\(\)\}\]"),
    "list of a generator": (lambda: iter(["a.wav"]), ClipTypeError, r"write list\(X\)\.$"),
    "Series of numbers": (lambda: pd.Series([0.1, 0.2]), ClipTypeError, f"Clip 0: got float 0.1, {A_CLIP_IS}"),
    "array of bools": (lambda: np.zeros((2, 5), bool), ClipTypeError, "Clip 0: .*dtype bool"),
    "frame of columns": (
        lambda: pd.DataFrame({"audio": ["a.wav"], "label": ["dog"]}),
        ClipValueError,
        r"DataFrame with 2 columns \(audio, label\), expected the audio column alone: pass df\['audio'\]",
    ),
    "frame without columns": (lambda: pd.DataFrame(index=[0, 1]), ClipValueError, "DataFrame with 0 columns"),
    "two columns of strings": (lambda: np.array([["a.wav", "dog"]]), ClipValueError, r"shape \(1, 2\).*expected shape"),
    "two columns of objects": (
        lambda: np.array([["a.wav", "dog"]], dtype=object),
        ValueError,
        r"shape \(1, 2\).*expected shape",
    ),
    "0-D string": (lambda: np.array("a.wav"), ClipValueError, r"shape \(\).*expected shape"),
    "1-D numbers": (lambda: np.zeros(800), ValueError, r"one clip, .*\(800,\), .*write \w+\(\[waveform\]\)"),
    "0-D number": (lambda: np.array(3.0), ValueError, "Expected 2D array, got scalar array"),
    "4-D numbers": (lambda: np.zeros((2, 2, 2, 2)), ValueError, "dim 4"),
    "sparse matrix": (lambda: scipy.sparse.csr_matrix(np.eye(3)), TypeError, "dense data is required"),
    "complex array": (lambda: np.zeros((2, 5), complex), ValueError, "Complex data not supported"),
    "NaN in an array": (lambda: np.array([[0, np.nan]]), ValueError, "Input X contains NaN"),
    "infinity in an array": (lambda: np.array([[0, np.inf]]), ValueError, "Input X contains infinity"),
    "no clips, list": (list, ValueError, r"0 sample\(s\).*minimum of 1 is required"),
    "no clips, Series": (lambda: pd.Series([], dtype=object), ValueError, r"0 sample\(s\).*minimum of 1"),
    "no clips, frame": (lambda: pd.DataFrame({"audio": []}), ValueError, r"0 sample\(s\).*minimum of 1"),
    "no clips, array": (lambda: np.zeros((0, 5)), ValueError, r"0 sample\(s\).*minimum of 1"),
    "no samples, array": (lambda: np.zeros((3, 0)), ValueError, r"0 feature\(s\).*minimum of 1"),
}


@pytest.mark.parametrize(("make", "error", "match"), BAD_CONTAINERS.values(), ids=BAD_CONTAINERS)
def test_a_bad_container_says_what_to_pass(make, error, match):
    with pytest.raises(error, match=match):
        ASTWFeaturizer().fit_transform(make())


@pytest.mark.parametrize(
    ("frame", "wrong"),
    [
        (pd.DataFrame({"label": ["dog"], "audio": ["a.wav"]}), "df['label']"),
        (pd.DataFrame([["a.wav", "dog"]]), "df['0']"),
    ],
)
def test_the_advice_on_columns_names_a_column_that_helps(frame, wrong):
    with pytest.raises(ClipValueError, match="expected the audio column alone") as caught:
        as_clips(frame)
    assert wrong not in str(caught.value)


@pytest.mark.parametrize("container", [list, pd.Series, lambda clips: pd.DataFrame({"audio": clips})])
@pytest.mark.parametrize("bad", [None, float("nan"), pd.NA])
def test_a_gap_in_a_column_is_found_by_its_position(container, bad, wav):
    X = container([str(wav), str(wav), bad])
    with pytest.raises(ClipTypeError, match=r"^Clip 2: got a missing value, expected a path"):
        ASTWFeaturizer().fit_transform(X)


def test_the_position_is_right_with_threads_too(wav):
    X = [wav] * 5 + ["gone.wav"] + [wav] * 2
    for n_jobs in (None, 2):
        with pytest.raises(ClipValueError, match=r"^Clip 5 \('gone.wav'\): no such file"):
            ASTWFeaturizer(n_jobs=n_jobs).fit_transform(X)


# ------------------------------------------------------------------ the errors themselves


@pytest.mark.parametrize("kind", [ClipError, ClipValueError, ClipTypeError])
@pytest.mark.parametrize(
    ("index", "path", "text"),
    [
        (3, "dog.wav", "Clip 3 ('dog.wav'): is empty."),
        (0, None, "Clip 0: is empty."),
        (None, "dog.wav", "Clip ('dog.wav'): is empty."),
        (None, None, "Clip: is empty."),
    ],
)
def test_a_clip_error_survives_pickle(kind, index, path, text):
    error = pickle.loads(pickle.dumps(kind("is empty.", index=index, path=path)))
    assert type(error) is kind
    assert (error.reason, error.index, error.path) == ("is empty.", index, path)
    assert str(error) == text


def test_a_decoder_of_torchcodec_is_a_clip():
    """Stands in for what Hugging Face datasets gives for a decoded Audio column."""

    class Samples:
        data = np.stack([np.ones(8000), np.zeros(8000)]).astype(np.float32)
        sample_rate = 8000

    class Decoder:
        def get_all_samples(self):
            return Samples

    waveform = load_waveform(Decoder(), 8000)
    np.testing.assert_array_equal(waveform, np.full(8000, 0.5, dtype=np.float32))
    assert load_waveform(Decoder(), 16000).shape == (16000,)


# ------------------------------------------------------------------ errors of others


class Broken(dict):
    """A row of a data set whose audio is decoded, and is damaged, when it is looked at."""

    def get(self, key, default=None):
        raise RuntimeError("Failed to open input\nbuffer.")


class BrokenDecoder:
    """A decoder of torchcodec for a damaged file."""

    def get_all_samples(self):
        raise OSError(22, "Invalid argument")


class Lazy:
    """A column of a data set that decodes a row when it is indexed."""

    def __init__(self, *rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(self.rows[index], Exception):
            raise self.rows[index]
        return self.rows[index]


@pytest.mark.parametrize("load", [load_waveform, load_samples])
@pytest.mark.parametrize(
    ("clip", "cause", "match"),
    [
        (
            Broken(path="a.wav"),
            RuntimeError,
            r"cannot be read \(RuntimeError: Failed to open input buffer\); repair or",
        ),
        (BrokenDecoder(), OSError, r"cannot be read \(OSError: \[Errno 22\] Invalid argument\); repair or drop"),
        (as_clips(Lazy(KeyError("bytes")))[0], KeyError, r"cannot be read \(KeyError: 'bytes'\); repair or drop"),
    ],
)
def test_whatever_is_raised_names_the_clip(load, clip, cause, match):
    with pytest.raises(ClipValueError, match=match) as caught:
        load(clip, RATE, index=7)
    assert caught.value.index == 7
    assert isinstance(caught.value.__cause__, cause)


def test_a_decoder_that_raises_names_the_file(wav, monkeypatch):
    def refuse(*_, **__):
        raise OSError(22, "Invalid argument")

    def refuse_in_pieces(*_, **__):
        yield np.zeros((800, 1), dtype=np.float32), RATE
        refuse()

    monkeypatch.setattr(Decoder, "__call__", refuse)
    with pytest.raises(ClipValueError, match=r"cannot be read \(OSError") as whole:
        load_waveform(wav, RATE, index=7)
    monkeypatch.setattr("skastw.audio.stream.decode_blocks", refuse_in_pieces)
    with pytest.raises(ClipValueError, match=r"cannot be read \(OSError") as piece:
        list(stream_waveform(wav, RATE, index=7))
    for caught in (whole, piece):
        assert (caught.value.index, caught.value.path) == (7, str(wav))


@pytest.mark.parametrize(
    "error", [MemoryError(), KeyboardInterrupt(), MissingDependencyError("no av"), UserWarning("as an error")], ids=repr
)
def test_what_is_not_about_one_clip_is_not_put_down_to_it(error):
    class Failing:
        def get_all_samples(self):
            raise error

    with pytest.raises(type(error)) as caught:
        load_waveform(Failing(), RATE, index=7)
    assert caught.value is error


def test_one_row_that_cannot_be_indexed_leaves_the_others():
    clips = as_clips(Lazy(WAVEFORM, OSError("row 1 is damaged"), WAVEFORM))
    np.testing.assert_array_equal(load_waveform(clips[2], RATE), WAVEFORM)
    for _ in range(2):  # the error that is kept does not change
        with pytest.raises(ClipValueError, match=r"Clip 1: cannot be read \(OSError: row 1 is damaged\)") as caught:
            load_waveform(clips[1], RATE, index=1)
        assert caught.value.__cause__ is clips[1].error


def test_a_stream_refuses_samples_that_are_too_large(tmp_path):
    path = tmp_path / "huge.wav"
    soundfile.write(path, np.full(16000, 1e20, dtype=np.float32), RATE, subtype="FLOAT")
    for rate in (RATE, 8000):
        with pytest.raises(ClipValueError, match=r"Clip 3 .*of up to 1e\+20, expected at most 1e\+12"):
            list(stream_waveform(path, rate, index=3))
