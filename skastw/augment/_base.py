"""The contract of an augmentation."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch

from skastw._component import Component
from skastw.batching import Batch

__all__ = ["Augment"]


class Augment(Component):
    """Parameters of an augmentation of frames, which the training loop applies to each batch.

    ``apply(batch, generator)`` returns a new batch and leaves its argument alone; all randomness comes from
    ``generator``; frames beyond each length stay zero.
    """

    kind: ClassVar[str] = "augment"

    @abstractmethod
    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the augmented batch."""
