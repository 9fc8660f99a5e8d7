"""skastw (Audio Shapes The World): compact audio classifiers trained from scratch, the scikit-learn way.

>>> from skastw import ASTWClassifier
>>> ASTWClassifier(epochs=8)
ASTWClassifier(epochs=8)
"""

from __future__ import annotations

from skastw._version import __version__
from skastw.classifier import ASTWClassifier
from skastw.featurizer import ASTWFeaturizer

__all__ = ["ASTWClassifier", "ASTWFeaturizer", "__version__"]
