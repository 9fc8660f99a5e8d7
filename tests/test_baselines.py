"""Named classical pipelines take clips, and work in cross-validation and in evaluations."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_validate

from helpers import can_be_built
from skastw.estimators.baselines import baseline_names, make_baseline
from skastw.evaluation import evaluate


def here(name):
    """Return whether the package that a pipeline needs is installed."""
    featurizer = make_baseline(name)[0]
    return featurizer.output == "statistics" or can_be_built(featurizer.resolve_features())


NAMES = [name for name in baseline_names() if here(name)]


def test_every_output_with_columns_has_a_pipeline():
    assert {name.partition("-")[0] for name in baseline_names()} == {"statistics", "descriptors", "egemaps", "compare"}


@pytest.mark.parametrize("name", NAMES)
def test_a_pipeline_works_in_cross_validation_and_in_evaluations(name, tone_clips, tmp_path):
    clips, y = tone_clips
    groups = np.repeat(np.arange(12), 2)
    pipeline = make_baseline(name, cache_dir=tmp_path, n_jobs=2, random_state=0)
    scores = cross_validate(pipeline, clips, y, groups=groups, cv=GroupKFold(3))["test_score"]
    assert scores.mean() > 0.6  # chance is 1/3

    fitted = clone(pipeline).fit(clips[:16], y[:16])
    assert evaluate(fitted, clips[16:], y[16:], groups=groups[16:], n_bootstrap=10).accuracy > 0.5


def test_the_cache_changes_no_prediction(tone_clips, tmp_path):
    clips, y = tone_clips
    predictions = [
        make_baseline("statistics-svm", cache_dir=folder).fit(clips[:16], y[:16]).decision_function(clips[16:])
        for folder in (None, tmp_path, tmp_path)
    ]
    for other in predictions[1:]:
        np.testing.assert_array_equal(other, predictions[0])


def test_a_made_pipeline_is_new():
    first = make_baseline("statistics-svm").set_params(classifier__C=1.0)
    assert make_baseline("statistics-svm")["classifier"].C == 10.0 != first["classifier"].C


def test_an_unknown_name_is_refused_with_the_one_that_was_meant():
    with pytest.raises(ValueError, match=r"name='descriptor-svm'.*did you mean 'descriptors-svm'"):
        make_baseline("descriptor-svm")
