"""The audio pretrainer, an estimator that learns an encoder from clips without labels."""

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from skastw.augment import Augment
from skastw.core.parameters import param, parameters
from skastw.core.sklearn_private import fit_context
from skastw.data.dataset import Labelled
from skastw.errors import ComponentError, plain
from skastw.estimators.arguments import Replaced
from skastw.estimators.attempt import Attempt
from skastw.estimators.base import AudioEstimator
from skastw.targets import MaskedFrames, Targets
from skastw.targets.masked_frames import MaskParams


@parameters
class ASTWPretrainer(MaskParams, AudioEstimator):
    """Pretrains the encoder of a classifier or a regressor on clips without labels.

    Half of the frames of a clip are hidden, in spans at random places, and the network learns to predict them from the
    others. A training with labels starts from the folder that :meth:`save_pretrained` writes: pass it as ``init_from``
    to an :class:`ASTWClassifier` or :class:`ASTWRegressor` with the same encoder, pooling and front end. All weights
    are learned from the clips.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    trained_ : Trained
        The fitted model, see :class:`skastw.network.Trained`. The attributes below are parts of it.
    model_ : AudioModel
        The network with the weights of the best epoch, or with what a refit made of them. Its head predicts frames.
    history_ : list of dict
        One row per epoch: the squared error of the hidden frames, which are standardised with the default
        normalization; validation R2; learning rates; seconds.
    best_epoch_, n_epochs_ : int
        The epoch that was selected, counted from 1, and the number of epochs that were trained.
    interrupted_ : bool
        Whether Ctrl-C ended the training.
    seed_ : int or None
        Seed that was drawn from ``random_state``.
    features_, augment_, sample_rate_, chunk_length_
        The parameters that the model was fitted with. Embeddings use these.
    failed_ : list of FailedClip
        Index, path and reason of each clip that was left out in the last ``fit`` or :meth:`transform`. With
        ``on_error="raise"``, :meth:`transform` does not set it.
    n_features_in_ : int
        Number of columns of X, if X was a 2-D array.

    See Also
    --------
    ASTWClassifier : It takes the saved folder as ``init_from``.

    Notes
    -----
    The encoder gives an output frame for one or more input frames; encoders that give one vector for the whole clip
    cannot be pretrained. ``drop_frames`` of :class:`~skastw.encoders.ASTWEncoder` does not act in pretraining. The
    poolings with weights, such as ``"attentive_stats"``, keep their initial weights.

    References
    ----------
    Liu et al., "Mockingjay: Unsupervised Speech Representation Learning with Deep Bidirectional Transformer Encoders",
    2020; Baevski et al., "wav2vec 2.0", 2020 (about half of the frames hidden, in spans).

    Examples
    --------
    >>> import tempfile
    >>> from skastw import ASTWClassifier, ASTWPretrainer
    >>> from skastw.datasets import make_tones
    >>> from skastw.encoders import ASTWEncoder
    >>> clips, y = make_tones(n_clips=24, n_classes=2, random_state=0)
    >>> small = ASTWEncoder(d_model=32, num_heads=2, num_layers=1)
    >>> pretrainer = ASTWPretrainer(encoder=small, epochs=3).fit(clips)
    >>> pretrainer.transform(clips[:2]).shape
    (2, 32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf = ASTWClassifier(encoder=small, epochs=5, init_from=pretrainer.save_pretrained(folder)).fit(clips, y)
    >>> clf.predict(clips[:2]).shape
    (2,)
    """

    augment: str | Augment | list[Any] | None = param(
        default=None,
        valid=[str, Augment, "array-like", None],
        doc="Augmentation of the training batches, or a list of augmentations, as in :class:`ASTWClassifier`. By "
        "default there is none, because other frames are hidden in each step.",
    )

    _learns: ClassVar[str] = "pretrainer"

    # If metadata routing is enabled, groups are routed to ``fit`` unless the user requests otherwise.
    __metadata_request__fit: ClassVar = {"groups": True}

    export_onnx = Replaced("ASTWClassifier(init_from=folder).fit(X, y), and export the classifier")
    predict = Replaced("transform(X), or ASTWClassifier(init_from=folder).fit(X, y)")

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, *, sample_weight: Any = None, groups: Any = None) -> Self:
        """Train a network to predict hidden frames of clips.

        Parameters
        ----------
        X : sequence of clips, or ndarray of shape (n_clips, n_samples)
            Clips. With ``features="precomputed"``, an array of frames of shape (n_frames, n_features) for each clip.
        y : ignored
            For pipelines.
        sample_weight : array-like of shape (n_clips,), optional
            Weight of each clip in the loss. Clips of weight 0 are not used.
        groups : array-like of shape (n_clips,), optional
            Speaker or recording of each clip. No group is divided between training and validation clips.

        Returns
        -------
        self

        Raises
        ------
        ClipError
            If a clip cannot be used and ``on_error="raise"``. The message names its index and path. It is raised before
            training starts.
        ComponentError
            If the encoder gives no output frames at regular places, or has no weights to train.
        DataError
            If a group or weight is missing. For other values of ``on_error``, if more than a fifth of the clips cannot
            be used.
        ValueError, TypeError
            If a parameter or an argument is not valid.
        TrainingError
            If the loss is NaN or infinite, memory runs out, or the checkpoint cannot be read or written.

        Warns
        -----
        UserWarning
            If the user interrupts training (Ctrl-C) after the first epoch. The estimator then has the best weights so
            far, and ``interrupted_`` is True.

        Notes
        -----
        If ``fit`` raises an exception, the estimator does not change; see :meth:`ASTWClassifier.fit`.
        """
        if self.side is not None or self.solver != "gradient":
            raise ValueError(
                f"Got side={plain(self.side)!r} and solver={self.solver!r}, expected side=None and solver='gradient': "
                "the side vector and the exact solver learn from labels."
            )

        def learn(attempt: Attempt, clips: Sequence[Any]) -> tuple[Targets, Labelled, None]:
            targets = self._hidden_frames(attempt, clips)
            return targets, self._labelled(clips, targets, np.zeros(len(clips)), sample_weight, groups), None

        return self._fit(X, None, learn, {"sample_weight": sample_weight, "groups": groups})

    def _hidden_frames(self, attempt: Attempt, clips: Sequence[Any]) -> MaskedFrames:
        """Return the targets for the front end and the encoder."""
        components, width = attempt.components, attempt.front_end.n_features
        if components.precomputed:  # clips that have no frames are reported when they are read
            width = next((np.shape(frames)[1] for frames in clips if np.ndim(frames) == 2), width)

        stride = components.encoder.stride
        if components.encoder.name == "identity" or not float(stride).is_integer():
            raise ComponentError(
                f"Got encoder={plain(self.encoder)!r}, expected an encoder with weights to train, and a whole number "
                "of input frames for each output frame, such as 'astw', 'conv_transformer' or 'patch_transformer'."
            )
        return MaskedFrames(width, int(stride), float(self.mask_share), int(self.mask_length))
