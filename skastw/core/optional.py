"""Import optional packages where they are needed, with a message that names the extra to install."""

from __future__ import annotations

import importlib
from types import ModuleType

from skastw.errors import MissingDependencyError

__all__ = ["import_optional"]


def import_optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import ``module``, or say what it is for and how to install it.

    Parameters
    ----------
    module : str
        Name of the module, such as ``"matplotlib.pyplot"``.
    extra : str
        The extra of skastw that brings the package.
    purpose : str
        What needs it, as the start of a sentence.

    Returns
    -------
    ModuleType
        The imported module.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.

    Examples
    --------
    >>> from skastw.core.optional import import_optional
    >>> import_optional("json", extra="none", purpose="Reading JSON").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingDependencyError(
            f"{purpose} needs the package {package!r}, which is not installed: pip install 'skastw[{extra}]'."
        ) from error
