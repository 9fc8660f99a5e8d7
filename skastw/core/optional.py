"""Import optional packages, with an error that names the extra to install."""

import importlib
from types import ModuleType

from skastw.errors import MissingDependencyError


def import_optional(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    module : str
        Name of the module, such as ``"matplotlib.pyplot"``.
    extra : str
        The extra of skastw that installs the package.
    purpose : str
        The feature that needs the package, as the subject of a sentence.

    Returns
    -------
    ModuleType
        Imported module.

    Raises
    ------
    MissingDependencyError
        If the package is not installed. The message names the feature and the extra.

    Examples
    --------
    >>> from skastw.core.optional import import_optional
    >>> import_optional("json", extra="none", purpose="Reading JSON").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs the package {module.partition('.')[0]!r}, which is not installed: "
            f"pip install 'skastw[{extra}]'."
        ) from error
