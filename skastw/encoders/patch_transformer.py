"""A transformer on patches of the spectrogram."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import is_padded, length_mask
from skastw.core.functional import dropout
from skastw.core.sklearn_private import Interval
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._transformer import TransformerBlock
from skastw.errors import ComponentError

__all__ = ["PatchTransformerEncoder"]


class PatchTransformerEncoder(Encoder):
    """The spectrogram cut into patches, each of them a token of pre-norm transformer blocks; mean over frequency.

    ==========  =============================================================  ======================
    layer       what                                                           output
    ==========  =============================================================  ======================
    patches     ``patch_frames`` x ``patch_bins`` each, side by side; Linear   (T/16, F/16, d_model)
    positions   learned, one over time and one over frequency, added           (T/16, F/16, d_model)
    block x L   x + attention(norm(x)); x + feed-forward(norm(x)), GELU        (T/16, F/16, d_model)
    norm        LayerNorm                                                      (T/16, F/16, d_model)
    mean        over frequency                                                 (T/16, d_model)
    ==========  =============================================================  ======================

    All patches of a clip attend to each other. Sizes are rounded up: the last patches are filled up with zeros, so
    that no frame and no bin is lost. Padding a clip changes none of its outputs. With the defaults, 80 features and
    3000 frames it has 4.9 million parameters.

    Parameters
    ----------
    d_model : int, default=256
        Width of the encoder; a multiple of ``num_heads``.
    num_heads : int, default=4
        Attention heads.
    num_layers : int, default=6
        Transformer blocks L.
    ff_mult : int, default=4
        Width of the feed-forward layer in multiples of ``d_model``.
    patch_frames, patch_bins : int, default=16
        Length and height of a patch, which is no higher than there are bins.
    dropout : float, default=0.1
        Dropout after the positions, the attention and the feed-forward layer.

    Notes
    -----
    The papers' networks start from weights that were pretrained. The first one's patches overlap, and it adds a token
    that stands for the clip; here patches lie side by side, and the pooling over time makes one vector.

    References
    ----------
    Gong et al., "AST: Audio Spectrogram Transformer", 2021; Chen et al., "BEATs: Audio Pre-Training with Acoustic
    Tokenizers", 2023; Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import PatchTransformerEncoder
    >>> encoder = PatchTransformerEncoder(d_model=32, num_heads=2, num_layers=1)
    >>> frames, lengths = encoder.build(n_features=80, max_frames=100)(torch.zeros(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 6, 32), [6, 3])
    """

    name = "patch_transformer"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "d_model": [Interval(Integral, 1, 8192, closed="both")],
        "num_heads": [Interval(Integral, 1, 256, closed="both")],
        "num_layers": [Interval(Integral, 1, 128, closed="both")],
        "ff_mult": [Interval(Integral, 1, 32, closed="both")],
        "patch_frames": [Interval(Integral, 1, 1024, closed="both")],
        "patch_bins": [Interval(Integral, 1, 1024, closed="both")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        d_model: int = 256,
        num_heads: int = 4,
        num_layers: int = 6,
        ff_mult: int = 4,
        patch_frames: int = 16,
        patch_bins: int = 16,
        dropout: float = 0.1,
    ) -> None:
        self.d_model = d_model
        self.num_heads = num_heads
        self.num_layers = num_layers
        self.ff_mult = ff_mult
        self.patch_frames = patch_frames
        self.patch_bins = patch_bins
        self.dropout = dropout

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        if self.d_model % self.num_heads:
            raise ComponentError(f"Got d_model={self.d_model}, expected a multiple of num_heads={self.num_heads}.")
        return _PatchTransformerModule(self, n_features, max_frames)


class _PatchTransformerModule(EncoderModule):
    def __init__(self, params: PatchTransformerEncoder, n_features: int, max_frames: int) -> None:
        super().__init__()
        d_model = params.d_model
        self.n_outputs = d_model
        self.patch = (params.patch_frames, min(params.patch_bins, n_features))
        self.embed = nn.Linear(self.patch[0] * self.patch[1], d_model)
        self.time_positions = nn.Parameter(torch.empty(-(-max_frames // self.patch[0]), d_model))
        self.bin_positions = nn.Parameter(torch.empty(-(-n_features // self.patch[1]), d_model))
        nn.init.trunc_normal_(self.time_positions, std=0.02)
        nn.init.trunc_normal_(self.bin_positions, std=0.02)
        self.dropout = params.dropout
        self.blocks = nn.ModuleList(
            TransformerBlock(d_model, params.num_heads, params.ff_mult, params.dropout)
            for _ in range(params.num_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(self._patches(frames))
        lengths = (lengths + self.patch[0] - 1) // self.patch[0]
        positions = self.time_positions[: x.shape[1], None] + self.bin_positions
        x = dropout(x + positions.to(x.dtype), self.dropout, self.training)
        batch, time, bins, width = x.shape
        mask = None
        if is_padded(x, lengths):
            mask = length_mask(lengths, time, x.device).repeat_interleave(bins, dim=1)
        x = x.flatten(1, 2)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x).view(batch, time, bins, width).mean(dim=2), lengths

    def _patches(self, frames: Tensor) -> Tensor:
        """Return the patches (B, T', F', values) of ``frames`` (B, T, F)."""
        length, height = self.patch
        frames = F.pad(frames, (0, -frames.shape[2] % height, 0, -frames.shape[1] % length))
        cut = frames.unflatten(2, (-1, height)).unflatten(1, (-1, length))
        return cut.transpose(2, 3).flatten(3)
