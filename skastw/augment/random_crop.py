"""Random crops."""

import torch

from skastw.augment._base import ItemAugment, draw_crop_length, draw_starts
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class RandomCrop(ItemAugment):
    """Crop each item at a random position.

    One length is drawn for each batch, as a share of its longest item. Longer items are cropped to it, and shorter ones
    are not changed. Since a batch holds items of similar lengths, cropping also removes most of its padding.

    Parameters
    ----------
    {parameters}

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

    min_share: float = param(
        default=0.75,
        valid=[reals(0, 1, closed="right")],
        doc=(
            "The share is uniformly distributed in ``[min_share, 1]``. The length is then rounded down by at most "
            "a sixteenth, so that there are few different lengths."
        ),
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with cropped items; see :class:`~skastw.augment.Augment`."""
        size = draw_crop_length(batch, self.min_share, generator)
        is_changed = self.changed(len(batch.lengths), generator)
        cropped = torch.where(is_changed, batch.lengths.clamp(max=size), batch.lengths)
        start = draw_starts(batch.lengths, cropped, generator)

        position = (start[:, None] + torch.arange(int(cropped.max()))).clamp(max=batch.inputs.shape[1] - 1)
        return batch.with_frames(batch.inputs[torch.arange(len(start))[:, None], position], cropped)
