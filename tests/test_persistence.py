"""Copies of fitted estimators, and parallel work: the same results, no shared state."""

import copy
import os
import pickle
import subprocess
import sys

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from skastw import ASTWClassifier, ASTWFeaturizer, ASTWRegressor
from skastw.datasets import load_spoken_digits, make_tones
from skastw.encoders import ASTWEncoder

TINY = ASTWEncoder(d_model=16, num_heads=2, num_layers=1)
CLIPS, Y = make_tones(n_clips=24, random_state=0)


def through_joblib(estimator, folder):
    joblib.dump(estimator, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


COPIES = {
    "pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
    "joblib": through_joblib,
    "cloudpickle": lambda estimator, folder: pickle.loads(cloudpickle.dumps(estimator)),
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("cls", [ASTWClassifier, ASTWRegressor])
def test_a_copy_predicts_the_same(cls, way, tmp_path):
    fitted = cls(encoder=TINY, epochs=2).fit(CLIPS, Y)
    twin = COPIES[way](fitted, tmp_path)
    np.testing.assert_array_equal(twin.predict(CLIPS), fitted.predict(CLIPS))
    np.testing.assert_array_equal(twin.transform(CLIPS), fitted.transform(CLIPS))
    twin.fit(CLIPS, 2 - Y)  # training the copy leaves the original alone
    assert (twin.transform(CLIPS) != fitted.transform(CLIPS)).any()
    assert twin.history_ is not fitted.history_


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_of_the_featurizer_and_of_what_is_not_fitted(way, tmp_path):
    featurizer = COPIES[way](ASTWFeaturizer(output="statistics").fit(CLIPS), tmp_path)
    assert featurizer.transform(CLIPS).shape == (24, 300)
    fresh = COPIES[way](ASTWClassifier(encoder=TINY, epochs=1), tmp_path)
    assert fresh.fit(CLIPS, Y).n_epochs_ == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_pickle_from_a_gpu_holds_cpu_weights():
    fitted = ASTWClassifier(encoder=TINY, epochs=1, device="cuda").fit(CLIPS, Y)
    twin = pickle.loads(pickle.dumps(fitted))
    assert {p.device.type for p in twin.model_.parameters()} == {"cpu"}
    assert {p.device.type for p in fitted.model_.parameters()} == {"cuda"}


def test_a_clone_is_unfitted_and_shares_nothing():
    fitted = ASTWClassifier(encoder=TINY, epochs=1).fit(CLIPS, Y)
    twin = clone(fitted)
    assert not hasattr(twin, "model_")
    twin.set_params(encoder__d_model=32)
    assert fitted.encoder.d_model == TINY.d_model == 16


def test_parallel_searches_give_equal_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = load_spoken_digits()
    chosen = np.isin(digits.target, ["one", "six"])
    X, y = np.array(digits.data)[chosen][::2], digits.target[chosen][::2]
    results = []
    for n_jobs in (1, 2):
        with torch.random.fork_rng():
            search = GridSearchCV(
                ASTWClassifier(encoder=TINY, epochs=2, n_jobs=2),
                {"encoder__d_model": [8, 16]},
                cv=StratifiedKFold(2),
                scoring="neg_log_loss",
                n_jobs=n_jobs,
            ).fit(X, y)
        results.append(search)
    one, two = (search.cv_results_["mean_test_score"] for search in results)
    np.testing.assert_allclose(one, two, rtol=1e-3)  # workers may use another number of threads
    assert os.listdir(tmp_path) == []


def test_workers_do_not_oversubscribe_the_cores():
    with joblib.parallel_config(backend="loky"):
        threads = joblib.Parallel(n_jobs=2)(joblib.delayed(_threads_in_a_fit)() for _ in range(2))
    assert all(n <= max(1, os.cpu_count() // 2) for n in threads)


def _threads_in_a_fit():
    ASTWClassifier(encoder=TINY, epochs=1).fit(CLIPS, Y)
    return torch.get_num_threads()


def test_equal_seeds_give_equal_models_in_threads():
    def work():
        return ASTWFeaturizer(output="statistics").fit_transform(CLIPS)

    first, second = joblib.Parallel(n_jobs=2, prefer="threads")(joblib.delayed(work)() for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_features_are_computed_once_for_each_fold_with_memory(tmp_path):
    piped = make_pipeline(
        ASTWFeaturizer(), ASTWClassifier(features="precomputed", encoder=TINY, epochs=1), memory=str(tmp_path)
    )
    search = GridSearchCV(piped, {"astwclassifier__muon_lr": [0.01, 0.02]}, cv=2, refit=False)
    search.fit(CLIPS, Y)
    stored = [folder for folder, _, files in os.walk(tmp_path) if "output.pkl" in files]
    assert len(stored) == 2  # two folds, not two folds of two candidates


def test_a_fitted_estimator_loads_in_a_new_process(tmp_path):
    fitted = ASTWClassifier(encoder=TINY, epochs=1).fit(CLIPS, Y)
    joblib.dump((fitted, CLIPS, fitted.predict_proba(CLIPS)), tmp_path / "model.joblib")
    code = (
        "import joblib, numpy as np, sys\n"
        "model, clips, expected = joblib.load(sys.argv[1])\n"
        "np.testing.assert_allclose(model.predict_proba(clips), expected, atol=1e-5)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.joblib")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
