"""Random crops at a random tempo."""

import torch

from skastw.augment._base import ItemAugment, draw_crop_length, draw_starts, interpolate_frames
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class ResizedCrop(ItemAugment):
    """Crop each item at a random position, and change its tempo such that all items have the same length.

    One length is drawn for each batch, as a share of its longest item, and rounded down by at most a sixteenth. From
    each item a random segment, longer or shorter by a random factor, is interpolated linearly to this length. The items
    of a batch, which have similar lengths, then need no padding. An item that is too short for this even at the slowest
    tempo is not cropped but only stretched by its factor.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Szegedy et al., "Going Deeper with Convolutions", 2015 (crops of images); Ko et al., "Audio Augmentation for Speech
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

    min_share: float = param(
        default=0.75,
        valid=[reals(0, 1, closed="right")],
        doc="The share is uniformly distributed in ``[min_share, 1]``.",
    )
    max_stretch: float = param(
        default=0.15,
        valid=[reals(0, 1, closed="left")],
        doc=(
            "The tempo is multiplied by a factor that is uniformly distributed in ``[1 - max_stretch, 1 + "
            "max_stretch]``."
        ),
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with cropped and stretched items; see :class:`~skastw.augment.Augment`."""
        lengths = batch.lengths
        size = draw_crop_length(batch, self.min_share, generator)
        tempo = 1 + self.max_stretch * (2 * torch.rand(len(lengths), generator=generator) - 1)
        is_changed = self.changed(len(lengths), generator)

        cropped = torch.minimum((size * tempo).round().long().clamp(min=1), lengths)
        is_long = lengths >= size * (1 - self.max_stretch)
        resized = torch.where(is_long, size, (lengths / tempo).round().long().clamp(min=1, max=size))
        cropped, resized = (torch.where(is_changed, sizes, lengths) for sizes in (cropped, resized))
        start = draw_starts(lengths, cropped, generator)

        step = (cropped - 1) / (resized - 1).clamp(min=1)
        last = (start + cropped - 1)[:, None]
        position = (start[:, None] + torch.arange(int(resized.max())) * step[:, None]).clamp(max=last)
        return batch.with_frames(interpolate_frames(batch.inputs, position, last), resized)
