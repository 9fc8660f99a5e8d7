"""Time stretching: slower and faster, at the same pitch."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import torch

from skastw.augment._base import Augment, chosen
from skastw.core.batching import Batch, length_mask
from skastw.core.sklearn_private import Interval

__all__ = ["TimeStretch"]


class TimeStretch(Augment):
    """Play each item slower or faster by a random factor, without changing its pitch.

    Frames are interpolated linearly; lengths change with them, and keep at least one frame.

    Parameters
    ----------
    max_stretch : float, default=0.15
        The length is multiplied by a factor uniform in ``[1 - max_stretch, 1 + max_stretch]``.
    p : float, default=1.0
        Probability that an item is stretched.

    References
    ----------
    Ko et al., "Audio Augmentation for Speech Recognition", 2015 (tempo perturbation).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import TimeStretch
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.randn(2, 100, 80), torch.tensor([100, 50]), torch.zeros(2), torch.ones(2))
    >>> stretched = TimeStretch().apply(batch, torch.Generator().manual_seed(1))
    >>> stretched.lengths.tolist()
    [108, 47]
    """

    name = "time_stretch"
    test_time = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "max_stretch": [Interval(Real, 0, 1, closed="left")],
        "p": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, *, max_stretch: float = 0.15, p: float = 1.0) -> None:
        self.max_stretch = max_stretch
        self.p = p

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with stretched items; see :class:`~skastw.augment.Augment`."""
        inputs, lengths = batch.inputs, batch.lengths
        factor = 1 + self.max_stretch * (2 * torch.rand(len(lengths), generator=generator) - 1)
        factor = torch.where(chosen(len(lengths), self.p, generator), factor, 1.0)
        stretched = (lengths * factor).round().long().clamp(min=1)

        size = int(stretched.max())
        step = (lengths - 1) / (stretched - 1).clamp(min=1)  # the first and the last frame stay what they are
        position = (torch.arange(size) * step[:, None]).clamp(max=(lengths - 1)[:, None])
        below = position.floor().long()
        above = torch.minimum(below + 1, (lengths - 1)[:, None])
        weight = (position - below)[:, :, None].to(inputs.device, inputs.dtype)
        item = torch.arange(len(lengths))[:, None]
        mask = length_mask(stretched, size, inputs.device)[:, :, None]
        frames = torch.lerp(inputs[item, below], inputs[item, above], weight) * mask
        return replace(batch, inputs=frames, lengths=stretched)
