"""Telephone lines."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform
from skastw.augment._waveform import WaveformAugment, filtered, slope
from skastw.core.parameters import param, parameters

#: Largest values of mu-law coding: of mu, and of a code.
_MU, _MAX_CODE = 255.0, 127.0


@parameters
class WaveformTelephone(WaveformAugment):
    """Send each waveform through a telephone line, which passes 300 to 3400 Hz.

    Parameters
    ----------
    {parameters}

    References
    ----------
    ITU-T Recommendations G.711 (mu-law) and G.712 (band).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformTelephone
    >>> from skastw.core.batching import Batch
    >>> hum = torch.sin(2 * torch.pi * 50 / 16000 * torch.arange(16000)).view(1, -1, 1)
    >>> batch = Batch(hum, torch.tensor([16000]), torch.zeros(1), torch.ones(1))
    >>> heard = WaveformTelephone(p=1.0).prepare(lambda paths: [], 16000)(batch, torch.Generator().manual_seed(0))
    >>> bool(heard.inputs[:, 2000:-2000].abs().max() < 0.01)
    True
    """

    name = "waveform_telephone"

    mu_law: bool = param(
        default=True,
        valid=["boolean"],
        doc="Whether samples are coded as 8-bit mu-law, relative to the peak of the clip. This adds soft noise.",
    )

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def on_the_line(waveform: Tensor) -> Tensor:
            return filtered(waveform, sample_rate, lambda f: slope(f, 200.0, 300.0) * slope(f, 4000.0, 3400.0))

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            narrow = on_the_line(waveform)
            return (on_the_line(_coded(narrow)) if self.mu_law else narrow), lengths

        return self.on_waveforms(change)


def _coded(waveform: Tensor) -> Tensor:
    """Return waveforms (B, N) as they are after 8-bit mu-law coding and decoding."""
    peak = waveform.abs().amax(dim=1, keepdim=True).clamp(min=1e-20)
    compressed = waveform.sign() * torch.log1p(_MU * waveform.abs() / peak) / math.log1p(_MU)
    code = (compressed * _MAX_CODE).round() / _MAX_CODE
    return code.sign() * ((1 + _MU) ** code.abs() - 1) / _MU * peak
