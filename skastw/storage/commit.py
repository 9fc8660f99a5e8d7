"""Replacing a fixed set of files in a folder in one step: a reader gets all of the old files or all of the new ones.

No file system replaces several files at once. A writer therefore prepares all of them under temporary names, and then
makes them valid together with a single rename, that of a *commit record*:

1. The writer locks the folder. Other writers wait; readers take no lock.
2. It settles the folder (see below), in case an earlier writer was killed.
3. It writes each file as ``.skastw-<token>-<name>.tmp`` and flushes it to the disk. The token is random.
4. It writes the record, a JSON file with the token and the SHA-256 of each file, also under a temporary name, flushes
   it, and flushes the folder.
5. It renames the record to ``.skastw-commit.json``. **This is the commit point**: before it the old files are valid,
   after it the new ones.
6. It settles the folder.

*Settling* is the only recovery, used by a writer that begins, one that ends and one that fails:

* If there is a record and it is *whole*, the files that still have their temporary names are renamed to their targets.
  Then the folder is flushed and the record is removed.
* A record is *void* if it is malformed, or if a file of its version is lost, which means that neither the temporary
  file nor the target has its SHA-256. A void record is removed.
* Temporary files that belong to no record are removed, if they are regular files whose names match the pattern.

A rename may fail after the commit point, for example because another program holds the target open on Windows. The
record and that temporary file then stay. Readers get the new file by its temporary name, and the next writer completes
the work before it writes anything; if it cannot, it fails.

A *reader* reads the record, opens each file (the temporary one if the record names it and it still exists, else the
target) and reads the record again. If the record changed, it starts over. Without a record it also checks that each
target still is the file that it opened. This is sufficient, because a writer changes a target only while its record is
in place. Without a record after the last file was opened, no writer was between its renames at that moment. If, in
addition, no target changed between its opening and the later check, the open files were the targets at that moment, so
they belong to one version. The order matters: with the checks of the targets before the second look at the record, a
writer could finish between the two. Open files keep their content when they are replaced and may be read later.

It follows that at any moment, whatever fails,

* the folder holds the old version or the new one, whole;
* nothing but the named targets and files of the pattern is created, changed or removed: other files, sub-folders and
  mounted file systems stay as they are, and so does the folder itself;
* the next writer removes the temporary files of a killed one.

A record is untrusted input: it is small, it names no path (the names of the files follow from the token), and it is
ignored in a snapshot of the Hub's cache, which is never written in this way.
"""

import contextlib
import errno
import functools
import hashlib
import json
import operator
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from skastw.errors import ArtifactError
from skastw.storage.files import open_inside, parse_json
from skastw.storage.schema import check as check_type

if sys.platform != "win32":
    import fcntl

