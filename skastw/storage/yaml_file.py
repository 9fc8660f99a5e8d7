"""Pages of YAML that somebody else may have written: values only, read only up to a limit, and nothing executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skastw.errors import SkastwError

__all__ = ["parse_yaml", "read_page"]

#: What a person writes is a page of text; a file that is larger is something else.
_MAX_BYTES = 65536
#: Levels of mappings and lists; a parameter of a component is on the fourth.
_MAX_DEPTH = 12


def read_page(path: Path, error: type[SkastwError]) -> str:
    """Return the text of a file that is no larger than a page.

    Parameters
    ----------
    path : Path
    error : type
        What to raise.

    Raises
    ------
    SkastwError
        Of the type ``error``, if the file is too large or no text.
    """
    if path.stat().st_size > _MAX_BYTES:
        raise error(f"{str(path)!r} has {path.stat().st_size} bytes, expected at most {_MAX_BYTES}.")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as because:
        raise error(f"{str(path)!r} cannot be read as text: {because}") from because


def parse_yaml(text: str, name: str, error: type[SkastwError], *, expected: str) -> Any:
    """Return the values in a page of YAML.

    Parameters
    ----------
    text : str
    name : str
        Where it is from, for errors.
    error : type
        What to raise.
    expected : str
        What should be there, for errors.

    Raises
    ------
    SkastwError
        Of the type ``error``, if the text is not YAML, names anything but plain values, holds an alias or is nested
        too deeply.

    Examples
    --------
    >>> from skastw.storage.yaml_file import parse_yaml
    >>> from skastw.errors import RecipeError
    >>> parse_yaml("a: [1, 2.5, b]", "mine.yaml", RecipeError, expected="a mapping")
    {'a': [1, 2.5, 'b']}
    """
    import yaml

    try:
        trap = _trap(text)
        content = None if trap else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError) as because:
        # !!int x, 2026-99-99, ...
        raise error(f"{name!r} is not YAML: {' '.join(str(because).split())}") from because
    if trap:
        raise error(f"{name!r} has {trap}, expected {expected} written out.")
    return content


def _trap(text: str) -> str | None:
    """Return what in a page of YAML may stand for millions of values, or take minutes to read."""
    import yaml

    depth = 0
    for event in yaml.parse(text):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            return f"an alias, *{event.anchor}"
        if depth > _MAX_DEPTH:
            return f"more than {_MAX_DEPTH} levels"
    return None
