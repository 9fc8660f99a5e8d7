"""Load a folder of recordings with one folder for each class."""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sklearn.utils import Bunch

from skastw.core.text import column_type, did_you_mean, listed, looked_in, readable
from skastw.core.warn import warn_user
from skastw.errors import DataError, plain

#: Extensions of files that :func:`skastw.audio.decode` reads, with libsndfile or FFmpeg's libraries (the extra ``av``).
AUDIO_EXTENSIONS = (
    *(".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au"),
    *(".snd", ".caf", ".mp2", ".voc", ".sph", ".m4a", ".m4b", ".m4r", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".aac"),
    *(".webm", ".weba", ".mka", ".mkv", ".wma", ".wmv", ".asf", ".ac3", ".eac3", ".amr", ".awb", ".wv", ".tta"),
)
#: Extensions of audio and video files that are not decoded.
UNKNOWN_EXTENSIONS = (
    *(".aifr", ".ape", ".avi", ".dff", ".dsf", ".dts", ".flv", ".gsm", ".m2ts", ".mid", ".midi", ".mpc", ".mpeg"),
    *(".mpg", ".mts", ".ogv", ".pcm", ".ra", ".raw", ".rm", ".sd2", ".spx", ".ts", ".vob", ".vox"),
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

    The class of a recording is the first folder of its path below ``root``; subfolders are searched too. Files and
    folders with a leading dot in their names are skipped. The files are not decoded. If a name is not Unicode, its
    class and group have escapes (``caf\xe9``).

    Parameters
    ----------
    root : path
        The folder of the class folders.
    groups : str, re.Pattern or None, default=None
        The part of a path that clips of one speaker, recording or place have in common: a regular expression, which is
        searched in each path below ``root`` (such as ``dog/anna_3.wav``). The group of a clip is the match of the
        parentheses named ``group``, or else of the first parentheses. ``"parent"`` takes the folder of the file, such
        as ``anna`` in ``dog/anna/3.wav``.
    extensions : str or sequence of str
        Extensions of the recordings, in lower or upper case; by default :data:`AUDIO_EXTENSIONS`.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the column ``audio`` and ``target`` a Series.

    Returns
    -------
    Bunch
        ``data`` : list of n paths, sorted, or DataFrame;
        ``target`` : ndarray of shape (n,) of str, or Series;
        ``target_names`` : list of the classes, sorted;
        ``groups`` : ndarray of shape (n,) of str, or None;
        ``frame`` : DataFrame with the columns ``audio`` and ``target``, with ``groups`` also ``group``, and a column
        for each other name in the pattern, such as ``(?P<take>\d+)``;
        ``DESCR`` : number of recordings and classes.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    DataError
        If the folder does not exist or has no class folders, a class folder has no recordings, a recording lies outside
        the class folders, or ``groups`` does not match a path.

    Warns
    -----
    UserWarning
        If there is only one class; if links are not followed, because they lead to folders or out of ``root``; or if
        class folders contain audio or video files with other extensions.

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
    paths = [str(root / file) for file in files]
    frame = pd.DataFrame({"audio": pd.Series(paths, dtype=column_type(paths))})
    frame["target"] = [readable(file.parts[0]) for file in files]
    if groups == "parent":
        frame["group"] = [readable(_parent(file)) for file in files]
    elif groups is not None:
        frame = frame.join(_named_parts(files, groups))

    data: Any = frame[["audio"]] if as_frame else paths
    target: Any = frame["target"] if as_frame else frame["target"].to_numpy(dtype=str)
    if return_X_y:
        return data, target
    names = sorted(set(frame["target"]))
    return Bunch(
        data=data,
        target=target,
        target_names=names,
        groups=None if groups is None else frame["group"].to_numpy(dtype=str),
        frame=frame,
        DESCR=f"{len(files)} recordings of {len(names)} classes in {str(root)!r}.",
    )


def _suffixes(extensions: str | Sequence[str]) -> tuple[str, ...]:
    names = [extensions] if isinstance(extensions, str) else list(extensions)
    if not names or not all(isinstance(name, str) and name.strip(".") for name in names):
        raise DataError(f"Got extensions={plain(extensions)!r}, expected names such as '.wav'.")
    return tuple("." + name.lower().lstrip(".") for name in names)


def _recordings(root: Path, suffixes: tuple[str, ...]) -> list[PurePosixPath]:
    """Return the sorted paths of the recordings below ``root``; check that each class has recordings."""
    if not root.is_dir():
        problem = "which is a file" if root.is_file() else f"which does not exist{looked_in(root)}"
        raise DataError(f"Got root={str(root)!r}, {problem}, expected a folder with a folder for each class.")
    recordings, others, links = _walk(root, suffixes)
    if links:
        warn_user(f"{len(links)} links to folders or out of {str(root)!r} are not followed ({_examples(links)}).")
    if outside := [file for file in recordings if len(file.parts) == 1]:
        raise DataError(
            f"{len(outside)} recordings lie directly in {str(root)!r} ({_examples(outside)}) and have no class: "
            "move them into class folders, or list them in a table (load_audio_table)."
        )

    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not _is_skipped(entry))
    if not classes:
        raise DataError(f"{str(root)!r} has no class folders, expected one for each class, with recordings in it.")
    if empty := sorted(set(classes) - {file.parts[0] for file in recordings}):
        raise DataError(
            f"{len(empty)} of {len(classes)} class folders have no recordings ({_examples(empty)}), expected files "
            f"that end in {', '.join(suffixes)}: remove the folders, or change the parameter extensions."
        )

    if others:
        warn_user(
            f"{len(others)} audio or video files in the class folders of {str(root)!r} are left out "
            f"({_examples(others)}): their endings are not among the extensions; convert them, or change the parameter "
            "extensions."
        )
    if len(classes) == 1:
        warn_user(f"{str(root)!r} has only one class folder, {classes[0]!r}: is it the folder of the class folders?")
    return recordings


