"""Between-class mixing: two sounds at the same time, at a random ratio of their levels."""

import torch
from torch import Tensor

from skastw.augment._mixing import MixingAugment, mixed, partner_frames
from skastw.core.batching import Batch, frame_mask
from skastw.core.decibels import from_power, to_power
from skastw.core.parameters import parameters


@parameters
class BetweenClass(MixingAugment):
    """Mix each item with another one at a random ratio of their amplitudes, and mix their losses at the same ratio.

    The clips are scaled to the same level first, so that the ratio holds for the sounds that are heard. Their powers
    are added. The mixture has the level of the item.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Tokozume, Ushiku and Harada, "Learning from Between-class Examples for Deep Sound Recognition", 2018
    (waveforms; here mel powers).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import BetweenClass
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.eye(2).view(2, 1, 2), torch.tensor([1, 1]), torch.tensor([0, 1]), torch.ones(2))
    >>> mixed = BetweenClass().apply(batch, torch.Generator().manual_seed(0))
    >>> bool(mixed.inputs[0, 0].min() > 0)  # both are heard
    True
    """

    name = "between_class"
    log_mel = True

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with mixed items; see :class:`~skastw.augment.Augment`."""
        shares, partners = self.draw_mixture(batch, generator)

        mask = frame_mask(batch.inputs, batch.lengths)
        own = to_power(batch.inputs) * mask
        other = to_power(partner_frames(batch, partners)) * mask
        other = other * (_level(own) / _level(other))

        share = shares[:, None, None].to(own.device, own.dtype)
        # two signals of the same level with amplitudes s and 1 - s have a power of s**2 + (1 - s)**2
        scale = 1 / (share.square() + (1 - share).square())
        frames = from_power((share.square() * own + (1 - share).square() * other) * scale)
        return mixed(batch, torch.where(share < 1, frames, batch.inputs), partners, shares)


def _level(power: Tensor) -> Tensor:
    """Return the sum of the power of each item, shape (B, 1, 1)."""
    return power.sum(dim=(1, 2), keepdim=True).clamp(min=1e-10)
