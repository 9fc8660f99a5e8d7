"""Files that somebody else may have written: read up to a limit, as plain values; no code is executed.

Files of a folder are opened only inside it. YAML is also limited in depth.
"""

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from skastw.errors import ArtifactError, SkastwError

#: Largest YAML file (bytes). A file that a person writes is smaller.
_MAX_BYTES = 65536
#: Levels of mappings and lists in YAML; the parameters of a component are on the fourth.
_MAX_DEPTH = 12


def open_inside(folder: Path, name: str) -> BufferedReader:
    """Open a regular file of a folder for reading.

    A link is followed if it stays in the folder, or if it leads from a snapshot in the Hub's cache to the blobs of
    the same repository. A file that becomes a link between this check and the opening is refused. A pipe or a device
    is refused too, without waiting for it.

    Parameters
    ----------
    folder : Path
    name : str
        Name of the file.

    Returns
    -------
    file object
        In binary mode.

    Raises
    ------
    ArtifactError
        If the file cannot be opened; the message has its path and the reason.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.storage.files import open_inside
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "config.json").write_text("{}")
    ...     with open_inside(Path(folder), "config.json") as file:
    ...         file.read()
    b'{}'
    """
    path = folder / name
    try:
        real = path.resolve(strict=True)
        root = next((root for root in _roots(folder) if real.is_relative_to(root)), None)
        if root is None:
            raise ArtifactError(f"{str(path)!r} is a link out of its folder, to {str(real)!r}; copy the file there.")
        descriptor = _open_below(root, real.relative_to(root).parts)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, in Python before 3.13
        raise ArtifactError(f"{str(path)!r} cannot be opened: {error}.") from error

    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ArtifactError(f"{str(path)!r} is not a regular file.")
    return os.fdopen(descriptor, "rb")


def _open_below(root: Path, parts: Sequence[str]) -> int:
    """Open a file below a folder without following links, and return its descriptor.

    Each folder on the path is opened relative to its parent, so that no part of the path can be replaced meanwhile.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    if os.open not in os.supports_dir_fd:  # Windows, where links need a privilege
        return os.open(root.joinpath(*parts), flags)

    folder = os.open(root, flags | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)


def _roots(folder: Path) -> list[Path]:
    """Return the folders that a link in ``folder`` may lead to."""
    real = folder.resolve()
    return [real, real.parent.parent / "blobs"] if real.parent.name == "snapshots" else [real]


def read_limited(file: BinaryIO, name: str, *, max_bytes: int) -> bytes:
    """Return the content of an open file.

    Parameters
    ----------
    file : file object
        Open in binary mode.
    name : str
        Name of the file, for errors.
    max_bytes : int
        Largest size that is accepted.

    Returns
    -------
    bytes

    Raises
    ------
    ArtifactError
        If the file cannot be read, or is larger than ``max_bytes``.

    Examples
    --------
    >>> import io
    >>> from skastw.storage.files import read_limited
    >>> read_limited(io.BytesIO(b"{}"), "config.json", max_bytes=10)
    b'{}'
    """
    try:
        content = file.read(max_bytes + 1)
    except OSError as error:
        raise ArtifactError(f"{name!r} cannot be read: {error}.") from error
    if len(content) > max_bytes:
        raise ArtifactError(f"{name!r} is larger than {max_bytes} bytes, the limit for this file.")
    return content


def parse_json(content: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object with finite numbers and unique keys.

    Parameters
    ----------
    content : bytes
        JSON in UTF-8.
    what : str
        Name of the document, for errors.

    Returns
    -------
    dict

    Raises
    ------
    ArtifactError
        If ``content`` is not such an object; the message begins with ``what``.

    Examples
    --------
    >>> from skastw.storage.files import parse_json
    >>> parse_json(b'{"a": [1, 2.5]}', "config.json")
    {'a': [1, 2.5]}
    """
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{what} cannot be read as JSON: {str(error)[:200]}.") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{what} holds a {type(value).__name__}, expected a JSON object.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {key[:100]!r} occurs twice")
    "".join(value).encode("utf-8")  # raises ValueError for half of a surrogate pair
    return value


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant[:100]} is not a finite number")


def read_page(path: Path, error: type[SkastwError]) -> str:
    """Return the text of a small file.

    Parameters
    ----------
    path : Path
    error : type
        The error to raise.

    Raises
    ------
    SkastwError
        Of the type ``error``, if the file is too large or not text.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise error(f"{str(path)!r} has {path.stat().st_size} bytes, expected at most {_MAX_BYTES}.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as because:
        raise error(f"{str(path)!r} cannot be read as text: {because}") from because


def parse_yaml(text: str, name: str, error: type[SkastwError], *, expected: str) -> Any:
    """Return the values in a YAML text.

    Parameters
    ----------
    text : str
    name : str
        Source of the text, for errors.
    error : type
        The error to raise.
    expected : str
        Description of the expected content, for errors.

    Raises
    ------
    SkastwError
        Of the type ``error``, if the text is not YAML, has tags of Python objects or aliases, or is nested too deeply.

    Examples
    --------
    >>> from skastw.storage.files import parse_yaml
    >>> from skastw.errors import RecipeError
    >>> parse_yaml("a: [1, 2.5, b]", "mine.yaml", RecipeError, expected="a mapping")
    {'a': [1, 2.5, 'b']}
    """
    import yaml

    try:
        trap = _trap(text)
        if not trap:
            return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as because:
        # values such as "!!int x" and 2026-99-99 raise the errors of Python
        raise error(f"{name!r} is not YAML: {' '.join(str(because).split())}") from because
    raise error(f"{name!r} has {trap}, expected {expected} written out.")


def _trap(text: str) -> str | None:
    """Return the first part of a YAML text that could expand to millions of values or take minutes to read."""
    import yaml

    depth = 0
    for event in yaml.parse(text):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            return f"an alias, *{event.anchor}"
        if depth > _MAX_DEPTH:
            return f"more than {_MAX_DEPTH} levels"
    return None
