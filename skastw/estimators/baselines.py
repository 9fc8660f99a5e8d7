"""Named classical pipelines, from clips to labels, for comparisons with networks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skastw.core.text import unknown_value
from skastw.estimators.featurizer import ASTWFeaturizer

__all__ = ["baseline_names", "make_baseline"]


@dataclass(frozen=True)
class _Baseline:
    """An output of :class:`ASTWFeaturizer`, and the classifier behind it."""

    output: str
    classifier: Any


#: Their regularisation was chosen on protocols that are not reported; see the page Benchmarks.
_BASELINES = {
    "statistics-svm": _Baseline("statistics", SVC(C=10.0)),
    "descriptors-svm": _Baseline("descriptors", SVC(kernel="linear", C=0.003)),
    "descriptors-logistic": _Baseline("descriptors", LogisticRegression(C=0.03, max_iter=1000)),
    "egemaps-svm": _Baseline("egemaps", SVC(kernel="linear", C=0.1)),
    "compare-svm": _Baseline("compare", SVC(kernel="linear", C=0.001)),
}


def baseline_names() -> list[str]:
    """Return the names of the classical pipelines that :func:`make_baseline` makes.

    Examples
    --------
    >>> from skastw.estimators.baselines import baseline_names
    >>> baseline_names()
    ['statistics-svm', 'descriptors-svm', 'descriptors-logistic', 'egemaps-svm', 'compare-svm']
    """
    return list(_BASELINES)


def make_baseline(
    name: str,
    *,
    sample_rate: int = 16000,
    cache_dir: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Pipeline:
    """Return a classical classifier of clips: a table of the clips, standardised columns, and a linear or kernel model.

    Parameters
    ----------
    name : str
        One of :func:`baseline_names`. The first part is the ``output`` of :class:`~skastw.ASTWFeaturizer`, the second
        a support vector machine or logistic regression. ``"egemaps"`` and ``"compare"`` need the extra ``opensmile``,
        whose licence is for research only.
    sample_rate : int, default=16000
        Samples per second (Hz) to which clips are resampled.
    cache_dir, n_jobs
        Parameters of :class:`~skastw.ASTWFeaturizer`. With a folder, cross-validation computes each row once.
    random_state : int, RandomState or None, default=None
        Seed of the classifier. The ones of today have the same result with any seed.

    Returns
    -------
    Pipeline
        With the steps ``featurizer``, ``scaler`` and ``classifier``.

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> from skastw.datasets import make_tones
    >>> from skastw.estimators.baselines import make_baseline
    >>> clips, y = make_tones(n_clips=24, n_classes=2, random_state=0)
    >>> make_baseline("descriptors-svm").fit(clips[:16], y[:16]).score(clips[16:], y[16:])
    1.0
    """
    if name not in _BASELINES:
        raise ValueError(unknown_value("name", name, _BASELINES))
    baseline = _BASELINES[name]
    featurizer = ASTWFeaturizer(output=baseline.output, sample_rate=sample_rate, cache_dir=cache_dir, n_jobs=n_jobs)
    classifier = clone(baseline.classifier).set_params(random_state=random_state)
    return Pipeline([("featurizer", featurizer), ("scaler", StandardScaler()), ("classifier", classifier)])
