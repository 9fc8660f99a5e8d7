"""The estimators: classifier, regressor, featurizer and pretrainer, behind the interface of scikit-learn."""

from skastw.estimators.auto import ASTWAutoClassifier
from skastw.estimators.classifier import ASTWClassifier
from skastw.estimators.featurizer import ASTWFeaturizer
from skastw.estimators.pretrainer import ASTWPretrainer
from skastw.estimators.regressor import ASTWRegressor

__all__ = ["ASTWAutoClassifier", "ASTWClassifier", "ASTWFeaturizer", "ASTWPretrainer", "ASTWRegressor"]
