"""skastw (Audio Shapes The World): compact audio classifiers trained from scratch, the scikit-learn way.

>>> from skastw import ASTWClassifier
>>> ASTWClassifier(epochs=8)
ASTWClassifier(epochs=8)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from skastw.core.version import __version__

if TYPE_CHECKING:
    from skastw.estimators import ASTWAutoClassifier, ASTWClassifier, ASTWFeaturizer, ASTWPretrainer, ASTWRegressor

__all__ = ["ASTWAutoClassifier", "ASTWClassifier", "ASTWFeaturizer", "ASTWPretrainer", "ASTWRegressor", "__version__"]


def __getattr__(name: str) -> Any:
    if name in __all__:  # imported at first use, so that ``skastw --help`` does not wait for torch
        return getattr(importlib.import_module("skastw.estimators"), name)
    raise AttributeError(f"module 'skastw' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
