"""Warnings that point at the user's code, and warnings of other packages that are ignored."""

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

#: Held while warnings are ignored. All threads share one list of filters: if two of them changed and restored it in
#: overlapping blocks, a filter would be left over.
_LOCK = threading.RLock()
P = ParamSpec("P")
T = TypeVar("T")
#: A message and its category.
HeldWarning: TypeAlias = tuple[str, type[Warning]]

#: Code that may lie between the user's line and the warning: files of this package and of context managers, and the
#: packages that call this one (scikit-learn's wrappers of ``fit``, joblib's loops, tqdm's bars).
_BETWEEN, _CALLERS = (f"{Path(__file__).parents[1]}{os.sep}", contextlib.__file__), ("sklearn", "joblib", "tqdm")

#: Warnings about single clips that a call issues one by one; further ones are only counted.
_MAX_SINGLE = 3

_HELD: ContextVar[list[HeldWarning] | None] = ContextVar("_HELD", default=None)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points at the innermost line outside this package that led to it.

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

    modules = map(sys.modules.get, _CALLERS)  # a process that only decodes has not imported them
    between = _BETWEEN + tuple(
        f"{Path(str(module.__file__)).parent}{os.sep}" for module in modules if module is not None
    )

    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(between):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def hold_warnings(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> tuple[T, list[HeldWarning]]:
    """Call a function and collect its warnings instead of issuing them.

    In a worker thread or process the stack holds no line of the user's code that a warning could point at. The caller
    passes the warnings on to :func:`warn_user` in the user's thread.

    Parameters
    ----------
    function : callable
    *args, **kwargs
        Arguments of the function.

    Returns
    -------
    result : object
        Return value of the function.
    held : list of (str, type)
        Messages and categories of its warnings.

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


def n_held() -> int:
    """Return the number of warnings that :func:`hold_warnings` has collected so far in this context.

    Examples
    --------
    >>> from skastw.core.warn import hold_warnings, n_held, warn_user
    >>> hold_warnings(lambda: (warn_user("The clips are short."), n_held())[1])[0], n_held()
    (1, 0)
    """
    return len(_HELD.get() or ())


def issue_held(results: Iterable[tuple[T, list[HeldWarning]]]) -> Iterator[T]:
    """Yield results and issue their warnings: the first three one by one, and at the end the number of all.

    Thousands of similar recordings therefore do not cause thousands of similar warnings.

    Parameters
    ----------
    results : iterable of (object, list of (str, type))
        Return values of :func:`hold_warnings`, each for one or a few clips.

    Yields
    ------
    object
        Results without their warnings.

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
        warn_user(f"The clips caused {n_warnings} such warnings; the first {_MAX_SINGLE} are shown.")


@contextlib.contextmanager
def ignored_warnings(message: str = "", category: type[Warning] = Warning) -> Iterator[None]:
    """Ignore warnings of other packages that are of no use to the user.

    Parameters
    ----------
    message : str
        Regular expression that matches the start of their messages; by default all warnings are ignored.
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
