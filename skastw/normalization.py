"""Normalization: frames -> frames on a common scale. Padding stays zero, and padding a clip changes nothing."""

from abc import abstractmethod
from collections.abc import Iterable
from itertools import repeat
from typing import ClassVar

import torch
from torch import Tensor, nn

from skastw.core.batching import frame_mask
from skastw.core.component import Component
from skastw.core.parameters import param, parameters, reals

__all__ = [
    "LevelNormalization",
    "NoNormalization",
    "Normalization",
    "NormalizationModule",
    "PerBinNormalization",
    "PerClipNormalization",
    "RelaxedNormalization",
]


class NormalizationModule(nn.Module):
    """A built normalization: ``(frames (B, T, F), lengths (B,)) -> frames (B, T, F)``; by default, no change."""

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the normalized frames."""
        return frames

    def learn(self, frames: Iterable[Tensor], weights: Iterable[float] | None = None) -> None:
        """Learn statistics from the frames (T_i, F) of the training clips; by default nothing is learned.

        A clip with a weight of 2 counts as if it occurred twice.
        """


class Normalization(Component):
    """Parameters of a normalization.

    ``build(n_features)`` returns a module with ``forward(frames (B, T, F), lengths (B,)) -> frames (B, T, F)`` and
    ``learn(frames, weights)``, which is called before training with the frames of the training clips only. The
    statistics that it learns are saved with the model.
    """

    kind: ClassVar[str] = "normalization"

    @abstractmethod
    def build(self, n_features: int) -> NormalizationModule:
        """Return the module for frames of width ``n_features``."""


class NoNormalization(Normalization):
    """No normalization.

    Examples
    --------
    >>> import torch
    >>> from skastw.normalization import NoNormalization
    >>> NoNormalization().build(1)(torch.tensor([[[3.0]]]), torch.tensor([1])).tolist()
    [[[3.0]]]
    """

    name = "none"

    def build(self, n_features: int) -> NormalizationModule:
        """Return the module; see :class:`~skastw.normalization.Normalization`."""
        return NormalizationModule()


class PerBinNormalization(Normalization):
    """Standardise each bin by its mean and standard deviation over all frames of the training clips.

    Bins that hardly vary, for example above the bandwidth of the recordings, are not amplified: a standard deviation is
    raised to at least a twentieth of the mean of all bins.

    References
    ----------
    Gong, Chung and Glass, "AST: Audio Spectrogram Transformer", 2021 (one mean and standard deviation for all bins).

    Examples
    --------
    >>> import torch
    >>> from skastw.normalization import PerBinNormalization
    >>> module = PerBinNormalization().build(1)
    >>> module.learn([torch.tensor([[1.0], [3.0]])])
    >>> module(torch.tensor([[[3.0], [0.0]]]), torch.tensor([2])).flatten().tolist()
    [1.0, -2.0]
    """

    name = "per_bin"

    def build(self, n_features: int) -> NormalizationModule:
        """Return the module; see :class:`~skastw.normalization.Normalization`."""
        return _PerBin(n_features)


@parameters
class PerClipNormalization(Normalization):
    """Standardise each clip by its own mean and standard deviation.

    This removes the level of a recording and, with ``per_bin``, its frequency response. If a clip hardly varies, as in
    silence, only its mean is subtracted.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.normalization import PerClipNormalization
    >>> module = PerClipNormalization().build(2)
    >>> frames = module(torch.randn(1, 50, 2) * 3 + 5, torch.tensor([50]))
    >>> bool(frames.mean().abs() < 1e-5), bool((frames.std() - 1).abs() < 0.02)
    (True, True)
    """

    name = "per_clip"

    per_bin: bool = param(
        default=False, valid=["boolean"], doc="Whether each bin has its own mean and standard deviation."
    )

    def build(self, n_features: int) -> NormalizationModule:
        """Return the module; see :class:`~skastw.normalization.Normalization`."""
        return _PerClip((1,) if self.per_bin else (1, 2))


@parameters
class RelaxedNormalization(Normalization):
    """Mix frames that are standardised by the training clips with frames that are standardised by the clip itself.

    The result is ``(1 - relief) * per_bin + relief * per_clip``, the latter with ``per_bin=True``. Only the second term
    removes the constant properties of a clip, such as the frequency response of its microphone or a voice.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Kim et al., "Domain Generalization with Relaxed Instance Frequency-wise Normalization for Multi-device Acoustic
    Scene Classification", 2022 (inside the network, with a norm over all bins as the first term).

    Examples
    --------
    >>> import torch
    >>> from skastw.normalization import RelaxedNormalization
    >>> module = RelaxedNormalization().build(1)
    >>> module.learn([torch.tensor([[-2.0], [2.0]])])
    >>> module(torch.tensor([[[6.0], [2.0]]]), torch.tensor([2])).flatten().tolist()
    [2.0, 0.0]
    """

    name = "relaxed"

    relief: float = param(
        default=0.5,
        valid=[reals(0, 1)],
        doc="Weight of the frames that are standardised by the clip itself.",
    )

    def build(self, n_features: int) -> NormalizationModule:
        """Return the module; see :class:`~skastw.normalization.Normalization`."""
        return _Relaxed(n_features, self.relief)


class LevelNormalization(Normalization):
    """Subtract the mean of each clip, which removes the level of log-mel frames and keeps their dynamics.

    Examples
    --------
    >>> import torch
    >>> from skastw.normalization import LevelNormalization
    >>> LevelNormalization().build(1)(torch.tensor([[[1.0], [3.0]]]), torch.tensor([2])).flatten().tolist()
    [-1.0, 1.0]
    """

    name = "level"

    def build(self, n_features: int) -> NormalizationModule:
        """Return the module; see :class:`~skastw.normalization.Normalization`."""
        return _Level()


class _PerBin(NormalizationModule):
    mean: Tensor
    scale: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    def learn(self, frames: Iterable[Tensor], weights: Iterable[float] | None = None) -> None:
        count = 0.0
        total = torch.zeros(len(self.mean), dtype=torch.float64)
        squares = total.clone()
        for item, weight in zip(frames, repeat(1.0) if weights is None else weights, strict=False):
            count += weight * len(item)
            total += weight * item.sum(dim=0, dtype=torch.float64)
            squares += weight * item.double().square().sum(dim=0)

        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        floor = deviation.mean() / 20 if deviation.any() else 1.0
        self.mean.copy_(mean)
        self.scale.copy_(deviation.clamp(min=floor))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        mask = frame_mask(frames, lengths)
        return (frames - self.mean) / self.scale * mask


class _PerClip(NormalizationModule):
    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        centred = _centred(frames, lengths, self.dims)
        deviation = _mean(centred.square(), lengths, self.dims).sqrt()
        return centred / torch.where(deviation > 1e-3, deviation, 1.0)


class _Relaxed(_PerBin):
    def __init__(self, n_features: int, relief: float) -> None:
        super().__init__(n_features)
        self.relief = relief
        self.own_scale = _PerClip((1,))

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        frames = super().forward(frames, lengths)
        return torch.lerp(frames, self.own_scale(frames, lengths), self.relief)


class _Level(NormalizationModule):
    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        return _centred(frames, lengths, (1, 2))


def _mean(values: Tensor, lengths: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the mean over ``dims`` of values (B, T, F) that are zero beyond each length."""
    n_values = lengths * (values.shape[2] if 2 in dims else 1)
    return values.sum(dim=dims, keepdim=True) / n_values[:, None, None].to(values.device, values.dtype)


def _centred(frames: Tensor, lengths: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Subtract the mean over ``dims`` from frames; the result is zero beyond each length."""
    mask = frame_mask(frames, lengths)
    return (frames - _mean(frames * mask, lengths, dims)) * mask
