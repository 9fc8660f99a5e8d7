"""Convolutions over time, one after another."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import dropout
from skastw.core.sklearn_private import Interval
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._conv2d import apply_mask, time_mask
from skastw.encoders._initial import draw_xavier

__all__ = ["StackedCNNEncoder"]

#: Kernels of the convolutions, and over how many frames the maximum is taken after each.
_LAYERS = ((7, 3), (7, 3), (3, 1), (3, 1), (3, 1), (3, 3))


class StackedCNNEncoder(Encoder):
    """Six 1-D convolutions over time with three maxima between them, then two dense layers for each frame.

    ========  ====================================================  ==================
    layer     what                                                  output
    ========  ====================================================  ==================
    1         Conv1d, kernel 7, ReLU, maximum over 3 frames         (T/3, channels)
    2         Conv1d, kernel 7, ReLU, maximum over 3 frames         (T/9, channels)
    3, 4, 5   Conv1d, kernel 3, ReLU                                (T/9, channels)
    6         Conv1d, kernel 3, ReLU, maximum over 3 frames         (T/27, channels)
    dense 1   Linear, ReLU                                          (T/27, hidden)
    dense 2   Linear, ReLU                                          (T/27, embedding)
    ========  ====================================================  ==================

    Lengths are rounded up, so that no frame is lost. Padding a clip changes none of its outputs. With the defaults
    and 80 features it has 1.65 million parameters.

    Parameters
    ----------
    channels : int, default=256
        Filters of each convolution.
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

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import StackedCNNEncoder
    >>> module = StackedCNNEncoder(channels=8, embedding=16).build(n_features=80, max_frames=100)
    >>> frames, lengths = module(torch.zeros(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 4, 16), [4, 2])
    """

    name = "stacked_cnn"
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
        return _StackedCNNModule(self, n_features)


class _StackedCNNModule(EncoderModule):
    def __init__(self, params: StackedCNNEncoder, n_features: int) -> None:
        super().__init__()
        sizes = [n_features] + [params.channels] * len(_LAYERS)
        self.convs = nn.ModuleList(
            nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2)
            for n_in, n_out, (kernel, _) in zip(sizes, sizes[1:], _LAYERS, strict=False)
        )
        self.dense1 = nn.Linear(params.channels, params.hidden)
        self.dense2 = nn.Linear(params.hidden, params.embedding)
        self.dropout = params.dropout
        self.n_outputs = params.embedding
        draw_xavier(self)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.transpose(1, 2)
        for conv, (_, size) in zip(self.convs, _LAYERS, strict=True):
            x = self._drop(F.relu(conv(x)))
            x = apply_mask(x, time_mask(x, lengths))
            if size > 1:  # no value is below padding's zeros
                x, lengths = F.max_pool1d(x, size, ceil_mode=True), (lengths + size - 1) // size
        x = x.transpose(1, 2)
        for dense in (self.dense1, self.dense2):
            x = self._drop(F.relu(dense(x)))
        return x, lengths

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)
