"""Additive noise."""

import torch
from torch import Tensor
from torch.nn import functional as F

from skastw.augment._base import ItemAugment, chosen, draw_between
from skastw.core.batching import Batch, frame_mask
from skastw.core.decibels import from_power, to_power
from skastw.core.parameters import param, parameters, reals


@parameters
class SoundAugment(ItemAugment):
    """Base of augmentations that add a sound at a random signal-to-noise ratio."""

    min_snr: float = param(
        default=5.0,
        valid=[reals(-100, 100)],
        doc="Least signal-to-noise ratio (dB); the ratio is uniformly distributed between the two limits.",
    )
    max_snr: float = param(default=35.0, valid=[reals(-100, 100)], doc="Largest signal-to-noise ratio (dB).")
    p: float = param(default=0.5, valid=[reals(0, 1)], doc="Probability that a sound is added to an item.")

    def draw_snr(self, n_items: int, generator: torch.Generator) -> Tensor:
        """Draw the signal-to-noise ratio of each of ``n_items`` by ``generator``, shape (n_items,), in decibels."""
        return draw_between(self.min_snr, self.max_snr, n_items, generator)

    def add_power(self, batch: Batch, sound: Tensor, generator: torch.Generator) -> Batch:
        """Add another sound to each item of a batch of log-mel frames.

        Parameters
        ----------
        batch : Batch
            Batch of log-mel frames.
        sound : Tensor of shape (B, T, F)
            Mel power of the sound, at any level.
        generator : Generator
            Draws the ratio of the mean powers of item and sound over all frames and bands.

        Returns
        -------
        Batch
        """
        snr = self.draw_snr(len(sound), generator)
        share = torch.where(chosen(len(sound), self.p, generator), 10 ** (-snr / 10), 0.0)

        mask = frame_mask(batch.inputs, batch.lengths)
        signal = to_power(batch.inputs) * mask
        sound = sound.to(signal) * mask
        ratio = signal.sum(dim=(1, 2), keepdim=True) / sound.sum(dim=(1, 2), keepdim=True).clamp(min=1e-10)
        factor = ratio * share[:, None, None].to(signal)
        return batch.with_frames(torch.where(factor > 0, from_power(signal + factor * sound), batch.inputs))


@parameters
class Noise(SoundAugment):
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

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch with noisy items; see :class:`~skastw.augment.Augment`."""
        n_items, n_frames, n_bins = batch.inputs.shape
        colour = 6 * torch.randn(n_items, 1, 4, generator=generator)  # dB at four positions on the mel axis
        response = 10 ** (F.interpolate(colour, size=n_bins, mode="linear", align_corners=True) / 10)
        fluctuation = -torch.log1p(-torch.rand(n_items, n_frames, n_bins, generator=generator))
        return self.add_power(batch, response * fluctuation, generator)
