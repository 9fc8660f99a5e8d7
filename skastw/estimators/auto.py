"""A classifier that selects a recipe, a classical model or a combination of both within a budget of time."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import torch
from msgspec import structs, to_builtins
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skastw.analysis.comparison import make_splits
from skastw.analysis.scores import SCORES
from skastw.analysis.selection import Candidate, Mixture, select
from skastw.audio import is_array_input, load_samples
from skastw.core.component import resolve_component
from skastw.core.parameters import check_params, integers, param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.data.extraction import check_clips
from skastw.errors import DataError
from skastw.estimators.arguments import ExplainedArguments
from skastw.estimators.classifier import ASTWClassifier
from skastw.features import Features
from skastw.targets import learn_targets
from skastw.targets.checks import group_array, label_array

#: Recipes of classical models, which are fitted in seconds once the features are computed.
CLASSICAL = ("statistics", "descriptors")
#: Recipes of networks, and the time of a fit in multiples of that of ``"tiny"``.
NETWORKS = {"tiny": 1.0, "environmental": 2.2, "small": 5.0}
#: The recipe for clips with a high sampling rate, this rate (Hz), and the number of clips that are looked at.
_WIDE_BAND, _HIGH_RATE, _N_PROBED = "environmental", 32000, 20


@parameters
class ASTWAutoClassifier(ExplainedArguments, ClassifierMixin, BaseEstimator):
    """Classifier that selects its model within a budget of time, by cross-validation on the training clips.

    The candidates are classical models on statistics and on descriptors of the clips, recipes of networks, and mixtures
    of a network and a classical model. Each is trained and tested on the same inner splits, which keep groups together.
    The mixture with the best score is fitted to all clips, or a single candidate if it is better by more than one
    standard error. The result is an :class:`ASTWClassifier`, and is saved as one.

    The budget makes the choice depend on the speed of the machine; ``random_state`` fixes everything else.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    best_estimator_ : ASTWClassifier
        The selected model, fitted to all clips.
    best_params_ : dict
        Its parameters, as :meth:`ASTWClassifier.set_params` takes them.
    table_ : DataFrame
        One row for each candidate, the best first: ``model``, ``accuracy``, ``macro_f1``, ``uar`` and ``log_loss`` of
        the out-of-fold predictions, ``seconds``, ``selected`` and ``status``. The scores of the best are slightly
        optimistic, because they selected it. The table is also in ``metrics.json`` and the card of the saved model.
    classes_ : ndarray of shape (n_classes,)
        The sorted labels.
    trained_ : Trained
        The fitted model.

    See Also
    --------
    ASTWClassifier : One model with given parameters.
    skastw.evaluation.compare : Scores of given models, with tests of their differences.

    Examples
    --------
    >>> from skastw import ASTWAutoClassifier
    >>> from skastw.datasets import make_tones
    >>> clips, y = make_tones(n_clips=24, n_classes=2, random_state=0)
    >>> auto = ASTWAutoClassifier(candidates=["statistics"], cv=2).fit(clips, y)
    >>> auto.table_["model"].tolist(), auto.predict(clips).shape
    (['statistics'], (24,))
    """

    budget: float | None = param(
        default=600.0,
        valid=[reals(0, None, closed="neither"), None],
        doc="Seconds for the whole fit. Candidates that would take longer are left out; the first one never is. None "
        "has no limit.",
    )
    candidates: str | Sequence[Any] = param(
        default="auto",
        valid=[StrOptions({"auto"}), "array-like"],
        doc=f'Names of recipes, or paths of recipe files, in the order in which they are tried. ``"auto"`` tries '
        f"{', '.join((*CLASSICAL, *NETWORKS))}; {_WIDE_BAND} only if most clips have a sampling rate of at least "
        f"{_HIGH_RATE} Hz.",
    )
    cv: int = param(default=3, valid=[integers(2, 100)], doc="Number of inner splits.")
    scoring: str = param(
        default="uar",
        valid=[StrOptions(set(SCORES))],
        doc="Score that selects the model. Of equal scores, the lower log loss wins.",
    )
    device: str | torch.device = param(default="auto", valid=[str, torch.device], doc="See :class:`ASTWClassifier`.")
    n_jobs: int | None = param(default=None, valid=[Integral, None], doc="Number of threads that decode clips.")
    cache_dir: str | os.PathLike[str] | None = param(
        default=None,
        valid=[str, os.PathLike, None],
        doc="Folder in which frames are kept, so that all candidates and splits decode a clip once. None uses a "
        "temporary folder.",
    )
    random_state: int | np.random.RandomState | None = param(
        default=42, valid=["random_state"], doc="Seed of the inner splits and of all candidates."
    )
    verbose: int = param(default=0, valid=["verbose"], doc="1 shows a progress bar, 2 writes lines.")

    classes_ = property(lambda self: self.best_estimator_.classes_)
    trained_ = property(lambda self: self.best_estimator_.trained_)

    def fit(self, X: Any, y: Any, *, groups: Any = None) -> ASTWAutoClassifier:
        """Select a model, and fit it to all clips.

        Parameters
        ----------
        X : sequence of clips, or ndarray of shape (n_clips, n_samples)
            See :meth:`ASTWClassifier.fit`.
        y : array-like of shape (n_clips,)
            One label for each clip.
        groups : array-like of shape (n_clips,), optional
            Speaker or recording of each clip; no group is on both sides of an inner split.

        Returns
        -------
        self

        Raises
        ------
        DataError
            If y is not one label for each clip.
        ClipError
            If a clip cannot be used.
        ValueError
            If a parameter is not valid, or a class or the number of groups is too small for the inner splits.
        """
        check_params(self, type(self).__name__)
        clips = check_clips(self, X, reset=True)
        if not (targets := learn_targets(y, "classifier")).exclusive:
            raise DataError(f"Got y of the kind {targets.name!r}, expected one label for each clip.")
        labels, groups = label_array(y, "y"), group_array(groups)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))

        with ExitStack() as stack:
            folder = self.cache_dir or stack.enter_context(tempfile.TemporaryDirectory(prefix="skastw-"))
            models = {name: self._model(name, seed, folder) for name in self._names(clips)}
            selection = select(
                [Candidate(name, model, NETWORKS.get(name, 0.0)) for name, model in models.items()],
                clips,
                labels,
                splits=make_splits(labels, groups, self.cv, seed),
                groups=groups,
                mixed=[(net, side) for net in models for side in models if _can_be_mixed(models[net], models[side])],
                score=self.scoring,
                budget=self.budget,
                seed=seed,
                verbose=int(self.verbose),
            )
            best = _joined(selection.best, models).fit(clips, labels, groups=groups)

        best.set_params(cache_dir=self.cache_dir)
        record = structs.replace(best.trained_.record, selection=selection.rows)
        best.trained_ = replace(best.trained_, record=record)
        self.table_ = pd.DataFrame(to_builtins(selection.rows))
        self.best_params_ = best.get_params(deep=False)
        self.best_estimator_ = best
        return self

    def _names(self, clips: Sequence[Any]) -> list[str]:
        """Return the names of the candidates, in the order in which they are tried."""
        if not isinstance(self.candidates, str):
            return list(map(str, self.candidates))
        networks = [name for name in NETWORKS if name != _WIDE_BAND or _is_wide_band(clips)]
        return [*CLASSICAL, *networks]

    def _model(self, name: str, seed: int, cache_dir: str | os.PathLike[str]) -> ASTWClassifier:
        machine = {"device": self.device, "n_jobs": self.n_jobs, "cache_dir": cache_dir, "random_state": seed}
        return ASTWClassifier.from_recipe(name).set_params(**machine)

    # ------------------------------------------------------------ the selected model

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each clip; see :meth:`ASTWClassifier.predict`."""
        return self._best().predict(X)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class for each clip; see :meth:`ASTWClassifier.predict_proba`."""
        return self._best().predict_proba(X)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of the probabilities; see :meth:`ASTWClassifier.predict_log_proba`."""
        return self._best().predict_log_proba(X)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of each clip; see :meth:`ASTWClassifier.decision_function`."""
        return self._best().decision_function(X)

    def save_pretrained(
        self,
        folder: str | os.PathLike[str],
        *,
        title: str | None = None,
        test: Mapping[str, Any] | None = None,
        weights_dtype: str | None = None,
        overwrite: bool = False,
    ) -> str:
        """Save the selected model as a folder, which ``ASTWClassifier.from_pretrained`` loads.

        Parameters
        ----------
        folder, title, test, weights_dtype, overwrite
            See :meth:`ASTWClassifier.save_pretrained`.

        Returns
        -------
        str
            The folder.
        """
        best = self._best()
        return best.save_pretrained(folder, title=title, test=test, weights_dtype=weights_dtype, overwrite=overwrite)

    def push_to_hub(
        self, repo_id: str, *, private: bool | None = None, token: str | None = None, weights_dtype: str | None = None
    ) -> str:
        """Save the selected model to a repository of the Hugging Face Hub.

        Parameters
        ----------
        repo_id, private, token, weights_dtype
            See :meth:`ASTWClassifier.push_to_hub`.

        Returns
        -------
        str
            The address of the commit.
        """
        return self._best().push_to_hub(repo_id, private=private, token=token, weights_dtype=weights_dtype)

    def _best(self) -> ASTWClassifier:
        check_is_fitted(self, "best_estimator_")
        return self.best_estimator_


def _can_be_mixed(net: ASTWClassifier, side: ASTWClassifier) -> bool:
    """Return whether the front end of ``side`` can give the side vector of ``net``."""
    if (net.solver, side.solver) != ("gradient", "lbfgs"):
        return False
    return not resolve_component(Features, side.features).frames_per_second(side.sample_rate)


def _joined(mixture: Mixture, models: dict[str, ASTWClassifier]) -> ASTWClassifier:
    """Return the model of a mixture, not fitted: a network, with the front end of a classical model beside it."""
    net, *others = (models[name] for name in mixture.names)
    return net if not others else net.set_params(side=others[0].features, C=others[0].C, side_share=mixture.share)


def _is_wide_band(clips: Sequence[Any]) -> bool:
    """Return whether most clips are files, or pairs and dicts, of a high sampling rate."""
    if is_array_input(clips):
        return False
    step = max(1, len(clips) // _N_PROBED)
    rates = [load_samples(clip, 16000, index=i)[1] for i, clip in enumerate(clips) if i % step == 0]
    return float(np.median(rates)) >= _HIGH_RATE
