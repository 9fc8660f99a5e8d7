"""Places for results: refused before the work if they cannot be written, and replaced in one step after it."""

import errno
import importlib
import os
import re
import signal
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from helpers import run_in_child
from skastw import ASTWClassifier
from skastw.analysis.tables import write_table
from skastw.cli import cli
from skastw.encoders import ASTWEncoder
from skastw.errors import OutputError
from skastw.evaluation import evaluate_predictions
from skastw.runs import Run, run
from skastw.storage.outputs import check_file, check_folder, new_file, write_file

SMALL = {"encoder": {"resnet": {"width": 8, "num_stages": 2}}, "epochs": 1, "min_steps": 0, "device": "cpu"}
posix = pytest.mark.skipif(os.name == "nt", reason="permissions, links and locks of POSIX")


# ------------------------------------------------------------------ a place is checked


def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path):
    (tmp_path / "old.csv").write_text("old")
    assert check_file(tmp_path / "old.csv", [".csv"]) == tmp_path / "old.csv"
    assert check_file(tmp_path / "NEW" / "TABLE.CSV", [".csv"]) == tmp_path / "NEW" / "TABLE.CSV"
    assert check_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert check_folder(tmp_path) == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("table.xyz", "table.xyz', expected a name that ends in .csv or .txt."),
        ("", "expected a name that ends in .csv or .txt."),
        ("folder.csv", "folder.csv', which is a folder, expected the name of a file."),
        ("file/new/table.csv", "/file' is not a folder, expected one; give another name, or remove it."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=re.escape(message)):
        check_file(tmp_path / name if name else "", [".csv", ".txt"])
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "Got an empty output, expected the name of a folder."),
        ("file", "file', which is not a folder, expected the name of a folder."),
        ("file/new", "/file' is not a folder, expected one; give another name, or remove it."),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, name, message):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=re.escape(message)):
        check_folder(tmp_path / name if name else "")


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_a_disk_that_is_mounted_to_be_read_is_refused(tmp_path, monkeypatch, check):
    def fail(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    with pytest.raises(OutputError, match=r"cannot be written to \(Read-only file system\)") as caught:
        check(tmp_path / "new" / "out")
    assert f"{str(tmp_path)!r} cannot" in str(caught.value)


def test_a_file_that_is_protected_is_refused(tmp_path, monkeypatch):
    (tmp_path / "table.csv").write_text("mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everything
    with pytest.raises(OutputError, match="is write-protected"):
        check_file(tmp_path / "table.csv")


@posix
def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(OutputError, match="is a device or a pipe"):
        check_file(tmp_path / "pipe.csv")


@posix
@pytest.mark.parametrize("how", ["name", "link", "second name"])
def test_an_input_is_refused_as_an_output(tmp_path, monkeypatch, how):
    monkeypatch.chdir(tmp_path)
    Path("owl.wav").write_bytes(b"hoot")
    output = {"name": Path("owl.wav"), "link": Path("link"), "second name": Path("second")}[how]
    if how == "link":
        output.symlink_to("owl.wav")
    if how == "second name":
        os.link("owl.wav", output)
    with pytest.raises(OutputError, match="is one of the inputs"):
        check_file(output, inputs=["lost.wav", tmp_path / "owl.wav"])
    assert check_file("other.wav", inputs=["owl.wav", "other.wav"]) == Path("other.wav")


# ------------------------------------------------------------------ a file is replaced in one step


def only(folder):
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def write_half(path, error):
    with new_file(path) as file:
        file.write(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(errno.ENOSPC, "No space left on device")])
def test_an_error_leaves_the_old_file_or_none(tmp_path, error):
    (tmp_path / "old.txt").write_text("old")
    for name in ("old.txt", "new.txt"):
        with pytest.raises((KeyboardInterrupt, ValueError)):
            write_half(tmp_path / name, error)
    assert only(tmp_path) == ["old.txt"]
    assert (tmp_path / "old.txt").read_text() == "old"


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_full_disk_leaves_the_old_table_and_is_told(tmp_path, name):
    resource = pytest.importorskip("resource", reason="limits the size of files")
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    write_table(pd.DataFrame({"clip": ["old.wav"]}), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    large = pd.DataFrame({"clip": np.random.default_rng(0).integers(0, 2**60, 20_000)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"Cannot write .*table.*\. An existing file is unchanged"):
            write_table(large, tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert only(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == before


@posix
def test_a_new_file_has_the_permissions_of_any_and_an_old_one_keeps_its_own(tmp_path):
    (tmp_path / "any").write_text("any")
    (tmp_path / "old").write_text("old")
    (tmp_path / "old").chmod(0o640)
    for name in ("new", "old"):
        write_file(tmp_path / name, "new")
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("any", "new", "old")}
    assert modes["new"] == modes["any"]
    assert modes["old"] == 0o640


@posix
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("data/table.csv")
    write_file(tmp_path / "link.csv", "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "data" / "table.csv").read_text() == "new"


@posix
def test_what_a_killed_writer_left_is_removed_by_the_next_and_a_writer_at_work_is_not(tmp_path):
    def write():
        with new_file(tmp_path / "table.csv") as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    assert run_in_child(write) == -signal.SIGKILL
    assert len(only(tmp_path)) == 1
    (tmp_path / ".skastw-notes.tmp").write_text("mine")
    (tmp_path / f".skastw-{16 * '0'}.tmp").symlink_to(tmp_path)
    (tmp_path / ".skastw-mine.tmp").mkdir()

    with new_file(tmp_path / "first.csv") as first:
        write_file(tmp_path / "second.csv", "second")
        first.write(b"first")
    kept = [f".skastw-{16 * '0'}.tmp", ".skastw-mine.tmp", ".skastw-notes.tmp"]
    assert only(tmp_path) == [*kept, "first.csv", "second.csv"]
    assert (tmp_path / "first.csv").read_text() == "first"


def test_a_file_that_is_mounted_by_itself_is_written_in_place(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    (tmp_path / "table.csv").write_text("a longer old text")
    monkeypatch.setattr(os, "replace", fail)
    write_file(tmp_path / "table.csv", "new")
    assert only(tmp_path) == ["table.csv"]
    assert (tmp_path / "table.csv").read_text() == "new"


# ------------------------------------------------------------------ commands


@pytest.fixture(scope="module")
def tones(make_tone_folder):
    """Return a folder of sixteen tones with a table of them beside it."""
    folder = make_tone_folder(16)
    rows = [(str(file), file.parts[-2]) for file in sorted(folder.rglob("*.wav"))]
    pd.DataFrame(rows, columns=["audio", "label"]).to_csv(folder.with_name("clips.csv"), index=False)
    return folder


@pytest.fixture(scope="module")
def model(tones, tmp_path_factory):
    files = sorted(tones.rglob("*.wav"))
    encoder = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    classifier = ASTWClassifier(encoder=encoder, epochs=1, val_split=None)
    classifier.fit(files, [file.parts[-2] for file in files])
    return classifier.save_pretrained(tmp_path_factory.mktemp("model") / "tones")


@pytest.fixture
def no_work(monkeypatch):
    """Fail if anything is loaded, trained or predicted."""

    def work(*_, **__):
        raise AssertionError("work was done before the output was checked")

    monkeypatch.setattr(ASTWClassifier, "fit", work)
    monkeypatch.setattr(ASTWClassifier, "from_pretrained", work)
    monkeypatch.setattr(importlib.import_module("skastw.runs.run"), "load_clips", work)


def skastw(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


COMMANDS = {
    "train": ["train", "--data", "TONES", "--recipe", "tiny", "-o", "OUTPUT"],
    "evaluate": ["evaluate", "--data", "TONES", "-m", "MODEL", "-o", "OUTPUT"],
    "predict": ["predict", "TONES", "-m", "MODEL", "-o", "OUTPUT.csv"],
    "predict a table": ["predict", "--data", "TONES.csv", "-m", "MODEL", "-o", "OUTPUT.csv"],
    "windows": ["windows", "TONES", "-m", "MODEL", "-w", "1", "-o", "OUTPUT.csv"],
    "labels": ["windows", "CLIP", "-m", "MODEL", "-w", "1", "-o", "OUTPUT.txt"],
    "folder of labels": ["windows", "TONES", "-m", "MODEL", "-w", "1", "-o", "OUTPUT"],
    "embed": ["embed", "TONES", "-m", "MODEL", "-o", "OUTPUT.csv"],
    "export": ["export", "MODEL", "OUTPUT.onnx"],
}


def command(name, tones, output, model="MODEL"):
    words = COMMANDS[name]
    names = {"TONES": tones, "CLIP": next(tones.rglob("*.wav")), "MODEL": model, "OUTPUT": output}
    return [re.sub("TONES|CLIP|MODEL|OUTPUT", lambda found: str(names[found[0]]), word) for word in words]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_cannot_be_written_is_told_before_the_work(tones, tmp_path, no_work, name):
    (tmp_path / "file").write_text("mine")
    result = skastw(*command(name, tones, tmp_path / "file" / "out"))
    assert result.exit_code == 1
    assert re.search(r"Got output '.*out.*', but '.*/file' is not a folder, expected one; give another", result.output)
    assert only(tmp_path) == ["file"]


@pytest.mark.parametrize("name", COMMANDS)
def test_files_and_folders_are_not_taken_for_each_other(tones, tmp_path, no_work, name):
    output = Path(command(name, tones, tmp_path / "out")[-1])
    if output.suffix:
        output.mkdir()
        expected = "which is a folder, expected the name of a file"
    else:
        output.write_text("mine")
        expected = "which is not a folder, expected the name of a folder"
    result = skastw(*command(name, tones, tmp_path / "out"))
    assert result.exit_code == 1
    assert expected in result.output


def test_a_table_of_clips_is_not_overwritten(tones, tmp_path, no_work):
    table = tones.with_name("clips.csv")
    before = table.read_bytes()
    result = skastw("predict", "--data", table, "-m", "model", "-o", table)
    assert result.exit_code == 1
    assert "is one of the inputs, expected another file" in result.output
    assert table.read_bytes() == before


def test_a_recording_is_not_overwritten_whatever_its_name(tones, model, tmp_path):
    recording = tmp_path / "night.csv"
    recording.write_bytes(next(tones.rglob("*.wav")).read_bytes())
    before = recording.read_bytes()
    pd.DataFrame({"audio": ["night.csv"]}).to_csv(tmp_path / "table.csv", index=False)
    for clips in ([recording], ["--data", tmp_path / "table.csv"]):
        result = skastw("embed", *clips, "-m", model, "-o", recording)
        assert result.exit_code == 1
        assert "is one of the inputs" in result.output
    assert recording.read_bytes() == before


def test_labels_of_several_recordings_are_refused_before_they_are_predicted(tones, model, tmp_path, monkeypatch):
    monkeypatch.setattr(ASTWClassifier, "predict_windows", lambda *_, **__: pytest.fail("predicted"))
    result = skastw("windows", tones, "-m", model, "-w", "1", "-o", tmp_path / "labels.txt")
    assert result.exit_code == 1
    assert "Got 16 recordings for one label track, expected one" in result.output


def test_a_file_that_the_user_names_is_replaced(tones, model, tmp_path):
    clip = next(tones.rglob("*.wav"))
    for name in ("out.csv", "out.txt"):
        (tmp_path / name).write_text("old")
        result = skastw("windows", clip, "-m", model, "-w", "0.5", "-o", tmp_path / name)
        assert (result.exit_code, result.stdout) == (0, f"{tmp_path / name}\n"), result.output
        assert "old" not in (tmp_path / name).read_text()
    assert only(tmp_path) == ["out.csv", "out.txt"]


def test_an_export_checks_its_place_before_the_work(model, tmp_path, monkeypatch):
    classifier = ASTWClassifier.from_pretrained(model)
    monkeypatch.setattr("skastw.artifact.onnx._front_end_graph", lambda *_: pytest.fail("exported"))
    with pytest.raises(OutputError, match=r"expected a name that ends in \.onnx"):
        classifier.export_onnx(tmp_path / "night.wav")
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(OutputError, match="which is a folder, expected the name of a file"):
        classifier.export_onnx(tmp_path / "model.onnx")


# ------------------------------------------------------------------ runs and reports


def plan(tones, output, **changes):
    settings = {"split": {"test_size": 0.5}, "recipe": "tiny", "params": SMALL, **changes}
    return Run({"folder": str(tones)}, str(output), **settings)


@pytest.fixture(scope="module")
def done(tones, tmp_path_factory):
    pytest.importorskip("matplotlib")
    place = tmp_path_factory.mktemp("run") / "out"
    run(plan(tones, place))
    return place


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_not_overwritten(done, tones, no_work):
    before = content(done)
    message = (
        r"contains earlier results \(model, run.yaml, metrics.json, ...\), expected a folder without results: give"
    )
    with pytest.raises(OutputError, match=message):
        run(plan(tones, done))
    for name in ("train", "evaluate"):
        result = skastw(*command(name, tones, done))
        assert result.exit_code == 1
        assert "or replace them with overwrite=True (on the command line: --overwrite)." in result.output
    assert content(done) == before


def test_with_overwrite_the_results_are_replaced_and_everything_else_stays(tones, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    run(plan(tones, out, description="first"))
    (out / "notes.txt").write_text("mine")
    (out / "model" / "notes.txt").write_text("mine")
    (out / "group_scores.png").write_bytes(b"of an earlier run with groups")
    before = content(out)
    run(plan(tones, out, description="second"), overwrite=True)
    after = content(out)
    assert set(after) == set(before) - {"group_scores.png"}
    assert after["notes.txt"] == after[os.path.join("model", "notes.txt")] == b"mine"
    assert b"second" in after["report.html"]
    assert b"second" in after["run.yaml"]


def test_a_run_file_of_the_users_is_not_overwritten(tones, tmp_path, no_work):
    (tmp_path / "run.yaml").write_text("# my notes\n")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=r"run\.yaml"):
            run(plan(tones, tmp_path), overwrite=overwrite)
    assert only(tmp_path) == ["run.yaml"]


def test_a_table_of_a_run_is_not_overwritten_by_its_predictions(tones, tmp_path, no_work):
    table = tmp_path / "predictions.csv"
    table.write_bytes(tones.with_name("clips.csv").read_bytes())
    before = table.read_bytes()
    for name in ("train", "evaluate"):
        words = command(name, tones, tmp_path)
        words[words.index("--data") + 1] = table
        result = skastw(*words, "--overwrite")
        assert result.exit_code == 1
        assert "is one of the inputs" in result.output
    assert table.read_bytes() == before


@pytest.mark.parametrize("place", ["", "run", os.path.join("low", "run")])
def test_results_are_not_written_among_the_recordings(tones, model, no_work, place):
    """The next run would take their folder for a class without recordings."""
    before = content(Path(tones))
    for words in (command("train", tones, tones / place), command("evaluate", tones, tones / place, model)):
        result = skastw(*words)
        assert result.exit_code == 1
        assert "which is in the folder of the recordings" in result.output
    assert content(Path(tones)) == before


def test_a_report_does_not_overwrite_a_model(tones, model):
    before = content(Path(model))
    for words in (command("evaluate", tones, model, model), command("train", tones, model)):
        result = skastw(*words, "--overwrite")
        assert result.exit_code == 1
        assert "which is the folder of a saved model, expected another folder" in result.output
    with pytest.raises(OutputError, match="is the folder of a saved model"):
        evaluate_predictions(["a", "b"], ["a", "b"]).save(model)
    assert content(Path(model)) == before


@pytest.mark.parametrize("name", ["metrics.json", "report.html", "run.yaml", "model"])
def test_what_is_in_the_way_of_a_run_is_told_before_the_work(tones, tmp_path, no_work, name):
    if name == "model":
        (tmp_path / name).write_text("mine")
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(OutputError, match=f"{name}', which is .*folder"):
        run(plan(tones, tmp_path), overwrite=True)


def test_a_report_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    evaluate_predictions(["a", "b"], ["a", "b"]).save(tmp_path, title="old")
    before = content(tmp_path)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("skastw.evaluation.report._page", fail)
    with pytest.raises(KeyboardInterrupt):
        evaluate_predictions(["a", "b"], ["b", "a"]).save(tmp_path, title="new")
    assert content(tmp_path) == before


@posix
def test_a_run_folder_stays_where_it_is(tones, tmp_path):
    """In a container, the folder or one inside it may be mounted, and cannot move."""
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    (out / "mounted").mkdir(parents=True)
    (out / "mounted" / "data.bin").write_bytes(b"data")
    before = [path.stat().st_ino for path in (out, out / "mounted", out / "mounted" / "data.bin")]
    run(plan(tones, out))
    run(plan(tones, out), overwrite=True)
    assert [path.stat().st_ino for path in (out, out / "mounted", out / "mounted" / "data.bin")] == before
    assert (out / "mounted" / "data.bin").read_bytes() == b"data"