def _walk(root: Path, suffixes: tuple[str, ...]) -> list[list[PurePosixPath]]:
    """Return the sorted paths of the recordings, of other audio and video files, and of links that are not followed."""
    recordings, others, links = list[Path](), list[Path](), list[Path]()
    for folder, folders, names in os.walk(root, onerror=_refuse):
        here = Path(folder)
        links += [here / name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if not _is_skipped(here / name)]

        for path in (here / name for name in names if not name.startswith(".")):
            if path.name.lower().endswith(suffixes):
                leads_out = path.is_symlink() and not path.resolve().is_relative_to(root.resolve())
                (links if leads_out else recordings).append(path)
            elif here != root and path.name.lower().endswith((*AUDIO_EXTENSIONS, *UNKNOWN_EXTENSIONS)):
                others.append(path)

    return [
        sorted((PurePosixPath(path.relative_to(root).as_posix()) for path in paths), key=lambda file: file.parts)
        for paths in (recordings, others, links)
    ]


def _is_skipped(folder: Path) -> bool:
    """Return whether a folder is hidden, a link, or a by-product of an archive from macOS."""
    return folder.name.startswith(".") or folder.name == "__MACOSX" or folder.is_symlink()


def _refuse(error: OSError) -> None:
    raise DataError(f"The folder {error.filename!r} cannot be read ({error.strerror}).") from error


def _parent(file: PurePosixPath) -> str:
    if len(file.parts) < 3:
        raise DataError(
            f"Got groups='parent', and {str(file)!r} lies directly in its class folder, expected class/group/file: "
            "use a regular expression, or no groups."
        )
    return file.parts[-2]


def _named_parts(files: Sequence[PurePosixPath], groups: str | re.Pattern[str]) -> Any:
    """Return a DataFrame with a column for ``group``, and for each other name in the pattern."""
    import pandas as pd

    try:
        pattern = re.compile(groups)
    except (re.error, TypeError) as error:
        raise DataError(f"Got groups={groups!r}, expected 'parent' or a regular expression ({error}).") from error
    taken = sorted({"audio", "target"} & set(pattern.groupindex))
    if not pattern.groups or taken:
        problem = f"names {taken[0]!r}, which is another column" if taken else "has no group in parentheses"
        raise DataError(
            f"Got groups={pattern.pattern!r}, which {problem}; write the common part of the paths as '(?P<group>...)'"
            f"{did_you_mean(groups, ['parent']) or '.'}"
        )

    parts = pd.Series([readable(str(file)) for file in files]).str.extract(pattern)
    parts["group"] = parts["group"] if "group" in parts else parts.iloc[:, 0]
    if missed := [file for file, is_missing in zip(files, parts["group"].isna(), strict=True) if is_missing]:
        raise DataError(
            f"Got groups={pattern.pattern!r}, which does not match {len(missed)} of {len(files)} paths "
            f"({_examples(missed)})."
        )
    return parts[list(dict.fromkeys(["group", *pattern.groupindex]))].fillna("")


def _examples(names: Sequence[object]) -> str:
    return listed(repr(str(name)) for name in names)
