"""Several augmentations, one after another."""

from __future__ import annotations

import collections.abc

import torch

from skastw.augment._base import Transform, on_items
from skastw.augment._nested import NestedAugment
from skastw.core.batching import Batch
from skastw.core.parameters import parameters


@parameters
class Sequence(NestedAugment):
    """Apply several augmentations in their order, all or none of them to an item.

    Inside :class:`~skastw.augment.OneOf`, a sequence is one of the choices. If one of them mixes clips, ``p`` is the
    probability that the whole batch is changed.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import Gain, Sequence, TimeStretch
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.ones(4, 100, 80), torch.full((4,), 100), torch.zeros(4), torch.ones(4))
    >>> both = Sequence(augmentations=[TimeStretch(max_stretch=0.5), Gain()], p=0.5)
    >>> changed = both.apply(batch, torch.Generator().manual_seed(4))
    >>> changed.lengths.tolist(), [bool((item != 1).any()) for item in changed.inputs[:, :50]]
    ([100, 100, 51, 54], [False, False, True, True])
    """

    name = "sequence"

    def compose(
        self, transforms: collections.abc.Sequence[Transform], batch: Batch, generator: torch.Generator
    ) -> Batch:
        """Return the batch after all of the ``transforms``."""

        def apply_all(batch: Batch, generator: torch.Generator) -> Batch:
            for transform in transforms:
                batch = transform(batch, generator)
            return batch

        if self.mixes:
            return apply_all(batch, generator) if self.changed(1, generator) else batch
        return on_items(batch, torch.nonzero(self.changed(len(batch.lengths), generator))[:, 0], apply_all, generator)
