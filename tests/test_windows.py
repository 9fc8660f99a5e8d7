"""Long recordings: pieces make the whole, windows cover it to its end, and each is predicted as a clip of its own."""

import copy
import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile

from helpers import tone_sequence
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.analysis import label_track, labelled_windows
from skastw.analysis.tables import window_positions
from skastw.analysis.windows import cut_windows
from skastw.audio import isolated_decoding, load_waveform, stream_waveform
from skastw.datasets import make_tones
from skastw.encoders import ParallelCNNEncoder
from skastw.errors import ClipError, ClipValueError
from skastw.features import Frozen
from skastw.network.inference import ROUNDING

RATE = 8000
TINY = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)
NAMES = np.array(["low", "middle", "end"])  # "end" is also a column of the table


@pytest.fixture(scope="module")
def clf():
    clips, y = make_tones(n_clips=48, n_classes=3, sample_rate=RATE, random_state=0)
    params = {"encoder": TINY, "epochs": 40, "muon_lr": 0.03, "sample_rate": RATE, "val_split": None}
    return ASTWClassifier(**params).fit(clips, NAMES[y])


def noise(seconds, rate, channels=1):
    return (0.1 * np.random.default_rng(0).standard_normal((round(seconds * rate), channels))).astype(np.float32)


def write(path, samples, rate, form=None):
    """Write a file piece by piece: libsndfile's Vorbis encoder has no room for minutes at once."""
    with soundfile.SoundFile(path, "w", rate, samples.shape[1] if samples.ndim > 1 else 1, format=form) as file:
        for start in range(0, len(samples), rate):
            file.write(samples[start : start + rate])
    return path


# ------------------------------------------------------------------ a clip piece by piece


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "to"), [(44100, 16000), (16000, 16000), (8000, 16000)])
def test_the_pieces_of_a_file_are_the_file(tmp_path, monkeypatch, form, rate, to):
    monkeypatch.setattr(sys.modules["skastw.audio.decode"], "_BLOCK", 10_001)
    path = write(tmp_path / f"clip.{form}", noise(3, rate, 2), rate)
    pieces = list(stream_waveform(path, to))
    assert len(pieces) > 3
    np.testing.assert_allclose(np.concatenate(pieces), load_waveform(path, to), atol=1e-6)


@pytest.mark.parametrize(
    "clip",
    [
        lambda path: {"path": str(path)},
        lambda path: {"path": str(path), "start": 0.5, "end": 1.25},
        lambda path: {"bytes": path.read_bytes()},
        lambda path: (noise(0.5, 16000)[:, 0], 16000),
        lambda path: noise(0.5, RATE)[:, 0],
    ],
)
def test_any_form_of_a_clip_can_be_streamed(tmp_path, clip):
    given = clip(write(tmp_path / "clip.wav", noise(2, 16000), 16000))
    np.testing.assert_allclose(
        np.concatenate(list(stream_waveform(given, RATE))), load_waveform(given, RATE), atol=1e-6
    )


def test_isolated_decoding_holds_for_streams(tmp_path):
    path = write(tmp_path / "clip.flac", noise(1, 16000), 16000)
    with isolated_decoding(workers=1):
        (piece,) = stream_waveform(path, RATE)
    np.testing.assert_array_equal(piece, load_waveform(path, RATE))


def test_a_clip_shorter_than_one_new_sample_is_a_sample(tmp_path):
    path = write(tmp_path / "clip.wav", np.full(1, 0.5, dtype=np.float32), 48000)
    np.testing.assert_allclose(np.concatenate(list(stream_waveform(path, RATE))), load_waveform(path, RATE))


