"""Check the content of files against types, with errors that name the place, the value and the expectation."""

import sys
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta

from skastw.core.text import did_you_mean
from skastw.errors import SkastwError, plain

T = TypeVar("T")

#: A number that is not NaN and not infinite.
Finite = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max, description="a finite number")]
Count = Annotated[int, Meta(ge=0, description="an integer of at least 0")]
Text = Annotated[str, Meta(min_length=1, description="text that is not empty")]

_WORDS = {
    bool: "true or false",
    dict: "a mapping of names to values",
    float: "a number",
    int: "an integer",
    list: "a list",
    str: "text",
    types.NoneType: "null",
}
_BOUNDS = {
    "ge": "of at least",
    "gt": "above",
    "le": "of at most",
    "lt": "below",
    "min_length": "with a length of at least",
    "max_length": "with a length of at most",
    "pattern": "matching",
}
_MAX_SHOWN = 100
#: The second for text that is half of a surrogate pair, which JSON may hold, where a Struct or a Literal is expected.
_REFUSED = (msgspec.ValidationError, UnicodeEncodeError)


def check(value: Any, schema: type[T], name: str, error: type[SkastwError], *, place: str = "") -> T:
    """Return plain values as an object of a type.

    The conversion is strict: it refuses text for a number, a number for text, and True for an integer. It accepts an
    integer for a float and a tuple for a list. A ``float`` may be NaN or infinite, a :data:`Finite` may not. An integer
    may have any size, unless the type has a bound.

    Parameters
    ----------
    value : object
        As ``json.loads`` or ``yaml.safe_load`` return it.
    schema : type
        A ``msgspec.Struct``, or any other type that ``msgspec.convert`` knows, such as ``dict[str, list[int]]``. Ranges
        are written as ``Annotated[int, msgspec.Meta(ge=0)]``; the ``description`` of a ``Meta`` replaces the
        expectation in an error. A Struct with ``forbid_unknown_fields=True`` refuses unknown names.
    name : str
        Source of the value, for errors: usually the path of a file.
    error : type
        The error to raise.
    place : str, default=""
        Place of the value in the file, if it is a part, such as ``"params.encoder"``.

    Returns
    -------
    object
        Of the type ``schema``. A value whose type is ``Any`` stays the same object.

    Raises
    ------
    SkastwError
        Of the type ``error``. The message contains the name, the place of the first problem, the value and the
        expectation; for an unknown name, it suggests the most similar known one.

    Examples
    --------
    >>> import msgspec
    >>> from skastw.errors import RunError
    >>> from skastw.storage.schema import Count, check
    >>> class Settings(msgspec.Struct, forbid_unknown_fields=True):
    ...     epochs: Count
    ...     sizes: list[int] = []
    >>> check({"epochs": 3}, Settings, "mine.yaml", RunError)
    Settings(epochs=3, sizes=[])
    >>> check({"epochs": 3, "sizes": [1, "two"]}, Settings, "mine.yaml", RunError)
    Traceback (most recent call last):
        ...
    skastw.errors.RunError: 'mine.yaml' has sizes[1]: 'two', expected an integer.
    >>> check({"epoch": 3}, Settings, "mine.yaml", RunError)
    Traceback (most recent call last):
        ...
    skastw.errors.RunError: 'mine.yaml' has the unknown name 'epoch'; did you mean 'epochs'?
    """
    try:
        return msgspec.convert(value, schema, strict=True)
    except _REFUSED as problem:
        raise error(f"{name!r} {_problem(value, schema, place, str(problem))}") from None


def _problem(value: Any, annotation: Any, place: str, message: str) -> str:
    """Return the problem of a value that does not have the type of an annotation.

    The problem is the first wrong part of the value, or the whole value if all parts are valid. ``message`` comes from
    msgspec; since it does not name the keys of mappings, it is only used for errors from the ``__post_init__`` of a
    Struct.
    """
    record = next((kind for kind in _alternatives(annotation) if _is_record(kind) and isinstance(value, Mapping)), None)
    if record is not None and (names := _wrong_names(value, record, place)):
        return names

    for key, item, kind in _parts(value, annotation):
        try:
            msgspec.convert(item, kind, strict=True)
        except _REFUSED as problem:
            return _problem(item, kind, _below(place, key), str(problem))

    if record is not None:
        return f"is not valid{f' in {place}' * bool(place)}: {message.partition(' - at `$')[0]}"
    shown = f"has {place}: {_shown(value)}" if place else f"holds {_shown(value)}"
    return f"{shown}, expected {_expected(annotation)}."


def _wrong_names(value: Mapping[Any, Any], record: Any, place: str) -> str | None:
    """Return the problem of a mapping with an unknown or a missing name; None if all names are valid."""
    fields = msgspec.structs.fields(record)
    known = [field.encode_name for field in fields]
    inside = f" in {place}" if place else ""

    if record.__struct_config__.forbid_unknown_fields and (unknown := [key for key in value if key not in known]):
        suggestion = did_you_mean(unknown[0], known) if isinstance(unknown[0], str) else ""
        expected = suggestion or f", expected one of {', '.join(map(repr, known))}."
        return f"has the unknown name {_shown(unknown[0])}{inside}{expected}"
    missing = [field.encode_name for field in fields if field.required and field.encode_name not in value]
    return f"has no {missing[0]!r}{inside}, expected {_expected(record)}." if missing else None


def _parts(value: Any, annotation: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield the key, the value and the annotation of each part of a mapping or a list."""
    for kind in _alternatives(annotation):
        arguments = get_args(kind)
        if _is_record(kind) and isinstance(value, Mapping):
            hints = typing.get_type_hints(kind, include_extras=True)
            for field in msgspec.structs.fields(kind):
                if field.encode_name in value:
                    yield field.encode_name, value[field.encode_name], hints[field.name]
        elif get_origin(kind) is dict and isinstance(value, Mapping):
            yield from ((key, item, arguments[1]) for key, item in value.items())
        elif get_origin(kind) is list and isinstance(value, list | tuple):
            yield from ((position, item, arguments[0]) for position, item in enumerate(value))


def _alternatives(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without their bounds."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for member in get_args(annotation) for kind in _alternatives(member)]
    return [annotation]


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _expected(annotation: Any) -> str:
    """Return an annotation in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_expected, arguments)))
    if origin is Literal:
        return " or ".join(map(repr, arguments))

    if origin is Annotated:
        [meta] = [argument for argument in arguments[1:] if isinstance(argument, Meta)]
        bounds = [f"{words} {getattr(meta, key)!r}" for key, words in _BOUNDS.items() if getattr(meta, key) is not None]
        return meta.description or f"{_expected(arguments[0])} {' and '.join(bounds)}"
    if _is_record(annotation):
        return f"a mapping with {', '.join(repr(field.encode_name) for field in msgspec.structs.fields(annotation))}"
    return _WORDS.get(origin or annotation, str(annotation))


def _below(place: str, key: Any) -> str:
    """Return the place of a part: ``params.epochs``, ``sizes[1]``, ``sha256['README.md']``."""
    if isinstance(key, str) and key.isidentifier():
        return f"{place}.{key}" if place else key
    return f"{place}[{_shown(key)}]"


def _shown(value: Any) -> str:
    """Return a value as an error shows it: in one line that is not long."""
    try:
        text = repr(plain(value))
    except ValueError:  # an integer of thousands of digits, which Python refuses to write
        return "a huge integer"
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
