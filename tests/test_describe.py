"""A description measures what is there, finds copies and nothing but copies, and warns of what spoils a score."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import soundfile
import soxr
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit, StratifiedKFold

from helpers import encode, encode_by_pyav
from skastw.audio import isolated_decoding, load_samples
from skastw.audio.clips import load_mono
from skastw.audio.fingerprint import find_copies, fingerprint, sketch
from skastw.datasets import AudioDescription, describe_audio, load_spoken_digits, make_tones
from skastw.errors import ClipValueError

RATE = 16000


def sine(frequency=440.0, seconds=0.5, amplitude=0.5, phase=0.0, rate=RATE):
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate + phase)).astype(
        np.float32
    )


def noise(seed, seconds=0.5, amplitude=0.1):
    return (amplitude * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


def rustle(seed, seconds=0.8):
    """Return noise that comes and goes, louder at low frequencies, as most sounds are."""
    rng = np.random.default_rng(seed)
    steps = np.interp(np.linspace(0, 8, round(seconds * RATE)), np.arange(9), rng.uniform(0, 1, 9))
    coloured = np.convolve(rng.standard_normal(round(seconds * RATE)), 0.8 ** np.arange(30), mode="same")
    return (0.3 * steps**2 * coloured / np.abs(coloured).max()).astype(np.float32)


def chirp(seconds=0.8):
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * (300 * time + 900 * time**2))).astype(np.float32)


def by_soundfile(samples, form, subtype, rate=RATE):
    return {"bytes": encode(soxr.resample(samples, RATE, rate), rate, form, subtype)}


def by_pyav(samples, form, codec, bit_rate, rate=48000):
    return {"bytes": encode_by_pyav(soxr.resample(samples, RATE, rate)[None], rate, form, codec, bit_rate)}


def warned(X, y=None, groups=None, **arguments):
    """Return the warnings by their first words."""
    warnings = describe_audio(X, y, groups, **arguments).warnings
    return dict(warning.split(": ", 1) for warning in warnings)


# ------------------------------------------------------------------ measurements


def test_a_sine_measures_what_it_was_made_of():
    (row,) = describe_audio([(sine(amplitude=0.5, seconds=0.25, rate=44100), 44100)]).frame.to_dict("records")
    assert row["duration"] == pytest.approx(0.25)
    assert (row["sample_rate"], row["channels"]) == (44100, 1)
    assert row["peak"] == pytest.approx(0.5, abs=1e-4)
    assert row["rms_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.01)
    assert row["silence"] == row["clipped"] == 0
    assert row["copies"] == -1
    assert row["error"] is None


def test_channels_are_counted_and_the_peak_is_of_any():
    frame = describe_audio([np.stack([0.1 * sine(), 0.9 * sine()]), sine()]).frame
    assert frame["channels"].tolist() == [2, 1]
    assert frame["peak"][0] == pytest.approx(0.45, abs=1e-3)
    assert frame["rms_db"][0] == pytest.approx(20 * np.log10(0.25 / np.sqrt(2)), abs=0.01)  # of their mean


def test_an_offset_is_no_sound():
    frame = describe_audio([sine() + np.float32(0.3), np.full(RATE, 0.5, dtype=np.float32)]).frame
    assert frame["rms_db"][0] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=0.02)
    assert frame["peak"][0] == pytest.approx(0.8, abs=1e-3)
    assert frame["silence"].tolist() == [0, 1]


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_the_share_of_silence(share):
    clip = noise(0, seconds=2)
    clip[: round(share * len(clip))] *= 1e-3  # to -80 dB
    assert describe_audio([clip]).frame["silence"][0] == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("level", [1.0, 0.3])
@pytest.mark.parametrize("as_integers", [True, False])
def test_the_clipped_share_is_that_of_the_flat_tops(level, as_integers):
    clip = level * np.clip(sine(100, amplitude=2.0), -1, 1)
    clip = np.round(clip * 32767).astype(np.int16) if as_integers else clip.astype(np.float32)
    above = 1 - 2 / np.pi * np.arcsin(0.5)
    description = describe_audio([clip])
    assert description.frame["clipped"][0] == pytest.approx(above, abs=0.02)
    assert description.summary["n_clipped"] == 1


@pytest.mark.parametrize(
    "clip", [sine(amplitude=1.0), noise(0), np.round(32767 * sine(amplitude=1.0)).astype(np.int16)]
)
def test_a_loud_clip_is_not_clipped(clip):
    assert describe_audio([clip]).frame["clipped"][0] < 1e-3


def test_the_summary_adds_up():
    X = [sine(seconds=s) for s in (0.2, 0.4, 0.6)] + [(sine(seconds=1.0, rate=8000), 8000), np.zeros(100), "lost.wav"]
    summary = describe_audio(X, ["a", "b", "a", "b", "a", "b"], [1, 1, 2, 2, 3, None]).summary
    assert summary["n_clips"] == 6
    assert (summary["n_unreadable"], summary["n_silent"], summary["n_clipped"]) == (1, 1, 0)
    assert summary["seconds"] == pytest.approx(2.2 + 100 / RATE)
    assert summary["duration"]["median"] == pytest.approx(0.4)
    assert summary["duration"]["max"] == pytest.approx(1.0)
    assert summary["sample_rates"] == {16000: 4, 8000: 1}
    assert summary["channels"] == {1: 5}
    assert summary["classes"] == {"a": 3, "b": 3}
    assert summary["groups"] == {1: 2, 2: 2, 3: 1}


def test_the_summary_is_plain_values_if_the_groups_are_numbers_of_numpy():
    summary = describe_audio(CLEAN, np.arange(30) % 3, np.arange(30) // 6, splits=GroupKFold(2)).summary
    assert json.loads(json.dumps(summary))["groups"] == dict.fromkeys("01234", 6)


def test_the_middle_of_a_range_says_what_it_is():
    X = [sine(seconds=seconds) for seconds in (0.2, 0.4, 1.2)]
    lines = str(describe_audio(X, [0.1, 0.2, 0.9])).splitlines()
    assert lines[1].split(maxsplit=1) == ["duration", "median 0.4 s (0.2 to 1.2)"]
    assert lines[2].split()[:2] == ["level", "median"]
    assert "values 0     median 0.2 (0.1 to 0.9)" in lines


# ------------------------------------------------------------------ copies


SOUNDS = {"rustle": rustle(0), "chirp": chirp(), "tone": sine(700, seconds=0.8), "steady noise": noise(0, seconds=0.8)}
COPIES = {
    "louder": lambda x: 1.9 * x,
    "30 dB softer": lambda x: by_soundfile(x * 10**-1.5, "WAV", "PCM_16"),
    "flac": lambda x: by_soundfile(x, "FLAC", "PCM_16"),
    "vorbis": lambda x: by_soundfile(x, "OGG", "VORBIS"),
    "soft vorbis": lambda x: by_soundfile(0.2 * x, "OGG", "VORBIS"),
    "opus": lambda x: by_soundfile(x, "OGG", "OPUS", 48000),
    "opus at 32 kbit/s": lambda x: by_pyav(x, "webm", "libopus", 32000),
    "mp3": lambda x: by_soundfile(x, "MP3", "MPEG_LAYER_III"),
    "aac": lambda x: by_pyav(x, "ipod", "aac", 96000),
    "aac at 16 kHz": lambda x: by_pyav(x, "ipod", "aac", 64000, RATE),
    "8 kHz": lambda x: by_soundfile(x, "WAV", "PCM_16", 8000),
    "44.1 kHz": lambda x: by_soundfile(x, "WAV", "PCM_24", 44100),
    "stereo": lambda x: np.stack([x, 0.7 * x]),
    "offset": lambda x: x + np.float32(0.1),
}


@pytest.mark.parametrize("sound", SOUNDS)
@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found(sound, copy):
    X = [SOUNDS[sound], rustle(7), COPIES[copy](SOUNDS[sound]), noise(9, seconds=0.8)]
    assert describe_audio(X).frame["copies"].tolist() == [0, -1, 0, -1]


def test_copies_of_copies_are_one_set():
    X = [COPIES["vorbis"](rustle(1)), rustle(0), rustle(1), COPIES["mp3"](rustle(1)), 0.5 * rustle(0)]
    assert describe_audio(X).frame["copies"].tolist() == [0, 1, 0, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_different_tones_are_no_copies(seed):
    X, y = make_tones(n_clips=60, random_state=seed)
    assert describe_audio(X, y).summary["n_copies"] == 0


DIFFERENT = {
    "tones a tenth of a semitone apart": [sine(440 * 2 ** (k / 120), seconds=1.0) for k in range(24)],
    "tones of one pitch": [sine(440, seconds=0.3 + 0.05 * k) for k in range(12)],
    "noises": [noise(k, seconds=0.2) for k in range(200)],
    "rustles": [rustle(k) for k in range(60)],
    "sounds under one hum": [sine(50, seconds=0.8, amplitude=0.3) + rustle(k) for k in range(30)],
    "clicks": [np.eye(1, 4000, 100 * k, dtype=np.float32)[0] for k in range(1, 40)],
    "spoken digits": load_spoken_digits().data,
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_clips_are_no_copies(name):
    frame = describe_audio(DIFFERENT[name]).frame
    assert (frame["copies"] == -1).all()
    assert frame["fingerprint"].is_unique


def test_silent_clips_are_no_copies():
    frame = describe_audio([np.zeros(8000), np.zeros(8000), np.full(8000, 0.5), np.zeros(1), np.ones(1)]).frame
    assert (frame["copies"] == -1).all()


def test_the_fingerprint_is_of_the_samples(tmp_path):
    X = []
    for form in ("WAV", "FLAC", "AIFF"):
        integers = np.round(32767 * rustle(0)).astype(np.int16)
        soundfile.write(tmp_path / f"clip.{form}", integers, RATE, format=form, subtype="PCM_16")
        X.append(tmp_path / f"clip.{form}")
    samples, _ = load_samples(X[0], RATE)
    X += [samples[0], -samples[0], (samples[0], 8000), samples[0][:-1], np.nextafter(samples[0], np.float32(1))]
    names = describe_audio(X).frame["fingerprint"]
    assert names.nunique() == 5
    assert names[:4].nunique() == 1
    assert fingerprint(np.array([[0.0]], np.float32), RATE) == fingerprint(np.array([[-0.0]], np.float32), RATE)


def test_a_sketch_does_not_grow_with_the_clip():
    hour = np.tile(rustle(0), 200)  # 160 s
    assert sketch(hour, RATE).shape == sketch(hour[:100], RATE).shape == (256,)
    other = np.concatenate([hour[: -RATE * 20], noise(0, seconds=20, amplitude=1.0)])
    sets = find_copies(np.array([sketch(x, RATE) for x in (hour, 0.1 * hour, other)]), np.full(3, 160.0))
    assert sets.tolist() == [0, 0, -1]


# ------------------------------------------------------------------ warnings


CLEAN = [rustle(seed, seconds=0.5) for seed in range(30)]
LABELS = ["dog", "cat", "owl"] * 10
SPEAKERS = [f"s{i // 6}" for i in range(30)]


def test_a_clean_collection_has_no_warnings():
    assert warned(CLEAN, LABELS, SPEAKERS, splits=GroupKFold(5)) == {}
    assert warned(CLEAN, LABELS) == {}
    assert warned(CLEAN) == {}


def test_unreadable_clips_are_counted_and_named(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    X = [
        *CLEAN,
        str(tmp_path / "broken.wav"),
        "lost.wav",
        np.full(100, np.nan),
        np.zeros(0),
        {"bytes": b"what"},
        None,
        7,
    ]
    description = describe_audio(X, [*LABELS, *["dog"] * 7])
    (warning,) = [text for text in description.warnings if text.startswith("Unreadable")]
    assert "7 clips (clips 30, 31, 32, 33, ..., " in warning
    assert "broken.wav" in warning
    assert description.summary["n_unreadable"] == 7
    errors = description.frame["error"].dropna()
    assert errors.index.tolist() == list(range(30, 37))
    assert "no such file" in errors[31]
    assert "NaN" in errors[32]


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_warnings_about_a_file_point_at_the_line_of_the_user(n_jobs, tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, CLEAN[0], RATE)
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + bytes(4) + content[at + 4 :])
    with pytest.warns(UserWarning, match="its header says 0 bytes of audio") as caught:
        described = describe_audio([path, path], n_jobs=n_jobs)
    assert described.frame["duration"].gt(0).all()
    assert {warning.filename for warning in caught} == {__file__}


def test_nothing_can_be_read():
    description = describe_audio(["lost.wav", "gone.wav"], ["a", "b"])
    assert description.summary["duration"] == {}
    assert description.summary["sample_rates"] == {}
    assert str(description).startswith("2 clips, 0 s\n")
    json.dumps(description.to_dict(), allow_nan=False)


def test_a_missing_decoder_is_told(monkeypatch):
    clip = by_pyav(rustle(0), "ipod", "aac", 96000)
    monkeypatch.setitem(sys.modules, "av", None)
    assert "skastw[av]" in warned([*CLEAN, clip])["Unreadable"]


def test_silent_and_clipped_clips():
    X = [*CLEAN, np.zeros(8000), 1e-4 * noise(0), np.clip(20 * rustle(40), -0.5, 0.5)]
    found = warned(X)
    assert set(found) == {"Silent", "Clipped"}
    assert found["Silent"].startswith("2 clips (clips 30, 31)")
    assert found["Clipped"].startswith("1 clip (clip 32)")


def test_sample_rates_that_differ():
    found = warned([*CLEAN, (noise(0), 8000), (noise(1), 8000)])
    assert set(found) == {"Sample rates"}
    assert "16000 Hz: 30, 8000 Hz: 2" in found["Sample rates"]
    assert "sample_rate=8000" in found["Sample rates"]


def test_short_and_long_clips():
    found = warned([*CLEAN, rustle(40, seconds=0.02), rustle(41, seconds=10)])
    assert set(found) == {"Short", "Long"}
    assert found["Short"].startswith("1 clip (clip 30), of less than 0.1 s; the median is 0.5 s")
    assert found["Long"].startswith("1 clip (clip 31), of more than 5 s")


def test_classes_out_of_balance_and_small_ones():
    found = warned(CLEAN, ["dog"] * 25 + ["cat"] * 5)
    assert set(found) == {"Imbalance"}
    assert "'dog' has 25 clips and class 'cat' has 5" in found["Imbalance"]
    found = warned(CLEAN, ["dog"] * 14 + ["cat"] * 13 + ["owl"] * 3)
    assert found["Few clips"].startswith("1 class has fewer than 5 folds ('owl': 3)")
    assert "Few clips" not in warned(CLEAN, ["dog"] * 14 + ["cat"] * 13 + ["owl"] * 3, splits=StratifiedKFold(3))
    assert "than 4 folds" in warned(CLEAN, ["dog"] * 14 + ["cat"] * 13 + ["owl"] * 3, splits=KFold(4))["Few clips"]
    assert "One class" in warned(CLEAN, ["dog"] * 30)


def test_missing_labels_and_groups():
    found = warned(CLEAN, [*LABELS[:-2], None, np.nan], [None, *SPEAKERS[1:]])
    assert found["Without label"].startswith("2 clips (clips 28, 29)")
    assert found["Without group"].startswith("1 clip (clip 0)")


def test_copies_across_labels():
    X = [*CLEAN, 0.5 * CLEAN[0], CLEAN[3]]
    found = describe_audio(X, [*LABELS, "cat", "dog"]).warnings
    assert len(found) == 2
    assert found[0].startswith("Copies: 1 set of clips holds the same audio under different labels (clips 0, 30)")
    assert found[1].startswith("Copies: 1 set of clips holds the same samples (clips 3, 31); a random split separates ")


def test_copies_across_groups():
    X = [*CLEAN, 0.5 * CLEAN[0], 0.5 * CLEAN[1]]
    assert warned(X, [*LABELS, "dog", "cat"], [*SPEAKERS, "s0", "s0"]) == {}  # they stay together
    found = warned(X, [*LABELS, "dog", "cat"], [*SPEAKERS, "s1", "s0"])
    assert found["Copies"].startswith("1 set of clips holds the same audio in different groups (clips 0, 30)")


def test_copies_across_splits(tmp_path):
    soundfile.write(tmp_path / "a.wav", CLEAN[0], RATE)
    soundfile.write(tmp_path / "a.ogg", CLEAN[0], RATE)
    X, y = [str(tmp_path / "a.wav"), *CLEAN[1:], str(tmp_path / "a.ogg")], [*LABELS, "dog"]
    first, second = np.arange(15), np.arange(15, 31)
    found = warned(X, y, splits=[(first, second), (second, first)])
    assert set(found) == {"Leakage"}
    assert found["Leakage"].startswith("in 2 of 2 splits copies of one recording are in train and test (clips 0, 30, ")
    assert "a.wav" in found["Leakage"]
    assert warned(X, y, splits=[(np.arange(1, 15), second)]) == {}


def test_groups_across_splits():
    folds = list(KFold(5, shuffle=True, random_state=0).split(CLEAN))
    found = warned(CLEAN, LABELS, SPEAKERS, splits=folds)
    assert set(found) == {"Leakage"}
    assert found["Leakage"].startswith("in 5 of 5 splits groups are in train and test (group 's")
    assert "GroupKFold" in found["Leakage"]


def test_a_clip_on_both_sides():
    found = warned(CLEAN, LABELS, splits=[(np.arange(20), np.arange(20, 30)), (np.arange(20), np.arange(18, 30))])
    assert found["Leakage"].startswith("in 1 of 2 splits clips are in train and test (clip 18 and 1 more in split 1)")


def test_parts_of_a_file_on_both_sides(tmp_path):
    path = str(tmp_path / "long.wav")
    soundfile.write(path, np.concatenate(CLEAN), RATE)
    X = [{"path": path, "start": 0.5 * k, "end": 0.5 * (k + 1)} for k in range(30)]
    description = describe_audio(X, LABELS, splits=3)
    assert description.frame["duration"].tolist() == [0.5] * 30
    (warning,) = description.warnings
    assert warning.startswith("Leakage: in 3 of 3 splits parts of one file are in train and test")


def test_a_class_that_no_training_clip_has():
    y = ["dog"] * 15 + ["cat"] * 15
    found = warned(CLEAN, y, splits=[(np.arange(10), np.arange(10, 30)), (np.arange(20), np.arange(20, 30))])
    assert set(found) == {"Lost class"}
    assert found["Lost class"].startswith("in 1 of 2 splits no training clip is of class 'cat' (split 0)")


def test_a_class_that_one_group_has():
    groups = [f"{i // 6}" if label != "owl" else "s9" for i, label in enumerate(LABELS)]
    found = warned(CLEAN, LABELS, groups)
    assert found["Confounded"].startswith("1 class has clips of one group only ('owl': 's9')")
    assert "Confounded" not in warned(CLEAN, LABELS, ["s9"] * 30)  # there is but one


def test_what_spoils_a_score_comes_first():
    X, y = [*CLEAN, 0.5 * CLEAN[0], np.zeros(8000), "lost.wav"], [*LABELS, "cat", "dog", "dog"]
    words = [text.split(":")[0] for text in describe_audio(X, y, splits=KFold(3)).warnings]
    assert words == ["Leakage", "Copies", "Unreadable", "Silent"]


# ------------------------------------------------------------------ y, splits and X


@pytest.mark.parametrize("as_table", [True, False])
def test_several_labels_a_clip(as_table):
    y = np.tile([[1, 0, 0], [1, 1, 0], [0, 0, 0]], (10, 1))
    names = ["dog", "cat", "owl"] if as_table else [0, 1, 2]
    description = describe_audio(CLEAN, pd.DataFrame(y, columns=names) if as_table else y)
    assert description.summary["classes"] == dict(zip(names, [20, 10, 0], strict=True))
    assert any(text.startswith("Few clips") for text in description.warnings)
    differing = np.vstack([y, [[1, 0, 1]]])
    assert "Copies" in warned([*CLEAN, 0.5 * CLEAN[0]], differing)


@pytest.mark.parametrize("n_columns", [1, 2])
def test_values_have_no_classes(n_columns):
    y = np.linspace(0.05, 1, 30 * n_columns).reshape(30, n_columns)
    description = describe_audio(CLEAN, y, splits=KFold(3))
    assert description.warnings == []
    assert description.summary["classes"] == {}
    assert description.summary["values"]["0"]["min"] == pytest.approx(0.05)
    assert "values 0" in str(description)
    assert "Copies" in warned([*CLEAN, 0.5 * CLEAN[0]], np.vstack([y, y[-1:]]))


@pytest.mark.parametrize(
    "y", [LABELS, np.array(LABELS), pd.Series(LABELS, index=range(5, 35)), pd.Series(LABELS, dtype="category")]
)
def test_labels_in_any_container(y):
    assert describe_audio(CLEAN, y).summary["classes"] == {"cat": 10, "dog": 10, "owl": 10}


def test_whole_numbers_are_classes():
    assert list(describe_audio(CLEAN, np.arange(30) % 3).summary["classes"]) == [0, 1, 2]
    assert list(describe_audio(CLEAN, (np.arange(30) % 3).astype(float)).summary["classes"]) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("splits", "sizes"),
    [
        (3, [(20, 10)] * 3),
        (StratifiedKFold(2), [(15, 15)] * 2),
        (GroupKFold(5), [(24, 6)] * 5),
        (ShuffleSplit(1, test_size=0.2), [(24, 6)]),
        ([(range(20), [25])], [(20, 1)]),
        (iter([(np.arange(30) < 12, np.arange(30) >= 12)]), [(12, 18)]),
    ],
)
@pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
def test_splits_in_any_form(splits, sizes):
    summary = describe_audio(CLEAN, LABELS, SPEAKERS, splits=splits).summary
    assert [(split["n_train"], split["n_test"]) for split in summary["splits"]] == sizes


def test_what_does_not_fit_together_is_an_error():
    with pytest.raises(ValueError, match="do not fit 30 clips"):
        describe_audio(CLEAN, LABELS, splits=[([0, 1], [30])])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        describe_audio(CLEAN, LABELS[:-1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        describe_audio(CLEAN, LABELS, SPEAKERS[:-1])
    with pytest.raises(ValueError, match="groups"):
        describe_audio(CLEAN, LABELS, splits=GroupKFold(3))
    with pytest.raises(ValueError, match="Found 0 clips in X"):
        describe_audio([])


def test_all_that_estimators_take(tmp_path):
    path = tmp_path / "clip.wav"
    soundfile.write(path, rustle(0), RATE, subtype="FLOAT")
    forms = [str(path), path, rustle(0), (rustle(0), RATE), {"array": rustle(0), "sampling_rate": RATE}]
    forms += [{"path": str(path), "bytes": None}, {"path": None, "bytes": path.read_bytes()}]
    for X in (forms, tuple(forms), pd.Series(forms, dtype=object), pd.DataFrame({"audio": forms})):
        frame = describe_audio(X).frame
        assert frame["fingerprint"].nunique() == 1
        assert frame["copies"].tolist() == [0] * 7
    assert len(describe_audio(str(path)).frame) == 1
    table = np.stack([rustle(0), rustle(1)])
    for X in (table, pd.DataFrame(table), table[:, None], table.tolist()):
        assert describe_audio(X).frame["duration"].tolist() == [0.8, 0.8]
    assert describe_audio(table, sample_rate=8000).frame["duration"].tolist() == [1.6, 1.6]


def test_threads_change_nothing():
    X = [*load_spoken_digits().data[:40], "lost.wav"]
    alone, together = describe_audio(X), describe_audio(X, n_jobs=3)
    pd.testing.assert_frame_equal(alone.frame, together.frame)
    assert alone.warnings == together.warnings


def test_threads_decode_in_isolation(tmp_path):
    path = tmp_path / "long.wav"
    soundfile.write(path, np.tile(rustle(0), 5), RATE)
    from skastw.audio import Limits

    with isolated_decoding(limits=Limits(duration=2.0), workers=1):
        errors = describe_audio([str(path), rustle(1)], n_jobs=2).frame["error"]
    assert "Limits.duration is 2.0 s" in errors[0]
    assert pd.isna(errors[1])


def test_progress_is_shown_when_asked(capsys):
    describe_audio(CLEAN[:3])
    assert capsys.readouterr().err == ""
    describe_audio(CLEAN[:3], verbose=1)
    assert "3/3" in capsys.readouterr().err


# ------------------------------------------------------------------ the result


@pytest.fixture
def description():
    X = [*CLEAN, 0.5 * CLEAN[0], "lost & <gone>.wav"]
    return describe_audio(X, [*LABELS, "<cat>", "owl"], [*SPEAKERS, "s0", "s1"], splits=GroupKFold(2))


def test_a_page_to_read(description):
    lines = str(description).splitlines()
    assert lines[0] == "32 clips, 15.5 s"
    assert "sample rate  16000 Hz: 31" in lines
    assert "groups       5: s0: 7, s1: 7, s2: 6, s3: 6, s4: 6" in lines
    assert "of them      1 unreadable, 2 copies" in lines
    assert f"{len(description.warnings)} warnings:" in lines
    assert [line[2:] for line in lines if line.startswith("* ")] == description.warnings


def test_a_page_for_notebooks(description):
    page = description._repr_html_()
    assert "lost &amp; &lt;gone&gt;.wav" in page
    assert "<gone>" not in page
    assert "<cat>" not in page
    assert page.count("<li>") == len(description.warnings)
    assert "No warnings." in describe_audio(CLEAN)._repr_html_()


def test_plain_values_for_json(description):
    values = description.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["warnings"] == description.warnings
    assert len(values["clips"]) == 32
    assert values["clips"][31]["duration"] is None
    assert values["clips"][0]["error"] is None
    assert values["summary"]["sample_rates"] == {"16000": 31}


def test_a_description_does_not_change(description):
    assert isinstance(description, AudioDescription)
    with pytest.raises(AttributeError):
        description.warnings = []


def test_long_collections_are_told_in_hours():
    summary = {**describe_audio(CLEAN).summary, "seconds": 7325.0}
    assert str(AudioDescription(describe_audio(CLEAN[:1]).frame, summary, [])).startswith("30 clips, 2 h 2 min")


# ------------------------------------------------------------------ samples


def test_samples_keep_their_channels_and_rate():
    stereo = np.stack([noise(0), noise(1)])
    samples, rate = load_samples((stereo, 44100), RATE)
    np.testing.assert_array_equal(samples, stereo)
    assert rate == 44100
    integers = np.array([-32768, 0, 16384], dtype=np.int16)
    samples, rate = load_samples(integers, RATE)
    assert samples.tolist() == [[-1, 0, 0.5]]
    assert (samples.dtype, rate) == (np.float32, RATE)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros((9, 2)), "write waveform.T"),
        (np.zeros((2, 0)), "no samples"),
        (np.array([[0.0, np.inf], [0.0, -np.inf]]), "infinite"),
    ],
)
def test_samples_that_cannot_be_used(clip, message):
    with pytest.raises(ClipValueError, match=message) as caught:
        load_samples(clip, RATE, index=3)
    assert caught.value.index == 3


# ------------------------------------------------------------------ channels that cancel each other


@pytest.mark.parametrize(
    ("channels", "share"),
    [
        ([noise(0)], 1.0),
        ([noise(0), noise(0)], 1.0),
        ([noise(0), noise(1)], 0.5),
        ([noise(0), -noise(0)], 0.0),
        ([0.3 + noise(0), 0.3 - noise(0)], 0.0),
        ([noise(0), 0 * noise(0)], 0.5),
        ([noise(0), -0.9 * noise(0)], 0.0025 / 0.905),
        ([1e-5 * noise(0), -1e-5 * noise(0)], 1.0),
    ],
    ids=["mono", "equal", "different", "opposite", "offset", "one silent", "almost opposite", "both silent"],
)
def test_the_share_of_the_channels_that_is_left_in_mono(channels, share):
    clip = np.stack(channels).astype(np.float32)
    assert describe_audio([clip]).frame["mono_share"].iloc[0] == pytest.approx(share, abs=0.01)
    assert load_mono(clip, RATE).share == pytest.approx(share, abs=0.01)
    half = load_mono((np.round(32767 * clip).astype(np.int16) if share else clip, 2 * RATE), RATE)
    assert half.share == pytest.approx(share, abs=0.01)


def test_opposite_channels_are_told_and_not_taken_for_silence():
    opposite = np.stack([noise(0), -noise(0)])
    description = describe_audio([*CLEAN, opposite], [*LABELS, "dog"])
    found = dict(warning.split(": ", 1) for warning in description.warnings)
    assert found["Cancelled"].startswith("1 clip (clip 30), whose channels are opposite")
    assert "Silent" not in found
    assert description.summary["n_cancelled"] == 1
    assert "of them      1 cancelled" in str(description)
