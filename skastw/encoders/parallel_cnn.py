"""Convolutions over time, side by side."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import dropout
from skastw.core.sklearn_private import Interval
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._initial import draw_xavier

__all__ = ["ParallelCNNEncoder"]

_KERNELS = (2, 3, 4, 5)


class ParallelCNNEncoder(Encoder):
    """Four 1-D convolutions over time side by side, then two dense layers for each frame.

    ========  =========================================================  ==================
    layer     what                                                       output
    ========  =========================================================  ==================
    parallel  Conv1d with kernels 2, 3, 4 and 5, ReLU, side by side      (T, 4 channels)
    dense 1   Linear, ReLU                                               (T, hidden)
    dense 2   Linear, ReLU                                               (T, embedding)
    ========  =========================================================  ==================

    Padding a clip changes none of its outputs. With the defaults and 80 features it has 0.94 million parameters.

    Parameters
    ----------
    channels : int, default=256
        Filters of each of the four convolutions.
    hidden : int, default=512
        Width of the first dense layer.
    embedding : int, default=256
        Width of the second dense layer, which is the output's.
    dropout : float, default=0.0
        Dropout after each layer.

    Notes
    -----
    The layout is that of Ludwig's audio encoder of this name, which takes the maximum over time before the dense
    layers. Here they see one frame after another, and the maximum is left to ``pooling="max"``.

    References
    ----------
    Kim, "Convolutional Neural Networks for Sentence Classification", 2014 (kernels of several widths in parallel).

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ParallelCNNEncoder
    >>> module = ParallelCNNEncoder(channels=8, embedding=16).build(n_features=80, max_frames=100)
    >>> frames, lengths = module(torch.zeros(2, 9, 80), torch.tensor([9, 4]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 9, 16), [9, 4])
    """

    name = "parallel_cnn"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "channels": [Interval(Integral, 1, 8192, closed="both")],
        "hidden": [Interval(Integral, 1, 8192, closed="both")],
        "embedding": [Interval(Integral, 1, 8192, closed="both")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, *, channels: int = 256, hidden: int = 512, embedding: int = 256, dropout: float = 0.0) -> None:
        self.channels = channels
        self.hidden = hidden
        self.embedding = embedding
        self.dropout = dropout

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _ParallelCNNModule(self, n_features)


class _ParallelCNNModule(EncoderModule):
    def __init__(self, params: ParallelCNNEncoder, n_features: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(n_features, params.channels, kernel) for kernel in _KERNELS)
        self.dense1 = nn.Linear(len(_KERNELS) * params.channels, params.hidden)
        self.dense2 = nn.Linear(params.hidden, params.embedding)
        self.dropout = params.dropout
        self.n_outputs = params.embedding
        draw_xavier(self)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.transpose(1, 2)  # zero beyond each clip, and no convolution sees another's output
        outputs = [
            conv(F.pad(x, ((kernel - 1) // 2, kernel // 2))) for conv, kernel in zip(self.convs, _KERNELS, strict=True)
        ]
        x = self._drop(F.relu(torch.cat(outputs, dim=1))).transpose(1, 2)
        for dense in (self.dense1, self.dense2):
            x = self._drop(F.relu(dense(x)))
        return x, lengths

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)
