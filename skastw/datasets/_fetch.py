"""Find a public data set on the disk, or download it as a whole.

A set is prepared in ``.name.tmp``, next to its final place, checked, and renamed, by one process at a time. So a folder
of our own is complete unless somebody removed files, and then it is fetched again. A folder of somebody else is read
as it is and never changed.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sklearn.datasets import get_data_home

from skastw.datasets._download import download_and_unpack
from skastw.datasets._public_set import PublicSet
from skastw.errors import FetchError

#: Marks a folder that was made here, and may be replaced.
_MARK = ".fetched_by_skastw"


def fetch_frame(
    public: PublicSet,
    part: Any = None,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
    n_retries: int = 3,
    delay: float = 1.0,
    verbose: bool = True,
) -> Any:
    """Return the table of a set, or of a part of it, and download the set if necessary.

    A set is searched in ``data_home`` itself, then in its folder ``public.name``, then in its other folders.

    Parameters
    ----------
    public : PublicSet
        With an archive.
    part : object
        As ``public.part.choose`` returns it.
    data_home, download_if_missing, n_retries, delay, verbose
        As for :func:`skastw.datasets.fetch_dataset`.

    Returns
    -------
    DataFrame

    Raises
    ------
    FetchError
        If the set cannot be downloaded or stored, or clips of the part are missing.
    """
    name = f"{public.name}-{part}" if public.part.separate else public.name
    with _disk_errors(data_home):
        own = Path(get_data_home(data_home)) / name
        frame = _find(public, part, own, download_if_missing)

    if frame is None:
        with _disk_errors(own), _alone(own, verbose):
            frame = _find(public, part, own, download_if_missing)  # another process may have brought it meanwhile
            if frame is None:
                _bring(public, part, own, n_retries=n_retries, delay=delay, verbose=verbose)
                frame = public.find(own, part)

    _tidy(own)
    return frame


def _find(public: PublicSet, part: Any, own: Path, download_if_missing: bool) -> Any:
    """Return the table from the first folder that contains the part; None if it must be downloaded."""
    home, problems = own.parent, {}
    others = (path for path in sorted(home.iterdir()) if path.is_dir() and path.name[0] != "." and path != own)
    for folder in (home, own, *others):
        try:
            if (frame := public.find(folder, part)) is not None:
                return frame
        except FetchError as error:
            problems[folder] = error
        except OSError:  # no access, or another process is replacing it
            pass

    # A damaged copy of our own is replaced; any other incomplete copy is an error.
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


def _bring(public: PublicSet, part: Any, own: Path, **how: Any) -> None:
    """Download a set to a new folder, check it, and move it to its place."""
    assert public.archive is not None
    whole = part if public.part.separate else public.part.choose()
    work = _work(own)
    new, old = work / "new", work / "old"
    for remains in (new, old):  # of a process that was killed
        shutil.rmtree(remains, ignore_errors=True)
    new.mkdir(parents=True)

    try:
        download_and_unpack(public.archive, new, part, **how)

        try:
            problem = "they do not look like it" if public.find(new, whole) is None else ""
        except FetchError as error:
            problem = str(error)
        if problem:
            shutil.rmtree(work)
            raise FetchError(f"The files that were downloaded are not {own.name}: {problem}")

        (new / _MARK).touch()
        if own.exists():
            own.rename(old)
        new.rename(own)
        shutil.rmtree(work, ignore_errors=True)

    finally:
        shutil.rmtree(new, ignore_errors=True)
        with contextlib.suppress(OSError):  # a partial download stays for the next call
            work.rmdir()


def _work(own: Path) -> Path:
    """Return the folder in which a set is prepared; only the owner of the lock may use it."""
    return own.with_name(f".{own.name}.tmp")


def _lock(own: Path) -> FileLock:
    """Return the lock of a set; the system releases it if its process is killed."""
    return FileLock(own.with_name(f".{own.name}.lock"))


@contextlib.contextmanager
def _alone(own: Path, verbose: bool) -> Iterator[None]:
    """Wait until no other process fetches this set, and keep others waiting."""
    lock = _lock(own)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        if verbose:
            print(f"Waiting for another process, which fetches {own.name}.", file=sys.stderr)
        held = lock.acquire()

    with held:
        yield


def _tidy(own: Path) -> None:
    """Remove the work folder of a process that was killed just before its end."""
    if _work(own).exists():
        with contextlib.suppress(OSError, Timeout), _lock(own).acquire(timeout=0):
            shutil.rmtree(_work(own), ignore_errors=True)


@contextlib.contextmanager
def _disk_errors(path: Any) -> Iterator[None]:
    """Turn the errors of the system, such as a full disk, into one that says what to do."""
    try:
        yield
    except FetchError:  # an OSError itself
        raise
    except OSError as error:
        raise FetchError(
            f"Cannot use {str(path)!r}: {error.strerror or error}. Make room or give access, or choose another "
            "data_home=. An interrupted download goes on with the next call."
        ) from error
