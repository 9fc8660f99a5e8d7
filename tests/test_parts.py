"""Tables in blocks and in parts: equal to one table, whatever stopped the run that wrote them."""

import copy
import errno
import io
import json
import os
import re
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner
from filelock import FileLock

from helpers import needs_fork, run_in_child, white_noise
from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.analysis import (
    clip_names,
    embedding_table,
    embedding_tables,
    labelled_windows,
    parts,
    prediction_table,
    prediction_tables,
    write_in_parts,
    write_parts,
    write_table,
)
from skastw.analysis.parts import MANIFEST
from skastw.analysis.tables import short_floats, window_positions
from skastw.cli import _output, cli
from skastw.core.progress import ProgressLines
from skastw.errors import OutputError
from skastw.network.inference import ROUNDING
from skastw.targets import MultiLabel, SingleLabel

BLOCK = 3


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Return the paths of eleven files: four blocks of three. The fifth file is empty, the last one is missing."""
    folder = tmp_path_factory.mktemp("clips")
    for i in range(10):
        soundfile.write(folder / f"{i}.wav", white_noise(1600, seed=i), 16000)
    (folder / "4.wav").write_bytes(b"")
    return [str(folder / f"{i}.wav") for i in range(11)]


FAILED = [4, 10]
MANY = {"predictions": prediction_tables, "embeddings": embedding_tables}


@pytest.fixture
def clf(fitted_classifier):
    return copy.copy(fitted_classifier)


def with_targets(clf, targets):
    """Return a classifier with the same weights and other targets."""
    clf = copy.copy(clf)
    clf.trained_ = replace(clf.trained_, targets=targets)
    return clf


TARGETS = {
    "texts": SingleLabel(np.array(["high", "low", "mid"])),
    "integers": SingleLabel(np.array([0, 1, 2])),
    "large integers": SingleLabel(np.array([0, 1, 2**64 - 1], dtype=np.uint64)),
    "objects": SingleLabel(np.array(["high", "low", "mid"], dtype=object)),
    "floats": SingleLabel(np.array([0.5, 1.5, 2.5])),
    "multilabel": MultiLabel(np.array(["high", "low", "mid"])),
}


# ------------------------------------------------------------------ blocks


@pytest.mark.parametrize("block", [1, 3, 50])
@pytest.mark.parametrize("many", [prediction_tables, embedding_tables])
def test_blocks_are_the_rows_of_one_table(clf, clips, many, block):
    one = {prediction_tables: prediction_table, embedding_tables: embedding_table}[many]
    tables = list(many(clf, clips, block=block))
    assert [len(table) for table in tables] == [min(block, 11 - start) for start in range(0, 11, block)]
    whole = one(copy.copy(clf).set_params(on_error="ignore"), clips)
    joined = pd.concat(tables)
    assert joined.columns.tolist() == [*whole.columns, "error"]
    pd.testing.assert_frame_equal(joined.drop(columns="error"), whole, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("kind", TARGETS)
def test_clips_that_fail_are_rows_and_all_blocks_have_the_same_types(clf, clips, kind):
    clf = with_targets(clf, TARGETS[kind])
    first, *others = prediction_tables(clf, [*clips, "lost.wav", "lost.wav", "lost.wav"], block=BLOCK)
    assert all(table.dtypes.equals(first.dtypes) for table in others)
    table = pd.concat([first, *others])
    failed = [*FAILED, 11, 12, 13]
    assert np.flatnonzero(table["error"].notna()).tolist() == failed
    assert "the file is empty" in table["error"][4]
    assert "no such file" in table["error"][10]
    values = table.drop(columns=["clip", "error"])
    assert values.iloc[failed].isna().all(axis=None)
    assert values.drop(index=failed).notna().all(axis=None)
    if kind != "multilabel":
        assert set(table["predicted"].dropna()) <= set(TARGETS[kind].labels)


def test_the_estimator_does_not_change(clf, clips):
    before = dict(vars(clf))
    assert clf.on_error == "raise"
    list(prediction_tables(clf, clips, block=BLOCK))
    list(embedding_tables(clf, clips, block=BLOCK))
    assert vars(clf) == before


def test_clips_without_a_file_have_their_position_in_x(clf):
    arrays = [white_noise(800, seed=i) for i in range(5)]
    assert pd.concat(prediction_tables(clf, arrays, block=2))["clip"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("block", [1, 2])
def test_files_and_arrays_are_one_column_of_texts(clf, clips, tmp_path, block):
    pytest.importorskip("pyarrow")
    mixed = [clips[0], white_noise(800, seed=0)]
    write_in_parts(clf, mixed, tmp_path / "mixed.parquet", block=block)
    assert pd.read_parquet(tmp_path / "mixed.parquet")["clip"].tolist() == [clips[0], "1"]


def test_the_names_of_parts_of_a_file_keep_their_times():
    times = [{"start": 3599.123, "end": 86400.25}, {"start": 0.5}, {"end": np.float32(1.5)}, {"start": 0.1 + 0.2}]
    names = clip_names([{"path": "night.wav", **part} for part in times])
    assert [name.partition("#t=")[2] for name in names] == ["3599.123,86400.25", "0.5", ",1.5", "0.3"]


def test_only_the_chosen_blocks_are_computed(clf, clips):
    tables = list(prediction_tables(clf, clips, block=BLOCK, blocks=[3, 1]))
    assert [table.index.tolist() for table in tables] == [[9, 10], [3, 4, 5]]
    with pytest.raises(ValueError, match="Got block=0, expected an integer of at least 1"):
        next(prediction_tables(clf, clips, block=0))


# ------------------------------------------------------------------ digits


def test_float32_is_written_with_its_own_digits(tmp_path, clf, clips):
    values = np.array([0.1, 1 / 3, 1e-9, np.nan, 16777216], dtype=np.float32)
    path = write_table(pd.DataFrame({"p": values, "time": [0.1, 1 / 3, 1e-9, np.nan, 2.0]}), tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_text().splitlines()
    assert text[1] == "0.1,0.1"
    assert text[2] == "0.33333334,0.3333333333333333"
    np.testing.assert_array_equal(pd.read_csv(path)["p"].astype(np.float32), values)
    assert short_floats(pd.DataFrame({0: values})).to_dict("list")[0][:2] == [0.1, 0.33333334]

    table = prediction_table(clf, clips[:4])
    printed = pd.read_csv(write_table(table, tmp_path / "p.csv"))
    assert all(len(str(p)) < 14 for p in printed["probability"])
    np.testing.assert_array_equal(printed["probability"].astype(np.float32), table["probability"])
    clf.set_params(on_error="ignore")
    windows = labelled_windows(clf.predict_windows([clips[0], "lost.wav"], window=0.05))
    assert windows["probability"].dtype == np.float32
    assert windows["probability"].isna().tolist() == [False] * 3 + [True]
    [[(_, probability), *_]] = clf.predict_top_k(clips[:1])
    assert len(str(probability)) < 14


# ------------------------------------------------------------------ parts


@pytest.fixture(scope="module")
def whole(fitted_classifier, clips):
    """Return the table of a run that was not stopped."""
    return pd.concat(prediction_tables(fitted_classifier, clips, block=BLOCK), ignore_index=True)


def run(clf, clips, folder, **options):
    """Write parts, and return the result and the sizes of the parts that were computed."""
    computed = []
    note = lambda n, now: computed.append(n) if now else None  # noqa: E731
    return write_parts(clf, clips, folder, **{"block": BLOCK, "progress": note, **options}), computed


def names(folder):
    """Return the names of the parts in a folder; there are no other files than the manifest and the records."""
    found = sorted(path.name for path in folder.iterdir())
    assert found[:2] == ["_done", MANIFEST] or "_done" not in found
    assert all(name.startswith("part-") for name in found[2:])
    return found[2:]


def read(folder):
    return pd.concat(map(pd.read_csv, sorted(folder.glob("part-*.csv"))), ignore_index=True)


def same(table, whole):
    """Compare a table of a CSV file with the table in memory, digit by digit."""
    assert table.to_csv(index=False) == pd.read_csv(io.StringIO(whole.to_csv(index=False))).to_csv(index=False)


@pytest.mark.parametrize("kind", ["texts", "integers", "multilabel"])
@pytest.mark.parametrize("content", MANY)
def test_the_parts_are_the_table(clf, clips, tmp_path, content, kind):
    clf = with_targets(clf, TARGETS[kind])
    written, computed = run(clf, clips, tmp_path / "out", content=content)
    assert (written.path, written.clips, written.failed) == (str(tmp_path / "out"), 11, 2)
    assert computed == [3, 3, 3, 2]
    assert names(tmp_path / "out") == [f"part-0000{i}.csv" for i in range(4)]
    same(read(tmp_path / "out"), pd.concat(MANY[content](clf, clips, block=BLOCK)))
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["columns"] == read(tmp_path / "out").columns.tolist()


def test_parquet_parts_are_one_data_set(clf, clips, tmp_path, whole):
    pytest.importorskip("pyarrow")
    run(clf, clips, tmp_path / "out", form="parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out"), whole, check_dtype=False)


def fail_at(monkeypatch, calls, error):
    """Let an error happen in the midst of writing the part after ``calls`` ones."""
    write_rows, seen = parts.write_rows, []

    def write(table, file, suffix):
        seen.append(1)
        if len(seen) > calls:
            raise error
        write_rows(table, file, suffix)

    monkeypatch.setattr(parts, "write_rows", write)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")])
def test_a_stopped_run_continues_with_the_missing_parts(clf, clips, tmp_path, monkeypatch, whole, error):
    for n_parts in (2, 1):  # two parts, then one more
        with monkeypatch.context() as patch:
            fail_at(patch, n_parts, error)
            with pytest.raises(type(error)):
                run(clf, clips, tmp_path / "out")
    assert len(names(tmp_path / "out")) == 3
    written, computed = run(clf, clips, tmp_path / "out")
    assert (written.clips, written.failed, computed) == (11, 2, [2])
    same(read(tmp_path / "out"), whole)
    assert run(clf, clips, tmp_path / "out") == (written, [])


@needs_fork
def test_a_killed_run_continues(clf, clips, tmp_path, whole):
    def run_and_die():
        fsync, calls = os.fsync, []

        def die(descriptor):  # a part and its record are two files
            calls.append(1)
            if len(calls) == 6:  # the manifest, two parts, and half of the third
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(descriptor)

        os.fsync = die
        run(clf, clips, tmp_path / "out")

    assert run_in_child(run_and_die) == -signal.SIGKILL
    assert len(list((tmp_path / "out").glob("part-*"))) == 2
    _, computed = run(clf, clips, tmp_path / "out")
    assert computed == [3, 2]
    assert len(names(tmp_path / "out")) == 4, "and nothing of the killed process"
    same(read(tmp_path / "out"), whole)


def test_a_full_disk_keeps_the_complete_parts(clf, clips, tmp_path, monkeypatch, whole):
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(1)
        if len(calls) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"Cannot write .*part-00002\.csv.*: No space left on device"):
            run(clf, clips, tmp_path / "out")
    assert names(tmp_path / "out") == ["part-00000.csv", "part-00001.csv"]
    assert run(clf, clips, tmp_path / "out")[1] == [3, 2]
    same(read(tmp_path / "out"), whole)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [truncate, flip, os.remove, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["part-00002.csv", "_done/part-00002.csv.json"])
def test_a_damaged_part_is_computed_again(clf, clips, tmp_path, whole, harm, name):
    run(clf, clips, tmp_path)
    harm(tmp_path / name)
    assert run(clf, clips, tmp_path)[1] == [3]
    same(read(tmp_path), whole)


@pytest.mark.parametrize("n_shards", [1, 2, 3, 7])
def test_shards_have_each_part_exactly_once(clf, clips, tmp_path, whole, n_shards):
    n_clips = []
    for i in range(n_shards, 0, -1):
        before = set(names(tmp_path)) if i < n_shards else set()
        written, computed = run(clf, clips, tmp_path, shard=(i, n_shards))
        assert len(set(names(tmp_path)) - before) == len(computed)
        n_clips.append(written.clips)
    assert sum(n_clips) == 11
    same(read(tmp_path), whole)
    assert run(clf, clips, tmp_path)[1] == [], "a run without shards finds them all"


@pytest.mark.parametrize("shard", [(0, 2), (3, 2)])
def test_shards_are_counted_from_one(clf, clips, tmp_path, shard):
    with pytest.raises(ValueError, match=re.escape(f"Got shard={shard}, expected (i, n) with i from 1 to n")):
        write_parts(clf, clips, tmp_path, shard=shard)


# ------------------------------------------------------------------ another run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block": 4}, "block: 3 before, 4 now"),
        ({"form": "parquet"}, "format: csv before, parquet now"),
        ({"content": "embeddings"}, "content: predictions before, embeddings now; other columns"),
    ],
)
def test_other_settings_are_refused(clf, clips, tmp_path, options, message):
    run(clf, clips, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("*") if path.is_file()}
    with pytest.raises(OutputError, match=re.escape(f"has parts of another run ({message})")):
        run(clf, clips, tmp_path, **options)
    assert {path: path.read_bytes() for path in tmp_path.glob("*") if path.is_file()} == before


def test_other_clips_and_models_are_refused(clf, two_classifiers, clips, tmp_path, monkeypatch):
    run(clf, clips, tmp_path)
    monkeypatch.setattr(ASTWClassifier, "predict_proba", None)
    refused = {
        "clips: 11 before, 10 now; other clips": (clf, clips[:10]),
        "(other clips)": (clf, [*clips[1:], clips[0]]),
        "(another model)": (two_classifiers[0], clips),
        "(tta: 1 before, 2 now)": (copy.copy(clf).set_params(tta=2), clips),
        "(precision: float32 before, bfloat16 now)": (copy.copy(clf).set_params(precision="bfloat16"), clips),
    }
    for message, (other, others) in refused.items():
        with pytest.raises(OutputError, match=re.escape(message)) as caught:
            run(other, others, tmp_path)
        assert "give another output, or remove this folder" in str(caught.value)
    assert run(copy.copy(clf).set_params(batch_size=2, n_jobs=2), clips, tmp_path)[1] == [], "the same predictions"


def test_arrays_are_compared_by_their_content(clf, tmp_path):
    arrays = [white_noise(800, seed=i) for i in range(4)]
    run(clf, arrays, tmp_path)
    assert run(clf, [array.copy() for array in arrays], tmp_path)[1] == []
    with pytest.raises(OutputError, match="other clips"):
        run(clf, arrays[::-1], tmp_path)


def test_a_relative_path_from_another_folder_is_another_clip(clf, clips, tmp_path, monkeypatch):
    folder = os.path.dirname(clips[0])
    monkeypatch.chdir(folder)
    run(clf, ["0.wav", "1.wav"], tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="other clips"):
        run(clf, ["0.wav", "1.wav"], tmp_path / "out")


def test_a_folder_with_other_files_is_refused(clf, clips, tmp_path):
    (tmp_path / "part-00000.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"has other files, such as 'part-00000.csv', expected a new or an empty"):
        run(clf, clips, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.csv"]
    assert (tmp_path / "part-00000.csv").read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is damaged"), ('{"version": 2}', "has version: 2, expected 1"), ("[]", "holds []")]
)
def test_a_manifest_that_cannot_be_read_is_refused(clf, clips, tmp_path, text, message):
    run(clf, clips, tmp_path)
    content = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps(content | json.loads(text)) if "version" in text else text)
    with pytest.raises(OutputError, match=re.escape(message)):
        run(clf, clips, tmp_path)


def test_a_second_process_with_the_same_shard_is_refused(clf, clips, tmp_path):
    def second(n, computed):
        with pytest.raises(OutputError, match="Another process writes the same parts into"):
            run(clf, clips, tmp_path)
        assert run(clf, clips, tmp_path, shard=(2, 2))[0].clips == 5

    written, _ = run(clf, clips, tmp_path, progress=second)
    assert written.clips == 11


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content": "labels"}, "Got content='labels', expected one of 'predictions', 'embeddings'"),
        ({"form": "xlsx"}, "Got form='xlsx', expected one of 'csv', 'parquet'"),
        ({"block": 0}, "Got block=0, expected an integer of at least 1"),
        ({"block": "3"}, "Got block='3', expected an integer of at least 1"),
        ({"block": True}, "Got block=True, expected an integer of at least 1"),
    ],
)
def test_arguments_are_checked(clf, clips, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(clf, clips, tmp_path / "out", **options)
    with pytest.raises(ValueError, match="Got no clips"):
        run(clf, [], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ one file


def test_the_folder_of_the_parts_is_not_locked_when_it_is_removed(clf, clips, tmp_path, monkeypatch):
    rename = os.replace

    def as_on_windows(source, target):
        for lock in Path(source).glob("_done/*.lock"):
            with FileLock(lock, timeout=0):  # Windows renames no folder with an open file
                pass
        rename(source, target)

    monkeypatch.setattr(os, "replace", as_on_windows)
    write_in_parts(clf, clips, tmp_path / "table.csv", block=BLOCK)
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_is_written_at_the_end_and_its_parts_are_removed(clf, clips, tmp_path, monkeypatch, whole, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"table.{suffix}"
    path.write_text("old")
    with monkeypatch.context() as patch:
        fail_at(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            write_in_parts(clf, clips, path, block=BLOCK)
    assert path.read_text() == "old"
    assert len(names(tmp_path / f"table.{suffix}.parts")) == 2

    computed = []
    written = write_in_parts(clf, clips, path, block=BLOCK, progress=lambda n, now: computed.append((n, now)))
    assert (written.path, written.clips, written.failed) == (str(path), 11, 2)
    assert computed == [(3, False), (3, False), (3, True), (2, True)]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    expected = tmp_path / f"expected.{suffix}"
    write_table(whole, expected)
    if suffix == "csv":
        assert path.read_bytes() == expected.read_bytes()
    else:
        pd.testing.assert_frame_equal(pd.read_parquet(path), pd.read_parquet(expected))


def test_parts_of_a_file_are_kept_if_it_cannot_be_written(clf, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_JOIN", {"csv": lambda *_: os.close(-1)})
    with pytest.raises(OutputError, match="Cannot write"):
        write_in_parts(clf, clips, tmp_path / "table.csv", block=BLOCK)
    assert len(names(tmp_path / "table.csv.parts")) == 4
    assert not (tmp_path / "table.csv").exists()


# ------------------------------------------------------------------ commands


@pytest.fixture(scope="module")
def model(fitted_classifier, tmp_path_factory):
    return fitted_classifier.save_pretrained(tmp_path_factory.mktemp("model") / "tones")


def skastw(*arguments):
    return CliRunner().invoke(cli, list(map(str, arguments)))


@pytest.mark.parametrize("command", ["predict", "embed"])
def test_the_commands_write_parts_and_files(model, clips, tmp_path, command):
    options = ["-m", model, "--block", 4, "--jobs", 2, "--batch-size", 2]
    for output in ("table.csv", "folder"):
        result = skastw(command, *clips, *options, "-o", tmp_path / output)
        assert (result.exit_code, result.stdout) == (1, f"{tmp_path / output}\n")
        words = {"predict": "predictions", "embed": "embeddings"}
        progress, failures = result.stderr.splitlines()
        assert progress.startswith(f"{words[command]}: 11 of 11 clips (100 %)")
        place = f"the column error of {tmp_path / output} has the reasons"
        assert failures == f"skastw: 2 of 11 clips cannot be used; {place}"
    assert len(list((tmp_path / "folder").glob("part-0000?.csv"))) == 3
    same(read(tmp_path / "folder"), pd.read_csv(tmp_path / "table.csv"))

    result = skastw(command, *clips[:3], *options, "--quiet", "-o", tmp_path / "good.csv")
    assert (result.exit_code, result.stderr) == (0, ""), result.exception
    result = skastw(command, *clips[:3], *options, "-o", tmp_path / "folder")
    assert result.exit_code == 1
    assert "has parts of another run (clips: 11 before, 3 now; other clips)" in str(result.exception)


def windows_of(model, clips, **how):
    """Return the table of the windows of all clips, with the reasons of those that fail."""
    lenient = copy.copy(model).set_params(on_error="ignore")
    table = lenient.transform_windows(clips, **how)
    reasons = {clip.index: clip.reason for clip in lenient.failed_}
    return table.assign(error=[reasons.get(i) for i in window_positions(table)])


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_windows_are_written_in_parts_and_a_stopped_run_continues(clf, clips, tmp_path, monkeypatch, form):
    pytest.importorskip("pyarrow")
    how = {"window": np.float64(0.05), "hop": 0.04}
    chosen = {"content": "embeddings", "block": BLOCK, "form": form, **how}
    with monkeypatch.context() as patch:
        fail_at(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            write_parts(clf, clips, tmp_path, **chosen)
    written = write_parts(clf, clips, tmp_path, **chosen)
    assert (written.clips, written.failed) == (11, 2)

    reader = {"csv": pd.read_csv, "parquet": pd.read_parquet}[form]
    files = sorted(tmp_path.glob("part-*"))
    assert len(files) == 4
    table, whole = pd.concat(map(reader, files), ignore_index=True), windows_of(clf, clips, **how)
    assert len(table) == 9 * 3 + 2
    assert table.columns.tolist() == whole.columns.tolist()
    assert table["error"].notna().tolist() == whole["error"].notna().tolist()
    pd.testing.assert_frame_equal(
        table.drop(columns="error"), whole.drop(columns="error"), check_dtype=False, atol=ROUNDING
    )
    with pytest.raises(OutputError, match=r"hop: 0\.04 before, 0\.05 now"):
        write_parts(clf, clips, tmp_path, **{**chosen, "hop": 0.05})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hop": 1.0, "content": "embeddings"}, "Got hop=1.0 with window=None, expected window"),
        ({"window": 1.0}, "Got window=1.0 with content='predictions', expected content='embeddings'"),
        ({"window": 0.0, "content": "embeddings"}, "Got window=0.0, expected seconds, and at least one sample"),
        ({"window": 1.0, "hop": "1", "content": "embeddings"}, "Got hop='1', expected seconds"),
    ],
)
def test_wrong_windows_leave_no_folder(clf, clips, tmp_path, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        write_parts(clf, clips, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command_embeds_windows(model, clf, clips, tmp_path):
    whole = windows_of(clf, clips, window=0.05)
    result = skastw("embed", *clips, "-m", model, "--window", 0.05, "--quiet", "-o", tmp_path / "out.csv")
    assert result.exit_code == 1
    assert result.stderr.startswith("skastw: 2 of 11 clips cannot be used")
    table = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(table["embedding_0"], whole["embedding_0"], atol=ROUNDING)

    printed = pd.read_csv(io.StringIO(skastw("embed", clips[0], "-m", model, "-w", 0.05, "--hop", 0.05).stdout))
    assert printed["start"].tolist() == [0.0, 0.05]
    result = skastw("embed", clips[0], "-m", model, "--hop", 0.05)
    assert "Got --hop, expected --window with it" in result.stderr


def test_the_command_embeds_with_a_pretrained_network(wav2vec2_folder, clips, tmp_path):
    featurizer = ASTWFeaturizer.from_weights(wav2vec2_folder, device="cpu")
    assert featurizer.sample_rate == 16000
    expected = featurizer.fit_transform(clips[:3])
    result = skastw("embed", *clips[:3], "--weights", wav2vec2_folder, "--jobs", 2, "-o", tmp_path / "out.csv")
    assert result.exit_code == 0, result.exception
    table = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(table.iloc[:, 1:-1], expected, atol=1e-5)

    options = ["--weights", wav2vec2_folder, "--window", 0.05]
    again = [skastw("embed", *clips, *options, "-o", tmp_path / "parts") for _ in range(2)]
    assert [result.exit_code for result in again] == [1, 1], "two files fail"
    assert len(read(tmp_path / "parts")) == 9 * 3 + 2

    result = skastw("embed", clips[0], "--weights", wav2vec2_folder, "-m", "model")
    assert "Expected --model or --weights, and not both" in result.stderr
    result = skastw("embed", clips[0], "--weights", wav2vec2_folder, "--batch-size", 2, "-o", tmp_path / "b.csv")
    assert "Got --batch-size with --weights" in result.stderr
    assert "Did you mean weights='microsoft/wavlm-base'?" in str(
        skastw("embed", clips[0], "--weights", "wavlm-base").exception
    )


def test_shards_of_a_command_write_one_data_set(model, clips, tmp_path, whole):
    pytest.importorskip("pyarrow")
    options = ["-m", model, "-o", f"{tmp_path}/out/", "--block", BLOCK, "--format", "parquet"]
    results = [skastw("predict", *clips, *options, "--shard", f"{i}/3") for i in (1, 2, 3)]
    assert [result.exit_code for result in results] == [1, 1, 0], "the first and the second have a file that fails"
    table = pd.read_parquet(tmp_path / "out")
    assert table["clip"].tolist() == clips
    np.testing.assert_allclose(table["p(low)"], whole["p(low)"], rtol=0, atol=ROUNDING)


def test_a_command_that_is_stopped_says_that_it_can_continue(model, clips, tmp_path, monkeypatch):
    command = ["predict", *clips, "-m", model, "--block", BLOCK, "-o", tmp_path / "out"]
    with monkeypatch.context() as patch:
        fail_at(patch, 2, KeyboardInterrupt())
        result = skastw(*command)
    assert "skastw: 6 of 11 clips are complete; the same command continues" in result.stderr
    assert "predictions: 6 of 11 clips (54 %)" in result.stderr
    assert skastw(*command).exit_code == 1
    assert len(read(tmp_path / "out")) == 11


@pytest.mark.parametrize("terminal", [0, 1])
def test_the_last_line_says_how_to_continue(model, clips, tmp_path, monkeypatch, terminal):
    monkeypatch.setattr(_output, "verbosity", lambda: terminal)
    fail_at(monkeypatch, 2, RuntimeError("out of memory"))
    result = skastw("predict", *clips, "-m", model, "--block", BLOCK, "-o", tmp_path / "out")
    last = result.stderr.splitlines()[-1]
    assert last == "skastw: 6 of 11 clips are complete; the same command continues"


def test_a_shard_without_clips_is_no_error(model, clips, tmp_path):
    result = skastw("predict", *clips[:2], "-m", model, "-o", tmp_path / "out", "--shard", "2/2")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out'}\n"), result.exception
    assert result.stderr == "predictions: 0 of 0 clips (100 %)\n"


def test_a_terminal_gets_a_bar(model, clips, tmp_path, monkeypatch):
    monkeypatch.setattr(_output, "verbosity", lambda: 1)
    command = ["predict", *clips[:6], "-m", model, "--block", BLOCK, "-o", tmp_path / "out", "--shard", "1/2"]
    for _ in range(2):
        result = skastw(*command)
        assert result.exit_code == 0
        assert re.search(r"\rpredictions: 100%\|.*\| 3/3 ", result.stderr), "of this shard"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "m.txt"], "'m.txt', expected a name that ends in .csv, .parquet, or a folder"),
        (["-o", "m.xyz"], "'m.xyz', expected a name that ends in .csv, .parquet, or a folder"),
        (["-o", "m.csv", "--shard", "1/2"], "expected --output with a folder"),
        (["--shard", "1/2", "-o", "m.csv"], "expected --output with a folder"),
        (["-o", "m.csv", "--format", "csv"], "expected --output with a folder"),
        (["--format", "csv"], "expected --output with a folder"),
        (["-o", "m", "--shard", "3/2"], "'3/2', expected I/N with I from 1 to N, such as 3/64"),
        (["-o", "m", "--shard", "0/2"], "'0/2', expected I/N"),
        (["-o", "m", "--shard", "half"], "'half', expected I/N"),
        (["--block", "8"], "expected --output"),
        (["--json", "-o", "m.csv"], "expected no --output, because this option is about printed results"),
        (["-o", "m.csv", "-k", "2"], "expected no --output, because this option is about printed results"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_work(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ASTWClassifier, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    result = skastw("predict", "a.wav", "-m", "model", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_an_export_with_another_ending_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(ASTWClassifier, "from_pretrained", lambda *_, **__: pytest.fail("loaded"))
    result = skastw("export", "model", tmp_path / "m.txt")
    assert "expected a name that ends in .onnx" in str(result.exception)


def test_windows_are_printed_as_json_or_written():
    result = skastw("windows", "a.wav", "-m", "model", "-w", 1, "--json", "-o", "night.txt")
    assert result.exit_code == 2
    assert "expected no --output, because this option" in " ".join(result.stderr.replace("│", " ").split())


def test_a_high_speed_is_written_in_digits(capsys, monkeypatch):
    now = iter([0.0, 1.0])
    monkeypatch.setattr("skastw.core.progress.time.monotonic", lambda: next(now))
    with ProgressLines(total=5000, desc="predictions", unit="clip", seconds=3600) as lines:
        lines.n = 1234
    assert "(24 %), 1230 clips/s, " in capsys.readouterr().err


def test_a_log_gets_few_lines_of_progress(capsys):
    with ProgressLines(total=10, desc="predictions", unit="clip", seconds=3600) as lines:
        for _ in range(5):
            lines.update(2)
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"predictions: 10 of 10 clips \(100 %\), \S+ clips/s, 00:00 left", line)

    with ProgressLines(total=10, desc="predictions", unit="clip", seconds=0) as lines:
        lines.initial = 4
        lines.update(4)
        lines.update(2)
    first, *others = capsys.readouterr().err.splitlines()
    assert first == "predictions: 4 of 10 clips (40 %)"
    assert all(line.startswith("predictions: 6 of 10 clips (60 %), ") for line in others)
    assert len(others) == 2
