"""The audio regressor."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_array

from skastw.core.sklearn_private import check_sample_weight
from skastw.data.extraction import check_clips
from skastw.errors import ArtifactError, DataError
from skastw.estimators.pretrained import PretrainedEstimator
from skastw.targets.checks import check_complete, numpy_targets

__all__ = ["ASTWRegressor"]


class ASTWRegressor(RegressorMixin, PretrainedEstimator):
    """Audio regressor that trains a compact network from scratch.

    The network and its training are those of :class:`ASTWClassifier`; the head gives values in place of
    logits, trained with the squared error. Targets are standardised inside and given back in their own units.

    Parameters
    ----------
    sample_rate : int, default=16000
        Rate that clips are resampled to, and that bare arrays have (Hz).
    chunk_length : float, default=30.0
        Longest stretch that the encoder sees at once (s).
    features : str or Features, default="log_mel"
        Front end; ``"precomputed"`` takes frames in place of clips.
    augment : str, Augment, list of these, or None, default="spec_augment"
        Augmentations of the training batches, in order.
    normalization : str or Normalization, default="none"
        Scale of the frames that the encoder sees: ``"per_bin"`` standardises each bin by what the training clips
        have, ``"per_clip"`` and ``"level"`` each clip by itself.
    encoder : str or Encoder, default="astw"
        Network from frames to frames.
    pooling : str or Pooling, default="mean"
        From frames to one embedding.
    n_models : int, default=1
        Networks that learn side by side from different weights; predictions average their logits. Time and size grow
        with it.
    epochs : int, default=30
        Largest number of passes over the training clips.
    min_steps : int, default=0
        Train for more than ``epochs`` where they would be fewer steps than this: a set of twenty clips needs more
        passes than one of a thousand.
    batch_size : int, default=16
        Clips in a step of training and in a batch of prediction.
    muon_lr : float or None, default=0.01
        Peak learning rate of Muon, which updates linear and convolution weights; None leaves these to AdamW.
    adam_lr : float, default=3e-4
        Peak learning rate of AdamW, which updates the rest.
    weight_decay : float, default=0.01
        Decoupled weight decay of both.
    warmup_ratio : float, default=0.1
        Share of the steps in which the learning rates rise; then they follow a cosine to zero.
    ema_decay : float or None, default=None
        Keep an exponential moving average of the weights, about the last ``1 / (1 - ema_decay)`` steps, in place of
        those of the last step.
    val_split : float or None, default=0.2
        Share of the clips to choose the best epoch on: spread over the range of a single target, or whole
        groups where ``fit`` gets ``groups``. None trains on everything for all epochs.
    patience : int or None, default=30
        Epochs without a better validation R2 after which training stops.
    keep : {"best", "last"}, default="best"
        Keep the weights of the epoch with the best validation score, or of the last one.
    tta : int, default=1
        Versions of a clip that predictions average over: the clip itself, and others made by those of the
        augmentations that warp, stretch or crop. Each takes the time of a prediction.
    warm_start : bool, default=False
        Let ``fit`` go on from the weights of the last ``fit``.
    init_from : path or str, default=None
        Start from the weights of a model that was saved earlier; the head is new.
    device : str or torch.device, default="auto"
        ``"auto"`` is the GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        Number format of the matrix products, as in :class:`ASTWClassifier`.
    cache : {"auto", "memory", "disk"}, default="auto"
        Where the frames of the clips stay during ``fit``: ``"auto"`` keeps 128 MB in memory and the rest in a
        temporary file, so that memory does not grow with the number of clips; the file lies where Python's
        ``tempfile`` puts it (``TMPDIR``). Predictions need no such place.
    n_jobs : int or None, default=None
        Threads that decode clips.
    on_error : {"raise", "warn", "ignore"}, default="raise"
        What to do about clips that cannot be read: end with an error, or leave them out, with one warning or without.
        ``failed_`` then lists them, and predictions for them are NaN. Training stops where more than a fifth of the
        clips cannot be read.
    checkpoint_dir : path, default=None
        Write the state of ``fit`` there after each epoch, a file for each run: ``fit`` that was killed goes on from
        the last epoch when it is called again with the same clips and parameters, and ends in the same weights to the
        bit. Needs an integer ``random_state``.
    random_state : int, RandomState or None, default=42
        Seed of the weights, the split, the order and the augmentations.
    verbose : int, default=0
        1 shows progress bars; 2 writes a line for each epoch to standard error, for logs.

    Attributes
    ----------
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

    task_ = "regression"

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        chunk_length: float = 30.0,
        features: Any = "log_mel",
        augment: Any = "spec_augment",
        normalization: Any = "none",
        encoder: Any = "astw",
        pooling: Any = "mean",
        n_models: int = 1,
        epochs: int = 30,
        min_steps: int = 0,
        batch_size: int = 16,
        muon_lr: float | None = 0.01,
        adam_lr: float = 3e-4,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        ema_decay: float | None = None,
        val_split: float | None = 0.2,
        patience: int | None = 30,
        keep: str = "best",
        tta: int = 1,
        warm_start: bool = False,
        init_from: Any = None,
        device: Any = "auto",
        precision: str = "auto",
        cache: str = "auto",
        n_jobs: int | None = None,
        on_error: str = "raise",
        checkpoint_dir: str | os.PathLike[str] | None = None,
        random_state: Any = 42,
        verbose: int = 0,
    ) -> None:
        self.sample_rate = sample_rate
        self.chunk_length = chunk_length
        self.features = features
        self.augment = augment
        self.normalization = normalization
        self.encoder = encoder
        self.pooling = pooling
        self.n_models = n_models
        self.epochs = epochs
        self.min_steps = min_steps
        self.batch_size = batch_size
        self.muon_lr = muon_lr
        self.adam_lr = adam_lr
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.ema_decay = ema_decay
        self.val_split = val_split
        self.patience = patience
        self.keep = keep
        self.tta = tta
        self.warm_start = warm_start
        self.init_from = init_from
        self.device = device
        self.precision = precision
        self.cache = cache
        self.n_jobs = n_jobs
        self.on_error = on_error
        self.checkpoint_dir = checkpoint_dir
        self.random_state = random_state
        self.verbose = verbose

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
        fresh = not hasattr(self, "model_")
        with self._attempt() as attempt:
            clips = check_clips(attempt, X, reset=fresh)
            targets = attempt._check_target(clips, y, reset=fresh, sample_weight=sample_weight)
            attempt._partial_fit(X, targets, sample_weight, fresh=fresh)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the values of each clip, in the units of y.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips,), or (n_clips, n_targets) where y had two dimensions, float64
        """
        values = self._outputs(X).numpy() * self.target_scale_ + self.target_mean_
        return values[:, 0] if self._one_dimensional else values

    def _encode_target(self, y: Any, *, reset: bool, sample_weight: Any = None) -> np.ndarray:
        """Return y standardised, shape (n, n_targets), float64."""
        columns = getattr(y, "columns", None)
        check_complete(y, "y")
        check_complete(sample_weight, "sample_weight")
        values = check_array(numpy_targets(y), ensure_2d=False, dtype=np.float64, input_name="y")
        if reset:
            self._one_dimensional = values.ndim == 1
            self.target_names_ = None if columns is None else [str(name) for name in columns]
        values = values.reshape(len(values), -1)
        if reset:
            weights = check_sample_weight(sample_weight, values, ensure_non_negative=True)
            self.target_mean_ = np.average(values, axis=0, weights=weights)
            with np.errstate(over="ignore", invalid="ignore"):
                scale = np.sqrt(np.average((values - self.target_mean_) ** 2, axis=0, weights=weights))
            if not np.isfinite(scale).all():
                raise DataError(
                    f"y holds values of up to {np.abs(values).max():.3g}, whose variance is beyond the largest float; "
                    "expected smaller ones: rescale y, or train on its logarithm."
                )
            self.target_scale_ = np.where(scale > 0, scale, 1.0)
        if values.shape[1] != len(self.target_mean_):
            raise ValueError(f"Got {values.shape[1]} targets, expected {len(self.target_mean_)} as in the first fit.")
        return (values - self.target_mean_) / self.target_scale_

    def _labels_to_json(self) -> dict[str, Any]:
        return {
            "task": "regression",
            "labels": self.target_names_ or [f"target{i}" for i in range(len(self.target_mean_))],
            "named": self.target_names_ is not None,
            "one_dimensional": self._one_dimensional,
            "mean": self.target_mean_.tolist(),
            "scale": self.target_scale_.tolist(),
        }

    def _labels_from_json(self, labels: dict[str, Any]) -> None:
        if labels.get("task") != "regression":
            raise ArtifactError(f"labels.json has task={labels.get('task')!r}, expected 'regression'.")
        names, mean, scale = labels["labels"], labels["mean"], labels["scale"]
        lists = all(isinstance(values, list) for values in (names, mean, scale))
        if not lists or not all(isinstance(name, str) for name in names) or not len(names) == len(mean) == len(scale):
            raise ArtifactError("labels.json is not valid: labels, mean and scale are not lists of one length.")
        self.target_names_ = names if labels["named"] else None
        self._one_dimensional = bool(labels["one_dimensional"])
        self.target_mean_ = np.asarray(mean, dtype=np.float64)
        self.target_scale_ = np.asarray(scale, dtype=np.float64)

    def _n_outputs(self) -> int:
        return len(self.target_mean_)

    def _strata(self, targets: np.ndarray, *, grouped: bool) -> np.ndarray:
        if grouped or targets.shape[1] > 1:
            return super()._strata(targets, grouped=grouped)
        n_bins = min(10, max(1, len(targets) // 5))
        return np.argsort(np.argsort(targets[:, 0], kind="stable"), kind="stable") * n_bins // len(targets)
