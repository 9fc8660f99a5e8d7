"""Names of files as text that every terminal, table and page can hold.

On Linux a file name is a string of bytes. Python turns bytes that are not UTF-8 into lone surrogates, which UTF-8
cannot encode. When such a name leaves the program, it is written with escapes: ``caf\\xe9.wav``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = ["column_type", "did_you_mean", "listed", "original_text", "readable", "readable_values"]

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(r"\\(?:(\\)|x([89a-f][0-9a-f])|u(d[89a-f][0-9a-f]{2}))")
#: Python's code for a byte that is not part of UTF-8: the byte behind 0xDC00.
_BYTE = 0xDC00


def readable(text: str) -> str:
    r"""Return a text with lone surrogates written as escapes, and unchanged if it has none.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        A byte of a file name that is not UTF-8 is ``\xe9``, any other surrogate ``\ud800``, and then a backslash is
        ``\\``, so that :func:`original_text` gives the text back.

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
    r"""Return the text that :func:`readable` made ``text`` from.

    Parameters
    ----------
    text : str
        With escapes.

    Returns
    -------
    str

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


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of an error about an unknown name: a suggestion, or nothing if no known name is similar.

    Parameters
    ----------
    name : str
        The unknown name.
    known : iterable of str

    Examples
    --------
    >>> from skastw.core.text import did_you_mean
    >>> "No parameter 'epoch'" + did_you_mean("epoch", ["epochs", "patience"])
    "No parameter 'epoch'; did you mean 'epochs'?"
    >>> did_you_mean("size", ["epochs", "patience"])
    ''
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


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


def column_type(texts: Iterable[str]) -> type | None:
    """Return the dtype of a pandas column that holds texts: object if one has lone surrogates, else pandas' choice.

    Parameters
    ----------
    texts : iterable of str

    Examples
    --------
    >>> from skastw.core.text import column_type
    >>> column_type(["owl.wav"]), column_type(["caf\\udce9.wav"])
    (None, <class 'object'>)
    """
    return object if any(_SURROGATE.search(text) for text in texts) else None


def readable_values(value: Any) -> Any:
    """Return a value with all texts in it made readable, in mappings, lists and arrays too.

    Parameters
    ----------
    value : object
        What holds no text stays as it is; a tuple becomes a list.

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
    if isinstance(value, np.ndarray) and value.dtype.kind == "U":
        return np.array([readable(item) for item in value.ravel().tolist()], dtype=str).reshape(value.shape)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        array = value.copy()
        for position, item in np.ndenumerate(value):
            if isinstance(item, str):
                array[position] = readable(item)
        return array
    return value
