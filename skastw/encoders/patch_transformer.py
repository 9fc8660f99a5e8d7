"""A transformer on patches of the spectrogram."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import padding_mask
from skastw.core.parameters import integers, param, parameters
from skastw.encoders._transformer import TransformerEncoder, TransformerModule


@parameters
class PatchTransformerEncoder(TransformerEncoder):
    """Pre-norm transformer blocks over rectangular patches of the spectrogram, then the mean over frequency.

    ==========  =============================================================  ======================
    layer       operation                                                      output
    ==========  =============================================================  ======================
    patches     ``patch_frames`` x ``patch_bins`` values, Linear               (T/16, F/16, d_model)
    positions   learned for time and for frequency, added                      (T/16, F/16, d_model)
    block x L   x + attention(norm(x)); x + feed-forward(norm(x)), GELU        (T/16, F/16, d_model)
    norm        LayerNorm                                                      (T/16, F/16, d_model)
    mean        over frequency                                                 (T/16, d_model)
    ==========  =============================================================  ======================

    All patches of a clip attend to each other. Sizes are rounded up: the last patches are padded with zeros, so that
    all frames and bins are used. Padding a clip does not change its outputs. With the defaults, 80 features and 3000
    frames, the encoder has 4.9 million parameters.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    The networks of the papers start from pretrained weights. In AST, patches overlap, and an additional token stands
    for the clip. Here patches do not overlap, and the pooling over time returns one vector.

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

    num_layers: int = param(default=6, valid=[integers(1, 128)], doc="Number of transformer blocks L.")
    patch_frames: int = param(default=16, valid=[integers(1, 1024)], doc="Length of a patch in frames.")
    patch_bins: int = param(
        default=16,
        valid=[integers(1, 1024)],
        doc="Height of a patch in bins, limited to the number of bins.",
    )

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame."""
        return float(self.patch_frames)

    def build(self, n_features: int, max_frames: int) -> TransformerModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _PatchTransformerModule(self, n_features, max_frames)


class _PatchTransformerModule(TransformerModule):
    def __init__(self, params: PatchTransformerEncoder, n_features: int, max_frames: int) -> None:
        super().__init__(params)
        d_model = params.d_model
        self.patch = (params.patch_frames, min(params.patch_bins, n_features))
        self.embed = nn.Linear(self.patch[0] * self.patch[1], d_model)

        self.time_positions = nn.Parameter(torch.empty(-(-max_frames // self.patch[0]), d_model))
        self.bin_positions = nn.Parameter(torch.empty(-(-n_features // self.patch[1]), d_model))
        nn.init.trunc_normal_(self.time_positions, std=0.02)
        nn.init.trunc_normal_(self.bin_positions, std=0.02)
        self.add_blocks(params)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = self.embed(self._patches(frames))
        lengths = (lengths + self.patch[0] - 1) // self.patch[0]
        positions = self.time_positions[: x.shape[1], None] + self.bin_positions
        x = self.drop(x + positions.to(x.dtype))

        n_bins, mask = x.shape[2], padding_mask(x, lengths)
        patches = self.run_blocks(x.flatten(1, 2), None if mask is None else mask.repeat_interleave(n_bins, dim=1))
        return patches.unflatten(1, (-1, n_bins)).mean(dim=2), lengths

    def _patches(self, frames: Tensor) -> Tensor:
        """Return the patches (B, T', F', n_values) of ``frames`` (B, T, F)."""
        length, height = self.patch
        frames = F.pad(frames, (0, -frames.shape[2] % height, 0, -frames.shape[1] % length))
        cut = frames.unflatten(2, (-1, height)).unflatten(1, (-1, length))
        return cut.transpose(2, 3).flatten(3)
