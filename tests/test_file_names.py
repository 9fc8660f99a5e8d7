"""File names of any bytes: they are read, and what is written of them can be read and leads back to the file."""

import io
import json
import os
import re
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.analysis.tables import prediction_table, write_table
from skastw.audio import decode, isolated_decoding, load_waveform, stream_waveform
from skastw.cli import cli
from skastw.core.text import column_type, original_text, readable, readable_values
from skastw.datasets import describe_audio, load_audio_folder, load_audio_table, make_tones
from skastw.encoders import ParallelCNNEncoder
from skastw.errors import ClipValueError
from skastw.evaluation import evaluate
from skastw.runs import Run, run

RATE = 16000
CLIPS, Y = make_tones(n_clips=12, n_classes=2, duration=(0.3, 0.3), random_state=0)
#: "café" and a place in Latin-1, as Python shows them, and as they are written.
NAME, WRITTEN = "caf\udce9", r"caf\xe9"
TINY = ParallelCNNEncoder(channels=8, hidden=16, embedding=16)

needs_bytes = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")


@pytest.fixture
def folder(tmp_path):
    """Two folders of six recordings, the names of one of which are not Unicode."""
    root = tmp_path / "sounds"
    for i, (clip, label) in enumerate(zip(CLIPS, Y, strict=True)):
        path = root / ("bar", NAME)[label] / f"{('b', NAME)[label]}_{i % 4}_{i}.wav"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            soundfile.write(content, clip, RATE, format="WAV")
            path.write_bytes(content.getvalue())
        except OSError:
            pytest.skip("the file system takes Unicode only")
    return root


