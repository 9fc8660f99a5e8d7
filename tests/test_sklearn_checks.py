"""scikit-learn's own checks, with nothing excluded, and one that the pretrainer is expected to fail."""

import pytest
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWPretrainer, ASTWRegressor
from skastw.encoders import ASTWEncoder

# One batch an epoch and no dropout, so that a weight of 2 is a clip seen twice; float64, so that it is so to 1e-7.
TINY = {
    "encoder": ASTWEncoder(d_model=8, num_heads=1, num_layers=1, dropout=0.0, drop_frames=0.0),
    "augment": None,
    "normalization": "none",
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


def test_the_pretrainer_fails_only_the_check_of_repetitions():
    """A clip that occurs twice has other hidden frames each time, and a clip with a weight of 2 the same."""
    results = check_estimator(ASTWPretrainer(**TINY), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    assert failed == {"check_sample_weight_equivalence_on_dense_data"}


@pytest.mark.slow
@pytest.mark.parametrize("estimator_class", [ASTWClassifier, ASTWRegressor])
def test_with_the_defaults_only_the_checks_that_the_documentation_names_fail(estimator_class):
    encoder = ASTWEncoder(d_model=8, num_heads=1, num_layers=1)
    results = check_estimator(estimator_class(encoder=encoder, epochs=2), on_fail=None)
    failed = {result["check_name"] for result in results if result["status"] == "failed"}
    repetitions = "check_sample_weight_equivalence_on_dense_data"
    assert {repetitions} <= failed
    assert failed <= {repetitions, "check_methods_sample_order_invariance", "check_methods_subset_invariance"}
