"""Scores of predictions, for all clips, each class and each group, and their bootstrap intervals."""

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils import check_random_state

#: Names of the scores of all clips, and how texts call them.
SCORE_NAMES = {"accuracy": "accuracy", "macro_f1": "macro-F1", "uar": "UAR"}
SCORES = tuple(SCORE_NAMES)
#: Resamples in memory at a time.
_BLOCK = 100


def total_scores(y_true: np.ndarray, y_pred: np.ndarray) -> dict[str, float]:
    """Return accuracy, macro-F1 and unweighted average recall (UAR).

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_clips,)
        True labels and predicted labels.

    Returns
    -------
    dict of str to float
        The values of scikit-learn's ``accuracy_score``, ``f1_score(average="macro")`` and ``balanced_accuracy_score``.
        Macro-F1 is the mean over the classes in ``y_true`` or ``y_pred``, UAR the mean over the classes in ``y_true``.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.evaluation import total_scores
    >>> total_scores(np.array(["cat", "cat", "cat", "dog"]), np.array(["cat", "cat", "dog", "dog"]))["accuracy"]
    0.75
    """
    cells, _, counts = _cells(y_true, y_pred)
    return {name: float(value[0]) for name, value in _scores_of_counts(counts[None], cells).items()}


def class_scores(y_true: np.ndarray, y_pred: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return precision, recall, F1 and the number of clips of each class.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_clips,)
    labels : ndarray of shape (n_classes,)

    Returns
    -------
    DataFrame of shape (n_classes, 4)
        Columns ``precision``, ``recall``, ``f1``, ``support``; an undefined score is 0.
    """
    scores = precision_recall_fscore_support(y_true, y_pred, labels=labels, zero_division=0.0)
    columns = dict(zip(("precision", "recall", "f1", "support"), scores, strict=True))
    return pd.DataFrame(columns, index=pd.Index(labels, name="label"))


def part_scores(y_true: np.ndarray, y_pred: np.ndarray, parts: np.ndarray, name: str) -> pd.DataFrame:
    """Return the scores of each part of the clips, such as a speaker or a fold.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_clips,)
    parts : ndarray of shape (n_clips,)
        Part of each clip.
    name : str
        Name of the index.

    Returns
    -------
    DataFrame of shape (n_parts, 4)
        Columns ``n_clips``, ``accuracy``, ``macro_f1``, ``uar``.
    """
    rows = {}
    for part in pd.unique(np.sort(parts)):
        own = parts == part
        rows[part] = {"n_clips": int(own.sum()), **total_scores(y_true[own], y_pred[own])}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(name)


def score_intervals(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_bootstrap: int = 2000,
    random_state: Any = 0,
) -> dict[str, tuple[float, float]]:
    """Return the bootstrap interval of 95 % of each score.

    Each resample draws n_clips clips with replacement. With groups, it draws n_groups whole groups instead, because
    the predictions for one speaker or recording depend on each other.

    Parameters
    ----------
    y_true, y_pred : ndarray of shape (n_clips,)
    groups : ndarray of shape (n_clips,), optional
    n_bootstrap : int, default=2000
        Number of resamples.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    dict of str to (float, float)
        Empty if ``n_bootstrap`` is 0 or all clips are of one group.

    References
    ----------
    Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (percentile intervals); Field and Welsh,
    "Bootstrapping clustered data", 2007 (whole groups).

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.evaluation import score_intervals
    >>> truth = np.repeat(["cat", "dog"], 50)
    >>> guess = np.where(np.arange(100) % 5, truth, "dog")
    >>> low, high = score_intervals(truth, guess)["accuracy"]
    >>> round(low, 2), round(high, 2)
    (0.84, 0.96)
    """
    resampled = resampled_scores(y_true, y_pred, groups=groups, n_bootstrap=n_bootstrap, random_state=random_state)
    return {name: interval_of(values) for name, values in resampled.items()}


def interval_of(values: np.ndarray) -> tuple[float, float]:
    """Return the interval that contains 95 % of resampled values, without 2.5 % at each end."""
    low, high = np.percentile(values, [2.5, 97.5]).tolist()
    return low, high


def resampled_scores(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    n_bootstrap: int = 2000,
    random_state: Any = 0,
) -> dict[str, np.ndarray]:
    """Return the scores of bootstrap resamples.

    Parameters
    ----------
    y_true, y_pred, groups, n_bootstrap, random_state
        See :func:`score_intervals`. With groups, calls with the same groups and the same integer ``random_state`` draw
        the same resamples, so that the scores of two models can be compared resample by resample.

    Returns
    -------
    dict of str to ndarray of shape (n_bootstrap,)
        Empty if ``n_bootstrap`` is 0 or all clips are of one group.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.analysis.scores import resampled_scores
    >>> truth, speakers = np.array(["cat", "dog"] * 4), np.repeat(["ann", "bob", "cid", "dee"], 2)
    >>> resampled_scores(truth, truth, groups=speakers, n_bootstrap=3)["uar"]
    array([1., 1., 1.])
    """
    rng = check_random_state(random_state)
    cells, cell, counts = _cells(y_true, y_pred)
    per_group = None
    if groups is not None:  # the count of each pair of labels in each group, (n_groups, n_cells)
        group = np.unique(groups, return_inverse=True)[1]
        per_group = (_one_hot(group, group.max() + 1).T @ _one_hot(cell, len(counts))).tocsr()
    if not n_bootstrap or (per_group is not None and per_group.shape[0] < 2):
        return {}

    blocks = []
    for start in range(0, n_bootstrap, _BLOCK):
        size = min(_BLOCK, n_bootstrap - start)
        if per_group is None:  # only the number of clips with each pair of labels matters
            resampled = rng.multinomial(len(y_true), counts / counts.sum(), size=size)
        else:
            n_groups = per_group.shape[0]
            resampled = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=size) @ per_group
        blocks.append(_scores_of_counts(resampled, cells))

    return {name: np.concatenate([scores[name] for scores in blocks]) for name in SCORES}


def _cells(y_true: np.ndarray, y_pred: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct pairs of labels, as positions (2, n_cells), the pair of each clip, and the count of each."""
    pairs = np.unique(np.concatenate([y_true, y_pred]), return_inverse=True)[1].reshape(2, -1)
    cells, cell, counts = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    return cells, cell.reshape(-1), counts


def _scores_of_counts(counts: np.ndarray, cells: np.ndarray) -> dict[str, np.ndarray]:
    """Return the scores of each row of ``counts``, an array of shape (n_rows, n_cells) with counts of label pairs."""
    true, predicted = (_one_hot(side, cells.max() + 1) for side in cells)  # (n_cells, n_classes)
    correct = counts @ true.multiply(predicted)
    n_true, n_predicted = counts @ true, counts @ predicted
    with np.errstate(invalid="ignore"):  # 0 / 0 of an absent class is NaN, which nanmean ignores
        recall, f1 = correct / n_true, 2 * correct / (n_true + n_predicted)

    return {
        "accuracy": correct.sum(axis=1) / counts.sum(axis=1),
        "macro_f1": np.nanmean(f1, axis=1),
        "uar": np.nanmean(recall, axis=1),
    }


def _one_hot(positions: np.ndarray, n: int) -> Any:
    """Return the sparse indicator of positions below ``n``, shape (len(positions), n)."""
    return OneHotEncoder(categories=[np.arange(n)], dtype=np.int64).fit_transform(positions[:, None])
