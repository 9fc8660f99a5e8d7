"""Parallel convolutions over time."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.parameters import parameters
from skastw.encoders._base import EncoderModule, per_layer
from skastw.encoders._dense import DenseEncoder, DenseModule

_KERNELS = (2, 3, 4, 5)


@parameters
class ParallelCNNEncoder(DenseEncoder):
    """Four parallel 1-D convolutions over time, then two dense layers for each frame.

    ========  =========================================================  ==================
    layer     operation                                                  output
    ========  =========================================================  ==================
    parallel  Conv1d with kernels 2, 3, 4 and 5, concatenated, ReLU      (T, 4 channels)
    dense 1   Linear, ReLU                                               (T, hidden)
    dense 2   Linear, ReLU                                               (T, embedding)
    ========  =========================================================  ==================

    Padding a clip does not change its outputs. With the defaults and 80 features, the encoder has 0.94 million
    parameters.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    The architecture follows Ludwig's audio encoder of this name, which takes the maximum over time before the dense
    layers. Here they are applied to each frame; use ``pooling="max"`` for the maximum over time.

    References
    ----------
    Kim, "Convolutional Neural Networks for Sentence Classification", 2014 (parallel kernels of several widths).

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

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _ParallelCNNModule(self, n_features)


class _ParallelCNNModule(DenseModule):
    def __init__(self, params: ParallelCNNEncoder, n_features: int) -> None:
        super().__init__()
        sizes = per_layer("channels", params.channels, [1] * len(_KERNELS), "kernel")
        self.convs = nn.ModuleList(
            nn.Conv1d(n_features, size, kernel) for size, kernel in zip(sizes, _KERNELS, strict=True)
        )
        self.add_dense(sum(sizes), params)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.transpose(1, 2)  # needs no mask: padding is zero, and each convolution sees only the input
        outputs = [
            conv(F.pad(x, ((kernel - 1) // 2, kernel // 2))) for conv, kernel in zip(self.convs, _KERNELS, strict=True)
        ]
        x = self.drop(F.relu(torch.cat(outputs, dim=1)))
        return self.run_dense(x.transpose(1, 2)), lengths
