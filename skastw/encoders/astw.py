"""The ASTW encoder: a small transformer with the architecture of Whisper's encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import frame_mask, is_padded, padding_mask
from skastw.core.functional import keeps_frames
from skastw.core.generators import generator_on
from skastw.core.parameters import integers, param, parameters, reals
from skastw.encoders._transformer import TransformerEncoder, TransformerModule

#: Amplitude of the positions before training; the frames that they are added to have about this deviation.
_POSITION_SCALE = 0.1
#: Least width of an encoder that has a teacher by default.
_LEAST_TAUGHT = 128


@parameters
class ASTWEncoder(TransformerEncoder):
    """Two convolutions over time, learned positions, pre-norm transformer blocks and a final norm.

    ==========  ==========================================================  ==============
    layer       operation                                                   output
    ==========  ==========================================================  ==============
    stem 1      Conv1d, kernel 3, GELU                                      (T, d_model)
    stem 2      Conv1d, kernel 3, stride 2, GELU                            (T/2, d_model)
    positions   learned, added                                              (T/2, d_model)
    block x L   x + attention(norm(x)); x + feed-forward(norm(x)), GELU     (T/2, d_model)
    norm        LayerNorm                                                   (T/2, d_model)
    ==========  ==========================================================  ==============

    Padding a clip does not change its outputs. With the defaults, 80 features and 3000 frames, the encoder has 15.3
    million parameters. Before training, the positions are sinusoids and the last layers of both branches of a block are
    zero, so that a block returns its input: this helps with few clips.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (architecture
    of the encoder); Vaswani et al., "Attention Is All You Need", 2017; Xiong et al., "On Layer Normalization in
    the Transformer Architecture", 2020 (pre-norm); Zhang et al., "Fixup Initialization: Residual Learning Without
    Normalization", 2019 (zeros at the end of branches).

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ASTWEncoder
    >>> module = ASTWEncoder(d_model=32, num_heads=2, num_layers=1).build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.zeros(2, 9, 80), torch.tensor([9, 4]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 5, 32), [5, 2])
    """

    name = "astw"

    d_model: int = param(
        default=384,
        valid=[integers(1, 8192)],
        doc="Width of the transformer; a multiple of ``num_heads``.",
    )
    num_heads: int = param(default=6, valid=[integers(1, 256)], doc="Number of attention heads.")
    num_layers: int = param(default=8, valid=[integers(1, 128)], doc="Number of transformer blocks L.")
    drop_frames: float = param(
        default=0.5,
        valid=[reals(0, 1, closed="left")],
        doc="Share of the frames that a training step leaves out before the blocks, at random. This regularises, and "
        "makes a step quicker. Pretraining by masked frames leaves out none.",
    )
    drop_path: float = param(
        default=0.2,
        valid=[reals(0, 1, closed="left")],
        doc="Stochastic depth: probability with which a training step skips the attention, and the feed-forward layer, "
        "of the last block. It rises linearly from 0 in the first block.",
    )

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return 2.0

    @property
    def data_hungry(self) -> bool:
        """Whether there is a teacher and a refit by default; a narrow encoder takes less time than its teacher."""
        return self.d_model >= _LEAST_TAUGHT

    def build(self, n_features: int, max_frames: int) -> TransformerModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _ASTWModule(self, n_features, max_frames)


def fill_sinusoids(positions: Tensor, scale: float) -> None:
    """Fill positions (length, width) with sines and cosines of amplitude ``scale``, of periods 2 pi to 20000 pi.

    Parameters
    ----------
    positions : Tensor of shape (length, width)
        A tensor without values, on the device "meta", stays as it is.
    scale : float

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017, section 3.5.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders.astw import fill_sinusoids
    >>> positions = torch.empty(10, 4)
    >>> fill_sinusoids(positions, 0.5)
    >>> positions[0].tolist()
    [0.0, 0.0, 0.5, 0.5]
    """
    if positions.is_meta:
        return
    length, width = positions.shape
    n_sines = (width + 1) // 2
    angles = torch.arange(length)[:, None] / 10000 ** torch.linspace(0, 1, n_sines)
    with torch.no_grad():
        positions.copy_(scale * torch.cat([angles.sin(), angles[:, : width - n_sines].cos()], dim=1))


def drop_frames(x: Tensor, lengths: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Leave out a random share of the frames, at the same positions in all clips; the first frame always stays.

    Parameters
    ----------
    x : Tensor of shape (B, T, D)
    lengths : Tensor of shape (B,)
    share : float
        Share of the frames that are left out, in [0, 1).

    Returns
    -------
    x : Tensor of shape (B, T', D)
    lengths : Tensor of shape (B,)
        Number of real frames that are left, at least 1.

    References
    ----------
    Koutini et al., "Efficient Training of Audio Transformers with Patchout", 2022 (unstructured patchout).

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders.astw import drop_frames
    >>> x, lengths = drop_frames(torch.zeros(2, 10, 4), torch.tensor([10, 1]), 0.5)
    >>> tuple(x.shape), lengths.tolist()
    ((2, 5, 4), [5, 1])
    """
    n_others = x.shape[1] - 1
    kept = torch.randperm(n_others, generator=generator_on(torch.device("cpu")))[: round(n_others * (1 - share))]
    index = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + kept.sort().values])
    return x[:, index.to(x.device)], (index < lengths[:, None]).sum(dim=1)


class _ASTWModule(TransformerModule):
    def __init__(self, params: ASTWEncoder, n_features: int, max_frames: int) -> None:
        super().__init__(params)
        d_model, self.drop_frames = params.d_model, params.drop_frames
        self.conv1 = nn.Conv1d(n_features, d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(d_model, d_model, kernel_size=3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.empty((max_frames + 1) // 2, d_model))
        fill_sinusoids(self.positions, _POSITION_SCALE)
        self.add_blocks(params)
        for name, weight in self.blocks.named_parameters():
            if name.split(".")[1] in ("out", "down"):
                nn.init.zeros_(weight)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = self._stem(frames, lengths)
        positions = self.positions[: x.shape[1]].to(x.dtype)  # otherwise all sums in the blocks would be float32
        x = self.drop(x + positions)
        if self.training and self.drop_frames > 0 and not keeps_frames():
            x, lengths = drop_frames(x, lengths, self.drop_frames)
        return self.run_blocks(x, padding_mask(x, lengths)), lengths

    def _stem(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Halve the frame rate. Between the convolutions, padding is set to zero, as after the end of a clip."""
        x = F.gelu(self.conv1(frames.transpose(1, 2)))
        if is_padded(frames, lengths):
            x = x * frame_mask(frames, lengths).transpose(1, 2).to(x.dtype)

        # oneDNN's bfloat16 gradient of the second convolution is undefined for one frame; a frame of zeros is harmless
        if x.shape[2] == 1:
            x = F.pad(x, (0, 1))
        x = F.gelu(self.conv2(x))
        return x.transpose(1, 2).contiguous(), (lengths + 1) // 2  # contiguous: the sums in the blocks are faster
