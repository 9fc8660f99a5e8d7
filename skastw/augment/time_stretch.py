"""Time stretching: another tempo at the same pitch."""

import torch

from skastw.augment._base import ItemAugment, interpolate_frames
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class TimeStretch(ItemAugment):
    """Change the tempo of each item by a random factor, without a change of pitch.

    Frames are interpolated linearly. At least one frame is left.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Ko et al., "Audio Augmentation for Speech Recognition", 2015 (tempo perturbation).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import TimeStretch
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.randn(2, 100, 80), torch.tensor([100, 50]), torch.zeros(2), torch.ones(2))
    >>> stretched = TimeStretch().apply(batch, torch.Generator().manual_seed(1))
    >>> stretched.lengths.tolist()
    [108, 47]
    """

    name = "time_stretch"
    test_time = True

    max_stretch: float = param(
        default=0.15,
        valid=[reals(0, 1, closed="left")],
        doc=(
            "The length is multiplied by a factor that is uniformly distributed in ``[1 - max_stretch, 1 + "
            "max_stretch]``."
        ),
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with stretched items; see :class:`~skastw.augment.Augment`."""
        factor = 1 + self.draw(self.max_stretch, (len(batch.lengths),), generator)
        stretched = (batch.lengths * factor).round().long().clamp(min=1)

        last = (batch.lengths - 1)[:, None]
        step = last / (stretched[:, None] - 1).clamp(min=1)  # the first and the last frame are not changed
        position = (torch.arange(int(stretched.max())) * step).clamp(max=last)
        return batch.with_frames(interpolate_frames(batch.inputs, position, last), stretched)
