"""Random equalisation, as by other microphones and rooms."""

import torch
from torch.nn import functional as F

from skastw.augment._base import ItemAugment
from skastw.core.batching import Batch
from skastw.core.decibels import UNIT
from skastw.core.parameters import integers, param, parameters, reals


@parameters
class Equalizer(ItemAugment):
    """Apply a random frequency response to each item.

    Gains are drawn at equidistant points of the mel axis and interpolated linearly between them.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Nam, Kim and Park, "FilterAugment: An Acoustic Environmental Data Augmentation Method", 2022 (the variant
    with linear interpolation).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import Equalizer
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.zeros(1, 3, 80), torch.tensor([3]), torch.zeros(1), torch.ones(1))
    >>> coloured = Equalizer().apply(batch, torch.Generator().manual_seed(0)).inputs[0]
    >>> bool((coloured[0] == coloured[2]).all()), bool(coloured[0].std() > 0)
    (True, True)
    """

    name = "equalizer"
    log_mel = True

    max_gain: float = param(
        default=6.0,
        valid=[reals(0, 100)],
        doc="The gains are uniformly distributed in ``[-max_gain, max_gain]`` (dB).",
    )
    n_points: int = param(default=5, valid=[integers(2, 1024)], doc="Number of points.")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with changed items; see :class:`~skastw.augment.Augment`."""
        n_items, _, n_bins = batch.inputs.shape
        gain = self.draw(self.max_gain / UNIT, (n_items, 1, self.n_points), generator)
        response = F.interpolate(gain, size=n_bins, mode="linear", align_corners=True)
        return batch.with_frames(batch.inputs + response.to(batch.inputs))
