"""The convolutional networks Cnn10 and Cnn14 of PANNs."""

from itertools import pairwise
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import Dropout, FeatureDropout
from skastw.core.parameters import integers, param, parameters, reals
from skastw.encoders._base import Encoder, EncoderModule, draw_xavier
from skastw.encoders._conv2d import BatchNorm, ConvNormAct, Mask, shortened, time_mask


@parameters
class _PANNEncoder(Encoder):
    """Base of the encoders of PANNs; ``pools`` says for each block whether it halves time and frequency."""

    pools: ClassVar[tuple[bool, ...]] = ()

    width: int = param(default=64, valid=[integers(1, 1024)], doc="Number of channels in the first block.")
    dropout: float = param(default=0.2, valid=[reals(0, 1, closed="left")], doc="Dropout after each block.")
    embedding_dropout: float = param(
        default=0.5,
        valid=[reals(0, 1, closed="left")],
        doc=(
            "Probability that a channel before and after the dense layer is dropped in training, in all frames of a "
            "clip."
        ),
    )

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return 2.0 ** sum(self.pools)

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _PANNModule(self, n_features)


@parameters
class CNN10Encoder(_PANNEncoder):
    """Four blocks of 2-D convolutions, the mean over frequency, and a dense layer for each frame.

    =========  =============================================================  =========================
    layer      operation                                                      output
    =========  =============================================================  =========================
    norm       batch norm of each frequency bin                               (T, F)
    block 1    2 x (Conv2d 3 x 3, batch norm, ReLU), mean over 2 x 2          (T/2, F/2, width)
    block 2-4  the same, each with twice the channels                         (T/16, F/16, 8 width)
    mean       over frequency                                                 (T/16, 8 width)
    dense      Linear, ReLU                                                   (T/16, 8 width)
    =========  =============================================================  =========================

    Sizes are rounded up, and a window beyond the end averages the values in it, so that all frames and bins are used.
    Padding a clip does not change its outputs. With the defaults, the encoder has 4.95 million parameters; with 64 bins
    and a linear head for 527 classes, the model has 5,219,279, as in the paper.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    In the paper, the pooling over time comes before the dense layer. Here the dense layer is applied to each frame, as
    in the paper's networks with frame-wise outputs.

    References
    ----------
    Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", 2020.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import CNN10Encoder
    >>> module = CNN10Encoder(width=4).build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.zeros(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 6, 32), [6, 3])
    """

    name = "cnn10"
    pools = (True,) * 4


@parameters
class CNN14Encoder(_PANNEncoder):
    """Six blocks of 2-D convolutions, the mean over frequency, and a dense layer for each frame.

    =========  =============================================================  =========================
    layer      operation                                                      output
    =========  =============================================================  =========================
    norm       batch norm of each frequency bin                               (T, F)
    block 1    2 x (Conv2d 3 x 3, batch norm, ReLU), mean over 2 x 2          (T/2, F/2, width)
    block 2-5  the same, each with twice the channels                         (T/32, F/32, 16 width)
    block 6    the same without the mean                                      (T/32, F/32, 32 width)
    mean       over frequency                                                 (T/32, 32 width)
    dense      Linear, ReLU                                                   (T/32, 32 width)
    =========  =============================================================  =========================

    Sizes are rounded up, and a window beyond the end averages the values in it, so that all frames and bins are used.
    Padding a clip does not change its outputs. With the defaults, the encoder has 79.7 million parameters; with 64 bins
    and a linear head for 527 classes, the model has 80,753,615, as in the paper.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    In the paper, the pooling over time comes before the dense layer. Here the dense layer is applied to each frame, as
    in the paper's networks with frame-wise outputs.

    References
    ----------
    Kong et al., "PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern Recognition", 2020.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import CNN14Encoder
    >>> module = CNN14Encoder(width=2).build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.zeros(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 3, 64), [3, 2])
    """

    name = "cnn14"
    pools = (True,) * 5 + (False,)

    width: int = param(default=64, valid=[integers(1, 256)], doc="Number of channels in the first block.")


class _PANNModule(EncoderModule):
    def __init__(self, params: _PANNEncoder, n_features: int) -> None:
        super().__init__()
        self.input_norm = BatchNorm(n_features)
        widths = [1, *(params.width * 2**index for index in range(len(params.pools)))]
        self.blocks = nn.ModuleList(
            _Block(n_in, n_out, pool=pool) for (n_in, n_out), pool in zip(pairwise(widths), params.pools, strict=True)
        )
        self.n_outputs = widths[-1]
        self.dense = nn.Linear(self.n_outputs, self.n_outputs)
        self.drop = Dropout(params.dropout)
        self.drop_features = FeatureDropout(params.embedding_dropout)
        draw_xavier(self)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.transpose(1, 2)
        mask = time_mask(x, lengths)
        x = self.input_norm(x, mask).transpose(1, 2)[:, None]
        for block in self.blocks:
            x, lengths = block(x, lengths)
            x = self.drop(x)
        x = self.drop_features(x.mean(dim=3).transpose(1, 2))
        return self.drop_features(F.relu(self.dense(x))), lengths


class _Block(nn.Module):
    """Two convolutions and, if ``pool``, the mean over 2 x 2."""

    def __init__(self, n_in: int, n_out: int, *, pool: bool) -> None:
        super().__init__()
        self.first = ConvNormAct(n_in, n_out)
        self.second = ConvNormAct(n_out, n_out)
        self.pool = pool

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mask = time_mask(x, lengths)
        x = self.second(self.first(x, mask), mask)
        return (_average(x, mask), shortened(lengths, 2)) if self.pool else (x, lengths)


def _average(x: Tensor, mask: Mask | None) -> Tensor:
    """Return the mean of the real values in each window of 2 x 2."""
    x = F.avg_pool2d(x, 2, ceil_mode=True)
    if mask is None:
        return x
    real = F.avg_pool2d(mask.values, (2, 1), ceil_mode=True)  # share of real frames in each window: 0, 0.5 or 1
    return x / real.clamp(min=0.5)
