"""Pitch of waveforms, at the same length."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._resampling import resample_by, stretch
from skastw.augment._waveform import WaveformAugment, at_level_of, window_size
from skastw.core.parameters import param, parameters, reals


@parameters
class WaveformPitch(WaveformAugment):
    """Shift the pitch of each waveform; its length and its level stay the same.

    A phase vocoder stretches the time, and resampling restores the length. This blurs short sounds.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformPitch
    >>> from skastw.core.batching import Batch
    >>> tone = torch.sin(2 * torch.pi * 400 / 16000 * torch.arange(16000)).view(1, -1, 1)
    >>> batch = Batch(tone, torch.tensor([16000]), torch.zeros(1), torch.ones(1))
    >>> octave = WaveformPitch(min_shift=12.0, max_shift=12.0, p=1.0).prepare(lambda paths: [], 16000)
    >>> higher = octave(batch, torch.Generator().manual_seed(0)).inputs.flatten()
    >>> len(higher), int(torch.fft.rfft(higher).abs().argmax())
    (16000, 800)
    """

    name = "waveform_pitch"

    min_shift: float = param(default=-2.0, valid=[reals(-24, 24)], doc="Least shift (semitones).")
    max_shift: float = param(default=2.0, valid=[reals(-24, 24)], doc="Largest shift (semitones).")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            ratio = 2 ** (draw_between(self.min_shift, self.max_shift, len(lengths), generator) / 12)
            stretched = stretch(waveform, ratio, window_size(sample_rate))
            shifted = resample_by(stretched, ratio, waveform.shape[1])
            return at_level_of(waveform, shifted, lengths), lengths

        return self.on_waveforms(change)
