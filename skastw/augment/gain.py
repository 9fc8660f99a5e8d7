"""Random levels."""

import torch

from skastw.augment._base import ItemAugment
from skastw.core.batching import Batch
from skastw.core.decibels import UNIT
from skastw.core.parameters import param, parameters, reals


@parameters
class Gain(ItemAugment):
    """Change the level of each item.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import Gain
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.ones(1, 2, 3), torch.tensor([2]), torch.zeros(1), torch.ones(1))
    >>> louder = Gain().apply(batch, torch.Generator().manual_seed(1)).inputs
    >>> bool((louder == louder[0, 0, 0]).all()), abs(float(louder[0, 0, 0]) - 1) <= 6 / 40
    (True, True)
    """

    name = "gain"
    log_mel = True

    max_gain: float = param(
        default=6.0,
        valid=[reals(0, 100)],
        doc="The gain is uniformly distributed in ``[-max_gain, max_gain]`` (dB).",
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with other levels; see :class:`~skastw.augment.Augment`."""
        gain = self.draw(self.max_gain / UNIT, (len(batch.inputs), 1, 1), generator)
        return batch.with_frames(batch.inputs + gain.to(batch.inputs))
