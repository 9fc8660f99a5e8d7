"""Random crops."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import torch

from skastw.augment._base import Augment
from skastw.core.batching import Batch, length_mask, round_length_down
from skastw.core.sklearn_private import Interval

__all__ = ["RandomCrop"]


class RandomCrop(Augment):
    """Cut each item to a random stretch.

    One length is drawn for a batch, a share of its longest item; what is longer is cut to it at a random
    place, what is shorter stays whole. Clips that are batched with others of their length thus lose their
    padding, too.

    Parameters
    ----------
    min_share : float, default=0.75
        The share is uniform in ``[min_share, 1]``; the length is then rounded down, by a sixteenth at most, to one
        that comes again.

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import RandomCrop
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.randn(2, 100, 80), torch.tensor([100, 90]), torch.zeros(2), torch.ones(2))
    >>> RandomCrop(min_share=0.5).apply(batch, torch.Generator().manual_seed(0)).lengths.tolist()
    [76, 76]
    """

    name = "random_crop"
    test_time = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {"min_share": [Interval(Real, 0, 1, closed="right")]}

    def __init__(self, *, min_share: float = 0.75) -> None:
        self.min_share = min_share

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with cropped items; see :class:`~skastw.augment.Augment`."""
        share = 1 - (1 - self.min_share) * float(torch.rand((), generator=generator))
        size = round_length_down(math.ceil(share * int(batch.lengths.max())))
        cropped = batch.lengths.clamp(max=size)
        room = batch.lengths - cropped
        start = (torch.rand(len(room), generator=generator) * (room + 1)).floor().long()
        position = (start[:, None] + torch.arange(size)).clamp(max=batch.inputs.shape[1] - 1)
        frames = batch.inputs[torch.arange(len(room))[:, None], position]
        if bool((cropped < size).any()):
            frames = frames * length_mask(cropped, size, frames.device)[:, :, None]
        return replace(batch, inputs=frames, lengths=cropped)
