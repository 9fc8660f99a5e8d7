"""Storage of the frames of many clips, and data sets of frames with targets."""

import hashlib
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from skastw.core.batching import Batch, pad, round_length

T = TypeVar("T")

#: Bytes of frames that ``cache="auto"`` keeps in memory; the other frames are written to a temporary file.
MEMORY_LIMIT = 128 * 2**20


class FrameStore:
    """Frames of many clips: the first clips in memory, the others in a temporary file.

    The file is deleted with the store, and also if the process is killed.

    Parameters
    ----------
    items : iterable of Tensors of shape (T_i, F), float32
        Frames of each clip. A generator is consumed one item at a time.
    limit : int, optional
        Bytes of frames to keep in memory; None keeps all.

    Raises
    ------
    OSError
        If the file cannot be written. The message names its folder.

    Examples
    --------
    >>> import torch
    >>> from skastw.data.frames import FrameStore
    >>> store = FrameStore([torch.zeros(3, 2), torch.ones(4, 2)], limit=24)
    >>> store.lengths.tolist(), store[1].sum().item()
    ([3, 4], 8.0)
    """

    def __init__(self, items: Iterable[Tensor] = (), *, limit: int | None = None) -> None:
        self._limit = limit
        self._n_bytes = 0
        self._file: _FrameFile | None = None
        self._items: list[Tensor | tuple[int, tuple[int, int]]] = []  # frames, or their position and shape in the file
        for item in items:
            self.append(item)

    def append(self, item: Tensor) -> None:
        """Add the frames of a clip, shape (T, F), float32."""
        self._n_bytes += item.nbytes
        if self._limit is None or self._n_bytes <= self._limit:
            self._items.append(item)
            return

        if self._file is None:
            self._file = _FrameFile()
        self._items.append((self._file.append(item), (item.shape[0], item.shape[1])))

    @property
    def lengths(self) -> np.ndarray:
        """The number of frames of each clip, shape (n,), int64."""
        lengths = [len(item) if isinstance(item, Tensor) else item[1][0] for item in self._items]
        return np.array(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Tensor:
        """Return the frames of a clip, from memory or from the file."""
        item = self._items[index]
        if isinstance(item, Tensor):
            return item
        assert self._file is not None
        return self._file.read(*item)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def subset(self, index: Iterable[int]) -> "FrameStore":
        """Return a view of the clips at ``index``."""
        view = FrameStore()
        view._file = self._file
        view._items = [self._items[i] for i in index]
        return view


class _FrameFile:
    """A temporary file of float32 values, which other users cannot open and which is deleted with the process."""

    def __init__(self) -> None:
        with _naming_the_folder():
            self._file = tempfile.TemporaryFile(prefix="skastw-", suffix=".f32")  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # after the last store that reads it
        self._size = 0
        self._lock = threading.Lock()  # several threads may read, and a file has a single position

    def append(self, item: Tensor) -> int:
        """Write the values of a tensor; return their offset in the file (bytes)."""
        begin = self._size
        values = np.ascontiguousarray(item, dtype=np.float32)
        with self._lock, _naming_the_folder():
            self._file.seek(begin)
            self._file.write(values.data)
            self._file.flush()  # raise an error for a full disk here, not during training
        self._size += values.nbytes
        return begin

    def read(self, begin: int, shape: tuple[int, int]) -> Tensor:
        """Return the values at an offset (bytes) as a tensor of ``shape``."""
        frames = torch.empty(shape, dtype=torch.float32)
        with self._lock:
            self._file.seek(begin)
            n_bytes = self._file.readinto(frames.numpy().data)
        if n_bytes != frames.nbytes:
            raise OSError(f"Got {n_bytes} of {frames.nbytes} bytes of frames from the temporary file, expected all.")
        return frames


@contextmanager
def _naming_the_folder() -> Iterator[None]:
    """Add the folder of temporary files, and how to choose another one, to an OSError."""
    try:
        yield
    except OSError as error:
        folder = f" in {tempfile.tempdir!r}" if tempfile.tempdir else ""  # unknown if no folder is writable
        reason = f"Cannot write frames to a temporary file{folder}: {error.strerror or error}"
        remedy = "make room there, set TMPDIR to a folder on another disk, or set cache='memory'"
        raise OSError(error.errno, f"{reason}; {remedy}") from error


def blocks(items: Iterable[T], size: int, n_bytes: Callable[[T], int]) -> Iterator[list[T]]:
    """Yield items in lists of at least ``size`` bytes, so that not all items are in memory at once.

    Examples
    --------
    >>> import torch
    >>> from skastw.data.frames import blocks
    >>> [len(block) for block in blocks(torch.zeros(3, 5, 2), size=80, n_bytes=lambda frames: frames.nbytes)]
    [2, 1]
    """
    block: list[T] = []
    total = 0
    for item in items:
        block.append(item)
        total += n_bytes(item)
        if total >= size:
            yield block
            block, total = [], 0
    if block:
        yield block


def clip_digests(frames: Iterable[Tensor]) -> list[bytes]:
    """Return the SHA-256 of the frames of each clip."""
    return [hashlib.sha256(item.contiguous().numpy().data).digest() for item in frames]


def clips_sha256(digests: Iterable[bytes]) -> str:
    """Return one SHA-256 of several clips, which does not depend on their order.

    Examples
    --------
    >>> import torch
    >>> from skastw.data.frames import clip_digests, clips_sha256
    >>> one, two = clip_digests([torch.zeros(3, 2), torch.ones(4, 2)])
    >>> clips_sha256([one, two]) == clips_sha256([two, one]) != clips_sha256([one])
    True
    """
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


@dataclass(frozen=True)
class FrameSet:
    """A data set for training or validation: frames, encoded targets and weights.

    Attributes
    ----------
    frames : FrameStore
    targets : Tensor of shape (n,) or (n, K)
        Encoded targets.
    weights : Tensor of shape (n,), float32
    positions : ndarray of shape (n,), int
        Positions of the clips in X; by default 0, 1, ...
    side : Tensor of shape (n, S), float32, optional
        Side vector of each clip.
    """

    frames: FrameStore
    targets: Tensor
    weights: Tensor
    positions: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    side: Tensor | None = None

    def __post_init__(self) -> None:
        if not len(self.positions):
            object.__setattr__(self, "positions", np.arange(len(self.frames)))

    def __len__(self) -> int:
        return len(self.frames)

    def subset(self, index: np.ndarray) -> "FrameSet":
        """Return the data set of the items at ``index``."""
        side = None if self.side is None else self.side[index]
        frames, targets, weights = self.frames.subset(index), self.targets[index], self.weights[index]
        return FrameSet(frames, targets, weights, self.positions[index], side)

    def lengths(self, max_frames: int) -> np.ndarray:
        """Return the number of frames of each item in a batch, at most ``max_frames``."""
        return np.minimum(self.frames.lengths, max_frames)

    @property
    def longest(self) -> int:
        """The number of frames of the longest item."""
        return int(self.frames.lengths.max())

    def batch(self, indices: np.ndarray, max_frames: int, rng: np.random.Generator) -> Batch:
        """Return a batch of the items ``indices``, with a random chunk of each item longer than ``max_frames``."""
        chunks = []
        for i in indices:
            item = self.frames[i]
            start = int(rng.integers(len(item) - max_frames + 1)) if len(item) > max_frames else 0
            chunks.append(item[start : start + max_frames])
        inputs, lengths = pad(chunks, size=round_length(max(map(len, chunks)), max_frames))
        return Batch(inputs, lengths, self.targets[indices], self.weights[indices])
