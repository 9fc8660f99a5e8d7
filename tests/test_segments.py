"""A part of a clip is that part of the whole, whatever it comes from, and costs what the part costs."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers import WAVEFORM, encode_by_pyav
from skastw.audio import decode, isolated_decoding, load_waveform
from skastw.errors import ClipTypeError, ClipValueError

RATE = 16000


def write(path, samples, rate):
    if path.suffix == ".m4a":
        path.write_bytes(encode_by_pyav(samples.T, rate, "ipod", "aac"))
    else:
        soundfile.write(path, samples, rate)


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3", "m4a"])
@pytest.mark.parametrize(("start", "end"), [(0.25, 0.75), (None, 0.5), (0.5, None), (0.0, 1.0), (0.333, 0.334)])
def test_a_part_of_a_file_is_that_part_of_the_whole(tmp_path, form, start, end):
    path = tmp_path / f"clip.{form}"
    noise = (0.1 * np.random.default_rng(0).standard_normal((44100, 2))).astype(np.float32)
    write(path, noise, 44100)
    whole, rate = decode(path)
    first, last = round((start or 0) * rate), len(whole) if end is None else round(end * rate)
    np.testing.assert_array_equal(decode(path, start=start, end=end)[0], whole[first:last])
    part = load_waveform({"path": path, "start": start, "end": end}, 44100)
    np.testing.assert_allclose(part, whole[first:last].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(
        load_waveform({"bytes": path.read_bytes(), "path": "", "start": start, "end": end}, 44100), part
    )
    np.testing.assert_array_equal(
        load_waveform({"array": whole.T, "sample_rate": rate, "start": start, "end": end}, 44100), part
    )
    with isolated_decoding(workers=1):
        np.testing.assert_array_equal(load_waveform({"path": path, "start": start, "end": end}, 44100), part)


def test_empty_cells_stand_for_the_whole_clip(wav):
    for missing in (None, float("nan"), pd.NA):
        np.testing.assert_array_equal(load_waveform({"path": wav, "start": missing, "end": missing}, RATE), WAVEFORM)


@pytest.mark.parametrize(
    ("part", "error", "match"),
    [
        ({"start": 0.05, "end": 0.05}, ClipValueError, r"start=0\.05 and end=0\.05, expected seconds with 0 <= start"),
        ({"start": -0.05}, ClipValueError, r"start=-0\.05 and end=None"),
        ({"end": float("inf")}, ClipValueError, "end=inf"),
        ({"end": 0.0}, ClipValueError, r"end=0\.0"),
        ({"start": 7, "end": 8}, ClipValueError, "the part from 7 s to 8 s"),
        ({"start": 0.1}, ClipValueError, r"lasts 0\.10 s and does not contain the part from 0\.1 s to 0\.1 s"),
        ({"start": 0.05, "end": 0.3}, ClipValueError, r"does not contain the part from 0\.05 s to 0\.3 s"),
        ({"start": "1"}, ClipTypeError, "'start' of type str .'1'., expected seconds"),
        ({"end": True}, ClipTypeError, "'end' of type bool"),
    ],
)
def test_parts_that_are_not_there_are_errors(wav, part, error, match):
    with pytest.raises(error, match=match) as caught:
        load_waveform({"path": wav, **part}, RATE, index=4)
    assert str(caught.value).startswith("Clip 4 (")


def test_a_part_that_ends_a_little_late_ends_with_its_clip(wav):
    part = load_waveform({"path": wav, "start": 0.05, "end": 0.15}, RATE)  # the clip lasts 0.1 s
    np.testing.assert_array_equal(part, WAVEFORM[800:])


def test_a_part_of_a_long_recording_takes_the_memory_of_the_part(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for minute in range(30):
            file.write(np.full(60 * RATE, minute, dtype=np.int16))
    tracemalloc.start()
    part, _ = decode(path, start=1200.5, end=1202.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(part, np.full((2 * RATE, 1), 20 / 32768))
    assert peak < 3 * part.nbytes
