"""Places for results: checked before the work, and files that are replaced in one step after it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from skastw.errors import OutputError

__all__ = ["check_file", "check_folder", "new_file", "scratch_folder", "write_file"]

#: Names of folders of unfinished files, beside the files that they replace.
_SCRATCH = re.compile(r"\.skastw-[0-9a-f]{16}\.tmp")


def check_file(path: str | os.PathLike[str], suffixes: Sequence[str] = (), *, inputs: Iterable[Any] = ()) -> Path:
    """Raise unless a file can be written, before work is done for it. Nothing is written or made.

    Parameters
    ----------
    path : path
        An existing regular file may be replaced.
    suffixes : sequence of str, optional
        Endings that the name may have, in lower case; by default any.
    inputs : iterable of paths, optional
        Files that are read, which ``path`` may not be, by whatever name.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        Naming the path, what was expected and what to do.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.outputs import check_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     check_file(Path(folder) / "new" / "owls.csv", [".csv"]).name
    ...     check_file(folder)
    Traceback (most recent call last):
    skastw.errors.OutputError: Got output '...', which is a folder, expected the name of a file.
    """
    target = Path(path)
    if suffixes and not os.fspath(target).lower().endswith(tuple(suffixes)):
        expected = " or ".join(suffixes)
        raise OutputError(f"Got output {str(target)!r}, expected a name that ends in {expected}.")
    if target.is_dir():
        raise OutputError(f"Got output {str(target)!r}, which is a folder, expected the name of a file.")
    if target.exists():
        if not target.is_file():
            raise OutputError(
                f"Got output {str(target)!r}, which is a device or a pipe, expected a regular file; give another name."
            )
        if _is_one_of(target, inputs):
            raise OutputError(
                f"Got output {str(target)!r}, which is one of the inputs, expected another file; give another name, so "
                "that the input is not overwritten."
            )
        if not os.access(target, os.W_OK):
            raise OutputError(
                f"Got output {str(target)!r}, which is write-protected, expected a file that may be replaced; give "
                "another name, or change its permissions."
            )
    _check_writable(Path(os.path.realpath(target)).parent, str(target))
    return target


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Raise unless files can be written into a folder, before work is done for them. Nothing is written or made.

    Parameters
    ----------
    path : path
        Of a folder that exists, or can be made.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        Naming the path, what was expected and what to do.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.outputs import check_folder
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     check_folder(Path(parent) / "exports" / "owls").exists()
    False
    """
    target = Path(path)
    if not os.fspath(path):
        raise OutputError("Got an empty output, expected the name of a folder.")
    if os.path.lexists(target) and not target.is_dir():
        raise OutputError(f"Got output {str(target)!r}, which is not a folder, expected the name of a folder.")
    _check_writable(target, str(target))
    return target


def _is_one_of(target: Path, inputs: Iterable[Any]) -> bool:
    """Return whether one of the paths is the same file as ``target``, by another name or through a link too."""
    for path in inputs:
        with contextlib.suppress(OSError, ValueError):
            if os.path.samefile(target, path):
                return True
    return False


def _check_writable(folder: Path, output: str) -> None:
    """Raise unless files can be made in a folder, or in the one that it would be made in."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(
            f"Got output {output!r}, but {str(folder)!r} is not a folder, expected one; give another name, or remove "
            "it."
        )
    try:
        with tempfile.TemporaryFile(dir=folder):  # permissions do not tell about disks that are mounted to be read
            pass
    except OSError as error:
        raise OutputError(
            f"Got output {output!r}, but {str(folder)!r} cannot be written to ({error.strerror}), expected a folder "
            "that can; give another place, or change its permissions."
        ) from error


def write_file(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Put a file in the place of another in one step; see :func:`new_file`.

    Parameters
    ----------
    path : path
    content : bytes or str
        Text is encoded as UTF-8.

    Raises
    ------
    OutputError
        If the file cannot be written; what was there before is then unchanged.
    """
    with new_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of ``path`` at the end, in one step.

    After an error or an interrupt, or on a full disk, what was there before is unchanged.

    Parameters
    ----------
    path : path
        Missing folders are made. A link stays one, and the file that it leads to is replaced.

    Yields
    ------
    file object
        Binary, for reading and writing.

    Raises
    ------
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.outputs import new_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with new_file(Path(folder) / "exports" / "owls.txt") as file:
    ...         _ = file.write(b"hoot")
    ...     (Path(folder) / "exports" / "owls.txt").read_text()
    'hoot'
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target.parent) as scratch:
            with open(scratch / "new", "w+b") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _replace(scratch / "new", target)
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Cannot write {os.fspath(path)!r}: {reason}. What was there before is unchanged.") from error


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for files that are not finished, and remove it at the end.

    A process that is killed leaves its folder, whose name begins with ``.skastw-``; the next one that writes into
    ``parent`` removes it. Folders of processes at work are locked. On Windows, which has no such locks, they stay.

    Parameters
    ----------
    parent : Path
        Exists.

    Yields
    ------
    Path

    Raises
    ------
    OSError
        If the folder cannot be made.
    """
    for left_behind in parent.glob(".skastw-*.tmp"):
        if not _SCRATCH.fullmatch(left_behind.name):
            continue
        with contextlib.suppress(OSError), _locked(left_behind, wait=False):
            if os.name != "nt":
                shutil.rmtree(left_behind, ignore_errors=True)
    with _new_folder(parent) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _new_folder(parent: Path) -> Iterator[Path]:
    while True:
        folder = parent / f".skastw-{secrets.token_hex(8)}.tmp"
        folder.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # some file systems have no locks; then nobody removes the folder either
                stack.enter_context(_locked(folder, wait=True))
            if folder.exists():  # and was not removed before it was locked
                yield folder
                return


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Lock a folder; raise OSError if it is not a folder, another process holds it, or there are no locks."""
    if os.name == "nt":
        yield
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _replace(new: Path, target: Path) -> None:
    if target.exists():
        with contextlib.suppress(OSError):
            new.chmod(stat.S_IMODE(target.stat().st_mode))
    try:
        os.replace(new, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        shutil.copyfile(new, target)  # a file that is mounted by itself, as containers do, cannot be replaced
