"""Where labelled clips come from: a set by its name, a folder of one's own, or a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skastw.core.warn import warn_user
from skastw.datasets import describe_audio, fetch_dataset, load_audio_folder, load_audio_table
from skastw.datasets.audio_folder import AUDIO_EXTENSIONS, UNKNOWN_EXTENSIONS
from skastw.errors import OutputError, RunError
from skastw.runs.splits import Fold, make_folds

__all__ = ["Clips", "check_outside", "find_clips", "load_clips", "source_of", "table_of", "unlabelled_clips"]

_TABLES = (".csv", ".tsv", ".parquet")
_LOADERS: dict[str, Callable[..., Any]] = {
    "set": fetch_dataset,
    "folder": load_audio_folder,
    "table": load_audio_table,
}


@dataclass(frozen=True, eq=False)
class Clips:
    """Labelled clips.

    Attributes
    ----------
    X : list of clips
    y : ndarray of shape (n_clips,)
    groups : ndarray of shape (n_clips,) or None
        Speaker or recording of each.
    folds : dict of str to ndarray
        The test clips of each fold of the set's own; empty where it has none.
    """

    X: list[Any]
    y: np.ndarray
    groups: np.ndarray | None
    folds: dict[str, np.ndarray]

    def split(self, how: Mapping[str, Any]) -> tuple[Clips, Clips]:
        """Return the clips that train, and those that a split holds out.

        Raises
        ------
        RunError
            If there is no such part, or there are several.
        """
        folds = make_folds(self.y, self.groups, self.folds, how)
        if len(folds) > 1:
            raise RunError(f"Got {dict(how)}, which makes {len(folds)} parts, expected one, such as test_fold.")
        return self.part(folds[0].train), self.part(folds[0].test)

    def describe(self, folds: Sequence[Fold] = (), *, verbose: int = 0) -> Any:
        """Return what :func:`skastw.datasets.describe_audio` finds in the clips and their splits."""
        splits = [(fold.train, fold.test) for fold in folds]
        return describe_audio(self.X, self.y, self.groups, splits=splits or None, verbose=verbose)

    def part(self, index: np.ndarray) -> Clips:
        """Return the clips at some positions, without folds."""
        groups = None if self.groups is None else self.groups[index]
        return Clips([self.X[i] for i in index], self.y[index], groups, {})


def load_clips(source: Mapping[str, Any]) -> Clips:
    """Load what the ``data`` of a run names.

    Parameters
    ----------
    source : mapping
        See :class:`skastw.runs.Run`.

    Returns
    -------
    Clips

    Raises
    ------
    SkastwError
        As the loaders of :mod:`skastw.datasets` raise.
    """
    found = _loaded(source)
    groups = None if found.get("groups") is None else np.asarray(found.groups)
    return Clips(list(found.data), np.asarray(found.target), groups, _own_folds(found))


def _loaded(source: Mapping[str, Any], **options: Any) -> Any:
    kind = next(kind for kind in _LOADERS if kind in source)
    given = {name: value for name, value in source.items() if name != kind and value is not None}
    return _LOADERS[kind](source[kind], **{**given, **options})


def _own_folds(found: Any) -> dict[str, np.ndarray]:
    folds = getattr(found.get("cv"), "test_fold", [])  # of a PredefinedSplit
    return {str(fold): np.flatnonzero(folds == fold) for fold in np.unique(folds) if fold != -1}


def unlabelled_clips(source: Mapping[str, Any]) -> list[Any]:
    """Return the clips that the ``data`` of a run names, whether or not they have labels.

    Parameters
    ----------
    source : mapping
        See :class:`skastw.runs.Run`; of a folder all audio files, and of a table the audio column.

    Returns
    -------
    list of clips

    Raises
    ------
    SkastwError
        As the loaders of :mod:`skastw.datasets` raise.
    """
    if "folder" in source:
        return find_clips([source["folder"]])
    if "table" in source:
        return list(_loaded(source, label_column=None).data)
    return list(_loaded(source).data)


def source_of(data: str, **options: str | None) -> dict[str, str]:
    """Return the ``data`` of a run from one word: a folder, a table, or the name of a set.

    Parameters
    ----------
    data : str
        What exists as a folder is a folder, what ends in .csv, .tsv or .parquet is a table, and the rest are names.
    **options : str or None
        Those of :class:`skastw.runs.Run`; None stands for not given.

    Returns
    -------
    dict

    Raises
    ------
    RunError
        If it is a path, and nothing is there.

    Examples
    --------
    >>> from skastw.runs import source_of
    >>> source_of("esc50:animals", data_home="sounds", groups=None)
    {'set': 'esc50:animals', 'data_home': 'sounds'}
    """
    if os.sep in data and not os.path.exists(data):
        raise RunError(f"There is no folder or table {data!r} (looked in {os.getcwd()!r}).")
    kind = "folder" if os.path.isdir(data) else "table" if data.lower().endswith(_TABLES) else "set"
    return {kind: data, **{name: value for name, value in options.items() if value is not None}}


def table_of(source: Mapping[str, Any]) -> list[str]:
    """Return the table that the ``data`` of a run names, or nothing: results may not be written over it.

    Parameters
    ----------
    source : mapping
        See :class:`skastw.runs.Run`.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from skastw.runs import table_of
    >>> table_of({"table": "owls.csv", "label_column": "species"})
    ['owls.csv']
    """
    return [os.path.expanduser(source["table"])] if source.get("table") else []


def check_outside(output: str | os.PathLike[str], source: Mapping[str, Any]) -> None:
    """Raise if results are to be written into a folder of recordings, where the next run takes them for a class.

    Parameters
    ----------
    output : path
    source : mapping
        See :class:`skastw.runs.Run`.

    Raises
    ------
    OutputError
        Naming both folders.

    Examples
    --------
    >>> from skastw.runs import check_outside
    >>> check_outside("exports/owls", {"folder": "owls"})
    """
    if not source.get("folder"):
        return
    root, place = (Path(os.path.realpath(os.path.expanduser(path))) for path in (source["folder"], output))
    if place.is_relative_to(root) and not any(part.startswith(".") for part in place.relative_to(root).parts):
        raise OutputError(
            f"Got output {os.fspath(output)!r}, which is in the folder of the recordings, {source['folder']!r}, where "
            "it would be taken for a class; give a folder outside it."
        )


def find_clips(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return files as they are, and for a folder the audio files in it and below, sorted.

    Parameters
    ----------
    paths : iterable of paths

    Returns
    -------
    list of str

    Raises
    ------
    RunError
        If a folder holds no audio files.

    Warns
    -----
    UserWarning
        If a folder holds audio or video files of formats that are not decoded.

    Examples
    --------
    >>> from skastw.runs import find_clips
    >>> find_clips(["owl.wav"])
    ['owl.wav']
    """
    found: list[str] = []
    for path in map(Path, paths):
        inside = _files_inside(path, AUDIO_EXTENSIONS) if path.is_dir() else [str(path)]
        if not inside:
            raise RunError(f"The folder {str(path)!r} holds no audio files, expected some of {AUDIO_EXTENSIONS}.")
        if path.is_dir() and (others := _files_inside(path, UNKNOWN_EXTENSIONS)):
            warn_user(
                f"{len(others)} files in {str(path)!r} are audio or video by their names and of formats that are not "
                f"decoded, and are left out (the first is {others[0]!r})."
            )
        found += inside
    return found


def _files_inside(folder: Path, extensions: Sequence[str]) -> list[str]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in extensions)
    return sorted(str(file) for file in files if not file.name.startswith(".") and file.is_file())
