"""Additive noise."""

from __future__ import annotations

from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from skastw.augment._base import Augment, chosen
from skastw.core.batching import Batch, length_mask
from skastw.core.decibels import from_power, to_power
from skastw.core.sklearn_private import Interval

__all__ = ["Noise", "add_power"]


class Noise(Augment):
    """Add steady noise of a random colour at a random signal-to-noise ratio.

    Powers of unrelated sounds add; the power of noise in a band fluctuates from frame to frame as that of
    Gaussian noise does, exponentially distributed.

    Parameters
    ----------
    min_snr, max_snr : float, default=5.0 and 35.0
        The ratio of the clip's power to the noise's is uniform between these (dB).
    p : float, default=0.5
        Probability that an item gets noise.

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import Noise
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.zeros(1, 50, 80), torch.tensor([50]), torch.zeros(1), torch.ones(1))
    >>> noisy = Noise(p=1.0).apply(batch, torch.Generator().manual_seed(0))
    >>> bool(noisy.inputs.mean() > 0)
    True
    """

    name = "noise"
    log_mel = True
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "min_snr": [Interval(Real, -100, 100, closed="both")],
        "max_snr": [Interval(Real, -100, 100, closed="both")],
        "p": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(self, *, min_snr: float = 5.0, max_snr: float = 35.0, p: float = 0.5) -> None:
        self.min_snr = min_snr
        self.max_snr = max_snr
        self.p = p

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with noisy items; see :class:`~skastw.augment.Augment`."""
        n_items, n_frames, n_bins = batch.inputs.shape
        colour = 6 * torch.randn(n_items, 1, 4, generator=generator)  # dB at four places of the mel axis
        response = 10 ** (F.interpolate(colour, size=n_bins, mode="linear", align_corners=True) / 10)
        fluctuation = -torch.log1p(-torch.rand(n_items, n_frames, n_bins, generator=generator))
        snr = self.min_snr + (self.max_snr - self.min_snr) * torch.rand(n_items, generator=generator)
        snr = torch.where(chosen(n_items, self.p, generator), snr, torch.inf)
        return add_power(batch, response * fluctuation, snr)


def add_power(batch: Batch, noise: Tensor, snr: Tensor) -> Batch:
    """Return the batch with another sound added to each item.

    Parameters
    ----------
    batch : Batch
        Of log-mel frames.
    noise : Tensor of shape (B, T, F)
        Mel power of any level.
    snr : Tensor of shape (B,)
        Power of the item over power of the noise, mean over all frames and bands (dB); infinite for none.

    Returns
    -------
    Batch
    """
    device, dtype = batch.inputs.device, batch.inputs.dtype
    mask = length_mask(batch.lengths, batch.inputs.shape[1], device)[:, :, None]
    signal = to_power(batch.inputs) * mask
    noise = noise.to(device, dtype) * mask
    ratio = signal.sum(dim=(1, 2), keepdim=True) / noise.sum(dim=(1, 2), keepdim=True).clamp(min=1e-10)
    factor = ratio * (10 ** (-snr / 10))[:, None, None].to(device, dtype)
    return replace(batch, inputs=torch.where(factor > 0, from_power(signal + factor * noise), batch.inputs) * mask)
