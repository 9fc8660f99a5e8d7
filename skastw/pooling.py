"""Pooling: frames of embeddings -> one embedding. Padding a clip does not change its embedding."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skastw.core.batching import frame_mask, is_padded
from skastw.core.component import Component
from skastw.core.parameters import integers, param, parameters

__all__ = [
    "AttentiveStatsPooling",
    "FirstPooling",
    "LastPooling",
    "MaxPooling",
    "MeanPooling",
    "Pooling",
    "PoolingModule",
    "masked_mean",
]


class PoolingModule(nn.Module):
    """A built pooling: ``(frames (B, T, D), lengths (B,)) -> embedding (B, D')``.

    Attributes
    ----------
    n_outputs : int
        Width of the embedding, D'.
    """

    n_outputs: int


class Pooling(Component):
    """Parameters of a pooling.

    ``build(n_inputs)`` returns a module with ``forward(frames (B, T, D), lengths (B,)) -> embedding (B, D')``
    and ``n_outputs``, the width D'.
    """

    kind: ClassVar[str] = "pooling"

    @abstractmethod
    def build(self, n_inputs: int) -> PoolingModule:
        """Return the module for frames of width ``n_inputs``."""


class MeanPooling(Pooling):
    """Mean over the real frames.

    Examples
    --------
    >>> import torch
    >>> from skastw.pooling import MeanPooling
    >>> frames = torch.tensor([[[1.0], [3.0], [0.0]]])
    >>> MeanPooling().build(1)(frames, torch.tensor([2])).tolist()
    [[2.0]]
    """

    name = "mean"

    def build(self, n_inputs: int) -> PoolingModule:
        """Return the module; see :class:`~skastw.pooling.Pooling`."""
        return _Masked(masked_mean, n_inputs)


class MaxPooling(Pooling):
    """Maximum over the real frames, for events that are short compared to the clip.

    Examples
    --------
    >>> import torch
    >>> from skastw.pooling import MaxPooling
    >>> MaxPooling().build(1)(torch.tensor([[[-1.0], [-3.0], [0.0]]]), torch.tensor([2])).tolist()
    [[-1.0]]
    """

    name = "max"

    def build(self, n_inputs: int) -> PoolingModule:
        """Return the module; see :class:`~skastw.pooling.Pooling`."""
        return _Masked(_masked_max, n_inputs)


class FirstPooling(Pooling):
    """The first frame, for encoders whose first output stands for the whole clip (a class token).

    Examples
    --------
    >>> import torch
    >>> from skastw.pooling import FirstPooling
    >>> FirstPooling().build(1)(torch.tensor([[[1.0], [3.0], [0.0]]]), torch.tensor([2])).tolist()
    [[1.0]]
    """

    name = "first"

    def build(self, n_inputs: int) -> PoolingModule:
        """Return the module; see :class:`~skastw.pooling.Pooling`."""
        return _Masked(_first, n_inputs)


class LastPooling(Pooling):
    """The last real frame, for recurrent encoders, whose last state has seen the whole clip.

    Examples
    --------
    >>> import torch
    >>> from skastw.pooling import LastPooling
    >>> LastPooling().build(1)(torch.tensor([[[1.0], [3.0], [0.0]]]), torch.tensor([2])).tolist()
    [[3.0]]
    """

    name = "last"

    def build(self, n_inputs: int) -> PoolingModule:
        """Return the module; see :class:`~skastw.pooling.Pooling`."""
        return _Masked(_last, n_inputs)


@parameters
class AttentiveStatsPooling(Pooling):
    """Attention-weighted mean and standard deviation over the real frames.

    A small network computes a score for each frame and dimension. The weights are the softmax of the scores over time.
    The weighted mean and standard deviation are concatenated, so D' = 2 D.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Okabe, Koshinaka and Shinoda, "Attentive Statistics Pooling for Deep Speaker Embedding", 2018.

    Examples
    --------
    >>> import torch
    >>> from skastw.pooling import AttentiveStatsPooling
    >>> tuple(AttentiveStatsPooling().build(16)(torch.zeros(2, 5, 16), torch.tensor([5, 3])).shape)
    (2, 32)
    """

    name = "attentive_stats"

    hidden: int = param(default=128, valid=[integers(1, 8192)], doc="Width of the hidden layer of the network.")

    def build(self, n_inputs: int) -> PoolingModule:
        """Return the module; see :class:`~skastw.pooling.Pooling`."""
        return _AttentiveStats(n_inputs, self.hidden)


class _Masked(PoolingModule):
    """Pooling by a function without parameters."""

    def __init__(self, function: Any, n_inputs: int) -> None:
        super().__init__()
        self.function = function
        self.n_outputs = n_inputs

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return self.function(frames, lengths)


class _AttentiveStats(PoolingModule):
    def __init__(self, n_inputs: int, hidden: int) -> None:
        super().__init__()
        self.n_outputs = 2 * n_inputs
        self.project = nn.Linear(n_inputs, hidden)
        self.score = nn.Linear(hidden, n_inputs, bias=False)  # a softmax over time does not depend on a bias

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        mask = frame_mask(frames, lengths)
        scores = _in_full(self.score(torch.tanh(self.project(frames))))
        weights = scores.masked_fill(~mask, float("-inf")).softmax(dim=1)

        frames = _in_full(frames)
        mean = (weights * frames).sum(dim=1)
        variance = (weights * (frames - mean[:, None]).square()).sum(dim=1)
        return torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=1)


def _in_full(x: Tensor) -> Tensor:
    """Convert half precision to float32, since sums over many frames would be inaccurate."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def masked_mean(frames: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean over the real frames.

    Parameters
    ----------
    frames : Tensor of shape (B, T, D)
    lengths : Tensor of shape (B,)

    Returns
    -------
    Tensor of shape (B, D), float32
    """
    frames = _in_full(frames)
    mask = frame_mask(frames, lengths).to(frames.dtype)
    return (frames * mask).sum(dim=1) / lengths[:, None].to(frames.device)


def _first(frames: Tensor, lengths: Tensor) -> Tensor:
    return _in_full(frames[:, 0])


def _last(frames: Tensor, lengths: Tensor) -> Tensor:
    # not an index by lengths, because an unpadded batch is exported to ONNX with any length
    if not is_padded(frames, lengths):
        return _in_full(frames[:, -1])
    last = (lengths - 1).to(frames.device)
    return _in_full(frames[torch.arange(len(frames), device=frames.device), last])


def _masked_max(frames: Tensor, lengths: Tensor) -> Tensor:
    mask = frame_mask(frames, lengths)
    return _in_full(frames).masked_fill(~mask, float("-inf")).amax(dim=1)
