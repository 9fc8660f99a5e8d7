"""A folder of recordings, one folder a class, as a data set."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from skastw.core.text import column_type, readable
from skastw.core.warn import warn_user
from skastw.errors import DataError

__all__ = ["AUDIO_EXTENSIONS", "UNKNOWN_EXTENSIONS", "load_audio_folder"]

#: Of the files that :func:`skastw.audio.decode` reads: by libsndfile, and by FFmpeg's libraries (the extra ``av``).
AUDIO_EXTENSIONS = (
    *(".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc"),
    *(".au", ".snd", ".caf", ".mp2", ".voc", ".sph", ".m4a", ".m4b", ".m4r", ".mp4", ".m4v", ".mov", ".3gp", ".3g2"),
    *(".aac", ".webm", ".weba", ".mka", ".mkv", ".wma", ".wmv", ".asf", ".ac3", ".eac3", ".amr", ".awb", ".wv", ".tta"),
)
#: Of audio and video files that are not decoded.
UNKNOWN_EXTENSIONS = (
    *(
        ".aifr",
        ".ape",
        ".avi",
        ".dff",
        ".dsf",
        ".dts",
        ".flv",
        ".gsm",
        ".m2ts",
        ".mid",
        ".midi",
        ".mpc",
        ".mpeg",
        ".mpg",
    ),
    *(".mts", ".ogv", ".pcm", ".ra", ".raw", ".rm", ".sd2", ".spx", ".ts", ".vob", ".vox"),
)


def load_audio_folder(
    root: str | os.PathLike[str],
    *,
    groups: str | re.Pattern[str] | None = None,
    extensions: str | Sequence[str] = AUDIO_EXTENSIONS,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    r"""Load a folder that has one folder for each class.

    A recording's class is the first folder of its path below ``root``; deeper folders are searched too. Files and
    folders whose names begin with a dot are skipped. Nothing is decoded. Classes and groups from names that are not
    Unicode have escapes (``caf\xe9``).

    Parameters
    ----------
    root : path
        The folder of the class folders.
    groups : str, re.Pattern or None, default=None
        What clips of one speaker, recording or place have in common. A regular expression, searched in each path
        below ``root`` (such as ``dog/anna_3.wav``): its group called ``group``, or else its first, is the clip's group.
        ``"parent"`` is the folder directly above the file, as in ``dog/anna/3.wav``.
    extensions : str or sequence of str
        Which files are recordings, whether in small letters or capitals; by default :data:`AUDIO_EXTENSIONS`.
    return_X_y : bool, default=False
        Return ``(data, target)`` in place of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series.

    Returns
    -------
    Bunch
        ``data`` : list of n paths, sorted, or DataFrame;
        ``target`` : ndarray of shape (n,) of str, or Series;
        ``target_names`` : list of the classes, sorted;
        ``groups`` : ndarray of shape (n,) of str, or None;
        ``frame`` : DataFrame with the columns ``audio``, ``target``, ``group`` where there are groups, and one for each
        other name that the pattern gives, ``(?P<take>\d+)``;
        ``DESCR`` : what was found.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    DataError
        If there is no such folder; no class folder, or one without recordings; a recording outside the class
        folders, or that ``groups`` does not match.

    Warns
    -----
    UserWarning
        If there is one class only; links that are not followed: those to folders, and those out of ``root``; or files
        in class folders that are audio or video by their names, and not of ``extensions``.

    Examples
    --------
    >>> import shutil, tempfile
    >>> from pathlib import Path
    >>> from skastw.datasets import load_audio_folder, load_spoken_digits
    >>> root, digits = Path(tempfile.mkdtemp()), load_spoken_digits()
    >>> for path, digit in zip(digits.data, digits.target):
    ...     (root / digit).mkdir(exist_ok=True)
    ...     _ = shutil.copy(path, root / digit)  # five/5_adam_0.ogg
    >>> clips = load_audio_folder(root, groups=r"\d_(\w+)_\d")
    >>> len(clips.data), clips.target_names[:3], len(set(clips.groups))
    (400, ['eight', 'five', 'four'], 20)
    >>> shutil.rmtree(root)
    """
    import pandas as pd

    root = Path(root).expanduser()
    files = _recordings(root, _suffixes(extensions))
    columns: dict[str, Any] = {"audio": [str(root / file) for file in files]}
    columns["target"] = np.array([readable(file.parts[0]) for file in files])
    if groups == "parent":
        columns["group"] = np.array([readable(_parent(file)) for file in files])
    elif groups is not None:
        columns |= _named_parts(files, groups)
    frame = pd.DataFrame(columns | {"audio": pd.Series(columns["audio"], dtype=column_type(columns["audio"]))})

    data: Any = frame[["audio"]] if as_frame else columns["audio"]
    target: Any = frame["target"] if as_frame else columns["target"]
    if return_X_y:
        return data, target
    names = sorted(set(columns["target"].tolist()))
    description = f"{len(files)} recordings of {len(names)} classes in {str(root)!r}."
    return Bunch(
        data=data, target=target, target_names=names, groups=columns.get("group"), frame=frame, DESCR=description
    )


def _suffixes(extensions: str | Sequence[str]) -> tuple[str, ...]:
    given = [extensions] if isinstance(extensions, str) else list(extensions)
    if not given or not all(isinstance(extension, str) and extension.strip(".") for extension in given):
        raise DataError(f"Got extensions={extensions!r}, expected names such as '.wav'.")
    return tuple("." + extension.lower().lstrip(".") for extension in given)


def _recordings(root: Path, suffixes: tuple[str, ...]) -> list[PurePosixPath]:
    """Return the paths of the recordings below ``root``, sorted; check that each class has some."""
    if not root.is_dir():
        what = "which is a file" if root.is_file() else f"which does not exist (looked in {os.getcwd()!r})"
        raise DataError(f"Got root={str(root)!r}, {what}, expected a folder with a folder for each class.")
    links: list[str] = []
    others: list[str] = []
    found = sorted(_walk(root, suffixes, links, others), key=lambda file: file.parts)
    if links:
        message = f"{len(links)} links to folders or out of {str(root)!r} are not followed ({_examples(links)})."
        warn_user(message)
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not _is_skipped(entry))
    stray = [str(file) for file in found if len(file.parts) == 1]
    if stray:
        raise DataError(
            f"{len(stray)} recordings lie directly in {str(root)!r} ({_examples(stray)}) and have no class: "
            "move them into class folders, or list them in a table (load_audio_table)."
        )
    if not classes:
        raise DataError(f"{str(root)!r} has no class folders, expected one for each class, with recordings in it.")
    if empty := sorted(set(classes) - {file.parts[0] for file in found}):
        raise DataError(
            f"{len(empty)} of {len(classes)} class folders have no recordings ({_examples(empty)}), expected files "
            f"that end in {', '.join(suffixes)}: remove the folders, or set extensions."
        )
    if others:
        warn_user(
            f"{len(others)} files in the class folders of {str(root)!r} are audio or video by their names and are left "
            f"out ({_examples(sorted(others))}): their endings are not among the extensions; convert them, or set "
            "extensions."
        )
    if len(classes) == 1:
        message = f"{str(root)!r} has one class folder only, {classes[0]!r}: is it one folder too deep or too high?"
        warn_user(message)
    return found


def _walk(root: Path, suffixes: tuple[str, ...], links: list[str], others: list[str]) -> Iterator[PurePosixPath]:
    """Yield the recordings below ``root``; list links that are not followed, and audio of other endings."""
    known = (*AUDIO_EXTENSIONS, *UNKNOWN_EXTENSIONS)
    for folder, folders, names in os.walk(root, onerror=_refuse):
        here = Path(folder)
        links += sorted(str(here / name) for name in folders if (here / name).is_symlink())
        folders[:] = [name for name in folders if not _is_skipped(here / name)]
        for name in names:
            path = here / name
            if name.startswith("."):
                continue
            if not name.lower().endswith(suffixes):
                if here != root and name.lower().endswith(known):
                    others.append(str(path.relative_to(root)))
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                links.append(str(path))
                continue
            yield PurePosixPath(path.relative_to(root).as_posix())


def _is_skipped(folder: Path) -> bool:
    """Say whether a folder is hidden, left by an archive of macOS, or a link."""
    return folder.name.startswith(".") or folder.name == "__MACOSX" or folder.is_symlink()


def _refuse(error: OSError) -> None:
    raise DataError(f"The folder {error.filename!r} cannot be read ({error.strerror}).") from error


def _parent(file: PurePosixPath) -> str:
    if len(file.parts) < 3:
        raise DataError(
            f"Got groups='parent', and {str(file)!r} lies directly in its class folder, expected class/group/file: "
            "give a regular expression, or no groups."
        )
    return file.parts[-2]


def _named_parts(files: Sequence[PurePosixPath], groups: str | re.Pattern[str]) -> dict[str, np.ndarray]:
    """Return the groups, as ``group``, and what else a pattern names."""
    try:
        pattern = re.compile(groups)
    except (re.error, TypeError) as error:
        raise DataError(f"Got groups={groups!r}, expected 'parent' or a regular expression ({error}).") from error
    taken = sorted({"audio", "target"} & set(pattern.groupindex))
    if not pattern.groups or taken:
        problem = f"names {taken[0]!r}, a column that there is already" if taken else "has no group in parentheses"
        raise DataError(
            f"Got groups={pattern.pattern!r}, which {problem}; write what clips have in common as '(?P<group>...)'."
        )
    matches = [pattern.search(readable(str(file))) for file in files]
    wanted = {"group": pattern.groupindex.get("group", 1), **pattern.groupindex}
    parts = {name: [match and match[number] for match in matches] for name, number in wanted.items()}
    if missed := [str(file) for file, group in zip(files, parts["group"], strict=True) if group is None]:
        raise DataError(
            f"Got groups={pattern.pattern!r}, which does not match {len(missed)} of {len(files)} paths "
            f"({_examples(missed)})."
        )
    return {name: np.array(["" if part is None else part for part in values]) for name, values in parts.items()}


def _examples(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:3])) + ", ..." * (len(names) > 3)
