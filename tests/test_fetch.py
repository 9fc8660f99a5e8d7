"""Public data sets, from a server on 127.0.0.1 where things go wrong: all of a set, or one clear error."""

import errno
import hashlib
import io
import logging
import os
import re
import resource
import shutil
import signal
import stat
import sys
import tarfile
import time
import zipfile
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pooch
import pytest
from huggingface_hub import constants

from helpers import encode, run_in_child, start_child
from skastw.audio import decode
from skastw.datasets import (
    _download,
    dataset_names,
    emodb,
    esc50,
    fetch_dataset,
    fsdd,
    load_spoken_digits,
    make_tones,
    minds14,
    ravdess,
    speech_commands,
    urbansound8k,
)
from skastw.datasets.fetch import _SETS
from skastw.errors import DataError, FetchError, SkastwError

DATA = Path(os.environ["SKASTW_DATA"]) if "SKASTW_DATA" in os.environ else None
EMOTIONS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
ESC10 = "dog rooster rain sea_waves crackling_fire crying_baby sneezing clock_tick helicopter chainsaw".split()  # noqa: SIM905
ANIMALS = "cat cow crow dog frog hen insects pig rooster sheep".split()  # noqa: SIM905
TRANSPORT = "airplane car_horn engine helicopter train".split()  # noqa: SIM905

(TONE,), _ = make_tones(n_clips=1, duration=(0.01, 0.01), sample_rate=8000, random_state=0)


WAV, FLAC, OGG = encode(TONE, 8000), encode(TONE, 8000, "FLAC"), encode(TONE, 8000, "OGG", "VORBIS")


# ------------------------------------------------------------------ small sets in the layouts of their authors


def esc50_files():
    known = [*ANIMALS, *TRANSPORT, *(name for name in ESC10 if name not in ANIMALS + TRANSPORT)]
    rows, files = ["filename,fold,target,category,esc10,src_file,take"], {"README.md": b"ESC-50"}
    for target, fold in product(range(50), range(1, 6)):
        name = known[target] if target < len(known) else f"sound_{target}"
        source = 1000 * fold + target
        rows.append(f"{fold}-{source}-A-{target}.wav,{fold},{target},{name},{name in ESC10},{source},A")
        files[f"audio/{fold}-{source}-A-{target}.wav"] = WAV
    return {**files, "meta/esc50.csv": "\n".join(rows).encode()}


def ravdess_files():
    names = product(range(1, 25), range(1, 9), (1, 2), (1, 2))
    files = [(a, f"03-01-{e:02d}-{i:02d}-{s:02d}-01-{a:02d}") for a, e, i, s in names if (e, i) != (1, 2)]
    return {f"Actor_{actor:02d}/{name}.wav": WAV for actor, name in files}


def emodb_files():
    files = {"erkennung.txt": b"", "lablaut/03a01Fa.lablaut": b"x"}
    speakers = ["03", "08", "09", *map(str, range(10, 17))]
    return files | {f"wav/{speaker}a01{letter}a.wav": WAV for speaker, letter in product(speakers, "WLEAFTN")}


def urbansound8k_files():
    rows, files = ["slice_file_name,fsID,start,end,salience,fold,classID,class"], {}
    for fold, (number, name) in product(range(1, 11), enumerate(urbansound8k._CLASSES)):
        for occurrence in range(2):
            file = f"{100 * fold + number}-{number}-{occurrence}-0.wav"
            rows.append(f"{file},{100 * fold + number},0.5,4.5,1,{fold},{number},{name}")
            files[f"audio/fold{fold}/{file}"] = WAV
        files[f"audio/fold{fold}/.DS_Store"] = b"x"
    return {**files, "metadata/UrbanSound8K.csv": "\n".join(rows).encode()}


def speech_commands_files():
    parts = {"0a1b": "train", "1c2d": "train", "2e3f": "validation", "4a5b": "test"}
    names = {
        f"{word}/{speaker}_nohash_0.wav": part for word in speech_commands._WORDS for speaker, part in parts.items()
    }
    files = dict.fromkeys(names, WAV) | {f"_background_noise_/{noise}.wav": WAV for noise in ("pink", "tap")}
    files |= {"README.md": b"x", "_background_noise_/README.md": b"x"}
    for part, file in {"validation": "validation_list.txt", "test": "testing_list.txt"}.items():
        files[file] = "".join(f"{name}\n" for name in names if names[name] == part).encode()
    return files


def fsdd_files():
    speakers = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
    return {f"recordings/{d}_{s}_{take}.wav": WAV for d, s, take in product(range(10), speakers, range(2))}


def minds14_parquet():
    audio = [{"bytes": WAV, "path": f"en-US~X/{i}.wav"} for i in range(28)]
    texts = {"transcription": ["ja, gerne"] * 28, "english_transcription": ["NA"] * 28}
    table = pd.DataFrame({"audio": audio, **texts, "intent_class": [i % 14 for i in range(28)], "lang_id": [4] * 28})
    buffer = io.BytesIO()
    table.to_parquet(buffer)
    return buffer.getvalue()


