"""Time shifts."""

import torch

from skastw.augment._base import ItemAugment
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class TimeShift(ItemAugment):
    """Shift each item in time; frames that leave at one end enter at the other.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import TimeShift
    >>> from skastw.core.batching import Batch
    >>> ramp = torch.arange(6.0).view(1, 6, 1)
    >>> batch = Batch(ramp, torch.tensor([6]), torch.zeros(1), torch.ones(1))
    >>> TimeShift(max_shift=0.5).apply(batch, torch.Generator().manual_seed(1)).inputs.flatten().tolist()
    [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]
    """

    name = "time_shift"

    max_shift: float = param(
        default=0.25,
        valid=[reals(0, 1)],
        doc="The shift is uniformly distributed in ``[-max_shift, max_shift]``, as a share of the length of the item.",
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with shifted items; see :class:`~skastw.augment.Augment`."""
        n_items, n_frames, _ = batch.inputs.shape
        shift = (self.draw(self.max_shift, (n_items,), generator) * batch.lengths).round().long()
        position = (torch.arange(n_frames) - shift[:, None]) % batch.lengths[:, None]
        return batch.with_frames(batch.inputs[torch.arange(n_items)[:, None], position])
