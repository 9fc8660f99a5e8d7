"""Batches of sequences of different lengths: masks, padding, buckets of similar lengths, chunks.

Time is axis 1, sequences are padded with zeros at the end, and each tensor comes with its ``lengths``. The result for a
clip does not depend on the other clips of its batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Batch",
    "frame_mask",
    "is_padded",
    "length_mask",
    "pad",
    "padding_mask",
    "round_length",
    "round_length_down",
    "shuffled_buckets",
    "sorted_buckets",
    "split_evenly",
    "trim",
    "unpadded",
]

_unpadded = ContextVar("_unpadded", default=False)


@dataclass(frozen=True)
class Batch:
    """A batch of training clips, as augmentations and the network take it.

    Attributes
    ----------
    inputs : Tensor of shape (B, T, F), float32
        Frames, zero beyond each item's length.
    lengths : Tensor of shape (B,), int64
        Valid frames of each item; always on the CPU, so that reading a length never waits for a device.
    targets : Tensor of shape (B,) or (B, K)
        Encoded targets.
    weights : Tensor of shape (B,), float32
        Weight of each item in the loss.
    partners : Tensor of shape (B,), int64, optional
        Position of the item that was mixed into each item; see ``shares``.
    shares : Tensor of shape (B,), float32, optional
        Share of each item in the mixture; its partner has the rest. None if no items were mixed.
    """

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    weights: Tensor
    partners: Tensor | None = None
    shares: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device`` without waiting for the transfer; the lengths stay on the CPU."""
        tensors = [self.inputs, self.targets, self.weights]
        if device.type == "cuda":
            tensors = [tensor.pin_memory() for tensor in tensors]
        inputs, targets, weights = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return replace(self, inputs=inputs, targets=targets, weights=weights)

    def with_frames(self, frames: Tensor, lengths: Tensor | None = None) -> "Batch":
        """Return the batch with other frames (B, T, F) and ``lengths``, by default the same lengths.

        The frames are set to zero beyond each length.
        """
        lengths = self.lengths if lengths is None else lengths
        if is_padded(frames, lengths):
            frames = frames * frame_mask(frames, lengths)
        return replace(self, inputs=frames, lengths=lengths)

    def chunk(self, max_frames: int, rng: np.random.Generator) -> "Batch":
        """Return the batch with a random chunk of each item that is longer than ``max_frames``."""
        if self.inputs.shape[1] <= max_frames:
            return self
        longer = self.lengths - max_frames
        starts = torch.tensor([int(rng.integers(n + 1)) if n > 0 else 0 for n in longer.tolist()])
        position = (starts[:, None] + torch.arange(max_frames)).clamp(max=self.inputs.shape[1] - 1)
        chunks = self.inputs[torch.arange(len(starts))[:, None], position]
        return self.with_frames(chunks, self.lengths.clamp(max=max_frames))

    def crop_or_pad(self, max_frames: int) -> "Batch":
        """Return the batch cropped to ``max_frames`` or padded to a length of :func:`round_length`.

        After an augmentation has changed the lengths of the clips, the batch may have any length.
        """
        size = round_length(min(self.inputs.shape[1], max_frames), max_frames)
        missing = size - self.inputs.shape[1]
        if missing == 0:
            return self

        inputs = torch.nn.functional.pad(self.inputs, (0, 0, 0, missing)) if missing > 0 else self.inputs[:, :size]
        return replace(self, inputs=inputs, lengths=self.lengths.clamp(max=size))


