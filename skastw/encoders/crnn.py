"""A convolutional recurrent network on spectrograms."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import Dropout
from skastw.core.sklearn_private import Interval, StrOptions
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._conv2d import ConvNormAct, halved, time_mask
from skastw.encoders._recurrent import Recurrent

__all__ = ["CRNNEncoder"]


class CRNNEncoder(Encoder):
    """2-D convolutions that shrink frequency, then recurrent layers in both directions.

    ============  ====================================================================  =====================
    layer         operation                                                             output
    ============  ====================================================================  =====================
    block 1..P    Conv2d 3 x 3, batch norm, ReLU, maximum over 2 x 2                    (T/2^P, F/2^P, width)
    block P+1..N  the same, maximum over 2 bins of one frame                            (T/2^P, F/2^N, width)
    flatten       bins and channels of a frame; dropout                                 (T/2^P, F/2^N width)
    layer x L     recurrent layer in both directions                                    (T/2^P, 2 hidden)
    ============  ====================================================================  =====================

    Here N is ``num_blocks`` and P is ``time_pools``. Sizes are rounded up, so that all frames and bins are used.
    Padding a clip does not change its outputs. With the defaults and 80 features, the encoder has 0.5 million
    parameters.

    Parameters
    ----------
    width : int, default=64
        Number of channels of the convolutions.
    num_blocks : int, default=4
        Number of convolutions N. Each halves frequency.
    time_pools : int, default=2
        Number P of the first convolutions that also halve time; limited to N.
    cell : {"gru", "lstm"}, default="gru"
        Kind of the recurrent layers.
    hidden : int, default=128
        Width of the state of one direction.
    num_layers : int, default=1
        Number of recurrent layers L.
    dropout : float, default=0.2
        Dropout before each recurrent layer.

    References
    ----------
    Cakir et al., "Convolutional Recurrent Neural Networks for Polyphonic Sound Event Detection", 2017; Choi et al.,
    "Convolutional Recurrent Neural Networks for Music Classification", 2017.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import CRNNEncoder
    >>> module = CRNNEncoder(width=8, hidden=16).build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.zeros(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 23, 32), [23, 11])
    """

    name = "crnn"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "width": [Interval(Integral, 1, 1024, closed="both")],
        "num_blocks": [Interval(Integral, 1, 16, closed="both")],
        "time_pools": [Interval(Integral, 0, 16, closed="both")],
        "cell": [StrOptions({"gru", "lstm"})],
        "hidden": [Interval(Integral, 1, 8192, closed="both")],
        "num_layers": [Interval(Integral, 1, 32, closed="both")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        width: int = 64,
        num_blocks: int = 4,
        time_pools: int = 2,
        cell: str = "gru",
        hidden: int = 128,
        num_layers: int = 1,
        dropout: float = 0.2,
    ) -> None:
        self.width = width
        self.num_blocks = num_blocks
        self.time_pools = time_pools
        self.cell = cell
        self.hidden = hidden
        self.num_layers = num_layers
        self.dropout = dropout

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _CRNNModule(self, n_features)


class _CRNNModule(EncoderModule):
    def __init__(self, params: CRNNEncoder, n_features: int) -> None:
        super().__init__()
        width = params.width
        self.convs = nn.ModuleList(ConvNormAct(width if i else 1, width) for i in range(params.num_blocks))
        self.time_pools = params.time_pools
        self.drop = Dropout(params.dropout)

        n_bins = -(-n_features // 2**params.num_blocks)
        self.recurrent = Recurrent(
            params.cell,
            width * n_bins,
            params.hidden,
            params.num_layers,
            bidirectional=True,
            dropout=params.dropout,
        )
        self.n_outputs = self.recurrent.n_outputs

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames[:, None]
        for index, conv in enumerate(self.convs):
            x = conv(x, time_mask(x, lengths))
            if index < self.time_pools:
                x, lengths = F.max_pool2d(x, 2, ceil_mode=True), halved(lengths)  # zeros of padding exceed no value
            else:
                x = F.max_pool2d(x, (1, 2), ceil_mode=True)
        return self.recurrent(self.drop(x.permute(0, 2, 3, 1).flatten(2)), lengths), lengths
