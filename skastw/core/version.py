"""The version of this package and of the libraries that it needs."""

__version__ = "0.1.0"


def library_versions() -> dict[str, str]:
    """Return the versions of the packages that affect the result of a training run, by name.

    Examples
    --------
    >>> from skastw.core.version import library_versions
    >>> sorted(library_versions())
    ['numpy', 'python', 'scikit-learn', 'skastw', 'torch']
    """
    import platform

    import numpy as np
    import sklearn
    import torch

    return {
        "skastw": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
