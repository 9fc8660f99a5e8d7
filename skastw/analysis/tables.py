"""Predictions and embeddings of clips as tables, and tables as files."""

from __future__ import annotations

import copy
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import joblib
import numpy as np
import pandas as pd
from pandas import DataFrame

from skastw.audio import as_clips, clip_path
from skastw.core.checks import check_positive
from skastw.core.optional import import_optional
from skastw.core.text import readable
from skastw.storage.outputs import check_file, new_file

#: File name suffixes that :func:`write_table` accepts.
TABLE_SUFFIXES = (".csv", ".parquet")
#: Classes that are named like another column of a table of windows, by the names of their columns.
RENAMED = {f"{name} (label)": name for name in ("clip", "start", "end")}
#: Number of clips in a block by default.
BLOCK = 256


def prediction_table(classifier: Any, X: Any) -> DataFrame:
    """Return the predictions of a classifier, one row per clip.

    Parameters
    ----------
    classifier : fitted ASTWClassifier
    X : sequence of clips, or one path
        A list of clips, not a 2-D array.

    Returns
    -------
    DataFrame
        Columns ``clip`` (file or position), ``predicted``, ``probability``, and ``p(<class>)`` with the probability of
        each class; for a multilabel classifier, ``clip`` and ``p(<class>)``. A clip that ``on_error`` leaves out has
        missing values.

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.analysis.tables import prediction_table
    >>> clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(clips, y)
    >>> prediction_table(clf, clips[:3]).columns.tolist()
    ['clip', 'predicted', 'probability', 'p(0)', 'p(1)']
    """
    clips = as_clips(X)
    return _predictions(classifier, clips, clip_names(clips))


def embedding_table(estimator: Any, X: Any) -> DataFrame:
    """Return the embeddings of clips, one row per clip.

    Parameters
    ----------
    estimator : fitted ASTWClassifier or ASTWRegressor
    X : sequence of clips, or one path
        A list of clips, not a 2-D array.

    Returns
    -------
    DataFrame
        Column ``clip`` (file or position), and the columns ``embedding_0``, ``embedding_1``, ... of the embedding.
    """
    clips = as_clips(X)
    return _embeddings(estimator, clips, clip_names(clips))


def prediction_tables(
    classifier: Any, X: Any, *, block: int = BLOCK, blocks: Iterable[int] | None = None
) -> Iterator[DataFrame]:
    """Yield the predictions of a classifier in blocks of clips, so that memory does not grow with their number.

    Parameters
    ----------
    classifier : fitted ASTWClassifier
        It does not change. Clips that cannot be used get a row for any value of ``on_error``.
    X : sequence of clips, or one path
        A list of clips, not a 2-D array.
    block : int, default=256
        Number of clips in a block; the last block may have fewer.
    blocks : iterable of int, optional
        Numbers of the blocks to compute, counted from 0; by default all. The next number is taken when the next table
        is requested.

    Yields
    ------
    DataFrame
        Columns of :func:`prediction_table`, and ``error``: the reason why a clip cannot be used. It is missing for the
        other clips. The index is the position of the clip in X, and all blocks have the same columns of the same types:
        if X contains files and arrays, the positions of the arrays are texts.

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.analysis import prediction_tables
    >>> from skastw.datasets import make_tones
    >>> clips, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(clips, y)
    >>> for table in prediction_tables(clf, [*clips[:4], "lost.wav"], block=3):
    ...     table["error"].notna().tolist()
    [False, False, False]
    [False, True]
    """
    return _tables(_predictions, classifier, X, block, blocks)


def embedding_tables(
    estimator: Any,
    X: Any,
    *,
    block: int = BLOCK,
    blocks: Iterable[int] | None = None,
    window: float | None = None,
    hop: float | None = None,
) -> Iterator[DataFrame]:
    """Yield the embeddings of clips, or of windows along them, in blocks of clips.

    Memory does not grow with the number of clips.

    Parameters
    ----------
    estimator : fitted ASTWClassifier, ASTWRegressor, or ASTWFeaturizer that gives a table
    X, block, blocks
        See :func:`prediction_tables`.
    window, hop : float, optional
        Length of the windows, and step from a window to the next (s), by default half a window. Without ``window``,
        there is one row for each clip.

    Yields
    ------
    DataFrame
        Columns of :func:`embedding_table`, and ``error`` as in :func:`prediction_tables`. With ``window``, ``start``
        and ``end`` (s) follow ``clip``, and all windows of a clip have its position in X as index.
    """
    table_of = _embeddings if window is None else partial(_window_embeddings, window=window, hop=hop)
    return _tables(table_of, estimator, X, block, blocks)


