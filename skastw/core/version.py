"""The release, and what it runs on."""

from __future__ import annotations

__all__ = ["__version__", "library_versions"]

__version__ = "0.1.0"


def library_versions() -> dict[str, str]:
    """Return the versions that decide what a training run gives, by name.

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
