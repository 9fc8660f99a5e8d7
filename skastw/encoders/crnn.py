"""A convolutional recurrent network on spectrograms."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import Dropout
from skastw.core.parameters import integers, param, parameters, reals, widths
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._base import Encoder, EncoderModule, per_layer
from skastw.encoders._conv2d import ConvNormAct, shortened, time_mask
from skastw.encoders.rnn import Recurrent


@parameters
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
    {parameters}

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

    width: int | list[int] = param(
        default=64,
        valid=[widths(1024)],
        doc="Number of channels of the convolutions, or a list with the number of each.",
    )
    num_blocks: int = param(
        default=4,
        valid=[integers(1, 16)],
        doc="Number of convolutions N. Each halves frequency.",
    )
    time_pools: int = param(
        default=2,
        valid=[integers(0, 16)],
        doc="Number P of the first convolutions that also halve time; limited to N.",
    )
    cell: str = param(default="gru", valid=[StrOptions({"gru", "lstm"})], doc="Kind of the recurrent layers.")
    hidden: int = param(default=128, valid=[integers(1, 8192)], doc="Width of the state of one direction.")
    num_layers: int = param(default=1, valid=[integers(1, 32)], doc="Number of recurrent layers L.")
    dropout: float = param(default=0.2, valid=[reals(0, 1, closed="left")], doc="Dropout before each recurrent layer.")

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return 2.0 ** min(self.time_pools, self.num_blocks)

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _CRNNModule(self, n_features)


class _CRNNModule(EncoderModule):
    def __init__(self, params: CRNNEncoder, n_features: int) -> None:
        super().__init__()
        sizes = [1, *per_layer("width", params.width, [1] * params.num_blocks, "convolution")]
        self.convs = nn.ModuleList(ConvNormAct(n_in, n_out) for n_in, n_out in pairwise(sizes))
        self.time_pools = params.time_pools
        self.drop = Dropout(params.dropout)

        self.recurrent = Recurrent(
            params.cell,
            sizes[-1] * -(-n_features // 2**params.num_blocks),
            params.hidden,
            params.num_layers,
            bidirectional=True,
            dropout=params.dropout,
        )
        self.n_outputs = self.recurrent.n_outputs

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames[:, None]
        for index, conv in enumerate(self.convs):
            step = 2 if index < self.time_pools else 1
            # the zeros of padding exceed no value
            x = F.max_pool2d(conv(x, time_mask(x, lengths)), (step, 2), ceil_mode=True)
            lengths = shortened(lengths, step)
        return self.recurrent(self.drop(x.permute(0, 2, 3, 1).flatten(2)), lengths), lengths
