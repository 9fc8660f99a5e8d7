"""How to install skastw, and the import of optional packages with an error that names the extra to install."""

import importlib
from types import ModuleType

from skastw.errors import MissingDependencyError


def how_to_install(extra: str = "", *, mark: str = "") -> str:
    """Return the commands that install skastw, for messages and model cards.

    No package index has skastw yet: change this function when one has it.

    Parameters
    ----------
    extra : str, default=""
        Extra to install with it.
    mark : str, default=""
        Mark around each command, such as a backtick in Markdown.

    Examples
    --------
    >>> from skastw.core.optional import how_to_install
    >>> print(how_to_install("plot"))
    pip install '.[plot]' in a checkout of skastw, or pip install 'skastw[plot] @ file:///path/to/wheel.whl'
    """
    extras = f"[{extra}]" * bool(extra)
    checkout = f"pip install '.{extras}'" if extra else "pip install ."
    wheel = f"pip install 'skastw{extras} @ file:///path/to/wheel.whl'"
    return f"{mark}{checkout}{mark} in a checkout of skastw, or {mark}{wheel}{mark}"


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
        If the package is not installed. The message names the feature and the commands that install the extra.

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
            f"{how_to_install(extra)}."
        ) from error
