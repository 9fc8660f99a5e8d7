"""Frequency warping, as by vocal tracts or objects of other sizes."""

import torch
from torch import Tensor

from skastw.augment._base import ItemAugment
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class FrequencyWarp(ItemAugment):
    """Stretch or compress the mel axis of each item by a random factor.

    Band f of the result is the value at position ``f * factor``, by linear interpolation. Positions above the highest
    band give the highest band. In low bands, in which the mel scale is linear, this moves formants as a longer or
    shorter vocal tract does.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Jaitly and Hinton, "Vocal Tract Length Perturbation (VTLP) improves speech recognition", 2013 (factors of
    the frequency axis instead of the mel axis).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import FrequencyWarp
    >>> from skastw.core.batching import Batch
    >>> tone = torch.zeros(1, 1, 80)
    >>> tone[..., 40] = 1.0
    >>> batch = Batch(tone, torch.tensor([1]), torch.zeros(1), torch.ones(1))
    >>> warped = FrequencyWarp(max_warp=0.2).apply(batch, torch.Generator().manual_seed(1))
    >>> int(warped.inputs.argmax())  # the tone is lower: the factor is 1.1
    36
    """

    name = "frequency_warp"
    test_time = True
    log_mel = True

    max_warp: float = param(
        default=0.12,
        valid=[reals(0, 1, closed="left")],
        doc="The factor is uniformly distributed in ``[1 - max_warp, 1 + max_warp]``.",
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with warped items; see :class:`~skastw.augment.Augment`."""
        n_items, _, n_bins = batch.inputs.shape
        factor = 1 + self.draw(self.max_warp, (n_items,), generator)
        matrix = _interpolation(factor, n_bins).to(batch.inputs)
        return batch.with_frames(batch.inputs @ matrix)


def _interpolation(factor: Tensor, n_bins: int) -> Tensor:
    """Return the matrices (B, F, F) that interpolate band f at position ``f * factor``."""
    position = (torch.arange(n_bins) * factor[:, None]).clamp(max=n_bins - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=n_bins - 1)
    weight = position - below

    matrix = torch.zeros(len(factor), n_bins, n_bins)
    matrix.scatter_add_(1, below[:, None], (1 - weight)[:, None])
    return matrix.scatter_add_(1, above[:, None], weight[:, None])
