"""What the encoders with attention share: the transformer block."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import attention, dropout

__all__ = ["TransformerBlock"]


class TransformerBlock(nn.Module):
    """A pre-norm transformer block: attention, then feed-forward, each added to its input.

    Parameters
    ----------
    d_model : int
        Width; a multiple of ``num_heads``.
    num_heads : int
        Attention heads.
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
        self.dropout = dropout
        self.norm1 = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, ff_mult * d_model)
        self.down = nn.Linear(ff_mult * d_model, d_model)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the sequence (B, T, d_model); ``mask`` (B, T) is True where it is real, None where all of it is."""
        x = x + self._drop(self._attention(self.norm1(x), mask))
        return x + self._drop(self.down(F.gelu(self.up(self.norm2(x)))))

    def _attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        batch, time, width = x.shape
        qkv = self.qkv(x).view(batch, time, 3, self.num_heads, width // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = attention(query, key, value, mask)
        return self.out(attended.transpose(1, 2).reshape(batch, time, width))

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)
