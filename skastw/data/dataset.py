"""Training and validation sets, made from clips and encoded targets."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_consistent_length

from skastw.audio import clip_path
from skastw.core.parameters import param, parameters
from skastw.core.sklearn_private import StrOptions
from skastw.data.extraction import Outcome
from skastw.data.failures import FailedClip, report_cancelled, report_failures
from skastw.data.frames import MEMORY_LIMIT, FrameSet, FrameStore, clip_digests, clips_sha256
from skastw.data.split import SplitParams, split_validation
from skastw.errors import DataError
from skastw.targets import Targets

__all__ = ["CacheParams", "Data", "Labelled", "make_data", "make_frame_set"]

#: Values of the parameter ``cache``, and the number of bytes of frames that each keeps in memory (None: all).
CACHES = {"auto": MEMORY_LIMIT, "memory": None, "disk": 0}

#: Function that reads clips and yields their outcomes. It takes the clips, the positions to read, and the number of
#: values in a precomputed frame, if known.
Read = Callable[[Sequence[Any], np.ndarray, int | None], Iterator[Outcome]]


@parameters
class CacheParams:
    """Parameters of the storage of frames during training."""

    cache: str = param(
        default="auto",
        valid=[StrOptions(set(CACHES))],
        doc='Where ``fit`` keeps the frames of the clips: ``"auto"`` keeps up to 128 MB in memory and the rest in a '
        "temporary file, so that the use of memory does not grow with the number of clips. Python's ``tempfile`` "
        "chooses the folder; set ``TMPDIR`` to change it. Predictions do not write such a file.",
        saved=False,
    )


@dataclass(frozen=True)
class Labelled:
    """Clips with their encoded targets.

    Attributes
    ----------
    clips : sequence of clips, of length n
    targets : ndarray of shape (n,) or (n, K)
    weights : ndarray of shape (n,)
        Weight of each clip in the loss. Clips of weight 0 are not used.
    groups : ndarray of shape (n,), optional
        Speaker or recording of each clip.

    Raises
    ------
    ValueError
        If the lengths differ.
    """

    clips: Sequence[Any]
    targets: np.ndarray
    weights: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_consistent_length(self.clips, self.targets, self.weights, self.groups)


@dataclass(frozen=True)
class Data:
    """The data sets of a training run.

    Attributes
    ----------
    train : FrameSet
    valid : FrameSet or None
    split : str
        Description of how the validation clips were chosen.
    failed : list of FailedClip
        Clips that were left out.
    """

    train: FrameSet
    valid: FrameSet | None
    split: str
    failed: list[FailedClip] = field(default_factory=list)

    @property
    def parts(self) -> list[FrameSet]:
        """The training set, followed by the validation set if it exists."""
        return [self.train] if self.valid is None else [self.train, self.valid]

    @cached_property
    def digests(self) -> list[list[bytes]]:
        """SHA-256 of the frames of each clip, one list for each part."""
        return [clip_digests(part.frames) for part in self.parts]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the frames, targets and weights of all clips, in order."""
        digest = hashlib.sha256()
        for part, clips in zip(self.parts, self.digests, strict=True):
            digest.update(b"".join(clips))
            for values in (part.targets, part.weights):
                digest.update(values.contiguous().numpy().data)
        return digest.hexdigest()

    @property
    def clips_sha256(self) -> list[str]:
        """SHA-256 of the training clips, of the validation clips and of all clips, to recognise evaluated clips."""
        parts = [*self.digests, chain(*self.digests)] if self.valid else self.digests
        return [clips_sha256(part) for part in parts]


def make_data(
    labelled: Labelled,
    validation: Labelled | None,
    targets: Targets,
    read: Read,
    *,
    limit: int | None,
    on_error: str,
    dtype: torch.dtype,
    split: SplitParams,
    seed: int,
) -> Data:
    """Compute the frames of the clips, and split off validation clips if none are given.

    Parameters
    ----------
    labelled : Labelled
    validation : Labelled or None
        Validation clips that were passed to ``fit``.
    targets : Targets
        Targets that ``fit`` learned from y.
    read : callable
        Function that reads clips and yields their outcomes.
    limit : int or None
        Bytes of frames to keep in memory. The other frames are kept in a temporary file.
    on_error : str
        See :data:`skastw.data.failures.POLICIES`.
    dtype : torch.dtype
        Number format of the network's weights, which the weights and numeric targets of the clips get too.
    split : SplitParams
    seed : int
        Seed of the split.

    Returns
    -------
    Data

    Raises
    ------
    ClipError, DataError
        If clips cannot be used; see ``on_error``.
    ValueError
        If all weights are zero, or the clips cannot be split.
    """
    settings: dict[str, Any] = {"limit": limit, "on_error": on_error, "dtype": dtype}
    used = np.flatnonzero(labelled.weights > 0)
    if len(used) == 0:
        raise ValueError("Got weights that are all zero, expected at least one positive weight.")

    everything, failed = make_frame_set(labelled, used, read, **settings)
    lost = targets.lost(labelled.targets[used], labelled.targets[everything.positions])
    if lost is not None:
        error = DataError(f"No clip of {lost} can be used; error.failed lists the clips.")
        error.failed = failed
        raise error

    if validation is not None:
        positions, n_features = np.arange(len(validation.clips)), everything.frames[0].shape[1]
        validating, failed_too = make_frame_set(validation, positions, read, n_features=n_features, **settings)
        failed += [replace(clip, reason=f"in X_val: {clip.reason}") for clip in failed_too]
        return Data(everything, validating, "validation clips given by the caller", failed)
    if split.val_split is None:
        return Data(everything, None, "no validation", failed)

    groups = None if labelled.groups is None else labelled.groups[everything.positions]
    strata = targets.strata(labelled.targets[everything.positions], grouped=groups is not None)
    train, valid = split_validation(strata, split.val_split, seed, groups=groups, names=targets.labels)
    how = "random split, stratified where possible" if groups is None else "whole groups held out"
    return Data(everything.subset(train), everything.subset(valid), how, failed)


def make_frame_set(
    labelled: Labelled,
    index: np.ndarray,
    read: Read,
    *,
    limit: int | None,
    on_error: str,
    dtype: torch.dtype,
    n_features: int | None = None,
) -> tuple[FrameSet, list[FailedClip]]:
    """Return the data set of the usable clips at ``index``, and a list of the other clips.

    Parameters
    ----------
    labelled : Labelled
    index : ndarray of int
        Positions of the clips to read.
    read, limit, on_error, dtype
        See :func:`make_data`.
    n_features : int, optional
        Expected number of values in a precomputed frame.
    """
    frames, positions = FrameStore(limit=limit), []
    failed: list[FailedClip] = []
    cancelled: list[tuple[int, str | None]] = []

    for outcome in read(labelled.clips, index, n_features):
        if isinstance(outcome.result, FailedClip):
            failed.append(outcome.result)
            continue
        frames.append(outcome.result)
        positions.append(outcome.position)
        if outcome.cancelled:
            cancelled.append((outcome.position, clip_path(labelled.clips[outcome.position])))

    report_cancelled(cancelled, len(index))
    report_failures(failed, len(index), on_error, training=True)

    kept = np.array(positions, dtype=np.int64)
    targets = torch.from_numpy(labelled.targets)[kept]
    targets = targets.to(dtype) if targets.is_floating_point() else targets
    weights = torch.from_numpy(labelled.weights)[kept].to(dtype)
    return FrameSet(frames, targets, weights, kept), failed
