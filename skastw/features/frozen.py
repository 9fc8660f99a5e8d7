"""A frozen encoder as front end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from sklearn.base import clone
from torch import Tensor

from skastw.core.batching import pad, split_evenly
from skastw.core.component import Component, component_base, resolve_component
from skastw.core.parameters import param, parameters, reals
from skastw.errors import ComponentError
from skastw.features._base import Features, FeaturesModule


@parameters
class Frozen(Features):
    """Outputs of an encoder that is not trained, such as an encoder with the weights of a checkpoint.

    Like the frames of other front ends, the outputs are computed once for each clip, not in each epoch, and
    ``cache_dir`` keeps them. With ``encoder="identity"``, the estimator trains a linear probe on them; any other
    encoder can be trained on them too.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import CNN10Encoder
    >>> from skastw.features import Frozen
    >>> module = Frozen(encoder=CNN10Encoder(width=4), features="log_mel").build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist(), frames.requires_grad
    ((2, 7, 32), [7, 4], False)
    """

    name = "frozen"

    encoder: Any = param(
        default=None,
        valid=[str, Component, None],
        doc="The encoder, usually with ``weights``; see :mod:`skastw.encoders`. Required.",
    )
    features: Any = param(
        default="waveform",
        valid=[str, Component],
        doc="Front end of the encoder. Encoders that take the settings of their front end from a checkpoint need "
        '``"waveform"``.',
    )
    chunk_length: float = param(
        default=30.0,
        valid=[reals(0, 3600, closed="right")],
        doc="Longest part of a clip that the encoder processes at once (s). Longer clips are divided into equal "
        "chunks, whose frames are joined.",
    )

    def parts(self) -> tuple[Any, Any]:
        """Return the front end and the encoder as components.

        Raises
        ------
        ComponentError
            If ``encoder`` is missing.
        """
        if self.encoder is None:
            raise ComponentError("Got Frozen(encoder=None), expected an encoder, such as one with weights=.")
        features: Any = resolve_component(component_base("features"), self.features)
        encoder: Any = resolve_component(component_base("encoder"), self.encoder)
        return features, encoder

    def resolved(self, sample_rate: int, chunk_length: float) -> Self:
        """Return the front end with the settings of the checkpoint; see :class:`~skastw.core.component.Component`."""
        features, encoder = self.parts()
        encoder = encoder.resolved(sample_rate, self.chunk_length)
        return clone(self).set_params(encoder=encoder, features=features.resolved(sample_rate, self.chunk_length))

    def initial_weights(self) -> Mapping[str, Tensor]:
        """Return the weights of both parts; see :class:`~skastw.core.component.Component`."""
        parts = dict(zip(("features", "encoder"), self.parts(), strict=True))
        return {
            f"{kind}.{name}": value for kind, part in parts.items() for name, value in part.initial_weights().items()
        }

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""
        features, encoder = self.parts()
        return features.frames_per_second(sample_rate) / encoder.stride

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return FrozenModule(self, sample_rate)


class FrozenModule(FeaturesModule):
    """Built :class:`Frozen`.

    Parameters
    ----------
    params : Frozen
    sample_rate : int
        Samples per second (Hz).

    Attributes
    ----------
    features : FeaturesModule
        Front end of the encoder.
    encoder : EncoderModule
    max_frames : int
        Largest number of frames of ``features`` that the encoder processes at once.
    """

    def __init__(self, params: Frozen, sample_rate: int) -> None:
        super().__init__()
        features, encoder = params.parts()
        self.max_frames = max(1, round(params.chunk_length * features.frames_per_second(sample_rate)))
        self.features = features.build(sample_rate)
        self.encoder = encoder.build(self.features.n_features, self.max_frames)
        self.n_features = self.encoder.n_outputs
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenModule:
        """Stay in evaluation mode, so that dropout and norms do not act on frozen weights."""
        return super().train(False)

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames of several clips, computed without padding."""
        return [self._of_clip(*self.features(waveform[None], torch.tensor([len(waveform)]))) for waveform in waveforms]

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of the encoder for waveforms (B, N); see :class:`~skastw.features.Features`."""
        frames, lengths = self.features(waveform, lengths)
        if int(lengths.max()) <= self.max_frames:
            frames, lengths = self.encoder(frames, lengths)
            return frames.float(), lengths
        return pad([self._of_clip(frames[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(lengths.tolist())])

    def _of_clip(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the outputs (T', D) for the frames (1, T, F) of one clip, chunk by chunk."""
        n_frames = int(lengths[0])
        outputs = []
        for start, stop in split_evenly(n_frames, self.max_frames):
            encoded, n_encoded = self.encoder(frames[:, start:stop], torch.tensor([stop - start]))
            outputs.append(encoded[0, : int(n_encoded[0])])
        return torch.cat(outputs).float()
