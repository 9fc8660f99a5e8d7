"""What the public data sets share: find a set that is there, or bring it in one piece, and make a Bunch of it.

A set is prepared in a folder beside its place, ``.name.tmp``, checked, and renamed, by one process at a time. So a
folder of our own is whole unless somebody took files out of it, and then it is fetched again; a folder of somebody
else is read as it is and never changed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from skastw.core.warn import warn_user
from skastw.datasets._archive import DamagedArchiveError, unpack
from skastw.datasets._download import download, has_checksum
from skastw.errors import DataError, FetchError, plain

__all__ = [
    "Archive",
    "Request",
    "as_bunch",
    "audio_files",
    "check_name",
    "check_names",
    "check_whole",
    "fetch_frame",
    "get_archive",
]

#: Is in a folder that was made here, which may be replaced.
_MARK = ".fetched_by_skastw"
#: Endings of recordings, best first where there are several of one name.
_AUDIO = (".wav", ".flac", ".ogg")


@dataclass(frozen=True)
class Archive:
    """A file to download and unpack.

    Parameters
    ----------
    url : str
    checksum : str, optional
        As for :func:`~skastw.datasets._download.has_checksum`; of the file that the authors published.
    strict : bool, default=True
        Whether a file with another checksum is refused. Otherwise it is told in a warning, and what is in the archive
        decides: for hosts that pack it anew from time to time.
    strip : int, default=0
        How many leading folders of its names to leave out.
    max_bytes : int, default=2**31
        Unpacked, and packed.
    """

    url: str
    checksum: str | None = None
    strict: bool = True
    strip: int = 0
    max_bytes: int = 2**31


@dataclass(frozen=True)
class Request:
    """How a caller wants a set: the parameters that every function which fetches one has.

    Parameters
    ----------
    data_home : path or None
        As for :func:`sklearn.datasets.get_data_home`.
    download_if_missing, return_X_y, as_frame : bool
    n_retries : int
    delay : float
        Seconds between two attempts.
    verbose : bool
    """

    data_home: str | os.PathLike[str] | None
    download_if_missing: bool
    return_X_y: bool  # noqa: N815
    as_frame: bool
    n_retries: int
    delay: float
    verbose: bool


def fetch_frame(
    name: str,
    read: Callable[[Path], Any],
    source: Archive | Callable[[Request, Path], None],
    request: Request,
    *,
    read_all: Callable[[Path], Any] | None = None,
) -> Any:
    """Return the table of a set, or of a part of it, bringing the set where needed.

    A set is looked for in ``data_home`` itself, then in its folder ``name``, then in its other folders.

    Parameters
    ----------
    name : str
        The folder below ``data_home`` in which the set is put.
    read : callable
        Takes a folder; returns the table of what is wanted, or None if the folder does not look like the set at all;
        raises FetchError if something of what is wanted is not there.
    source : Archive or callable
        What to unpack; or takes the request and an empty folder, to be filled. What it downloads goes beside that, and
        stays there if it fails.
    request : Request
    read_all : callable, optional
        As ``read``, for the whole set, which is what must have been downloaded; by default ``read``.

    Returns
    -------
    DataFrame

    Raises
    ------
    FetchError
        If the set, or what is wanted of it, cannot be had.
    """
    get = partial(get_archive, source) if isinstance(source, Archive) else source
    with _explained(request.data_home):
        own = Path(get_data_home(request.data_home)) / name
        frame = _find(own, read, request.download_if_missing)
    if frame is None:
        with _explained(own), _alone(own, request.verbose):
            frame = _find(own, read, request.download_if_missing)  # another process may have brought it meanwhile
            if frame is None:
                _bring(own, read_all or read, partial(get, request))
                frame = read(own)
    _tidy(own)
    return frame


def _find(own: Path, read: Callable[[Path], Any], download_if_missing: bool) -> Any:
    """Return the table of the first folder that has what is wanted; None if it is to be downloaded."""
    home, problems = own.parent, {}
    others = (path for path in sorted(home.iterdir()) if path.is_dir() and path.name[0] != "." and path != own)
    for folder in (home, own, *others):
        try:
            frame = read(folder)
        except FetchError as error:
            problems[folder] = error
            continue
        except OSError:  # may not be read, or is being replaced by another process
            continue
        if frame is not None:
            return frame
    damaged = problems.pop(own, None) if download_if_missing and (own / _MARK).exists() else None
    for problem in problems.values():
        raise problem
    if not download_if_missing:
        raise FetchError(
            f"{own.name} is neither in {str(own)!r} nor in another folder of {str(home)!r}, and got "
            "download_if_missing=False. Pass its folder as data_home=, or True."
        )
    if damaged is None and own.exists() and any(own.iterdir()):
        raise FetchError(
            f"Cannot put {own.name} in {str(own)!r}, where something else is. Move that, or pass data_home=."
        )
    return None


def _bring(own: Path, read_all: Callable[[Path], Any], get: Callable[[Path], None]) -> None:
    """Fill a new folder, check it, and put it in its place."""
    work = _work(own)
    new, old = work / "new", work / "old"
    for left in (new, old):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        get(new)
        try:
            wrong = "they do not look like it" if read_all(new) is None else ""
        except FetchError as error:
            wrong = str(error)
        if wrong:
            shutil.rmtree(work)
            raise FetchError(f"The files that were downloaded are not {own.name}: {wrong}")
        (new / _MARK).touch()
        if own.exists():
            own.rename(old)
        new.rename(own)
        shutil.rmtree(work, ignore_errors=True)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):  # what was downloaded stays for the next call
            work.rmdir()


def _work(own: Path) -> Path:
    """Return the folder in which a set is prepared; who holds the lock owns it."""
    return own.with_name(f".{own.name}.tmp")


def _tidy(own: Path) -> None:
    """Remove what a process left that was killed just before its end."""
    if _work(own).exists():
        with contextlib.suppress(OSError, Timeout), _lock(own).acquire(timeout=0):
            shutil.rmtree(_work(own), ignore_errors=True)


def get_archive(archive: Archive, request: Request, folder: Path) -> None:
    """Download an archive, beside ``folder``, and unpack it.

    Parameters
    ----------
    archive : Archive
    request : Request
    folder : Path
        Empty.

    Raises
    ------
    FetchError
        If it cannot be had or written.
    """
    file = folder.with_name(PurePosixPath(archive.url).name)
    while True:
        known = download(
            archive.url,
            file,
            n_retries=request.n_retries,
            delay=request.delay,
            max_bytes=archive.max_bytes,
            verbose=request.verbose,
        )
        try:
            _check(archive, file)
            unpack(file, folder, strip=archive.strip, max_bytes=archive.max_bytes)
            return
        except DamagedArchiveError as error:
            file.unlink()
            if not known:
                raise FetchError(
                    f"{archive.url} did not give what it should: {error} It was removed; try again, or get it "
                    "elsewhere, unpack it, and pass its folder as data_home=."
                ) from error
            shutil.rmtree(folder)  # what an earlier call left may be of another file: begin again
            folder.mkdir()


def _check(archive: Archive, file: Path) -> None:
    if archive.checksum is None or has_checksum(file, archive.checksum):
        return
    if archive.strict:
        raise DamagedArchiveError(f"{file.name} ({file.stat().st_size} bytes) does not have {archive.checksum}.")
    warn_user(
        f"{archive.url} does not have {archive.checksum}, as published; it may have been packed anew. What is in it "
        "is checked."
    )


def _lock(own: Path) -> FileLock:
    """Return what one process holds while it fetches a set; the system takes it from one that is killed."""
    return FileLock(own.with_name(f".{own.name}.lock"))


@contextlib.contextmanager
def _alone(own: Path, verbose: bool) -> Iterator[None]:
    """Wait until no other process fetches this set."""
    lock = _lock(own)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if verbose:
            print(f"Waiting for another process, which fetches {own.name}.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _explained(where: Any) -> Iterator[None]:
    try:
        yield
    except FetchError:  # an OSError itself
        raise
    except OSError as error:
        raise FetchError(
            f"Cannot use {str(where)!r}: {error.strerror or error}. Make room or give access, or choose another "
            "data_home=."
        ) from error


def audio_files(folder: Path, subfolders: Iterable[str]) -> dict[str, str]:
    """Return the recordings in some subfolders: paths by name, such as ``"audio/1-100032-A-0"``.

    WAV, FLAC and OGG are alike, so that a copy in another format is the same set. Empty files are left out.

    Parameters
    ----------
    folder : Path
    subfolders : iterable of str
        Those that do not exist hold nothing.

    Returns
    -------
    dict of str to str
        In order of the names.
    """
    found: dict[str, tuple[int, str]] = {}
    for subfolder in subfolders:
        if not (folder / subfolder).is_dir():
            continue
        with os.scandir(folder / subfolder) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() in _AUDIO and stem[0] != "." and entry.stat().st_size:
                    rank, name = _AUDIO.index(ending.lower()), f"{subfolder}/{stem}"
                    found[name] = min(found.get(name, (rank, entry.path)), (rank, entry.path))
    return {name: found[name][1] for name in sorted(found)}


def check_whole(
    title: str, folder: Path, found: Collection[str], expected: Collection[str] | int, hint: str = ""
) -> None:
    """Refuse a folder that holds something else than the recordings that are expected.

    Parameters
    ----------
    title : str
        What is expected, for the message.
    folder : Path
    found : collection of str
        Names.
    expected : collection of str, or int
        Names, or how many.
    hint : str
        More for the message.

    Raises
    ------
    FetchError
        Saying how many are there, and naming some that are missing.
    """
    number = expected if isinstance(expected, int) else len(expected)
    missing = [] if isinstance(expected, int) else sorted(set(expected) - set(found))
    here = len(found) if isinstance(expected, int) else number - len(missing)
    if here == number:
        return
    examples = f"; missing are {', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}" if missing else ""
    raise FetchError(
        f"{str(folder)!r} holds {here} clips of {title}, expected {number}{examples}. {hint}Complete the folder, "
        "or pass another data_home=."
    )


def check_name(parameter: str, value: Any, known: Iterable[str | None]) -> None:
    """Refuse a value that is none of those known.

    Parameters
    ----------
    parameter : str
        Its name, for the message.
    value : object
    known : iterable of str or None

    Raises
    ------
    DataError
        Naming the value and those known.

    Examples
    --------
    >>> from skastw.datasets._fetch import check_name
    >>> check_name("subset", "birds", ["animals", "transport"])
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got subset='birds', expected one of 'animals', 'transport'.
    """
    known = list(known)
    if value not in known:
        raise DataError(f"Got {parameter}={plain(value)!r}, expected one of {', '.join(map(repr, known))}.")


def check_names(parameter: str, values: Any, known: Sequence[str]) -> list[str]:
    """Return those of the known names that are asked for, in the order in which they are known.

    Parameters
    ----------
    parameter : str
        Its name, for the message.
    values : iterable of str, str or None
        A single name stands for itself, None for all.
    known : sequence of str

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        Naming the value and those known, and showing how a list is written.

    Examples
    --------
    >>> from skastw.datasets._fetch import check_names
    >>> check_names("words", ["no", "yes"], ["yes", "no", "on"])
    ['yes', 'no']
    >>> check_names("words", "yes,no", ["yes", "no", "on"])
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got words='yes,no', expected a list such as words=['yes', 'no'] of 'yes', 'no', 'on'.
    """
    if values is None:
        return list(known)
    example = list(known[:2])
    if isinstance(values, str):
        chosen, words = [values] if values in known else [], [word.strip() for word in values.split(",")]
        example = words if set(words) <= set(known) else example
    else:
        chosen = list(values) if isinstance(values, Iterable) else []
    if not chosen:
        raise DataError(
            f"Got {parameter}={plain(values)!r}, expected a list such as {parameter}={example} of "
            f"{', '.join(map(repr, known))}."
        )
    for value in chosen:
        check_name(parameter, value, known)
    return [name for name in known if name in chosen]


def as_bunch(
    frame: Any, request: Request, *, target_names: Iterable[str], groups: str | None, cv: Any, description: str
) -> Any:
    """Return a table in the form that the caller wants.

    Parameters
    ----------
    frame : DataFrame
        With the columns ``audio`` and ``target``.
    request : Request
    target_names : iterable of str
    groups : str or None
        Column of the units that no split may mix.
    cv : splitter, list of (train, test), or None
    description : str

    Returns
    -------
    Bunch, or (data, target)
    """
    data: Any = frame["audio"].tolist()
    target: Any = frame["target"].to_numpy(dtype=str)
    if request.as_frame:
        data, target = frame[["audio"]], frame["target"]
    if request.return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=list(target_names),
        groups=None if groups is None else np.array(frame[groups].tolist()),
        cv=cv,
        frame=frame if request.as_frame else None,
        DESCR=description,
    )
