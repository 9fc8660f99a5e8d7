"""Unpack a ZIP or TAR file that a stranger may have written: only inside a folder, and only up to a limit."""

from __future__ import annotations

import contextlib
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from skastw.errors import FetchError

__all__ = ["DamagedArchiveError", "unpack"]

_BLOCK = 2**18
#: No set has more files than half of this.
_MAX_MEMBERS = 2**18


class DamagedArchiveError(FetchError):
    """An archive is not one, is not whole, or holds what an archive of recordings does not."""


def unpack(archive: Path, folder: Path, *, strip: int = 0, max_bytes: int) -> None:
    """Unpack the regular files of a ZIP or a compressed TAR file.

    Names that lead out of the folder, links, devices, passwords, two files of one name and more than ``max_bytes``
    are refused. Modes, owners and times are not taken over.

    Parameters
    ----------
    archive : Path
    folder : Path
        Empty; what was unpacked before an error stays there.
    strip : int, default=0
        How many leading folders of each name to leave out. Files that lie higher are left out as well.
    max_bytes : int
        All files together, unpacked.

    Raises
    ------
    DamagedArchiveError
        If the archive is not as it should be.
    FetchError
        If the files cannot be written.
    """
    count = size = 0
    try:
        for name, content in _members(archive):
            count += 1
            if count > _MAX_MEMBERS:
                raise DamagedArchiveError(f"{archive.name} holds more than {_MAX_MEMBERS} files, the limit.")
            parts = _parts(archive, name)[strip:]
            if parts and content is not None:
                size += _write(archive, content, folder.joinpath(*parts), max_bytes - size)
    except FetchError:
        raise
    except Exception as error:  # damaged archives raise ten kinds of errors, IndexError and TypeError among them
        raise DamagedArchiveError(f"{archive.name} cannot be unpacked ({error}).") from error


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the name of each member and what it holds, None for a folder."""
    with open(archive, "rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was packed on Windows
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DamagedArchiveError(f"{archive.name} holds {info.filename!r}, a link or a device.")
                if info.is_dir():
                    yield info.filename, None
                else:
                    with packed.open(info) as content:
                        yield info.filename, content
        return
    with tarfile.open(archive, "r|*") as stream:
        for member in stream:
            if not (member.isreg() or member.isdir()):
                raise DamagedArchiveError(f"{archive.name} holds {member.name!r}, a link or a device.")
            yield member.name, stream.extractfile(member) if member.isreg() else None


def _parts(archive: Path, name: str) -> tuple[str, ...]:
    """Return the folders and the file name of a member, all below where it is unpacked."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(character in name for character in "\\:\0"):
        raise DamagedArchiveError(f"{archive.name} holds {name!r}, which leads out of its folder.")
    return path.parts


def _write(archive: Path, content: IO[bytes], path: Path, limit: int) -> int:
    """Copy a member to a file that is not there yet; return its size."""
    size = 0
    with _writing(archive, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            while block := content.read(_BLOCK):
                size += len(block)
                if size > limit:
                    raise DamagedArchiveError(
                        f"{archive.name} holds more than it should: {path.name!r} passes the limit."
                    )
                file.write(block)
    return size


@contextlib.contextmanager
def _writing(archive: Path, path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise DamagedArchiveError(f"{archive.name} holds {path.name!r} twice.") from error
    except FetchError:  # an OSError itself
        raise
    except OSError as error:
        raise FetchError(
            f"Cannot unpack {archive.name} to {str(path.parent)!r}: {error.strerror or error}. Make room or give "
            "access, or choose another data_home=; the archive is kept, and not downloaded again."
        ) from error
