"""Backgrounds of waveforms from recordings of the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform
from skastw.augment._waveform import WaveformAugment
from skastw.augment.background import BackgroundAugment, draw_segments
from skastw.augment.waveform_noise import add_sound
from skastw.core.parameters import parameters


@parameters
class WaveformBackground(BackgroundAugment, WaveformAugment):
    """Add a random segment of one of the user's recordings at a random signal-to-noise ratio.

    The recordings are read once, before training. The ratio is that of the mean powers over the whole clip. Silence
    stays silent. A saved model contains the file names of the recordings, without their folders, but never opens them.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformBackground
    >>> from skastw.core.batching import Batch
    >>> rain = WaveformBackground(paths=["rain.wav"], p=1.0).prepare(lambda paths: [torch.randn(9000, 1)], 16000)
    >>> batch = Batch(torch.ones(1, 500, 1), torch.tensor([500]), torch.zeros(1), torch.ones(1))
    >>> bool((rain(batch, torch.Generator().manual_seed(0)).inputs != 1).any())
    True
    """

    name = "waveform_background"

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Read the recordings; see :class:`~skastw.augment.Augment`."""
        recordings, sizes = self.read(extract)

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            n_items, n_samples = waveform.shape
            sound = draw_segments(recordings, sizes, (n_items, n_samples), generator)[..., 0].to(waveform)
            return add_sound(waveform, lengths, sound, self.draw_snr(n_items, generator)), lengths

        return self.on_waveforms(change)