def zipped(files, root=""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(root + name, content)
    return buffer.getvalue()


def tarred(files, root=""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(root + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class Case:
    """A set, what its archive holds, and what should come out. ``scale`` are the counts of a smaller copy."""

    name: str
    module: object
    pack: object
    scale: dict = field(default_factory=dict)
    n_clips: int = 0
    n_classes: int = 0
    n_groups: int = 0
    n_splits: int = 0
    columns: tuple = ()

    def __str__(self):
        return self.name

    @property
    def set(self):
        return self.name.partition("-")[0]

    @property
    def archive(self):
        return _SETS[self.set].archive

    def change(self, monkeypatch, **archive):
        """Give the archive of the set other properties."""
        changed = replace(_SETS[self.set], archive=replace(self.archive, **archive))
        monkeypatch.setitem(_SETS, self.set, changed)


CASES = [
    Case(
        *("esc50", esc50, lambda: zipped(esc50_files(), "ESC-50-33c8ce9/"), {"_CLIPS_PER_CLASS": 5}),
        *(250, 50, 250, 5, ("fold", "esc10", "source", "take")),
    ),
    Case(
        *("ravdess", ravdess, lambda: zipped(ravdess_files()), {"_REPETITIONS": (1,)}),
        *(720, 8, 24, 6, ("actor", "gender", "intensity", "statement", "repetition", "fold")),
    ),
    Case(
        *("emodb", emodb, lambda: zipped(emodb_files())),
        {"_EMOTIONS": {letter: (emotion, 10) for letter, (emotion, _) in emodb._EMOTIONS.items()}},
        *(70, 7, 10, 10, ("speaker", "gender", "age", "text", "version")),
    ),
    Case(
        *("urbansound8k", urbansound8k, lambda: tarred(urbansound8k_files(), "UrbanSound8K/")),
        {"_N_CLIPS": 200},
        *(200, 10, 100, 10, ("fold", "source", "start", "end", "salience")),
    ),
    Case(
        *("speech_commands", speech_commands, lambda: tarred(speech_commands_files(), "./")),
        {"_N_CLIPS": {"train": 70, "validation": 35, "test": 35}},
        *(140, 35, 4, 1, ("speaker", "take", "split")),
    ),
    Case(
        *("fsdd", fsdd, lambda: zipped(fsdd_files(), "free-spoken-digit-dataset-d6938f9/")),
        {"_N_TAKES": 2, "_N_TEST_TAKES": 1},
        *(120, 10, 6, 1, ("speaker", "accent", "take")),
    ),
    Case(
        *("minds14-en-US", minds14, minds14_parquet, {}),
        *(28, 14, 0, 0, ("transcription", "english_transcription")),
    ),
]
ARCHIVES = [case for case in CASES if case.module is not minds14]
FSDD = next(case for case in CASES if case.name == "fsdd")


@pytest.fixture
def server(hub_server, monkeypatch):
    """Return the server as it should be: nothing goes wrong."""
    hub_server.rules.clear()
    hub_server.seen.clear()
    hub_server.files.clear()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return hub_server


@pytest.fixture(autouse=True)
def nobody_answers(monkeypatch, request):
    """Make all sets small, and let no test ask the real servers."""
    if "real" in request.node.name:
        return
    for case in CASES:
        for name, value in case.scale.items():
            monkeypatch.setattr(case.module, name, value)
        case.change(monkeypatch, url="http://127.0.0.1:9/x.zip")


PACKED = {}


def offer(case, server, monkeypatch, content=None, **archive):
    """Put the archive of a set, or something else, on the server."""
    if case.name not in PACKED:
        PACKED[case.name] = case.pack()
    content = PACKED[case.name] if content is None else content
    server.files["/data.bin"] = content
    known = {"url": f"{server.url}/data.bin", "checksum": "sha256:" + hashlib.sha256(content).hexdigest(), **archive}
    case.change(monkeypatch, **known)


def fetch(case, home, **how):
    return fetch_dataset(case.set, data_home=home, **{"verbose": False, "delay": 0, **how})


def whole(case, home):
    """Check that a set is there in full, without asking the server, and that nothing else is."""
    clips = fetch(case, home, download_if_missing=False)
    assert len(clips.data) == case.n_clips
    assert all(Path(path).read_bytes() == WAV for path in clips.data)
    assert sorted(path.name for path in home.iterdir() if path.suffix != ".lock") == [case.name]
    return clips


def unpacked(files, folder):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


# ------------------------------------------------------------------ what comes out


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_set_is_fetched_once_and_is_a_bunch_with_its_folds(case, server, monkeypatch, tmp_path):
    offer(case, server, monkeypatch)
    clips = fetch(case, tmp_path)
    asked = len(server.seen)
    assert asked
    assert whole(case, tmp_path).data == clips.data
    assert len(server.seen) == asked

    assert all(isinstance(path, str) and path.startswith(str(tmp_path)) for path in clips.data)
    assert len(set(clips.data)) == case.n_clips
    assert decode(clips.data[0])[1] == 8000
    assert clips.target.dtype.kind == "U"
    assert len(clips.target_names) == case.n_classes
    assert set(clips.target) == set(clips.target_names)
    assert len(set(Counter(clips.target).values())) == 1 or case.module is ravdess
    assert clips.frame is None
    for word in ("Licence:", "Cite:"):
        assert word in clips.DESCR
    if case.n_groups:
        assert len(clips.groups) == case.n_clips
        assert len(set(clips.groups)) == case.n_groups


@pytest.mark.parametrize("case", [case for case in CASES if case.n_splits], ids=str)
def test_official_folds_mix_no_groups_and_test_each_clip_once(case, server, monkeypatch, tmp_path):
    offer(case, server, monkeypatch)
    clips = fetch(case, tmp_path)
    folds = clips.cv if isinstance(clips.cv, list) else list(clips.cv.split())
    assert len(folds) == case.n_splits
    tested = np.concatenate([test for _, test in folds])
    assert len(set(tested)) == len(tested)
    assert case.n_splits == 1 or len(tested) == case.n_clips
    for train, test in folds:
        assert not set(train) & set(test)
        assert set(clips.target[train]) == set(clips.target[test]) == set(clips.target_names)
        shared = set(clips.groups[train]) & set(clips.groups[test])
        assert len(shared) == (case.n_groups if case.module is fsdd else 0)  # whose authors split by take


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frames_hold_all_that_is_known(case, server, monkeypatch, tmp_path):
    offer(case, server, monkeypatch)
    clips = fetch(case, tmp_path)
    framed = fetch(case, tmp_path, as_frame=True)
    assert framed.frame.columns.tolist() == ["audio", "target", *case.columns]
    assert framed.data.columns.tolist() == ["audio"]
    assert framed.frame["audio"].tolist() == clips.data
    assert framed.target.tolist() == clips.target.tolist()
    assert not framed.frame.isna().any(axis=None)
    data, target = fetch(case, tmp_path, return_X_y=True)
    assert data == clips.data
    assert target.tolist() == clips.target.tolist()
    data, target = fetch(case, tmp_path, return_X_y=True, as_frame=True)
    assert data.shape == (case.n_clips, 1)
    assert target.name == "target"


def test_what_names_and_tables_say_is_told(server, monkeypatch, tmp_path):
    said = {}
    for case in CASES:
        offer(case, server, monkeypatch)
        frame = fetch(case, tmp_path / case.name, as_frame=True).frame
        frame["audio"] = frame["audio"].map(lambda path: Path(path).stem)
        said[case.name] = frame.set_index("audio")
    assert said["esc50"].loc["3-3003-A-3"].tolist() == ["dog", 3, True, "3003", "A"]
    happy = said["ravdess"].loc["03-01-03-02-01-01-08"].tolist()
    assert happy == ["happy", 8, "female", "strong", "Kids are talking by the door", 1, 2]
    assert said["emodb"].loc["03a01Fa"].tolist() == ["happiness", "03", "male", 31, "a01", "a"]
    assert said["urbansound8k"].loc["1003-3-1-0"].tolist() == ["dog_bark", 10, 1003, 0.5, 4.5, 1]
    assert said["fsdd"].loc["7_theo_1"].tolist() == ["seven", "theo", "American", 1]
    assert said["minds14-en-US"].loc["0001"].tolist() == ["address", "ja, gerne", "NA"]
    words = said["speech_commands"].groupby("speaker")["split"].first()
    assert words.to_dict() == {"0a1b": "train", "1c2d": "train", "2e3f": "validation", "4a5b": "test"}


def test_parts_of_esc50(server, monkeypatch, tmp_path):
    offer(CASES[0], server, monkeypatch)
    for subset, names in {"esc10": ESC10, "animals": ANIMALS, "transport": TRANSPORT}.items():
        clips = fetch(CASES[0], tmp_path, subset=subset)
        assert clips.target_names == sorted(names)
        assert len(clips.data) == 5 * len(names)
        for train, test in clips.cv.split():
            assert set(clips.target[train]) == set(clips.target[test]) == set(names)


def test_emotions_of_ravdess_stay_in_order_and_folds_hold_whole_actors(server, monkeypatch, tmp_path):
    offer(CASES[1], server, monkeypatch)
    clips = fetch(CASES[1], tmp_path, emotions=["angry", "neutral"])
    assert clips.target_names == ["neutral", "angry"]
    assert Counter(clips.target) == {"neutral": 48, "angry": 96}
    tested = {frozenset(clips.groups[test]) for _, test in clips.cv.split()}
    folds = [(1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22)]
    assert tested == {frozenset(fold) for fold in folds}


def test_parts_of_speech_commands(server, monkeypatch, tmp_path):
    case = CASES[4]
    offer(case, server, monkeypatch)
    clips = fetch(case, tmp_path)
    [(train, test)] = clips.cv
    assert set(clips.split[train]) == {"train"}
    assert set(clips.split[test]) == {"test"}
    for part, number in {"train": 70, "validation": 35, "test": 35}.items():
        some = fetch(case, tmp_path, subset=part)
        assert some.data == [path for path, split in zip(clips.data, clips.split, strict=True) if split == part]
        assert len(some.data) == number
        assert some.cv is None
    assert [Path(path).name for path in clips.background] == ["pink.wav", "tap.wav"]
    assert not set(clips.background) & set(clips.data)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (
            lambda: fetch_dataset("esc50", subset="birds"),
            "subset='birds', expected one of None, 'esc10', 'animals', 'transport'",
        ),
        (lambda: fetch_dataset("ravdess", emotions=["angry", "bored"]), "emotions='bored', expected one of 'neutral'"),
        (
            lambda: fetch_dataset("ravdess", emotions=[]),
            r"emotions=\[\], expected a list such as emotions=\['neutral', 'calm'\] of",
        ),
        (
            lambda: fetch_dataset("ravdess", emotions="calm,angry"),
            r"'calm,angry', expected a list such as emotions=\['calm', 'angry'\]",
        ),
        (
            lambda: fetch_dataset("ravdess", emotions="calm, bored"),
            r"expected a list such as emotions=\['neutral', 'calm'\] of",
        ),
        (lambda: fetch_dataset("ravdess", emotions=5), r"emotions=5, expected a list such as emotions="),
        (
            lambda: fetch_dataset("esc50", subset=["animals", "transport"]),
            r"subset=\['animals', 'transport'\], expected one of None",
        ),
        (lambda: fetch_dataset("ravdess:calm, bored"), "emotions='bored', expected one of 'neutral'"),
        (lambda: fetch_dataset("speech_commands", subset="dev"), "subset='dev', expected one of 'all', 'train'"),
        (lambda: fetch_dataset("minds14", language="en"), "language='en', expected one of 'cs-CZ'"),
        (
            lambda: fetch_dataset("esc-50"),
            "name='esc-50', expected one of 'emodb', 'esc50', 'fsdd', 'minds14', 'ravdess', ",
        ),
        (lambda: fetch_dataset("esc50:birds"), "subset='birds'"),
        (lambda: fetch_dataset("esc50:animal"), "did you mean 'animals'"),
        (lambda: fetch_dataset("esc-50"), "did you mean 'esc50'"),
        (lambda: fetch_dataset("ravdess", emotions=["happi"]), "did you mean 'happy'"),
        (lambda: fetch_dataset(None), "name='None', expected one of"),
        (lambda: fetch_dataset("emodb", emotions=["anger"]), r"emotions=\['anger'\], expected 'emodb', which has no"),
        (lambda: fetch_dataset("spoken_digits:zero"), "'spoken_digits', which has no parts"),
        (lambda: fetch_dataset("esc50", language="de-DE"), "language='de-DE', expected 'esc50', with subset="),
        (
            lambda: fetch_dataset("esc50:esc10", subset="animals"),
            "'esc50:esc10', subset='animals', expected 'esc50', w",
        ),
        (lambda: fetch_dataset("esc50:"), "subset=''"),
        (lambda: fetch_dataset("emodb:anger"), "'emodb:anger', expected 'emodb', which has no parts"),
    ],
)
def test_unknown_names_are_refused_with_those_known(call, expected):
    with pytest.raises(DataError, match=expected) as caught:
        call()
    assert isinstance(caught.value, SkastwError)
    assert isinstance(caught.value, ValueError)


def test_sets_and_parts_have_names(server, monkeypatch, tmp_path):
    for case in CASES:
        offer(case, server, monkeypatch)
        fetch(case, tmp_path)
        assert len(fetch_dataset(case.set, data_home=tmp_path).data) == case.n_clips
    assert fetch_dataset("esc50:animals", data_home=tmp_path).target_names == ANIMALS
    assert fetch_dataset("ravdess:calm,angry", data_home=tmp_path).target_names == ["calm", "angry"]
    assert len(fetch_dataset("speech_commands:test", data_home=tmp_path).data) == 35
    assert len(fetch_dataset("minds14:en-US", data_home=tmp_path).data) == 28


def test_every_set_has_a_case_and_is_in_the_tables_of_the_docstring_and_the_guide():
    assert dataset_names() == sorted({*(case.set for case in CASES), "spoken_digits"})
    guide = (Path(__file__).parent.parent / "docs" / "user_guide.md").read_text(encoding="utf-8")
    for name in dataset_names():
        assert fetch_dataset.__doc__.count(f"\n    ``{name}`` ") == 3
        assert f"\n| `{name}` | " in guide
    for column in (column for case in CASES for column in case.columns):
        assert column in fetch_dataset.__doc__.partition("Columns with")[2].partition("Parameters")[0]
    for choice in (choice for public in _SETS.values() if public.part for choice in public.part.choices if choice):
        assert f'"{choice}"' in fetch_dataset.__doc__


@pytest.mark.parametrize("how", [{}, {"as_frame": True}, {"return_X_y": True}, {"return_X_y": True, "as_frame": True}])
def test_spoken_digits_are_the_same_by_name_and_by_function(how):
    by_name, by_function = fetch_dataset("spoken_digits", **how), load_spoken_digits(**how)
    if "return_X_y" in how:
        by_name, by_function = dict(enumerate(by_name)), dict(enumerate(by_function))
    assert by_name.keys() == by_function.keys()
    assert all(np.array_equal(by_name[key], by_function[key]) for key in by_name)


def test_the_home_of_scikit_learn_is_the_default(server, monkeypatch, tmp_path):
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    offer(FSDD, server, monkeypatch)
    assert fetch(FSDD, None).data[0].startswith(str(tmp_path / "home" / "fsdd"))


# ------------------------------------------------------------------ what is there already

FOLDERS = {
    "esc50": esc50_files,
    "ravdess": ravdess_files,
    "emodb": emodb_files,
    "urbansound8k": urbansound8k_files,
    "speech_commands": speech_commands_files,
    "fsdd": fsdd_files,
}


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("case", ARCHIVES, ids=str)
def test_a_folder_is_read_as_it_is_given_itself_or_above_it_in_any_format(case, ending, tmp_path):
    files = {
        name.replace(".wav", f".{ending}"): {"wav": WAV, "flac": FLAC, "ogg": OGG}[ending]
        if content == WAV
        else content
        for name, content in FOLDERS[case.name]().items()
    }
    folder = unpacked(files, tmp_path / "mine")
    before = sorted(tmp_path.rglob("*"))
    for home in (folder, tmp_path):
        clips = fetch(case, home)
        assert len(clips.data) == case.n_clips
        assert all(path.endswith(ending) for path in clips.data)
    assert sorted(tmp_path.rglob("*")) == before  # not even a lock


def test_of_two_formats_of_a_clip_one_is_taken(tmp_path):
    unpacked({name.replace(".wav", ".flac"): FLAC for name in fsdd_files()}, unpacked(fsdd_files(), tmp_path))
    clips = fetch(FSDD, tmp_path)
    assert len(clips.data) == FSDD.n_clips
    assert all(path.endswith(".wav") for path in clips.data)


PARTIAL = [
    (
        "esc50",
        lambda name: name.startswith("audio/4"),
        "holds 200 clips of ESC-50, expected 250; missing are audio/4-40",
    ),
    (
        "ravdess",
        lambda name: name.startswith("Actor_07"),
        "holds 690 clips .* missing are Actor_07/03-01-01-01-01-01-07",
    ),
    ("emodb", lambda name: "Fa" in name and "wav" in name, r"holds 0 clips of EMO-DB \(happiness\), expected 10"),
    ("urbansound8k", lambda name: "fold3/303-3-1" in name, "holds 199 .* missing are audio/fold3/303-3-1-0"),
    ("speech_commands", lambda name: name == "yes/4a5b_nohash_0.wav", r"\(test\), expected 35; missing are yes/4a5b"),
    ("speech_commands", lambda name: name == "yes/0a1b_nohash_0.wav", r"holds 69 .*\(train\), expected 70"),
    ("fsdd", lambda name: "9_theo" in name, "holds 118 .* missing are recordings/9_theo_0, recordings/9_theo_1"),
]


@pytest.mark.parametrize(("name", "lost", "said"), PARTIAL)
def test_a_folder_that_lacks_something_is_an_error_that_names_it_and_is_left_alone(
    name, lost, said, server, monkeypatch, tmp_path
):
    case = next(case for case in CASES if case.name == name)
    offer(case, server, monkeypatch)
    files = {name: content for name, content in FOLDERS[case.name]().items() if not lost(name)}
    for home, folder in ((tmp_path / "a", tmp_path / "a"), (tmp_path / "b", tmp_path / "b" / name)):
        unpacked(files, folder)
        before = sorted(home.rglob("*"))
        with pytest.raises(FetchError, match=said):
            fetch(case, home)
        assert sorted(home.rglob("*")) == before
    assert not server.seen


def test_a_part_that_is_asked_for_may_stand_alone(tmp_path):
    files, table = esc50_files(), []
    for line in files.pop("meta/esc50.csv").decode().splitlines():
        if "True" in line or "filename" in line:
            table.append(line.replace(".wav", ".ogg"))
    names = {line.split(",")[0] for line in table[1:]}
    folder = unpacked({f"audio/{name}": OGG for name in names}, tmp_path / "esc10")
    unpacked({"meta/esc50.csv": "\n".join(table).encode()}, folder)
    assert len(fetch_dataset("esc50", subset="esc10", data_home=folder).data) == 50
    for subset, number in ((None, 250), ("animals", 50)):
        with pytest.raises(FetchError, match=rf"esc10' holds \d+ clips of .*ESC-50, expected {number}"):
            fetch_dataset("esc50", subset=subset, data_home=folder)

    some = {name: content for name, content in ravdess_files().items() if name.split("-")[2] in ("02", "05")}
    unpacked(some, tmp_path / "ravdess")
    assert len(fetch_dataset("ravdess", emotions=["angry", "calm"], data_home=tmp_path).data) == len(some)
    with pytest.raises(FetchError, match="expected 720"):
        fetch_dataset("ravdess", data_home=tmp_path)


def test_an_empty_file_is_missing(tmp_path):
    unpacked({**fsdd_files(), "recordings/3_lucas_1.wav": b""}, tmp_path)
    with pytest.raises(FetchError, match="missing are recordings/3_lucas_1"):
        fetch(FSDD, tmp_path)


@pytest.mark.parametrize(
    ("case", "path", "change"),
    [
        (CASES[0], "meta/esc50.csv", lambda text: text.replace(b"3-3003-A-3.wav,3", b"3-3003-A-3.wav,4")),
        (CASES[0], "meta/esc50.csv", lambda text: text.replace(b"esc10", b"esc11")),
        (CASES[0], "meta/esc50.csv", lambda text: text.replace(b"True", b"maybe")),
        (CASES[0], "meta/esc50.csv", lambda text: b"\xff\xfe\x00"),
        (CASES[0], "meta/esc50.csv", lambda text: b""),
        (CASES[3], "metadata/UrbanSound8K.csv", lambda text: text.replace(b"dog_bark", b"car_horn")),
        (CASES[3], "metadata/UrbanSound8K.csv", lambda text: text.replace(b",3,dog_bark", b",30,dog_bark")),
        (CASES[3], "metadata/UrbanSound8K.csv", lambda text: text.replace(b"fsID", b"id")),
    ],
)
def test_a_table_that_is_damaged_or_contradicts_the_names_is_refused(case, path, change, tmp_path):
    files = FOLDERS[case.name]()
    assert change(files[path]) != files[path]
    unpacked({**files, path: change(files[path])}, tmp_path)
    with pytest.raises(FetchError, match=f"{Path(path).name}' (is not the table|contradicts the name)"):
        fetch(case, tmp_path)


def test_nothing_is_downloaded_unless_allowed(server, monkeypatch, tmp_path):
    for case in CASES:
        offer(case, server, monkeypatch)
        with pytest.raises(FetchError, match=f"{case.name} is neither in .* download_if_missing=False"):
            fetch(case, tmp_path, download_if_missing=False)
    assert not server.seen
    assert not list(tmp_path.iterdir())


def test_what_somebody_else_has_in_the_place_is_not_replaced(server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch)
    unpacked({"fsdd/notes.txt": b"mine"}, tmp_path)
    with pytest.raises(FetchError, match="where something else is"):
        fetch(FSDD, tmp_path)
    assert [path.name for path in (tmp_path / "fsdd").iterdir()] == ["notes.txt"]
    assert not server.seen


# ------------------------------------------------------------------ what goes wrong on the way

RIGHT = object()
#: What goes wrong; for how many requests; what comes of it, with three attempts allowed; how many requests were made.
FAILURES = [
    ("nothing", {}, 0, RIGHT, 1),
    ("overload", {"status": 503}, 2, RIGHT, 3),
    ("overload, for ever", {"status": 503}, -1, r"\(attempts: 3\): the server answered HTTP 503", 3),
    ("too many requests", {"status": 429}, 1, RIGHT, 2),
    ("not there", {"status": 404}, -1, "HTTP 404 Not Found. The file may have moved", 1),
    ("forbidden", {"status": 403}, -1, "HTTP 403 Forbidden", 1),
    ("moved", {"status": 302, "headers": {"Location": "/data.bin"}}, 1, RIGHT, 2),
    ("reset in mid-file", {"cut": 0.5, "reset": True}, 1, RIGHT, 2),
    ("reset before the first byte", {"cut": 0.0, "reset": True}, 1, RIGHT, 2),
    ("reset, for ever", {"cut": 0.0, "reset": True}, -1, r"\(attempts: 3\): ", 3),
    ("body cut short", {"cut": 0.5}, 1, RIGHT, 2),
    ("body cut short, twice", {"cut": 0.5}, 2, RIGHT, 3),
    (
        "body cut short, for ever",
        {"cut": 0.5},
        -1,
        r"\(attempts: 3\): .*The next call resumes after the \d+ bytes",
        3,
    ),
    ("silence", {"delay": 5.0}, 1, RIGHT, 2),
    ("silence, for ever", {"delay": 5.0}, -1, r"\(attempts: 3\): .*timed out", 3),
    ("a bit changed", {"flip": True}, -1, "does not have sha256:.* It was removed; try again", 1),
    ("a page to log in", {"status": 200, "text": "<html>"}, -1, "does not have sha256:", 1),
    ("nothing at all", {"status": 200, "text": ""}, -1, "does not have sha256:", 1),
]


@pytest.mark.parametrize(("what", "how", "times", "outcome", "n_requests"), FAILURES, ids=[f[0] for f in FAILURES])
def test_failures_of_the_network(what, how, times, outcome, n_requests, server, monkeypatch, tmp_path):
    if "delay" in how:
        monkeypatch.setattr(_download, "_TIMEOUT", 0.8)
    offer(FSDD, server, monkeypatch)
    if times:
        server.fail("GET /data.bin", times=times, **how)
    if outcome is RIGHT:
        fetch(FSDD, tmp_path, n_retries=2)
    else:
        with pytest.raises(FetchError, match=outcome) as caught:
            fetch(FSDD, tmp_path, n_retries=2)
        assert "127.0.0.1" in str(caught.value)
        assert not (tmp_path / "fsdd").exists()
    assert len(server.seen) == n_requests
    server.rules.clear()
    fetch(FSDD, tmp_path, n_retries=0)  # whatever happened, the next call gets it
    whole(FSDD, tmp_path)


def test_what_arrived_is_not_fetched_twice(server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch)
    size = len(PACKED["fsdd"])
    server.fail("GET", times=1, cut=0.5)
    with pytest.raises(FetchError, match=f"resumes after the {size // 2} bytes"):
        fetch(FSDD, tmp_path, n_retries=0)
    server.fail("GET", times=1, cut=0.5, reset=True)
    fetch(FSDD, tmp_path)
    half, most = size // 2, size // 2 + (size - size // 2) // 2
    assert [seen.headers.get("range") for seen in server.seen] == [None, f"bytes={half}-", f"bytes={most}-"]
    whole(FSDD, tmp_path)


def part_of(home, content):
    (home / ".fsdd.tmp").mkdir()
    (home / ".fsdd.tmp" / "data.bin.part").write_bytes(content)


RESUMED = [
    ("the rest is asked for", lambda good: good[:999], {}, ["bytes=999-"]),
    ("a server that gives everything", lambda good: good[:999], {"whole": True}, ["bytes=999-"]),
    ("all was there", lambda good: good, {}, ["bytes={size}-"]),
    ("more than all was there", lambda good: good + b"more", {}, ["bytes={more}-", None]),
    ("the part was of another file", lambda good: b"x" * 999, {}, ["bytes=999-", None]),
    (
        "the server gives another part",
        lambda good: good[:999],
        {"status": 206, "headers": {"Content-Range": "bytes 5-9/10"}, "text": "56789", "times": 1},
        ["bytes=999-", None],
    ),
]


@pytest.mark.parametrize(("what", "part", "how", "ranges"), RESUMED, ids=[r[0] for r in RESUMED])
def test_a_download_goes_on_or_begins_again(what, part, how, ranges, server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch)
    good = PACKED["fsdd"]
    part_of(tmp_path, part(good))
    if how:
        server.fail("GET /data.bin", **how)
    fetch(FSDD, tmp_path)
    expected = [text and text.format(size=len(good), more=len(good) + 4) for text in ranges]
    assert [seen.headers.get("range") for seen in server.seen] == expected
    whole(FSDD, tmp_path)


def test_an_archive_that_was_packed_anew_is_taken_for_what_is_in_it(server, monkeypatch, tmp_path):
    offer(CASES[0], server, monkeypatch, checksum="md5:071b44018315e034b2c6e8064543d19c")
    assert not CASES[0].archive.strict
    with pytest.warns(UserWarning, match="does not have md5:071b"):
        fetch(CASES[0], tmp_path)
    whole(CASES[0], tmp_path)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_whole_and_something_else_is_refused(case, server, monkeypatch, tmp_path):
    other = minds14_parquet()[:-500] if case.module is minds14 else zipped({"a/b/c.wav": WAV})
    offer(case, server, monkeypatch, other)
    with pytest.raises(FetchError, match=f"not {case.name}: they do not look like it|is not the table of MINDS-14"):
        fetch(case, tmp_path)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix in (".bin", ".wav", ".parquet")]
    assert not left
    offer(case, server, monkeypatch)
    fetch(case, tmp_path)


