"""Base class of augmentations."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from skastw.core.batching import Batch
from skastw.core.component import Component

#: Function that augments a batch of training clips.
Transform = Callable[[Batch, torch.Generator], Batch]


class Augment(Component):
    """Parameters of an augmentation of frames, which the training loop applies to each batch.

    ``apply(batch, generator)`` returns a new batch and does not change its argument. All random numbers come from
    ``generator``. Frames beyond each length stay zero. Times are given in frames or as shares of a clip, levels in
    decibels.

    Attributes
    ----------
    log_mel : bool
        Whether it requires log-mel frames, because it moves energy between bands, adds sounds or changes levels.
    mixes : bool
        Whether it mixes clips and their targets.
    test_time : bool
        Whether predictions may be averaged over augmented versions of a clip.
    """

    kind: ClassVar[str] = "augment"
    log_mel: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    test_time: ClassVar[bool] = False

    @abstractmethod
    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the augmented batch."""

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]]) -> Transform:
        """Return the function that augments batches; by default :meth:`apply`. It is called once before training.

        Parameters
        ----------
        extract : callable
            Function that returns the frames of audio files, computed by the front end of the model.
        """
        return self.apply
