"""Load the clips of a run: from a named data set, a folder or a table."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skastw.core.text import did_you_mean, looked_in
from skastw.core.warn import warn_user
from skastw.datasets import dataset_names, describe_audio, fetch_dataset, load_audio_folder, load_audio_table
from skastw.datasets.audio_folder import AUDIO_EXTENSIONS, UNKNOWN_EXTENSIONS
from skastw.errors import OutputError, RunError
from skastw.runs.splits import Fold, make_folds

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
        Speaker or recording of each clip.
    folds : dict of str to ndarray
        Positions of the test clips of each official fold; empty if the data set has no folds.
    """

    X: list[Any]
    y: np.ndarray
    groups: np.ndarray | None
    folds: dict[str, np.ndarray]

    def split(self, how: Mapping[str, Any]) -> tuple["Clips", "Clips"]:
        """Return the training clips and the test clips of a split.

        Raises
        ------
        RunError
            If the clips cannot be split like this, or the split has several folds.
        """
        folds = make_folds(self.y, self.groups, self.folds, how)
        if len(folds) > 1:
            raise RunError(f"Got {dict(how)}, which makes {len(folds)} folds, expected one split, such as test_fold.")
        return self.part(folds[0].train), self.part(folds[0].test)

    def describe(self, folds: Sequence[Fold] = (), *, verbose: int = 0) -> Any:
        """Return the description of the clips and their splits by :func:`skastw.datasets.describe_audio`."""
        splits = [(fold.train, fold.test) for fold in folds]
        return describe_audio(self.X, self.y, self.groups, splits=splits or None, verbose=verbose)

    def part(self, index: np.ndarray) -> "Clips":
        """Return the clips at the positions ``index``, without official folds."""
        groups = None if self.groups is None else self.groups[index]
        return Clips([self.X[i] for i in index], self.y[index], groups, {})


def load_clips(source: Mapping[str, Any]) -> Clips:
    """Load the labelled clips of a run.

    Parameters
    ----------
    source : mapping
        ``data`` of :class:`skastw.runs.Run`.

    Returns
    -------
    Clips

    Raises
    ------
    SkastwError
        If a loader of :mod:`skastw.datasets` raises it.
    """
    bunch = _loaded(source)
    groups = None if bunch.get("groups") is None else np.asarray(bunch.groups)
    folds = getattr(bunch.get("cv"), "test_fold", [])  # of a PredefinedSplit; -1 is never in a test set
    tests = {str(fold): np.flatnonzero(folds == fold) for fold in np.unique(folds) if fold != -1}
    return Clips(list(bunch.data), np.asarray(bunch.target), groups, tests)


def _loaded(source: Mapping[str, Any], **options: Any) -> Any:
    """Return the Bunch of a loader; ``options`` replace options of the source."""
    kind = next(kind for kind in _LOADERS if kind in source)
    _check_exists(kind, source[kind])
    chosen = {name: value for name, value in source.items() if name != kind and value is not None}
    return _LOADERS[kind](source[kind], **{**chosen, **options})


def _check_exists(kind: str, name: str) -> None:
    """Raise unless a folder or table exists, or a data set has this name; suggest a similar one."""
    got = f"Got {name!r} as the {kind} of data"
    if kind != "set":
        if not os.path.exists(os.path.expanduser(name)):
            raise RunError(f"{got}, which does not exist{looked_in(os.path.expanduser(name))}.")
    elif name.partition(":")[0] not in dataset_names():
        meant = did_you_mean(name, dataset_names()) or f", or a folder or table{looked_in(name)}."
        raise RunError(f"{got}, expected one of {', '.join(map(repr, dataset_names()))}{meant}")


