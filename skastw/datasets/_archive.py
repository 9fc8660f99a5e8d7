"""Unpack a ZIP or TAR file from an untrusted source: only into one folder, and only up to a limit.

The processors of pooch and the ``data`` filter of :mod:`tarfile` (which Python 3.11.0 to 3.11.3 do not have) stop names
that lead out of the folder. They accept links, names that occur twice and archives that grow without limit when they
are unpacked, all of which are refused here.
"""

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from skastw.errors import FetchError

_BLOCK = 2**18
#: More than twice the number of files of the largest set.
_MAX_MEMBERS = 2**18


class DamagedArchiveError(FetchError):
    """A downloaded file is damaged, or contains something that an archive of recordings must not contain."""


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
