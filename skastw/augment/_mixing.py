"""What the augmentations that mix two clips share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from skastw.augment._base import chosen
from skastw.core.batching import Batch, length_mask

__all__ = ["draw_partners", "draw_shares", "mixed", "partner_frames"]


def draw_shares(batch: Batch, alpha: float, p: float, generator: torch.Generator) -> Tensor:
    """Draw from ``generator`` how much of each item of ``batch`` stays itself, shape (B,).

    The share is distributed as Beta(alpha, alpha); with probability ``1 - p``, and for an item that is mixed
    already, it is 1.
    """
    n_items = len(batch.lengths)
    seed = int(torch.randint(2**63 - 1, (), generator=generator))  # torch's own beta distribution takes no generator
    share = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, size=n_items)).float()
    free = chosen(n_items, p, generator)
    if batch.shares is not None:
        free &= batch.shares.cpu() == 1
    return torch.where(free, share, 1.0)


def draw_partners(n_items: int, generator: torch.Generator) -> Tensor:
    """Draw from ``generator`` another item for each of ``n_items``: a random cycle, so nobody is its own partner."""
    order = torch.randperm(n_items, generator=generator)
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return partners


def partner_frames(batch: Batch, partners: Tensor) -> Tensor:
    """Return the frames (B, T, F) of ``partners`` in ``batch``, repeated or cut to the item's own length."""
    n_frames = batch.inputs.shape[1]
    position = torch.arange(n_frames) % batch.lengths[partners][:, None]
    frames = batch.inputs[partners[:, None], position]
    return frames * length_mask(batch.lengths, n_frames, frames.device)[:, :, None]


def mixed(batch: Batch, frames: Tensor, partners: Tensor, shares: Tensor) -> Batch:
    """Return ``batch`` with mixed ``frames``, ``partners`` and ``shares``; what was mixed before keeps its own."""
    if batch.partners is not None and batch.shares is not None:
        before = batch.shares.cpu() < 1
        partners = torch.where(before, batch.partners.cpu(), partners)
        shares = torch.where(before, batch.shares.cpu(), shares)
    return replace(batch, inputs=frames, partners=partners, shares=shares)