def test_bad_files_are_told_as_ever(tmp_path):
    whole = write(tmp_path / "whole.wav", noise(1, 16000), 16000).read_bytes()
    cases = {
        "missing": (None, "no such file"),
        "empty": (b"", "is empty"),
        "cut": (whole[:-5000], "is truncated"),
        "text": (b"not audio at all", "cannot be decoded"),
    }
    for name, (content, reason) in cases.items():
        path = tmp_path / f"{name}.wav"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ClipValueError, match=rf"Clip 3 \(.*{name}\.wav.*{reason}"):
            list(stream_waveform(path, RATE, index=3))
    nan = noise(1, 16000)
    nan[15000] = np.nan
    soundfile.write(tmp_path / "nan.wav", nan, 16000, subtype="FLOAT")
    with pytest.raises(ClipValueError, match="has NaN samples"):
        list(stream_waveform(tmp_path / "nan.wav", RATE))
    write(tmp_path / "none.wav", np.zeros((0, 1), dtype=np.float32), RATE)
    with pytest.raises(ClipValueError, match="no samples"):
        list(stream_waveform(tmp_path / "none.wav", RATE))


# ------------------------------------------------------------------ windows


@pytest.mark.parametrize("n", [1, 9, 10, 11, 14, 15, 25, 33])
@pytest.mark.parametrize("hop", [1, 3, 5, 10, 13])
@pytest.mark.parametrize("pieces", [1, 4, 50])
def test_windows_cover_a_waveform_to_its_end(n, hop, pieces):
    waveform = np.arange(n, dtype=np.float32)
    windows = list(cut_windows((waveform[i : i + pieces] for i in range(0, n, pieces)), 10, hop))
    regular = list(range(0, n - 9, hop)) or [0]
    last = [n - 10] if regular[-1] + 10 < n else []
    assert [start for start, _ in windows] == regular + last
    for start, window in windows:
        np.testing.assert_array_equal(window, waveform[start : start + 10])
    assert windows[-1][1][-1] == n - 1


def test_each_window_is_predicted_as_a_clip_of_its_own(clf):
    recording = tone_sequence(0, 1, 2, 1)
    table = clf.predict_windows([recording, recording[:3000]], window=0.5, hop=0.25)
    assert table.columns.tolist() == ["clip", "start", "end", "end (label)", "low", "middle"]
    assert table["clip"].tolist() == [0] * 15 + [1]
    clips = [
        (recording if clip == 0 else recording[:3000])[round(start * RATE) : round(end * RATE)]
        for clip, start, end in table[["clip", "start", "end"]].itertuples(index=False)
    ]
    np.testing.assert_allclose(table.iloc[:, 3:], clf.predict_proba(clips), atol=ROUNDING)
    np.testing.assert_allclose(table.iloc[:, 3:].sum(axis=1), 1, atol=1e-5)


def test_a_recording_of_tones_is_heard_in_its_order(clf):
    table = clf.predict_windows([tone_sequence(0, 1, 0, 2)], window=0.5, hop=0.5)
    assert table.iloc[:, 3:].idxmax(axis=1).tolist() == np.repeat(["low", "middle", "low", "end (label)"], 2).tolist()
    by_mean, by_max, by_vote = (
        clf.predict_windows([tone_sequence(0, 1, 0, 2)], window=0.5, hop=0.5, aggregate=how)
        for how in ("mean", "max", "vote")
    )
    np.testing.assert_allclose(by_vote[["low", "middle", "end (label)"]], [[0.5, 0.25, 0.25]])
    np.testing.assert_allclose(by_mean.iloc[0, 3:].astype(float), table.iloc[:, 3:].mean(), atol=1e-6)
    np.testing.assert_allclose(by_max.iloc[0, 3:].astype(float), table.iloc[:, 3:].max(), atol=1e-6)
    assert by_mean[["start", "end"]].to_numpy().tolist() == [[0.0, 4.0]]


def test_a_class_that_is_named_like_a_column_keeps_its_name(clf):
    windows = clf.predict_windows([tone_sequence(0, 2)], window=0.5, hop=0.5)
    table = labelled_windows(windows)
    assert table.columns[5:].tolist() == ["p(end)", "p(low)", "p(middle)"]
    assert table["predicted"].tolist() == ["low", "low", "end", "end"]
    assert label_track(windows).splitlines()[-1].split("\t")[2].startswith("end 0.")


