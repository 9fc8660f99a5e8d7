"""Convert file names to text that can be encoded as UTF-8, for terminals, tables and pages.

On Linux a file name is a sequence of bytes. Python decodes bytes that are not valid UTF-8 as lone surrogates, which
cannot be encoded as UTF-8 again. Such names are printed and saved with escapes: ``caf\\xe9.wav``.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from skastw.errors import plain

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:(\\)|x([89a-f][0-9a-f])|u(d[89a-f][0-9a-f]{2}))")
#: Python decodes a byte that is not valid UTF-8 as this code plus the byte.
_BYTE = 0xDC00
#: Number of names in a folder that are compared with the name of a missing file.
_MAX_COMPARED = 500


def readable(text: str) -> str:
    r"""Return a text in which lone surrogates are replaced with escapes.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        The text itself if it has no lone surrogate. Otherwise, a byte that is not valid UTF-8 is written as ``\xe9``,
        another surrogate as ``\ud800`` and a backslash as ``\\``, so that :func:`original_text` can restore the text.

    Examples
    --------
    >>> from skastw.core.text import readable
    >>> print(readable("caf\udce9.wav"), readable("café.wav"))
    caf\xe9.wav café.wav
    """
    if not _SURROGATE.search(text):
        return text
    return _SURROGATE.sub(_escaped, text.replace("\\", "\\\\"))


def _escaped(surrogate: re.Match[str]) -> str:
    code = ord(surrogate[0])
    return f"\\x{code - _BYTE:02x}" if _BYTE + 0x80 <= code <= _BYTE + 0xFF else f"\\u{code:04x}"


def original_text(text: str) -> str:
    r"""Return the text that :func:`readable` has converted to ``text``.

    Parameters
    ----------
    text : str
        Text with escapes.

    Returns
    -------
    str
        Text with lone surrogates.

    Examples
    --------
    >>> from skastw.core.text import original_text
    >>> ascii(original_text(r"caf\xe9.wav"))
    "'caf\\udce9.wav'"
    """
    return _ESCAPE.sub(_unescaped, text)


def _unescaped(escape: re.Match[str]) -> str:
    backslash, byte, code = escape.groups()
    if backslash:
        return "\\"
    return chr(_BYTE + int(byte, 16)) if byte else chr(int(code, 16))


def did_you_mean(name: object, known: Iterable[object], similarity: float = 0.6) -> str:
    """Return the end of an error about an unknown name: a suggestion, or nothing if no known name is similar.

    Upper case, spaces, hyphens and underscores do not count.

    Parameters
    ----------
    name : object
        The unknown name. Names that are not text are compared as text.
    known : iterable of objects
    similarity : float, default=0.6
        Least similarity of a suggestion, from 0 to 1.

    Examples
    --------
    >>> from skastw.core.text import did_you_mean
    >>> "No parameter 'epoch'" + did_you_mean("epoch", ["epochs", "patience"])
    "No parameter 'epoch'; did you mean 'epochs'?"
    >>> did_you_mean("size", ["epochs", "patience"])
    ''
    """
    names = {_folded(one): plain(one) for one in known}
    near = difflib.get_close_matches(_folded(name), names, n=1, cutoff=similarity)
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def _folded(name: object) -> str:
    return re.sub(r"[\s_-]", "", str(name)).casefold()


def unknown_value(name: str, value: object, known: Iterable[object]) -> str:
    """Return the error about a value that is not one of the known values.

    Parameters
    ----------
    name : str
        Name of the parameter.
    value : object
    known : iterable of objects

    Examples
    --------
    >>> from skastw.core.text import unknown_value
    >>> unknown_value("fill", "bandd", ["clip", "band"])
    "Got fill='bandd', expected one of 'clip', 'band'; did you mean 'band'?"
    """
    values = plain(list(known))
    meant = did_you_mean(value, values) or "."
    return f"Got {name}={plain(value)!r}, expected one of {', '.join(map(repr, values))}{meant}"


def looked_in(path: str | os.PathLike[str]) -> str:
    """Return the end of an error about a missing file or folder: the folder that was searched, and a similar name.

    If a folder above it is missing, the end says so.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.core.text import looked_in
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / "owl.wav").touch()
    ...     ends = [looked_in(Path(folder) / name) for name in ("wren.wav", "owls.wav")]
    >>> "no such file" + ends[0].replace(folder, "clips")
    "no such file (looked in 'clips')"
    >>> "no such file" + ends[1].replace(folder, "clips")
    "no such file (looked in 'clips'; did you mean 'owl.wav'?)"
    """
    missing = os.path.abspath(path)
    folder = os.path.dirname(missing)
    searched = f"looked in {folder!r}"
    while not os.path.isdir(folder) and folder != os.path.dirname(folder):
        searched = f"{folder!r} is not a folder" if os.path.lexists(folder) else f"there is no folder {folder!r}"
        missing, folder = folder, os.path.dirname(folder)
    return f" ({searched}{_near_name(os.path.basename(missing), folder)})"


def _near_name(name: str, folder: str) -> str:
    """Return a suggestion of a file or folder with a similar name, and with the same digits: 8.wav is not 9.wav."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, _MAX_COMPARED)]
    except OSError:
        return ""
    similar = difflib.get_close_matches(name, names, n=_MAX_COMPARED)  # lost.wav is not st.py, though lost is like st
    stems = {os.path.splitext(other)[0]: other for other in similar if _digits(other) == _digits(name)}
    near = difflib.get_close_matches(os.path.splitext(name)[0], stems, n=1)
    return f"; did you mean {stems[near[0]]!r}?" if near else ""


