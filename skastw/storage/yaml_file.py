"""Read untrusted YAML files: plain values only, with limits on size and depth; no code is executed."""

from pathlib import Path
from typing import Any

from skastw.errors import SkastwError

#: A file that a person writes is smaller.
_MAX_BYTES = 65536
#: Levels of mappings and lists; the parameters of a component are on the fourth.
_MAX_DEPTH = 12


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
    >>> from skastw.storage.yaml_file import parse_yaml
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
