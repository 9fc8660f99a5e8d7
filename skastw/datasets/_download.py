"""Download an archive through pooch, and unpack it: only into one folder, and only up to a limit.

pooch stores the file, checks its hash and replaces a damaged copy. Its own downloaders start again from the first byte,
accept files of any length and repeat requests that cannot succeed (HTTP 404), so a downloader of our own transfers the
bytes.

The processors of pooch and the ``data`` filter of :mod:`tarfile` (which Python 3.11.0 to 3.11.3 do not have) stop names
that lead out of the folder. They accept links, names that occur twice and archives that grow without limit when they
are unpacked, all of which are refused here.
"""

import http.client
import logging
import re
import shutil
import stat
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from skastw.core.progress import ProgressBar
from skastw.core.version import __version__
from skastw.core.warn import warn_user
from skastw.datasets._public_set import Archive
from skastw.errors import FetchError

_BLOCK = 2**18
#: Seconds in which a server must answer, and in which more of a file must arrive.
_TIMEOUT = 30.0
#: Answers after which another attempt may succeed: overload, a fault of the server, too many requests, a part that is
#: not of this file.
_PASSING = {408, 416, 425, 429, 500, 502, 503, 504}
#: More than twice the number of files of the largest set.
_MAX_MEMBERS = 2**18


class DamagedArchiveError(FetchError):
    """A downloaded file is damaged, or contains something that an archive of recordings must not contain."""


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
        n_attempts = max(self.n_retries, 0) + 1
        for attempt in range(1, n_attempts + 1):
            try:
                self._transfer(url)
                break
            except _PassingError as error:
                if attempt == n_attempts:
                    size = self._size()
                    resume = f" The next call resumes after the {size} bytes in {str(self.part)!r}." if size else ""
                    raise FetchError(
                        f"Cannot download {url} (attempts: {n_attempts}): {str(error).rstrip('.')}.{resume} Check the "
                        "network (and HTTPS_PROXY, if it is set), or download the file elsewhere, unpack it, and pass "
                        "its folder as data_home=."
                    ) from error
                time.sleep(self.delay)

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
            elif error.code in _PASSING:
                if error.code == 416:  # the bytes are not of this file
                    self.part.unlink(missing_ok=True)
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


def download_and_unpack(
    archive: Archive, folder: Path, part: Any, *, n_retries: int = 3, delay: float = 1.0, verbose: bool = True
) -> None:
    """Download an archive, next to ``folder``, and unpack it.

    Parameters
    ----------
    archive : Archive
    folder : Path
        Its content is replaced.
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
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            _retrieve(archive, url, file, downloader)
            if archive.convert is None:
                unpack(file, folder, strip=archive.strip, max_bytes=archive.max_bytes)
            else:
                archive.convert(file, folder, part)
            return

        except DamagedArchiveError as error:
            file.unlink(missing_ok=True)
            if not is_resumed:  # else the bytes from an earlier call may be of another file: begin again
                raise FetchError(
                    f"The download of {url} is not as expected: {error} It was removed; try again, or download it "
                    "elsewhere, unpack it, and pass its folder as data_home=."
                ) from error


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


# ------------------------------------------------------------------ archives


def unpack(archive: Path, folder: Path, *, strip: int = 0, max_bytes: int) -> None:
    """Unpack the regular files of a ZIP or a compressed TAR file.

    Names that lead out of the folder, links, devices, passwords, two files of the same name and more than
    ``max_bytes`` are refused. Modes, owners and times are not restored.

    Parameters
    ----------
    archive : Path
    folder : Path
        Must be empty. Files that were unpacked before an error stay there.
    strip : int, default=0
        How many leading folders to remove from each name. Files that are not that deep are left out.
    max_bytes : int
        Limit for the unpacked size of all files together.

    Raises
    ------
    DamagedArchiveError
        If the archive is damaged or hostile.
    OSError
        If the files cannot be written.
    """
    size = 0
    try:
        for count, (name, content) in enumerate(_members(archive), 1):
            if count > _MAX_MEMBERS:
                raise DamagedArchiveError(f"{archive.name} holds more than {_MAX_MEMBERS} files, the limit.")

            parts = _safe_parts(archive, name)[strip:]
            if parts and content is not None:
                size += _write(archive, content, folder.joinpath(*parts), max_bytes - size)

    except FetchError:
        raise
    except (FileExistsError, NotADirectoryError) as error:
        raise DamagedArchiveError(f"{archive.name} holds {Path(error.filename).name!r} twice.") from error
    except Exception as error:  # damaged archives raise ten kinds of errors, IndexError and TypeError among them
        if isinstance(error, OSError) and error.errno is not None:  # from the system: the disk is full, for example
            raise
        raise DamagedArchiveError(f"{archive.name} cannot be unpacked ({error}).") from error


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the name and the content of each member; the content of a folder is None."""
    with open(archive, "rb") as file:
        is_zip = file.read(2) == b"PK"

    if is_zip:
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 if it was packed on Windows
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DamagedArchiveError(f"{archive.name} holds {info.filename!r}, a link or a device.")
                yield info.filename, None if info.is_dir() else packed.open(info)
        return

    with tarfile.open(archive, "r|*") as stream:
        for member in stream:
            if not (member.isreg() or member.isdir()):
                raise DamagedArchiveError(f"{archive.name} holds {member.name!r}, a link or a device.")
            yield member.name, stream.extractfile(member) if member.isreg() else None


def _safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    """Split the name of a member into folders and file name; refuse it if it leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(character in name for character in "\\:\0"):
        raise DamagedArchiveError(f"{archive.name} holds {name!r}, which leads out of its folder.")
    return path.parts


def _write(archive: Path, content: IO[bytes], path: Path, limit: int) -> int:
    """Write a member to a new file and return its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with content, open(path, "xb") as file:
        while block := content.read(_BLOCK):
            size += len(block)
            if size > limit:
                raise DamagedArchiveError(f"{archive.name} is too large: unpacked, {path.name!r} passes the limit.")
            file.write(block)
    return size
