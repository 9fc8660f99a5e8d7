"""The network: features -> normalization -> encoder -> pooling -> head."""

from __future__ import annotations

from torch import Tensor, nn

from skastw.encoders import Encoder, EncoderModule
from skastw.features import Features, FeaturesModule
from skastw.normalization import Normalization, NormalizationModule
from skastw.pooling import Pooling, PoolingModule

__all__ = ["AudioModel", "build_model", "count_parameters"]


class AudioModel(nn.Module):
    """Front end, normalization, encoder, pooling and linear head in a row.

    Padding a clip does not change its logits. The head is linear, so the mean of the embeddings of a
    clip's chunks gives the mean of their logits.

    Parameters
    ----------
    features, normalization, encoder, pooling : Module
        Built by the components of those kinds.
    n_outputs : int
        Number of logits.
    max_frames : int
        Longest sequence of frames that the encoder takes at once.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ASTWEncoder
    >>> from skastw.features import LogMel
    >>> from skastw.model import build_model
    >>> from skastw.normalization import NoNormalization
    >>> from skastw.pooling import MeanPooling
    >>> encoder = ASTWEncoder(d_model=32, num_heads=2, num_layers=1)
    >>> parts = LogMel(), NoNormalization(), encoder, MeanPooling()
    >>> model = build_model(*parts, n_outputs=4, sample_rate=16000, chunk_length=30.0)
    >>> tuple(model(torch.zeros(2, 8000), torch.tensor([8000, 4000])).shape)
    (2, 4)
    """

    def __init__(
        self,
        features: FeaturesModule,
        normalization: NormalizationModule,
        encoder: EncoderModule,
        pooling: PoolingModule,
        n_outputs: int,
        max_frames: int,
    ) -> None:
        super().__init__()
        self.features = features
        self.normalization = normalization
        self.encoder = encoder
        self.pooling = pooling
        self.head = nn.Linear(pooling.n_outputs, n_outputs)
        self.max_frames = max_frames

    def embed(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Turn frames (B, T, F) of lengths (B,) into embeddings (B, D)."""
        dtype = self.head.weight.dtype
        frames = self.normalization(frames.to(dtype), lengths)
        return self.pooling(*self.encoder(frames, lengths)).to(dtype)

    def classify(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Turn frames (B, T, F) of lengths (B,) into logits (B, n_outputs)."""
        return self.head(self.embed(frames, lengths)).to(self.head.weight.dtype)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Turn waveforms (B, N) of lengths (B,) into logits (B, n_outputs)."""
        return self.classify(*self.features(waveform, lengths))


def build_model(
    features: Features,
    normalization: Normalization,
    encoder: Encoder,
    pooling: Pooling,
    *,
    n_outputs: int,
    sample_rate: int,
    chunk_length: float,
    n_features: int | None = None,
) -> AudioModel:
    """Build the network that the components describe, with fresh weights from torch's random generator.

    Parameters
    ----------
    features, normalization, encoder, pooling : component
    n_outputs : int
        Number of logits.
    sample_rate : int
        Samples per second (Hz).
    chunk_length : float
        Longest stretch of a clip that the encoder sees at once (s).
    n_features : int, optional
        Width of a frame, where the front end does not know it (precomputed frames).

    Returns
    -------
    AudioModel
    """
    front_end = features.build(sample_rate)
    if n_features is not None:
        front_end.n_features = n_features
    max_frames = max(1, round(chunk_length * features.frames_per_second(sample_rate)))
    scale = normalization.build(front_end.n_features)
    body = encoder.build(front_end.n_features, max_frames)
    return AudioModel(front_end, scale, body, pooling.build(body.n_outputs), n_outputs, max_frames)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable values of ``model``."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
