"""The selection of a model from several candidates, by their out-of-fold predictions, within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from msgspec import structs

from skastw.analysis.comparison import Splits, fit_with_groups, take_rows, with_params
from skastw.analysis.scores import total_scores
from skastw.core.progress import ProgressBar, ProgressLines
from skastw.network.trained import SelectionRow

#: Shares of the side vector that are tried.
SHARES = (0.25, 0.5)
#: Smallest probability of a class in the log loss and in mixtures.
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Candidate:
    """A model that may be selected.

    Attributes
    ----------
    name : str
    model : estimator
        With ``fit``, ``predict_proba`` and ``classes_``.
    cost : float
        Expected time of ``fit`` in multiples of the time of a candidate of cost 1; 0 if it is of no importance.
    """

    name: str
    model: Any
    cost: float = 1.0


@dataclass(frozen=True)
class Mixture:
    """Two candidates whose log-probabilities are averaged, or one.

    Attributes
    ----------
    names : tuple of str
        One name, or those of a network and of the model of its side vector.
    share : float
        Share of the second one.
    """

    names: tuple[str, ...]
    share: float = 0.0

    def __str__(self) -> str:
        return " + ".join(self.names) + (f" (share {self.share:g})" if self.share else "")


@dataclass
class Selection:
    """The result of a selection.

    Attributes
    ----------
    best : Mixture
    rows : list of SelectionRow
        One for each candidate and mixture, the best first; those without scores last.
    """

    best: Mixture
    rows: list[SelectionRow] = field(default_factory=list)


def select(
    candidates: Sequence[Candidate],
    X: Any,
    y: np.ndarray,
    *,
    splits: Splits,
    groups: np.ndarray | None = None,
    mixed: Sequence[tuple[str, str]] = (),
    score: str = "uar",
    budget: float | None = None,
    seed: int = 0,
    verbose: int = 0,
) -> Selection:
    """Train the candidates on each split, and select the mixture of two, or the single one, with the best score.

    A single candidate is selected if its score is more than one standard error above that of the best mixture.

    The first candidate is always trained. Another one is left out if its expected time, with a last fit on all clips,
    exceeds the rest of the budget. The expected time comes from its cost and the time of earlier candidates, and after
    its first split from the time of this split.

    Parameters
    ----------
    candidates : sequence of Candidate
        In the order in which they are trained.
    X, y, groups
        Clips, labels and, optionally, groups.
    splits : dict
        See :func:`skastw.analysis.comparison.make_splits`.
    mixed : sequence of pairs of str
        Names of candidates whose mixtures are candidates too; each with all :data:`SHARES`.
    score : {"uar", "accuracy", "macro_f1"}
        Score of the out-of-fold predictions, together for all splits. Of equal scores, the lower log loss wins.
    budget : float, optional
        Seconds for all folds and the last fit; None is no limit.
    seed : int
        ``random_state`` of the candidates.
    verbose : int
        1 shows a progress bar, 2 writes lines.

    Returns
    -------
    Selection

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skastw.analysis.comparison import make_splits
    >>> from skastw.analysis.selection import Candidate, select
    >>> X, y = np.arange(20.0)[:, None], np.repeat(["low", "high"], 10)
    >>> candidates = [Candidate("guess", DummyClassifier()), Candidate("near", KNeighborsClassifier(1))]
    >>> str(select(candidates, X, y, splits=make_splits(y, cv=2)).best)
    'near'
    """
    began, classes = time.perf_counter(), np.unique(y)
    tested = np.sort(np.concatenate([test for _, test in splits.values()]))
    predictions: dict[str, np.ndarray] = {}
    rows: list[SelectionRow] = []
    pace, last_fit = 0.0, 0.0  # seconds for a cost of 1, and for the longest fit on all clips

    show = ProgressBar if verbose == 1 else ProgressLines
    with show(total=len(candidates) * len(splits), desc="select", unit="fold", disable=not verbose) as bar:
        for candidate in candidates:
            started, seconds = time.perf_counter(), 0.0
            left = np.inf if budget is None else budget - (started - began) - last_fit
            expected = candidate.cost * pace * (1 + sum(len(train) for train, _ in splits.values()) / len(y))
            probabilities = np.zeros((len(y), len(classes)))
            complete = not predictions or expected <= left

            for number, (train, test) in enumerate(splits.values()):
                if not complete:
                    break
                model = with_params(candidate.model, random_state=seed)
                fit_with_groups(model, *(take_rows(values, train) for values in (X, y, groups)))
                columns = np.searchsorted(classes, model.classes_)
                probabilities[np.ix_(test, columns)] = model.predict_proba(take_rows(X, test))
                bar.update(1)

                seconds = time.perf_counter() - started
                fit_seconds = seconds / (number + 1) * len(y) / len(train)
                complete = not predictions or seconds / (number + 1) * len(splits) + fit_seconds <= left
            if not complete:
                status = f"left out: it would exceed the budget of {budget:g} s"
                rows.append(SelectionRow(model=candidate.name, seconds=round(seconds, 3), status=status))
                continue

            predictions[candidate.name] = probabilities
            pace = max(pace, fit_seconds / candidate.cost) if candidate.cost else pace
            last_fit = max(last_fit, fit_seconds)
            rows.append(_row(Mixture((candidate.name,)), predictions, y, tested, classes, seconds))

    single = [row for row in rows if row.status == "complete"]
    mixtures = [Mixture(pair, share) for pair, share in product(mixed, SHARES) if predictions.keys() >= set(pair)]
    times = {row.model: row.seconds for row in rows}
    scored = {row.model: (Mixture((row.model,)), row) for row in single}
    for mixture in mixtures:
        seconds = sum(times[name] for name in mixture.names)
        scored[str(mixture)] = mixture, _row(mixture, predictions, y, tested, classes, seconds)

    ranked = sorted(scored.values(), key=lambda item: (-getattr(item[1], score), item[1].log_loss))
    chosen = _preferred([(mixture, getattr(row, score)) for mixture, row in ranked], len(tested))
    others = [row for row in rows if row.status != "complete"]
    in_order = [structs.replace(row, selected=mixture == chosen) for mixture, row in ranked]
    return Selection(chosen, [*in_order, *others])


def _preferred(ranked: Sequence[tuple[Mixture, float]], n_tested: int) -> Mixture:
    """Return the best mixture of two candidates, unless the best candidate is ahead by more than a standard error.

    ``ranked`` has each mixture and its score, the best first. The standard error is that of a share of ``n_tested``
    clips. A mixture of a network and a classical model loses little on data that suit one of them. The inner splits,
    with fewer groups than the last fit, cannot tell single models apart that are close.
    """
    first, best_score = ranked[0]
    mixture, score = next(((m, s) for m, s in ranked if len(m.names) > 1), (first, best_score))
    error = np.sqrt(best_score * (1 - best_score) / n_tested)
    return mixture if best_score - score <= error else first


def _row(
    mixture: Mixture,
    predictions: Mapping[str, np.ndarray],
    y: np.ndarray,
    tested: np.ndarray,
    classes: np.ndarray,
    seconds: float,
) -> SelectionRow:
    """Return the scores of a mixture on the clips ``tested``."""
    logs = [np.log(np.maximum(predictions[name][tested], _SMALLEST)) for name in mixture.names]
    outputs = logs[0] if len(logs) == 1 else (1 - mixture.share) * logs[0] + mixture.share * logs[1]
    outputs -= np.log(np.exp(outputs).sum(axis=1, keepdims=True))

    labels = y[tested]
    scores = total_scores(labels, classes[outputs.argmax(axis=1)])
    loss = -outputs[np.arange(len(labels)), np.searchsorted(classes, labels)].mean()
    return SelectionRow(
        model=str(mixture),
        accuracy=scores["accuracy"],
        macro_f1=scores["macro_f1"],
        uar=scores["uar"],
        log_loss=float(loss),
        seconds=round(seconds, 3),
    )
