"""The audio classifier."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from skastw._estimator import AudioEstimator, check_clips
from skastw._pretrained import PretrainedEstimator
from skastw._sklearn import StrOptions, check_sample_weight, fit_context
from skastw.training import CLASSIFICATION

__all__ = ["ASTWClassifier"]


class ASTWClassifier(ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, PretrainedEstimator):
    """Audio classifier that trains a compact network from scratch.

    The defaults are the ASTW model: a log-mel front end, a Whisper-like encoder, Muon and AdamW. A clip
    is a path, an array, an ``(array, sample_rate)`` tuple or a dict; see :mod:`skastw.audio.clips`.

    Parameters
    ----------
    sample_rate : int, default=16000
        Rate that clips are resampled to, and that bare arrays have (Hz).
    chunk_length : float, default=30.0
        Longest stretch that the encoder sees at once (s). Of a longer clip, training draws a random chunk
        each epoch, and prediction averages over consecutive chunks that cover all of it.
    features : str or Features, default="log_mel"
        Front end; ``"precomputed"`` takes frames, such as those of :class:`ASTWFeaturizer`, in place of clips.
    augment : str, Augment, list of these, or None, default="spec_augment"
        Augmentations of the training batches, in order.
    encoder : str or Encoder, default="astw"
        Network from frames to frames. Its parameters are those of this estimator too: ``encoder__d_model``.
    pooling : str or Pooling, default="mean"
        From frames to one embedding: ``"mean"``, ``"max"``, ``"attentive_stats"``.
    epochs : int, default=30
        Largest number of passes over the training clips.
    batch_size : int, default=16
        Clips in a step of training and in a batch of prediction.
    muon_lr : float, default=0.01
        Peak learning rate of Muon, which updates linear and convolution weights.
    adam_lr : float, default=3e-4
        Peak learning rate of AdamW, which updates the rest.
    weight_decay : float, default=0.01
        Decoupled weight decay of both.
    warmup_ratio : float, default=0.1
        Share of the steps in which the learning rates rise; then they follow a cosine to zero.
    label_smoothing : float, default=0.1
        Share of the target that is spread over all classes.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the training loss, as in scikit-learn.
    val_split : float or None, default=0.2
        Share of the clips to choose the best epoch on; stratified where possible, whole groups where
        ``fit`` gets ``groups``. None trains on everything for all epochs.
    patience : int or None, default=30
        Epochs without a better validation macro-F1 after which training stops.
    device : str or torch.device, default="auto"
        ``"auto"`` is the GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        Number format of the matrix products: ``"auto"`` trains in bfloat16 where the hardware has native
        instructions for it and predicts in float32. Weights are float32, except with ``"float64"``.
    n_jobs : int or None, default=None
        Threads that decode clips.
    random_state : int, RandomState or None, default=42
        Seed of the weights, the split, the order and the augmentations. Runs with one seed repeat bit for
        bit on one machine, and leave torch's own random generator alone.
    verbose : int, default=0
        1 shows progress bars.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted.
    model_ : AudioModel
        The network with the weights of the best epoch.
    history_ : list of dict
        One row an epoch: losses, validation accuracy and macro-F1, learning rates, seconds;
        ``pandas.DataFrame(clf.history_).plot(x="epoch", y=["loss", "val_loss"])`` draws it.
    best_epoch_ : int
        The epoch whose weights were kept, counted from 1.
    n_epochs_ : int
        Epochs that were trained.
    n_features_in_ : int
        Width of X, when X was a 2-D array.

    See Also
    --------
    ASTWFeaturizer : The front end alone, as a transformer.

    References
    ----------
    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (front end, encoder);
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Park et al.,
    "SpecAugment", 2019.

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.encoders import ASTWEncoder
    >>> clips, y = make_tones(n_clips=24, n_classes=2, random_state=0)
    >>> small = ASTWEncoder(d_model=32, num_heads=2, num_layers=1)
    >>> clf = ASTWClassifier(encoder=small, epochs=10).fit(clips[:16], y[:16])
    >>> clf.predict(clips[16:]).shape, clf.predict_proba(clips[16:]).shape
    ((8,), (8, 2))
    """

    _task = CLASSIFICATION
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AudioEstimator._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
        *,
        sample_rate: int = 16000,
        chunk_length: float = 30.0,
        features: Any = "log_mel",
        augment: Any = "spec_augment",
        encoder: Any = "astw",
        pooling: Any = "mean",
        epochs: int = 30,
        batch_size: int = 16,
        muon_lr: float = 0.01,
        adam_lr: float = 3e-4,
        weight_decay: float = 0.01,
        warmup_ratio: float = 0.1,
        label_smoothing: float = 0.1,
        class_weight: Any = None,
        val_split: float | None = 0.2,
        patience: int | None = 30,
        device: Any = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = 42,
        verbose: int = 0,
    ) -> None:
        self.sample_rate = sample_rate
        self.chunk_length = chunk_length
        self.features = features
        self.augment = augment
        self.encoder = encoder
        self.pooling = pooling
        self.epochs = epochs
        self.batch_size = batch_size
        self.muon_lr = muon_lr
        self.adam_lr = adam_lr
        self.weight_decay = weight_decay
        self.warmup_ratio = warmup_ratio
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.val_split = val_split
        self.patience = patience
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # a power spectrum drops the sign that toy blobs differ by
        tags.transformer_tags.preserves_dtype = ["float64" if self.precision == "float64" else "float32"]
        return tags

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        groups: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> ASTWClassifier:
        """Train on labelled clips.

        Parameters
        ----------
        X : sequence of clips, or ndarray of shape (n_clips, n_samples)
        y : array-like of shape (n_clips,)
            Labels: strings, integers or booleans.
        sample_weight : array-like of shape (n_clips,), optional
            Weight of each clip in the loss; clips of weight 0 are left out.
        groups : array-like of shape (n_clips,), optional
            Speaker or recording of each clip: the internal validation split keeps groups whole.
        X_val, y_val : clips and labels, optional
            Choose the best epoch on these; then nothing is split off X.
        sample_weight_val : array-like, optional
            Weight of each validation clip.

        Returns
        -------
        self

        Raises
        ------
        ClipError
            If a clip cannot be used, naming its index and path, before training starts.
        ValueError, TypeError
            If a parameter or an argument is not valid.
        TrainingError
            If the loss is no longer finite.
        """
        clips = check_clips(self, X, reset=True)
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        targets = self._encode(y, reset=True)
        weights = check_sample_weight(sample_weight, targets, ensure_non_negative=True)
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self._encoded_class_weight(), targets)
        valid = self._check_validation(X_val, y_val, sample_weight_val)
        self._fit(clips, targets, n_outputs=len(self.classes_), weights=weights, groups=groups, valid=valid)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each clip.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips,)
        """
        winners = self._logits(X).argmax(axis=1)
        return self.classes_[winners]

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of each clip; of two classes, the second's minus the first's.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), or (n_clips,) for two classes, float32
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class for each clip.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), float32
            Columns in the order of ``classes_``.
        """
        return torch.from_numpy(self._logits(X)).softmax(dim=1).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), float32
        """
        return torch.from_numpy(self._logits(X)).log_softmax(dim=1).numpy()

    def predict_top_k(self, X: Any, *, k: int = 5) -> list[list[tuple[Any, float]]]:
        """Return the ``k`` most probable classes of each clip, most probable first.

        Parameters
        ----------
        X : as in :meth:`predict`
        k : int, default=5
            At least 1; no more are returned than there are classes.

        Returns
        -------
        list of n_clips lists of (label, probability)

        Raises
        ------
        ValueError
            If ``k`` is not a positive integer.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"Got k={k!r}, expected an integer of at least 1.")
        probabilities = self.predict_proba(X)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        labels = self.classes_.tolist()
        return [[(labels[i], float(row[i])) for i in top] for row, top in zip(probabilities, order, strict=True)]

    def transform(self, X: Any) -> np.ndarray:
        """Return the embedding of each clip: the pooled vector that the linear head classifies.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_embedding), float32
        """
        return self._embed(X).numpy()

    def _encode(self, y: Any, *, reset: bool) -> np.ndarray:
        """Return y as positions in ``classes_``, int64."""
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if reset:
            self.classes_ = np.unique(y)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"Got one class ({self.classes_[0]!r}) in y, expected at least 2: a classifier needs another class."
                )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"Got labels {unknown.tolist()[:5]} in y_val that are not in y.")
        return np.searchsorted(self.classes_, y)

    def _encoded_class_weight(self) -> Any:
        if not isinstance(self.class_weight, dict):
            return self.class_weight
        unknown = sorted(set(map(str, self.class_weight)) - set(map(str, self.classes_)))
        if unknown:
            raise ValueError(
                f"Got class_weight for {unknown[:5]}, expected classes of y: {self.classes_.tolist()[:10]}."
            )
        return {i: self.class_weight.get(label, 1.0) for i, label in enumerate(self.classes_.tolist())}

    def _check_validation(self, X_val: Any, y_val: Any, weights: Any) -> tuple[Any, np.ndarray, np.ndarray] | None:
        if (X_val is None) != (y_val is None):
            given = "X_val" if y_val is None else "y_val"
            raise ValueError(f"Got {given} alone, expected X_val and y_val together.")
        if X_val is None:
            if weights is not None:
                raise ValueError("Got sample_weight_val without X_val and y_val, expected all three together.")
            return None
        targets = self._encode(y_val, reset=False)
        return X_val, targets, check_sample_weight(weights, targets, ensure_non_negative=True)
