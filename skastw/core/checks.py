"""Checks of arguments that several functions have."""

from numbers import Integral

from skastw.errors import plain


def check_positive(**values: object) -> None:
    """Raise ValueError if one of the arguments is not an integer of at least 1.

    Parameters
    ----------
    **values : object
        Arguments by their names, which the error contains.

    Examples
    --------
    >>> from skastw.core.checks import check_positive
    >>> check_positive(block=256, top_k=0)
    Traceback (most recent call last):
    ValueError: Got top_k=0, expected an integer of at least 1.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"Got {name}={plain(value)!r}, expected an integer of at least 1.")
