"""Batches of variable-length sequences: lengths, masks, padding, length buckets, chunks.

Time is axis 1, padding is zeros at the end, ``lengths`` travels with the tensor. A clip's result never
depends on what it is batched with; batching only decides how much of a batch is padding.
"""

from __future__ import annotations

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
    "is_padded",
    "length_mask",
    "pad",
    "round_length",
    "round_length_down",
    "shuffled_buckets",
    "sorted_buckets",
    "split_evenly",
    "unpadded",
]

_unpadded = ContextVar("_unpadded", default=False)


@dataclass(frozen=True)
class Batch:
    """What travels through augmentation and the network.

    Attributes
    ----------
    inputs : Tensor of shape (B, T, F), float32
        Frames, zero beyond each item's length.
    lengths : Tensor of shape (B,), int64
        Valid frames of each item; always on the CPU, where decisions by length wait for no device.
    targets : Tensor of shape (B,) or (B, K)
        Encoded targets.
    weights : Tensor of shape (B,), float32
        Weight of each item in the loss.
    partners : Tensor of shape (B,), int64, optional
        Of each item the position of the one that was mixed into it; see ``shares``.
    shares : Tensor of shape (B,), float32, optional
        How much of each item is itself; the rest is its partner. None where nothing was mixed.
    """

    inputs: Tensor
    lengths: Tensor
    targets: Tensor
    weights: Tensor
    partners: Tensor | None = None
    shares: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``, without waiting for it; the lengths stay with the program."""
        tensors = [self.inputs, self.targets, self.weights]
        if device.type == "cuda":
            tensors = [tensor.pin_memory() for tensor in tensors]
        inputs, targets, weights = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return replace(self, inputs=inputs, targets=targets, weights=weights)

    def fitted(self, max_frames: int) -> Batch:
        """Return the batch with its frames cut to ``max_frames``, and padded to a length that comes again.

        What changes the length of clips may leave any length; see :func:`round_length`.
        """
        size = round_length(min(self.inputs.shape[1], max_frames), max_frames)
        missing = size - self.inputs.shape[1]
        if missing == 0:
            return self
        inputs = torch.nn.functional.pad(self.inputs, (0, 0, 0, missing)) if missing > 0 else self.inputs[:, :size]
        return replace(self, inputs=inputs, lengths=self.lengths.clamp(max=size))


def length_mask(lengths: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """Return the mask of real positions.

    Parameters
    ----------
    lengths : Tensor of shape (B,)
    size : int
        Padded length T.
    device : torch.device, optional
        Where the mask is needed; by default where the lengths are.

    Returns
    -------
    Tensor of shape (B, T), bool
        True where the position is real.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.batching import length_mask
    >>> length_mask(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    mask = torch.arange(size, device=lengths.device) < lengths[:, None]
    return mask if device is None else mask.to(device, non_blocking=True)


def is_padded(frames: Tensor, lengths: Tensor) -> bool:
    """Say whether any of the ``lengths`` of ``frames`` (B, T, ...) is shorter than T."""
    return not _unpadded.get() and bool((lengths != frames.shape[1]).any())


@contextmanager
def unpadded() -> Iterator[None]:
    """Within it nothing is padded, and :func:`is_padded` knows without looking: an exported graph cannot branch.

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
    """Stack sequences of different lengths, zeros at the end.

    Parameters
    ----------
    items : sequence of Tensors of shape (T_i, ...)
    size : int, optional
        Length to pad to; by default that of the longest item.

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
    """Return a length to pad to: rounded up to one of 16 in each octave, at most ``limit``.

    The kernels of the network are prepared once for each shape and kept; a batch of every possible length
    would prepare hundreds, at a cost in time and memory that is greater than that of 3 % more padding.

    Parameters
    ----------
    length : int
    limit : int
        Longest sequence that the network takes.

    Examples
    --------
    >>> from skastw.core.batching import round_length
    >>> [round_length(length, 3000) for length in (1, 31, 50, 371, 2999)]
    [1, 31, 50, 384, 3000]
    """
    step = _length_step(length)
    return min(-(-length // step) * step, limit)


def round_length_down(length: int) -> int:
    """Return the longest of the lengths of :func:`round_length` that is not longer than ``length``.

    Examples
    --------
    >>> from skastw.core.batching import round_length_down
    >>> [round_length_down(length) for length in (1, 31, 50, 371, 2999)]
    [1, 31, 50, 368, 2944]
    """
    step = _length_step(length)
    return length // step * step


def _length_step(length: int) -> int:
    """Return the distance between lengths to pad to, in the octave of ``length``."""
    return 2 ** max(0, length.bit_length() - 5)


def shuffled_buckets(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator, *, jitter: float = 0.05
) -> list[np.ndarray]:
    """Draw an epoch of batches whose items have similar lengths and differ from epoch to epoch.

    Items are sorted by their length times a random factor in [1 - jitter, 1 + jitter], cut into batches at
    a random offset, and the batches are shuffled.

    Parameters
    ----------
    lengths : ndarray of shape (n,)
    batch_size : int
    rng : numpy.random.Generator
    jitter : float
        0 sorts strictly; large values approach a plain shuffle.

    Returns
    -------
    list of ndarrays of indices
        Every index once; batches hold ``batch_size`` items, the first and the last one possibly fewer.

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
    whole = -(-n // batch_size) * batch_size == n
    first = batch_size if whole else int(rng.integers(n % batch_size, batch_size + 1))
    batches = np.split(order, range(first, n, batch_size))
    return [batches[i] for i in rng.permutation(len(batches))]


def sorted_buckets(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Yield batches of indices in order of length, longest first, so that memory peaks at once.

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
    """Cut ``length`` into the fewest consecutive chunks of at most ``limit``, equal to within one.

    Equal chunks cover the whole, tail included, without a last chunk of a few frames whose prediction
    would count as much as the others.

    Examples
    --------
    >>> from skastw.core.batching import split_evenly
    >>> split_evenly(10, 4)
    [(0, 3), (3, 6), (6, 10)]
    """
    n = max(1, -(-length // limit))
    bounds = [length * i // n for i in range(n + 1)]
    return list(pairwise(bounds))
