"""Download a large file through pooch: resume it, limit it, and say clearly what went wrong.

pooch stores the file, checks its hash and replaces a damaged copy. Its own downloaders start again from the first byte,
accept files of any length and repeat requests that cannot succeed (HTTP 404), so a downloader of our own transfers the
bytes.
"""

import http.client
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from skastw.core.progress import ProgressBar
from skastw.core.version import __version__
from skastw.core.warn import warn_user
from skastw.datasets._archive import DamagedArchiveError, unpack
from skastw.datasets._public_set import Archive
from skastw.errors import FetchError

_BLOCK = 2**18
#: Seconds in which a server must answer, and in which more of a file must arrive.
_TIMEOUT = 30.0
#: Answers after which another attempt may succeed: overload, a fault of the server, too many requests.
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class _PassingError(Exception):
    """The network or the server failed; another attempt may succeed."""


@dataclass(frozen=True)
class ResumingDownloader:
    """A downloader for pooch that keeps the bytes of a broken transfer, and asks for the rest only.

    Parameters
    ----------
    part : Path
        The file that collects the bytes, across attempts and across calls. Its folder must exist.
    n_retries : int, default=3
        How often to ask again after a failure that may pass.
    delay : float, default=1.0
        Seconds between two attempts.
    max_bytes : int, default=2**34
        Longer files are refused.
    verbose : bool, default=True
        Show a progress bar.

    Examples
    --------
    >>> from pathlib import Path
    >>> from skastw.datasets._download import ResumingDownloader
    >>> downloader = ResumingDownloader(Path("clips.zip.part"), n_retries=5)
    >>> pooch.retrieve(url, checksum, fname="clips.zip", path=".", downloader=downloader)  # doctest: +SKIP
    """

    part: Path
    n_retries: int = 3
    delay: float = 1.0
    max_bytes: int = 2**34
    verbose: bool = True

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` and move it to ``output_file`` once it is complete.

        Parameters
        ----------
        url : str
        output_file : str
            On the same disk as ``part``.
        pooch : Pooch or None
            Not used.

        Raises
        ------
        FetchError
            If the file cannot be downloaded or is too long.
        OSError
            If the file cannot be written.
        """
        for attempt in range(max(self.n_retries, 0) + 1):
            if attempt:
                time.sleep(self.delay)
            try:
                self._transfer(url)
                break
            except _PassingError as error:
                failure = error
        else:
            raise FetchError(self._gave_up(url, attempt + 1, failure)) from failure

        self.part.replace(output_file)

    def _transfer(self, url: str) -> None:
        """Ask once for the missing bytes, and append them to the part as they arrive."""
        arriving = self._received(url)
        size, total = next(arriving)
        bar = ProgressBar(
            total=total,
            initial=size,
            desc=self.part.name.removesuffix(".part"),
            unit="B",
            unit_scale=True,
            disable=not self.verbose,
        )

        with bar, open(self.part, "ab" if size else "wb") as file:
            for block in arriving:
                size += len(block)
                if size > self.max_bytes:
                    break
                file.write(block)
                bar.update(len(block))

        if size > self.max_bytes:
            self.part.unlink()
            raise FetchError(f"Cannot download {url}: it is longer than {self.max_bytes} bytes, the limit for it.")
        if total is not None and size < total:
            raise _PassingError(f"the connection ended after {size} of {total} bytes")

    def _received(self, url: str) -> Iterator[Any]:
        """Yield the position of an answer in the file and the length of the file, then the bytes as they arrive.

        The bytes come in blocks of any size, because the transfer may fail at any moment. Errors of the network are
        raised here, not in the loop that writes to the disk.
        """
        start = self._size()
        resume = {"Range": f"bytes={start}-"} if start else {}
        request = Request(url, headers={"User-Agent": f"skastw/{__version__}", **resume})
        try:
            with urlopen(request, timeout=_TIMEOUT) as answer:
                yield self._position(answer, start)
                while block := answer.read1(_BLOCK):
                    yield block

        except HTTPError as error:
            reason = f"the server answered HTTP {error.code} {error.reason}"
            if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{start}":
                yield start, start  # the file was complete
            elif error.code == 416 and start:
                self.part.unlink()  # the bytes are not of this file
                raise _PassingError(reason) from error
            elif error.code in _PASSING:
                raise _PassingError(reason) from error
            else:
                raise FetchError(
                    f"Cannot download {url}: {reason}. The file may have moved; download it by hand, unpack it, and "
                    "pass its folder as data_home=."
                ) from error

        except (OSError, http.client.HTTPException) as error:
            raise _PassingError(f"{type(error).__name__}: {error}") from error

    def _position(self, answer: Any, start: int) -> tuple[int, int | None]:
        """Return the position of an answer in the file, and the length of the file if the server states it."""
        if answer.status != 206:  # the whole file; archives that are packed on demand come without a length
            length = answer.headers.get("Content-Length")
            return 0, int(length) if length else None

        sent = answer.headers.get("Content-Range") or ""
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", sent)
        if match is None or int(match[1]) != start:
            self.part.unlink(missing_ok=True)
            raise _PassingError(f"the server sent {sent!r} when it was asked for all bytes from {start}")
        return start, int(match[2])

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _gave_up(self, url: str, attempts: int, failure: Exception) -> str:
        size = self._size()
        resume = f" The next call resumes after the {size} bytes in {str(self.part)!r}." if size else ""
        return (
            f"Cannot download {url} (attempts: {attempts}): {str(failure).rstrip('.')}.{resume} Check the network (and "
            "HTTPS_PROXY, if it is set), or download the file elsewhere, unpack it, and pass its folder as data_home=."
        )


def download_and_unpack(
    archive: Archive, folder: Path, part: Any, *, n_retries: int = 3, delay: float = 1.0, verbose: bool = True
) -> None:
    """Download an archive, next to ``folder``, and unpack it.

    Parameters
    ----------
    archive : Archive
    folder : Path
        Must be empty.
    part : object
        The part of the data set, for an archive that depends on it.
    n_retries, delay, verbose
        As for :class:`ResumingDownloader`.

    Raises
    ------
    FetchError
        If the archive cannot be downloaded or is damaged.
    OSError
        If the files cannot be written.
    """
    url = archive.url if isinstance(archive.url, str) else archive.url(part)
    file = folder.with_name(PurePosixPath(url).name)
    downloader = ResumingDownloader(file.with_name(f"{file.name}.part"), n_retries, delay, archive.max_bytes, verbose)

    while True:
        is_resumed = file.exists() or downloader.part.exists()
        try:
            _retrieve(archive, url, file, downloader)
            if archive.convert is None:
                unpack(file, folder, strip=archive.strip, max_bytes=archive.max_bytes)
            else:
                archive.convert(file, folder, part)
            return

        except DamagedArchiveError as error:
            file.unlink(missing_ok=True)
            if not is_resumed:
                raise FetchError(
                    f"The download of {url} is not as expected: {error} It was removed; try again, or download it "
                    "elsewhere, unpack it, and pass its folder as data_home=."
                ) from error

            # The bytes from an earlier call may be of another file: begin again.
            shutil.rmtree(folder)
            folder.mkdir()


def _retrieve(archive: Archive, url: str, file: Path, downloader: ResumingDownloader) -> None:
    """Let pooch download a file, unless it is there, and check its hash."""
    import pooch

    for stray in file.parent.glob("tmp*"):  # from pooch, in a process that was killed
        stray.unlink()

    thread = threading.get_ident()

    def is_from_elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != thread

    # pooch logs hints for its own users; other threads of the process may want theirs.
    pooch.get_logger().addFilter(is_from_elsewhere)
    try:
        known_hash = archive.checksum if archive.strict else None
        pooch.retrieve(url, known_hash, fname=file.name, path=file.parent, downloader=downloader)
    except ValueError as error:
        raise DamagedArchiveError(f"{file.name} does not have {archive.checksum}.") from error
    finally:
        pooch.get_logger().removeFilter(is_from_elsewhere)

    if archive.checksum and not archive.strict:
        algorithm, _, digits = archive.checksum.partition(":")
        if pooch.file_hash(str(file), algorithm) != digits:
            warn_user(
                f"{url} does not have {archive.checksum}, as published; it may have been packed again. Its content "
                "is checked."
            )
