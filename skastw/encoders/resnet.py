"""A small residual convolutional network over spectrograms."""

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import FeatureDropout
from skastw.core.parameters import integers, param, parameters, reals, widths
from skastw.encoders._base import Encoder, EncoderModule, per_layer
from skastw.encoders._conv2d import ConvNorm, ConvNormAct, Mask, shortened, time_mask


@parameters
class TrunkParams:
    """Parameters of :class:`ResNetTrunk`.

    Parameters
    ----------
    {parameters}
    """

    width: int | list[int] = param(
        default=32,
        valid=[widths(1024)],
        doc="Number of channels in the first stage, or a list with the number in each.",
    )
    num_stages: int = param(
        default=3,
        valid=[integers(1, 8)],
        doc="Number of stages S. All stages but the first halve time and frequency and, with a single "
        "``width``, double the channels.",
    )
    num_blocks: int = param(default=2, valid=[integers(1, 32)], doc="Number of residual blocks in a stage.")

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return 2.0**self.num_stages


@parameters
class ResNetEncoder(TrunkParams, Encoder):
    """Residual 2-D convolutions over time and frequency, without a mean over the remaining bands.

    =================  ===========================================================  ====================
    layer              operation                                                    output
    =================  ===========================================================  ====================
    stem               Conv2d 5 x 5, stride 2, batch norm, ReLU                     (T/2, F/2, width)
    stage 1            ``num_blocks`` residual blocks                               (T/2, F/2, width)
    stage k            the same with stride 2 in the first, twice the channels      (T/2^k, F/2^k, 2^(k-1) width)
    flatten            bands and channels of a frame                                (T/2^S, F/2^S 2^(S-1) width)
    dropout            whole features, the same ones in all frames of a clip        (T/2^S, F/2^S 2^(S-1) width)
    =================  ===========================================================  ====================

    A block consists of two 3 x 3 convolutions with batch norm. Its input (averaged over 2 x 2 and projected if the size
    changes) is added, followed by ReLU. A convolution does not know its position on the frequency axis. Since the bands
    are not averaged, the head can use it. Padding a clip does not change its outputs. With the defaults and S = 3
    stages, the encoder has 0.7 million parameters.

    Parameters
    ----------
    {parameters}

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2016; He et al., "Bag of Tricks for Image
    Classification with Convolutional Neural Networks", 2019 (averaging before the projection).

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ResNetEncoder
    >>> module = ResNetEncoder(width=8).build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.zeros(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 12, 320), [12, 6])
    """

    name = "resnet"

    dropout: float = param(
        default=0.2,
        valid=[reals(0, 1, closed="left")],
        doc="Probability that an output feature is dropped in training, in all frames of a clip.",
    )
    frame_step: int = param(
        default=1,
        valid=[integers(1, 16)],
        doc="Step between the frames that are used. With 2, every other frame is left out, as if the front end had "
        "twice its ``hop_length``.",
    )

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return self.frame_step * super().stride

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _ResNetModule(self, n_features)


class _ResNetModule(EncoderModule):
    def __init__(self, params: ResNetEncoder, n_features: int) -> None:
        super().__init__()
        self.trunk = ResNetTrunk(params, n_features)
        self.n_outputs = self.trunk.n_outputs
        self.drop = FeatureDropout(params.dropout)
        self.frame_step = params.frame_step

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = self.trunk(frames[:, :: self.frame_step], shortened(lengths, self.frame_step))
        return self.drop(x.permute(0, 2, 3, 1).flatten(2)), lengths


class ResNetTrunk(nn.Module):
    """The stem and the stages: frames (B, T, F) -> map (B, C, T', F').

    Parameters
    ----------
    params : TrunkParams
    n_features : int
        Number of bins F of a frame.

    Attributes
    ----------
    n_outputs : int
        Number of values C x F' of the map at one time.
    """

    def __init__(self, params: TrunkParams, n_features: int) -> None:
        super().__init__()
        sizes = per_layer("width", params.width, [2**stage for stage in range(params.num_stages)], "stage")
        self.stem = ConvNormAct(1, sizes[0], kernel=5, stride=2)
        self.blocks = nn.ModuleList()
        n_channels = sizes[0]
        for stage, size in enumerate(sizes):
            for block in range(params.num_blocks):
                n_in, n_channels = n_channels, size
                self.blocks.append(_Block(n_in, n_channels, stride=2 if stage and not block else 1))
        self.n_outputs = n_channels * -(-n_features // 2**params.num_stages)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map and its lengths."""
        x = frames[:, None]
        mask, lengths = _halved_mask(x, lengths)
        x = self.stem(x, mask)
        for block in self.blocks:
            if block.stride == 2:
                mask, lengths = _halved_mask(x, lengths)
            x = block(x, mask)
        return x, lengths


def _halved_mask(x: Tensor, lengths: Tensor) -> tuple[Mask | None, Tensor]:
    """Return the mask and the lengths of the output of a layer of stride 2 with input ``x``."""
    lengths = shortened(lengths, 2)
    return time_mask(x[:, :1, ::2, :1], lengths), lengths


class _Block(nn.Module):
    """Residual block."""

    def __init__(self, n_in: int, n_out: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = ConvNormAct(n_in, n_out, stride=stride)
        self.second = ConvNorm(n_out, n_out)
        self.project = nn.Conv2d(n_in, n_out, 1, bias=False) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, mask: Mask | None) -> Tensor:
        y = self.second(self.first(x, mask), mask)
        if self.stride == 2:  # windows beyond the end count zeros, as in a padded batch
            x = F.avg_pool2d(x, 2, ceil_mode=True, divisor_override=4)
        return F.relu(y.add_(self.project(x)), inplace=True)