def _tables(
    table_of: Callable[[Any, Sequence[Any], list[Any]], DataFrame],
    estimator: Any,
    X: Any,
    block: int,
    blocks: Iterable[int] | None,
) -> Iterator[DataFrame]:
    check_positive(block=block)
    clips = as_clips(X)
    names: list[Any] = clip_names(clips)
    if any(isinstance(name, str) for name in names):  # Parquet has no columns of texts and numbers
        names = list(map(str, names))
    lenient = copy.copy(estimator).set_params(on_error="ignore")

    for number in range(-(-len(clips) // block)) if blocks is None else blocks:
        start = number * block
        table = table_of(lenient, clips[start : start + block], names[start : start + block])
        table["error"] = pd.Series(index=table.index, dtype="string")
        for clip in lenient.failed_:
            table.loc[clip.index, "error"] = readable(clip.reason)
        yield table.set_index(table.index + start)


def _predictions(classifier: Any, clips: Sequence[Any], names: list[Any]) -> DataFrame:
    probabilities = classifier.predict_proba(clips)
    labels = classifier.classes_.tolist()
    table = pd.DataFrame(probabilities, columns=[f"p({label})" for label in labels])

    if classifier.trained_.targets.exclusive:
        read = ~np.isnan(probabilities).any(axis=1)
        best = pd.Series(classifier.classes_[probabilities.argmax(axis=1)], dtype=_label_type(classifier.classes_))
        table.insert(0, "predicted", best.where(read))
        table.insert(1, "probability", probabilities.max(axis=1))
    table.insert(0, "clip", names)
    return table


def _label_type(classes: np.ndarray) -> str | None:
    """Return the dtype of a column of labels that allows missing values, so that all blocks have the same types."""
    if all(isinstance(label, str) for label in classes):
        return "string"
    return {"b": "boolean", "i": "Int64", "u": "UInt64"}.get(classes.dtype.kind)


def _embeddings(estimator: Any, clips: Sequence[Any], names: list[Any]) -> DataFrame:
    table = pd.DataFrame(estimator.transform(clips), columns=estimator.get_feature_names_out())
    table.insert(0, "clip", names)
    return table


def _window_embeddings(
    estimator: Any, clips: Sequence[Any], names: list[Any], *, window: float, hop: float | None
) -> DataFrame:
    table = estimator.transform_windows(clips, window=window, hop=hop)
    positions = window_positions(table)
    return table.assign(clip=[names[i] for i in positions]).set_index(positions)


def window_positions(table: pd.DataFrame) -> np.ndarray:
    """Return the position of the clip of each row of a table of windows, in which only first windows start at 0.

    Parameters
    ----------
    table : DataFrame
        Result of ``predict_windows`` without ``aggregate``, or of ``transform_windows``.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.analysis.tables import window_positions
    >>> window_positions(pd.DataFrame({"start": [0.0, 0.5, 1.0, float("nan"), 0.0]})).tolist()
    [0, 0, 0, 1, 2]
    """
    begins = (table["start"] == 0) | table["start"].isna()
    return begins.to_numpy().cumsum() - 1


def labelled_windows(windows: DataFrame, *, min_probability: float = 0.0) -> DataFrame:
    """Return windows with their most probable class, in the columns of :func:`prediction_table`.

    Parameters
    ----------
    windows : DataFrame
        Result of :meth:`~skastw.ASTWClassifier.predict_windows`.
    min_probability : float, default=0.0
        Leave out windows whose most probable class has a lower probability.

    Returns
    -------
    DataFrame
        Columns ``clip``, ``start``, ``end``, ``predicted``, ``probability``, and ``p(<class>)`` with the probability of
        each class. A clip that could not be read has a row with missing values.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.analysis.tables import labelled_windows
    >>> windows = pd.DataFrame([("owls.wav", 0.0, 2.0, 0.9, 0.1)], columns=["clip", "start", "end", "owl", "wind"])
    >>> labelled_windows(windows).iloc[:, 3:]
      predicted  probability  p(owl)  p(wind)
    0       owl          0.9     0.9      0.1
    """
    scores = windows.iloc[:, 3:].rename(columns=RENAMED)
    read = scores.notna().all(axis=1)
    best = scores[read].idxmax(axis=1).reindex(windows.index)
    table = windows.iloc[:, :3].assign(predicted=best, probability=scores.max(axis=1))
    table[[f"p({label})" for label in scores]] = scores
    return table[~(table["probability"] < min_probability)].reset_index(drop=True)


def label_track(windows: DataFrame, *, min_probability: float = 0.0) -> str:
    """Return the predictions along one recording as a label track for Audacity.

    Parameters
    ----------
    windows : DataFrame
        Result of :meth:`~skastw.ASTWClassifier.predict_windows` for one clip.
    min_probability : float, default=0.0
        Leave out windows whose most probable class has a lower probability.

    Returns
    -------
    str
        One line for each segment: its start and end (s) and, as its text, its label and the highest probability of its
        windows, separated by tabs. Windows with the same label that touch or overlap form one segment. Segments of
        different labels can overlap, as their windows do.

    Raises
    ------
    ValueError
        If the windows are of several clips.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.analysis.tables import label_track
    >>> rows = [("owls.wav", 0.0, 2.0, 0.9, 0.1), ("owls.wav", 1.0, 3.0, 0.8, 0.2), ("owls.wav", 2.0, 4.0, 0.3, 0.7)]
    >>> print(label_track(pd.DataFrame(rows, columns=["clip", "start", "end", "owl", "wind"])), end="")
    0.000000	3.000000	owl 0.90
    2.000000	4.000000	wind 0.70
    """
    check_label_track(windows["clip"].nunique())
    table = labelled_windows(windows, min_probability=min_probability).dropna(subset=["start", "predicted"])
    table["label"] = [" ".join(str(text).split()) for text in table["predicted"]]

    # a segment begins with another label, or after a gap
    table = table.sort_values("label", kind="stable")
    last = table.shift()
    begins = (table["label"] != last["label"]) | (table["start"] > last["end"])
    parts = {"start": "first", "end": "last", "label": "first", "probability": "max"}
    segments = table.groupby(begins.cumsum()).agg(parts).sort_values("start", kind="stable").itertuples(index=False)
    return "".join(f"{start:.6f}\t{end:.6f}\t{label} {score:.2f}\n" for start, end, label, score in segments)


def label_files(folder: str | os.PathLike[str], clips: Sequence[Any]) -> list[str]:
    """Return the file for the label track of each recording.

    Parameters
    ----------
    folder : path
        Folder of the files, which need not exist.
    clips : sequence of clips

    Returns
    -------
    list of str
        Files in ``folder`` with the names of the recordings and the suffix ``.txt``. Recordings in several folders keep
        their folders below the one that contains them all. Recordings that differ only in their suffixes, and parts of
        one recording, keep their full names: ``owl.wav.txt`` and ``owl.flac.txt``.

    Raises
    ------
    ValueError
        If a recording is given twice.

    Examples
    --------
    >>> from skastw.analysis.tables import label_files
    >>> files = label_files("labels", ["may/owl.wav", "june/owl.wav", "june/wind.wav", "june/wind.flac"])
    >>> [Path(file).as_posix() for file in files]
    ['labels/may/owl.txt', 'labels/june/owl.txt', 'labels/june/wind.wav.txt', 'labels/june/wind.flac.txt']
    """
    paths = [os.path.abspath(str(name)) for name in clip_names(clips)]
    common = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [Path(os.path.relpath(path, common)) for path in paths]

    # the names of parts of a recording end in their times; the file systems of some machines ignore case
    short = [name.with_suffix(name.suffix if "#t=" in name.name else "") for name in names]
    taken = Counter(str(path).lower() for path in (*short, *names))
    stems = [own if taken[str(own).lower()] == 1 else name for own, name in zip(short, names, strict=True)]
    files = [stem.with_name(f"{stem.name}.txt") for stem in stems]

    n_files = Counter(str(file).lower() for file in files)
    for name, file in zip(names, files, strict=True):
        if n_files[str(file).lower()] > 1:
            raise ValueError(
                f"Got the recording {str(name)!r} twice, expected different ones, each for one label file."
            )
    return [str(Path(folder, file)) for file in files]


def check_table(path: str | os.PathLike[str], *, inputs: Iterable[Any] = ()) -> None:
    """Raise an error if :func:`write_table` could not write a file.

    Parameters
    ----------
    path : path
        File name with one of the :data:`TABLE_SUFFIXES`.
    inputs : iterable of paths, optional
        Input files, which must not be overwritten.

    Raises
    ------
    OutputError
        If the suffix is another one, or the file cannot be written.
    MissingDependencyError
        For Parquet without the extra ``parquet``.

    Examples
    --------
    >>> from skastw.analysis.tables import check_table
    >>> check_table("owls.xlsx")
    Traceback (most recent call last):
    skastw.errors.OutputError: Got output 'owls.xlsx', expected a name that ends in .csv or .parquet.
    """
    if check_file(path, TABLE_SUFFIXES, inputs=inputs).suffix.lower() == ".parquet":
        import_optional("pyarrow", extra="parquet", purpose="Writing Parquet")


def check_label_track(n_clips: int) -> None:
    """Raise ValueError if there are several clips, because a label track has one time line.

    Parameters
    ----------
    n_clips : int
        Number of clips.
    """
    if n_clips > 1:
        raise ValueError(
            f"Got {n_clips} recordings for one label track, expected one, since a label track has one time line: give "
            "the name of a folder to write a file for each recording."
        )


def write_table(table: DataFrame, path: str | os.PathLike[str]) -> str:
    """Write a table as CSV or Parquet, depending on the suffix of the file name.

    An existing file is replaced in one step. After an error or an interruption it is unchanged.

    Parameters
    ----------
    table : DataFrame
    path : path
        File name with one of the :data:`TABLE_SUFFIXES`. The folder is made if missing. Parquet needs the extra
        ``parquet``.

    Returns
    -------
    str
        The file.

    Raises
    ------
    OutputError
        If the suffix is another one, or the file cannot be written.
    MissingDependencyError
        Without the extra.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from skastw.analysis.tables import write_table
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_table(pd.DataFrame({"clip": ["owl.wav"]}), Path(folder) / "clips.csv")
    ...     Path(file).read_text().split()
    ['clip', 'owl.wav']
    """
    check_table(path)
    with new_file(path) as file:
        write_rows(table, file, Path(path).suffix)
    return str(Path(path))


def write_rows(table: DataFrame, file: IO[bytes], suffix: str) -> None:
    """Write a table into an open file.

    Parameters
    ----------
    table : DataFrame
        Numbers in float32 are written to CSV with the digits of float32, such as 0.1.
    file : file object
        Open in binary mode.
    suffix : str
        One of the :data:`TABLE_SUFFIXES`, which selects the format.
    """
    table = table.rename(columns=str)  # Parquet needs names of columns
    if suffix.lower() == ".parquet":
        table.to_parquet(file, index=False)
    else:
        table.to_csv(file, index=False)


def short_floats(table: DataFrame) -> DataFrame:
    """Return a table whose float32 numbers are float64 numbers with the same digits, for JSON.

    Parameters
    ----------
    table : DataFrame

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.analysis.tables import short_floats
    >>> short_floats(pd.DataFrame({"p": [0.1]}, dtype="float32")).to_dict("records")
    [{'p': 0.1}]
    """
    narrow = table.select_dtypes("float32")
    table = table.copy()
    table[narrow.columns] = narrow.to_numpy().astype(str).astype(float)
    return table


def clip_names(clips: Sequence[Any]) -> list[str | int]:
    """Return the names of clips: their files, with the times of a part of a file, or their positions.

    Parameters
    ----------
    clips : sequence of clips

    Returns
    -------
    list of str or int
        A name that is not valid Unicode has escapes (``caf\\xe9.wav``), so that it can be written and printed.

    References
    ----------
    https://www.w3.org/TR/media-frags (the notation of the times).

    Examples
    --------
    >>> from skastw.analysis.tables import clip_names
    >>> clip_names(["owl.wav", {"path": "owl.wav", "start": 1.5, "end": 4.0}, [0.0, 0.1]])
    ['owl.wav', 'owl.wav#t=1.5,4', 2]
    """
    return [_name(clip, i) for i, clip in enumerate(clips)]


def _name(clip: Any, position: int) -> str | int:
    path = clip_path(clip)
    if path is None:
        return position

    times = [clip.get(side) if isinstance(clip, Mapping) else None for side in ("start", "end")]
    start, end = ("" if time is None else f"{time:.12g}" for time in times)
    return readable(path) + (f"#t={start}{',' * bool(end)}{end}" if start or end else "")


def clips_sha256(clips: Sequence[Any]) -> str:
    """Return a hash of the names and the absolute paths of clips, or of the content of clips that are not files.

    Parameters
    ----------
    clips : sequence of clips

    Examples
    --------
    >>> from skastw.analysis.tables import clips_sha256
    >>> clips_sha256(["owl.wav"]) == clips_sha256(["wren.wav"])
    False
    """
    digest = hashlib.sha256()
    for name, path in zip(clip_names(clips), map(clip_path, clips), strict=True):
        where = joblib.hash(clips[int(name)]) if path is None else os.path.abspath(path)
        digest.update(f"{name}\n{where}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
