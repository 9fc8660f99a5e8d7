"""Load a table of recordings with one row for each clip."""

from __future__ import annotations

import codecs
import math
import numbers
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import Bunch

from skastw.core.optional import import_optional
from skastw.core.text import column_type, did_you_mean, listed, looked_in, original_text
from skastw.core.warn import warn_user
from skastw.errors import DataError, plain

if TYPE_CHECKING:
    import pandas as pd

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
#: Texts of empty cells. "NA" and "None" are not among them, since they can be labels (North Atlantic, no call).
_EMPTY = ("", "nan", "NaN")
#: R's text of an empty cell, in the columns of starts and ends.
_NO_TIME = "NA"
_SEPARATORS = (",", ";", "\t", "|")
#: Numbers as Python and pandas write them. Other texts, such as 007, 1e5 and 1_000, may be names.
_INTEGER = re.compile("0|-?[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?(e[+-][0-9]{2,3})?")
_BOOLEANS = {"True": True, "False": False}


def load_audio_table(
    table: str | os.PathLike[str] | pd.DataFrame,
    *,
    audio_column: str = "audio",
    label_column: str | Sequence[str] | None = "label",
    group_column: str | None = None,
    start_column: str | None = "start",
    end_column: str | None = "end",
    root: str | os.PathLike[str] | None = None,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Load a table that has one row for each clip, which is a file or a part of a file.

    The files must exist, but they are not decoded.

    Parameters
    ----------
    table : path or DataFrame
        A ``.csv`` or ``.tsv`` file, which may be compressed, or a ``.parquet`` file, which needs the extra
        ``parquet``. Columns are separated by commas, semicolons, tabs or ``|``. The encoding is UTF-8, UTF-16 with a
        byte-order mark, or else Windows-1252.
    audio_column : str, default="audio"
        The column of the paths.
    label_column : str, sequence of str or None, default="label"
        The column of the labels. A sequence names the columns of several labels (0 or 1) or several values for each
        clip. None loads clips without labels. Labels and groups of a ``.csv`` or ``.tsv`` file are text, unless all
        cells are numbers in Python's notation, or True and False: ``01``, ``1e5``, ``NA`` and ``None`` are text.
    group_column : str, optional
        The column of the groups, such as speakers, recordings or places.
    start_column, end_column : str or None, default="start" and "end"
        The columns of the start and the end of a clip in its file (s). The default columns may be missing; None ignores
        them. If both cells of a row are empty, the clip is the whole file.
    root : path, optional
        The folder that relative paths start from; by default the folder of the table, or the current folder for a
        DataFrame.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=False
        Make ``data`` a DataFrame with the audio column, and ``target`` a Series or a DataFrame.

    Returns
    -------
    Bunch
        ``data`` : list of n clips, or DataFrame; a clip is a path, or a dict with ``path``, ``start`` and ``end`` (one
        of which may be None) for a part of a file;
        ``target`` : ndarray of shape (n,), or (n, n_columns) if ``label_column`` is a sequence; or Series or
        DataFrame; None without labels;
        ``target_names`` : list of the classes, sorted; the column names if the target is values or has several
        columns; empty without labels;
        ``groups`` : ndarray of shape (n,), or None;
        ``frame`` : all columns of the table, with the clips in the audio column;
        ``DESCR`` : number of clips and files, and the target.
    (data, target) : tuple
        With ``return_X_y=True``.

    Raises
    ------
    DataError
        If the table cannot be read or has no rows; a column is missing, or has empty cells or values of a wrong type; a
        file does not exist; or two rows describe the same clip. Parts of one file may overlap. The message counts the
        rows of a ``.csv`` or ``.tsv`` file as a spreadsheet does, with the header as row 1 and without blank lines, and
        other rows from 0.
    MissingDependencyError
        If the table is a ``.parquet`` file and pyarrow is not installed.

    Warns
    -----
    UserWarning
        If a file is neither UTF-8 nor UTF-16.

    Notes
    -----
    If skastw wrote a path with escapes, because it is not Unicode (``caf\\xe9.wav``), the original path is used.

    Examples
    --------
    >>> import pandas as pd
    >>> from skastw.datasets import load_audio_table, load_spoken_digits
    >>> digits = load_spoken_digits(as_frame=True).frame.head(3)
    >>> digits["start"], digits["end"] = 0.1, [0.3, None, 0.4]
    >>> clips = load_audio_table(digits, label_column="target", group_column="voice")
    >>> clips.target.tolist(), clips.data[0]["start"], clips.data[1]["end"]
    (['zero', 'zero', 'zero'], 0.1, None)
    """
    import pandas as pd

    several = not isinstance(label_column, str | None)
    targets = [] if label_column is None else [label_column] if isinstance(label_column, str) else list(label_column)
    labels = list(dict.fromkeys(name for name in ([] if several else targets) + [group_column] if name is not None))
    frame, folder, rows = _read(table, [audio_column, *targets, *labels], labels)
    start, end = _segment_columns(frame, start_column, end_column)
    needed = {"audio_column": [audio_column], "label_column": targets}
    _check_columns(frame, needed | ({} if group_column is None else {"group_column": [group_column]}), rows)

    base = Path(folder if root is None else root).expanduser()
    files = _files(frame[audio_column].tolist(), audio_column, base, rows)
    clips = [_clip(*row) for row in zip(files, _seconds(frame, start, rows), _seconds(frame, end, rows), strict=True)]
    _check_segments(clips, rows)

    y, names = _table_of_values(frame, targets) if several else _target(frame, targets[0]) if targets else (None, [])
    groups = None if group_column is None else _column(frame, group_column)
    _check_repeated(clips, y, rows)
    frame[audio_column] = pd.Series(clips, index=frame.index, dtype=column_type(files))

    data: Any = frame[[audio_column]] if as_frame else clips
    target: Any = frame[targets if several else targets[0]] if as_frame and targets else y
    if return_X_y:
        return data, target
    source = "a DataFrame" if _is_frame(table) else repr(os.fspath(table))  # type: ignore[arg-type]
    description = (
        f"{len(clips)} clips of {len(set(files))} files, from {source}; "
        f"target: {', '.join(map(str, targets)) or 'none'}."
    )
    return Bunch(data=data, target=target, target_names=names, groups=groups, frame=frame, DESCR=description)


# ------------------------------------------------------------------ the table


@dataclass(frozen=True)
class _Rows:
    """The numbers of rows in errors: as a spreadsheet shows a file with a header, or as positions in a DataFrame."""

    header: bool

    def __call__(self, *positions: int) -> str:
        first, counted = (2, "the header is row 1") if self.header else (0, "counting from 0")
        numbers = listed((str(first + position) for position in positions), 5)
        return f"row{'s' * (len(positions) > 1)} {numbers} ({counted})"


def _read(table: Any, names: Sequence[str], labels: Sequence[str]) -> tuple[pd.DataFrame, str, _Rows]:
    """Return a copy of a table, the folder that its paths start from, and the numbers of its rows.

    ``names`` are the columns that parameters name; ``labels`` are the columns of labels and groups.
    """
    if _is_frame(table):
        frame, folder, rows = table.copy(), "", _Rows(header=False)
    elif isinstance(table, str | os.PathLike):
        path = Path(table).expanduser()
        frame, folder = _read_file(path, names, labels), str(path.parent)
        rows = _Rows(header=path.suffix.lower() != ".parquet")
    else:
        raise DataError(f"Got table of type {type(table).__name__}, expected a path or a pandas DataFrame.")

    if frame.empty:
        raise DataError("Got a table without rows, expected one for each clip.")
    return frame, folder, rows


def _read_file(path: Path, names: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        problem = "is a folder, expected a file" if path.is_dir() else f"does not exist{looked_in(path)}"
        raise DataError(f"Got table={str(path)!r}, which {problem}.")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSED]
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".csv", ".tsv", ".parquet"):
        raise DataError(f"Got table={str(path)!r}, expected a .csv, .tsv or .parquet file, or a DataFrame.")
    if kind == ".parquet":
        import_optional("pyarrow", extra="parquet", purpose="Reading a parquet table")

    try:
        if kind == ".parquet":
            return pd.read_parquet(path, engine="pyarrow")
        return _read_text(path, "," if kind == ".csv" else "\t", names, labels)
    except DataError:
        raise
    except (ValueError, OSError) as error:  # the errors of pandas, pyarrow and UTF-8 are ValueErrors
        raise DataError(
            f"{str(path)!r} cannot be read as a table ({error}), expected a header and a row for each clip."
        ) from error


def _read_text(path: Path, usual: str, names: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """Read a text table in UTF-8, UTF-16 or Windows-1252."""
    try:
        return _parsed(path, "utf-8-sig", usual, names, labels)
    except UnicodeDecodeError as error:
        mark = error.object[:2] if error.start == 0 else b""

    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return _parsed(path, "utf-16", usual, names, labels)
    frame = _parsed(path, "cp1252", usual, names, labels)
    warn_user(
        f"{str(path)!r} is not in UTF-8 and is read as Windows-1252, the encoding of Western Europe: check the names "
        "and labels, or save the table in UTF-8."
    )
    return frame


def _parsed(path: Path, encoding: str, usual: str, names: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    """Read a text table with the separator that gives most of the columns ``names``, then the most columns."""
    import pandas as pd

    headers = {
        separator: pd.read_csv(path, sep=separator, encoding=encoding, nrows=0).columns.tolist()
        for separator in dict.fromkeys((usual, *_SEPARATORS))  # max() takes the first of equally good separators
    }
    separator = max(headers, key=lambda one: (len(set(names) & set(headers[one])), len(headers[one])))

    repeated = _repeated(pd.read_csv(path, sep=separator, encoding=encoding, header=None, nrows=1, dtype=str), names)
    if repeated:
        raise DataError(
            f"{str(path)!r} has several columns {repeated[0]!r}, expected one; rename the others, or remove them."
        )

    # pandas would read labels such as 01 as numbers
    texts = {name: str for name in (names[0], *labels) if name in headers[separator]}
    frame = pd.read_csv(
        path,
        sep=separator,
        encoding=encoding,
        dtype=texts,
        keep_default_na=False,
        na_values=list(_EMPTY),
        low_memory=False,
    )
    for name in labels:
        if name in texts and name != names[0]:
            frame[name] = _typed(frame[name])
    return frame


def _repeated(header: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return the names that occur more than once in a header; pandas would rename the later columns."""
    counts = Counter(header.iloc[0].tolist()) if len(header) else Counter()
    return [name for name in names if counts[name] > 1]


def _typed(texts: pd.Series) -> pd.Series:
    """Convert a column of texts to booleans, integers or floats if all texts are, and no two are the same number."""
    if texts.isna().any():  # an error that is raised later
        return texts

    distinct = texts.unique().tolist()
    if all(text in _BOOLEANS for text in distinct):
        return texts.map(_BOOLEANS).astype(bool)
    if all(_INTEGER.fullmatch(text) for text in distinct):
        return texts.astype("int64")
    if all(_NUMBER.fullmatch(text) for text in distinct) and len(set(map(float, distinct))) == len(distinct):
        return texts.astype("float64")
    return texts


def _check_columns(frame: pd.DataFrame, needed: Mapping[str, Sequence[str]], rows: _Rows) -> None:
    """Raise unless each column that a parameter names exists once and has no empty cells."""
    for parameter, name in ((parameter, name) for parameter, names in needed.items() for name in names):
        n_columns = list(frame.columns).count(name)
        if n_columns != 1:
            problem = "not a column" if n_columns == 0 else f"the name of {n_columns} columns"
            raise DataError(
                f"{parameter}={plain(name)!r} is {problem} of the table, expected one of {_columns(frame, name)}"
            )

        empty = np.flatnonzero(frame[name].isna())
        if len(empty):
            hint = " (the text nan counts as empty)" if rows.header else ""
            raise DataError(
                f"The column {name!r} is empty in {len(empty)} of {len(frame)} rows, {rows(*empty)}: fill it in{hint}, "
                "or remove these rows."
            )


def _columns(frame: pd.DataFrame, name: Any) -> str:
    others = [column for column in frame.columns if column != name]
    return ", ".join(map(repr, plain(list(frame.columns)))) + (did_you_mean(name, others) or ".")


def _segment_columns(
    frame: pd.DataFrame, start_column: str | None, end_column: str | None
) -> tuple[str | None, str | None]:
    """Return the columns of starts and ends, or None for a default column that the table does not have."""
    for name, default in ((start_column, "start"), (end_column, "end")):
        if name not in (None, default, *frame.columns):
            problem = f"{default}_column={plain(name)!r} is not a column of the table"
            raise DataError(f"{problem}, expected one of {_columns(frame, name)}")
    start, end = (name if name in frame.columns else None for name in (start_column, end_column))
    return start, end


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return one column as an array of one type that NumPy can sort."""
    values = frame[name].tolist()
    real = [
        float if isinstance(value, int | float) and not isinstance(value, bool) else type(value) for value in values
    ]
    if len(set(real)) > 1:
        names = ", ".join(sorted(kind.__name__ for kind in set(map(type, values))))
        raise DataError(f"The column {name!r} has values of several types ({names}), expected one: use .astype(str).")
    return np.array(values)


def _target(frame: pd.DataFrame, name: str) -> tuple[np.ndarray, list[Any]]:
    y = _column(frame, name)
    continuous = y.dtype.kind == "f" and bool((y != np.round(y)).any())
    return y, [name] if continuous else np.unique(y).tolist()


def _table_of_values(frame: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return several columns of numbers as an array of shape (n, n_columns), and their names."""
    columns = [_column(frame, name) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind not in "biuf":
            raise DataError(f"The column {name!r} has {column[0].item()!r}, expected numbers in each of {list(names)}.")
    if not columns:
        raise DataError("Got label_column without names, expected one or more columns.")

    y = np.column_stack(columns)
    return (y.astype(np.int64) if y.dtype.kind == "b" else y), list(names)


# ------------------------------------------------------------------ the clips


def _files(values: Sequence[Any], column: str, root: Path, rows: _Rows) -> list[str]:
    """Return the paths of the files; raise if one does not exist."""
    for row, value in enumerate(values):
        if not isinstance(value, str | os.PathLike):
            got = f"{plain(value)!r:.100} in {rows(row)}"
            raise DataError(f"The column {column!r} has {got}, expected the path of a file.")

    files = [_existing(root, value) for value in values]
    if missing := [path for path in dict.fromkeys(files) if not os.path.isfile(path)]:
        raise DataError(
            f"{len(missing)} of {len(set(files))} files do not exist ({listed(map(repr, missing), 5)}); relative paths "
            f"start from root={str(root.absolute())!r}: correct the paths, or remove their rows."
        )
    return files


def _existing(root: Path, value: str | os.PathLike[str]) -> str:
    """Return the path of a file, with the escapes of a name undone if only the original name exists."""
    path = str(root / value)
    if "\\" not in path or os.path.isfile(path):
        return path
    original = str(root / original_text(os.fspath(value)))
    return original if os.path.isfile(original) else path


def _seconds(frame: pd.DataFrame, name: str | None, rows: _Rows) -> list[float | None]:
    """Return a column of seconds, with None for empty cells."""
    if name is None:
        return [None] * len(frame)

    column = frame[name].mask(frame[name].astype(object) == _NO_TIME)
    if all(isinstance(value, str) and _is_numeral(value) for value in column.dropna()):  # text because of NA
        column = column.astype(float)
    values = [None if empty else value for value, empty in zip(column.tolist(), column.isna(), strict=True)]

    wrong = [
        row
        for row, value in enumerate(values)
        if value is not None and (isinstance(value, bool) or not isinstance(value, numbers.Real))
    ]
    if wrong:
        # one word in a column of a file makes text of its numbers, which are not the problem
        row = next((row for row in wrong if not _is_numeral(values[row])), wrong[0])
        raise DataError(
            f"The column {name!r} has {values[row]!r:.100} in {rows(row)}, expected seconds; if it does not contain "
            "times, rename it, or set start_column or end_column to None."
        )
    return [None if value is None else float(value) for value in values]


def _is_numeral(value: Any) -> bool:
    """Return whether Python can convert a value to a float."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _clip(path: str, start: float | None, end: float | None) -> str | dict[str, Any]:
    return path if start is None and end is None else {"path": path, "start": start, "end": end}


def _check_segments(clips: Iterable[Any], rows: _Rows) -> None:
    for row, clip in enumerate(clips):
        if isinstance(clip, dict):
            start, end = clip["start"] or 0.0, clip["end"]
            if not (math.isfinite(start) and start >= 0 and (end is None or start < end < math.inf)):
                raise DataError(
                    f"The clip in {rows(row)}, of {clip['path']!r}, goes from {clip['start']} s to {end} s, expected "
                    "0 <= start < end."
                )


def _check_repeated(clips: Iterable[Any], y: np.ndarray | None, rows: _Rows) -> None:
    """Raise if two rows describe the same clip; different parts of one file are different clips."""
    first: dict[Any, int] = {}
    pairs = []
    for row, clip in enumerate(clips):
        part = clip if isinstance(clip, dict) else {"path": clip, "start": None, "end": None}
        key = (os.path.normpath(part["path"]), part["start"] or 0.0, part["end"])
        if first.setdefault(key, row) != row:
            pairs.append((first[key], row, part["path"]))

    if pairs:
        one, two, path = pairs[0]
        differ = y is not None and np.any(y[one] != y[two])
        advice = "decide for one label, or use a column of 0 and 1 for each label" if differ else "keep one of them"
        raise DataError(
            f"{len(pairs)} rows repeat the clip of an earlier row: {rows(one, two)} are both {path!r}; {advice}."
        )


def _is_frame(table: Any) -> bool:
    return hasattr(table, "iloc") and hasattr(table, "columns")
