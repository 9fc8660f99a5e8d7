"""The audio regressor, an estimator for clips whose targets are numbers."""

from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import RegressorMixin

from skastw.core.parameters import parameters
from skastw.estimators.supervised import SupervisedEstimator
from skastw.targets import learn_targets


@parameters
class ASTWRegressor(RegressorMixin, SupervisedEstimator):
    """Audio regressor that trains a compact network from scratch.

    The network is the same as in :class:`ASTWClassifier`, but its head returns values instead of logits, and the
    training loss is the squared error. Targets are standardised for training; predictions are in the units of y.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    trained_ : Trained
        The fitted model, see :class:`skastw.network.Trained`. The attributes below are parts of it.
    target_names_ : list of str or None
        Column names of y, if it was a DataFrame or a named Series.
    target_mean_, target_scale_ : ndarray of shape (n_targets,)
        Mean and standard deviation of the training targets.
    model_ : AudioModel
        The network with the weights of the best epoch, or with what a refit made of them.
    history_ : list of dict
        One row per epoch: losses, validation R2, learning rates, seconds.
    best_epoch_, n_epochs_ : int
        The epoch that was selected, counted from 1, and the number of epochs that were trained.
    interrupted_ : bool
        Whether Ctrl-C ended the training.
    seed_ : int or None
        Seed that was drawn from ``random_state``; None if an earlier release saved the model.
    features_, augment_, sample_rate_, chunk_length_
        The parameters that the model was fitted with. Predictions use these.
    failed_ : list of FailedClip
        Index, path and reason of each clip that was left out in the last ``fit`` or prediction. Predictions with
        ``on_error="raise"`` do not set it.
    n_features_in_ : int
        Number of columns of X, if X was a 2-D array.

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

    def partial_fit(self, X: Any, y: Any, *, sample_weight: Any = None) -> Self:
        """Train for one epoch on a batch of clips, starting from the weights of the previous call.

        The learning rates stay at their peak. The targets of the first call define the mean and scale with which all
        targets are standardised.

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
        Later calls use the components, ``sample_rate``, ``chunk_length`` and ``n_models`` of the first call. If a call
        raises an exception, the estimator does not change; see :meth:`fit`.
        """
        if hasattr(self, "trained_"):
            return self._partial_fit(X, y, lambda: self.trained_.targets, sample_weight)
        return self._partial_fit(X, y, partial(learn_targets, y, self._learns, sample_weight), sample_weight)

    def predict(self, X: Any) -> np.ndarray:
        """Return the predicted values of each clip, in the units of y.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips,), or (n_clips, n_targets) if y had two dimensions, float64
        """
        targets, outputs = self._outputs(X)
        return targets.decide(outputs)
