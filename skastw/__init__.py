"""skastw (Audio Shapes The World): compact audio classifiers trained from scratch, the scikit-learn way.

>>> from skastw import ASTWClassifier
>>> ASTWClassifier(epochs=8)
ASTWClassifier(epochs=8)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from skastw._version import __version__

if TYPE_CHECKING:
    from skastw.classifier import ASTWClassifier
    from skastw.featurizer import ASTWFeaturizer
    from skastw.regressor import ASTWRegressor

__all__ = ["ASTWClassifier", "ASTWFeaturizer", "ASTWRegressor", "__version__"]

# Imported at first use, so that ``skastw --help`` does not wait for torch.
_HOMES = {
    "ASTWClassifier": "skastw.classifier",
    "ASTWFeaturizer": "skastw.featurizer",
    "ASTWRegressor": "skastw.regressor",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'skastw' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
