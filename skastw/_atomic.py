"""Putting a folder in the place of another at once: whoever looks sees the old one or the new one, both whole."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["replacement"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_UNFINISHED, _FINISHED, _ASIDE = "-new.tmp", ".tmp", "-old.tmp"  # how the names of folders beside the target end


@contextlib.contextmanager
def replacement(target: Path, names: Sequence[str]) -> Iterator[Path]:
    """Give a new folder to write ``names`` into; at the end it takes the place of ``target``.

    The two folders change places in one step of the file system (``renameat2`` on Linux, ``renamex_np`` on macOS), so
    a process that is killed, a full disk or a second writer leave ``target`` as it was or as it is to be. Where that
    step is not to be had, the old folder is moved aside first; where the folder cannot move, as the mount point of a
    container cannot, its files are replaced one by one, in the order of ``names``. What else is in ``target`` stays,
    and what a killed process left behind is tidied up by the next one.

    Parameters
    ----------
    target : Path
        May exist or not; its parent is made.
    names : sequence of str
        The files that are replaced.

    Yields
    ------
    Path
        A new folder.

    Raises
    ------
    OSError
        If something cannot be written; ``target`` is then as it was.
    """
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    movable = not os.path.ismount(target) and os.access(target.parent, os.W_OK)
    parent = target.parent if movable else target
    for left in _left_behind(target, parent):
        with contextlib.suppress(OSError), _held(left):
            _tidy(left, target, names)
    with _new_folder(target, parent) as unfinished:
        new = unfinished.with_name(unfinished.name.removesuffix(_UNFINISHED) + _FINISHED)
        try:
            yield unfinished
            _settle(unfinished, names)
            unfinished.rename(new)
            if movable:
                _take_place(new, target, names)
            else:
                for name in names:
                    os.replace(new / name, target / name)
        finally:
            _tidy(unfinished, target, names)
            _tidy(new, target, names)
    _flush(target.parent)


@contextlib.contextmanager
def _new_folder(target: Path, parent: Path) -> Iterator[Path]:
    """Make a folder that other writers leave alone."""
    while True:
        new = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=_UNFINISHED, dir=parent))
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(_held(new))
            if new.exists():  # and was not taken for one that was left behind, before it was held
                held = stack.pop_all()
                break
    with held:
        yield new


def _left_behind(target: Path, parent: Path) -> list[Path]:
    found = parent.glob(f".{target.name}-*{_FINISHED}")
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a folder; raise OSError where another process holds it, or where there are no locks."""
    if os.name == "nt":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _settle(new: Path, names: Sequence[str]) -> None:
    """Bring a new folder to the disk, for others to read."""
    new.chmod(0o755)  # a temporary folder is private to its owner, and so are safetensors' files
    for name in names:
        (new / name).chmod(0o644)
        _flush(new / name)
    _flush(new)


def _take_place(new: Path, target: Path, names: Sequence[str]) -> None:
    """Put ``new`` where ``target`` is; the old folder, if any, is then where ``new`` was, or beside it."""
    if not target.exists():
        with contextlib.suppress(OSError):  # another writer may have been faster
            new.rename(target)
            return
    for entry in target.iterdir():
        if entry.name not in names and entry.is_file() and not entry.is_symlink():
            with contextlib.suppress(OSError):  # what cannot be linked is moved afterwards
                os.link(entry, new / entry.name)
    inside = Path.cwd().is_relative_to(target)
    if not _exchange(new, target):
        aside = new.with_name(new.name.removesuffix(_FINISHED) + _ASIDE)
        target.rename(aside)
        try:
            new.rename(target)
        except OSError:
            aside.rename(target)
            raise
        aside.rename(new)
    if inside:
        os.chdir(target)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step; say whether the system could."""
    names = os.fsencode(first), os.fsencode(second)
    try:
        library = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(library.renamex_np(*names, _RENAME_EXCHANGE) == 0)
        return bool(library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0)
    except (AttributeError, OSError, TypeError):  # TypeError: Windows has no library of that kind
        return False


def _tidy(left: Path, target: Path, names: Sequence[str]) -> None:
    """Remove a folder that is not ``target`` any more, or never was; what only it holds goes to ``target``.

    An unfinished one holds nothing of anybody's, though perhaps a scratch file of a writer that was killed.
    """
    if left.name.endswith(_ASIDE) and not target.exists():
        with contextlib.suppress(OSError):
            left.rename(target)
    if not left.name.endswith(_UNFINISHED) and target.exists() and left.exists():
        for entry in left.iterdir():
            if entry.name not in names and not os.path.lexists(target / entry.name):
                with contextlib.suppress(OSError):
                    entry.rename(target / entry.name)
    shutil.rmtree(left, ignore_errors=True)


def _flush(path: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
