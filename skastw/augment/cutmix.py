"""CutMix: replace a segment of a clip with a segment of another one."""

import torch

from skastw.augment._base import draw_starts
from skastw.augment._mixing import MixingAugment, mixed, partner_frames
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class CutMix(MixingAugment):
    """Replace a random segment of each item with a segment of another one, and mix their losses accordingly.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", 2019
    (rectangles of images; here all bands of a segment).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import CutMix
    >>> from skastw.core.batching import Batch
    >>> frames = torch.tensor([1.0, 2.0]).view(2, 1, 1).repeat(1, 10, 1)
    >>> batch = Batch(frames, torch.tensor([10, 10]), torch.tensor([0, 1]), torch.ones(2))
    >>> mixed = CutMix(p=1.0).apply(batch, torch.Generator().manual_seed(0))
    >>> torch.allclose((mixed.inputs == frames).float().mean(dim=(1, 2)), mixed.shares)
    True
    """

    name = "cutmix"

    p: float = param(default=0.5, valid=[reals(0, 1)], doc="Probability that an item is changed.")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with mixed items; see :class:`~skastw.augment.Augment`."""
        shares, partners = self.draw_mixture(batch, generator)
        replaced = ((1 - shares) * batch.lengths).round().long()
        start = draw_starts(batch.lengths, replaced, generator)

        position = torch.arange(batch.inputs.shape[1])
        inside = (position >= start[:, None]) & (position < (start + replaced)[:, None])
        other = partner_frames(batch, partners)
        frames = torch.where(inside[:, :, None].to(other.device), other, batch.inputs)
        return mixed(batch, frames, partners, 1 - replaced / batch.lengths)
