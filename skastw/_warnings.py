"""Warnings that point at the line of the user's code that caused them; and those of other packages that are ignored."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import sklearn

__all__ = ["ignored_warnings", "warn_user"]

#: Held while warnings are ignored: filters are those of the process, and two threads that end in another order than
#: they began would leave one filter behind.
_LOCK = threading.RLock()
#: Code between a user's call and ours: this package, scikit-learn's wrappers of ``fit`` and context managers.
_BETWEEN = (f"{Path(__file__).parent}{os.sep}", f"{Path(sklearn.__file__).parent}{os.sep}", contextlib.__file__)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the line outside this package that led here, however deep in the package the caller is.

    Parameters
    ----------
    message : str
    category : type of Warning

    Examples
    --------
    >>> import warnings
    >>> from skastw._warnings import warn_user
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_user("The clips are short.")
    >>> str(caught[0].message)
    'The clips are short.'
    """
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


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
    >>> from skastw._warnings import ignored_warnings
    >>> with ignored_warnings("The least populated class"):
    ...     warnings.warn("The least populated class in y has only 1 members")
    """
    with _LOCK, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield
