"""Errors about arguments and methods that an estimator does not have: they name its class and what to write instead."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from skastw.core.text import did_you_mean
from skastw.errors import plain

#: Arguments of other programs, and what to write instead. A replacement is suggested if its first name exists.
_REPLACEMENTS = {
    "audios": "X=",
    "labels": "y=",
    "val_audios": "X_val= and y_val=",
    "val_labels": "X_val= and y_val=",
    "validation_data": "X_val= and y_val=",
    "eval_set": "X_val= and y_val=",
    "top_k": "predict_top_k(X, k={value})",
}
_MAX_SHOWN = 40


class ExplainedArguments:
    """Base of estimators whose methods explain a wrong argument.

    The wrapped methods keep their signatures, from which scikit-learn learns the metadata of ``fit``.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            if name.startswith("_"):
                continue
            if isinstance(method, classmethod):
                setattr(cls, name, classmethod(_explaining(method.__func__)))
            elif inspect.isfunction(method):
                setattr(cls, name, _explaining(method))


class Replaced:
    """A method of other programs that the class does not have: ``hasattr`` is False, and the error names another.

    Parameters
    ----------
    instead : str
        What to write instead.

    Examples
    --------
    >>> from skastw.estimators.arguments import Replaced
    >>> class Model:
    ...     save = Replaced("save_pretrained(folder)")
    >>> Model().save("exports/owls")
    Traceback (most recent call last):
        ...
    AttributeError: Model has no method 'save': write save_pretrained(folder).
    """

    def __init__(self, instead: str) -> None:
        self._instead = instead

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> NoReturn:
        raise AttributeError(f"{owner.__name__} has no method {self._name!r}: write {self._instead}.")


def _explaining(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that raises an explained TypeError for arguments that it does not take."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def explaining(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:
            cls = self if isinstance(self, type) else type(self)
            problem = _problem(cls, method.__name__, list(signature.parameters.values())[1:], args, kwargs)
            raise TypeError(f"{cls.__name__}.{method.__name__}() {problem or f'is {error}.'}") from None
        return method(self, *args, **kwargs)

    return explaining


def _problem(
    cls: Any, method: str, known: Sequence[inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> str | None:
    """Return the problem of the arguments and what to write; None if an argument is missing."""
    names = [parameter.name for parameter in known]
    positional = [parameter.name for parameter in known if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]
    if len(args) > len(positional):
        others = ", ".join(f"{name}=" for name in names if name not in positional)
        advice = f"; name the others: {others}" if others else ""
        return f"takes {len(positional)} arguments without names ({', '.join(positional)}), got {len(args)}{advice}."

    unknown = [name for name in kwargs if name not in names]
    if not unknown:
        return None
    problem = f"has no argument {unknown[0]!r}"

    params = ", ".join(f"{name}={_shown(kwargs[name])}" for name in unknown if name in cls._get_param_names())
    if params:
        required = ", ".join(parameter.name for parameter in known if parameter.default is parameter.empty)
        changed = f"{cls.__name__}({params})" if "fit" in method else f"set_params({params})"
        return f"{problem}: parameters belong to the estimator; write {changed}.{method}({required})."

    instead = _REPLACEMENTS.get(unknown[0], "").format(value=_shown(kwargs[unknown[0]]))
    first = re.match(r"\w*", instead)[0]  # type: ignore[index]
    if first and (first in names or hasattr(cls, first)):
        return f"{problem}: write {instead}."
    return problem + (did_you_mean(unknown[0], names) or f", expected one of {', '.join(names)}.")


def _shown(value: Any) -> str:
    text = repr(plain(value))
    return text if len(text) <= _MAX_SHOWN else "..."
