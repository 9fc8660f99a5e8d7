"""From X and y to data sets: check them, split, compute the frames."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length
from torch import Tensor

from skastw.augment import Augment
from skastw.core.component import ComponentParams, resolve_component
from skastw.core.device import resolve_device, weight_dtype
from skastw.core.sklearn_private import check_sample_weight
from skastw.core.version import library_versions
from skastw.data.extraction import check_clips, check_frames, extract_frames
from skastw.data.failures import FailedClip, Failures
from skastw.data.frames import MEMORY_LIMIT, FrameSet, FrameStore, clip_digests, clips_sha256
from skastw.data.split import split_validation
from skastw.encoders import Encoder
from skastw.errors import ComponentError, DataError, plain
from skastw.features import Features, Precomputed
from skastw.normalization import Normalization
from skastw.pooling import Pooling
from skastw.targets.checks import check_complete, group_array, numpy_targets

__all__ = ["CACHES", "MAX_AUGMENTATIONS", "AudioInputs", "Components", "Data", "Fitted", "Labelled"]

#: Augmentations in one list; a model folder of a stranger may name any number.
MAX_AUGMENTATIONS = 64
#: Values of the parameter ``cache``, and the bytes of frames that each keeps in memory.
CACHES = {"auto": MEMORY_LIMIT, "memory": None, "disk": 0}


@dataclass(frozen=True)
class Components:
    """The checked components of an estimator, and the numbers that shape its network.

    Attributes
    ----------
    features, normalization, encoder, pooling : component
    augment : tuple of Augment
    sample_rate : int
        Hz.
    chunk_length : float
        Seconds.
    n_models : int
    dtype : torch.dtype
        Of the weights.
    """

    features: Features
    normalization: Normalization
    encoder: Encoder
    pooling: Pooling
    augment: tuple[Augment, ...]
    sample_rate: int
    chunk_length: float
    n_models: int
    dtype: torch.dtype

    @property
    def parts(self) -> tuple[Features, Normalization, Encoder, Pooling]:
        """What the network is built of, in its order."""
        return self.features, self.normalization, self.encoder, self.pooling

    @property
    def precomputed(self) -> bool:
        """Whether X holds frames in place of clips."""
        return isinstance(self.features, Precomputed)


@dataclass(frozen=True)
class Fitted:
    """What a fitted estimator keeps of its parameters, as they were when ``fit`` ran.

    Attributes
    ----------
    components : Components
        Copies, which belong to no one else.
    params : dict
        The other parameters.
    seed : int or None
        What ``random_state`` gave; None if it is not known.
    """

    components: Components
    params: dict[str, Any]
    seed: int | None


@dataclass(frozen=True)
class Labelled:
    """Clips, and what training knows of them.

    Attributes
    ----------
    clips : sequence of clips, of length n
    targets : ndarray of shape (n,) or (n, K)
        Encoded.
    weights : ndarray of shape (n,)
        In the loss.

    Raises
    ------
    ValueError
        If the lengths differ.
    """

    clips: Sequence[Any]
    targets: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        check_consistent_length(self.clips, self.targets, self.weights)

    def used(self) -> np.ndarray:
        """Return the positions of the clips of positive weight."""
        return np.flatnonzero(self.weights > 0)


@dataclass(frozen=True)
class Data:
    """What a network trains on.

    Attributes
    ----------
    train : FrameSet
    valid : FrameSet or None
    split : str
        How the two were told apart, in words.
    """

    train: FrameSet
    valid: FrameSet | None
    split: str

    @property
    def parts(self) -> list[FrameSet]:
        """What trains and, where there is one, what validates."""
        return [self.train] if self.valid is None else [self.train, self.valid]

    @cached_property
    def digests(self) -> list[list[bytes]]:
        """SHA-256 of the frames of each clip, in a list for each part."""
        return [clip_digests(part.frames) for part in self.parts]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the clips' frames, targets and weights, in their order."""
        digest = hashlib.sha256()
        for part, clips in zip(self.parts, self.digests, strict=True):
            digest.update(b"".join(clips))
            for values in (part.targets, part.weights):
                digest.update(values.contiguous().numpy().data)
        return digest.hexdigest()

    def summary(self) -> dict[str, Any]:
        """Return what the artifact records of the data, and of what it was computed with.

        ``clips_sha256`` are of the clips that train, that validate and, last, of all: those of clips that are
        evaluated may be compared with them.
        """
        n_validation = len(self.valid) if self.valid else 0
        counts = {"n_train": len(self.train), "n_validation": n_validation, "split": self.split}
        clips = [*self.digests, chain(*self.digests)] if self.valid else self.digests
        hashes = {"data_sha256": self.fingerprint, "clips_sha256": [clips_sha256(part) for part in clips]}
        return {**counts, **hashes, "versions": library_versions()}


