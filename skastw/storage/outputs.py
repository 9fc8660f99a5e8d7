"""Outputs: paths are checked before the work, and files are replaced in one step after it."""

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

#: Names of temporary folders, which lie beside the files that are written.
_SCRATCH = re.compile(r"\.skastw-[0-9a-f]{16}\.tmp")


def check_file(path: str | os.PathLike[str], suffixes: Sequence[str] = (), *, inputs: Iterable[Any] = ()) -> Path:
    """Raise unless a file can be written, before its content is computed. Nothing is created or changed.

    Parameters
    ----------
    path : path
        An existing regular file may be replaced.
    suffixes : sequence of str, optional
        Endings that the name may have, in lower case; by default any.
    inputs : iterable of paths, optional
        Files that are read. ``path`` must not be one of them, or a link to one.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written; the message has the path, the reason and what to do.

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
    exists = target.exists()
    refusals = [
        (
            suffixes and not os.fspath(target).lower().endswith(tuple(suffixes)),
            f"expected a name that ends in {' or '.join(suffixes)}",
        ),
        (
            target.is_dir(),
            "which is a folder, expected the name of a file",
        ),
        (
            exists and not target.is_file(),
            "which is a device or a pipe, expected a regular file; give another name",
        ),
        (
            exists and _is_one_of(target, inputs),
            "which is one of the inputs, expected another file; give another name, so that the input is not "
            "overwritten",
        ),
        (
            exists and not os.access(target, os.W_OK),
            "which is write-protected, expected a file that may be replaced; give another name, or change its "
            "permissions",
        ),
    ]
    for applies, problem in refusals:
        if applies:
            raise OutputError(f"Got output {str(target)!r}, {problem}.")

    _check_writable(Path(os.path.realpath(target)).parent, str(target))
    return target


def check_folder(path: str | os.PathLike[str]) -> Path:
    """Raise unless files can be written into a folder, before they are computed. Nothing is created or changed.

    Parameters
    ----------
    path : path
        A folder that exists or can be created.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the folder cannot be written; the message has the path, the reason and what to do.

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
    """Return whether one of the paths leads to the same file as ``target``."""
    for path in inputs:
        with contextlib.suppress(OSError, ValueError):
            if os.path.samefile(target, path):
                return True
    return False


def _check_writable(folder: Path, output: str) -> None:
    """Raise unless files can be created in a folder or, if it is missing, in the nearest folder above it."""
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent

    if not folder.is_dir():
        raise OutputError(
            f"Got output {output!r}, but {str(folder)!r} is not a folder, expected one; give another name, or remove "
            "it."
        )
    try:
        # Permissions do not show whether a file system is mounted read-only.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OutputError(
            f"Got output {output!r}, but {str(folder)!r} cannot be written to ({error.strerror}), expected a folder "
            "that can; give another place, or change its permissions."
        ) from error


def write_file(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a file, replacing an existing one in one step; see :func:`new_file`.

    Parameters
    ----------
    path : path
    content : bytes or str
        Text is encoded as UTF-8.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing file is then unchanged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.outputs import write_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_file(Path(folder) / "owls.txt", "hoot")
    ...     (Path(folder) / "owls.txt").read_text()
    'hoot'
    """
    with new_file(path) as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file for writing, which replaces ``path`` in one step at the end.

    After an error or an interrupt, or on a full disk, an existing file is unchanged.

    Parameters
    ----------
    path : path
        Missing folders are created. If it is a link, the file that it leads to is replaced.

    Yields
    ------
    file object
        For reading and writing, in binary mode.

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
                os.fsync(file.fileno())  # before the rename, so that a crash leaves no empty file

            _replace(scratch / "new", target)
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"Cannot write {os.fspath(path)!r}: {reason}. An existing file is unchanged.") from error


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Create a temporary folder for unfinished files, and remove it at the end.

    A process that is killed leaves its folder, whose name begins with ``.skastw-``. The next process that writes into
    ``parent`` removes it, unless it is locked: a running process locks its folder. Windows has no such locks, so the
    folder of a killed process stays there.

    Parameters
    ----------
    parent : Path
        An existing folder.

    Yields
    ------
    Path

    Raises
    ------
    OSError
        If the folder cannot be created.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.outputs import scratch_folder
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with scratch_folder(Path(parent)) as folder:
    ...         folder.parent == Path(parent)
    ...     folder.exists()
    True
    False
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
    """Create a folder and lock it; start over if another process removes it before it is locked."""
    while True:
        folder = parent / f".skastw-{secrets.token_hex(8)}.tmp"
        folder.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # on a file system without locks, no other process removes it either
                stack.enter_context(_locked(folder, wait=True))
            if folder.exists():
                yield folder
                return


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Lock a folder; raise OSError if it is not a folder, is locked by another process, or cannot be locked."""
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
    """Rename a file to its target, keeping the permissions of an existing target."""
    if target.exists():
        with contextlib.suppress(OSError):
            new.chmod(stat.S_IMODE(target.stat().st_mode))
    try:
        os.replace(new, target)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        shutil.copyfile(new, target)  # containers mount single files, which cannot be replaced
