"""A sequence of convolutions over time."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.parameters import parameters
from skastw.encoders._base import EncoderModule, per_layer
from skastw.encoders._conv2d import apply_mask, shortened, time_mask
from skastw.encoders._dense import DenseEncoder, DenseModule

#: Kernel of each convolution, and number of frames over which the maximum is taken after it.
_LAYERS = ((7, 3), (7, 3), (3, 1), (3, 1), (3, 1), (3, 3))


@parameters
class StackedCNNEncoder(DenseEncoder):
    """Six 1-D convolutions over time, three of them with max pooling, then two dense layers for each frame.

    ========  ====================================================  ==================
    layer     operation                                             output
    ========  ====================================================  ==================
    1         Conv1d, kernel 7, ReLU, maximum over 3 frames         (T/3, channels)
    2         Conv1d, kernel 7, ReLU, maximum over 3 frames         (T/9, channels)
    3, 4, 5   Conv1d, kernel 3, ReLU                                (T/9, channels)
    6         Conv1d, kernel 3, ReLU, maximum over 3 frames         (T/27, channels)
    dense 1   Linear, ReLU                                          (T/27, hidden)
    dense 2   Linear, ReLU                                          (T/27, embedding)
    ========  ====================================================  ==================

    Lengths are rounded up, so that all frames are used. Padding a clip does not change its outputs. With the defaults
    and 80 features, the encoder has 1.65 million parameters.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    The architecture follows Ludwig's audio encoder of this name, which takes the maximum over time before the dense
    layers. Here they are applied to each frame; use ``pooling="max"`` for the maximum over time.

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

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return float(math.prod(size for _, size in _LAYERS))

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _StackedCNNModule(self, n_features)


class _StackedCNNModule(DenseModule):
    def __init__(self, params: StackedCNNEncoder, n_features: int) -> None:
        super().__init__()
        sizes = [n_features, *per_layer("channels", params.channels, [1] * len(_LAYERS), "convolution")]
        self.convs = nn.ModuleList(
            nn.Conv1d(n_in, n_out, kernel, padding=kernel // 2)
            for n_in, n_out, (kernel, _) in zip(sizes, sizes[1:], _LAYERS, strict=False)
        )
        self.add_dense(sizes[-1], params)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.transpose(1, 2)
        for conv, (_, size) in zip(self.convs, _LAYERS, strict=True):
            x = self.drop(F.relu(conv(x)))
            x = apply_mask(x, time_mask(x, lengths))
            if size > 1:  # after ReLU, zeros of the padding never exceed a value
                x, lengths = F.max_pool1d(x, size, ceil_mode=True), shortened(lengths, size)
        return self.run_dense(x.transpose(1, 2)), lengths
