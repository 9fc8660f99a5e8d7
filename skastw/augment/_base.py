"""The contract of an augmentation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from skastw.core.batching import Batch
from skastw.core.component import Component

__all__ = ["Augment", "Transform", "chosen"]

#: What an augmentation does to a batch of the training set.
Transform = Callable[[Batch, torch.Generator], Batch]


class Augment(Component):
    """Parameters of an augmentation of frames, which the training loop applies to each batch.

    ``apply(batch, generator)`` returns a new batch and leaves its argument alone; all randomness comes from
    ``generator``; frames beyond each length stay zero. Times are in frames or shares of a clip, levels in
    decibels.

    Attributes
    ----------
    log_mel : bool
        Whether it only makes sense on log-mel frames: because it moves energy between bands, or because it
        adds sounds or levels.
    mixes : bool
        Whether it mixes clips and with them their targets.
    test_time : bool
        Whether predictions may average over versions of a clip that it makes.
    """

    kind: ClassVar[str] = "augment"
    log_mel: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    test_time: ClassVar[bool] = False

    @abstractmethod
    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the augmented batch."""

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]]) -> Transform:
        """Return what the training loop calls, once a run; by default :meth:`apply`.

        Parameters
        ----------
        extract : callable
            Returns the frames of audio files, as the model's front end computes them.
        """
        return self.apply


def chosen(n_items: int, p: float, generator: torch.Generator) -> Tensor:
    """Draw which of ``n_items`` are augmented, each with probability ``p``, by ``generator``, shape (n_items,)."""
    return torch.rand(n_items, generator=generator) < p
