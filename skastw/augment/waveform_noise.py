"""Coloured noise in waveforms."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._waveform import WaveformAugment, as_column, filtered, level_ratio
from skastw.augment.noise import SoundAugment
from skastw.core.batching import length_mask
from skastw.core.parameters import param, parameters, reals

#: Frequency (Hz) below which the spectrum of noise is flat.
_FLAT_BELOW = 20.0


@parameters
class WaveformNoise(SoundAugment, WaveformAugment):
    """Add noise of a random colour at a random signal-to-noise ratio.

    The ratio is that of the mean powers over the whole clip. Silence stays silent.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformNoise
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.ones(1, 500, 1), torch.tensor([500]), torch.zeros(1), torch.ones(1))
    >>> noisy = WaveformNoise(min_snr=10.0, max_snr=10.0, p=1.0).prepare(lambda paths: [], 16000)
    >>> noise = noisy(batch, torch.Generator().manual_seed(0)).inputs - batch.inputs
    >>> round(float(noise.square().mean()), 3)
    0.1
    """

    name = "waveform_noise"

    min_exponent: float = param(
        default=-2.0,
        valid=[reals(-4, 4)],
        doc="Least exponent of the spectrum: the power at the frequency f, above 20 Hz, is proportional to f to this "
        "exponent. -2 is brown noise, -1 pink, 0 white, and 1 blue.",
    )
    max_exponent: float = param(default=1.0, valid=[reals(-4, 4)], doc="Largest exponent of the spectrum.")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            exponent = draw_between(self.min_exponent, self.max_exponent, len(lengths), generator)
            amplitude = as_column(exponent / 2, waveform)
            white = torch.randn(waveform.shape, generator=generator).to(waveform)
            noise = filtered(white, sample_rate, lambda f: (f / _FLAT_BELOW).clamp(min=1) ** amplitude)

            snr = self.draw_snr(len(lengths), generator)
            return add_sound(waveform, lengths, noise, snr), lengths

        return self.on_waveforms(change)


def add_sound(waveform: Tensor, lengths: Tensor, sound: Tensor, snr: Tensor) -> Tensor:
    """Return waveforms (B, N) of some ``lengths`` with another ``sound`` (B, N), which is ``snr`` (B,) dB softer."""
    sound = sound * length_mask(lengths, waveform.shape[1], waveform.device)
    return waveform + sound * level_ratio(waveform, sound) * as_column(10 ** (-snr / 20), waveform)
