"""Time shifts."""

from dataclasses import replace

import torch

from skastw.augment._base import Augment
from skastw.augment._sampling import draw_symmetric
from skastw.core.batching import Batch, frame_mask
from skastw.core.parameters import param, parameters, reals


@parameters
class TimeShift(Augment):
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
    p: float = param(default=1.0, valid=[reals(0, 1)], doc="Probability that an item is shifted.")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with shifted items; see :class:`~skastw.augment.Augment`."""
        n_items, n_frames, _ = batch.inputs.shape
        shift = (draw_symmetric(self.max_shift, (n_items,), self.p, generator) * batch.lengths).round().long()
        position = (torch.arange(n_frames) - shift[:, None]) % batch.lengths[:, None]
        frames = batch.inputs[torch.arange(n_items)[:, None], position]
        return replace(batch, inputs=frames * frame_mask(frames, batch.lengths))
