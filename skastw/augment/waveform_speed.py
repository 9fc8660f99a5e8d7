"""Speed of waveforms: another tempo and another pitch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._resampling import resample_by
from skastw.augment._waveform import WaveformAugment
from skastw.core.parameters import param, parameters, reals


@parameters
class WaveformSpeed(WaveformAugment):
    """Play each waveform faster or slower, which changes its length and its pitch.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Ko et al., "Audio Augmentation for Speech Recognition", 2015 (speed perturbation).

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformSpeed
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.randn(2, 1000, 1), torch.tensor([1000, 500]), torch.zeros(2), torch.ones(2))
    >>> faster = WaveformSpeed(min_speed=1.25, max_speed=1.25, p=1.0).prepare(lambda paths: [], 16000)
    >>> faster(batch, torch.Generator().manual_seed(0)).lengths.tolist()
    [800, 400]
    """

    name = "waveform_speed"

    min_speed: float = param(default=0.9, valid=[reals(0.25, 4)], doc="Least speed; 0.5 makes a clip twice as long.")
    max_speed: float = param(default=1.1, valid=[reals(0.25, 4)], doc="Largest speed.")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            speed = draw_between(self.min_speed, self.max_speed, len(lengths), generator)
            lengths = (lengths / speed).round().long().clamp(min=1)
            return resample_by(waveform, speed, int(lengths.max())), lengths

        return self.on_waveforms(change)