def test_parts_of_a_recording_have_their_own_names(clf, tmp_path):
    path = write(tmp_path / "night.wav", tone_sequence(0, 1, 2), RATE)
    parts = [{"path": path, "start": start, "end": start + 1} for start in (0, 1)]
    windows = clf.predict_windows(parts, window=0.5, hop=0.5)
    assert windows["clip"].unique().tolist() == [f"{path}#t=0,1", f"{path}#t=1,2"]
    with pytest.raises(ValueError, match="Got 2 recordings for one label track"):
        label_track(windows)


def test_labels_of_windows_that_touch_are_joined_across_others():
    rows = [(0, 0.0, 2.0, 0.9, 0.1), (0, 1.0, 3.0, 0.2, 0.8), (0, 2.0, 4.0, 0.7, 0.3), (0, 6.0, 8.0, 0.6, 0.4)]
    windows = pd.DataFrame(rows, columns=["clip", "start", "end", "owl", "wind"])
    assert [line.split("\t") for line in label_track(windows).splitlines()] == [
        ["0.000000", "4.000000", "owl 0.90"],
        ["1.000000", "3.000000", "wind 0.80"],
        ["6.000000", "8.000000", "owl 0.60"],
    ]


def test_windows_do_not_depend_on_blocks_or_on_the_other_clips(clf, tmp_path, monkeypatch):
    paths = [
        write(tmp_path / f"{i}.flac", tone_sequence(*order), RATE)
        for i, order in enumerate([(0, 1, 2), (2, 2), (1, 0)])
    ]
    together = clf.predict_windows(paths, window=0.4)
    assert together["clip"].unique().tolist() == [str(path) for path in paths]
    monkeypatch.setattr(sys.modules["skastw.analysis.windows"], "_BLOCK", 5000)
    alone = pd.concat([clf.predict_windows(path, window=0.4) for path in paths], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone, atol=ROUNDING)


@pytest.mark.parametrize("aggregate", [None, "mean", "vote"])
def test_a_clip_that_cannot_be_read_has_a_row_without_numbers(clf, tmp_path, aggregate):
    good = write(tmp_path / "good.wav", tone_sequence(0), RATE)
    cut = tmp_path / "cut.wav"  # found out at its end, when windows of it were there already
    cut.write_bytes(good.read_bytes()[:-5000])
    clips = [str(cut), str(good), "missing.wav"]
    with pytest.raises(ClipError, match=r"cut\.wav.* is truncated"):
        clf.predict_windows(clips, window=0.25, aggregate=aggregate)
    clf.set_params(on_error="ignore")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            table = clf.predict_windows(clips, window=0.25, aggregate=aggregate)
    finally:
        clf.set_params(on_error="raise")
    assert [clip.index for clip in clf.failed_] == [0, 2]
    assert table["clip"].drop_duplicates().tolist() == clips
    failed = table[table["clip"] != str(good)]
    assert len(failed) == 2
    assert failed.iloc[:, 1:].isna().all(axis=None)
    assert table[table["clip"] == str(good)].notna().all(axis=None)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"window": 0}, "window=0, expected seconds"),
        ({"window": "1"}, "window='1'"),
        ({"window": float("nan")}, "window=nan"),
        ({"window": 1, "hop": 0}, "hop=0"),
        ({"window": 1, "hop": -1.0}, r"hop=-1\.0"),
        ({"window": 1, "aggregate": "median"}, "aggregate='median', expected one of None, 'mean', 'max', 'vote'"),
    ],
)
def test_lengths_and_names_that_mean_nothing_are_errors(clf, params, match):
    with pytest.raises(ValueError, match=match):
        clf.predict_windows([tone_sequence(0)], **params)


