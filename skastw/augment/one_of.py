"""One of several augmentations."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from skastw.augment._base import Transform, on_items
from skastw.augment._nested import NestedAugment
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters
from skastw.errors import ComponentError, plain


@parameters
class OneOf(NestedAugment):
    """Apply one of several augmentations, which is drawn for each item.

    If one of them mixes clips, one augmentation is drawn for the whole batch, since a clip needs a partner.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import OneOf, TimeStretch
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.ones(4, 100, 80), torch.full((4,), 100), torch.zeros(4), torch.ones(4))
    >>> either = OneOf(augmentations=[TimeStretch(max_stretch=0.5), "spec_augment"])
    >>> either.apply(batch, torch.Generator().manual_seed(2)).lengths.tolist()
    [100, 111, 100, 100]
    """

    name = "one_of"

    weights: Sequence[float] | None = param(
        default=None,
        valid=[list, tuple, None],
        doc="Relative frequency of each augmentation; None for the same frequency.",
    )

    def check_params(self) -> None:
        """Check the parameters, and that the weights fit."""
        super().check_params()
        if self.weights is None:
            return
        weights, n_parts = plain(self.weights), len(self.augmentations)
        is_number = all(isinstance(weight, float | int) and 0 <= weight < float("inf") for weight in weights)
        if len(weights) != n_parts or not is_number or not sum(weights):
            raise ComponentError(
                f"Got OneOf(weights={weights!r}), expected {n_parts} numbers, one for each augmentation, that are not "
                "negative and not all zero."
            )

    def compose(self, transforms: Sequence[Transform], batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch after one of the ``transforms`` for each item."""
        weights = torch.ones(len(transforms)) if self.weights is None else torch.tensor(self.weights).double()
        n_draws = 1 if self.mixes else len(batch.lengths)
        is_changed = self.changed(n_draws, generator)
        which = torch.where(is_changed, torch.multinomial(weights, n_draws, replacement=True, generator=generator), -1)

        for i, transform in enumerate(transforms):
            if self.mixes:
                batch = transform(batch, generator) if which[0] == i else batch
            else:
                batch = on_items(batch, torch.nonzero(which == i)[:, 0], transform, generator)
        return batch
