"""The audio classifier."""

from __future__ import annotations

import copy
import os
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d
from torch import Tensor
from torch.nn import functional as F

from skastw.analysis.occlusion import FILLS, Occlusion, cell_centres, occluded_logits
from skastw.analysis.windows import window_table
from skastw.artifact.folder import labels_from_json, labels_to_json
from skastw.core.device import on_device, resolve_device
from skastw.core.sklearn_private import Interval, StrOptions
from skastw.data.extraction import check_clips
from skastw.data.failures import Failures
from skastw.errors import ArtifactError, DataError, plain
from skastw.estimators.base import AudioEstimator
from skastw.estimators.pretrained import PretrainedEstimator
from skastw.network.inference import check_outputs
from skastw.targets.checks import check_complete, check_label_texts, check_label_types, class_weights, numpy_targets

__all__ = ["ASTWClassifier"]


class ASTWClassifier(ClassifierMixin, PretrainedEstimator):
    """Audio classifier that trains a compact network from scratch.

    The defaults are the ASTW model: a log-mel front end, a Whisper-like encoder, Muon and AdamW. A clip
    is a path, an array, an ``(array, sample_rate)`` tuple or a dict; see :mod:`skastw.audio.clips`.

    ``y`` holds one label a clip (strings, integers, booleans, floats), trained with softmax and cross-entropy; or it is
    an indicator of shape (n_clips, n_labels), trained with a sigmoid and binary cross-entropy for each label.

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
    normalization : str or Normalization, default="none"
        Scale of the frames that the encoder sees: ``"per_bin"`` standardises each bin by what the training clips
        have, ``"per_clip"`` and ``"level"`` each clip by itself.
    encoder : str or Encoder, default="astw"
        Network from frames to frames. Its parameters are those of this estimator too: ``encoder__d_model``.
    pooling : str or Pooling, default="mean"
        From frames to one embedding: ``"mean"``, ``"max"``, ``"attentive_stats"``.
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
    label_smoothing : float, default=0.1
        Share of the target that is spread over all classes.
    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the training loss, as in scikit-learn, from 0 to 1e9. Classes that a dict
        leaves out have weight 1.
    ema_decay : float or None, default=None
        Keep an exponential moving average of the weights, about the last ``1 / (1 - ema_decay)`` steps, in place of
        those of the last step.
    val_split : float or None, default=0.2
        Share of the clips to choose the best epoch on; stratified where possible, whole groups where
        ``fit`` gets ``groups``. None trains on everything for all epochs.
    patience : int or None, default=30
        Epochs without a better validation macro-F1 after which training stops.
    keep : {"best", "last"}, default="best"
        Keep the weights of the epoch with the best validation score, or of the last one.
    tta : int, default=1
        Versions of a clip that predictions average over: the clip itself, and others made by those of the
        augmentations that warp, stretch or crop. Each takes the time of a prediction.
    warm_start : bool, default=False
        Let ``fit`` go on from the weights of the last ``fit``; the head is new when the classes differ.
    init_from : path or str, default=None
        Start from the weights of a model that was saved earlier, a folder or a repository of the Hub; the head
        is new when the classes differ.
    device : str or torch.device, default="auto"
        ``"auto"`` is the GPU where there is one.
    precision : {"auto", "float32", "bfloat16", "float64"}, default="auto"
        Number format of the matrix products: ``"auto"`` trains in bfloat16 where the hardware has native
        instructions for it and predicts in float32. Weights are float32, or float64 if ``fit`` had ``"float64"``.
    cache : {"auto", "memory", "disk"}, default="auto"
        Where the frames of the clips stay during ``fit``: ``"auto"`` keeps 128 MB in memory and the rest in a
        temporary file, so that memory does not grow with the number of clips; the file lies where Python's
        ``tempfile`` puts it (``TMPDIR``). Predictions need no such place.
    n_jobs : int or None, default=None
        Threads that decode clips.
    on_error : {"raise", "warn", "ignore"}, default="raise"
        What to do about clips that cannot be read: end with an error, or leave them out, with one warning or without.
        ``failed_`` then lists them, and predictions for them are NaN probabilities and a label that is no class:
        ``""`` among strings, NaN among floats, -1 or one less than the lowest class among integers, None among
        booleans. Training stops where more than a fifth of the clips cannot be read, or all of a class.
    checkpoint_dir : path, default=None
        Write the state of ``fit`` there after each epoch, a file for each run: ``fit`` that was killed goes on from
        the last epoch when it is called again with the same clips and parameters, and ends in the same weights to the
        bit. Needs an integer ``random_state``.
    random_state : int, RandomState or None, default=42
        Seed of the weights, the split, the order and the augmentations. Runs with one seed repeat bit for
        bit on one machine, also in threads, and leave torch's own random generator alone. A saved model keeps an
        integer.
    verbose : int, default=0
        1 shows progress bars; 2 writes a line for each epoch to standard error, for logs.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; of a multi-label indicator the columns, by name where it was a DataFrame.
    task_ : {"classification", "multilabel"}
        What y was: one label a clip, or an indicator of several.
    model_ : AudioModel
        The network with the weights of the best epoch.
    history_ : list of dict
        One row an epoch: losses, validation accuracy and macro-F1, learning rates, seconds;
        ``pandas.DataFrame(clf.history_).plot(x="epoch", y=["loss", "val_loss"])`` draws it.
    best_epoch_ : int
        The epoch whose weights were kept, counted from 1.
    n_epochs_ : int
        Epochs that were trained.
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
    ASTWRegressor : The same network for values.
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

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **AudioEstimator._parameter_constraints,
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }

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
        label_smoothing: float = 0.1,
        class_weight: Any = None,
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
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
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
        tags.classifier_tags.poor_score = True  # a power spectrum drops the sign that toy blobs differ by
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, *, classes: Any = None, sample_weight: Any = None) -> ASTWClassifier:
        """Train one epoch on some clips, at the peak learning rates, going on from the last call.

        Parameters
        ----------
        X : as in :meth:`fit`
        y : array-like of shape (n_clips,), or indicator of shape (n_clips, n_labels)
        classes : array-like of shape (n_classes,), optional
            Every class there will be; needed in the first call unless y is an indicator.
        sample_weight : array-like of shape (n_clips,), optional
            Weight of each clip in the loss.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``classes`` is missing in the first call, or differs from the first call's.

        Notes
        -----
        Further calls go on with the components, ``sample_rate``, ``chunk_length`` and ``n_models`` of the first one. If
        an exception ends a call, the estimator stays as it was before; see :meth:`fit`.
        """
        self._validate_params()
        check_complete(classes, "classes")
        classes = numpy_targets(classes)
        fresh = not hasattr(self, "model_")
        with self._attempt() as attempt:
            targets = attempt._check_instalment(X, y, classes, fresh=fresh)
            attempt._partial_fit(X, targets, sample_weight, fresh=fresh)
        return self

    def _check_instalment(self, X: Any, y: Any, classes: Any, *, fresh: bool) -> np.ndarray:
        """Return y encoded, with the classes of the first instalment."""
        if classes is not None and not fresh and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"Got classes={plain(list(classes))}, expected those of the first call: {plain(self.classes_)}."
            )
        if fresh and classes is None and np.ndim(y) < 2:
            raise ValueError("Got classes=None in the first call of partial_fit, expected every class there will be.")
        if fresh and classes is not None:
            self._encode_target(classes, reset=True)
        return self._check_target(check_clips(self, X, reset=fresh), y, reset=fresh and classes is None)

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each clip, or which labels are more probable than not.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips,)
            Or, for multi-label targets, an indicator of shape (n_clips, n_labels), int64. Clips that cannot be read
            get :attr:`placeholder_`, or -1 in an indicator; see ``on_error``.
        """
        logits = self._outputs(X).numpy()
        failed = np.isnan(logits).any(axis=1)
        if self.task_ == "multilabel":
            return np.where(failed[:, None], -1, (logits > 0).astype(np.int64))
        labels = self.classes_[logits.argmax(axis=1)]
        if not failed.any():
            return labels
        # an unsigned integer has no room for the placeholder
        return np.where(failed, self.placeholder_, labels.astype(np.int64) if labels.dtype.kind == "u" else labels)

    @property
    def placeholder_(self) -> Any:
        """The label that :meth:`predict` gives to clips that cannot be read, which is none of the classes."""
        kind = self.classes_.dtype.kind
        if kind == "f":
            return np.nan
        if kind in "iu":
            return min(-1, int(self.classes_.min()) - 1)
        return None if kind == "b" or "" in self.classes_ else ""

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of each clip; of two classes, the second's minus the first's.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), or (n_clips,) for two classes, float32
        """
        logits = self._outputs(X).numpy()
        binary = self.task_ == "classification" and logits.shape[1] == 2
        return logits[:, 1] - logits[:, 0] if binary else logits

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class for each clip.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), float32
            Columns in the order of ``classes_``. Rows sum to 1, except for multi-label targets, where each column
            is the probability of that label by itself.
        """
        logits = self._outputs(X)
        return (logits.sigmoid() if self.task_ == "multilabel" else logits.softmax(dim=1)).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of :meth:`predict_proba`, without its rounding to zero.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), float32
        """
        return self._log_probabilities(self._outputs(X)).numpy()

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
        if isinstance(k, bool) or not isinstance(k, Integral) or k < 1:
            raise ValueError(f"Got k={plain(k)!r}, expected an integer of at least 1.")
        probabilities = self.predict_proba(X)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        labels = self.classes_.tolist()
        return [
            [(self.placeholder_, np.nan)] if np.isnan(row).any() else [(labels[i], float(row[i])) for i in top]
            for row, top in zip(probabilities, order, strict=True)
        ]

    def predict_windows(
        self, X: Any, *, window: float, hop: float | None = None, aggregate: str | None = None
    ) -> pd.DataFrame:
        """Return what is heard where in long recordings: the probabilities of windows along each clip.

        Parameters
        ----------
        X : as in :meth:`predict`
            Files are decoded piece by piece: an hour takes no more memory than a minute.
        window : float
            Seconds of a window; best the length of the clips that the model was trained on.
        hop : float, optional
            Seconds from the start of one window to that of the next; by default half a window. A last window ends
            with the clip, and a clip shorter than a window is one window.
        aggregate : {"mean", "max", "vote"}, optional
            Return one row a clip in place of one a window: mean or maximum of the windows' probabilities, or the
            share of windows in which a class is the most probable one.

        Returns
        -------
        DataFrame
            Columns ``clip`` (path, or position in X), ``start`` and ``end`` (seconds), and one for each of
            ``classes_``, with " (label)" behind a class of one of the three names. A window's probabilities are those
            that :meth:`predict_proba` gives for it as a clip.

        Raises
        ------
        ValueError
            If ``window`` or ``hop`` is no length of at least one sample, or ``aggregate`` is not known.
        ClipError
            If a clip cannot be read; with another ``on_error`` than ``"raise"`` it has a row without numbers.

        Examples
        --------
        >>> from skastw import ASTWClassifier
        >>> from skastw.datasets import make_tones
        >>> X, y = make_tones(n_clips=8, n_classes=2, random_state=0)
        >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(X, y)
        >>> table = clf.predict_windows(X[:1], window=0.2)
        >>> table.columns.tolist()
        ['clip', 'start', 'end', 0, 1]
        """
        check_is_fitted(self, "model_")
        if self._fitted.components.precomputed:
            raise ValueError("Got features='precomputed', expected a front end: windows are cut from clips.")
        clips, failures = check_clips(self, X, reset=False), Failures(self.on_error)
        table = window_table(
            clips,
            copy.copy(self).set_params(verbose=0, on_error="raise").predict_proba,
            labels=self.classes_.tolist(),
            sample_rate=self.sample_rate_,
            window=window,
            hop=hop,
            aggregate=aggregate,
            failures=failures,
        )
        if self.on_error != "raise":
            self.failed_ = failures.clips
        failures.tell(len(clips))
        return table

    def explain(
        self, clip: Any, *, label: Any = None, n_times: int = 20, n_bands: int = 16, fill: str = "clip"
    ) -> Occlusion:
        """Return which parts of a clip speak for a class: how its probability drops when they are hidden.

        The clip's frames are computed once, cut into ``n_times`` by ``n_bands`` equal parts, and predicted with each
        part hidden in turn. What is hidden is the part and half a part around it. This takes as long as predicting
        ``n_times * n_bands`` such clips. :class:`skastw.plots.OcclusionDisplay` draws it.

        Parameters
        ----------
        clip : clip
            One clip, of any length; with ``features="precomputed"``, its frames.
        label : label, optional
            One of ``classes_``; by default the most probable.
        n_times, n_bands : int, default=20 and 16
            Parts in time and in frequency; no more are made than there are frames and bins.
        fill : {"clip", "band"}, default="clip"
            What hidden frames are replaced by: ``"clip"`` is the mean over all times and bins, ``"band"`` that of each
            bin over time. With ``"band"`` a part that sounds as its band always does changes nothing when hidden, so
            a steady tone is not found.

        Returns
        -------
        Occlusion
            ``saliency`` of shape (n_times, n_bands), the drop of the logarithm of the probability, and the ``times``
            and ``frequencies`` of its parts.

        Raises
        ------
        ClipError
            If the clip cannot be used, whatever ``on_error``.
        ValueError
            If ``label`` is no class, or another argument is not valid.

        Notes
        -----
        The clip itself is predicted, not its versions by ``tta``. A part that is hidden is a sound that the model may
        never have heard, so look for the large differences.

        References
        ----------
        Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.2.

        Examples
        --------
        >>> from skastw import ASTWClassifier
        >>> from skastw.datasets import make_tones
        >>> from skastw.encoders import ASTWEncoder
        >>> clips, y = make_tones(n_clips=12, n_classes=2, random_state=0)
        >>> clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=1).fit(clips, y)
        >>> found = clf.explain(clips[0], label=1, n_times=5, n_bands=8)
        >>> found.label, found.saliency.shape, len(found.times), len(found.frequencies)
        (1, (5, 8), 5, 8)
        """
        check_is_fitted(self, "model_")
        for name, value in (("n_times", n_times), ("n_bands", n_bands)):
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"Got {name}={plain(value)!r}, expected an integer of at least 1.")
        if fill not in FILLS:
            raise ValueError(f"Got fill={fill!r}, expected one of {', '.join(map(repr, FILLS))}.")
        labels = self.classes_.tolist()
        if label is not None and label not in labels:
            raise ValueError(f"Got label={plain(label)!r}, expected one of the classes: {plain(labels[:10])}.")
        self._check_run_params()
        components, device = self._fitted.components, resolve_device(self.device)
        model = on_device(self.model_, device)
        one = np.zeros(1, dtype=np.int64)
        frames = next(self._frames([clip], one, components, Failures("raise"), model.features.n_features))
        n_times, n_bands = min(n_times, len(frames)), min(n_bands, frames.shape[1])
        logits, occluded = occluded_logits(
            model,
            frames,
            n_times=n_times,
            n_bands=n_bands,
            fill=fill,
            batch_size=self.batch_size,
            device=device,
            precision="float32" if self.precision == "auto" else self.precision,
        )
        check_outputs(logits[None], one)
        index = int(logits.argmax()) if label is None else labels.index(label)
        logarithm = self._log_probabilities(logits[None])[0, index]
        drops = logarithm - self._log_probabilities(occluded.flatten(0, 1))[:, index]
        bands = cell_centres(frames.shape[1], n_bands)
        hz = components.features.frequencies(components.sample_rate)
        return Occlusion(
            label=labels[index],
            probability=float(logarithm.exp()),
            saliency=drops.view(n_times, n_bands).numpy(),
            times=cell_centres(len(frames), n_times) / components.features.frames_per_second(components.sample_rate),
            bands=bands,
            frequencies=None if hz is None else np.interp(bands, np.arange(len(hz)), hz),
        )

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        return F.logsigmoid(logits) if self.task_ == "multilabel" else logits.log_softmax(dim=1)

    def _encode_target(self, y: Any, *, reset: bool, sample_weight: Any = None) -> np.ndarray:
        """Return y as positions in ``classes_`` (n,), int64, or as an indicator (n, n_labels), float32."""
        check_complete(y, "y")
        y = numpy_targets(y)
        check_label_types(y, "y")
        y_type = type_of_target(y, input_name="y", raise_unknown=True)
        if y_type.endswith("multioutput"):
            raise DataError(
                f"Got y of type {y_type!r}, expected one label a clip (strings, integers, booleans or floats), or an "
                "indicator of 0 and 1 for several labels: join the parts of a label to one text."
            )
        multilabel = y_type == "multilabel-indicator"
        if reset:
            self.task_ = "multilabel" if multilabel else "classification"
        elif multilabel != (self.task_ == "multilabel"):
            raise ValueError(f"Got targets of type {y_type!r}, expected those of {self.task_} as in the first fit.")
        return self._encode_indicator(y, reset=reset) if multilabel else self._encode_classes(y, reset=reset)

    def _encode_classes(self, y: Any, *, reset: bool) -> np.ndarray:
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if not len(y):
            raise DataError("Got y without labels, expected one for each clip.")
        if reset:
            self.classes_ = np.unique(y)
            check_label_texts(self.classes_)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"Got one class ({plain(self.classes_[0])!r}) in y, expected at least 2: a classifier needs "
                    "another class."
                )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            known = plain(self.classes_[:10])
            raise ValueError(f"Got labels {plain(unknown[:5])} that are not in y, expected some of {known}.")
        return np.searchsorted(self.classes_, y)

    def _encode_indicator(self, y: Any, *, reset: bool) -> np.ndarray:
        columns = getattr(y, "columns", None)
        indicator = check_array(y, accept_sparse="csr", dtype=np.float32, input_name="y")
        indicator = indicator.toarray() if hasattr(indicator, "toarray") else indicator
        if reset:
            self.classes_ = np.arange(indicator.shape[1]) if columns is None else np.array(list(map(str, columns)))
        if indicator.shape[1] != len(self.classes_):
            raise ValueError(f"Got an indicator of {indicator.shape[1]} labels, expected {len(self.classes_)}.")
        return indicator

    def _labels_to_json(self) -> dict[str, Any]:
        return {"task": self.task_, **labels_to_json(self.classes_)}

    def _labels_from_json(self, labels: dict[str, Any]) -> None:
        if labels.get("task") not in ("classification", "multilabel"):
            raise ArtifactError(
                f"labels.json has task={labels.get('task')!r}, expected 'classification' or 'multilabel'."
            )
        self.task_ = labels["task"]
        self.classes_ = labels_from_json(labels)

    def _n_outputs(self) -> int:
        return len(self.classes_)

    def _strata(self, targets: np.ndarray, *, grouped: bool) -> np.ndarray:
        if targets.ndim == 1:
            return targets
        if grouped:  # whole groups hold few of the combinations of labels
            return super()._strata(targets, grouped=grouped)
        return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)

    def _loss_weights(self, targets: np.ndarray, sample_weight: Any) -> np.ndarray:
        weights = super()._loss_weights(targets, sample_weight)
        if self.class_weight is None:
            return weights
        if self.task_ == "multilabel":
            raise ValueError(
                f"Got class_weight={self.class_weight!r} for multi-label targets, expected None; use sample_weight."
            )
        by_class = self.class_weight
        if isinstance(by_class, dict):
            by_class = class_weights(by_class, self.classes_)
        return weights * compute_sample_weight(by_class, targets)
