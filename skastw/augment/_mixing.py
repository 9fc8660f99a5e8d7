"""Base of augmentations that mix two clips: partners and shares of clips."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from skastw.augment._base import ItemAugment, chosen
from skastw.core.batching import Batch
from skastw.core.parameters import param, parameters, reals


@parameters
class MixingAugment(ItemAugment):
    """Base of augmentations that mix items with other ones, and mix their losses."""

    mixes = True

    alpha: float = param(
        default=1.0,
        valid=[reals(0, 100, closed="right")],
        doc="The share of the item has the distribution Beta(alpha, alpha), which is uniform for 1.",
    )

    def draw_mixture(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the share of each item of ``batch`` and its partner by ``generator``."""
        return draw_shares(batch, self.alpha, self.p, generator), draw_partners(len(batch.lengths), generator)


def draw_shares(batch: Batch, alpha: float, p: float, generator: torch.Generator) -> Tensor:
    """Draw the share of each item of ``batch`` in its mixture, shape (B,), by ``generator``.

    The share has the distribution Beta(alpha, alpha). It is 1 with probability ``1 - p``, and for items that are mixed
    already.
    """
    n_items = len(batch.lengths)
    seed = int(torch.randint(2**63 - 1, (), generator=generator))  # torch's own beta distribution takes no generator
    share = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, size=n_items)).float()
    is_mixed = chosen(n_items, p, generator)
    if batch.shares is not None:
        is_mixed &= batch.shares.cpu() == 1
    return torch.where(is_mixed, share, 1.0)


def draw_partners(n_items: int, generator: torch.Generator) -> Tensor:
    """Draw another item for each of ``n_items`` by ``generator``: a random cycle, so no item is its own partner."""
    order = torch.randperm(n_items, generator=generator)
    partners = torch.empty_like(order)
    partners[order] = order.roll(1)
    return partners


def partner_frames(batch: Batch, partners: Tensor) -> Tensor:
    """Return the frames (B, T, F) of ``partners`` in ``batch``, repeated to the length T."""
    position = torch.arange(batch.inputs.shape[1]) % batch.lengths[partners][:, None]
    return batch.inputs[partners[:, None], position]


def mixed(batch: Batch, frames: Tensor, partners: Tensor, shares: Tensor) -> Batch:
    """Return ``batch`` with mixed ``frames``; ``partners`` and ``shares`` apply to items that were not mixed before."""
    if batch.partners is not None and batch.shares is not None:
        before = batch.shares.cpu() < 1
        partners = torch.where(before, batch.partners.cpu(), partners)
        shares = torch.where(before, batch.shares.cpu(), shares)
    return replace(batch.with_frames(frames), partners=partners, shares=shares)