def length_mask(lengths: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """Return the mask of the real positions in padded sequences.

    Parameters
    ----------
    lengths : Tensor of shape (B,)
    size : int
        Padded length T.
    device : torch.device, optional
        Device of the mask; by default the device of ``lengths``.

    Returns
    -------
    Tensor of shape (B, T), bool
        True for real positions, False for padding.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.batching import length_mask
    >>> length_mask(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    mask = torch.arange(size, device=lengths.device) < lengths[:, None]
    return mask if device is None else mask.to(device, non_blocking=True)


def frame_mask(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return the mask (B, T, 1) of the real frames in ``frames`` (B, T, F) with ``lengths``, on their device."""
    return length_mask(lengths, frames.shape[1], frames.device)[:, :, None]


def trim(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return ``frames`` (B, T, ...), cropped to the longest of the ``lengths`` and zero beyond each length.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.batching import trim
    >>> trim(torch.ones(2, 5, 1), torch.tensor([1, 3])).squeeze(2).tolist()
    [[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    if not is_padded(frames, lengths):
        return frames
    frames = frames[:, : int(lengths.max())]
    return frames * frame_mask(frames, lengths)


def padding_mask(frames: Tensor, lengths: Tensor) -> Tensor | None:
    """Return the mask (B, T) of the real frames in ``frames`` (B, T, ...) with ``lengths``, or None without padding."""
    return length_mask(lengths, frames.shape[1], frames.device) if is_padded(frames, lengths) else None


def is_padded(frames: Tensor, lengths: Tensor) -> bool:
    """Return whether one of the ``lengths`` of ``frames`` (B, T, ...) is less than T."""
    return not _unpadded.get() and bool((lengths != frames.shape[1]).any())


@contextmanager
def unpadded() -> Iterator[None]:
    """Make :func:`is_padded` return False without a look at the lengths.

    A model is exported with an unpadded batch, and an exported graph cannot branch on the values of a tensor.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.batching import is_padded, unpadded
    >>> with unpadded():
    ...     is_padded(torch.zeros(1, 5, 1), torch.tensor([5]))
    False
    """
    token = _unpadded.set(True)
    try:
        yield
    finally:
        _unpadded.reset(token)


def pad(items: Sequence[Tensor], *, size: int | None = None) -> tuple[Tensor, Tensor]:
    """Stack sequences of different lengths, padded with zeros at the end.

    Parameters
    ----------
    items : sequence of Tensors of shape (T_i, ...)
    size : int, optional
        Length to pad to; by default the length of the longest item.

    Returns
    -------
    padded : Tensor of shape (B, size, ...)
    lengths : Tensor of shape (B,), int64
    """
    lengths = torch.tensor([len(item) for item in items])
    padded = torch.nn.utils.rnn.pad_sequence(list(items), batch_first=True)
    if size is not None and size > padded.shape[1]:
        padded = torch.cat([padded, padded.new_zeros(len(items), size - padded.shape[1], *padded.shape[2:])], dim=1)
    return padded, lengths


def round_length(length: int, limit: int) -> int:
    """Return ``length`` rounded up to one of 16 lengths in each octave, at most ``limit``.

    The kernels of the network are prepared for each shape of a batch and cached. With batches of all possible lengths,
    hundreds of them would be prepared, which costs more time and memory than 3 % more padding.

    Parameters
    ----------
    length : int
    limit : int
        Length of the longest sequence that the network takes.

    Examples
    --------
    >>> from skastw.core.batching import round_length
    >>> [round_length(length, 3000) for length in (1, 31, 50, 371, 2999)]
    [1, 31, 50, 384, 3000]
    """
    step = _length_step(length)
    return min(-(-length // step) * step, limit)


def round_length_down(length: int) -> int:
    """Return ``length`` rounded down to one of the lengths of :func:`round_length`.

    Examples
    --------
    >>> from skastw.core.batching import round_length_down
    >>> [round_length_down(length) for length in (1, 31, 50, 371, 2999)]
    [1, 31, 50, 368, 2944]
    """
    step = _length_step(length)
    return length // step * step


def _length_step(length: int) -> int:
    """Return the step between the lengths of :func:`round_length` in the octave of ``length``."""
    return 2 ** max(0, length.bit_length() - 5)


def shuffled_buckets(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator, *, jitter: float = 0.05
) -> list[np.ndarray]:
    """Draw the batches of an epoch, each of items of similar lengths.

    The items are sorted by their length times a random factor in [1 - jitter, 1 + jitter] and split into batches at a
    random offset. Then the batches are shuffled. The batches of two epochs therefore hold different items.

    Parameters
    ----------
    lengths : ndarray of shape (n,)
    batch_size : int
    rng : numpy.random.Generator
    jitter : float
        With 0 the items are sorted by length; with a large value they are nearly shuffled.

    Returns
    -------
    list of ndarrays of indices
        Every index once. All batches have ``batch_size`` items, except that the first and the last of the sorted items
        may be in smaller ones.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.core.batching import shuffled_buckets
    >>> batches = shuffled_buckets(np.array([9, 1, 8, 2]), 2, np.random.default_rng(0), jitter=0.0)
    >>> sorted(np.concatenate(batches).tolist())
    [0, 1, 2, 3]
    """
    n = len(lengths)
    order = np.argsort(lengths * rng.uniform(1 - jitter, 1 + jitter, size=n), kind="stable")

    # the size of the first batch is drawn such that an offset adds no batch
    first = int(rng.integers(n % batch_size, batch_size + 1)) if n % batch_size else batch_size
    batches = np.split(order, range(first, n, batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


def sorted_buckets(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of indices in order of length, longest first, so that memory use peaks at the start.

    Parameters
    ----------
    lengths : sequence of int
    batch_size : int

    Yields
    ------
    list of int
        At most ``batch_size`` indices.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def split_evenly(length: int, limit: int) -> list[tuple[int, int]]:
    """Split ``length`` into the fewest consecutive chunks of at most ``limit``, whose sizes differ by at most one.

    The prediction for a clip is the mean over its chunks. With chunks of full size, a last chunk of a few frames would
    count as much as the others.

    Examples
    --------
    >>> from skastw.core.batching import split_evenly
    >>> split_evenly(10, 4)
    [(0, 3), (3, 6), (6, 10)]
    """
    n = max(1, -(-length // limit))
    bounds = [length * i // n for i in range(n + 1)]
    return list(pairwise(bounds))