def unlabelled_clips(source: Mapping[str, Any]) -> list[Any]:
    """Load the clips of a run without their labels, which need not exist.

    Parameters
    ----------
    source : mapping
        ``data`` of :class:`skastw.runs.Run`. All audio files of a folder are loaded, and all rows of a table.

    Returns
    -------
    list of clips

    Raises
    ------
    SkastwError
        If a loader of :mod:`skastw.datasets` raises it.
    """
    if "folder" in source:
        return find_clips([source["folder"]])
    if "table" in source:
        return list(_loaded(source, label_column=None).data)
    return list(_loaded(source).data)


def source_of(data: str, **options: str | None) -> dict[str, str]:
    """Return the ``data`` of a run from the path of a folder, the path of a table, or the name of a data set.

    Parameters
    ----------
    data : str
        An existing folder; or a path that ends in .csv, .tsv or .parquet; or else the name of a data set.
    **options : str or None
        Options of ``data`` in :class:`skastw.runs.Run`. An option with the value None is left out.

    Returns
    -------
    dict

    Raises
    ------
    RunError
        If ``data`` contains a path separator and does not exist.

    Examples
    --------
    >>> from skastw.runs import source_of
    >>> source_of("esc50:animals", data_home="sounds", groups=None)
    {'set': 'esc50:animals', 'data_home': 'sounds'}
    """
    kind = "folder" if os.path.isdir(data) else "table" if data.lower().endswith(_TABLES) else "set"
    if os.sep in data and not os.path.exists(data):
        raise RunError(f"The folder or table {data!r} does not exist{looked_in(data)}.")
    return {kind: data, **{name: value for name, value in options.items() if value is not None}}


def table_of(source: Mapping[str, Any]) -> list[str]:
    """Return the path of the table of a run, so that results are not written over it.

    Parameters
    ----------
    source : mapping
        ``data`` of :class:`skastw.runs.Run`.

    Returns
    -------
    list of str
        Empty if the clips do not come from a table.

    Examples
    --------
    >>> from skastw.runs import table_of
    >>> table_of({"table": "owls.csv", "label_column": "species"})
    ['owls.csv']
    """
    return [os.path.expanduser(source["table"])] if source.get("table") else []


def check_outside(output: str | os.PathLike[str], source: Mapping[str, Any]) -> None:
    """Raise if results would be written into the folder of the recordings and look like one of its classes.

    Parameters
    ----------
    output : path
        Folder of the results.
    source : mapping
        ``data`` of :class:`skastw.runs.Run`.

    Raises
    ------
    OutputError
        If ``output`` lies in the folder of the recordings.

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
            f"Got output {os.fspath(output)!r}, which is in the folder of the recordings, {source['folder']!r}, and "
            "would become one of its classes; choose a folder outside it."
        )


def find_clips(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the paths of audio files; a folder is replaced by the sorted audio files in it and its subfolders.

    Parameters
    ----------
    paths : iterable of paths
        Files, which need not exist, and folders.

    Returns
    -------
    list of str

    Raises
    ------
    RunError
        If a folder contains no audio files.

    Warns
    -----
    UserWarning
        If a folder contains audio or video files in formats that cannot be decoded.

    Examples
    --------
    >>> from skastw.runs import find_clips
    >>> find_clips(["owl.wav"])
    ['owl.wav']
    """
    clips: list[str] = []
    for path in map(Path, paths):
        if not path.is_dir():
            clips.append(str(path))
            continue

        files = [file for file in path.rglob("*") if not file.name.startswith(".") and file.is_file()]
        decoded, others = (
            sorted(str(file) for file in files if file.suffix.lower() in extensions)
            for extensions in (AUDIO_EXTENSIONS, UNKNOWN_EXTENSIONS)
        )
        if not decoded:
            raise RunError(
                f"The folder {str(path)!r} contains no audio files, expected files that end in "
                f"{', '.join(AUDIO_EXTENSIONS)}."
            )
        if others:
            warn_user(
                f"{len(others)} files in {str(path)!r} are left out (the first is {others[0]!r}): they are audio or "
                "video files in formats that cannot be decoded. Convert them to use them."
            )
        clips += decoded
    return clips