def test_windows_need_a_front_end_and_a_fit(clf):
    frames = [np.zeros((20, 8), dtype=np.float32) + i for i in range(4)]
    network = ASTWClassifier(features="precomputed", encoder=TINY, epochs=1, val_split=None).fit(frames, [0, 1, 0, 1])
    with pytest.raises(ValueError, match="expected a front end"):
        network.predict_windows(frames, window=1)
    with pytest.raises(AttributeError, match="not fitted"):
        ASTWClassifier().predict_windows([tone_sequence(0)], window=1)


# ------------------------------------------------------------------ embeddings


def embedders():
    """Return featurizers that give a table: statistics of log-mel frames, and the outputs of a frozen network."""
    frozen = Frozen(encoder=TINY, features="log_mel")
    params = [{"output": "statistics"}, {"output": "embedding", "features": frozen, "pooling": "max"}]
    return [ASTWFeaturizer(sample_rate=RATE, **chosen).fit([tone_sequence(0)]) for chosen in params]


def test_each_window_has_the_embedding_of_a_clip_of_its_own(clf):
    recordings = [tone_sequence(0, 1, 2, 1), tone_sequence(0)[:3000]]
    for model in (clf, *embedders()):
        table = model.transform_windows(recordings, window=0.5, hop=0.4)
        assert table.columns.tolist() == ["clip", "start", "end", *model.get_feature_names_out()]
        assert table["clip"].tolist() == [0] * 10 + [1]
        assert table[["start", "end"]].to_numpy()[-2:].tolist() == [[3.5, 4.0], [0.0, 0.375]]
        windows = [
            recordings[clip][round(start * RATE) : round(end * RATE)]
            for clip, start, end in table[["clip", "start", "end"]].itertuples(index=False)
        ]
        np.testing.assert_allclose(table.iloc[:, 3:], model.transform(windows), atol=1e-4)
        assert window_positions(table).tolist() == [0] * 10 + [1]


def test_embeddings_of_windows_leave_out_clips_that_cannot_be_read(clf, tmp_path):
    good = write(tmp_path / "good.wav", tone_sequence(0), RATE)
    clips = ["lost.wav", str(good), "missing.wav"]
    for model in (clf, *embedders()):
        with pytest.raises(ClipError, match=r"lost\.wav.*no such file"):
            model.transform_windows(clips, window=0.25)
        model = copy.copy(model).set_params(on_error="ignore")
        table = model.transform_windows(clips, window=0.25)
        assert [clip.index for clip in model.failed_] == [0, 2]
        assert window_positions(table).tolist() == [0, *[1] * 7, 2]
        assert table.iloc[[0, -1], 1:].isna().all(axis=None)
        assert table.iloc[1:-1].notna().all(axis=None)


def test_windows_of_frames_and_of_no_length_are_errors(clf):
    with pytest.raises(AttributeError, match="transform_windows"):
        ASTWFeaturizer(sample_rate=RATE).fit([tone_sequence(0)]).transform_windows([tone_sequence(0)], window=1)
    for model in (clf, *embedders()):
        with pytest.raises(ValueError, match="hop=0, expected seconds"):
            model.transform_windows([tone_sequence(0)], window=1, hop=0)


MEMORY = """
import resource, sys
from skastw import ASTWClassifier, ASTWFeaturizer
clf = ASTWClassifier.from_pretrained(sys.argv[1])
clf.predict_windows([sys.argv[2]], window=2.0, hop=2.0)  # what libraries take once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = clf.predict_windows([sys.argv[3]], window=2.0, hop=2.0)
print(len(table), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in kilobytes on Linux")
def test_an_hour_takes_no_more_memory_than_minutes(clf, tmp_path):
    model = clf.save_pretrained(tmp_path / "model")
    paths = []
    for minutes in (10, 60):
        paths.append(tmp_path / f"{minutes}.flac")
        with soundfile.SoundFile(paths[-1], "w", 24000, 1) as file:
            for _ in range(minutes):
                file.write(np.zeros(60 * 24000, dtype=np.int16))
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, model, *map(str, paths)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    n_windows, more = map(int, result.stdout.split())
    assert n_windows == 1800
    assert more < 60  # MiB; an hour at 24 kHz is 330
