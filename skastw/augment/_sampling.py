"""Random numbers and interpolation of frames, for several augmentations."""

import math

import torch
from torch import Tensor

from skastw.core.batching import Batch, round_length_down


def chosen(n_items: int, p: float, generator: torch.Generator) -> Tensor:
    """Draw which of ``n_items`` are augmented, each with probability ``p``, by ``generator``, shape (n_items,)."""
    return torch.rand(n_items, generator=generator) < p


def draw_symmetric(limit: float, size: tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
    """Draw numbers from [-limit, limit] by ``generator``, shape ``size``; items are zero with probability 1 - p."""
    values = limit * (2 * torch.rand(size, generator=generator) - 1)
    is_chosen = chosen(size[0], p, generator).view(-1, *[1] * (len(size) - 1))
    return torch.where(is_chosen, values, 0.0)


def draw_crop_length(batch: Batch, min_share: float, generator: torch.Generator) -> int:
    """Draw a length by ``generator``: a share in [min_share, 1] of the longest item of ``batch``, rounded down."""
    share = 1 - (1 - min_share) * float(torch.rand((), generator=generator))
    return round_length_down(math.ceil(share * int(batch.lengths.max())))


def draw_starts(lengths: Tensor, sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw by ``generator`` where parts of some ``sizes`` (B,) begin in items of some ``lengths`` (B,)."""
    return (torch.rand(len(lengths), generator=generator) * (lengths - sizes + 1)).floor().long()


def interpolate_frames(frames: Tensor, position: Tensor, last: Tensor) -> Tensor:
    """Return frames at fractional positions, by linear interpolation.

    Parameters
    ----------
    frames : Tensor of shape (B, T, F)
    position : Tensor of shape (B, T')
        Positions of the results, at most ``last``.
    last : Tensor of shape (B, 1), int64
        Position of the last frame of each item.

    Returns
    -------
    Tensor of shape (B, T', F)
    """
    below = position.floor().long()
    above = torch.minimum(below + 1, last)
    weight = (position - below)[:, :, None].to(frames.device, frames.dtype)
    item = torch.arange(len(frames))[:, None]
    return torch.lerp(frames[item, below], frames[item, above], weight)
