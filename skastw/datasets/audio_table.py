"""Load a table of recordings with one row for each clip."""

from __future__ import annotations

import codecs
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
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
_INTEGER = "(?:0|-?[1-9][0-9]{0,17})"
_NUMBER = r"(?:-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]+)?(?:e[+-][0-9]{2,3})?)"


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
    targets = [label_column] if isinstance(label_column, str) else list(() if label_column is None else label_column)
    groups_of = [] if group_column is None else [group_column]
    filled = [audio_column, *targets, *groups_of]
    frame, folder, rows = _read(table, filled, [*([] if several else targets), *groups_of])

    start_column, end_column = (
        None if name == default and name not in frame.columns else name
        for name, default in ((start_column, "start"), (end_column, "end"))
    )
    parameters = {"audio_column": [audio_column], "label_column": targets, "group_column": groups_of}
    _check_columns(frame, parameters | {"start_column": [start_column], "end_column": [end_column]})
    _check_filled(frame, filled, rows)

    files = _files(frame[audio_column], Path(folder if root is None else root).expanduser(), rows)
    parts = list(zip(files, _seconds(frame, start_column, rows), _seconds(frame, end_column, rows), strict=True))
    clips = [_clip(rows, position, *part) for position, part in enumerate(parts)]

    y, names = _values(frame, targets) if several else _labels(frame, targets)
    _check_repeated(parts, y, rows)
    frame[audio_column] = pd.Series(clips, index=frame.index, dtype=column_type(files))

    data: Any = frame[[audio_column]] if as_frame else clips
    target: Any = frame[targets if several else targets[0]] if as_frame and targets else y
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=names,
        groups=_column(frame, groups_of[0]) if groups_of else None,
        frame=frame,
        DESCR=f"{len(clips)} clips of {len(set(files))} files, from "
        f"{'a DataFrame' if isinstance(table, pd.DataFrame) else repr(os.fspath(table))}; "
        f"target: {', '.join(map(str, targets)) or 'none'}.",
    )


# ------------------------------------------------------------------ the table


def _read(table: Any, names: Sequence[str], labels: Sequence[str]) -> tuple[pd.DataFrame, Path, partial[str]]:
    """Return a copy of a table, the folder that its paths start from, and a function that names its rows in errors.

    ``names`` are the columns that parameters name; ``labels`` are the columns of labels and groups.
    """
    import pandas as pd

    if isinstance(table, pd.DataFrame):
        frame, folder, header = table.copy(), Path(), False
    elif isinstance(table, str | os.PathLike):
        path = Path(table).expanduser()
        frame, folder, header = _read_file(path, names, labels), path.parent, path.suffix.lower() != ".parquet"
    else:
        raise DataError(f"Got table of type {type(table).__name__}, expected a path or a pandas DataFrame.")

    if frame.empty:
        raise DataError("Got a table without rows, expected one for each clip.")
    return frame, folder, partial(_row_numbers, header)


def _row_numbers(header: bool, *positions: int) -> str:
    """Return the numbers of rows, as a spreadsheet shows a file with a header, or as positions in a DataFrame."""
    first, counted = (2, "the header is row 1") if header else (0, "counting from 0")
    return f"row{'s' * (len(positions) > 1)} {listed((str(first + i) for i in positions), 5)} ({counted})"


def _read_file(path: Path, names: Sequence[str], labels: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    if not path.is_file():
        problem = "is a folder, expected a file" if path.is_dir() else f"does not exist{looked_in(path)}"
        raise DataError(f"Got table={str(path)!r}, which {problem}.")
    kind = next((suffix for suffix in map(str.lower, reversed(path.suffixes)) if suffix not in _COMPRESSED), "")
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

    how: dict[str, Any] = {"encoding": encoding, "keep_default_na": False}
    headers = {
        separator: pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, **how).iloc[0].tolist()
        for separator in (usual, *_SEPARATORS)  # max() takes the first of equally good separators
    }
    separator, header = max(headers.items(), key=lambda item: (len({*names} & {*item[1]}), len(item[1])))

    # pandas would rename the later columns
    if repeated := [name for name in names if header.count(name) > 1]:
        raise DataError(
            f"{str(path)!r} has several columns {repeated[0]!r}, expected one; rename the others, or remove them."
        )

    # pandas would read labels such as 01 as numbers
    texts = dict.fromkeys([names[0], *labels], str)
    frame = pd.read_csv(path, sep=separator, dtype=texts, na_values=list(_EMPTY), low_memory=False, **how)
    for name in {*labels} & {*frame.columns} - {names[0]}:
        frame[name] = _typed(frame[name])
    return frame


def _typed(texts: pd.Series) -> pd.Series:
    """Convert a column of texts to booleans, integers or floats if all texts are, and no two are the same number."""
    if texts.isin(["True", "False"]).all():
        return texts == "True"
    if texts.str.fullmatch(_INTEGER, na=False).all():
        return texts.astype("int64")
    if texts.str.fullmatch(_NUMBER, na=False).all() and texts.astype("float64").nunique() == texts.nunique():
        return texts.astype("float64")
    return texts


