"""Parameters of estimators, each declared once beside the code that uses it: default, valid values, documentation.

A group of parameters is a class with one :func:`param` for each parameter. An estimator inherits its groups. Its
``__init__``, scikit-learn's parameter checks and the section "Parameters" of its docstring follow from them.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, dataclass_transform

import numpy as np

from skastw.core.sklearn_private import Interval, InvalidParameterError, StrOptions, validate_parameter_constraints
from skastw.core.text import did_you_mean
from skastw.errors import plain

#: Largest item of a list of widths.
_MAX_WIDTH = 8192

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def param(*, default: Any, valid: Sequence[Any], doc: str, saved: bool = True) -> Any:
    """Declare a parameter in a class that :func:`parameters` decorates.

    Parameters
    ----------
    default : object
        Default value; immutable.
    valid : sequence of constraints
        Valid types and values, in the form of scikit-learn's ``_parameter_constraints``.
    doc : str
        Entry in the docstring of the estimator: one or more sentences.
    saved : bool, default=True
        Whether a saved model keeps the parameter. Parameters of the machine, such as the device, are not saved.
    """
    return field(default=default, metadata={"valid": valid, "doc": doc, "saved": saved})


def integers(low: int, high: int | None = None) -> Interval:
    """Return the constraint of a parameter that is an integer from ``low`` to ``high``; without ``high``, no limit.

    Examples
    --------
    >>> from skastw.core.parameters import integers
    >>> print(integers(1, 32))
    an int in the range [1, 32]
    """
    return Interval(Integral, low, high, closed="left" if high is None else "both")


class _Widths(Interval):
    """Constraint of a parameter that is an integer in an interval, or a list of positive integers."""

    def is_satisfied_by(self, val: Any) -> bool:
        """Return whether a value is valid."""
        if isinstance(val, list | tuple):
            return len(val) > 0 and all(isinstance(item, Integral) and 1 <= int(item) <= _MAX_WIDTH for item in val)
        return super().is_satisfied_by(val)

    def __str__(self) -> str:
        return f"{super().__str__()} or a list of int in the range [1, {_MAX_WIDTH}]"


def widths(high: int) -> Interval:
    """Return the constraint of a parameter that is an integer from 1 to ``high``, or a list with one for each layer.

    Examples
    --------
    >>> from skastw.core.parameters import widths
    >>> print(widths(64))
    an int in the range [1, 64] or a list of int in the range [1, 8192]
    """
    return _Widths(Integral, 1, high, closed="both")


def reals(low: float, high: float | None, *, closed: Literal["both", "left", "right", "neither"] = "both") -> Interval:
    """Return the constraint of a parameter that is a number from ``low`` to ``high``.

    Parameters
    ----------
    low, high : float
        Limits; None stands for no upper limit.
    closed : {"both", "left", "right", "neither"}, default="both"
        The limits that are themselves valid.

    Examples
    --------
    >>> from skastw.core.parameters import reals
    >>> print(reals(0, 1, closed="left"))
    a float in the range [0.0, 1.0)
    """
    return Interval(Real, low, high, closed=closed)


class Layers(StrOptions):
    """Constraint of a parameter that names the layers to train: ``"none"``, ``"all"``, ``"top-1"``, ``"top-2"``, ...

    Examples
    --------
    >>> from skastw.core.parameters import Layers
    >>> print(Layers())
    a str among {'none', 'all', 'top-1', 'top-2', ...}
    """

    def __init__(self) -> None:
        super().__init__({"none", "all", *(f"top-{n}" for n in range(1, 1000))})

    def __str__(self) -> str:
        return "a str among {'none', 'all', 'top-1', 'top-2', ...}"


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(param, field))
def parameters(cls: type[T]) -> type[T]:
    """Give a class an ``__init__`` that takes its own and its bases' parameters as keyword arguments.

    The class also gets ``_parameter_constraints`` for scikit-learn. The documentation of the parameters replaces
    ``{parameters}`` in its docstring, or is added as a section at the end.

    Examples
    --------
    >>> from skastw.core.parameters import integers, param, parameters
    >>> @parameters
    ... class Patience:
    ...     patience: int | None = param(default=3, valid=[integers(1), None], doc="Epochs.")
    >>> @parameters
    ... class Trainer(Patience):
    ...     '''Train.
    ...
    ...     {parameters}
    ...     '''
    >>> Trainer(patience=7).patience
    7
    >>> print(Trainer.__doc__)
    Train.
    <BLANKLINE>
        patience : int or None, default=3
            Epochs.
    <BLANKLINE>
    """
    cls = dataclass(kw_only=True, eq=False, repr=False)(cls)
    cls.__init__ = suggesting(cls.__init__)  # type: ignore[method-assign]
    declared = _declared(cls)
    cls._parameter_constraints = {item.name: list(item.metadata["valid"]) for item in declared}  # type: ignore[attr-defined]
    if cls.__doc__:
        entries = textwrap.indent("\n".join(map(_documented, declared)), "    ")
        if "{parameters}" not in cls.__doc__:
            cls.__doc__ = f"{cls.__doc__.rstrip()}\n\n    Parameters\n    ----------\n    {{parameters}}\n    "
        cls.__doc__ = cls.__doc__.replace("    {parameters}", entries)
    return cls


def suggesting(init: F) -> F:
    """Return an ``__init__`` whose error about an unknown parameter suggests the one that was probably meant.

    Parameters
    ----------
    init : callable
        With keyword-only parameters.

    Examples
    --------
    >>> from skastw.core.parameters import suggesting
    >>> class Trainer:
    ...     @suggesting
    ...     def __init__(self, *, epochs=3):
    ...         self.epochs = epochs
    >>> Trainer(epoch=5)
    Traceback (most recent call last):
        ...
    TypeError: Trainer has no parameter 'epoch'; did you mean 'epochs'?
    """
    known = list(inspect.signature(init).parameters)[1:]

    @functools.wraps(init)
    def wrapped(self: Any, *args: Any, **params: Any) -> None:
        for name in params:
            if name not in known:
                meant = did_you_mean(name, known) or f", expected one of {', '.join(known)}."
                raise TypeError(f"{type(self).__name__} has no parameter {name!r}{meant}")
        init(self, *args, **params)

    return wrapped  # type: ignore[return-value]


def param_names(cls: type, *, saved: bool | None = None) -> list[str]:
    """Return the names of the parameters of a group; with ``saved``, only of saved or of other parameters."""
    return [item.name for item in _declared(cls) if saved in (None, item.metadata["saved"])]


def check_params(group: Any, name: str) -> None:
    """Raise scikit-learn's error if a parameter of a group or of an estimator is not valid.

    Parameters
    ----------
    group : object
        Instance of a class that :func:`parameters` decorates.
    name : str
        Name of the group or estimator in the error message.

    Examples
    --------
    >>> from skastw.core.parameters import check_params, param, parameters
    >>> @parameters
    ... class Patience:
    ...     patience: int = param(default=3, valid=[int], doc="Epochs.")
    >>> check_params(Patience(patience="long"), "Patience")
    Traceback (most recent call last):
        ...
    sklearn.utils._param_validation.InvalidParameterError: The 'patience' parameter of Patience must be an instance ...
    """
    check_values(group._parameter_constraints, vars(group), name)


def check_values(constraints: Mapping[str, Any], values: Mapping[str, Any], owner: str) -> None:
    """Raise scikit-learn's error for the first value that is not valid, with a suggestion for a mistyped option.

    Parameters
    ----------
    constraints : mapping of str to constraints
        In the form of scikit-learn's ``_parameter_constraints``.
    values : mapping of str to objects
        A value without constraints is valid.
    owner : str
        Name of the group or estimator in the error message.

    Examples
    --------
    >>> from skastw.core.parameters import check_values
    >>> from skastw.core.sklearn_private import StrOptions
    >>> check_values({"keep": [StrOptions({"best"})]}, {"keep": "besst"}, "Trainer")
    Traceback (most recent call last):
        ...
    sklearn.utils._param_validation.InvalidParameterError: ... Got 'besst' instead; did you mean 'best'?
    """
    for name in filter(constraints.__contains__, values):
        value = plain(values[name]) if isinstance(values[name], np.generic) else values[name]
        try:
            validate_parameter_constraints({name: constraints[name]}, {name: value}, caller_name=owner)
        except InvalidParameterError as error:
            options = [option for part in constraints[name] for option in getattr(part, "options", ())]
            meant = did_you_mean(value, options, 0.5) if isinstance(value, str) else ""
            raise InvalidParameterError(f"{str(error).removesuffix('.')}{meant or '.'}") from None


def take_params(cls: type[T], owner: Any, **others: Any) -> T:
    """Return the group ``cls`` with the current parameters of ``owner``, and with ``others`` as further fields.

    NumPy numbers are converted to Python numbers.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> from skastw.core.parameters import param, parameters, take_params
    >>> @parameters
    ... class Patience:
    ...     patience: int = param(default=3, valid=[int], doc="Epochs.")
    >>> take_params(Patience, SimpleNamespace(patience=5, epochs=9)).patience
    5
    """
    return cls(**{item.name: plain(getattr(owner, item.name)) for item in _declared(cls)}, **others)


def _declared(cls: type) -> list[Field]:
    return [item for item in fields(cls) if "valid" in item.metadata]


def _documented(item: Field) -> str:
    """Return the numpydoc entry of a parameter."""
    options = next((part.options for part in item.metadata["valid"] if type(part) is StrOptions), None)
    kind = item.type if isinstance(item.type, str) else inspect.formatannotation(item.type)
    kind = kind.replace(" | ", " or ").replace("numpy.random.mtrand.", "")
    if options is not None:
        default_first = sorted(options, key=lambda option: (option != item.default, option))
        listed = ", ".join(f'"{option}"' for option in default_first)
        mapping = "dict, " * (dict in item.metadata["valid"])
        kind = f"{mapping}{{{listed}}}" + " or None" * (item.default is None)
    shown = f'"{item.default}"' if isinstance(item.default, str) else item.default
    text = textwrap.fill(item.metadata["doc"], width=112, break_on_hyphens=False, break_long_words=False)
    return f"{item.name} : {kind}, default={shown}\n{textwrap.indent(text, '    ')}"
