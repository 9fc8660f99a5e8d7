"""Training and validation sets, made from clips and encoded targets."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import torch

from skastw.audio import clip_path
from skastw.core.parameters import param, parameters
from skastw.core.sklearn_private import StrOptions
from skastw.data.extraction import Outcome
from skastw.data.failures import FailedClip, FailedClips, report_cancelled, report_failures
from skastw.data.frames import MEMORY_LIMIT, FrameSet, FrameStore, clip_digests, clips_sha256
from skastw.data.split import SplitParams, split_validation
from skastw.targets import Targets

#: Values of the parameter ``cache``, and the number of bytes of frames that each keeps in memory (None: all).
CACHES = {"auto": MEMORY_LIMIT, "memory": None, "disk": 0}


@parameters
class CacheParams:
    """Parameters of the storage of frames during training."""

    cache: str = param(
        default="auto",
        valid=[StrOptions(set(CACHES))],
        doc='Where ``fit`` keeps the frames of the clips: ``"auto"`` keeps up to 128 MB in memory and the rest in a '
        'temporary file, so that the use of memory does not grow with the number of clips; ``"memory"`` keeps all in '
        'memory, ``"disk"`` all in the file. The Python module ``tempfile`` chooses the folder of the file; set '
        "``TMPDIR`` to change it. Predictions do not write such a file.",
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

    @property
    def used(self) -> np.ndarray:
        """The positions of the clips with a weight.

        Raises
        ------
        ValueError
            If no clip has a weight.
        """
        used = np.flatnonzero(self.weights > 0)
        if len(used) == 0:
            raise ValueError("Got weights that are zero for every clip, expected a positive weight somewhere.")
        return used


@dataclass(frozen=True)
class Data:
    """The data sets of a training run.

    Attributes
    ----------
    train : FrameSet
    valid : FrameSet or None
    split : str
        Description of how the validation clips were chosen.
    together : FrameSet or None
        The training and validation clips, if the validation clips were held out from the clips of ``fit``.
    """

    train: FrameSet
    valid: FrameSet | None
    split: str
    together: FrameSet | None = None

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


def hold_out(labelled: Labelled, frame_set: FrameSet, targets: Targets, split: SplitParams, seed: int) -> Data:
    """Split a data set into training and validation clips.

    Parameters
    ----------
    labelled : Labelled
        All clips.
    frame_set : FrameSet
        The usable clips.
    targets : Targets
        Targets, which define the strata of the split.
    split : SplitParams
        Parameters of the split, or an estimator that has them.
    seed : int
        Seed of the split.

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        If the clips cannot be split.
    """
    if split.val_split is None:
        return Data(frame_set, None, "no validation")

    groups = None if labelled.groups is None else labelled.groups[frame_set.positions]
    strata = targets.strata(labelled.targets[frame_set.positions], grouped=groups is not None)
    train, valid = split_validation(strata, split.val_split, seed, groups=groups, names=targets.labels)
    how = "random split, stratified where possible" if groups is None else "whole groups held out"
    return Data(frame_set.subset(train), frame_set.subset(valid), how, together=frame_set)


def make_frame_set(
    labelled: Labelled,
    outcomes: Iterable[Outcome],
    n_clips: int,
    *,
    limit: int | None,
    on_error: str,
    dtype: torch.dtype,
) -> tuple[FrameSet, list[FailedClip]]:
    """Return the data set of the usable clips among ``n_clips`` clips, and a list of the other clips.

    Parameters
    ----------
    labelled : Labelled
    outcomes : iterable of Outcome
        The results of reading some of the labelled clips.
    n_clips : int
        Number of these clips, for warnings and errors.
    limit : int or None
        Bytes of frames to keep in memory. The other frames are kept in a temporary file.
    on_error : str
        See :data:`skastw.data.failures.POLICIES`.
    dtype : torch.dtype
        Number format of the network, used for the sample weights and for numeric targets.
    """
    frames, positions = FrameStore(limit=limit), []
    failed = FailedClips()
    cancelled: list[tuple[int, str | None]] = []
    sides: list[torch.Tensor] = []

    for outcome in outcomes:
        if isinstance(outcome.result, FailedClip):
            failed.append(outcome.result)
            continue
        frames.append(outcome.result)
        positions.append(outcome.position)
        sides += [] if outcome.side is None else [outcome.side]
        if outcome.cancelled:
            cancelled.append((outcome.position, clip_path(labelled.clips[outcome.position])))

    report_cancelled(cancelled, n_clips)
    report_failures(failed, n_clips, on_error, training=True)

    kept = np.array(positions, dtype=np.int64)
    targets = torch.from_numpy(labelled.targets)[kept]
    targets = targets.to(dtype) if targets.is_floating_point() else targets
    weights = torch.from_numpy(labelled.weights)[kept].to(dtype)
    return FrameSet(frames, targets, weights, kept, torch.stack(sides) if sides else None), failed
