"""The estimators: classifier, regressor and featurizer, behind the interface of scikit-learn."""

from skastw.estimators.classifier import ASTWClassifier
from skastw.estimators.featurizer import ASTWFeaturizer
from skastw.estimators.regressor import ASTWRegressor

__all__ = ["ASTWClassifier", "ASTWFeaturizer", "ASTWRegressor"]
