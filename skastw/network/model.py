"""The network: front end, normalization, encoder, pooling and head, in this order."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skastw.core.component import Component
from skastw.core.functional import cast_once
from skastw.encoders import Encoder, EncoderModule
from skastw.errors import WeightsError
from skastw.features import Features, FeaturesModule
from skastw.normalization import Normalization, NormalizationModule
from skastw.pooling import Pooling, PoolingModule

__all__ = [
    "AudioModel",
    "SideModule",
    "build_model",
    "convert",
    "count_parameters",
    "frames_in_chunk",
    "load_trained_state",
    "load_weights",
    "trained_state",
]

#: Largest absolute value of a standardised side vector.
MOST_DEVIATIONS = 5.0


class SideModule(nn.Module):
    """A linear layer on the side vector of a clip, whose outputs are averaged with those of the network.

    Parameters
    ----------
    features : FeaturesModule
        Front end that gives one frame for each clip: the side vector, of S values.
    n_outputs : int

    Attributes
    ----------
    mean, scale : Tensor of shape (S,)
        Mean and standard deviation of the training clips.
    share : Tensor of shape ()
        Share of this layer in the outputs, from 0 to 1.
    """

    mean: Tensor
    scale: Tensor
    share: Tensor

    def __init__(self, features: FeaturesModule, n_outputs: int) -> None:
        super().__init__()
        self.features = features
        self.linear = nn.Linear(features.n_features, n_outputs)
        self.register_buffer("mean", torch.zeros(features.n_features))
        self.register_buffer("scale", torch.ones(features.n_features))
        self.register_buffer("share", torch.tensor(0.5))

    def forward(self, vectors: Tensor) -> Tensor:
        """Standardise side vectors (B, S); values of more than :data:`MOST_DEVIATIONS` deviations are cut off."""
        vectors = vectors.to(self.mean.dtype)
        return ((vectors - self.mean) / self.scale).clamp(-MOST_DEVIATIONS, MOST_DEVIATIONS)


class AudioModel(nn.Module):
    """Front end, normalization, encoder, pooling and linear head, applied one after the other.

    Padding a clip does not change its logits. The head is linear, so the mean of the embeddings of the chunks of a
    clip gives the mean of their logits.

    Parameters
    ----------
    features, normalization : Module
        Modules that the components of these kinds build.
    encoders, poolings : sequence of Modules
        One encoder and one pooling for each of the models that are trained side by side. Their embeddings are
        concatenated, and the logits of the head are the mean of the logits of the single models.
    n_outputs : int
        Number of logits.
    max_frames : int
        Largest number of frames that the encoder processes at once.
    side : SideModule, optional
        Linear layer on the side vector. The embedding of a clip then ends with its standardised side vector.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ASTWEncoder
    >>> from skastw.features import LogMel
    >>> from skastw.network.model import build_model
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
        encoders: Sequence[EncoderModule],
        poolings: Sequence[PoolingModule],
        n_outputs: int,
        max_frames: int,
        side: SideModule | None = None,
    ) -> None:
        super().__init__()
        self.features = features
        self.normalization = normalization
        self.n_models = len(encoders)
        self.encoder: Any = encoders[0] if self.n_models == 1 else nn.ModuleList(encoders)
        self.pooling: Any = poolings[0] if self.n_models == 1 else nn.ModuleList(poolings)
        self.head = nn.Linear(sum(pooling.n_outputs for pooling in poolings), n_outputs)
        self.max_frames = max_frames
        self.side = side

    @property
    def n_embedding(self) -> int:
        """Number of values in the embedding of a clip."""
        return self.head.in_features + (0 if self.side is None else self.side.linear.in_features)

    def train(self, mode: bool = True) -> "AudioModel":
        """Set the mode of all parts; parts whose weights are not trained stay in evaluation mode.

        Dropout does not act in such a part, and its norms keep their statistics.
        """
        super().train(mode)
        for part in self.modules() if mode else ():
            weights = list(part.parameters())
            if weights and not any(weight.requires_grad for weight in weights):
                part.eval()
        return self

    def frames(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Turn waveforms (B, N) of lengths (B,) into frames (B, T, F) and their lengths (B,).

        A front end that is not trained computes in float32, whatever the number format of the network.
        """
        weight = next(self.features.parameters(), None)
        return self.features(waveforms if weight is None else waveforms.to(weight.dtype), lengths)

    def embed(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Turn frames (B, T, F) of lengths (B,) into embeddings (B, D); several models are concatenated."""
        dtype = self.head.weight.dtype
        frames = self.normalization(frames.to(dtype), lengths)
        if self.n_models == 1:
            return self.pooling(*self.encoder(frames, lengths)).to(dtype)
        models = zip(self.encoder, self.pooling, strict=True)
        return torch.cat([pooling(*encoder(frames, lengths)).to(dtype) for encoder, pooling in models], dim=1)

    def outputs(self, embeddings: Tensor) -> Tensor:
        """Turn embeddings of clips (B, n_embedding), with the standardised side vectors, into logits."""
        if self.side is None:
            return self.head(embeddings)
        own, side = embeddings.split([self.head.in_features, self.side.linear.in_features], dim=1)
        return torch.lerp(self.head(own), self.side.linear(side), self.side.share)

    def classify(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Turn frames (B, T, F) of lengths (B,) into logits (B, n_outputs), without the side vector."""
        return self.head(self.embed(frames, lengths)).to(self.head.weight.dtype)

    def classify_each(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """Turn frames into the logits (B, n_outputs) of each model; :meth:`classify` returns their mean."""
        if self.n_models == 1:
            return [self.classify(frames, lengths)]
        embeddings = self.embed(frames, lengths).chunk(self.n_models, dim=1)
        weights = (self.n_models * self.head.weight).chunk(self.n_models, dim=1)
        pairs, bias = zip(embeddings, weights, strict=True), cast_once(self.head.bias)
        return [nn.functional.linear(*pair, bias).to(self.head.weight.dtype) for pair in pairs]

    def classify_frames_each(self, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """Turn normalized frames into the logits (B, T', n_outputs) of each model for each output frame of its encoder.

        An output frame is pooled alone, as if it were the only one of its clip.
        """
        models = [(self.encoder, self.pooling)]
        if self.n_models > 1:
            models = list(zip(self.encoder, self.pooling, strict=True))
        weights = (self.n_models * self.head.weight).chunk(self.n_models, dim=1)

        logits = []
        for (encoder, pooling), weight in zip(models, weights, strict=True):
            encoded, _ = encoder(frames, lengths)
            single = encoded.flatten(0, 1)[:, None]
            pooled = pooling(single, torch.ones(len(single), dtype=torch.int64)).to(weight.dtype)
            outputs = nn.functional.linear(pooled, weight, cast_once(self.head.bias))
            logits.append(outputs.to(weight.dtype).unflatten(0, encoded.shape[:2]))
        return logits

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Turn waveforms (B, N) of lengths (B,) into logits (B, n_outputs)."""
        embeddings = self.embed(*self.frames(waveform, lengths))
        if self.side is not None:
            vectors, _ = self.side.features(waveform, lengths)
            embeddings = torch.cat([embeddings, self.side(vectors[:, 0])], dim=1)
        return self.outputs(embeddings).to(self.head.weight.dtype)


def convert(model: AudioModel, dtype: torch.dtype) -> AudioModel:
    """Return ``model`` with weights of the format ``dtype``; a front end that is not trained stays in float32."""
    model.to(dtype)
    if not any(weight.requires_grad for weight in model.features.parameters()):
        model.features.float()
    if model.side is not None:
        model.side.features.float()
    return model


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], component: Component) -> None:
    """Give a built module the weights of its component, unless there are none.

    Raises
    ------
    WeightsError
        If names or shapes differ. The message names the first weight that differs.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | weights.keys()) if weights else ():
        ours, theirs = (tuple(tensors[name].shape) if name in tensors else None for tensors in (own, weights))
        if ours != theirs:
            raise WeightsError(
                f"The weights of {component.name!r} have {name} of shape {theirs}, expected {ours}: they belong to a "
                "network with other parameters, or are incomplete."
            )
    module.load_state_dict(dict(weights), strict=bool(weights))


def trained_state(model: AudioModel) -> dict[str, Tensor]:
    """Return the weights and buffers of ``model`` by name, without those that training does not change."""
    fixed = {name for name, weight in model.named_parameters() if not weight.requires_grad}
    if not any(weight.requires_grad for weight in model.features.parameters()):
        fixed |= {f"features.{name}" for name in model.features.state_dict()}
    return {name: value for name, value in model.state_dict().items() if name not in fixed}


def load_trained_state(model: AudioModel, state: Mapping[str, Tensor]) -> None:
    """Give ``model`` the weights and buffers of :func:`trained_state`, and keep the others.

    Parameters
    ----------
    model : AudioModel
    state : mapping of str to Tensor

    Raises
    ------
    RuntimeError
        If ``state`` lacks a tensor, or has one that the model does not have.
    """
    changing = trained_state(model).keys()
    fixed = {name: value for name, value in model.state_dict().items() if name not in changing}
    model.load_state_dict({**fixed, **state})


def build_model(
    features: Features,
    normalization: Normalization,
    encoder: Encoder,
    pooling: Pooling,
    *,
    n_outputs: int,
    sample_rate: int,
    chunk_length: float,
    front_end: FeaturesModule | None = None,
    n_features: int | None = None,
    n_models: int = 1,
    side: Features | None = None,
    side_front_end: FeaturesModule | None = None,
) -> AudioModel:
    """Build a new network from components; its weights are drawn from torch's random generator.

    Parameters
    ----------
    features, normalization, encoder, pooling : component
    n_outputs : int
        Number of logits.
    sample_rate : int
        Samples per second (Hz).
    chunk_length : float
        Longest part of a clip that the encoder processes at once (s).
    front_end : FeaturesModule, optional
        The built front end; by default a new one.
    n_features : int, optional
        Number of values in a frame, for precomputed frames.
    n_models : int, default=1
        Number of encoders side by side, each with its own weights.
    side : Features, optional
        Front end that gives one frame for each clip: the side vector.
    side_front_end : FeaturesModule, optional
        Its built module; by default a new one.

    Returns
    -------
    AudioModel
    """
    front_end = features.build(sample_rate) if front_end is None else front_end
    if n_features is not None:
        front_end.n_features = n_features
    max_frames = frames_in_chunk(features, sample_rate, chunk_length)

    scale = normalization.build(front_end.n_features)
    encoders, poolings = [], []
    for _ in range(n_models):
        encoders.append(encoder.build(front_end.n_features, max_frames))
        poolings.append(pooling.build(encoders[-1].n_outputs))
    beside = None if side is None else SideModule(side_front_end or side.build(sample_rate), n_outputs)
    return AudioModel(front_end, scale, encoders, poolings, n_outputs, max_frames, beside)


def frames_in_chunk(features: Features, sample_rate: int, chunk_length: float) -> int:
    """Return the largest number of frames that the encoder processes at once.

    Parameters
    ----------
    features : Features
    sample_rate : int
        Samples per second (Hz).
    chunk_length : float
        Length of a chunk (s).

    Examples
    --------
    >>> from skastw.features import LogMel
    >>> from skastw.network.model import frames_in_chunk
    >>> frames_in_chunk(LogMel(), 16000, 30.0)
    3000
    """
    return max(1, round(chunk_length * features.frames_per_second(sample_rate)))


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable weights of ``model``."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
