"""Functions that the readers of public data sets share: find files, read tables, and report missing clips."""

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from skastw.errors import FetchError

#: File extensions of recordings. If files differ in the extension only, the first extension of this list is used.
_AUDIO = (".wav", ".flac", ".ogg")


def audio_files(folder: Path, subfolders: Iterable[str]) -> dict[str, str]:
    """Find the recordings in some subfolders of a data set.

    A recording is named by its path in the folder without the file extension, such as ``"audio/1-100032-A-0"``, so a
    copy of the data set in another format (WAV, FLAC or OGG) has the same names. Empty files are left out.

    Parameters
    ----------
    folder : Path
    subfolders : iterable of str
        Subfolders that do not exist are skipped.

    Returns
    -------
    dict of str to str
        Path of each recording by its name, sorted by name.
    """
    best: dict[str, tuple[int, str]] = {}
    for subfolder in subfolders:
        if not (folder / subfolder).is_dir():
            continue
        with os.scandir(folder / subfolder) as entries:
            for entry in entries:
                stem, ending = os.path.splitext(entry.name)
                if ending.lower() in _AUDIO and stem[0] != "." and entry.stat().st_size:
                    candidate = (_AUDIO.index(ending.lower()), entry.path)
                    name = f"{subfolder}/{stem}"
                    best[name] = min(best.get(name, candidate), candidate)
    return {name: best[name][1] for name in sorted(best)}


def check_count(title: str, folder: Path, count: int, expected: int, *, examples: str = "", hint: str = "") -> None:
    """Raise an error if a folder does not contain the expected number of recordings.

    Parameters
    ----------
    title : str
        Name of the set or part, for the message.
    folder : Path
    count, expected : int
    examples, hint : str
        Examples of missing clips, and advice, for the message.

    Raises
    ------
    FetchError
    """
    if count != expected:
        raise FetchError(
            f"{str(folder)!r} holds {count} clips of {title}, expected {expected}{examples}. {hint}Complete the "
            "folder, or pass another data_home=."
        )


def check_clips(
    names: Collection[str],
    files: Mapping[str, str],
    folder: Path,
    title: str,
    *,
    n_clips: int | None = None,
    hint: str = "",
) -> None:
    """Raise an error if clips are missing in a folder.

    Parameters
    ----------
    names : collection of str
        The clips that are expected, named as by :func:`audio_files`.
    files : mapping of str to str
        As :func:`audio_files` returns it.
    folder : Path
    title : str
        Name of the set or part, for the message.
    n_clips : int, optional
        The expected number of names.
    hint : str
        Advice for the message.

    Raises
    ------
    FetchError
        With the number of clips, and the names of some that are missing.
    """
    missing = sorted(name for name in names if name not in files)
    examples = f"; missing are {', '.join(missing[:3])}{', ...' * (len(missing) > 3)}" if missing else ""
    check_count(title, folder, len(names) - len(missing), len(names), examples=examples, hint=hint)
    check_count(title, folder, len(names), n_clips or len(names), hint=hint)


def add_audio(table: Any, files: Mapping[str, str], folder: Path, title: str, **expected: Any) -> Any:
    """Add the path of each clip to a table, and raise an error if clips are missing in the folder.

    Parameters
    ----------
    table : DataFrame
        One row per clip, indexed by the names of :func:`audio_files`.
    files, folder, title, **expected
        As for :func:`check_clips`.

    Returns
    -------
    DataFrame
        The table with ``audio`` as its first column and a new index from 0.

    Raises
    ------
    FetchError
        As :func:`check_clips` raises it.
    """
    check_clips(table.index, files, folder, title, **expected)
    columns = ["audio", *table.columns]
    return table.assign(audio=[files[name] for name in table.index])[columns].reset_index(drop=True)


@contextlib.contextmanager
def reading_table(path: Path, title: str) -> Iterator[None]:
    """Turn any error of a damaged table into a ``FetchError`` that names the table.

    Parameters
    ----------
    path : Path
    title : str
        Name of the set.

    Raises
    ------
    FetchError
    """
    try:
        yield
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise FetchError(f"{str(path)!r} is not the table of {title} ({error}). Fetch it again.") from error


def check_clip_names(path: Path, names: Any, agree: Any) -> None:
    """Raise an error if the rows of a table contradict the names of the clips.

    Parameters
    ----------
    path : Path
        Path of the table.
    names : Series of str
    agree : Series of bool
        Whether each name agrees with its row.

    Raises
    ------
    FetchError
        With the name of the first clip that does not agree.
    """
    if not agree.all():
        name = names[~agree].iloc[0]
        raise FetchError(f"{str(path)!r} contradicts the name of the clip {name!r}. Fetch it again.")
