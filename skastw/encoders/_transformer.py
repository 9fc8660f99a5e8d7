"""Transformer blocks, and a base class of encoders that end with them."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import Dropout, attention
from skastw.encoders._base import EncoderModule
from skastw.errors import ComponentError


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: attention, then a feed-forward layer, each added to its input.

    Parameters
    ----------
    d_model : int
        Width; a multiple of ``num_heads``.
    num_heads : int
        Number of attention heads.
    ff_mult : int
        Width of the feed-forward layer in multiples of ``d_model``.
    dropout : float
        Dropout after the attention and the feed-forward layer.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017; Xiong et al., "On Layer Normalization in the Transformer
    Architecture", 2020 (pre-norm).
    """

    def __init__(self, d_model: int, num_heads: int, ff_mult: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.drop = Dropout(dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, ff_mult * d_model)
        self.down = nn.Linear(ff_mult * d_model, d_model)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the sequence (B, T, d_model); ``mask`` (B, T) is True for real items, None without padding."""
        x = x + self.drop(self._attention(self.norm1(x), mask))
        return x + self.drop(self.down(F.gelu(self.up(self.norm2(x)))))

    def _attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, time, width = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = attention(query, key, value, mask)
        return self.out(attended.transpose(1, 2).reshape(batch, time, width))


class TransformerModule(EncoderModule):
    """Base of encoder modules that end with transformer blocks and a final norm.

    Parameters
    ----------
    params : Encoder
        Encoder with the parameters ``d_model``, ``num_heads``, ``num_layers``, ``ff_mult`` and ``dropout``.

    Raises
    ------
    ComponentError
        If ``d_model`` is not a multiple of ``num_heads``.
    """

    def __init__(self, params: Any) -> None:
        super().__init__()
        if params.d_model % params.num_heads:
            raise ComponentError(f"Got d_model={params.d_model}, expected a multiple of num_heads={params.num_heads}.")
        self.n_outputs = params.d_model
        self.drop = Dropout(params.dropout)

    def add_blocks(self, params: Any) -> None:
        """Add the blocks; subclasses add their first layers before, so that weights are drawn in order."""
        self.blocks = nn.ModuleList(
            TransformerBlock(params.d_model, params.num_heads, params.ff_mult, params.dropout)
            for _ in range(params.num_layers)
        )
        self.norm = nn.LayerNorm(params.d_model)

    def run_blocks(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output of the blocks for a sequence (B, T, d_model); see :class:`TransformerBlock`."""
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
