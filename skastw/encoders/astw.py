"""The ASTW encoder: a small transformer with the architecture of Whisper's encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import frame_mask, is_padded, padding_mask
from skastw.core.parameters import integers, param, parameters
from skastw.encoders._transformer import TransformerEncoder, TransformerModule


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
    million parameters.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022 (architecture
    of the encoder); Vaswani et al., "Attention Is All You Need", 2017; Xiong et al., "On Layer Normalization in
    the Transformer Architecture", 2020 (pre-norm).

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ASTWEncoder
    >>> module = ASTWEncoder(d_model=32, num_heads=2, num_layers=1).build(n_features=80, max_frames=100)
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

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return 2.0

    def build(self, n_features: int, max_frames: int) -> TransformerModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _ASTWModule(self, n_features, max_frames)


class _ASTWModule(TransformerModule):
    def __init__(self, params: ASTWEncoder, n_features: int, max_frames: int) -> None:
        super().__init__(params)
        d_model = params.d_model
        self.conv1 = nn.Conv1d(n_features, d_model, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(d_model, d_model, kernel_size=3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.empty((max_frames + 1) // 2, d_model))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.add_blocks(params)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = self._stem(frames, lengths)
        positions = self.positions[: x.shape[1]].to(x.dtype)  # otherwise all sums in the blocks would be float32
        x = self.drop(x + positions)
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
