"""The estimators: classifier, regressor and featurizer, behind the interface of scikit-learn."""

from skastw.estimators.auto import ASTWAutoClassifier
from skastw.estimators.classifier import ASTWClassifier
from skastw.estimators.featurizer import ASTWFeaturizer
from skastw.estimators.regressor import ASTWRegressor

__all__ = ["ASTWAutoClassifier", "ASTWClassifier", "ASTWFeaturizer", "ASTWRegressor"]
