"""Random levels."""

from dataclasses import replace

import torch

from skastw.augment._base import Augment
from skastw.augment._sampling import draw_symmetric
from skastw.core.batching import Batch, length_mask
from skastw.core.decibels import UNIT
from skastw.core.parameters import param, parameters, reals


@parameters
class Gain(Augment):
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
    p: float = param(default=1.0, valid=[reals(0, 1)], doc="Probability that an item is changed.")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with other levels; see :class:`~skastw.augment.Augment`."""
        n_items, n_frames, _ = batch.inputs.shape
        gain = draw_symmetric(self.max_gain / UNIT, (n_items, 1, 1), self.p, generator)
        offset = gain * length_mask(batch.lengths, n_frames)[:, :, None]
        return replace(batch, inputs=batch.inputs + offset.to(batch.inputs.device, batch.inputs.dtype))
