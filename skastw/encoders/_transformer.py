"""Transformer blocks, and base classes of encoders that end with them."""

from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.functional import Dropout, attention, skips
from skastw.core.parameters import integers, param, parameters, reals
from skastw.encoders._base import Encoder, EncoderModule
from skastw.errors import ComponentError


@parameters
class TransformerEncoder(Encoder):
    """Base of encoders that end with transformer blocks.

    Parameters
    ----------
    {parameters}
    """

    d_model: int = param(
        default=256, valid=[integers(1, 8192)], doc="Width of the transformer; a multiple of ``num_heads``."
    )
    num_heads: int = param(default=4, valid=[integers(1, 256)], doc="Number of attention heads.")
    num_layers: int = param(default=4, valid=[integers(1, 128)], doc="Number of transformer blocks L.")
    ff_mult: int = param(
        default=4, valid=[integers(1, 32)], doc="Width of the feed-forward layer in multiples of ``d_model``."
    )
    dropout: float = param(
        default=0.1,
        valid=[reals(0, 1, closed="left")],
        doc="Dropout before the blocks, and after the attention and the feed-forward layer.",
    )
    drop_path: float = param(
        default=0.0,
        valid=[reals(0, 1, closed="left")],
        doc="Stochastic depth: probability with which a training step skips the attention, and the feed-forward layer, "
        "of the last block. It rises linearly from 0 in the first block.",
    )


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: attention, then a feed-forward layer, each added to its input.

    Parameters
    ----------
    params : TransformerEncoder
        Its ``d_model``, ``num_heads``, ``ff_mult`` and ``dropout`` are used.
    drop_path : float, default=0
        Probability with which a training step skips the attention, and the feed-forward layer.

    References
    ----------
    Vaswani et al., "Attention Is All You Need", 2017; Xiong et al., "On Layer Normalization in the Transformer
    Architecture", 2020 (pre-norm); Huang et al., "Deep Networks with Stochastic Depth", 2016.
    """

    def __init__(self, params: TransformerEncoder, drop_path: float = 0.0) -> None:
        super().__init__()
        self.drop_path = drop_path
        d_model, ff_width = params.d_model, params.ff_mult * params.d_model
        self.num_heads = params.num_heads
        self.drop = Dropout(params.dropout)
        self.norm1 = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)
        self.norm2 = nn.LayerNorm(d_model)
        self.up = nn.Linear(d_model, ff_width)
        self.down = nn.Linear(ff_width, d_model)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the sequence (B, T, d_model); ``mask`` (B, T) is True for real items, None without padding."""
        if not skips(self.drop_path, self.training):
            x = x + self._scaled(self.drop(self._attention(self.norm1(x), mask)))
        if not skips(self.drop_path, self.training):
            x = x + self._scaled(self.drop(self.down(F.gelu(self.up(self.norm2(x))))))
        return x

    def _scaled(self, x: Tensor) -> Tensor:
        """Return a branch with the same mean over training steps as without skipping."""
        return x / (1 - self.drop_path) if self.training and self.drop_path > 0 else x

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
    params : TransformerEncoder

    Raises
    ------
    ComponentError
        If ``d_model`` is not a multiple of ``num_heads``.
    """

    def __init__(self, params: TransformerEncoder) -> None:
        super().__init__()
        if params.d_model % params.num_heads:
            raise ComponentError(f"Got d_model={params.d_model}, expected a multiple of num_heads={params.num_heads}.")
        self.n_outputs = params.d_model
        self.drop = Dropout(params.dropout)

    def add_blocks(self, params: TransformerEncoder) -> None:
        """Add the blocks; subclasses add their first layers before, so that weights are drawn in order."""
        rates = [params.drop_path * i / max(1, params.num_layers - 1) for i in range(params.num_layers)]
        self.blocks = nn.ModuleList(TransformerBlock(params, rate) for rate in rates)
        self.norm = nn.LayerNorm(params.d_model)

    def run_blocks(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the output of the blocks for a sequence (B, T, d_model); see :class:`TransformerBlock`."""
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)
