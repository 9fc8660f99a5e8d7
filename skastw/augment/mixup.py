"""Mixup: mix the frames and the losses of two clips."""

import torch

from skastw.augment._mixing import MixingAugment, mixed, partner_frames
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class Mixup(MixingAugment):
    """Mix the frames of each item with the frames of another one, and mix their losses at the same ratio.

    The other item is repeated or cropped to the length of the item.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Zhang et al., "mixup: Beyond Empirical Risk Minimization", 2018.

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import Mixup
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.eye(2).view(2, 1, 2), torch.tensor([1, 1]), torch.tensor([0, 1]), torch.ones(2))
    >>> mixed = Mixup().apply(batch, torch.Generator().manual_seed(0))
    >>> torch.allclose(mixed.inputs[0, 0], torch.stack([mixed.shares[0], 1 - mixed.shares[0]]))
    True
    """

    name = "mixup"

    alpha: float = param(
        default=0.3,
        valid=[reals(0, 100, closed="right")],
        doc="The share of the item has the distribution Beta(alpha, alpha).",
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with mixed items; see :class:`~skastw.augment.Augment`."""
        shares, partners = self.draw_mixture(batch, generator)
        weight = shares[:, None, None].to(batch.inputs.device, batch.inputs.dtype)
        frames = torch.lerp(partner_frames(batch, partners), batch.inputs, weight)
        return mixed(batch, frames, partners, shares)