def _digits(name: str) -> str:
    return "".join(filter(str.isdecimal, os.path.splitext(name)[0]))


def listed(texts: Iterable[str], n_shown: int = 3) -> str:
    """Return the first texts of a list, and an ellipsis if there are more.

    Parameters
    ----------
    texts : iterable of str
    n_shown : int, default=3

    Examples
    --------
    >>> from skastw.core.text import listed
    >>> listed(["owl", "wren"]), listed(map(str, range(9)), 2)
    ('owl, wren', '0, 1, ...')
    """
    shown = list(texts)
    return ", ".join(shown[:n_shown]) + ", ..." * (len(shown) > n_shown)


def aligned(rows: Sequence[Sequence[str]], alignment: str) -> list[str]:
    """Return the lines of a table.

    Parameters
    ----------
    rows : sequence of sequences of str
        Cells of each row.
    alignment : str
        For each column, ``<`` to align it to the left, or ``>`` to the right.

    Examples
    --------
    >>> from skastw.core.text import aligned
    >>> print("\\n".join(aligned([("class", "clips"), ("owl", "12")], "<>")))
    class  clips
    owl       12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [
        [f"{cell:{side}{width}}" for cell, side, width in zip(row, alignment, widths, strict=True)] for row in rows
    ]
    return ["  ".join(row).rstrip() for row in cells]


def column_type(texts: Iterable[str]) -> type | None:
    """Return the dtype for a pandas column of texts.

    Parameters
    ----------
    texts : iterable of str

    Returns
    -------
    type or None
        ``object`` if a text has lone surrogates, which pandas' string types refuse; else None, for pandas' default.

    Examples
    --------
    >>> from skastw.core.text import column_type
    >>> column_type(["owl.wav"]), column_type(["caf\\udce9.wav"])
    (None, <class 'object'>)
    """
    return object if any(_SURROGATE.search(text) for text in texts) else None


def readable_values(value: Any) -> Any:
    """Return a copy of a value in which :func:`readable` is applied to all texts.

    Parameters
    ----------
    value : object
        A text, or a mapping, list, tuple or array of texts. Other values are returned unchanged.

    Returns
    -------
    object
        Tuples are returned as lists.

    Examples
    --------
    >>> from skastw.core.text import readable_values
    >>> readable_values({"clip": "owl.wav", "scores": (0.5, None)})
    {'clip': 'owl.wav', 'scores': [0.5, None]}
    """
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable_values(key): readable_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable_values(item) for item in value]

    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        convert = np.frompyfunc(lambda item: readable(item) if isinstance(item, str) else item, 1, 1)
        return np.asarray(convert(value), dtype=value.dtype.kind)
    return value


def without_folders(value: Any) -> Any:
    """Return a value, or the values in dicts and lists, with absolute paths reduced to file names.

    Paths of other operating systems count too.

    Examples
    --------
    >>> from skastw.core.text import without_folders
    >>> without_folders({"paths": ["/home/anna/hum.wav", "C:\\\\sounds\\\\rain.wav", "wind/1.wav"], "p": 0.5})
    {'paths': ['hum.wav', 'rain.wav', 'wind/1.wav'], 'p': 0.5}
    """
    if isinstance(value, dict):
        return {key: without_folders(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    if not isinstance(value, str | os.PathLike):
        return value
    path = os.fspath(value)
    absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    return PureWindowsPath(path).name if absolute else path
