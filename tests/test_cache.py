"""The frames that fits, searches, processes and predictions share on disk: the same results, with fewer decodes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from helpers import needs_fork, start_child
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.audio.isolation import Decoder, isolated_decoding
from skastw.audio.limits import Limits
from skastw.cli import cli
from skastw.data import cache as cache_module
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ClipError
from skastw.features import MFCC, PCEN, Features, LogMel
from skastw.features._base import FeaturesModule

CLIPS, Y = make_tones(n_clips=12, n_classes=2, duration=(0.1, 0.2), random_state=0)
TINY = ASTWEncoder(d_model=8, num_heads=2, num_layers=1, ff_mult=2)


@pytest.fixture
def files(tmp_path):
    """Return the paths of twelve tones of two classes."""
    paths = [tmp_path / "clips" / f"{i}.wav" for i in range(len(CLIPS))]
    paths[0].parent.mkdir()
    for path, clip in zip(paths, CLIPS, strict=True):
        soundfile.write(path, clip, 16000, subtype="FLOAT")
    return paths


@pytest.fixture
def decodes(monkeypatch):
    """Return the list of the sources that are decoded from now on."""
    sources, call = [], Decoder.__call__

    def counting(self, source, **bounds):
        sources.append(source)
        return call(self, source, **bounds)

    monkeypatch.setattr(Decoder, "__call__", counting)
    return sources


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "frames"


def classifier(**params):
    return ASTWClassifier(**{"encoder": TINY, "epochs": 1, "device": "cpu", "random_state": 0, **params})


def frames(clips, folder=None, **params):
    return list(ASTWFeaturizer(cache_dir=folder, **params).fit_transform(list(clips)))


def entries(folder):
    return sorted(folder.glob("??/*"))


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def age(paths, seconds=1000):
    """Let entries be as old as before the start of this process, the first of them the oldest."""
    for i, path in enumerate(paths):
        os.utime(path, (cache_module._BEGAN - seconds + i,) * 2)


# ------------------------------------------------------------------ what it saves


def test_a_search_decodes_each_clip_once_and_finds_the_same(files, folder, decodes):
    grid = {"adam_lr": [1e-3, 1e-4], "label_smoothing": [0.0, 0.1]}

    def search(**params):
        before = len(decodes)
        found = GridSearchCV(classifier(**params), grid, cv=3).fit(files, Y)
        return found, found.predict_proba(files), len(decodes) - before

    plain, probabilities, n_plain = search()
    cached, cached_probabilities, n_cached = search(cache_dir=folder)
    assert (n_plain, n_cached) == (4 * 3 * 12 + 2 * 12, 12)
    np.testing.assert_array_equal(cached_probabilities, probabilities)
    for name in ("mean_test_score", "split0_test_score", "rank_test_score"):
        np.testing.assert_array_equal(cached.cv_results_[name], plain.cv_results_[name])
    for name, weights in plain.best_estimator_.model_.state_dict().items():
        assert torch.equal(cached.best_estimator_.model_.state_dict()[name], weights)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_fit_predict_and_the_featurizer_share_frames(files, folder, decodes, n_jobs):
    expected = frames(files)
    clf = classifier(cache_dir=folder, n_jobs=n_jobs).fit(files, Y)
    decodes.clear()
    assert_equal(frames(files, folder, n_jobs=n_jobs), expected)
    clf.predict(files)
    clf.explain(files[0])
    make_pipeline(ASTWFeaturizer(cache_dir=folder), classifier(features="precomputed")).fit(files, Y)
    assert decodes == []


def test_a_known_file_is_not_read_again(files, folder, monkeypatch):
    read, file_digest = [], cache_module.hashlib.file_digest
    monkeypatch.setattr(
        cache_module.hashlib, "file_digest", lambda f, kind: read.append(f.name) or file_digest(f, kind)
    )
    frames(files, folder)
    frames(files, folder)
    assert len(read) == 24, "files that have just been written are read, because their times are too coarse"

    monkeypatch.setattr(cache_module, "_SETTLED", -1)
    frames(files, folder)
    frames(files, folder)
    assert len(read) == 36


@pytest.mark.parametrize("settled", [-1, 3])
def test_a_file_that_changes_is_computed_again(files, folder, settled, monkeypatch):
    monkeypatch.setattr(cache_module, "_SETTLED", settled)
    frames(files, folder)
    before = files[0].stat()
    content = bytearray(files[0].read_bytes())
    content[-400:] = bytes(400)
    files[0].write_bytes(content)
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files[0].stat().st_size == before.st_size
    assert_equal(frames(files, folder), frames(files))


def test_a_file_that_changes_while_it_is_read_is_not_kept(files, folder, monkeypatch):
    call = Decoder.__call__

    def changing(self, source, **bounds):
        result = call(self, source, **bounds)
        soundfile.write(source, np.zeros(1600), 16000)
        return result

    monkeypatch.setattr(Decoder, "__call__", changing)
    frames(files[:1], folder)
    assert entries(folder) == []


# ------------------------------------------------------------------ keys


def test_the_same_content_is_one_entry(files, folder, tmp_path):
    copied = shutil.copy(files[0], tmp_path / "copy.wav")
    sound = {"path": str(files[0])}, {"bytes": files[0].read_bytes(), "path": None}
    assert_equal(frames([files[0], str(files[0]), copied, *sound], folder), frames([files[0]] * 5))
    assert len(entries(folder)) == 1

    samples = CLIPS[1]
    forms = [samples, (samples, 16000), {"array": samples, "sampling_rate": 16000}, torch.from_numpy(samples)]
    assert_equal(frames(forms, folder), frames(forms))
    assert len(entries(folder)) == 2


class Shifted(FeaturesModule):
    n_features = 1

    def __init__(self, shift, hidden=0.0):
        super().__init__()
        self.shift = shift
        self.register_buffer("hidden", torch.tensor(hidden), persistent=False)

    def forward(self, waveform, lengths):
        return waveform[:, ::160, None] + self.shift, lengths


def foreign(shift, hidden=0.0):
    """Return a front end of a class that always has the same name and parameters."""

    class Own(Features):
        def build(self, sample_rate):
            return Shifted(shift, hidden)

        def frames_per_second(self, sample_rate):
            return sample_rate / 160

    return Own()


SETTINGS = [
    {},
    {"sample_rate": 8000},
    {"features": LogMel(n_mels=40)},
    {"features": LogMel(fmax=7000.0)},
    {"features": MFCC()},
    {"features": PCEN()},
    {"features": PCEN(gain=0.5)},
    {"features": foreign(1.0)},
    {"features": foreign(2.0)},
]
HALVES = [{"start": 0.0, "end": 0.05}, {"start": 0.05}, {"end": 0.06}, {}]


def test_other_settings_and_parts_share_nothing(files, folder):
    clips = [files[0], *({"path": files[0], **half} for half in HALVES[:3])]
    clips += [
        CLIPS[1],
        (CLIPS[1], 22050),
        CLIPS[1].astype(np.float64),
        CLIPS[1].reshape(1, -1),
        np.int16(9000 * CLIPS[1]),
    ]
    for _ in range(2):
        for settings in SETTINGS:
            assert_equal(frames(clips, folder, **settings), frames(clips, **settings))
    assert len(entries(folder)) == len(SETTINGS) * len(clips)

    frames(clips, folder, features=foreign(1.0, hidden=3.0))
    assert len(entries(folder)) == (len(SETTINGS) + 1) * len(clips), "other weights, although the frames are the same"


def test_another_version_shares_nothing(files, folder, decodes, monkeypatch):
    frames(files, folder)
    monkeypatch.setattr(cache_module, "VERSION", 2)
    frames(files, folder)
    assert len(decodes) == 24


def test_limits_of_the_decoder_also_hold_for_cached_clips(files, folder):
    frames(files[:1], folder)
    with isolated_decoding(limits=Limits(duration=0.01)), pytest.raises(ClipError, match=r"Limits\.duration"):
        frames(files[:1], folder)


def test_a_front_end_that_fails_on_noise_is_used_without_a_cache(files, folder, monkeypatch):
    def only_short(self, waveform, lengths):
        if waveform.shape[1] == 16000:
            raise RuntimeError("too long")
        return waveform[:, ::160, None], lengths

    monkeypatch.setattr(Shifted, "forward", only_short)
    with pytest.warns(UserWarning, match="cannot process a second of noise: too long"):
        assert len(frames(files, folder, features=foreign(1.0))) == 12
    assert not folder.exists()


# ------------------------------------------------------------------ clips that fail or warn


def test_clips_that_cannot_be_used_are_not_kept(files, folder, decodes):
    broken = files[3].read_bytes()
    files[3].write_bytes(broken[:100])
    for _ in range(2):
        featurizer = ASTWFeaturizer(cache_dir=folder, on_error="ignore").fit(files)
        featurizer.transform([*files, folder / "lost.wav", np.full(100, np.nan)])
        assert [clip.index for clip in featurizer.failed_] == [3, 12, 13]
    assert len(decodes) == 12 + 1 + 1 + 1  # the damaged and the missing file are tried again

    files[3].write_bytes(broken)
    assert_equal(frames(files, folder), frames(files))


def test_a_wrong_form_is_an_error_although_its_content_is_known(files, folder):
    samples = CLIPS[1]
    frames([files[0], samples], folder)
    wrong = [
        files[0].read_bytes(),
        (files[0], 16000),
        (16000, samples),
        (samples, "16000"),
        {"array": samples},
        {"array": samples, "sample_rate": 16000, "sampling_rate": 8000},
        {"bytes": samples, "sample_rate": 16000},
        {"path": samples, "sample_rate": 16000},
        {"path": str(files[0]), "start": "0"},
        None,
    ]
    for clip in wrong:
        with pytest.raises(ClipError):
            frames([clip], folder)


def test_clips_that_warn_warn_again(files, folder, monkeypatch):
    monkeypatch.setattr(cache_module, "_SETTLED", float("inf"))  # keep frames alone, however long the test takes
    content = bytearray(files[0].read_bytes())
    position = content.index(b"data") + 4
    content[position : position + 4] = bytes(4)  # a header that announces 0 bytes
    files[0].write_bytes(content)
    soundfile.write(files[1], np.stack([CLIPS[1], -CLIPS[1]], axis=1), 16000)
    for _ in range(3):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            classifier(cache_dir=folder).fit(files, Y)
        assert any("cancel each other" in str(warning.message) for warning in caught)
        assert any(str(warning.message).startswith(f"{str(files[0])!r}: ") for warning in caught)
        assert {warning.filename for warning in caught} == {__file__}
    assert len(entries(folder)) == 11


# ------------------------------------------------------------------ the folder


def test_damaged_entries_are_replaced(files, folder, decodes):
    expected = frames(files, folder)
    whole = {path: path.read_bytes() for path in entries(folder)}
    paths, changed = list(whole), bytearray(whole[entries(folder)[0]])
    changed[-1] ^= 1
    damage = [changed, b"", whole[paths[2]][:-8], whole[paths[3]] + b"0", whole[paths[5]], b"x" * 5000, bytes(32)]
    for path, content in zip(paths, damage, strict=False):
        path.write_bytes(content)

    decodes.clear()
    assert_equal(frames(files, folder), expected)
    assert len(decodes) == len(damage)
    assert {path: path.read_bytes() for path in entries(folder)} == whole


@needs_fork
def test_processes_write_the_same_folder_at_once(files, folder):
    expected = frames(files)

    def work(seed):
        order = np.random.default_rng(seed)
        for _ in range(10):
            chosen = order.permutation(12)
            assert_equal(frames([files[i] for i in chosen], folder), [expected[i] for i in chosen])
            if seed == 0:
                shutil.rmtree(folder, ignore_errors=True)

    children = [start_child(lambda seed=seed: work(seed)) for seed in range(3)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_equal(frames(files, folder), expected)
    assert len(entries(folder)) == 12
    assert all(len(path.name) == 64 for path in entries(folder)), "no temporary files"


def test_the_folder_may_be_removed_during_a_fit(files, folder, monkeypatch):
    expected = classifier().fit(files, Y).predict_proba(files)
    call = Decoder.__call__

    def removing(self, source, **bounds):
        shutil.rmtree(folder, ignore_errors=True)
        return call(self, source, **bounds)

    monkeypatch.setattr(Decoder, "__call__", removing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clf = classifier(cache_dir=folder).fit(files, Y)
        shutil.rmtree(folder)
        np.testing.assert_array_equal(clf.predict_proba(files), expected)
        (folder / "skastw-frames.txt").unlink(missing_ok=True)  # as if somebody had begun to remove the folder
        np.testing.assert_array_equal(clf.predict_proba(files), expected)
        frames([CLIPS[0]], folder)
    assert (folder / "skastw-frames.txt").exists()


def test_the_size_is_bounded_and_old_entries_go_first(folder):
    noise = np.random.default_rng(0).normal(size=(60, 1600))
    old = frames(noise[:20], folder, cache_size=2e-4)
    in_order = sorted(entries(folder), key=lambda path: path.stat().st_mtime_ns)
    age(in_order)
    others = [folder / name for name in ("notes.txt", in_order[0].parent.name + "/own.frames", "own/" + "0" * 64)]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(100_000))
        os.utime(path, (1, 1))

    kept_by_use = frames(noise[:5], folder, cache_size=2e-4)  # used now, and therefore not the oldest
    assert_equal(kept_by_use, old[:5])
    frames(noise[20:50], folder, cache_size=1.6e-4)  # another limit, as a process that starts now
    present = [path.exists() for path in in_order]
    assert all(present[:5])
    assert 0 < sum(present[5:]) < 15
    assert sorted(present[5:]) == present[5:], "the oldest went first"
    assert len([path for path in entries(folder) if len(path.name) == 64]) * 4096 <= 1.6e5
    assert all(path.stat().st_size == 100_000 for path in others)


def test_entries_of_this_run_stay_and_a_full_folder_is_said_once(folder):
    noise = np.random.default_rng(0).normal(size=(40, 1600))
    with pytest.warns(UserWarning, match="is full of frames that this process uses; raise cache_size") as caught:
        results = [frames(noise, folder, cache_size=1e-4) for _ in range(2)]
    assert len(caught) == 1
    assert 20 <= len(entries(folder)) <= 24
    for result in results:
        assert_equal(result, frames(noise))


@pytest.mark.parametrize("problem", ["a file", "other files", "a full disk"])
def test_without_a_place_to_write_the_fit_goes_on_with_one_warning(files, folder, problem, monkeypatch):
    expected = classifier().fit(files, Y).predict_proba(files)
    message = {"a file": "File exists|Not a directory", "other files": "other files", "a full disk": "No space"}[
        problem
    ]
    if problem == "a file":
        folder.write_text("mine")
    elif problem == "other files":
        (folder / "thesis").mkdir(parents=True)
    else:
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    with pytest.warns(UserWarning, match=message) as caught:
        results = [classifier(cache_dir=folder).fit(files, Y).predict_proba(files) for _ in range(2)]
    assert_equal(results, [expected] * 2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    left = [path for path in folder.parent.rglob("*") if path.is_file() and path.suffix != ".wav"]
    assert {path.name for path in left} <= {"frames", "skastw-frames.txt"}


def test_nothing_is_unpickled(files, folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    expected = frames(files, folder)
    for path in entries(folder):
        path.write_bytes(pickle.dumps(Trap()))
    assert_equal(frames(files, folder), expected)
    assert not (tmp_path / "executed").exists()


# ------------------------------------------------------------------ the parameter


def test_it_is_not_a_part_of_the_model(files, folder, tmp_path, decodes):
    expected = classifier(checkpoint_dir=tmp_path / "plain").fit(files, Y)
    clf = clone(classifier(checkpoint_dir=tmp_path / "cached", cache_dir=folder)).fit(files, Y)
    assert clf.cache_dir == folder
    assert os.listdir(tmp_path / "plain") == os.listdir(tmp_path / "cached")
    saved = [Path(model.save_pretrained(tmp_path / name)) for name, model in (("a", expected), ("b", clf))]
    params = [json.loads((path / "config.json").read_text(encoding="utf-8"))["params"] for path in saved]
    assert params[0] == params[1]

    loaded = ASTWClassifier.from_pretrained(saved[1]).set_params(cache_dir=folder)
    decodes.clear()
    np.testing.assert_array_equal(loaded.predict(files), expected.predict(files))
    assert len(decodes) == 12  # of the prediction without a cache


def test_windows_of_recordings_are_not_kept(files, folder):
    clf = classifier().fit(files, Y).set_params(cache_dir=folder)
    clf.predict_windows(files[:1], window=0.05)
    assert not folder.exists()


@pytest.mark.parametrize(("name", "value"), [("cache_dir", 3), ("cache_size", 0), ("cache_size", "10 GB")])
def test_values_that_are_not_valid_are_refused(name, value):
    for estimator in (ASTWFeaturizer(), classifier()):
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            estimator.set_params(**{name: value}).fit(list(CLIPS), Y)


def test_commands_take_the_folder(make_tone_folder, tmp_path, decodes):
    clips, cached = str(make_tone_folder(12)), str(tmp_path / "frames of 'tones'")
    options = ["--recipe", "tiny", "--quiet", *(f"--param={p}" for p in ("epochs=1", "min_steps=0"))]
    run = ["train", "--data", clips, "--output", str(tmp_path / "run"), "--cache-dir", cached, *options]
    for command in (run, ["predict", clips], ["evaluate", "--data", clips]):
        others = [] if command is run else ["--model", str(tmp_path / "run" / "model"), "--cache-dir", cached]
        result = CliRunner().invoke(cli, [*command, *others])
        assert result.exit_code == 0, result.output
        if command is run:
            decodes.clear()
    assert decodes == []
    assert "cache" not in (tmp_path / "run" / "run.yaml").read_text().replace("cache: auto", "")
