"""Base of the classifier and the regressor: ``fit`` with targets, and the outputs of the network."""

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from skastw.artifact.onnx import write_onnx
from skastw.artifact.pretrained import with_front_end
from skastw.core.parameters import parameters
from skastw.core.sklearn_private import fit_context
from skastw.data.dataset import Data, Labelled
from skastw.errors import plain
from skastw.estimators.attempt import Attempt
from skastw.estimators.base import AudioEstimator, clip_weights
from skastw.network.inference import predict
from skastw.network.trained import Trained
from skastw.targets import Targets, learn_targets
from skastw.targets.checks import check_complete


@parameters
class SupervisedEstimator(AudioEstimator):
    """Base of the estimators that learn targets of clips."""

    # If metadata routing is enabled, these arguments are routed to ``fit`` unless the user requests otherwise.
    __metadata_request__fit: ClassVar = {"groups": True, "X_val": True, "y_val": True, "sample_weight_val": True}

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
    ):
        """Train a network on clips and their targets.

        Parameters
        ----------
        X : sequence of clips, or ndarray of shape (n_clips, n_samples)
            Clips. With ``features="precomputed"``, an array of frames of shape (n_frames, n_features) for each clip.
        y : array-like of shape (n_clips,) or (n_clips, n_targets)
            Labels or values; see the docstring of the class.
        sample_weight : array-like of shape (n_clips,), optional
            Weight of each clip in the loss. Clips of weight 0 are not used.
        groups : array-like of shape (n_clips,), optional
            Speaker or recording of each clip. No group is divided between training and validation clips.
        X_val, y_val : clips and targets, optional
            Validation clips, which select the best epoch. All clips of X are then used for training.
        sample_weight_val : array-like, optional
            Weight of each validation clip.

        Returns
        -------
        self

        Raises
        ------
        ClipError
            If a clip cannot be used and ``on_error="raise"``. The message names its index and path. It is raised before
            training starts.
        DataError
            If a label, group or weight is missing, or a label has a type that cannot be saved. For other values of
            ``on_error``, if more than a fifth of the clips or all clips of a class cannot be used.
        ValueError, TypeError
            If a parameter or an argument is not valid.
        TrainingError
            If the loss is NaN or infinite, memory runs out, or the checkpoint cannot be read or written.

        Warns
        -----
        UserWarning
            If the user interrupts training (Ctrl-C) after the first epoch. The estimator then has the best weights so
            far, and ``interrupted_`` is True. Also if the channels of a clip cancel each other when they are averaged,
            and if ``torchrun`` started several processes: each of them trains on all clips.

        Notes
        -----
        If ``fit`` raises an exception, the estimator does not change. The exception has two attributes: ``failed``, the
        list of the clips that could not be used, and ``trained``, a :class:`~skastw.network.Trained` with the best
        weights so far, or None before the end of the first epoch. After ``estimator.trained_ = error.trained``, the
        estimator predicts with these weights.
        """

        def learn(attempt: Attempt, clips: Sequence[Any]) -> tuple[Targets, Labelled, Labelled | None]:
            targets = learn_targets(y, self._learns, sample_weight)
            labelled = self._labelled(clips, targets, y, sample_weight, groups)
            return targets, labelled, self._check_validation(attempt, targets, X_val, y_val, sample_weight_val)

        metadata = {"sample_weight": sample_weight, "groups": groups, "X_val": X_val, "y_val": y_val}
        return self._fit(X, y, learn, metadata)

    def _partial_fit(self, X: Any, y: Any, learn: Callable[[], Targets], sample_weight: Any) -> Self:
        """Train one epoch at constant learning rates, starting from the weights and momenta of the previous call.

        ``learn`` returns the targets: new ones in the first call, and the targets of the first call afterwards.
        """
        self._validate_params()
        if self.side is not None or self.solver == "lbfgs":
            got = f"side={plain(self.side)!r} and solver={self.solver!r}"
            raise ValueError(
                f"Got {got} with partial_fit, expected side=None and solver='gradient', because exact fits need all "
                "clips at once: call fit."
            )
        before: Trained | None = vars(self).get("trained_")
        with self._attempt(before) as attempt:
            attempt.start = self._further(before) if before else self._starting_point(attempt.components)
            targets = learn()
            clips = attempt.check_clips(self, X, reset=before is None)
            labelled = self._labelled(clips, targets, y, sample_weight)
            width = None if before is None else before.model.features.n_features
            train_set, attempt.failed = self._frame_set(attempt, labelled, labelled.used, width)
            data = attempt.data = Data(train_set, None, "trained in instalments")

            settings = replace(
                self._settings(attempt.seed), n_epochs=1, constant_lr=True, patience=None, ema_decay=None
            )
            run = attempt.run = attempt.start_run(targets, settings, loss=self._loss(targets))
            if before is not None:
                run.history = list(before.record.history)
                model, momenta = vars(self).get("_momenta") or (None, {})
                if model is before:  # not if fit, from_pretrained or an assignment set trained_
                    run.load_momenta(copy.deepcopy(momenta))
            attempt.train(run, data)
        return self

    def _check_validation(
        self, attempt: Attempt, targets: Targets, X_val: Any, y_val: Any, sample_weight: Any
    ) -> Labelled | None:
        """Return the validation clips that were passed to ``fit``, or None."""
        if (X_val is None) != (y_val is None):
            given = "X_val" if y_val is None else "y_val"
            raise ValueError(f"Got {given} alone, expected X_val and y_val together.")
        if X_val is None and sample_weight is not None:
            raise ValueError("Got sample_weight_val without X_val and y_val, expected all three together.")
        if X_val is None:
            return None
        check_complete(y_val, "y_val")
        clips, encoded = attempt.check_clips(self, X_val, reset=False), targets.encode(y_val)
        check_consistent_length(clips, encoded)
        return Labelled(clips, encoded, clip_weights(sample_weight, encoded, "sample_weight_val"))

    def _outputs(self, X: Any) -> tuple[Any, torch.Tensor]:
        """Return the targets, and the outputs of the network for each clip, shape (n_clips, K)."""
        return self._run(predict, X)

    def export_onnx(self, path: str | os.PathLike[str], *, featurizer: Any = None) -> str:
        """Save the fitted estimator as one ONNX file that takes waveforms and runs without torch.

        Its input ``waveform``, float32 of shape (batch, n_samples), takes mono clips of the same length, which may be
        any length, at the estimator's ``sample_rate``. Its outputs are ``probabilities`` and ``logits`` of shape
        (batch, n_classes) or, for a regressor, ``values`` of shape (batch, n_targets). Its metadata are ``labels`` (as
        JSON), ``task``, ``sample_rate``, ``chunk_length``, ``library`` and ``library_version``. Requires the extra
        ``onnx``.

        Parameters
        ----------
        path : path
            The file; its name must end in ``.onnx``. An existing file is replaced in one step at the end.
        featurizer : ASTWFeaturizer, optional
            The featurizer that computed the frames; required with ``features="precomputed"``. The file then takes
            waveforms.

        Returns
        -------
        str
            The file.

        Raises
        ------
        OutputError
            If the file cannot be written. The path is checked before the export starts.
        ExportError
            If a component cannot be expressed in ONNX. The message names it.
        ArtifactError
            If ``featurizer`` is missing for precomputed frames.
        MissingDependencyError
            If the extra ``onnx`` is not installed.
        sklearn.exceptions.NotFittedError
            Before ``fit``.

        Notes
        -----
        The file predicts in float32 and without test-time augmentation: ``precision`` and ``tta`` are not exported.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import onnxruntime
        >>> from skastw import ASTWClassifier
        >>> from skastw.datasets import make_tones
        >>> from skastw.encoders import ASTWEncoder
        >>> clips, y = make_tones(n_clips=12, n_classes=2, random_state=0)
        >>> clf = ASTWClassifier(encoder=ASTWEncoder(d_model=16, num_heads=2, num_layers=1), epochs=1).fit(clips, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     session = onnxruntime.InferenceSession(clf.export_onnx(Path(folder) / "tones.onnx"))
        >>> probabilities, logits = session.run(None, {"waveform": clips[0][None]})
        >>> bool(np.allclose(probabilities, clf.predict_proba(clips[:1]), atol=1e-5))
        True
        """
        check_is_fitted(self)
        return str(write_onnx(path, with_front_end(self.trained_, featurizer)))
