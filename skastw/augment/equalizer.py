"""Random equalisation, as by other microphones and rooms."""

from dataclasses import replace

import torch
from torch.nn import functional as F

from skastw.augment._base import Augment
from skastw.augment._sampling import draw_symmetric
from skastw.core.batching import Batch, length_mask
from skastw.core.decibels import UNIT
from skastw.core.parameters import integers, param, parameters, reals


@parameters
class Equalizer(Augment):
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
    p: float = param(default=1.0, valid=[reals(0, 1)], doc="Probability that an item is changed.")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with changed items; see :class:`~skastw.augment.Augment`."""
        n_items, n_frames, n_bins = batch.inputs.shape
        gain = draw_symmetric(self.max_gain / UNIT, (n_items, 1, self.n_points), self.p, generator)
        response = F.interpolate(gain, size=n_bins, mode="linear", align_corners=True)
        offset = response * length_mask(batch.lengths, n_frames)[:, :, None]
        return replace(batch, inputs=batch.inputs + offset.to(batch.inputs.device, batch.inputs.dtype))