def _check_columns(frame: pd.DataFrame, parameters: Mapping[str, Sequence[str | None]]) -> None:
    """Raise unless each column that a parameter names exists once."""
    columns = frame.columns.tolist()
    for parameter, name in ((parameter, name) for parameter, names in parameters.items() for name in names):
        if name is not None and columns.count(name) != 1:
            problem = f"the name of {columns.count(name)} columns" if name in columns else "not a column"
            expected = ", ".join(map(repr, plain(columns)))
            suggestion = did_you_mean(name, [column for column in columns if column != name]) or "."
            raise DataError(
                f"{parameter}={plain(name)!r} is {problem} of the table, expected one of {expected}{suggestion}"
            )


def _check_filled(frame: pd.DataFrame, names: Iterable[str], rows: partial[str]) -> None:
    """Raise if one of the columns has empty cells."""
    for name in names:
        if len(empty := np.flatnonzero(frame[name].isna())):
            hint = " (the text nan counts as empty)" if rows.args[0] else ""
            raise DataError(
                f"The column {name!r} is empty in {len(empty)} of {len(frame)} rows, {rows(*empty)}: fill it in{hint}, "
                "or remove these rows."
            )


def _column(frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return one column as an array of one type that NumPy can sort."""
    values = plain(frame[name].tolist())
    types = set(map(type, values))
    if len(types) > 1 and types != {int, float}:
        names = ", ".join(sorted(kind.__name__ for kind in types))
        raise DataError(f"The column {name!r} has values of several types ({names}), expected one: use .astype(str).")
    return np.array(values)


def _labels(frame: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray | None, list[Any]]:
    """Return the column of labels and its classes, or the column of values and its name."""
    if not names:
        return None, []
    y = _column(frame, names[0])
    is_continuous = y.dtype.kind == "f" and (y != np.round(y)).any()
    return y, list(names) if is_continuous else np.unique(y).tolist()


def _values(frame: pd.DataFrame, names: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Return several columns of numbers as an array of shape (n, n_columns), and their names."""
    if not names:
        raise DataError("Got label_column without names, expected one or more columns.")

    columns = {name: _column(frame, name) for name in names}
    for name, column in columns.items():
        if column.dtype.kind not in "biuf":
            raise DataError(f"The column {name!r} has {column[0].item()!r}, expected numbers in each of {list(names)}.")
    y = np.column_stack(list(columns.values()))
    return (y.astype(np.int64) if y.dtype.kind == "b" else y), list(names)


# ------------------------------------------------------------------ the clips


def _files(column: pd.Series, root: Path, rows: partial[str]) -> list[str]:
    """Return the paths of the files; raise if one does not exist."""
    for row, value in enumerate(column):
        if not isinstance(value, str | os.PathLike):
            got = f"{plain(value)!r:.100} in {rows(row)}"
            raise DataError(f"The column {column.name!r} has {got}, expected the path of a file.")

    files = [_existing(root, value) for value in column]
    if missing := [path for path in dict.fromkeys(files) if not os.path.isfile(path)]:
        raise DataError(
            f"{len(missing)} of {len(set(files))} files do not exist ({listed(map(repr, missing), 5)}); relative paths "
            f"start from root={str(root.absolute())!r}: correct the paths, or remove their rows."
        )
    return files


def _existing(root: Path, value: str | os.PathLike[str]) -> str:
    """Return the path of a file, with the escapes of a name undone if only the original name exists."""
    path, original = str(root / value), str(root / original_text(os.fspath(value)))
    return original if original != path and not os.path.isfile(path) and os.path.isfile(original) else path


def _seconds(frame: pd.DataFrame, name: str | None, rows: partial[str]) -> list[float | None]:
    """Return a column of seconds, with None for empty cells."""
    import pandas as pd

    seconds: list[float | None] = [None] * len(frame)
    for row, value in enumerate([] if name is None else frame[name].astype(object)):
        try:
            seconds[row] = None if pd.isna(value) or value == _NO_TIME else float(str(value))  # True is not a time
        except ValueError:
            raise DataError(
                f"The column {name!r} has {value!r:.100} in {rows(row)}, expected seconds; if it does not contain "
                "times, rename it, or set start_column or end_column to None."
            ) from None
    return seconds


def _clip(rows: partial[str], row: int, path: str, start: float | None, end: float | None) -> str | dict[str, Any]:
    """Return a file or a part of it."""
    if start is None and end is None:
        return path
    if not 0 <= (start or 0) < (math.inf if end is None else end) or end == math.inf:
        raise DataError(
            f"The clip in {rows(row)}, of {path!r}, goes from {start} s to {end} s, expected 0 <= start < end."
        )
    return {"path": path, "start": start, "end": end}


def _check_repeated(parts: Iterable[tuple[str, Any, Any]], y: np.ndarray | None, rows: partial[str]) -> None:
    """Raise if two rows describe the same clip; different parts of one file are different clips."""
    first: dict[Any, int] = {}
    keys = [(os.path.normpath(path), start or 0.0, end) for path, start, end in parts]
    pairs = [(first.setdefault(key, row), row) for row, key in enumerate(keys)]
    repeated = [(one, two) for one, two in pairs if one != two]
    if repeated:
        one, two = repeated[0]
        differ = y is not None and np.any(y[one] != y[two])
        advice = "decide for one label, or use a column of 0 and 1 for each label" if differ else "keep one of them"
        raise DataError(
            f"{len(repeated)} rows repeat the clip of an earlier row: {rows(one, two)} are both {keys[two][0]!r}; "
            f"{advice}."
        )
