"""Saving: whatever fails, the folder holds the old model or the new one, whole, and everything else stays as it is."""

import contextlib
import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import needs_fork, run_in_child, start_child
from skastw import ASTWClassifier
from skastw.artifact.folder import FILES, Artifact, check_target, read_artifact, read_files, write_artifact
from skastw.datasets import make_tones
from skastw.errors import ArtifactError
from skastw.storage import commit as _commit
from skastw.storage import weights

pytestmark = needs_fork

CLIPS, Y = make_tones(n_clips=12, random_state=0)
CARD = "---\nlibrary_name: skastw\ntags:\n- audio\n---\n\n# Model {}\n"
OLD, NEW, NEXT = 1, 2, 3


def save(folder, number, **kwargs):
    """Save a small model whose six files all hold a number."""
    value = {"number": number}
    tensors = {"weight": torch.full((4,), float(number))}
    config = {"library": "skastw", **value}
    return write_artifact(folder, Artifact(tensors, config, value, value, value, CARD.format(number)), **kwargs)


def load(folder):
    """Return the number of a model, once all that is loaded is known to hold the same."""
    stored = read_artifact(folder)
    documents = (stored.config, stored.labels, stored.metrics)
    [number] = {document["number"] for document in documents} | set(stored.weights.read()["weight"].tolist())
    return number


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def holds_only(folder, number):
    """Check that a folder holds one model under the six names and nothing else."""
    assert sorted(os.listdir(folder)) == sorted(FILES)
    assert load(folder) == number
    assert (folder / "README.md").read_text(encoding="utf-8") == CARD.format(number)


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "models" / "one", OLD)


