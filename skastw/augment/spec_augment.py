"""SpecAugment: mask frequency bands and time spans, and warp time."""

from dataclasses import replace

import torch
from torch import Tensor

from skastw.augment._base import ItemAugment, interpolate_frames
from skastw.core.batching import Batch, frame_mask, length_mask
from skastw.core.parameters import integers, param, parameters


@parameters
class SpecAugment(ItemAugment):
    """Replace random frequency bands and time spans of each item with its mean value.

    The widths of masks are uniformly distributed from 0 to the maximum, and their positions over all positions inside
    the item. Time masks lie inside the valid frames. In short clips, at least half of the frames stay unmasked.
    Optionally, time is warped first: a random frame is moved, and the frames before and after it are stretched.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Park et al., "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition", 2019.

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import SpecAugment
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.randn(2, 50, 80), torch.tensor([50, 30]), torch.zeros(2), torch.ones(2))
    >>> masked = SpecAugment().apply(batch, torch.Generator().manual_seed(0))
    >>> bool((masked.inputs != batch.inputs).any())
    True
    """

    name = "spec_augment"

    freq_masks: int = param(default=2, valid=[integers(0, 100)], doc="Number of frequency masks for each item.")
    freq_width: int = param(default=8, valid=[integers(0)], doc="Largest width of a frequency mask in bins.")
    time_masks: int = param(default=2, valid=[integers(0, 100)], doc="Number of time masks for each item.")
    time_width: int = param(
        default=20,
        valid=[integers(0)],
        doc="Largest width of a time mask in frames. All time masks together cover at most half of a clip.",
    )

    time_warp: int = param(
        default=0,
        valid=[integers(0)],
        doc="Largest distance by which time is warped, in frames, and at most a quarter of a clip; 0 switches it off.",
    )

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with masks; see :class:`~skastw.augment.Augment`."""
        frames, lengths = batch.inputs, batch.lengths
        n_items, n_frames, n_bins = frames.shape
        is_changed = self.changed(n_items, generator)
        if self.time_warp:
            frames = _warp(frames, lengths, is_changed * self.time_warp, generator)

        bins = torch.full((n_items,), n_bins)
        freq_width = torch.full_like(bins, min(self.freq_width, n_bins // 2))
        time_width = (lengths // (2 * max(self.time_masks, 1))).clamp(max=self.time_width)

        hidden = _draw_masks(bins, freq_width, self.freq_masks, n_bins, generator)[:, None, :]
        hidden = hidden | _draw_masks(lengths, time_width, self.time_masks, n_frames, generator)[:, :, None]
        mask = length_mask(lengths, n_frames) & is_changed[:, None]
        hidden = (hidden & mask[:, :, None]).to(frames.device, non_blocking=True)

        n_values = (lengths * n_bins)[:, None, None].to(frames.device, non_blocking=True)
        mean = frames.sum(dim=(1, 2), keepdim=True) / n_values
        return replace(batch, inputs=torch.where(hidden, mean, frames))


def _warp(frames: Tensor, lengths: Tensor, max_distance: Tensor, generator: torch.Generator) -> Tensor:
    """Move a random frame of each item by up to ``max_distance`` (B,) frames, and interpolate those around it."""
    draws = torch.rand(2, len(lengths), generator=generator)
    last = (lengths - 1)[:, None]
    most = torch.minimum(max_distance, lengths // 4)[:, None]
    centre = most + draws[0, :, None] * (last - 2 * most)
    moved = centre + most * (2 * draws[1, :, None] - 1)

    time = torch.arange(frames.shape[1])
    before = time * (centre / moved.clamp(min=1))
    after = last - (last - time) * ((last - centre) / (last - moved).clamp(min=1))
    position = torch.where(time < moved, before, after).clamp(min=0)
    warped = interpolate_frames(frames, torch.minimum(position, last), last)
    return torch.where(frame_mask(frames, lengths), warped, 0.0)


def _draw_masks(extent: Tensor, max_width: Tensor, n_masks: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw ``n_masks`` intervals inside ``[0, extent)`` for each item; return their union, shape (B, size), bool."""
    draws = torch.rand(2, len(extent), n_masks, generator=generator)
    width = (draws[0] * (max_width[:, None] + 1)).floor()
    start = (draws[1] * (extent[:, None] - width + 1)).floor()
    position = torch.arange(size)
    inside = (position >= start[:, :, None]) & (position < (start + width)[:, :, None])
    return inside.any(dim=1)