class AudioInputs(ComponentParams):
    """What the estimators do with X and y before there is a network.

    A subclass has the parameters, and says what its targets are.
    """

    # What a subclass has as parameters.
    features: Any
    augment: Any
    normalization: Any
    encoder: Any
    pooling: Any
    sample_rate: int
    chunk_length: float
    n_models: int
    val_split: float | None
    device: Any
    precision: str
    cache: str
    n_jobs: int | None
    on_error: str
    verbose: int
    classes_: np.ndarray

    def _resolve_components(self) -> Components:
        """Return checked copies of the components: what becomes of the parameters later does not change them."""
        listed = self.augment if isinstance(self.augment, list | tuple) else [self.augment]
        if len(listed) > MAX_AUGMENTATIONS:
            raise ComponentError(
                f"Got {len(listed)} augmentations, expected at most {MAX_AUGMENTATIONS}: leave out those that repeat."
            )
        components = Components(
            resolve_component(Features, self.features),
            resolve_component(Normalization, self.normalization),
            resolve_component(Encoder, self.encoder),
            resolve_component(Pooling, self.pooling),
            tuple(resolve_component(Augment, item) for item in listed if item is not None),
            sample_rate=self.sample_rate,
            chunk_length=self.chunk_length,
            n_models=self.n_models,
            dtype=weight_dtype(self.precision),
        )
        for component in (*components.parts, *components.augment):
            component.check_params()
        for augmentation in components.augment:
            if augmentation.log_mel and not components.features.log_mel:
                raise ComponentError(
                    f"Got augment={augmentation.name!r} with features={components.features.name!r}, expected one of "
                    "log-mel frames, whose bands and levels it changes; leave it out, or take features='log_mel'."
                )
        return copy.deepcopy(components)

    def _encode_target(self, y: Any, *, reset: bool, sample_weight: Any = None) -> np.ndarray:
        """Return y as the loss takes it; with ``reset``, learn from it what targets there are."""
        raise AttributeError("a subclass says what its targets are")

    def _strata(self, targets: np.ndarray, *, grouped: bool) -> np.ndarray:
        """Return integers that the validation split should spread evenly."""
        return np.zeros(len(targets), dtype=np.int64)

    def _loss_weights(self, targets: np.ndarray, sample_weight: Any) -> np.ndarray:
        check_complete(sample_weight, "sample_weight")
        return check_sample_weight(numpy_targets(sample_weight), targets, ensure_non_negative=True)

    def _check_training(self, X: Any, y: Any, sample_weight: Any) -> Labelled:
        clips = check_clips(self, X, reset=True)
        targets = self._check_target(clips, y, reset=True, sample_weight=sample_weight)
        return Labelled(clips, targets, self._loss_weights(targets, sample_weight))

    def _check_target(self, clips: Sequence[Any], y: Any, *, reset: bool, sample_weight: Any = None) -> np.ndarray:
        if y is None:
            raise ValueError(f"{type(self).__name__} requires y to be passed, but the target y is None.")
        targets = self._encode_target(y, reset=reset, sample_weight=sample_weight)
        check_consistent_length(clips, targets)
        return targets

    def _check_validation(self, X_val: Any, y_val: Any, weights: Any) -> Labelled | None:
        if (X_val is None) != (y_val is None):
            given = "X_val" if y_val is None else "y_val"
            raise ValueError(f"Got {given} alone, expected X_val and y_val together.")
        if X_val is None:
            if weights is not None:
                raise ValueError("Got sample_weight_val without X_val and y_val, expected all three together.")
            return None
        check_complete(y_val, "y_val")
        check_complete(weights, "sample_weight_val")
        clips = check_clips(self, X_val, reset=False)
        targets = self._check_target(clips, y_val, reset=False)
        return Labelled(clips, targets, check_sample_weight(numpy_targets(weights), targets, ensure_non_negative=True))

    def _data_sets(
        self,
        given: Labelled,
        valid: Labelled | None,
        groups: Any,
        components: Components,
        seed: int,
    ) -> Data:
        """Compute the frames, and split."""
        check_consistent_length(given.targets, groups)
        groups = group_array(groups)
        used = given.used()
        if len(used) == 0:
            raise ValueError("Got weights that are zero for every clip, expected a positive weight somewhere.")
        everything, self.failed_ = self._frame_set(given, used, components)
        self._check_what_is_left(given.targets[used], given.targets[everything.positions])
        if valid is not None:
            n_features = everything.frames[0].shape[1]
            valid_set, failed = self._frame_set(valid, np.arange(len(valid.clips)), components, n_features)
            self.failed_ += [replace(clip, reason=f"in X_val: {clip.reason}") for clip in failed]
            return Data(everything, valid_set, "validation clips given by the caller")
        if self.val_split is None:
            return Data(everything, None, "no validation")
        kept = everything.positions
        kept_groups = None if groups is None else groups[kept]
        train_index, valid_index = self._split(given.targets[kept], kept_groups, seed)
        how = "random split, stratified where possible" if groups is None else "whole groups held out"
        return Data(everything.subset(train_index), everything.subset(valid_index), how)

    def _check_what_is_left(self, before: np.ndarray, after: np.ndarray) -> None:
        """Raise where a class has lost all its clips."""
        if before.ndim > 1 or before.dtype.kind != "i" or not len(lost := np.setdiff1d(before, after)):
            return
        raise DataError(
            f"No clip of class {plain(self.classes_[lost[0]])!r} can be used; error.failed lists the clips."
        )

    def _split(self, targets: np.ndarray, groups: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        assert self.val_split is not None
        strata = self._strata(targets, grouped=groups is not None)
        names = getattr(self, "classes_", None)
        return split_validation(strata, self.val_split, seed, groups=groups, names=names)

    def _frame_set(
        self,
        given: Labelled,
        index: np.ndarray,
        components: Components,
        n_features: int | None = None,
    ) -> tuple[FrameSet, list[FailedClip]]:
        """Return the data set of the clips at ``index`` that can be used, and a list of the others."""
        limit = None if components.precomputed else CACHES[self.cache]  # precomputed frames are in memory already
        failures = Failures(self.on_error)
        frames = FrameStore(self._frames(given.clips, index, components, failures, n_features), limit=limit)
        failures.tell(len(index), training=True)
        index = failures.without(index)
        targets = torch.from_numpy(given.targets)[index]
        targets = targets.to(components.dtype) if targets.is_floating_point() else targets
        weights = torch.from_numpy(given.weights)[index].to(components.dtype)
        return FrameSet(frames, targets, weights, index), failures.clips

    def _frames_of_files(self, paths: Sequence[str], components: Components) -> list[Tensor]:
        """Return the frames of audio files that augmentations ask for."""
        if components.precomputed:
            raise ComponentError(
                "An augmentation reads audio files, but with features='precomputed' there is no front end to read them "
                "with: give the classifier the front end and clips, or leave the augmentation out."
            )
        sample_rate = components.sample_rate
        return list(extract_frames(paths, components.features.build(sample_rate), sample_rate=sample_rate))

    def _frames(
        self,
        clips: Sequence[Any],
        index: np.ndarray,
        components: Components,
        failures: Failures,
        n_features: int | None = None,
    ) -> Iterator[Tensor]:
        """Yield the frames of the clips at ``index``; precomputed ones have to be ``n_features`` wide."""
        if components.precomputed:
            yield from check_frames(clips, n_features, indices=index, failures=failures)
            return
        front_end, device = components.features.build(components.sample_rate), resolve_device(self.device)
        yield from extract_frames(
            clips,
            front_end,
            sample_rate=components.sample_rate,
            indices=index,
            device=device if device.type == "cuda" else None,
            n_jobs=self.n_jobs,
            verbose=int(self.verbose),
            failures=failures,
        )
