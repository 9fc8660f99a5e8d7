"""Frames of many clips, kept for a whole training run, and with targets: a data set."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skastw.batching import Batch, pad, round_length

__all__ = ["MEMORY_LIMIT", "FrameSet", "FrameStore", "blocks", "clip_digests", "clips_sha256"]

#: Bytes of frames that ``cache="auto"`` keeps in memory.
MEMORY_LIMIT = 128 * 2**20


class FrameStore:
    """Frames of many clips: the first ones in memory, what is beyond a limit in a file.

    Parameters
    ----------
    items : iterable of Tensors of shape (T_i, F), float32
        Taken one by one, so that a generator's items need not be in memory together.
    folder : path, optional
        Where the file is made, when there is need for one. The folder has to outlive the store.
    limit : int, optional
        Bytes in memory; None keeps everything there.

    Attributes
    ----------
    lengths : ndarray of shape (n,), int64
        T_i.

    Examples
    --------
    >>> import tempfile, torch
    >>> from skastw.frames import FrameStore
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = FrameStore([torch.zeros(3, 2), torch.ones(4, 2)], folder, limit=24)
    ...     store.lengths.tolist(), store[1].sum().item()
    ([3, 4], 8.0)
    """

    def __init__(
        self, items: Iterable[Tensor], folder: str | os.PathLike[str] | None = None, *, limit: int | None = None
    ) -> None:
        self._path: str | None = None
        self._items: list[Tensor | tuple[int, int]] = []  # frames, or where they begin in the file and their width
        lengths: list[int] = []
        in_memory = in_file = 0
        for item in items:
            lengths.append(len(item))
            in_memory += item.nbytes
            if folder is None or limit is None or in_memory <= limit:
                self._items.append(item)
                continue
            if self._path is None:
                handle, self._path = tempfile.mkstemp(suffix=".f32", dir=folder)
                os.close(handle)
            with open(self._path, "ab") as file:
                file.write(np.ascontiguousarray(item, dtype=np.float32).tobytes())
            self._items.append((in_file, item.shape[1]))
            in_file += item.numel() * 4
        self.lengths = np.array(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Tensor:
        """Return the frames of a clip, read from the file if they are there."""
        item = self._items[index]
        if isinstance(item, Tensor):
            return item
        assert self._path is not None
        begin, width = item
        values = np.fromfile(self._path, dtype=np.float32, count=int(self.lengths[index]) * width, offset=begin)
        return torch.from_numpy(values.reshape(-1, width))

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def subset(self, index: Iterable[int]) -> FrameStore:
        """Return a view of the clips at ``index``."""
        index = list(index)
        view = FrameStore(())
        view._path = self._path
        view._items = [self._items[i] for i in index]
        view.lengths = self.lengths[index]
        return view


def blocks(frames: Iterable[Tensor], size: int) -> Iterator[FrameStore]:
    """Yield frames in stores of at least ``size`` bytes, so that not all are in memory together.

    Examples
    --------
    >>> import torch
    >>> from skastw.frames import blocks
    >>> [store.lengths.tolist() for store in blocks(torch.zeros(3, 5, 2), size=80)]
    [[5, 5], [5]]
    """
    items: list[Tensor] = []
    held = 0
    for item in frames:
        items.append(item)
        held += item.nbytes
        if held >= size:
            yield FrameStore(items)
            items, held = [], 0
    if items:
        yield FrameStore(items)


def clip_digests(frames: Iterable[Tensor]) -> list[bytes]:
    """Return the SHA-256 of the frames of each clip."""
    return [hashlib.sha256(item.contiguous().numpy().data).digest() for item in frames]


def clips_sha256(digests: Iterable[bytes]) -> str:
    """Return one SHA-256 of several clips, whatever their order.

    Examples
    --------
    >>> import torch
    >>> from skastw.frames import clip_digests, clips_sha256
    >>> one, two = clip_digests([torch.zeros(3, 2), torch.ones(4, 2)])
    >>> clips_sha256([one, two]) == clips_sha256([two, one]) != clips_sha256([one])
    True
    """
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


@dataclass(frozen=True)
class FrameSet:
    """A data set ready for training.

    Attributes
    ----------
    frames : FrameStore
    targets : Tensor of shape (n,) or (n, K)
        Encoded.
    weights : Tensor of shape (n,), float32
    positions : ndarray of shape (n,), int
        Where the clips are in X; by default 0, 1, ...
    """

    frames: FrameStore
    targets: Tensor
    weights: Tensor
    positions: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if not len(self.positions):
            object.__setattr__(self, "positions", np.arange(len(self.frames)))

    def __len__(self) -> int:
        return len(self.frames)

    def subset(self, index: np.ndarray) -> FrameSet:
        """Return the items at ``index``."""
        return FrameSet(self.frames.subset(index), self.targets[index], self.weights[index], self.positions[index])

    def lengths(self, max_frames: int) -> np.ndarray:
        """Return the frames of each item that a batch would hold, at most ``max_frames``."""
        return np.minimum(self.frames.lengths, max_frames)

    def batch(self, indices: np.ndarray, max_frames: int, rng: np.random.Generator) -> Batch:
        """Collate the items ``indices``; of an item longer than ``max_frames`` take a random chunk."""
        chunks = []
        for i in indices:
            item = self.frames[i]
            start = int(rng.integers(len(item) - max_frames + 1)) if len(item) > max_frames else 0
            chunks.append(item[start : start + max_frames])
        inputs, lengths = pad(chunks, size=round_length(max(map(len, chunks)), max_frames))
        return Batch(inputs, lengths, self.targets[indices], self.weights[indices])