RECORD = ".skastw-commit.json"
_LOCK_FILE = ".skastw-lock"
_TEMPORARY = re.compile(r"\.skastw-([0-9a-f]{16})-(.+)\.tmp")
_HUB_COMMIT = re.compile("[0-9a-f]{40}")
_MAX_RECORD_BYTES = 2**16
#: How often a reader starts over. Opening the files takes less than a millisecond, writing them takes several.
_MAX_ATTEMPTS = 100
#: Seconds that a writer waits for others, and seconds between two attempts to get the lock.
_MAX_WAIT, _POLL_INTERVAL = 600.0, 0.02
#: Errors of file systems that cannot flush a folder.
_NO_FLUSH = {errno.EBADF, errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


_SHA256 = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class _Commit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a record.

    Attributes
    ----------
    token : str
    sha256 : dict of str to str
        SHA-256 of each file of the new version, by name.
    replaces : dict of str to (str or None)
        The editable files, with their SHA-256 in the old version; None for a file that did not exist.
    """

    token: Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
    sha256: dict[str, _SHA256]
    replaces: dict[str, _SHA256 | None]


def replace_files(
    folder: Path, contents: Mapping[str, bytes], *, check: Callable[[], None], editable: Collection[str] = ()
) -> list[str]:
    """Replace files of a folder in one step.

    Parameters
    ----------
    folder : Path
        Created if missing.
    contents : mapping of str to bytes
        The new content of each file, by name.
    check : callable
        Called before anything is written, while no other writer can change the folder. It raises if the files must
        not be replaced.
    editable : collection of str
        Names of files that a user may edit after they are saved. Such an edit does not make a record void, and if it
        happens before an interrupted save is completed, it is kept.

    Returns
    -------
    list of str
        Files that could not be renamed after the commit point, for a message; usually empty. Readers get the new
        version in any case.

    Raises
    ------
    OSError
        If something cannot be written, or an earlier save cannot be completed; the folder then holds the old version
        and no temporary files. TimeoutError if another writer does not finish.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.commit import open_files, replace_files
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     replace_files(Path(folder), {"owl.txt": b"hoot", "dog.txt": b"woof"}, check=lambda: None)
    ...     files = open_files(Path(folder), ["owl.txt", "dog.txt"])
    ...     for name, file in files.items():
    ...         with file:
    ...             print(name, file.read())
    []
    owl.txt b'hoot'
    dog.txt b'woof'
    """
    token, names = secrets.token_hex(8), tuple(contents)
    with settled(folder, names) as exclusive:
        check()
        settle = functools.partial(_settle, folder, names, only=None if exclusive else token)
        try:
            _prepare(folder, token, contents, editable)
            os.replace(folder / _temporary(token, RECORD), folder / RECORD)
            return _complete(settle)
        except BaseException:
            with contextlib.suppress(OSError, ArtifactError):
                settle()
            raise


@contextlib.contextmanager
def settled(folder: Path, names: Sequence[str]) -> Iterator[bool]:
    """Complete earlier saves to a folder, and keep other writers away inside the ``with`` block.

    Parameters
    ----------
    folder : Path
        Created if missing, and removed again if the block leaves it empty.
    names : sequence of str
        The files that are replaced together.

    Yields
    ------
    bool
        Whether the file system has locks. If not, temporary files of others may be in use.

    Raises
    ------
    OSError
        If the folder cannot be locked or changed, or an earlier save cannot be completed.

    Examples
    --------
    >>> import os
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.commit import settled
    >>> with tempfile.TemporaryDirectory() as folder, settled(Path(folder), ["owl.txt"]):
    ...     os.listdir(folder)
    []
    """
    existed = os.path.isdir(folder)
    with _locked(folder) as exclusive:
        try:
            if not existed:
                with contextlib.suppress(OSError):  # the parent need not be readable
                    _flush_folder(folder.parent)

            unfinished = _settle(folder, names, only=None if exclusive else "")  # no token is empty
            if unfinished:
                raise OSError(
                    f"an earlier save to it cannot be completed: {', '.join(unfinished)}. Let these files be replaced, "
                    "or save to another folder"
                )
            yield exclusive
        finally:
            if not existed:
                with contextlib.suppress(OSError):  # it is not empty
                    os.rmdir(folder)


def open_files(folder: Path, names: Sequence[str], *, unread: Collection[str] = ()) -> dict[str, BufferedReader]:
    """Open the files of one version, whatever writers do meanwhile.

    Parameters
    ----------
    folder : Path
    names : sequence of str
        The files that are replaced together.
    unread : collection of str
        Names of files that must exist but are not opened.

    Returns
    -------
    dict of str to file object
        Open for reading, in binary mode; the caller closes them.

    Raises
    ------
    FileNotFoundError
        Naming the files that are missing.
    ArtifactError
        If a file cannot be opened, or the folder changes again and again.

    Examples
    --------
    See :func:`replace_files`.
    """
    for _ in range(_MAX_ATTEMPTS):
        record = _read_record(folder)
        try:
            committed = _open_committed(folder, names, _parse_record(record, names), unread)
            files = committed or _open_targets(folder, names, unread)
        except (OSError, ArtifactError):
            if _read_record(folder) != record:
                continue
            raise

        if _read_record(folder) == record:
            in_place = (_is_at(file.fileno(), folder / name) for name, file in files.items())
            if committed is not None or all(in_place):
                return files
        for file in files.values():
            file.close()
    raise ArtifactError(
        f"{str(folder)!r} was replaced during each of {_MAX_ATTEMPTS} attempts to read it; read it when no other "
        "program saves to it."
    )


def is_snapshot(folder: Path) -> bool:
    """Return whether a folder is a snapshot in the Hub's cache.

    Parameters
    ----------
    folder : Path

    Examples
    --------
    >>> from pathlib import Path
    >>> from skastw.storage.commit import is_snapshot
    >>> is_snapshot(Path("/cache/models--user--digits/snapshots") / ("0123456789" * 4))
    True
    >>> is_snapshot(Path("/home/user/snapshots/monday"))
    False
    """
    real = Path(os.path.realpath(folder))
    return real.parent.name == "snapshots" and _HUB_COMMIT.fullmatch(real.name) is not None


# ------------------------------------------------------------------ writing


def _prepare(folder: Path, token: str, contents: Mapping[str, bytes], editable: Collection[str]) -> None:
    """Write the files and the record under temporary names, and bring them to the disk."""
    modes = [stat.S_IMODE(os.lstat(folder / name).st_mode) if _is_plain(folder / name) else None for name in contents]
    for (name, content), mode in zip(contents.items(), modes, strict=True):
        _write(folder / _temporary(token, name), content, mode)

    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    replaces = {name: _sha256_of(folder, name) for name in sorted(editable)}
    record = json.dumps(msgspec.to_builtins(_Commit(token, sha256, replaces)), indent=1).encode()
    # who may read one of the files must be able to read the record too
    _write(folder / _temporary(token, RECORD), record, None if None in modes else functools.reduce(operator.or_, modes))

    _flush_folder(folder)


def _complete(settle: Callable[[], list[str] | None]) -> list[str]:
    """Settle a folder after the commit point, from which on an error does not mean that saving failed."""
    try:
        unfinished = settle()
    except (OSError, ArtifactError) as error:
        return [str(error)]
    if unfinished is None:
        raise OSError("the temporary files were changed or removed by another program while it was saved")
    return unfinished


def _settle(folder: Path, names: Sequence[str], only: str | None) -> list[str] | None:
    """Complete a commit, or remove a void one, and remove left-overs.

    With ``only``, temporary files of other tokens are left alone. Return what could not be renamed, or None if the
    record was void.
    """
    record = _read_record(folder)
    commit = _parse_record(record, names)
    unfinished = _move_into_place(folder, commit) if commit and _is_whole(folder, commit) else None
    if record is not None and not unfinished:
        _flush_folder(folder)  # the record goes after the last rename has reached the disk
        os.unlink(folder / RECORD)

    for name in os.listdir(folder):
        match = _TEMPORARY.fullmatch(name)
        if match is None or match[2] not in (*names, RECORD) or not _is_plain(folder / name):
            continue
        pending = unfinished and commit and match[1] == commit.token
        if not pending and only in (None, match[1]):
            with contextlib.suppress(OSError):
                os.unlink(folder / name)
    return [] if record is None else unfinished  # without locks, another writer may have completed the commit


def _is_whole(folder: Path, commit: _Commit) -> bool:
    """Return whether each file of a commit exists, with its temporary name or as the target."""
    for name, sha256 in commit.sha256.items():
        temporary = _sha256_of(folder, _temporary(commit.token, name))
        renamed = temporary is None and (name in commit.replaces or _sha256_of(folder, name) == sha256)
        if temporary != sha256 and not renamed:
            return False
    return True


def _move_into_place(folder: Path, commit: _Commit) -> list[str]:
    """Rename the temporary files of a whole commit; return what failed."""
    _flush_folder(folder)  # the record is on the disk before the first target changes
    unfinished = []
    for name in commit.sha256:
        temporary = folder / _temporary(commit.token, name)
        edited = name in commit.replaces and _sha256_of(folder, name) not in (None, commit.replaces[name])
        if edited or not _is_plain(temporary):  # or renamed before
            continue
        try:
            os.replace(temporary, folder / name)
        except OSError as error:
            unfinished.append(f"{name} ({error.strerror or error})")
    return unfinished


def _write(path: Path, content: bytes, mode: int | None) -> None:
    """Write a new file and flush it to the disk, with the given permissions, by default those of the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        if mode is not None:
            with contextlib.suppress(OSError):  # some file systems have no permissions
                os.chmod(path, mode & 0o777)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest[: 2**26]) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, if the system can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------ reading


