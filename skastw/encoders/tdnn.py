"""A time-delay network that follows ECAPA-TDNN."""

import torch
from torch import Tensor, nn

from skastw.core.parameters import integers, param, parameters
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._conv2d import BatchNorm, Mask, time_mask
from skastw.errors import ComponentError


@parameters
class TDNNEncoder(Encoder):
    """1-D convolutions over time with growing dilation and channel attention; the outputs of all blocks are combined.

    =========  ===============================================================  =================
    layer      operation                                                        output
    =========  ===============================================================  =================
    stem       Conv1d, kernel 5, ReLU, batch norm                               (T, channels)
    block 1    SE-Res2 block, kernel 3, dilation 2                              (T, channels)
    block 2    the same, dilation 3, on the sum of all previous outputs         (T, channels)
    block 3    the same, dilation 4, on the sum of all previous outputs         (T, channels)
    aggregate  Conv1d, kernel 1, on the outputs of the three blocks, ReLU       (T, 3 channels)
    =========  ===============================================================  =================

    An SE-Res2 block consists of a convolution with kernel 1, dilated convolutions on all but the first of ``scale``
    groups of channels, a second convolution with kernel 1, and a gate for each channel, computed from the mean over the
    clip. The output of each dilated convolution is added to the input of the next one. The input of the block is added
    to its output. Padding a clip does not change its outputs. With the defaults and 80 features, the encoder has
    4.8 million parameters, and with the paper's pooling and last layer of width 192 the same 6.2 million as in the
    paper.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    The paper uses ``pooling="attentive_stats"``.

    References
    ----------
    Desplanques et al., "ECAPA-TDNN: Emphasized Channel Attention, Propagation and Aggregation in TDNN Based Speaker
    Verification", 2020; Gao et al., "Res2Net: A New Multi-Scale Backbone Architecture", 2021; Hu et al.,
    "Squeeze-and-Excitation Networks", 2018.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import TDNNEncoder
    >>> module = TDNNEncoder(channels=16).build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.zeros(2, 9, 80), torch.tensor([9, 4]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 9, 48), [9, 4])
    """

    name = "tdnn"

    channels: int = param(
        default=512,
        valid=[integers(1, 8192)],
        doc="Width of the blocks; a multiple of ``scale``.",
    )
    scale: int = param(default=8, valid=[integers(1, 64)], doc="Number of groups of channels in a block.")
    se_channels: int = param(default=128, valid=[integers(1, 8192)], doc="Width of the hidden layer of the gate.")

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        if self.channels % self.scale:
            raise ComponentError(f"Got channels={self.channels}, expected a multiple of scale={self.scale}.")
        return _TDNNModule(self, n_features)


class _TDNNModule(EncoderModule):
    def __init__(self, params: TDNNEncoder, n_features: int) -> None:
        super().__init__()
        channels = params.channels
        self.stem = _Layer(n_features, channels, kernel=5)
        self.blocks = nn.ModuleList(_Block(channels, params.scale, params.se_channels, dilation=d) for d in (2, 3, 4))
        self.aggregate = nn.Conv1d(3 * channels, 3 * channels, 1)
        self.n_outputs = 3 * channels

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.transpose(1, 2)
        mask = time_mask(x, lengths)
        x = self.stem(x, mask)
        outputs = []
        for block in self.blocks:
            outputs.append(block(x, mask))
            x = x + outputs[-1]
        x = self.aggregate(torch.cat(outputs, dim=1)).relu()
        return x.transpose(1, 2), lengths


class _Layer(nn.Module):
    """Convolution over time, ReLU, batch norm."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_in, n_out, kernel, dilation=dilation, padding=kernel // 2 * dilation)
        self.norm = BatchNorm(n_out)

    def forward(self, x: Tensor, mask: Mask | None) -> Tensor:
        return self.norm(self.conv(x).relu(), mask)


class _Block(nn.Module):
    """An SE-Res2 block."""

    def __init__(self, channels: int, scale: int, se_channels: int, *, dilation: int) -> None:
        super().__init__()
        group = channels // scale
        self.first = _Layer(channels, channels)
        self.groups = nn.ModuleList(_Layer(group, group, kernel=3, dilation=dilation) for _ in range(scale - 1))
        self.last = _Layer(channels, channels)
        self.squeeze = nn.Linear(channels, se_channels)
        self.excite = nn.Linear(se_channels, channels)

    def forward(self, x: Tensor, mask: Mask | None) -> Tensor:
        y = self.last(self._groups(self.first(x, mask), mask), mask)
        mean = y.mean(dim=2) if mask is None else y.sum(dim=2) / mask.values.sum(dim=2, dtype=torch.float32)
        gate = self.excite(self.squeeze(mean).relu()).sigmoid()
        return x + y * gate[:, :, None]

    def _groups(self, x: Tensor, mask: Mask | None) -> Tensor:
        first, *rest = x.chunk(len(self.groups) + 1, dim=1)
        outputs = [first]
        for index, (layer, group) in enumerate(zip(self.groups, rest, strict=True)):
            outputs.append(layer(group + outputs[-1] if index else group, mask))
        return torch.cat(outputs, dim=1)
