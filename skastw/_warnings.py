"""Warnings that point at the line of the user's code that caused them."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from pathlib import Path

import sklearn

__all__ = ["warn_user"]

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
