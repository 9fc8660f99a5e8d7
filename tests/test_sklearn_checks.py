"""scikit-learn's own checks, with nothing excluded and nothing expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.encoders import ASTWEncoder

# One batch an epoch and no dropout, so that a weight of 2 is a clip seen twice; float64, so that it is so to 1e-7.
TINY = {
    "encoder": ASTWEncoder(d_model=8, num_heads=1, num_layers=1, dropout=0.0),
    "augment": None,
    "epochs": 2,
    "batch_size": 64,
    "val_split": None,
    "precision": "float64",
}


@parametrize_with_checks(
    [ASTWClassifier(**TINY), ASTWRegressor(**TINY), ASTWFeaturizer(), ASTWFeaturizer(output="statistics")]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)
