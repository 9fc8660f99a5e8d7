"""The audio classifier, an estimator for clips with one or several labels."""

from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from skastw.analysis.occlusion import Occlusion, explain
from skastw.analysis.windows import window_table
from skastw.core.parameters import parameters
from skastw.errors import plain
from skastw.estimators.supervised import SupervisedEstimator
from skastw.targets import ClassParams, Targets, learn_targets
from skastw.targets.checks import check_complete, numpy_targets
from skastw.training.run import Loss


@parameters
class ASTWClassifier(ClassifierMixin, ClassParams, SupervisedEstimator):
    """Audio classifier that trains a compact network from scratch.

    The defaults define the ASTW model: a log-mel front end and a Whisper-like encoder, trained with Muon and AdamW. A
    clip is a path, an array, an ``(array, sample_rate)`` tuple or a dict; see :mod:`skastw.audio.clips`.

    ``y`` has one label for each clip (strings, integers, booleans or floats), or it is an indicator matrix of shape
    (n_clips, n_labels) for clips with several labels. Single labels are trained with softmax and cross-entropy, an
    indicator with a sigmoid and binary cross-entropy for each label.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    trained_ : Trained
        The fitted model, see :class:`skastw.network.Trained`. The attributes below are parts of it.
    classes_ : ndarray of shape (n_classes,)
        The sorted labels. For a multi-label indicator, its columns, by name if it was a DataFrame.
    task_ : {"classification", "multilabel"}
        The kind of y: one label per clip, or an indicator of several labels.
    model_ : AudioModel
        The network with the weights of the best epoch, or with what a refit made of them, on the CPU.
    history_ : list of dict
        One row per epoch: losses, validation accuracy and macro-F1, learning rates, seconds. The epochs of a refit
        have no validation scores.
        ``pandas.DataFrame(clf.history_).plot(x="epoch", y=["loss", "val_loss"])`` plots the losses.
    best_epoch_ : int
        The epoch that was selected, counted from 1.
    n_epochs_ : int
        Number of epochs that were trained.
    interrupted_ : bool
        Whether Ctrl-C ended the training.
    seed_ : int or None
        Seed that was drawn from ``random_state``; None if an earlier release saved the model.
    features_, augment_, sample_rate_, chunk_length_
        The parameters that the model was fitted with. Predictions use these.
    placeholder_ : object
        The value that :meth:`predict` returns for clips that cannot be read, if ``on_error`` leaves them out. It is
        not a class: ``""`` for strings, NaN for floats, None for booleans, and for integers -1 or, if a class is
        negative, the lowest class minus 1. The probabilities of these clips are NaN.
    failed_ : list of FailedClip
        Index, path and reason of each clip that was left out in the last ``fit`` or prediction. Predictions with
        ``on_error="raise"`` do not set it.
    n_features_in_ : int
        Number of columns of X, if X was a 2-D array.

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

    _learns: ClassVar[str] = "classifier"

    classes_ = property(lambda self: self.trained_.targets.classes)
    placeholder_ = property(lambda self: self.trained_.targets.placeholder)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score = True  # a power spectrum drops the sign that toy blobs differ by
        tags.classifier_tags.multi_label = True
        return tags

    def partial_fit(self, X: Any, y: Any, *, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on a batch of clips, starting from the weights of the previous call.

        The learning rates stay at their peak.

        Parameters
        ----------
        X : as in :meth:`fit`
        y : array-like of shape (n_clips,), or indicator of shape (n_clips, n_labels)
        classes : array-like of shape (n_classes,), optional
            All classes that any call may contain. Required in the first call, unless y is an indicator.
        sample_weight : array-like of shape (n_clips,), optional
            Weight of each clip in the loss.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If ``classes`` is missing in the first call, or differs from the classes of the first call.

        Notes
        -----
        Later calls use the components, ``sample_rate``, ``chunk_length`` and ``n_models`` of the first call. If a call
        raises an exception, the estimator does not change; see :meth:`fit`.
        """
        return self._partial_fit(X, y, partial(self._instalment_targets, y, classes), sample_weight)

    def _instalment_targets(self, y: Any, classes: Any) -> Targets:
        """Return the targets of the first call of ``partial_fit``, from ``classes`` or from an indicator y."""
        check_complete(classes, "classes")
        classes = numpy_targets(classes)
        if not hasattr(self, "trained_"):
            if classes is None and np.ndim(y) < 2:
                raise ValueError("Got classes=None in the first call of partial_fit, expected all classes.")
            return learn_targets(y if classes is None else classes, self._learns)
        if classes is not None and not np.array_equal(np.unique(classes), np.unique(self.classes_)):
            expected = plain(self.classes_)
            raise ValueError(f"Got classes={plain(list(classes))}, expected the classes of the first call: {expected}.")
        return self.trained_.targets

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable class of each clip, or all labels with a probability above 0.5.

        Parameters
        ----------
        X : sequence of clips, one path or dict, or ndarray of shape (n_clips, n_samples)

        Returns
        -------
        ndarray of shape (n_clips,), or (n_clips, n_labels) for multi-label targets
            Classes, or an indicator of dtype int64. Clips that cannot be read get :attr:`placeholder_`, or a row of -1
            in an indicator; see ``on_error``.
        """
        targets, outputs = self._outputs(X)
        return targets.decide(outputs)

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of each clip; for two classes, the logit of the second minus the logit of the first.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), or (n_clips,) for two classes, float32
        """
        targets, outputs = self._outputs(X)
        return targets.decision(outputs).numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class for each clip.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), float32
            Columns in the order of ``classes_``. Rows sum to 1, except for multi-label targets: their columns are
            independent probabilities.
        """
        targets, outputs = self._outputs(X)
        return targets.finish(outputs).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of the probabilities, also for probabilities that :meth:`predict_proba` rounds to zero.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), float32
        """
        targets, outputs = self._outputs(X)
        return targets.log_probabilities(outputs).numpy()

    def predict_top_k(self, X: Any, *, k: int = 5) -> list[list[tuple[Any, float]]]:
        """Return the ``k`` most probable classes of each clip, most probable first.

        Parameters
        ----------
        X : as in :meth:`predict`
        k : int, default=5
            Number of classes, at least 1. If it is larger than the number of classes, all classes are returned.

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
        targets, outputs = self._outputs(X)
        return targets.top_k(outputs, k)

    def predict_windows(
        self, X: Any, *, window: float, hop: float | None = None, aggregate: str | None = None
    ) -> pd.DataFrame:
        """Return the probabilities of windows along each clip, to find events in long recordings.

        Parameters
        ----------
        X : as in :meth:`predict`
            Files are decoded in pieces, so that the use of memory does not depend on their length.
        window : float
            Length of a window (s), ideally the length of the training clips.
        hop : float, optional
            Time between the starts of consecutive windows (s); by default half a window. The last window ends where
            the clip ends. A clip that is shorter than a window is one window.
        aggregate : {"mean", "max", "vote"}, optional
            Return one row per clip instead of one per window: the mean or the maximum of the probabilities of its
            windows, or the share of its windows in which a class is the most probable one.

        Returns
        -------
        DataFrame
            Columns ``clip`` (file, with the times of a part of it, or position in X), ``start`` and ``end`` (s), and
            one column for each class. A class that is named like one of the first three columns gets the suffix
            " (label)". :meth:`predict_proba` returns the same probabilities for a window that is passed as a clip.

        Raises
        ------
        ValueError
            If ``window`` or ``hop`` is shorter than one sample or not a number, or ``aggregate`` is unknown.
        ClipError
            If a clip cannot be read and ``on_error="raise"``. Otherwise it gets one row of NaN.

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
        return self._run(partial(window_table, window=window, hop=hop, aggregate=aggregate), X)[1]

    def explain(
        self, clip: Any, *, label: Any = None, n_times: int = 20, n_bands: int = 16, fill: str = "clip"
    ) -> Occlusion:
        """Explain a prediction by occlusion: how much the probability drops if a part of the clip is hidden.

        The frames of the clip are divided into ``n_times`` by ``n_bands`` equal parts. For each part, the clip is
        predicted with this part and a margin of half a part on each side hidden. This takes as long as the prediction
        of ``n_times * n_bands`` clips of this length. :class:`skastw.plots.OcclusionDisplay` plots the result.

        Parameters
        ----------
        clip : clip
            One clip, of any length; with ``features="precomputed"``, its frames.
        label : label, optional
            A class in ``classes_``; by default the most probable class.
        n_times, n_bands : int, default=20 and 16
            Number of parts in time and in frequency, at most the number of frames and of bins.
        fill : {"clip", "band"}, default="clip"
            Value that replaces the hidden frames: ``"clip"`` is the mean over all times and bins, ``"band"`` the mean
            of each bin over time. With ``"band"``, a steady tone is not found: the mean of its bin is the tone itself.

        Returns
        -------
        Occlusion
            ``saliency`` of shape (n_times, n_bands) is the drop of the log-probability; ``times`` and ``frequencies``
            are the positions of the parts.

        Raises
        ------
        ClipError
            If the clip cannot be used, for any value of ``on_error``.
        ValueError
            If ``label`` is not a class, or another argument is not valid.

        Notes
        -----
        Test-time augmentation (``tta``) is not used. A clip with a hidden part is unlike the training clips, so only
        large differences are meaningful.

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
        >>> occlusion = clf.explain(clips[0], label=1, n_times=5, n_bands=8)
        >>> occlusion.label, occlusion.saliency.shape, len(occlusion.times), len(occlusion.frequencies)
        (1, (5, 8), 5, 8)
        """
        check_is_fitted(self)
        return explain(self.trained_, clip, self._inference(), label=label, n_times=n_times, n_bands=n_bands, fill=fill)

    def _loss(self, targets: Targets) -> Loss:
        return partial(targets.loss, label_smoothing=self.label_smoothing)

    def _target_weights(self, targets: Any, encoded: np.ndarray) -> np.ndarray:
        return targets.loss_weights(encoded, self.class_weight)
