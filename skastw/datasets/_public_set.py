"""The record of a public data set, and the functions that its reader uses to find clips and to read tables."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import PredefinedSplit
from sklearn.utils import Bunch

from skastw.core.text import listed, unknown_value
from skastw.errors import DataError, FetchError, plain

#: File extensions of recordings. If files differ in the extension only, the first extension of this list is used.
_AUDIO = (".wav", ".flac", ".ogg")


@dataclass(frozen=True)
class Archive:
    """A file to download and unpack.

    Parameters
    ----------
    url : str or callable
        The address, or a function that returns it for a part.
    checksum : str, optional
        Hash of the file that the authors published, such as ``"md5:d41d8cd98f00b204e9800998ecf8427e"``.
    strict : bool, default=True
        Whether to refuse a file with another hash. If not, a warning names the hash, and the content of the archive is
        checked: for hosts that pack archives again from time to time.
    strip : int, default=0
        How many leading folders to remove from the names in the archive.
    max_bytes : int, default=2**31
        Limit for the size of the archive, and for its size when unpacked.
    convert : callable, optional
        Takes the file, an empty folder and the part, and fills the folder. By default the file is unpacked.
    """

    url: str | Callable[[Any], str]
    checksum: str | None = None
    strict: bool = True
    strip: int = 0
    max_bytes: int = 2**31
    convert: Callable[[Path, Path, Any], None] | None = None


@dataclass(frozen=True)
class Part:
    """The parameter that chooses a part of a set.

    Parameters
    ----------
    parameter : str
        Its name.
    choices : sequence of str or None
    default : str or None, default=None
    several : bool, default=False
        Whether the value is a list of choices; its default is all of them.
    separate : bool, default=False
        Whether each part is downloaded on its own.

    Examples
    --------
    >>> from skastw.datasets._public_set import Part
    >>> Part("emotions", ["calm", "angry"], several=True).choose(["angry"])
    ['angry']
    """

    parameter: str
    choices: Sequence[Any]
    default: str | None = None
    several: bool = False
    separate: bool = False

    def choose(self, value: Any = None) -> Any:
        """Return a value of the parameter, or the default for None; refuse unknown choices.

        Raises
        ------
        DataError
            With the value and the choices.
        """
        if self.several:
            return check_names(self.parameter, value, self.choices)
        value = self.default if value is None else value
        check_name(self.parameter, value, self.choices)
        return value


@dataclass(frozen=True)
class PublicSet:
    """A public data set.

    Parameters
    ----------
    name : str
        The name by which it is fetched, and the folder below ``data_home`` in which it is stored.
    title : str
        Full name; ``{part}`` stands for the part.
    read : callable
        Takes a folder that contains the marker, and the part. Returns a DataFrame with the columns ``audio`` and
        ``target``; raises FetchError if clips of the part are missing.
    about, licence, citation : str
        For ``DESCR``.
    archive : Archive or None
        None if the set is part of the package, and its reader needs no arguments.
    marker : str
        Pattern of the path of a file that no other set has; ``{part}`` stands for the part.
    part : Part, optional
        By default the set has no parts.
    classes : sequence of str, optional
        In the order of ``target_names``; by default in alphabetical order.
    groups : str, optional
        Column of the units that no split may mix.
    folds : callable, optional
        Takes the DataFrame and returns the fold that tests each clip, or -1.
    extras : callable, optional
        Takes the DataFrame and returns further items of the Bunch.
    """

    name: str
    title: str
    read: Callable[..., Any]
    about: str
    licence: str
    citation: str = ""
    archive: Archive | None = None
    marker: str = ""
    part: Part = Part("", (None,))
    classes: Sequence[str] = ()
    groups: str | None = None
    folds: Callable[[Any], Any] | None = None
    extras: Callable[[Any], dict[str, Any]] | None = None

    def find(self, folder: Path, part: Any) -> Any:
        """Return the table of a part, or None if the folder does not look like the set at all.

        Parameters
        ----------
        folder : Path
        part : object

        Raises
        ------
        FetchError
            If clips of the part are missing.
        """
        is_there = any(folder.glob(self.marker.format(part=part)))
        return self.read(folder, part) if is_there else None


def as_bunch(public: PublicSet, frame: Any, part: Any = None, *, return_X_y: bool, as_frame: bool) -> Any:
    """Return the table of a set in the form that the caller wants.

    Parameters
    ----------
    public : PublicSet
    frame : DataFrame
        As the reader of the set returns it.
    part : object
    return_X_y, as_frame : bool
        As for :func:`skastw.datasets.fetch_dataset`.

    Returns
    -------
    Bunch, or (data, target)
    """
    target: Any = frame["target"].to_numpy(dtype=str)
    present = set(target)
    data: Any = frame["audio"].tolist()
    if as_frame:
        data, target = frame[["audio"]], frame["target"]
    if return_X_y:
        return data, target

    title = public.title.format(part=part)
    paragraphs = [f"{title}\n{'-' * len(title)}", public.about, f"Licence: {public.licence.strip()}"]
    paragraphs += [f"Cite: {public.citation.strip()}"] * bool(public.citation)
    items: dict[str, Any] = {
        "data": data,
        "target": target,
        "target_names": [name for name in public.classes or sorted(present) if name in present],
        "groups": None if public.groups is None else np.array(frame[public.groups].tolist()),
        "cv": None if public.folds is None else PredefinedSplit(public.folds(frame)),
        "frame": frame if as_frame else None,
        "DESCR": "\n\n".join(paragraph.strip() for paragraph in paragraphs) + "\n",
    }
    return Bunch(**items | ({} if public.extras is None else public.extras(frame)))


def check_name(parameter: str, value: Any, known: Iterable[str | None]) -> None:
    """Refuse an unknown name.

    Parameters
    ----------
    parameter : str
        Its name, for the message.
    value : object
    known : iterable of str or None

    Raises
    ------
    DataError
        With the value, the known names, and the one that was probably meant.

    Examples
    --------
    >>> from skastw.datasets._public_set import check_name
    >>> check_name("subset", "animal", ["animals", "transport"])
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got subset='animal', expected one of 'animals', 'transport'; did you mean 'animals'?
    """
    known = list(known)
    if value not in known:
        raise DataError(unknown_value(parameter, value, known))


def check_names(parameter: str, values: Any, known: Sequence[str]) -> list[str]:
    """Return the names that are asked for, in the order of ``known``.

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
        With the value and the known names, and with an example of a list.

    Examples
    --------
    >>> from skastw.datasets._public_set import check_names
    >>> check_names("words", ["no", "yes"], ["yes", "no", "on"])
    ['yes', 'no']
    >>> check_names("words", "yes,no", ["yes", "no", "on"])
    Traceback (most recent call last):
        ...
    skastw.errors.DataError: Got words='yes,no', expected a list such as words=['yes', 'no'] of 'yes', 'no', 'on'.
    """
    if values is None:
        return list(known)

    words = values
    if isinstance(values, str):
        words = [values] if values in known else ()
    chosen = list(words) if isinstance(words, Iterable) else []
    if not chosen:
        names = [name.strip() for name in str(values).split(",")]
        example = names if set(names) <= set(known) else list(known[:2])
        raise DataError(
            f"Got {parameter}={plain(values)!r}, expected a list such as {parameter}={example} of "
            f"{', '.join(map(repr, known))}."
        )

    for value in chosen:
        check_name(parameter, value, known)
    return [name for name in known if name in chosen]


# ------------------------------------------------------------------ for readers


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


def check_count(title: str, folder: Path, count: int, expected: int, note: str = "") -> None:
    """Raise an error if a folder does not contain the expected number of recordings.

    Parameters
    ----------
    title : str
        Name of the set or part, for the message.
    folder : Path
    count, expected : int
    note : str
        Examples of missing clips, or advice, for the message.

    Raises
    ------
    FetchError
    """
    if count != expected:
        raise FetchError(
            f"{str(folder)!r} holds {count} clips of {title}, expected {expected}{note}. Complete the folder, or pass "
            "another data_home=."
        )


def add_audio(
    table: Any, files: Mapping[str, str], folder: Path, title: str, *, n_clips: int | None = None, hint: str = ""
) -> Any:
    """Add the path of each clip to a table, and raise an error if clips are missing in the folder.

    Parameters
    ----------
    table : DataFrame
        One row per clip, indexed by the names of :func:`audio_files`.
    files : mapping of str to str
        As :func:`audio_files` returns it.
    folder : Path
    title : str
        Name of the set or part, for the message.
    n_clips : int, optional
        The expected number of rows.
    hint : str
        Advice for the message.

    Returns
    -------
    DataFrame
        The table with ``audio`` as its first column and a new index from 0.

    Raises
    ------
    FetchError
        With the number of clips, and the names of some that are missing.
    """
    missing = sorted(set(table.index) - files.keys())
    note = f"; missing are {listed(missing)}" if missing else ""
    check_count(title, folder, len(table) - len(missing), n_clips or len(table), f"{note}{hint}")
    table = table.rename_axis("audio").reset_index()
    return table.assign(audio=table["audio"].map(files))


def read_table(path: Path, title: str, prepare: Callable[[Any], Any], **how: Any) -> Any:
    """Read the ``.csv`` file of a set.

    Parameters
    ----------
    path : Path
    title : str
        Name of the set.
    prepare : callable
        Takes the DataFrame of the file, and returns the DataFrame for :func:`add_audio`; raises ValueError if the
        content is wrong.
    **how
        As for :func:`pandas.read_csv`.

    Raises
    ------
    FetchError
        If the file is damaged. It names the file.
    """
    import pandas as pd

    try:
        return prepare(pd.read_csv(path, encoding="utf-8", **how))
    except (LookupError, ValueError, AttributeError, TypeError) as error:
        raise FetchError(f"{str(path)!r} is not the table of {title} ({error}). Fetch it again.") from error


def clip_names(files: Any, agrees: Callable[[Any], Any]) -> Any:
    """Return the names of files without extension; raise ValueError if one contradicts its row.

    Parameters
    ----------
    files : Series of str
    agrees : callable
        Takes the names, and returns a Series of bool: whether each name agrees with its row.
    """
    names = files.str.rsplit(".", n=1).str[0]
    if wrong := files[~agrees(names)].tolist():
        raise ValueError(f"it contradicts the name of the clip {wrong[0]!r}")
    return names
