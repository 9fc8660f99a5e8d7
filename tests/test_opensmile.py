"""The feature sets of openSMILE are those of its package; without the package, the error names the extra."""

import sys

import numpy as np
import pytest

from helpers import needs_opensmile, white_noise
from skastw import ASTWFeaturizer
from skastw.errors import MissingDependencyError

SETS = {"egemaps": ("eGeMAPSv02", 88), "compare": ("ComParE_2016", 6373)}
TONE = (0.3 * np.sin(2 * np.pi * 200 * np.arange(8000) / 16000)).astype(np.float32)
CLIPS = [TONE, white_noise(16000), TONE[:1200]]


@needs_opensmile
@pytest.mark.parametrize("output", SETS)
def test_the_table_is_that_of_the_package(output, tmp_path):
    import opensmile

    feature_set, n_columns = SETS[output]
    smile = opensmile.Smile(feature_set, opensmile.FeatureLevel.Functionals)
    expected = [smile.process_signal(clip, 16000).to_numpy(np.float32)[0] for clip in CLIPS]

    featurizer = ASTWFeaturizer(output=output, n_jobs=2, cache_dir=tmp_path).fit(CLIPS)
    for _ in range(2):  # computed, and from the cache
        np.testing.assert_array_equal(featurizer.transform(CLIPS), expected)
    assert featurizer.get_feature_names_out().tolist() == smile.feature_names
    assert len(smile.feature_names) == n_columns


@needs_opensmile
@pytest.mark.parametrize("output", SETS)
def test_short_and_silent_and_loud_clips_have_finite_values(output):
    clips = [np.zeros(1), np.ones(500), np.zeros(16000), np.sign(TONE), 0.5 * np.ones(16000)]
    assert np.isfinite(ASTWFeaturizer(output=output).fit_transform([c.astype(np.float32) for c in clips])).all()


@needs_opensmile
def test_a_sample_at_full_scale_does_not_wrap_around():
    loud, nearly = (ASTWFeaturizer(output="egemaps").fit_transform([level / 0.3 * TONE]) for level in (1.0, 0.9999))
    np.testing.assert_allclose(loud, nearly, rtol=0.05, atol=0.1)


@pytest.mark.parametrize("output", SETS)
def test_without_the_package_the_error_names_the_extra(output, monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(MissingDependencyError, match=r"research only.*'opensmile'.*\[opensmile\]"):
        ASTWFeaturizer(output=output).fit(CLIPS)