def _read_record(folder: Path) -> bytes | None:
    """Return the content of the record, or one byte more than the limit if it is too long; None if it is missing."""
    file = None if is_snapshot(folder) else _open_plain(folder, RECORD)
    if file is None:
        return None
    with file:
        return file.read(_MAX_RECORD_BYTES + 1)


def _parse_record(content: bytes | None, names: Sequence[str]) -> _Commit | None:
    """Return the commit that a record describes, or None if it is missing or describes none of these files."""
    if content is None or len(content) > _MAX_RECORD_BYTES:
        return None
    try:
        commit = check_type(parse_json(content, RECORD), _Commit, RECORD, ArtifactError)
    except ArtifactError:
        return None
    complete = commit.sha256.keys() == set(names) and commit.replaces.keys() <= set(names)
    return commit if complete else None


def _open_committed(
    folder: Path, names: Sequence[str], commit: _Commit | None, unread: Collection[str]
) -> dict[str, BufferedReader] | None:
    """Open the files of a commit; return None if there is none or it is void."""
    if commit is None:
        return None
    files: dict[str, BufferedReader] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            temporary = _temporary(commit.token, name)
            if not _is_plain(folder / temporary) and not (folder / name).is_file():
                return None
            if name in unread:
                continue
            pending = _open_plain(folder, temporary)
            files[name] = stack.enter_context(pending or open_inside(folder, name))
            edited = pending is None and name in commit.replaces
            if not edited and _sha256_of_open(files[name]) != commit.sha256[name]:
                return None
        stack.pop_all()
    return files


