"""The audio classifier."""

from __future__ import annotations

from functools import partial
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from skastw.analysis.occlusion import Occlusion, explain
from skastw.analysis.windows import window_table
from skastw.core.parameters import parameters
from skastw.data.extraction import check_clips
from skastw.errors import plain
from skastw.estimators.base import AudioEstimator
from skastw.targets import ClassParams, ClassTargets, Targets, learn_targets
from skastw.targets.checks import check_complete, numpy_targets
from skastw.training.run import Loss

__all__ = ["ASTWClassifier"]


@parameters
class ASTWClassifier(ClassifierMixin, ClassParams, AudioEstimator):
    """Audio classifier that trains a compact network from scratch.

    The defaults are the ASTW model: a log-mel front end, a Whisper-like encoder, Muon and AdamW. A clip
    is a path, an array, an ``(array, sample_rate)`` tuple or a dict; see :mod:`skastw.audio.clips`.

    ``y`` holds one label a clip (strings, integers, booleans, floats), trained with softmax and cross-entropy; or it is
    an indicator of shape (n_clips, n_labels), trained with a sigmoid and binary cross-entropy for each label.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    trained_ : Trained
        The fitted model as a value, see :class:`skastw.network.Trained`; the attributes below are parts of it.
    classes_ : ndarray of shape (n_classes,)
        The labels, sorted; of a multi-label indicator the columns, by name if it was a DataFrame.
    task_ : {"classification", "multilabel"}
        The kind of y: one label a clip, or an indicator of several.
    model_ : AudioModel
        The network with the weights of the best epoch, on the CPU.
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
    placeholder_ : object
        The label that :meth:`predict` gives to clips that cannot be read if ``on_error`` leaves them out, which is not
        one of the classes: ``""`` among strings, NaN among floats, -1 or one less than the lowest class among
        integers, None among booleans. Their probabilities are NaN.
    failed_ : list of FailedClip
        Of the last ``fit`` or, unless ``on_error="raise"``, prediction: index, path and reason of each clip that was
        left out.
    n_features_in_ : int
        Width of X, if X was a 2-D array.

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
        self._partial_fit(X, y, partial(self._instalment_targets, y, numpy_targets(classes)), sample_weight)
        return self

    def _instalment_targets(self, y: Any, classes: Any) -> Targets:
        """Return the targets of the first instalment, from ``classes`` or an indicator y."""
        if not hasattr(self, "trained_"):
            if classes is None and np.ndim(y) < 2:
                raise ValueError("Got classes=None in the first call of partial_fit, expected all classes.")
            return learn_targets(y if classes is None else classes, self._learns)
        if classes is not None and not np.array_equal(np.unique(classes), np.unique(self.classes_)):
            expected = plain(self.classes_)
            raise ValueError(f"Got classes={plain(list(classes))}, expected the classes of the first call: {expected}.")
        return self.trained_.targets

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
        return self._targets.decide(self._outputs(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Return the logits of each clip; of two classes, the second's minus the first's.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), or (n_clips,) for two classes, float32
        """
        return self._targets.decision(self._outputs(X)).numpy()

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
        return self._targets.finish(self._outputs(X)).numpy()

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of :meth:`predict_proba`, without its rounding to zero.

        Parameters
        ----------
        X : as in :meth:`predict`

        Returns
        -------
        ndarray of shape (n_clips, n_classes), float32
        """
        return self._targets.log_probabilities(self._outputs(X)).numpy()

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
        check_is_fitted(self)
        clips = check_clips(self, X, reset=False)
        table, failed = window_table(
            self.trained_, clips, self._inference(), window=window, hop=hop, aggregate=aggregate
        )
        self._note(failed)
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
        check_is_fitted(self)
        return explain(self.trained_, clip, self._inference(), label=label, n_times=n_times, n_bands=n_bands, fill=fill)

    @property
    def _targets(self) -> ClassTargets:
        check_is_fitted(self)
        targets = self.trained_.targets
        assert isinstance(targets, ClassTargets)
        return targets

    def _loss(self, targets: Targets) -> Loss:
        return partial(targets.loss, label_smoothing=self.label_smoothing)

    def _target_weights(self, targets: Targets, encoded: np.ndarray) -> np.ndarray:
        assert isinstance(targets, ClassTargets)
        return targets.loss_weights(encoded, self.class_weight)