@pytest.fixture
def clf(folder):
    clips = load_audio_folder(folder)
    return ASTWClassifier(encoder=TINY, epochs=2, val_split=None).fit(clips.data, clips.target)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("café.wav", "café.wav"),
        (r"caf\xe9.wav", r"caf\xe9.wav"),
        ("caf\udce9.wav", r"caf\xe9.wav"),
        ("\udc80\udcff", r"\x80\xff"),
        ("a\\xe9\udce9", r"a\\xe9\xe9"),
        ("a\\\udce9\\", r"a\\\xe9\\"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escapes_lead_back_to_the_name(text, written):
    assert readable(text) == written
    assert readable(written) == written
    written.encode()
    if text != written:
        assert original_text(written) == text
        assert column_type(["plain", text]) is object


def test_texts_are_found_wherever_they_are():
    values = {"a\udce9": ["b\udce9", ("c\udce9", 1)], "array": np.array(["d\udce9", "e"]), "none": None}
    made = readable_values(values)
    assert made[r"a\xe9"] == [r"b\xe9", [r"c\xe9", 1]]
    assert made["array"].tolist() == [r"d\xe9", "e"]
    assert made["none"] is None
    objects = np.array(["f\udce9", None, (1, 2)], dtype=object)
    assert readable_values(objects).tolist() == [r"f\xe9", None, (1, 2)]
    assert readable_values(np.array([], dtype=str)).dtype.kind == "U"


@needs_bytes
def test_such_files_are_read_in_every_way(folder):
    path = load_audio_folder(folder).data[-1]
    samples, rate = decode(path)
    with isolated_decoding(timeout=20) as isolated:
        np.testing.assert_array_equal(isolated(path)[0], samples)
    np.testing.assert_array_equal(np.concatenate(list(stream_waveform(path, rate))), samples[:, 0])
    np.testing.assert_array_equal(load_waveform({"path": path, "start": 0.1, "end": 0.2}, rate), samples[1600:3200, 0])
    assert len(ASTWFeaturizer().fit_transform([path, os.fsencode(path).decode("utf-8", "surrogateescape")])) == 2


@needs_bytes
def test_such_files_go_all_the_way(folder, clf, tmp_path):
    clips = load_audio_folder(folder, groups=r"_(\d)_")
    assert clf.classes_.tolist() == ["bar", WRITTEN]
    assert clf.predict(clips.data).shape == (12,)

    evaluation = evaluate(clf, clips.data, clips.target, groups=clips.groups)
    evaluation.save(tmp_path / "report", title=NAME, about={"data": str(folder / NAME)})
    assert WRITTEN in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    table = pd.read_csv(tmp_path / "report" / "predictions.csv")
    assert original_text(table["clip"].iloc[-1]) == clips.data[-1]
    assert WRITTEN in json.loads((tmp_path / "report" / "metrics.json").read_text(encoding="utf-8"))["about"]["data"]

    description = describe_audio(clips.data, clips.target, clips.groups)
    assert description.summary["classes"] == {"bar": 6, WRITTEN: 6}
    for text in (str(description), description._repr_html_(), json.dumps(description.to_dict(), ensure_ascii=False)):
        text.encode()
    windows = clf.predict_windows(clips.data[-1:], window=0.1)
    assert original_text(windows["clip"].iloc[0]) == clips.data[-1]

    saved = clf.save_pretrained(tmp_path / NAME, title=None)
    assert f"# {WRITTEN}" in (tmp_path / NAME / "README.md").read_text(encoding="utf-8")
    assert ASTWClassifier.from_pretrained(saved).classes_.tolist() == clf.classes_.tolist()


@needs_bytes
@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_table_of_ours_leads_back_to_the_files(folder, clf, tmp_path, form):
    clips = load_audio_folder(folder)
    written = write_table(prediction_table(clf, clips.data), tmp_path / f"predictions.{form}")
    again = load_audio_table(written, audio_column="clip", label_column="predicted")
    assert again.data == clips.data
    assert set(again.target_names) <= set(clf.classes_)
    assert len(load_audio_table(written, audio_column="clip", label_column=None, as_frame=True).data) == 12


@needs_bytes
def test_such_files_that_cannot_be_read_are_told(folder, clf, tmp_path):
    path = folder / NAME / f"{NAME}.wav"
    path.write_bytes(b"no audio")
    clf.set_params(on_error="warn")
    with pytest.warns(UserWarning, match="1 of 2 clips cannot be used") as caught:
        clf.predict([str(path), CLIPS[0]])
    str(caught[0].message).encode()
    repr(clf.failed_).encode()
    assert clf.failed_[0].path == str(path)
    good = load_audio_folder(folder).data[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = evaluate(clf, [str(path), good, good], ["bar", "bar", "bar"])
    evaluation.save(tmp_path / "report")
    assert json.loads((tmp_path / "report" / "metrics.json").read_text())["failed"][0]["path"].endswith(
        f"{WRITTEN}.wav"
    )
    assert f"{WRITTEN}.wav" in (tmp_path / "report" / "report.html").read_text()
    assert f"{WRITTEN}.wav" in str(describe_audio([str(path), good]).frame["path"].iloc[0])


@needs_bytes
def test_such_files_on_the_command_line(folder, clf, tmp_path):
    model = clf.save_pretrained(tmp_path / "model")
    bad = folder / NAME / "z.wav"
    bad.write_bytes(b"no audio")

    def told(*arguments, status=0):
        result = CliRunner().invoke(cli, [*map(str, arguments)])
        assert result.exit_code == status, result.output
        return result.output

    assert re.search(r"caf\\xe9/caf\\xe9_\d_\d+\.wav +", told("predict", folder, "-m", model, status=1))
    assert "z.wav" in told("predict", bad, "-m", model, status=1)
    lines = told("predict", folder, "-m", model, "--json", status=1).splitlines()
    names = [json.loads(line)["clip"] for line in lines if line.startswith("{")]
    assert original_text(names[-1]) == load_audio_folder(folder).data[-2]
    told("predict", folder, "-m", model, "-o", tmp_path / "p.csv", status=1)
    assert len(pd.read_csv(tmp_path / "p.csv")) == 13
    assert WRITTEN in told("windows", folder, "-m", model, "-w", "0.2", status=1)
    assert WRITTEN in told("embed", folder, "-m", model, status=1)
    bad.unlink()
    assert WRITTEN in told("describe", "--data", folder)
    assert WRITTEN in json.loads(told("describe", "--data", folder, "--json"))["summary"]["classes"]
    assert WRITTEN in told("evaluate", "--data", folder, "-m", model, "--output", tmp_path / NAME)
    assert WRITTEN in told("predict", folder, "-m", model, "-o", tmp_path / f"{NAME}.csv")
    options = ("--groups", r"_(\d)_", "--test-groups", "0,1", "--recipe", "tiny", "-p", "epochs=1", "-p", "min_steps=0")
    assert WRITTEN in told("train", "--data", folder, *options, "--output", tmp_path / f"{NAME}-run")


@needs_bytes
def test_a_run_in_a_folder_of_such_a_name(folder, tmp_path):
    data, params = {"folder": str(folder), "groups": "parent"}, {"epochs": 1, "min_steps": 0}
    for path in folder.glob("*/*.wav"):  # class/speaker/clip
        path.parent.joinpath(f"{NAME}-{path.stem[-1]}").mkdir(exist_ok=True)
        path.rename(path.parent / f"{NAME}-{path.stem[-1]}" / path.name)
    result = run(Run(data, str(tmp_path / NAME), {"test_groups": [f"{NAME}-1", f"{NAME}-2"]}, "tiny", params))
    assert set(result.evaluation.per_group.index) == {f"{WRITTEN}-1", f"{WRITTEN}-2"}
    assert f"{WRITTEN}-1" in (tmp_path / NAME / "model" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / NAME / "report.html").exists()
    assert run(tmp_path / NAME / "run.yaml", overwrite=True).evaluation.n_clips == result.evaluation.n_clips


def test_names_from_an_array_of_numpy_read_like_any():
    with pytest.raises(ClipValueError, match=r"^Clip 0 \('lost\.wav'\)"):
        ASTWFeaturizer().fit_transform(np.array(["lost.wav", "lost.wav"]))


def test_a_warning_names_a_file_of_an_array_of_numpy_like_any(tmp_path):
    path = tmp_path / "unfinished.wav"
    soundfile.write(path, CLIPS[0], RATE)
    content = bytearray(path.read_bytes())
    content[40:44] = bytes(4)  # as after a loss of power
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"^'{re.escape(str(path))}'"):
        ASTWFeaturizer().fit_transform(np.array([str(path)]))
