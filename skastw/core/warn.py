"""Warnings that point at the line of the user's code that caused them; and those of other packages that are ignored."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

__all__ = ["HeldWarning", "hold_warnings", "ignored_warnings", "issue_held", "warn_user"]

#: Held while warnings are ignored: filters are those of the process, and two threads that end in another order than
#: they began would leave one filter behind.
_LOCK = threading.RLock()
P = ParamSpec("P")
T = TypeVar("T")
#: A message and its category.
HeldWarning: TypeAlias = tuple[str, type[Warning]]

#: Code between a user's call and ours: this package and context managers, and packages that call ours: scikit-learn's
#: wrappers of ``fit``, joblib's loops and tqdm's bars.
_BETWEEN, _CALLERS = (f"{Path(__file__).parent}{os.sep}", contextlib.__file__), ("sklearn", "joblib", "tqdm")

#: Warnings about single clips that one call issues one by one; the others are counted.
_MAX_SINGLE = 3

_HELD: ContextVar[list[HeldWarning] | None] = ContextVar("_HELD", default=None)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the line outside this package that led here, however deep in the package the caller is.

    Parameters
    ----------
    message : str
    category : type of Warning

    Examples
    --------
    >>> import warnings
    >>> from skastw.core.warn import warn_user
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_user("The clips are short.")
    >>> str(caught[0].message)
    'The clips are short.'
    """
    held = _HELD.get()
    if held is not None:
        held.append((message, category))
        return
    modules = map(sys.modules.get, _CALLERS)  # a process that only decodes does not import them
    between = _BETWEEN + tuple(
        f"{Path(str(module.__file__)).parent}{os.sep}" for module in modules if module is not None
    )
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(between):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def hold_warnings(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, list[HeldWarning]]:
    """Call a function in a thread or process of ours, where no line of the user's code leads to it.

    Parameters
    ----------
    function : callable
    *args, **kwargs
        Passed to it.

    Returns
    -------
    result : object
        The result of the function.
    held : list of (str, type)
        Its warnings, which the caller gives to :func:`warn_user` once more.

    Examples
    --------
    >>> from skastw.core.warn import hold_warnings, warn_user
    >>> hold_warnings(warn_user, "The clips are short.")
    (None, [('The clips are short.', <class 'UserWarning'>)])
    """
    token = _HELD.set([])
    try:
        result = function(*args, **kwargs)
        return result, _HELD.get() or []
    finally:
        _HELD.reset(token)


def issue_held(results: Iterable[tuple[T, list[HeldWarning]]]) -> Iterator[T]:
    """Yield results, and issue their warnings: the first ones one by one, and how many there are at the end.

    A set of thousands of recordings of one kind then does not give thousands of warnings of one kind.

    Parameters
    ----------
    results : iterable of (object, list of (str, type))
        As :func:`hold_warnings` returns them, one for each clip or for a few of them.

    Yields
    ------
    object
        The results without their warnings.

    Examples
    --------
    >>> from skastw.core.warn import issue_held
    >>> list(issue_held([("frames", []), ("more frames", [])]))
    ['frames', 'more frames']
    """
    n_warnings = 0
    for result, held in results:
        for message, category in held:
            n_warnings += 1
            if n_warnings <= _MAX_SINGLE:
                warn_user(message, category)
        yield result

    if n_warnings > _MAX_SINGLE:
        warn_user(f"{n_warnings} such warnings were given by the clips, of which the first {_MAX_SINGLE} are shown.")


@contextlib.contextmanager
def ignored_warnings(message: str = "", category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings of other packages, which our callers have already been told of or need not know.

    Parameters
    ----------
    message : str
        A regular expression for their beginning; by default all.
    category : type of Warning

    Examples
    --------
    >>> import warnings
    >>> from skastw.core.warn import ignored_warnings
    >>> with ignored_warnings("The least populated class"):
    ...     warnings.warn("The least populated class in y has only 1 members")
    """
    with _LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield
