"""Additive noise."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skastw.augment._base import Augment
from skastw.augment._sampling import chosen
from skastw.core.batching import Batch, frame_mask
from skastw.core.decibels import from_power, to_power
from skastw.core.parameters import param, parameters, reals


@parameters
class Noise(Augment):
    """Add steady noise of a random colour at a random signal-to-noise ratio.

    The powers of clip and noise are added. As for Gaussian noise, the power of the noise in a band has an exponential
    distribution over the frames.

    Parameters
    ----------
    {parameters}

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

    min_snr: float = param(
        default=5.0,
        valid=[reals(-100, 100)],
        doc="Least signal-to-noise ratio (dB); the ratio is uniformly distributed between the two limits.",
    )
    max_snr: float = param(default=35.0, valid=[reals(-100, 100)], doc="Largest signal-to-noise ratio (dB).")
    p: float = param(default=0.5, valid=[reals(0, 1)], doc="Probability that noise is added to an item.")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with noisy items; see :class:`~skastw.augment.Augment`."""
        n_items, n_frames, n_bins = batch.inputs.shape
        colour = 6 * torch.randn(n_items, 1, 4, generator=generator)  # dB at four positions on the mel axis
        response = 10 ** (F.interpolate(colour, size=n_bins, mode="linear", align_corners=True) / 10)
        fluctuation = -torch.log1p(-torch.rand(n_items, n_frames, n_bins, generator=generator))
        return add_power(batch, response * fluctuation, draw_snr(self, n_items, generator))


def draw_snr(params: Any, n_items: int, generator: torch.Generator) -> Tensor:
    """Draw a signal-to-noise ratio (dB) for each of ``n_items``, which is infinite for items without noise.

    The range and the probability of noise come from ``params``; the random numbers come from ``generator``.
    """
    snr = params.min_snr + (params.max_snr - params.min_snr) * torch.rand(n_items, generator=generator)
    return torch.where(chosen(n_items, params.p, generator), snr, torch.inf)


def add_power(batch: Batch, noise: Tensor, snr: Tensor) -> Batch:
    """Add another sound to each item of a batch.

    Parameters
    ----------
    batch : Batch
        Batch of log-mel frames.
    noise : Tensor of shape (B, T, F)
        Mel power of the sound, at any level.
    snr : Tensor of shape (B,)
        Ratio of the mean powers of item and sound over all frames and bands (dB); infinite for no sound.

    Returns
    -------
    Batch
    """
    device, dtype = batch.inputs.device, batch.inputs.dtype
    mask = frame_mask(batch.inputs, batch.lengths)
    signal = to_power(batch.inputs) * mask
    noise = noise.to(device, dtype) * mask
    ratio = signal.sum(dim=(1, 2), keepdim=True) / noise.sum(dim=(1, 2), keepdim=True).clamp(min=1e-10)
    factor = ratio * (10 ** (-snr / 10))[:, None, None].to(device, dtype)
    return replace(batch, inputs=torch.where(factor > 0, from_power(signal + factor * noise), batch.inputs) * mask)
