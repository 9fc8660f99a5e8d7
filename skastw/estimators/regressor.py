"""The audio regressor."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin

from skastw.core.parameters import parameters
from skastw.estimators.base import AudioEstimator
from skastw.targets import learn_targets

__all__ = ["ASTWRegressor"]


@parameters
class ASTWRegressor(RegressorMixin, AudioEstimator):
    """Audio regressor that trains a compact network from scratch.

    The network and its training are those of :class:`ASTWClassifier`; the head gives values instead
    of logits, trained with the squared error. Targets are standardised inside and given back in their own units.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    trained_ : Trained
        The fitted model as a value, see :class:`skastw.network.Trained`; the attributes below are parts of it.
    target_names_ : list of str or None
        Columns of y, when it was a DataFrame or a named Series.
    target_mean_, target_scale_ : ndarray of shape (n_targets,)
        Mean and standard deviation of the targets in training.
    model_ : AudioModel
        The network with the weights of the best epoch.
    history_ : list of dict
        One row an epoch: losses, validation R2, learning rates, seconds.
    best_epoch_, n_epochs_ : int
        The epoch whose weights were kept, counted from 1, and how many were trained.
    interrupted_ : bool
        Whether Ctrl-C ended the training.
    seed_ : int or None
        Seed that ``random_state`` gave; None for a model that an earlier release saved.
    features_, augment_, sample_rate_, chunk_length_
        The parameters that the model was fitted with; predictions use these.
    failed_ : list of FailedClip
        Of the last ``fit`` or, unless ``on_error="raise"``, prediction: index, path and reason of each clip that was
        left out.
    n_features_in_ : int
        Width of X, when X was a 2-D array.

    See Also
    --------
    ASTWClassifier : The same network for labels.

    Examples
    --------
    >>> from skastw import ASTWRegressor
    >>> from skastw.datasets import make_tones
    >>> from skastw.encoders import ASTWEncoder
    >>> clips, y = make_tones(n_clips=24, random_state=0)
    >>> small = ASTWEncoder(d_model=32, num_heads=2, num_layers=1)
    >>> octaves = ASTWRegressor(encoder=small, epochs=10).fit(clips, y)
    >>> octaves.predict(clips[:3]).shape
    (3,)
    """

    _learns: ClassVar[str] = "regressor"

    target_names_ = property(lambda self: self.trained_.targets.names)
    target_mean_ = property(lambda self: self.trained_.targets.mean)
    target_scale_ = property(lambda self: self.trained_.targets.scale)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # a power spectrum drops the sign that toy targets depend on
        tags.target_tags.multi_output = True
        return tags

    def partial_fit(self, X: Any, y: Any, *, sample_weight: Any = None) -> ASTWRegressor:
        """Train one epoch on some clips, at the peak learning rates, going on from the last call.

        The first call's targets give the mean and scale that standardise all of them.

        Parameters
        ----------
        X : as in :meth:`fit`
        y : array-like of shape (n_clips,) or (n_clips, n_targets)
            Values.
        sample_weight : array-like of shape (n_clips,), optional
            Weight of each clip in the loss.

        Returns
        -------
        self

        Notes
        -----
        Further calls go on with the components, ``sample_rate``, ``chunk_length`` and ``n_models`` of the first one. If
        an exception ends a call, the estimator stays as it was before; see :meth:`fit`.
        """
        self._validate_params()
        fresh = not hasattr(self, "trained_")
        learn = partial(learn_targets, y, self._learns, sample_weight)
        self._partial_fit(X, y, learn if fresh else lambda: self.trained_.targets, sample_weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the values of each clip, in the units of y.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips,), or (n_clips, n_targets) if y had two dimensions, float64
        """
        outputs = self._outputs(X)
        return self.trained_.targets.decide(outputs)