def test_an_archive_that_lacks_a_clip_is_refused(server, monkeypatch, tmp_path):
    files = fsdd_files()
    del files["recordings/0_theo_1.wav"]
    offer(FSDD, server, monkeypatch, zipped(files, "root/"))
    with pytest.raises(FetchError, match=r"are not fsdd: .* holds 119 .* missing are recordings/0_theo_1"):
        fetch(FSDD, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_a_network_the_error_says_what_to_do(case, monkeypatch, tmp_path):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(FetchError, match=r"\(attempts: 2\): .*Check the network") as caught:
        fetch(case, tmp_path, n_retries=1)
    assert isinstance(caught.value, OSError)
    assert not (tmp_path / case.name).exists()


@pytest.mark.parametrize(
    ("how", "outcome"),
    [
        ({"status": 503, "times": 1}, RIGHT),
        ({"status": 404}, "Cannot download http.*/en-US/train.*: the server answered HTTP 404"),
        ({"match": "GET", "cut": 0.0, "times": 1}, RIGHT),
        ({"match": "GET", "cut": 0.5, "times": 1}, RIGHT),
    ],
)
def test_failures_of_the_hub(how, outcome, server, monkeypatch, tmp_path):
    case = CASES[-1]
    file = f"/datasets/PolyAI/minds14/resolve/{minds14._REVISION}/en-US/train-00000-of-00001.parquet"
    server.files[file] = minds14_parquet()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    case.change(monkeypatch, url=lambda part: minds14._url(part).replace(constants.ENDPOINT, server.url))
    server.fail(**{"match": "parquet", **how})
    if outcome is RIGHT:
        fetch(case, tmp_path, n_retries=1)
        whole(case, tmp_path)
    else:
        with pytest.raises(FetchError, match=outcome):
            fetch(case, tmp_path, n_retries=1)
    assert not any("authorization" in seen.headers for seen in server.seen)


def test_the_hub_is_not_asked_offline(server, monkeypatch, tmp_path):
    case = CASES[-1]
    case.change(monkeypatch, url=minds14._url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE is set"):
        fetch(case, tmp_path)


def test_a_bar_shows_how_far_a_download_is(server, monkeypatch, tmp_path, capsys):
    offer(FSDD, server, monkeypatch)
    fetch(FSDD, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    fetch(FSDD, tmp_path / "loud", verbose=True)
    assert "data.bin: 100%" in capsys.readouterr().err


def test_pooch_logs_nothing_and_its_logger_stays_as_it_was(server, monkeypatch, tmp_path):
    logger, messages = pooch.get_logger(), []
    before = logger.level, list(logger.filters)
    monkeypatch.setattr(logger, "handlers", [logging.StreamHandler(SimpleNamespace(write=messages.append))])
    offer(FSDD, server, monkeypatch, checksum=None)  # pooch logs the hash of a file without one
    fetch(FSDD, tmp_path)
    offer(FSDD, server, monkeypatch, b"x", checksum="md5:0")
    with pytest.raises(FetchError, match="does not have md5:0"):
        fetch(FSDD, tmp_path / "wrong")
    assert not messages
    assert before == (logger.level, logger.filters)
    logger.info("of another user")
    assert messages


def test_temporary_files_of_a_process_that_was_killed_are_removed(server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch)
    server.fail("GET /data.bin", status=404)
    unpacked({"tmpx1y2": b"x" * 999}, tmp_path / ".fsdd.tmp")  # named by pooch
    with pytest.raises(FetchError, match="404"):
        fetch(FSDD, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".fsdd.lock"]


# ------------------------------------------------------------------ hostile archives


def with_zip_entry(name, content=WAV, mode=stat.S_IFREG | 0o644):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    buffer = io.BytesIO(zipped(fsdd_files(), "root/"))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(entry, content)
    return buffer.getvalue()


def with_tar_entry(name, kind=tarfile.REGTYPE, target=""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for known, content in {**{f"root/{n}": c for n, c in fsdd_files().items()}, name: b""}.items():
            member = tarfile.TarInfo(known)
            member.size = len(content)
            if known == name:
                member.type, member.linkname = kind, target
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def with_a_password():
    content = bytearray(zipped(fsdd_files(), "root/"))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def with_a_damaged_member():
    content = bytearray(zipped(fsdd_files(), "root/"))
    content[60] ^= 0xFF
    return bytes(content)


BOMB = {f"recordings/{i}.wav": bytes(2**20) for i in range(40)}
HOSTILE = [
    ("zip: up and out", lambda: with_zip_entry("root/../../evil.wav"), "leads out"),
    ("zip: from the root", lambda: with_zip_entry("/tmp/evil.wav"), "leads out"),
    ("zip: from a drive", lambda: with_zip_entry("root/C:evil.wav"), "leads out"),
    ("zip: backslashes", lambda: with_zip_entry("root\\..\\evil.wav"), "leads out"),
    ("zip: a link", lambda: with_zip_entry("root/link", b"/etc/passwd", stat.S_IFLNK | 0o777), "a link or a device"),
    ("zip: a pipe", lambda: with_zip_entry("root/pipe", b"", stat.S_IFIFO | 0o644), "a link or a device"),
    ("zip: a name twice", lambda: with_zip_entry("root/recordings/0_theo_0.wav"), "twice"),
    ("zip: a file as a folder", lambda: with_zip_entry("root/recordings/0_theo_0.wav/x"), "twice"),
    ("zip: a bomb", lambda: zipped(BOMB, "root/"), "passes the limit"),
    ("zip: too many files", lambda: zipped({f"{i}.wav": b"" for i in range(600)}, "root/"), "more than 500 files"),
    ("zip: a password", with_a_password, "encrypted"),
    ("zip: a damaged member", with_a_damaged_member, "cannot be unpacked"),
    ("zip: cut short", lambda: zipped(fsdd_files(), "root/")[:-50], "cannot be unpacked"),
    ("tar: up and out", lambda: with_tar_entry("root/../../evil.wav"), "leads out"),
    ("tar: from the root", lambda: with_tar_entry("/tmp/evil.wav"), "leads out"),
    ("tar: a link", lambda: with_tar_entry("root/link", tarfile.SYMTYPE, "/etc/passwd"), "a link or a device"),
    ("tar: a hard link", lambda: with_tar_entry("root/link", tarfile.LNKTYPE, "/etc/passwd"), "a link or a device"),
    ("tar: a device", lambda: with_tar_entry("root/null", tarfile.CHRTYPE), "a link or a device"),
    ("tar: a pipe", lambda: with_tar_entry("root/pipe", tarfile.FIFOTYPE), "a link or a device"),
    ("tar: a bomb", lambda: tarred(BOMB, "root/"), "passes the limit"),
    ("tar: cut short", lambda: tarred(fsdd_files(), "root/")[:-300], "missing are"),
    ("no archive", lambda: b"<html>" * 100, "cannot be unpacked"),
    ("nothing", lambda: b"", "cannot be unpacked"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("what", "make", "said"), HOSTILE, ids=[h[0] for h in HOSTILE])
def test_hostile_archives_write_nothing_and_are_removed(what, make, said, server, monkeypatch, tmp_path):
    monkeypatch.setattr(_download, "_MAX_MEMBERS", 500)
    offer(FSDD, server, monkeypatch, make(), checksum=None, max_bytes=2**23)
    home = tmp_path / "x" / "y"
    with pytest.raises(FetchError, match=said):
        fetch(FSDD, home)
    assert [path.name for path in home.iterdir() if path.suffix != ".lock"] == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert not Path("/tmp/evil.wav").exists()
    offer(FSDD, server, monkeypatch)
    fetch(FSDD, home)


def test_a_download_without_end_is_cut_off(server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch, max_bytes=4000)
    with pytest.raises(FetchError, match="longer than 4000 bytes"):
        fetch(FSDD, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == [".fsdd.lock"]


def test_modes_are_not_taken_over(server, monkeypatch, tmp_path):
    files = zipped(fsdd_files(), "root/")
    buffer = io.BytesIO(files)
    with zipfile.ZipFile(buffer, "a") as archive:
        entry = zipfile.ZipInfo("root/run.sh")
        entry.external_attr = (stat.S_IFREG | stat.S_ISUID | 0o777) << 16
        archive.writestr(entry, "#!/bin/sh")
    offer(FSDD, server, monkeypatch, buffer.getvalue())
    fetch(FSDD, tmp_path)
    assert not (tmp_path / "fsdd" / "run.sh").stat().st_mode & (stat.S_ISUID | 0o111)


# ------------------------------------------------------------------ killed, without space, at the same time

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


def killed_at(step, function):
    """Run a function in a process that kills itself at its ``step``-th dealing with the system."""

    def run():
        count = 0

        def hook(event, args):
            nonlocal count
            if event.startswith(("os.", "open", "shutil.", "tempfile.", "socket.connect")) and event != "os.kill":
                count += 1
                if count > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        function()

    return run_in_child(run)


@forks
@pytest.mark.parametrize("state", ["nothing was there", "a damaged copy was there"])
def test_killed_at_any_step_nothing_passes_for_whole_and_the_next_call_mends(state, server, monkeypatch, tmp_path):
    monkeypatch.setattr(fsdd, "_SPEAKERS", {"theo": "American"})
    small = replace(FSDD, n_clips=20)
    offer(small, server, monkeypatch, zipped({k: v for k, v in fsdd_files().items() if "theo" in k}, "root/"))
    home, ends = tmp_path / "home", []
    while 0 not in ends:
        shutil.rmtree(home, ignore_errors=True)
        if state != "nothing was there":
            fetch(small, home)
            os.unlink(home / "fsdd" / "recordings" / "5_theo_1.wav")
        ends.append(killed_at(4 * len(ends), lambda: fetch(small, home)))
        half = list((home / "fsdd").rglob("*.wav")) if (home / "fsdd").exists() else []
        assert len(half) in (0, 19, 20)
        if len(half) < 20:
            with pytest.raises(FetchError):
                fetch(small, home, download_if_missing=False)
        fetch(small, home, n_retries=0)
        whole(small, home)
    assert len(ends) > 15
    assert set(ends[:-1]) == {-signal.SIGKILL}


@forks
@pytest.mark.parametrize("case", ARCHIVES, ids=str)
def test_a_copy_of_ours_that_lost_files_is_fetched_again(case, server, monkeypatch, tmp_path):
    offer(case, server, monkeypatch)
    lost = fetch(case, tmp_path).data[::7]
    for path in lost:
        os.unlink(path)
    with pytest.raises(FetchError, match="holds"):
        fetch(case, tmp_path, download_if_missing=False)
    fetch(case, tmp_path)
    whole(case, tmp_path)


def limited(size, function):
    """Run a function in a process that can write no file of more than ``size`` bytes."""

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        function()

    return run_in_child(run)


@forks
def test_a_disk_that_is_full_while_downloading(server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch)

    def run():
        with pytest.raises(
            FetchError, match=r"Cannot use '.*/fsdd': File too large. Make room .* goes on with the next call"
        ):
            fetch(FSDD, tmp_path)

    assert limited(3000, run) == 0
    assert not (tmp_path / "fsdd").exists()
    fetch(FSDD, tmp_path)
    assert server.seen[-1].headers["range"] == "bytes=3000-"
    whole(FSDD, tmp_path)


@forks
def test_a_disk_that_is_full_while_unpacking(server, monkeypatch, tmp_path):
    files = zipped({**fsdd_files(), "large.txt": bytes(10**6)}, "root/")
    offer(FSDD, server, monkeypatch, files)

    def run():
        with pytest.raises(
            FetchError, match=r"Cannot use '.*/fsdd': File too large. Make room .* goes on with the next call"
        ):
            fetch(FSDD, tmp_path)

    assert limited(10**5, run) == 0
    assert sorted(path.name for path in tmp_path.rglob("*") if path.suffix != ".lock") == [".fsdd.tmp", "data.bin"]
    asked = len(server.seen)
    fetch(FSDD, tmp_path)
    assert len(server.seen) == asked
    whole(FSDD, tmp_path)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_space_left_is_said_and_leaves_nothing_that_passes_for_whole(case, server, monkeypatch, tmp_path):
    offer(case, server, monkeypatch)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        with pytest.raises(FetchError, match=r"No space left on device. Make room"):
            fetch(case, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    fetch(case, tmp_path)
    whole(case, tmp_path)


def test_a_home_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(FetchError, match=r"Cannot use '.*file/home'"):
        fetch(FSDD, tmp_path / "file" / "home")


@forks
def test_processes_at_the_same_time_wait_for_one_that_fetches(server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch)
    server.fail("GET /data.bin", delay=0.3)

    def run():
        assert len(fetch(FSDD, tmp_path).data) == FSDD.n_clips

    children = [start_child(run) for _ in range(4)]
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    assert len(server.seen) == 1
    whole(FSDD, tmp_path)


@forks
def test_two_sets_do_not_wait_for_each_other(server, monkeypatch, tmp_path):
    offer(FSDD, server, monkeypatch)
    server.fail("GET /data.bin", delay=30)
    child = start_child(lambda: fetch(FSDD, tmp_path))
    for _ in range(3000):
        if server.seen:
            break
        time.sleep(0.01)
    assert server.seen
    unpacked(emodb_files(), tmp_path / "emodb")
    assert len(fetch(CASES[2], tmp_path).data) == CASES[2].n_clips
    child.kill()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    server.rules.clear()
    fetch(FSDD, tmp_path)  # the lock of the one that was killed is open
    assert len(fetch(FSDD, tmp_path, download_if_missing=False).data) == FSDD.n_clips


# ------------------------------------------------------------------ the real ones

needs_data = pytest.mark.skipif(DATA is None, reason="set SKASTW_DATA to a folder of data sets")


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("folder", ["", "esc10"])
def test_real_esc10(folder):
    clips = fetch_dataset("esc50", subset="esc10", data_home=DATA / folder, download_if_missing=False)
    assert Counter(clips.target) == dict.fromkeys(ESC10, 40)
    assert len(list(clips.cv.split())) == 5
    for train, test in clips.cv.split():
        assert Counter(clips.target[test]) == dict.fromkeys(ESC10, 8)
        assert not set(clips.groups[train]) & set(clips.groups[test])
    assert decode(clips.data[0])[1] == 44100


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("folder", ["", "ravdess"])
def test_real_ravdess(folder):
    clips = fetch_dataset("ravdess", data_home=DATA / folder, download_if_missing=False)
    assert Counter(clips.target) == {emotion: 192 if emotion != "neutral" else 96 for emotion in EMOTIONS}
    assert Counter(clips.groups) == dict.fromkeys(range(1, 25), 60)
    four = fetch_dataset("ravdess", emotions=["neutral", "calm", "angry", "surprised"], data_home=DATA / folder)
    assert len(four.data) == 672
    for train, test in four.cv.split():
        assert (len(train), len(test)) == (560, 112)
        assert not set(four.groups[train]) & set(four.groups[test])


def test_the_real_addresses_are_complete():
    archives = {name: public.archive for name, public in _SETS.items() if public.archive}
    assert archives.keys() == {case.set for case in CASES}
    for name, archive in archives.items():
        url = archive.url if isinstance(archive.url, str) else archive.url("de-DE")
        assert url.startswith("https://") or name in ("emodb", "speech_commands")  # as their authors give them
        assert url.endswith((".zip", ".tar.gz", "/de-DE/train-00000-of-00001.parquet"))
        if archive.checksum is not None:
            kind, _, digits = archive.checksum.partition(":")
            assert len(digits) == 2 * hashlib.new(kind).digest_size
    for name in ("ravdess", "speech_commands", "urbansound8k"):
        assert archives[name].checksum
        assert archives[name].strict
    assert archives["speech_commands"].checksum.startswith("sha256:")
    assert re.search("/datasets/PolyAI/minds14/resolve/[0-9a-f]{40}/", archives["minds14"].url("de-DE"))
    assert sum(speech_commands._N_CLIPS.values()) == 105829
    assert len(speech_commands._WORDS) == 35
    assert sum(number for _, number in emodb._EMOTIONS.values()) == 535
