"""Tests of the difference between two models whose predictions are for the same clips."""

from collections.abc import Sequence

import numpy as np


def corrected_t_test(differences: Sequence[float] | np.ndarray, ratio: float) -> tuple[float, float]:
    """Return the corrected resampled t-test of differences between two models, one for each split.

    The training clips of different splits overlap, so the differences depend on each other, and the usual t-test finds
    differences that do not exist. The correction increases the variance by the share of test clips.

    Parameters
    ----------
    differences : array-like of shape (n_splits,)
        Difference of the scores in each split.
    ratio : float
        Number of test clips of a split, divided by the number of its training clips.

    Returns
    -------
    t, p : float
        Statistic, and two-sided p-value with n_splits - 1 degrees of freedom. Both are NaN for fewer than two splits,
        and for equal differences other than 0, whose variance cannot be estimated.

    References
    ----------
    Nadeau and Bengio, "Inference for the generalization error", 2003.

    Examples
    --------
    >>> from skastw.analysis.significance import corrected_t_test
    >>> t, p = corrected_t_test([0.02, 0.04, 0.06], ratio=0.5)
    >>> round(t, 3), round(p, 3)
    (2.191, 0.16)
    """
    from scipy import stats

    values = np.asarray(differences, dtype=float)
    n = len(values)
    if n > 1 and np.allclose(values, 0, atol=1e-12):
        return 0.0, 1.0
    if n < 2 or np.allclose(values, values[0], rtol=0, atol=1e-12):
        return float("nan"), float("nan")

    t = float(values.mean() / np.sqrt((1 / n + ratio) * values.var(ddof=1)))
    return t, float(2 * stats.t.sf(abs(t), n - 1))


def exact_mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> float:
    """Return the two-sided p-value of the exact McNemar test.

    Of the clips that only one of two models recognises, half should belong to each model if both are equally good.

    Parameters
    ----------
    first_right, second_right : ndarray of shape (n_clips,), bool
        Which clips each model recognises.

    References
    ----------
    McNemar, "Note on the sampling error of the difference between correlated proportions or percentages", 1947.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.significance import exact_mcnemar
    >>> round(exact_mcnemar(np.array([True] * 6), np.array([False] * 6)), 5)
    0.03125
    """
    from scipy import stats

    only_first, only_second = np.sum(first_right & ~second_right), np.sum(second_right & ~first_right)
    n = int(only_first + only_second)
    return float(stats.binomtest(int(only_first), n).pvalue) if n else 1.0


def bootstrap_p(differences: np.ndarray) -> float:
    """Return the two-sided p-value of a difference from its values in bootstrap resamples.

    Parameters
    ----------
    differences : ndarray of shape (n_bootstrap,)
        Difference of the scores of two models in each resample; both models get the same resamples.

    Returns
    -------
    float
        Twice the share of resamples in which the difference is zero or has the less frequent sign. NaN without
        resamples.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.significance import bootstrap_p
    >>> bootstrap_p(np.zeros(99)), bootstrap_p(np.ones(99))
    (1.0, 0.02)
    """
    if not len(differences):
        return float("nan")
    rarer = min(np.sum(differences <= 0), np.sum(differences >= 0))
    return float(min(1.0, 2 * (rarer + 1) / (len(differences) + 1)))


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values that are corrected for several comparisons by the method of Holm.

    Parameters
    ----------
    p_values : array-like of shape (n,)
        NaN for a comparison that was not possible; it stays NaN and does not count.

    Returns
    -------
    ndarray of shape (n,)

    References
    ----------
    Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Examples
    --------
    >>> from skastw.analysis.significance import holm
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    corrected = np.array(p_values, dtype=float)
    order = np.argsort(corrected)[: int(np.isfinite(corrected).sum())]  # NaN comes last
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(corrected[order] * factors))
    return corrected