def _open_targets(folder: Path, names: Sequence[str], unread: Collection[str]) -> dict[str, BufferedReader]:
    """Open the files that have their own names."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{', '.join(missing)} missing")

    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(open_inside(folder, name)) for name in names if name not in unread}
        stack.pop_all()
    return files


def _temporary(token: str, name: str) -> str:
    return f".skastw-{token}-{name}.tmp"


def _is_plain(path: Path) -> bool:
    """Return whether a path is a regular file, and not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether a path still leads to an open file or folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _open_plain(folder: Path, name: str) -> BufferedReader | None:
    """Open a regular file of a folder; return None if it is missing, or not regular, or removed meanwhile."""
    if not _is_plain(folder / name):
        return None
    try:
        return open_inside(folder, name)
    except ArtifactError:
        if os.path.lexists(folder / name):
            raise
        return None


def _sha256_of(folder: Path, name: str) -> str | None:
    """Return the SHA-256 of a regular file of a folder, or None if it is missing or not regular."""
    file = _open_plain(folder, name)
    if file is None:
        return None
    with file:
        return _sha256_of_open(file)


def _sha256_of_open(file: BufferedReader) -> str:
    digest = hashlib.file_digest(file, "sha256")
    file.seek(0)
    return digest.hexdigest()


# ------------------------------------------------------------------ locking


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder, which is made if missing; yield whether the file system has locks.

    The folder itself is locked, which leaves no file. Network file systems lock only files that are open for writing,
    so a file in the folder is locked there, and removed at the end.
    """
    locked, flags = folder, os.O_RDONLY
    descriptor = _open_locked(folder, locked, flags)
    if descriptor is None:
        locked, flags = folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = _open_locked(folder, locked, flags)
    try:
        yield descriptor is not None
    finally:
        if locked != folder:
            with contextlib.suppress(OSError):
                os.unlink(locked)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for a process that was forked meanwhile
                os.close(descriptor)


def _open_locked(folder: Path, path: Path, flags: int) -> int | None:
    """Return a descriptor of ``path`` once it is locked, or None if the file system has no such locks."""
    deadline = time.monotonic() + _MAX_WAIT
    while True:
        os.makedirs(folder, exist_ok=True)
        descriptor = os.open(path, flags, 0o666)
        held = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = _is_at(descriptor, path)  # and not removed by another writer before it was locked
            if held:
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(_busy(_holder(descriptor))) from None
            time.sleep(_POLL_INTERVAL)
        except OSError:
            return None
        finally:
            if not held:
                os.close(descriptor)


@contextlib.contextmanager
def _locked_file(folder: Path) -> Iterator[bool]:
    """Hold the lock of a folder on a system that locks only files, by a file in it that is removed at the end."""
    from filelock import FileLock, Timeout

    os.makedirs(folder, exist_ok=True)
    lock = FileLock(folder / _LOCK_FILE, timeout=_MAX_WAIT)
    try:
        lock.acquire(poll_interval=_POLL_INTERVAL)
    except Timeout:
        raise TimeoutError(_busy("another process")) from None
    try:
        yield True
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            os.unlink(folder / _LOCK_FILE)


_locked = _locked_file if sys.platform == "win32" else _locked_folder


def _busy(holder: str) -> str:
    return f"{holder} has been saving to it for {_MAX_WAIT:.0f} seconds; wait until it ends, or end it, and save again"


def _holder(descriptor: int) -> str:
    """Return in words which process holds the lock of an open folder, if the system tells."""
    inode = str(os.fstat(descriptor).st_ino)
    with contextlib.suppress(OSError):
        # 1: FLOCK  ADVISORY  WRITE 4113 fe:00:393219 0 EOF; a process that waits has an arrow before FLOCK
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
                return f"the process {fields[4]}"
    return "another process"
