"""Recipes on the data sets that people have: few clips, few or many classes, very short and very long clips."""

import numpy as np
import pytest

from skastw import ASTWClassifier
from skastw.recipes import load_recipe, recipe_names

RATE = 16000


def clips_of(durations, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=int(RATE * seconds)).astype(np.float32) * 0.1 for seconds in durations]


def quick(clf):
    """Return a recipe's classifier with one short pass, on networks small enough for a test."""
    sizes = {"encoder__width": 8, "encoder__d_model": 32, "encoder__num_heads": 2, "encoder__num_layers": 1}
    known = clf.get_params()
    clf.set_params(**{name: value for name, value in sizes.items() if name in known})
    return clf.set_params(epochs=1, min_steps=2, precision="float32")


CASES = {
    "twenty clips": ([1.0] * 20, np.arange(20) % 4),
    "two classes of five clips": ([1.0] * 10, np.arange(10) % 2),
    "clips of 0.2 s": ([0.2] * 8, np.arange(8) % 2),
    "clips of 60 s": ([60.0] * 4, np.arange(4) % 2),
    "from 0.01 to 40 s": ([0.01, 0.2, 1.0, 5.0, 40.0, 0.05], np.arange(6) % 2),
    "a hundred classes": ([0.3] * 200, np.arange(200) % 100),
    "one clip a class": ([0.5] * 3, np.arange(3)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_takes_small_and_odd_data(recipe, case, from_recipe):
    durations, y = CASES[case]
    clips = clips_of(durations)
    clf = quick(from_recipe(recipe)).fit(clips, y)
    probabilities = clf.predict_proba(clips)
    assert probabilities.shape == (len(clips), len(np.unique(y)))
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("recipe", recipe_names())
def test_few_clips_get_enough_steps(recipe):
    params = load_recipe(recipe).params
    if "min_steps" not in params:
        pytest.skip("the recipe trains by epochs")
    brief = {"features": "log_mel", "encoder": "resnet", "encoder__width": 4, "min_steps": 30, "epochs": 1}
    clf = ASTWClassifier.from_recipe(recipe).set_params(**brief)
    clf.fit(clips_of([0.2] * 10), np.arange(10) % 2)
    assert clf.n_epochs_ == 30
