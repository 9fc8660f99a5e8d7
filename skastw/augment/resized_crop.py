"""Random crops at a random tempo."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import torch

from skastw.augment._base import Augment
from skastw.core.batching import Batch, length_mask, round_length_down
from skastw.core.sklearn_private import Interval

__all__ = ["ResizedCrop"]


class ResizedCrop(Augment):
    """Cut each item to a random stretch and play that slower or faster, all to one length.

    One length is drawn for a batch, a share of its longest item, rounded down by up to a sixteenth. Of each item
    a random stretch, longer or shorter than that by a random factor, is interpolated linearly to it. So clips of
    similar lengths, as they come in a batch, fill it without padding. An item that is too short for that even at
    its slowest stays whole, and is stretched by its factor.

    Parameters
    ----------
    min_share : float, default=0.75
        The share is uniform in ``[min_share, 1]``.
    max_stretch : float, default=0.15
        The tempo is multiplied by a factor uniform in ``[1 - max_stretch, 1 + max_stretch]``.

    References
    ----------
    Szegedy et al., "Going Deeper with Convolutions", 2015 (of images); Ko et al., "Audio Augmentation for Speech
    Recognition", 2015 (tempo perturbation).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import ResizedCrop
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.randn(2, 100, 80), torch.tensor([100, 90]), torch.zeros(2), torch.ones(2))
    >>> ResizedCrop(min_share=0.5).apply(batch, torch.Generator().manual_seed(0)).lengths.tolist()
    [76, 76]
    """

    name = "resized_crop"
    test_time = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "min_share": [Interval(Real, 0, 1, closed="right")],
        "max_stretch": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(self, *, min_share: float = 0.75, max_stretch: float = 0.15) -> None:
        self.min_share = min_share
        self.max_stretch = max_stretch

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with cropped and stretched items; see :class:`~skastw.augment.Augment`."""
        inputs, lengths = batch.inputs, batch.lengths
        share = 1 - (1 - self.min_share) * float(torch.rand((), generator=generator))
        size = round_length_down(math.ceil(share * int(lengths.max())))
        tempo = 1 + self.max_stretch * (2 * torch.rand(len(lengths), generator=generator) - 1)

        taken = torch.minimum((size * tempo).round().long().clamp(min=1), lengths)
        fills = lengths >= size * (1 - self.max_stretch)
        given = torch.where(fills, size, (lengths / tempo).round().long().clamp(min=1, max=size))
        start = (torch.rand(len(lengths), generator=generator) * (lengths - taken + 1)).floor()
        step = (taken - 1) / (given - 1).clamp(min=1)
        last = (start + taken - 1)[:, None]
        position = (start[:, None] + torch.arange(size) * step[:, None]).clamp(max=last)

        below = position.floor().long()
        above = torch.minimum(below + 1, last.long())
        weight = (position - below)[:, :, None].to(inputs.device, inputs.dtype)
        item = torch.arange(len(lengths))[:, None]
        frames = torch.lerp(inputs[item, below], inputs[item, above], weight)
        if bool((given < size).any()):
            frames = frames * length_mask(given, size, frames.device)[:, :, None]
        return replace(batch, inputs=frames, lengths=given)
