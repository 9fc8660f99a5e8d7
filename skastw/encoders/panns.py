"""The convolutional networks Cnn10 and Cnn14 of PANNs."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import Dropout, FeatureDropout
from skastw.core.parameters import param, parameters, reals, widths
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._base import EncoderModule, draw_xavier, per_layer
from skastw.encoders._conv2d import BatchNorm, ConvNormAct, Mask, apply_mask, shortened, time_mask
from skastw.encoders._pretrained import RoundedEncoder
from skastw.errors import ComponentError
from skastw.storage.checkpoints import Checkpoint

#: Sample rate (Hz) of the published networks by the number of frequencies of their spectrogram.
_SAMPLE_RATES = {513: 32000, 257: 16000, 129: 8000}
#: Parts of a checkpoint that the encoder does not have: the front end, whose values are constants, and the head.
_LEFT_OUT = ("spectrogram_extractor.", "logmel_extractor.", "fc_audioset.")
_BLOCK_LAYER = re.compile(r"conv_block(\d+)\.(conv|bn)([12])\.(\w+)")


@parameters
class _PANNEncoder(RoundedEncoder):
    """Base of the encoders of PANNs; ``pools`` says for each block whether it halves time and frequency."""

    pools: ClassVar[tuple[bool, ...]] = ()

    width: int | list[int] = param(
        default=64,
        valid=[widths(1024)],
        doc="Number of channels in the first block, or a list with the number in each.",
    )
    dropout: float = param(default=0.2, valid=[reals(0, 1, closed="left")], doc="Dropout after each block.")
    embedding_dropout: float = param(
        default=0.5,
        valid=[reals(0, 1, closed="left")],
        doc=(
            "Probability that a channel before and after the dense layer is dropped in training, in all frames of a "
            "clip."
        ),
    )
    dense: str | None = param(
        default=None,
        valid=[StrOptions({"frame", "clip"}), None],
        doc='Input of the dense layer: each frame (``"frame"``), or the sum of the mean and the maximum over time '
        '(``"clip"``). The output then is a single frame, the embedding of the paper. None is ``"clip"`` with '
        '``weights``, and ``"frame"`` without.',
    )

    @property
    def of_clip(self) -> bool:
        """Whether the output is a single frame for the whole clip."""
        return (self.dense or ("frame" if self.weights is None else "clip")) == "clip"

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return 2.0 ** sum(self.pools)

    def defined_by(self, checkpoint: Checkpoint, sample_rate: int) -> dict[str, Any]:
        """Check the sample rate; see :class:`~skastw.encoders.PretrainedEncoder`."""
        bank = checkpoint.specs.get("logmel_extractor.melW")
        trained_at = sample_rate if bank is None else _SAMPLE_RATES.get(next(iter(bank.shape), 0), sample_rate)
        if trained_at != sample_rate:
            raise ComponentError(
                f"Got sample_rate={sample_rate} for the weights {checkpoint.name!r}, expected {trained_at}."
            )
        return {}

    def converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors by our names; see :class:`~skastw.encoders.PretrainedEncoder`."""
        kept = {_own_name(name): tensor for name, tensor in tensors.items() if not name.startswith(_LEFT_OUT)}
        counts = {name.replace("running_mean", "num_batches_tracked") for name in kept if name.endswith("running_mean")}
        return {**dict.fromkeys(counts, torch.zeros((), dtype=torch.int64)), **kept}

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
    In the paper, the pooling over time comes before the dense layer, and sizes are rounded down. Both are the default
    with ``weights``, so the output is the published embedding. Without weights, the dense layer is applied to each
    frame, as in the paper's networks with frame-wise outputs.

    The published files, such as ``Cnn10_mAP=0.380.pth``, need the front end of their training, which is at 32 kHz
    ``MelSpectrogram(n_mels=64, n_fft=1024, hop_length=320, fmin=50, fmax=14000, pad_mode="reflect")``. With
    ``weights``, the statistics of batch norm never change: its layers stay in evaluation mode.

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
    In the paper, the pooling over time comes before the dense layer, and sizes are rounded down. Both are the default
    with ``weights``, so the output is the published embedding. Without weights, the dense layer is applied to each
    frame, as in the paper's networks with frame-wise outputs.

    The published files, such as ``Cnn14_mAP=0.431.pth``, need the front end of their training, which is at 32 kHz
    ``MelSpectrogram(n_mels=64, n_fft=1024, hop_length=320, fmin=50, fmax=14000, pad_mode="reflect")``. With
    ``weights``, the statistics of batch norm never change: its layers stay in evaluation mode.

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

    width: int | list[int] = param(
        default=64,
        valid=[widths(256)],
        doc="Number of channels in the first block, or a list with the number in each.",
    )


