"""Residual convolutions, followed by a transformer."""

import torch
from torch import Tensor, nn

from skastw.core.batching import padding_mask
from skastw.core.parameters import param, parameters
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._transformer import TransformerEncoder, TransformerModule
from skastw.encoders.resnet import ResNetTrunk, TrunkParams


@parameters
class ConvTransformerEncoder(TrunkParams, TransformerEncoder):
    """The residual convolutions of ``resnet`` over the spectrogram, then transformer blocks over time.

    ==========  =============================================================  ============================
    layer       operation                                                      output
    ==========  =============================================================  ============================
    trunk       stem and S stages of residual blocks, as in ``resnet``         (T/2^S, F/2^S, 2^(S-1) width)
    embed       Linear on the bins and channels of a frame, LayerNorm          (T/2^S, d_model)
    positions   sinusoids, added                                               (T/2^S, d_model)
    block x L   x + attention(norm(x)); x + feed-forward(norm(x)), GELU        (T/2^S, d_model)
    norm        LayerNorm                                                      (T/2^S, d_model)
    ==========  =============================================================  ============================

    Padding a clip does not change its outputs. With the defaults and 80 features, the encoder has 4.2 million
    parameters.

    Parameters
    ----------
    {parameters}

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", 2016; Vaswani et al., "Attention Is All You Need",
    2017 (sinusoids); Mohamed et al., "Transformers with Convolutional Context for ASR", 2019 (convolutions first).

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ConvTransformerEncoder
    >>> encoder = ConvTransformerEncoder(width=8, d_model=32, num_heads=2, num_layers=1)
    >>> module = encoder.build(n_features=80, max_frames=100).eval()
    >>> frames, lengths = module(torch.zeros(2, 90, 80), torch.tensor([90, 41]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 12, 32), [12, 6])
    """

    name = "conv_transformer"

    positions: str = param(
        default="sinusoidal",
        valid=[StrOptions({"sinusoidal", "none"})],
        doc="Whether sinusoids of the position of a frame are added before the transformer.",
    )

    def build(self, n_features: int, max_frames: int) -> TransformerModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _ConvTransformerModule(self, n_features)


class _ConvTransformerModule(TransformerModule):
    def __init__(self, params: ConvTransformerEncoder, n_features: int) -> None:
        super().__init__(params)
        self.trunk = ResNetTrunk(params, n_features)
        self.embed = nn.Linear(self.trunk.n_outputs, params.d_model)
        self.embed_norm = nn.LayerNorm(params.d_model)
        self.positions = params.positions
        self.add_blocks(params)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = self.trunk(frames, lengths)
        x = self.embed_norm(self.embed(x.permute(0, 2, 1, 3).flatten(2)))
        if self.positions == "sinusoidal":
            x = x + _sinusoids(x.shape[1], x.shape[2], x.device).to(x.dtype)
        return self.run_blocks(self.drop(x), padding_mask(x, lengths)), lengths


def _sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Return sines and cosines (length, width) with wavelengths from 2 pi to 20000 pi."""
    channel = torch.arange(width, device=device)
    rate = 10000.0 ** (-(channel - channel % 2) / width)
    angle = torch.arange(length, device=device)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos())
