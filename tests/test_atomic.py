"""Saving: killed, without space, without permission, at the same time, the folder is the old one or the new one."""

import os
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from skastw import ASTWClassifier, _atomic
from skastw._atomic import replacement
from skastw.artifact import FILES
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder
from skastw.errors import ArtifactError

NAMES = ("a", "b", "c")
CLIPS, Y = make_tones(n_clips=12, random_state=0)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


def write(target, text):
    with replacement(target, NAMES) as new:
        for name in NAMES:
            scratch = new / ".scratch"  # as writers do that rename at the end
            scratch.write_text(text)
            scratch.rename(new / name)


def content(target):
    found = {(target / name).read_text() for name in NAMES}
    assert len(found) == 1, found
    return found.pop()


def others_are_there(target):
    assert (target / "notes.txt").read_text() == "mine"
    assert (target / ".git" / "HEAD").read_text() == "main"
    assert sorted(path.name for path in target.iterdir()) == sorted([*NAMES, "notes.txt", ".git"])
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.fixture
def target(tmp_path):
    target = tmp_path / "models" / "one"
    write(target, "old")
    (target / "notes.txt").write_text("mine")
    (target / ".git").mkdir()
    (target / ".git" / "HEAD").write_text("main")
    return target


def in_a_child(function):
    """Run a function in a process of its own; return how that ended."""
    child = os.fork()
    if not child:
        try:
            function()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step, function):
    """Run a function in a process that kills itself at its ``step``-th dealing with the system."""

    def run():
        count = 0

        def hook(event, args):
            nonlocal count
            if event != "os.kill" and event.startswith(("os.", "open", "shutil.", "ctypes.", "tempfile.")):
                count += 1
                if count > step:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        function()

    return in_a_child(run)


@pytest.mark.parametrize("exchanges", [True, False])
def test_killed_at_any_step_the_folder_is_whole_and_nothing_is_lost(target, exchanges, monkeypatch):
    if not exchanges:  # one step, between two names, then has no folder: the next writer brings it back
        monkeypatch.setattr(_atomic, "_exchange", lambda first, second: False)
    seen, absent = [], 0
    for step in range(500):
        end = killed_at(step, lambda: write(target, "new"))
        absent += not target.exists()
        if target.exists():
            seen.append(content(target))
        write(target, "old")
        others_are_there(target)
        if end == 0:
            break
        assert end == -signal.SIGKILL
    assert end == 0
    assert step > 20
    assert set(seen) == {"old", "new"}
    assert seen == sorted(seen, key=["old", "new"].index)
    assert absent == 0 if exchanges else absent < 3


def test_a_first_save_that_is_killed_leaves_nothing_or_all(tmp_path):
    for step in range(500):
        end = killed_at(step, lambda: write(tmp_path / "one", "new"))
        assert not (tmp_path / "one").exists() or content(tmp_path / "one") == "new"
        if end == 0:
            break
        write(tmp_path / "one", "old")
        assert [path.name for path in tmp_path.iterdir()] == ["one"]
        for name in NAMES:
            (tmp_path / "one" / name).unlink()
        (tmp_path / "one").rmdir()
    assert end == 0


def test_a_full_disk_leaves_the_old_folder(target):
    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(OSError, match="too large"):
            write(target, "new" * 1000)

    assert in_a_child(run) == 0
    assert content(target) == "old"
    others_are_there(target)


def test_an_exception_while_writing_leaves_the_old_folder(target):
    def interrupted():
        with replacement(target, NAMES) as new:
            (new / "a").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert content(target) == "old"
    others_are_there(target)


def test_a_missing_file_leaves_the_old_folder(target):
    with pytest.raises(FileNotFoundError), replacement(target, NAMES) as new:
        (new / "a").write_text("new")
    assert content(target) == "old"


def read_at(folder, name):
    descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
    try:
        return os.pread(descriptor, 10**6, 0)
    finally:
        os.close(descriptor)


def test_several_writers_do_not_interleave(target):
    def run(text):
        for _ in range(40):
            write(target, text * 1000)

    children = []
    for text in "xyz":
        child = os.fork()
        if not child:
            run(text)
            os._exit(0)
        children.append(child)
    read = 0
    while children:
        for child in list(children):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0
                children.remove(child)
        descriptor = os.open(target, os.O_RDONLY)  # the folder that is there now, wherever it goes
        try:
            found = {read_at(descriptor, name) for name in NAMES}
            assert len(found) == 1
            read += 1
        except FileNotFoundError:
            pass  # it was replaced and is being tidied away
        finally:
            os.close(descriptor)
    assert read > 10
    assert content(target)[0] in "xyz"
    others_are_there(target)


def test_what_somebody_else_is_writing_is_left_alone(target):
    with replacement(target, NAMES) as theirs:
        for name in NAMES:
            (theirs / name).write_text("theirs")
        assert in_a_child(lambda: write(target, "ours")) == 0
        assert content(target) == "ours"
        assert theirs.exists()
    assert content(target) == "theirs"
    others_are_there(target)


def test_a_folder_that_cannot_move_gets_its_files_one_by_one(target, monkeypatch):
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == target)
    before = target.stat().st_ino
    write(target, "new")
    assert content(target) == "new"
    assert target.stat().st_ino == before
    others_are_there(target)
    for step in range(500):
        end = killed_at(step, lambda: write(target, "new"))
        assert all((target / name).read_text() in ("old", "new") for name in NAMES)
        write(target, "old")
        assert content(target) == "old"
        others_are_there(target)
        if end == 0:
            break
    assert end == 0


def test_a_link_and_the_working_directory_stay_what_they_are(target, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(target)
    write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert content(target) == "new"
    monkeypatch.chdir(target)
    write(Path(), "newer")
    assert content(Path()) == "newer"
    assert Path.cwd() == target
    others_are_there(target)


# ------------------------------------------------------------------ models


@pytest.fixture(scope="module")
def fitted():
    tiny = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
    return [ASTWClassifier(encoder=tiny, epochs=1, random_state=seed).fit(CLIPS, Y) for seed in range(2)]


def test_models_survive_kills_at_any_moment_and_readers_never_see_a_mixture(fitted, tmp_path):
    folder = tmp_path / "model"
    expected = [clf.predict_proba(CLIPS) for clf in fitted]
    fitted[0].save_pretrained(folder)
    for kill in range(10):
        child = os.fork()
        if not child:
            while True:
                for clf in fitted:
                    clf.save_pretrained(folder)
        for _ in range(3 + kill % 3):
            found = ASTWClassifier.from_pretrained(folder).predict_proba(CLIPS)
            assert any(np.array_equal(found, known) for known in expected)
            time.sleep(0.003 * kill)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = ASTWClassifier.from_pretrained(folder).predict_proba(CLIPS)
        assert any(np.array_equal(found, known) for known in expected)
    fitted[0].save_pretrained(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_no_space_and_no_permission_are_said_and_leave_the_old_model(fitted, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    fitted[0].save_pretrained(folder)
    before = {name: (folder / name).read_bytes() for name in FILES}

    def run():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        with pytest.raises(ArtifactError, match=r"Cannot save to .*model"):
            fitted[1].save_pretrained(folder)

    assert in_a_child(run) == 0

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_atomic.tempfile, "mkdtemp", refuse)
    with pytest.raises(ArtifactError, match=r"Cannot save to .*Permission denied"):
        fitted[1].save_pretrained(folder)
    assert {name: (folder / name).read_bytes() for name in FILES} == before