class _PANNModule(EncoderModule):
    def __init__(self, params: _PANNEncoder, n_features: int) -> None:
        super().__init__()
        self.input_norm = BatchNorm(n_features)
        sizes = [1, *per_layer("width", params.width, [2**index for index in range(len(params.pools))], "block")]
        self.blocks = nn.ModuleList(
            _Block(n_in, n_out, pool=pool, floor=params.rounds_down)
            for (n_in, n_out), pool in zip(pairwise(sizes), params.pools, strict=True)
        )
        self.n_outputs = sizes[-1]
        self.dense = nn.Linear(self.n_outputs, self.n_outputs)
        self.drop = Dropout(params.dropout)
        self.drop_features = FeatureDropout(params.embedding_dropout)
        self.of_clip, self.keeps_statistics = params.of_clip, params.weights is not None
        draw_xavier(self)

    def train(self, mode: bool = True) -> "_PANNModule":
        """Set the mode of all layers; with pretrained weights, batch norms stay in evaluation mode."""
        super().train(mode)
        for layer in self.modules() if self.keeps_statistics else ():
            if isinstance(layer, BatchNorm):
                layer.eval()
        return self

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = frames.transpose(1, 2)
        mask = time_mask(x, lengths)
        x = self.input_norm(x, mask).transpose(1, 2)[:, None]
        for block in self.blocks:
            x, lengths = block(x, lengths)
            x = self.drop(x)
        x = x.mean(dim=3).transpose(1, 2)
        if self.of_clip:
            x, lengths = _mean_plus_max(x, lengths)[:, None], torch.ones_like(lengths)
        x = self.drop_features(x)
        return self.drop_features(F.relu(self.dense(x))), lengths


class _Block(nn.Module):
    """Two convolutions and, if ``pool``, the mean over 2 x 2; with ``floor`` the last window never sticks out."""

    def __init__(self, n_in: int, n_out: int, *, pool: bool, floor: bool) -> None:
        super().__init__()
        self.first = ConvNormAct(n_in, n_out)
        self.second = ConvNormAct(n_out, n_out)
        self.pool, self.floor = pool, floor

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mask = time_mask(x, lengths)
        x = self.second(self.first(x, mask), mask)
        if not self.pool:
            return x, lengths
        if not self.floor:
            return _average(x, mask), shortened(lengths, 2)

        n_frames, n_bins = (torch.sym_max(size // 2, 1) for size in x.shape[2:])
        x, lengths = _average(x, mask)[:, :, :n_frames, :n_bins], (lengths // 2).clamp(min=1)
        return apply_mask(x, time_mask(x, lengths)), lengths


def _average(x: Tensor, mask: Mask | None) -> Tensor:
    """Return the mean of the real values in each window of 2 x 2."""
    x = F.avg_pool2d(x, 2, ceil_mode=True)
    if mask is None:
        return x
    real = F.avg_pool2d(mask.values, (2, 1), ceil_mode=True)  # share of real frames in each window: 0, 0.5 or 1
    return x / real.clamp(min=0.5)


def _mean_plus_max(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the sum of the mean and the maximum over the real frames of ``x`` (B, T, C).

    No value is negative, so the zeros of the padding change neither the sum nor the maximum.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return x.sum(dim=1) / lengths[:, None].to(x) + x.amax(dim=1)


def _own_name(name: str) -> str:
    """Return our name of a tensor of a published checkpoint."""
    if match := _BLOCK_LAYER.fullmatch(name):
        block, kind, position, rest = match.groups()
        layer = "first" if position == "1" else "second"
        return f"blocks.{int(block) - 1}.{layer}.{'conv' if kind == 'conv' else 'norm'}.{rest}"
    return re.sub(r"^fc1\.", "dense.", re.sub(r"^bn0\.", "input_norm.", name))
