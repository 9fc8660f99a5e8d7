"""What the estimators share: checking clips, fitting a network, batched inference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
from torch import Tensor

from skastw._component import ComponentParams, resolve_component
from skastw._device import PRECISIONS, resolve_device, weight_dtype
from skastw._sklearn import Interval, StrOptions
from skastw.audio import as_clips, is_array_input
from skastw.augment import Augment
from skastw.batching import FrameSet
from skastw.encoders import Encoder
from skastw.extraction import check_frames, extract_frames
from skastw.features import Features, Precomputed
from skastw.inference import embed_clips
from skastw.model import AudioModel, build_model
from skastw.pooling import Pooling
from skastw.training import Task, TrainingConfig, split_validation, train

__all__ = ["AudioEstimator", "Components", "check_clips"]

#: Clips whose frames are in memory at once in prediction.
_BLOCK = 256


@dataclass(frozen=True)
class Components:
    """The checked components of an estimator.

    Attributes
    ----------
    features, encoder, pooling : component
    augment : tuple of Augment
    """

    features: Features
    encoder: Encoder
    pooling: Pooling
    augment: tuple[Augment, ...]

    @property
    def precomputed(self) -> bool:
        """Whether X holds frames in place of clips."""
        return isinstance(self.features, Precomputed)


def check_clips(estimator: Any, X: Any, *, reset: bool) -> Sequence[Any]:
    """Return X as a sequence of clips; check a numeric array as scikit-learn checks any array.

    Parameters
    ----------
    estimator : estimator
        Gets ``n_features_in_`` when ``reset`` and X is an array.
    X : clips
        See :mod:`skastw.audio.clips`.
    reset : bool
        True in ``fit``.

    Returns
    -------
    sequence of clips

    Raises
    ------
    ValueError, TypeError
        If X holds no clips.
    """
    if reset and hasattr(estimator, "n_features_in_"):
        del estimator.n_features_in_
    if is_array_input(X):
        array = X if hasattr(X, "shape") else np.asarray(X)
        clips = list(array) if len(array.shape) == 3 else validate_data(estimator, array, reset=reset)
    else:
        clips = as_clips(X)
    if len(clips) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) in X while a minimum of 1 is required by {type(estimator).__name__}."
        )
    return clips


class AudioEstimator(ComponentParams):
    """Base of the estimators that train a network."""

    _task: ClassVar[Task]
    _components: ClassVar = {"features": Features, "encoder": Encoder, "pooling": Pooling, "augment": Augment}
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "sample_rate": [Interval(Integral, 1000, 1_000_000, closed="both")],
        "chunk_length": [Interval(Real, 0, 3600, closed="right")],
        "features": [str, Features],
        "augment": [str, Augment, "array-like", None],
        "encoder": [str, Encoder],
        "pooling": [str, Pooling],
        "epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "muon_lr": [Interval(Real, 0, None, closed="left")],
        "adam_lr": [Interval(Real, 0, None, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_ratio": [Interval(Real, 0, 1, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "val_split": [Interval(Real, 0, 1, closed="neither"), None],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "device": [str, torch.device],
        "precision": [StrOptions(set(PRECISIONS))],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    # ------------------------------------------------------------------ fit

    def _fit(
        self,
        clips: Sequence[Any],
        y: np.ndarray,
        *,
        n_outputs: int,
        weights: np.ndarray,
        groups: Any,
        valid: tuple[Any, np.ndarray, np.ndarray] | None,
    ) -> None:
        """Train a fresh network on clips and encoded targets, and set what ``fit`` sets."""
        components = self._resolve_components()
        check_consistent_length(clips, y, weights, groups)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        device = resolve_device(self.device)

        kept, train_index, valid_index, split = self._split(y, weights, groups, valid is not None, seed)
        front_end = components.features.build(self.sample_rate)
        frames = list(self._frames(clips, kept, front_end, components))
        targets = torch.from_numpy(y)[kept]
        loss_weights = torch.from_numpy(weights.astype(np.float32))[kept]

        def subset(index: np.ndarray) -> FrameSet:
            return FrameSet([frames[i] for i in index], targets[index], loss_weights[index])

        train_set, valid_set = subset(train_index), subset(valid_index) if len(valid_index) else None
        if valid is not None:
            valid_set = self._explicit_validation(valid, front_end, components, frames[0].shape[1])

        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            model = self._build(components, n_outputs, frames[0].shape[1]).to(device, weight_dtype(self.precision))
            result = train(model, train_set, valid_set, self._task, self._config(device, seed), components.augment)

        self.model_ = model
        self.history_ = result.history
        self.best_epoch_ = result.best_epoch
        self.n_epochs_ = len(result.history)
        self._n_features_out = model.head.in_features
        self._data_summary = {
            "n_train": len(train_set),
            "n_validation": len(valid_set) if valid_set is not None else 0,
            "split": split,
        }

    def _split(
        self, y: np.ndarray, weights: np.ndarray, groups: Any, explicit: bool, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        """Return the clips of non-zero weight, and positions among them to train and to validate on."""
        kept = np.flatnonzero(weights > 0)
        if len(kept) == 0:
            raise ValueError("Got sample_weight that is zero for every clip, expected a positive weight somewhere.")
        everything, nothing = np.arange(len(kept)), np.arange(0)
        if explicit:
            return kept, everything, nothing, "validation clips given by the caller"
        if self.val_split is None:
            return kept, everything, nothing, "no validation"
        kept_groups = None if groups is None else np.asarray(groups)[kept]
        train_index, valid_index = split_validation(y[kept], self.val_split, seed, groups=kept_groups)
        how = "random split, stratified where possible" if groups is None else "whole groups held out"
        return kept, train_index, valid_index, how

    def _explicit_validation(
        self, valid: tuple[Any, np.ndarray, np.ndarray], front_end: Any, components: Components, n_features: int
    ) -> FrameSet:
        X_val, y_val, weights = valid
        clips = check_clips(self, X_val, reset=False)
        check_consistent_length(clips, y_val, weights)
        frames = list(self._frames(clips, np.arange(len(clips)), front_end, components, n_features))
        return FrameSet(frames, torch.from_numpy(y_val), torch.from_numpy(weights.astype(np.float32)))

    def _resolve_components(self) -> Components:
        listed = (
            [] if self.augment is None else self.augment if isinstance(self.augment, list | tuple) else [self.augment]
        )
        components = Components(
            resolve_component(Features, self.features),
            resolve_component(Encoder, self.encoder),
            resolve_component(Pooling, self.pooling),
            tuple(resolve_component(Augment, item) for item in listed),
        )
        for component in (components.features, components.encoder, components.pooling, *components.augment):
            component.check_params()
        return components

    def _build(self, components: Components, n_outputs: int, n_features: int) -> AudioModel:
        return build_model(
            components.features,
            components.encoder,
            components.pooling,
            n_outputs=n_outputs,
            sample_rate=self.sample_rate,
            chunk_length=self.chunk_length,
            n_features=n_features,
        )

    def _config(self, device: torch.device, seed: int) -> TrainingConfig:
        names = ("epochs", "batch_size", "muon_lr", "adam_lr", "weight_decay", "warmup_ratio", "patience", "precision")
        settings = {name: getattr(self, name) for name in (*names, "label_smoothing")}
        return TrainingConfig(**settings, device=device, seed=seed, verbose=int(self.verbose))

    # ------------------------------------------------------------ inference

    def _frames(
        self,
        clips: Sequence[Any],
        index: np.ndarray,
        front_end: Any,
        components: Components,
        n_features: int | None = None,
    ) -> Iterator[Tensor]:
        """Yield the frames of the clips at ``index``."""
        if components.precomputed:
            yield from check_frames([clips[i] for i in index], n_features)
            return
        yield from extract_frames(
            clips, front_end, indices=index, sample_rate=self.sample_rate, n_jobs=self.n_jobs, verbose=int(self.verbose)
        )

    def _embed(self, X: Any) -> Tensor:
        """Return the embedding of each clip, shape (n_clips, D), float32."""
        check_is_fitted(self, "model_")
        clips = check_clips(self, X, reset=False)
        components = self._resolve_components()
        device = resolve_device(self.device)
        front_end = components.features.build(self.sample_rate)
        model = self.model_.to(device)
        precision = "float32" if self.precision == "auto" else self.precision
        blocks = []
        for start in range(0, len(clips), _BLOCK):
            index = np.arange(start, min(start + _BLOCK, len(clips)))
            frames = list(self._frames(clips, index, front_end, components, model.features.n_features))
            blocks.append(embed_clips(model, frames, batch_size=self.batch_size, device=device, precision=precision))
        return torch.cat(blocks)

    def _logits(self, X: Any) -> np.ndarray:
        """Return the logits of each clip, shape (n_clips, n_outputs), float32."""
        embeddings = self._embed(X)
        head = self.model_.head
        with torch.inference_mode():
            return head(embeddings.to(head.weight.device)).cpu().numpy()
