"""Groups, weights and validation clips reach ``fit`` through scikit-learn's tools, with routing and without."""

import numpy as np
import pytest
import sklearn
from sklearn.model_selection import GridSearchCV, GroupKFold, StratifiedGroupKFold, cross_validate
from sklearn.pipeline import Pipeline

from skastw import ASTWClassifier, ASTWFeaturizer
from skastw.datasets import make_tones
from skastw.encoders import ASTWEncoder

CLIPS, Y = make_tones(n_clips=36, random_state=0)
SPEAKERS = np.arange(36) // 3 % 6
SEEN = []


class Recorder(ASTWClassifier):
    """Notes what its ``fit`` received."""

    def fit(self, X, y, *, sample_weight=None, groups=None, X_val=None, y_val=None, sample_weight_val=None):
        SEEN.append({"groups": groups, "sample_weight": sample_weight, "X_val": X_val, "y_val": y_val, "n": len(X)})
        return super().fit(X, y, sample_weight=sample_weight, groups=groups, X_val=X_val, y_val=y_val)


def recorder(**params):
    SEEN.clear()
    encoder = ASTWEncoder(d_model=8, num_heads=1, num_layers=1)
    return Recorder(**{"encoder": encoder, "epochs": 1, **params})


@pytest.fixture(params=[True, False], ids=["routing", "no routing"])
def routing(request):
    with sklearn.config_context(enable_metadata_routing=request.param):
        yield request.param


def test_one_groups_array_serves_the_outer_folds_and_the_inner_split(routing):
    arguments = {"params": {"groups": SPEAKERS}} if routing else {"groups": SPEAKERS, "params": {"groups": SPEAKERS}}
    result = cross_validate(
        recorder(), CLIPS, Y, cv=StratifiedGroupKFold(3), return_estimator=True, return_indices=True, **arguments
    )
    for seen, train, test in zip(SEEN, result["indices"]["train"], result["indices"]["test"], strict=True):
        np.testing.assert_array_equal(seen["groups"], SPEAKERS[train])
        assert not set(SPEAKERS[train]) & set(SPEAKERS[test])
    assert all(clf.trained_.record.split == "whole groups held out" for clf in result["estimator"])


def test_groups_reach_the_folds_alone_without_routing():
    with sklearn.config_context(enable_metadata_routing=False):
        cross_validate(recorder(), CLIPS, Y, groups=SPEAKERS, cv=GroupKFold(2))
    assert [seen["groups"] for seen in SEEN] == [None, None]


def test_groups_and_weights_in_a_grid_search(routing):
    weights = np.linspace(1, 2, 36)
    clf = recorder()
    if routing:
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
    search = GridSearchCV(clf, {"epochs": [1]}, cv=StratifiedGroupKFold(2), refit=True)
    search.fit(CLIPS, Y, groups=SPEAKERS, sample_weight=weights)
    assert [seen["n"] for seen in SEEN] == [18, 18, 36]
    assert all(seen["sample_weight"].shape == (seen["n"],) for seen in SEEN)
    np.testing.assert_array_equal(SEEN[-1]["sample_weight"], weights)
    if routing:
        np.testing.assert_array_equal(SEEN[-1]["groups"], SPEAKERS)


def test_groups_and_validation_clips_through_a_pipeline():
    with sklearn.config_context(enable_metadata_routing=True):
        steps = [("frames", ASTWFeaturizer()), ("clf", recorder(features="precomputed"))]
        piped = Pipeline(steps, transform_input=["X_val"])
        piped.fit(CLIPS[:24], Y[:24], X_val=CLIPS[24:], y_val=Y[24:])
        (seen,) = SEEN
        assert [item.shape[1] for item in seen["X_val"]] == [80] * 12  # frames, not clips
        assert piped[-1].trained_.record.n_validation == 12

        SEEN.clear()
        piped.fit(CLIPS, Y, groups=SPEAKERS)
        np.testing.assert_array_equal(SEEN[0]["groups"], SPEAKERS)


def test_validation_arguments_through_a_pipeline_without_routing():
    with sklearn.config_context(enable_metadata_routing=False):
        piped = Pipeline([("frames", ASTWFeaturizer()), ("clf", recorder(features="precomputed"))])
        piped.fit(CLIPS, Y, clf__groups=SPEAKERS)
        assert piped[-1].trained_.record.split == "whole groups held out"


def test_sample_weight_must_be_asked_for_with_routing():
    with sklearn.config_context(enable_metadata_routing=True), pytest.raises(Exception, match="sample_weight"):
        cross_validate(recorder(), CLIPS, Y, params={"sample_weight": np.ones(36)})
