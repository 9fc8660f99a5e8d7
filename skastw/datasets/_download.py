"""Download a large file: go on where an earlier attempt stopped, check it, and say clearly what went wrong.

Why not :func:`sklearn.datasets.fetch_file`, whose ``n_retries`` and ``delay`` these are? It suits the small files of
examples. As of scikit-learn 1.6 to 1.9 it removes what arrived when a transfer breaks off, waits for ever on a silent
server, gives up where the connection is reset half-way, asks again for what is not there (404), knows SHA-256 only
while the authors of most audio sets published an MD5, and shows no progress. For archives of 0.2 to 6 GB each of
these matters, and none can be added from outside. Of scikit-learn's helpers this package uses
:func:`sklearn.datasets.get_data_home`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from skastw.core.progress import ProgressBar
from skastw.core.version import __version__
from skastw.errors import FetchError

__all__ = ["download", "has_checksum"]

_BLOCK = 2**18
#: Seconds in which a server must answer, and in which more of a file must arrive.
_TIMEOUT = 30.0
#: Answers after which it is worth asking again: overload, a fault of the server, too many requests.
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class _BrokenOffError(Exception):
    """The network failed; another attempt may succeed."""


def download(
    url: str,
    path: Path,
    *,
    n_retries: int = 3,
    delay: float = 1.0,
    max_bytes: int = 2**34,
    verbose: bool = True,
) -> bool:
    """Download ``url`` to ``path``, which appears there once it is complete.

    What arrives is kept in ``path`` with the ending ``.part``; a later attempt, in this call or another, asks for the
    rest only, if the server can give it.

    Parameters
    ----------
    url : str
    path : Path
        Its folder must exist. A file that is there is left as it is.
    n_retries : int, default=3
        How often to ask again where the network or the server fails.
    delay : float, default=1.0
        Seconds between two attempts.
    max_bytes : int, default=2**34
        A longer file is refused.
    verbose : bool, default=True
        Show a progress bar.

    Returns
    -------
    bool
        Whether some of the file was there before this call, so that a wrong checksum may be the fault of the past.

    Raises
    ------
    FetchError
        If the file cannot be had, or cannot be written.
    """
    if path.exists():
        return True
    part = path.with_name(f"{path.name}.part")
    resumed, attempts = _size(part) > 0, 0
    while True:
        attempts += 1
        try:
            _transfer(url, part, path.name, max_bytes, verbose)
            part.replace(path)
            return resumed
        except _BrokenOffError as error:
            if attempts > n_retries:
                raise FetchError(_gave_up(url, part, attempts, str(error))) from error
        time.sleep(delay)


def _transfer(url: str, part: Path, title: str, max_bytes: int, verbose: bool) -> None:
    """Ask once for what is missing of a file, and append it."""
    start = _size(part)
    headers = {"User-Agent": f"skastw/{__version__}"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as answer:
            start, total = _position(answer, part, start)
            with ProgressBar(
                total=total, initial=start, desc=title, unit="B", unit_scale=True, disable=not verbose
            ) as bar:
                size = _append(answer, part, start, max_bytes, bar)
        if size > max_bytes:
            part.unlink()
            raise FetchError(f"Cannot download {url}: it is longer than {max_bytes} bytes, the limit for it.")
        if total is not None and size < total:
            raise _BrokenOffError(f"the connection ended after {size} of {total} bytes")
    except HTTPError as error:
        if error.code == 416 and start:  # there is no rest: the part is whole, or it is not of this file
            if error.headers.get("Content-Range") != f"bytes */{start}":
                part.unlink()
                raise _BrokenOffError("what was there before is not a part of the file") from error
        elif error.code in _PASSING:
            raise _BrokenOffError(f"the server answered HTTP {error.code} {error.reason}") from error
        else:
            raise FetchError(
                f"Cannot download {url}: the server answered HTTP {error.code} {error.reason}. The file may have "
                "moved; get it by hand, unpack it, and pass its folder as data_home=."
            ) from error
    except FetchError:  # an OSError itself
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"{type(error).__name__}: {error}") from error


def _position(answer: Any, part: Path, start: int) -> tuple[int, int | None]:
    """Return where an answer begins in the file, and how long the file is, if the server says so."""
    if answer.status == 206:
        sent = answer.headers.get("Content-Range") or ""
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", sent)
        if found is None or int(found[1]) != start:
            part.unlink(missing_ok=True)
            raise _BrokenOffError(f"the server sent {sent!r} when it was asked for all from byte {start}")
        return start, int(found[2])
    # The whole file, whatever was asked for. Archives made on demand tell no length, and end in an empty chunk.
    length = answer.headers.get("Content-Length")
    return 0, int(length) if length else None


def _append(answer: Any, part: Path, start: int, max_bytes: int, bar: Any) -> int:
    """Write what arrives, from ``start`` on, up to a limit; return the size of the file."""
    size = start
    with _writing(part), open(part, "ab" if start else "wb") as file:
        while True:
            with _reading():
                block = answer.read1(_BLOCK)  # what has arrived, however little: what follows may fail
            size += len(block)
            if not block or size > max_bytes:
                return size
            file.write(block)
            bar.update(len(block))


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenOffError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(
            f"Cannot write {str(part)!r}: {error.strerror or error}. Make room or give access, or choose another "
            "data_home=; the next call goes on where this one stopped."
        ) from error


def _gave_up(url: str, part: Path, attempts: int, reason: str) -> str:
    kept = f" The next call goes on from {_size(part)} bytes, in {str(part)!r}." if _size(part) else ""
    return (
        f"Cannot download {url} (attempts: {attempts}): {reason.rstrip('.')}.{kept} Check the network (and "
        "HTTPS_PROXY where it is set), or get the file elsewhere, unpack it, and pass its folder as data_home=."
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def has_checksum(path: Path, checksum: str) -> bool:
    """Say whether a file has a checksum such as ``"md5:d41d8cd98f00b204e9800998ecf8427e"``.

    Parameters
    ----------
    path : Path
    checksum : str
        Name of the algorithm, a colon, hexadecimal digits.

    Returns
    -------
    bool

    Examples
    --------
    >>> from pathlib import Path
    >>> from skastw.datasets._download import has_checksum
    >>> has_checksum(Path(__file__), "md5:d41d8cd98f00b204e9800998ecf8427e")  # that of an empty file
    False
    """
    name, _, digits = checksum.partition(":")
    digest = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest() == digits