@pytest.fixture(autouse=True)
def do_not_wait_for_the_disk(monkeypatch):
    """Flushing takes most of the time, and only a power failure would show its effect."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(_commit, "_MAX_WAIT", 60.0)


# ------------------------------------------------------------------ a system that fails

CALLS = (
    "open",
    "write",
    "fsync",
    "close",
    "replace",
    "unlink",
    "listdir",
    "lstat",
    "stat",
    "fstat",
    "chmod",
    "makedirs",
)


class System:
    """The ``os`` of the writer, with an action before each of its calls; the action gets its number and arguments."""

    def __init__(self, action):
        self.action, self.count, self.last = action, 0, ()

    def __getattr__(self, name):
        function = getattr(os, name)
        if name not in CALLS:
            return function

        def call(*args, **kwargs):
            self.count += 1
            self.last = (self.count, name, *args)
            if name == "close":  # has its effect, even if it fails
                function(*args)
            self.action(*self.last)
            return None if name == "close" else function(*args, **kwargs)

        return call


class Killed(BaseException):
    """Stands for the end of the process: from then on no call has an effect, so nothing is tidied up."""


@contextlib.contextmanager
def system(action):
    with pytest.MonkeyPatch.context() as patch:
        calls = System(action)
        patch.setattr(_commit, "os", calls)
        yield calls


def once(step, error):
    def action(count, *_):
        if count == step:
            raise error

    return action


def from_then_on(step, error):
    def action(count, *_):
        if count >= step:
            raise error

    return action


def at_rename(number, error):
    """Return an action that stops everything at a rename: the first is that of the record, then come the files."""
    renames = 0

    def action(count, name, *_):
        nonlocal renames
        renames += name == "replace"
        if renames >= number:
            raise error

    return action


def die_at_rename(folder, number, rename):
    with system(at_rename(rename, Killed())), pytest.raises(Killed):
        save(folder, number)


DISK_FULL, DISK_BROKEN = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error")
INTERRUPTED = KeyboardInterrupt()


@pytest.mark.parametrize("when", [once, from_then_on])
@pytest.mark.parametrize("error", [DISK_FULL, DISK_BROKEN, INTERRUPTED], ids=["full", "broken", "interrupted"])
@pytest.mark.filterwarnings("ignore:The model is saved")
def test_whatever_call_fails_the_folder_is_whole_and_the_next_save_succeeds(folder, when, error):
    outcomes = []
    for step in range(1, 1000):
        with system(when(step, error)) as calls:
            try:
                save(folder, NEW)
                raised = False
            except (ArtifactError, KeyboardInterrupt):
                raised = True
        number = load(folder)
        assert number in (OLD, NEW)
        if isinstance(error, OSError):
            assert raised == (number == OLD), f"an error means that the old model is there: {calls.last}"
        if when is once and (number == OLD or error is INTERRUPTED):
            holds_only(folder, number)
        outcomes.append(number)

        save(folder, OLD)
        holds_only(folder, OLD)
        if calls.count < step:
            break
    assert not raised
    assert step > 50
    assert set(outcomes) == {OLD, NEW}


@pytest.mark.parametrize("exists", [True, False])
def test_killed_at_any_call_the_folder_is_whole_and_the_next_save_tidies_up(folder, exists):
    outcomes = []
    for step in range(1, 1000):
        if not exists:
            shutil.rmtree(folder)
        end = run_in_child(lambda step=step: killed_at(step, lambda: save(folder, NEW)))
        try:
            outcomes.append(load(folder))
        except ArtifactError:
            assert not exists
            outcomes.append(0)

        save(folder, OLD)
        holds_only(folder, OLD)
        if end == 0:
            break
        assert end == -signal.SIGKILL
    assert end == 0
    assert step > 50
    assert outcomes == sorted(outcomes)
    assert set(outcomes) == {OLD if exists else 0, NEW}


def killed_at(step, function):
    def action(count, *_):
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    with system(action):
        function()


def test_everything_is_on_the_disk_before_it_counts(folder):
    """A power failure may lose what was not flushed: the content of a file, or the names in its folder."""
    written, flushed, phases = set(), set(), []

    def watch(count, name, *args):
        if name == "open" and args[1] & os.O_CREAT:
            written.add(Path(args[0]).name)
        elif name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode):
            phases.append("flush")
        elif name == "fsync":
            flushed.update(path.name for path in folder.iterdir() if os.path.samestat(path.stat(), os.fstat(args[0])))
        elif name in ("replace", "unlink"):
            phases.append(Path(args[-1]).name)

    with system(watch):
        save(folder, NEW)
    assert len(written) == len(FILES) + 1
    assert written == flushed
    assert phases[:3] == ["flush", _commit.RECORD, "flush"], "the files, then the record"
    assert sorted(phases[3:9]) == sorted(FILES)
    assert phases[9:] == ["flush", _commit.RECORD], "the record is removed last"


def test_a_save_that_fails_leaves_no_new_folder(tmp_path):
    with system(full), pytest.raises(ArtifactError, match=r"Cannot save to .*new'.*No space left"):
        save(tmp_path / "new", NEW)
    assert not os.listdir(tmp_path)


def test_what_is_lost_or_changed_meanwhile_is_an_error(folder):
    def removes(count, name, source, *_):
        if name == "replace" and str(source).endswith("-labels.json.tmp"):
            raise AssertionError("a void commit must not be moved into place")
        if name == "replace" and str(source).endswith("commit.json.tmp"):
            [path] = folder.glob(".skastw-*-labels.json.tmp")
            path.write_bytes(b"{}")

    with system(removes), pytest.raises(ArtifactError, match="changed or removed by another program"):
        save(folder, NEW)
    holds_only(folder, OLD)


# ------------------------------------------------------------------ readers


@contextlib.contextmanager
def steps_of_opening():
    """Let the opening of a file count as a call, too."""
    opener = _commit.open_inside

    def counted(*args):
        _commit.os.fstat(0)
        return opener(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_commit, "open_inside", counted)
        yield


@pytest.mark.parametrize("renames", [None, 1, 2, 4, 7])
def test_a_reader_that_is_overtaken_at_any_step_gets_one_model(tmp_path, renames):
    """Between two steps of the reader a writer saves, as a whole or until it is killed at one of its renames."""
    outcomes = []
    for step in range(1, 1000):
        folder = save(tmp_path / str(step), OLD)

        def overtake(count, *_, step=step, folder=folder):
            if count == step:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(_commit, "os", os)
                    if renames is None:
                        save(folder, NEW)
                    else:
                        die_at_rename(folder, NEW, renames)

        with system(overtake) as calls, steps_of_opening():
            outcomes.append(load(folder))
        if calls.count < step:
            break
        assert load(folder) == (OLD if renames == 1 else NEW)
    assert step > 10
    assert set(outcomes) == ({OLD} if renames == 1 else {OLD, NEW})


def test_a_reader_is_overtaken_in_two_parts(folder):
    """At one step of the reader a writer is killed between its renames, and at a later one another tidies up."""
    outcomes = []
    with system(lambda *_: None) as calls, steps_of_opening():
        load(folder)
    for first, second in combinations(range(1, calls.count + 5), 2):
        save(folder, OLD)

        def overtake(count, *_, first=first, second=second):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_commit, "os", os)
                if count == first:
                    die_at_rename(folder, NEW, 4)
                elif count == second:
                    check_target(folder)

        with system(overtake), steps_of_opening():
            outcomes.append(load(folder))
    assert set(outcomes) == {OLD, NEW}


def test_weights_are_those_of_the_model_that_was_opened(folder):
    stored = read_artifact(folder)
    save(folder, NEW)
    assert stored.weights.read()["weight"].tolist() == [OLD] * 4
    shutil.rmtree(folder)
    assert stored.weights.read()["weight"].tolist() == [OLD] * 4


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs a list of open files")
def test_reading_closes_its_files(folder):
    for _ in range(3):
        load(folder)
        read_files(folder)
        die_at_rename(folder, NEW, 3)
        assert load(folder) == NEW
        read_files(folder)
        save(folder, OLD)
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    opened = [os.readlink(link) for link in links if os.path.lexists(link)]
    assert not [path for path in opened if path.startswith(f"{folder}/")]


def test_a_folder_that_never_rests_is_an_error(folder):
    def replaced(count, name, *_):
        if name == "fstat":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_commit, "os", os)
                save(folder, NEW)

    with system(replaced), pytest.raises(ArtifactError, match="was replaced during each of"):
        load(folder)


def test_an_upload_takes_six_files_of_one_save(folder):
    assert read_files(folder) == files_of(folder)
    die_at_rename(folder, NEW, 3)  # the weights are in their place, the other files are not
    contents = read_files(folder)
    assert json.loads(contents["config.json"])["number"] == json.loads(contents["metrics.json"])["number"] == NEW
    assert contents["README.md"].decode() == CARD.format(NEW)
    save(folder, NEW)
    assert contents == files_of(folder)


# ------------------------------------------------------------------ several writers


def writer_that_stops(folder, step):
    """Start a writer that stops before its ``step``-th call; return it, where it says so and where it hears to go on.

    It says "x" when it stops, or "e" if it ends before.
    """
    (says, its_mouth), (its_ear, tell) = os.pipe(), os.pipe()

    def stop(count, *_):
        if count == step:
            os.write(its_mouth, b"x")
            os.read(its_ear, 1)

    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            with system(stop) as calls:
                save(folder, NEW)
            os.write(its_mouth, b"e" if calls.count < step else b"x")
            os._exit(0)
        os._exit(1)
    os.close(its_mouth)
    os.close(its_ear)
    return child, says, tell


def test_a_writer_that_stops_at_any_step_does_not_mix_with_another(folder, monkeypatch):
    monkeypatch.setattr(_commit, "_MAX_WAIT", 0.0)
    refused = 0
    for step in range(1, 1000):
        child, stopped, go_on = writer_that_stops(folder, step)
        ended = os.read(stopped, 1) == b"e"
        try:
            assert load(folder) in (OLD, NEW)
            save(folder, NEXT)
            assert load(folder) == NEXT
        except ArtifactError as error:
            if "has been saving to it" not in str(error):
                raise
            refused += 1
        if not ended:
            os.write(go_on, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os.close(stopped)
        os.close(go_on)

        holds_only(folder, load(folder))
        save(folder, OLD)
        if ended:
            break
    assert ended
    assert refused > 40


def test_eight_writers_and_a_reader(folder):
    def write(number):
        for _ in range(10):
            save(folder, number)

    children = [start_child(partial(write, number)) for number in range(8)]
    n_loaded = 0
    while any(child.is_alive() for child in children):
        assert load(folder) in range(8)
        n_loaded += 1
    assert [child.exitcode for child in children] == [0] * 8
    assert n_loaded > 10
    holds_only(folder, load(folder))


def test_threads_wait_for_each_other(folder):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: save(folder, number), range(20)))
    holds_only(folder, load(folder))


def test_a_process_that_was_started_during_a_save_does_not_keep_the_lock(folder, monkeypatch):
    monkeypatch.setattr(_commit, "_MAX_WAIT", 0.0)
    ear, mouth = os.pipe()
    children = []

    def start(count, name, *_):
        if name == "write" and not children:
            children.append(os.fork())
            if not children[0]:
                os.close(mouth)
                os.read(ear, 1)  # until the end of the test
                os._exit(0)

    with system(start):
        save(folder, NEW)
    try:
        save(folder, NEXT)
    finally:
        os.close(mouth)
        os.waitpid(children[0], 0)
        os.close(ear)
    holds_only(folder, NEXT)


def test_a_new_folder_that_another_writer_gives_up_is_made_again(tmp_path, monkeypatch):
    import fcntl

    folder, removed = tmp_path / "new", []

    def flock(descriptor, operation):
        if not removed:  # the other writer fails, and removes the folder that it made
            removed.append(os.rmdir(folder))
        fcntl.flock(descriptor, operation)

    replace_flock(monkeypatch, flock)
    save(folder, NEW)
    holds_only(folder, NEW)


def replace_flock(monkeypatch, flock):
    import fcntl

    constants = {name: getattr(fcntl, name) for name in ("LOCK_EX", "LOCK_NB", "LOCK_UN")}
    monkeypatch.setattr(_commit, "fcntl", SimpleNamespace(flock=flock, **constants))


def test_who_keeps_a_writer_waiting_is_named(folder, monkeypatch):
    import fcntl

    monkeypatch.setattr(_commit, "_MAX_WAIT", 0.0)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    locks = Path("/proc/locks").read_text() if os.path.exists("/proc/locks") else ""
    who = f"the process {os.getpid()}" if f":{os.stat(folder).st_ino} " in locks else "another process"
    try:
        with pytest.raises(ArtifactError, match=rf"Cannot save to .*{who} has been saving to it for 0 seconds; wait"):
            save(folder, NEW)
        assert load(folder) == OLD, "readers need no lock"
    finally:
        os.close(descriptor)
    save(folder, NEW)
    holds_only(folder, NEW)


def full(count, name, *_):
    """Fail as a full disk does."""
    if name == "write":
        raise DISK_FULL


def on_files_only(descriptor, operation):
    import fcntl

    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EBADF, "Bad file descriptor")
    return fcntl.flock(descriptor, operation)


def never(descriptor, operation):
    raise OSError(errno.ENOSYS, "Function not implemented")


@pytest.mark.parametrize("flock", [on_files_only, never])
def test_file_systems_with_fewer_locks(folder, monkeypatch, flock):
    """As network file systems, which lock files but no folders, and others that lock nothing at all."""
    replace_flock(monkeypatch, flock)
    save(folder, NEW)
    holds_only(folder, NEW)
    with system(full), pytest.raises(ArtifactError, match="No space left"):
        save(folder, NEXT)
    holds_only(folder, NEW)

    # Without locks, a temporary file may be that of a writer at work.
    theirs = folder / f".skastw-{'0' * 16}-labels.json.tmp"
    theirs.write_text("{}")
    save(folder, NEXT)
    assert theirs.exists() == (flock is never)
    theirs.unlink(missing_ok=True)
    holds_only(folder, NEXT)


def test_without_locks_another_writer_may_complete_a_save(folder, monkeypatch):
    replace_flock(monkeypatch, never)

    def complete(*_):
        if (folder / _commit.RECORD).exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(_commit, "os", os)
                check_target(folder)

    with system(complete):
        save(folder, NEW)
    holds_only(folder, NEW)


def test_locking_by_a_file_leaves_none(folder, monkeypatch):
    """As on Windows, where a folder cannot be locked."""
    from filelock import FileLock

    monkeypatch.setattr(_commit, "_locked", _commit._locked_file)
    save(folder, NEW)
    holds_only(folder, NEW)
    monkeypatch.setattr(_commit, "_MAX_WAIT", 0.0)
    with FileLock(folder / ".skastw-lock"), pytest.raises(ArtifactError, match="has been saving to it"):
        save(folder, NEXT)
    assert load(folder) == NEW


# ------------------------------------------------------------------ files that cannot be replaced after the commit


def busy(*names):
    """Return an action that keeps files from being replaced, as Windows does while a program has them open."""

    def action(count, name, *args):
        if name == "replace" and Path(args[1]).name in names:
            raise PermissionError(errno.EACCES, "The file is in use")

    return action


@pytest.mark.parametrize("names", [("model.safetensors",), ("config.json",), FILES], ids=["weights", "config", "all"])
def test_a_file_in_use_does_not_keep_a_model_from_being_saved(folder, names):
    with system(busy(*names)):
        with pytest.warns(UserWarning, match=rf"is saved in .*{names[0]} \(The file is in use\)") as caught:
            save(folder, NEW)
        assert caught[0].filename == __file__
        assert load(folder) == NEW
        with pytest.raises(ArtifactError, match=r"an earlier save to it cannot be completed: .*The file is in use"):
            save(folder, NEXT)
        assert load(folder) == NEW
    check_target(folder)
    holds_only(folder, NEW)
    save(folder, NEXT)
    holds_only(folder, NEXT)


def test_a_card_that_is_edited_before_its_replacement_is_kept(folder):
    with system(busy("README.md")), pytest.warns(UserWarning, match="is saved"):
        save(folder, NEW)
    (folder / "README.md").write_text("# Edited", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"README\.md is not a model card"):
        save(folder, NEXT)
    assert (folder / "README.md").read_text(encoding="utf-8") == "# Edited"
    assert load(folder) == NEW
    assert sorted(os.listdir(folder)) == sorted(FILES)


# ------------------------------------------------------------------ records of strangers


def pending(folder):
    """Return the record of a save that was killed right after its commit point."""
    die_at_rename(folder, NEW, 2)
    return json.loads((folder / _commit.RECORD).read_text(encoding="utf-8"))


HASH = "0" * 64
FORGERIES = {
    "empty": lambda record: b"",
    "a list": lambda record: b"[1]",
    "nested": lambda record: b"[" * 10**5,
    "large": lambda record: json.dumps(record).encode() + b" " * 2**16,
    "no token": lambda record: {**record, "token": None},
    "a path": lambda record: {**record, "token": "../../../../etc"},
    "a token and a line break": lambda record: {**record, "token": record["token"] + "\n"},
    "another token": lambda record: {**record, "token": "0" * 16},
    "more": lambda record: {**record, "command": "rm"},
    "a foreign name": lambda record: {**record, "sha256": {**record["sha256"], "../notes.txt": HASH}},
    "a name less": lambda record: {**record, "sha256": {"config.json": record["sha256"]["config.json"]}},
    "no hash": lambda record: {**record, "sha256": {**record["sha256"], "labels.json": 7}},
    "a hash and a line break": lambda record: {
        **record,
        "replaces": dict.fromkeys(record["replaces"], f"{HASH}\n"),
    },
    "another hash": lambda record: {**record, "sha256": {**record["sha256"], "labels.json": HASH}},
    "replaces a path": lambda record: {**record, "replaces": {"../notes.txt": HASH}},
    "replaces a list": lambda record: {**record, "replaces": [1]},
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_record_is_ignored_and_removed(folder, name):
    record = FORGERIES[name](pending(folder))
    content = record if isinstance(record, bytes) else json.dumps(record).encode()
    (folder / _commit.RECORD).write_bytes(content)
    assert load(folder) == OLD
    check_target(folder)
    holds_only(folder, OLD)


@pytest.mark.parametrize("name", ["labels.json", "model.safetensors", "README.md"])
@pytest.mark.parametrize("change", ["remove", "cut", "link", "folder"])
def test_a_record_whose_files_are_not_what_it_says_is_void(folder, tmp_path, name, change):
    token = pending(folder)["token"]
    path = folder / f".skastw-{token}-{name}.tmp"
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    if change == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    if change == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif change == "folder":
        path.mkdir()
    # The model does not depend on its card, which a user may edit.
    lost_card = name == "README.md" and change != "cut"
    assert load(folder) == (NEW if name == "README.md" else OLD)
    with pytest.raises(ArtifactError, match="was edited") if lost_card else contextlib.nullcontext():
        check_target(folder)
    assert load(folder) == (NEW if lost_card else OLD)
    assert (tmp_path / "elsewhere").exists()
    left = set(os.listdir(folder)) - set(FILES)
    assert left == ({path.name} if change in ("link", "folder") else set())


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_record_that_is_no_file_is_ignored(folder, tmp_path, kind):
    record = pending(folder)
    path = folder / _commit.RECORD
    path.unlink()
    (tmp_path / "record.json").write_text(json.dumps(record), encoding="utf-8")
    {"link": lambda: path.symlink_to(tmp_path / "record.json"), "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[
        kind
    ]()
    assert load(folder) == OLD
    if kind == "folder":
        with pytest.raises(ArtifactError, match="Cannot save to"):
            save(folder, NEXT)
        assert load(folder) == OLD
    else:
        save(folder, NEXT)
        holds_only(folder, NEXT)
    assert (tmp_path / "record.json").exists()


def test_a_snapshot_of_the_hub_has_no_record_and_is_not_saved_to(folder, tmp_path):
    pending(folder)
    snapshot = tmp_path / "models--user--tones" / "snapshots" / ("a" * 40)
    shutil.copytree(folder, snapshot)
    assert load(snapshot) == OLD
    assert json.loads(read_files(snapshot)["labels.json"]) == {"number": OLD}
    with pytest.raises(ArtifactError, match="it is a download in the cache"):
        save(snapshot, NEXT)
    own = tmp_path / "snapshots" / "monday"
    shutil.copytree(folder, own)
    assert load(own) == NEW


def test_only_files_of_exactly_the_pattern_are_tidied_up(folder):
    token = "0123456789abcdef"
    ours = [f".skastw-{token}-{name}.tmp" for name in (*FILES, ".skastw-commit.json")]
    others = [
        f".skastw-{token}-notes.txt.tmp",
        f".skastw-{token}-labels.json.tmp~",
        f".skastw-{token[1:]}-labels.json.tmp",
        f"skastw-{token}-labels.json.tmp",
        ".skastw-labels.json.tmp",
        "labels.json.tmp",
    ]
    for name in (*ours, *others):
        (folder / name).write_text("{}")
    links = folder / f".skastw-{'1' * 16}-labels.json.tmp"
    links.symlink_to("config.json")
    save(folder, NEW)
    assert sorted(os.listdir(folder)) == sorted([*FILES, *others, links.name])


# ------------------------------------------------------------------ what else is in the folder


def test_other_files_and_folders_stay_what_they_are(folder):
    (folder / "notes.txt").write_text("mine")
    (folder / "runs" / "deep").mkdir(parents=True)
    (folder / "link").symlink_to("nowhere")
    os.chmod(folder, 0o750)
    others = [folder, folder / "notes.txt", folder / "runs", folder / "runs" / "deep", folder / "link"]

    def identities():
        return [(os.lstat(path).st_ino, os.lstat(path).st_mode, os.lstat(path).st_uid) for path in others]

    before = identities()
    with open(folder / "notes.txt", "a", encoding="utf-8") as file:
        save(folder, NEW)
        file.write(", still")
    assert identities() == before
    assert (folder / "notes.txt").read_text(encoding="utf-8") == "mine, still"
    assert load(folder) == NEW


def test_a_link_that_leads_to_itself_is_no_folder(two_classifiers, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(link)
    with pytest.raises(ArtifactError, match=r"Cannot save to .*link"):
        two_classifiers[0].save_pretrained(link)


def test_a_link_to_a_folder_and_the_working_folder_are_like_any_other(folder, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(folder)
    save(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert load(folder) == NEW
    monkeypatch.chdir(folder)
    inode = os.stat(".").st_ino
    monkeypatch.setattr(os, "chdir", lambda path: pytest.fail("the working folder is not changed"))
    for path in (".", Path()):
        save(path, NEXT)
        assert load(".") == load(folder) == NEXT
        assert os.stat(".").st_ino == os.stat(folder).st_ino == inode
        save(folder, NEW)
        assert load(".") == NEW


def test_an_empty_path_is_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"the path is empty, expected a folder; '\.' is the working folder"):
        save("", NEW)
    assert not os.listdir(tmp_path)


def test_permissions_are_those_of_the_umask_or_of_the_file_that_is_replaced(tmp_path):
    def modes(folder):
        return {name: stat.S_IMODE((folder / name).stat().st_mode) for name in FILES}

    before = os.umask(0o022)
    try:
        folder = save(tmp_path / "open", OLD)
        assert set(modes(folder).values()) == {0o644}
        os.umask(0o077)
        assert set(modes(save(tmp_path / "private", OLD)).values()) == {0o600}
        os.chmod(folder / "model.safetensors", 0o640)
        save(folder, NEW)
        assert modes(folder) == {**dict.fromkeys(FILES, 0o644), "model.safetensors": 0o640}
    finally:
        os.umask(before)


def test_who_may_read_the_files_may_read_the_record(folder):
    os.chmod(folder / "model.safetensors", 0o640)
    os.chmod(folder / "README.md", 0o604)
    before = os.umask(0o077)
    try:
        die_at_rename(folder, NEW, 3)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / _commit.RECORD).stat().st_mode) == 0o644


@pytest.fixture
def mounted(folder):
    """Mount a small file system below the folder of a model."""
    place = folder / "volume"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if os.geteuid() != 0 or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_file_system_that_is_mounted_below_stays(folder, mounted):
    (mounted / "data.txt").write_text("precious")
    save(folder, NEW)
    assert os.path.ismount(mounted)
    assert (mounted / "data.txt").read_text() == "precious"
    assert sorted(os.listdir(folder)) == sorted([*FILES, "volume"])
    assert load(folder) == NEW


def test_a_file_that_is_mounted_by_itself_is_an_error_before_anything_is_written(folder, mounted):
    shutil.copy(folder / "metrics.json", mounted)
    subprocess.run(["mount", "--bind", mounted / "metrics.json", folder / "metrics.json"], check=True)
    try:
        with pytest.raises(ArtifactError, match=r"metrics\.json in it is a mount point"):
            save(folder, NEW, overwrite=True)
        assert load(folder) == OLD
    finally:
        subprocess.run(["umount", folder / "metrics.json"], check=True)
    save(folder, NEW)


def test_a_mount_point_is_saved_to_until_it_is_full_or_read_only(mounted):
    save(mounted, OLD)
    (mounted / "large").write_bytes(b"x" * 24_000)
    with pytest.raises(ArtifactError, match=r"Cannot save to .*No space left"):
        save(mounted, NEW)
    (mounted / "large").unlink()
    holds_only(mounted, OLD)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    with pytest.raises(ArtifactError, match=r"Cannot save to .*Read-only file system"):
        save(mounted, NEW)
    holds_only(mounted, OLD)


def test_a_full_disk_leaves_the_old_model(folder):
    import resource

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        with pytest.raises(ArtifactError, match="too large"):
            save(folder, NEW)

    assert run_in_child(run) == 0
    holds_only(folder, OLD)


# ------------------------------------------------------------------ files of others


def test_a_readme_of_the_user_is_not_replaced_unasked(tmp_path):
    (tmp_path / "README.md").write_text("# My project\n\nlibrary_name: skastw\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"README\.md is not a model card of skastw\. .* overwrite=True\) replaces"):
        save(tmp_path, NEW)
    with pytest.raises(ArtifactError, match="overwrite=True"):
        check_target(tmp_path)
    assert os.listdir(tmp_path) == ["README.md"]
    save(tmp_path, NEW, overwrite=True)
    holds_only(tmp_path, NEW)


def test_a_card_that_was_edited_is_not_replaced_unasked(folder):
    card = folder / "README.md"
    edited = CARD.format(OLD) + "Recorded in our own office.\n"
    card.write_text(edited, encoding="utf-8")
    before = files_of(folder)
    with pytest.raises(ArtifactError, match=r"README\.md was edited .* save to another folder; .*overwrite=True"):
        save(folder, NEW)
    assert files_of(folder) == before
    assert load(folder) == OLD, "an edited card can be loaded"
    save(folder, NEW, overwrite=True)
    holds_only(folder, NEW)
    card.unlink()
    save(folder, NEXT)
    holds_only(folder, NEXT)


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({"config.json": '{"model_type": "whisper"}'}, r"its config\.json is not that of a skastw model"),
        ({"config.json": "{not JSON"}, r"its config\.json is not that of a skastw model"),
        ({"labels.json": "{}"}, r"it contains labels\.json without the config\.json"),
        ({"model.safetensors": "", "metrics.json": "{}"}, r"it contains model\.safetensors without the config\.json"),
        ({"README.md": CARD.format(0)}, r"README\.md was edited"),
        ({"README.md": "---\nlibrary_name: transformers\n---\n"}, r"README\.md is not a model card"),
    ],
    ids=range(6),
)
def test_files_of_the_six_names_that_are_no_model_are_not_replaced_unasked(tmp_path, files, match):
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ArtifactError, match=match):
        save(tmp_path, NEW)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == files
    save(tmp_path, NEW, overwrite=True)
    holds_only(tmp_path, NEW)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "link", "pipe"])
def test_what_is_no_regular_file_is_never_replaced(folder, tmp_path, name, kind):
    path = folder / name
    path.rename(tmp_path / "elsewhere")
    {"folder": path.mkdir, "link": lambda: path.symlink_to(tmp_path / "elsewhere"), "pipe": lambda: os.mkfifo(path)}[
        kind
    ]()
    before = os.lstat(path)
    for overwrite in (False, True):
        with pytest.raises(ArtifactError, match=f"{name} in it is a link, a folder or a device"):
            save(folder, NEW, overwrite=overwrite)
    assert os.lstat(path).st_ino == before.st_ino
    assert sorted(os.listdir(folder)) == sorted(FILES)


def test_a_file_of_another_user_in_a_shared_folder_is_an_error_before_anything_is_written(folder, monkeypatch):
    os.chmod(folder, 0o1777)
    save(folder, OLD)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(ArtifactError, match=r"this user has no permission to replace model\.safetensors"):
        save(folder, NEW)
    holds_only(folder, OLD)


@pytest.mark.parametrize("version", [1, 2])
def test_models_of_earlier_versions_are_replaced_although_their_cards_have_no_hash(tmp_path, version):
    source = Path(__file__).parent / "data" / "models" / f"version_{version}" / "classifier"
    for name in FILES:
        shutil.copy(source / name, tmp_path / name)
    save(tmp_path, NEW)
    holds_only(tmp_path, NEW)
    for name in FILES:
        shutil.copy(source / name, tmp_path / name)
    (tmp_path / "README.md").write_text("# Mine", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"README\.md is not a model card"):
        save(tmp_path, NEW)


# ------------------------------------------------------------------ weights


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_not_saved(folder, value):
    tensors = {"encoder.scale": torch.ones(3), "head.bias": torch.tensor([1.0, value])}
    with pytest.raises(ArtifactError, match=r"Cannot save to .*weights 'head\.bias' hold NaN or infinite.*lower"):
        write_artifact(folder, Artifact(tensors, {"library": "skastw"}, {}, {}, {}, ""))
    holds_only(folder, OLD)


def test_weights_that_could_not_be_loaded_are_not_saved(folder, monkeypatch):
    def refused(tensor, match):
        with pytest.raises(ArtifactError, match=match):
            write_artifact(folder, Artifact({"head.bias": tensor}, {"library": "skastw"}, {}, {}, {}, ""))
        holds_only(folder, OLD)

    refused(torch.ones(2, dtype=torch.bfloat16), "'head.bias' are bfloat16, expected one of float32, float64, int64")
    monkeypatch.setattr(weights, "MAX_WEIGHT_BYTES", weights.MAX_HEADER_BYTES + 10)
    refused(torch.ones(3), "The weights take 12 bytes, more than the limit of 4194314 for a file")


# ------------------------------------------------------------------ models


def test_models_survive_kills_at_any_moment_and_readers_never_see_a_mixture(two_classifiers, tmp_path):
    folder = tmp_path / "model"
    expected = [clf.predict_proba(CLIPS) for clf in two_classifiers]
    two_classifiers[0].save_pretrained(folder)

    def save_for_ever():
        while True:
            for clf in two_classifiers:
                clf.save_pretrained(folder)

    for kill in range(10):
        child = start_child(save_for_ever)
        for _ in range(3 + kill % 3):
            found = ASTWClassifier.from_pretrained(folder).predict_proba(CLIPS)
            assert any(np.array_equal(found, known) for known in expected)
            time.sleep(0.003 * kill)
        child.kill()
        child.join()
        found = ASTWClassifier.from_pretrained(folder).predict_proba(CLIPS)
        assert any(np.array_equal(found, known) for known in expected)
    two_classifiers[0].save_pretrained(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_no_space_and_no_permission_are_said_and_leave_the_old_model(two_classifiers, tmp_path):
    folder = tmp_path / "model"
    two_classifiers[0].save_pretrained(folder)
    before = files_of(folder)
    for error in (DISK_FULL, PermissionError(errno.EACCES, "Permission denied")):

        def refuse(count, name, *args, error=error):
            if name == "write" or (name == "open" and str(args[0]).endswith(".tmp")):
                raise error

        with system(refuse), pytest.raises(ArtifactError, match=rf"Cannot save to .*model'.*{error.strerror}"):
            two_classifiers[1].save_pretrained(folder)
        assert files_of(folder) == before
        assert sorted(os.listdir(folder)) == sorted(FILES)


def test_estimators_pass_overwrite_on_and_refuse_broken_weights(two_classifiers, tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# My project", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match="overwrite=True"):
        two_classifiers[0].save_pretrained(".")
    assert os.listdir(tmp_path) == ["README.md"]
    two_classifiers[0].save_pretrained(".", overwrite=True)
    before = files_of(tmp_path)

    broken = ASTWClassifier.from_pretrained(".")
    with torch.no_grad():
        broken.model_.head.bias[0] = float("nan")
    with pytest.raises(ArtifactError, match=r"weights 'head\.bias' hold NaN"):
        broken.save_pretrained(".")
    assert files_of(tmp_path) == before
