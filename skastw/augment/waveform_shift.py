"""Time shifts of waveforms."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._waveform import WaveformAugment
from skastw.core.parameters import param, parameters, reals


@parameters
class WaveformShift(WaveformAugment):
    """Shift each waveform in time, by at most half of its length.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformShift
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.arange(6.0).view(1, 6, 1), torch.tensor([6]), torch.zeros(1), torch.ones(1))
    >>> later = WaveformShift(min_shift=2.0, max_shift=2.0, p=1.0).prepare(lambda paths: [], 1)
    >>> later(batch, torch.Generator().manual_seed(0)).inputs.flatten().tolist()
    [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]
    """

    name = "waveform_shift"

    min_shift: float = param(
        default=-0.2, valid=[reals(-3600, 3600)], doc="Least shift (s); a negative shift is towards the start."
    )
    max_shift: float = param(default=0.2, valid=[reals(-3600, 3600)], doc="Largest shift (s).")
    rotate: bool = param(
        default=True,
        valid=["boolean"],
        doc="Whether samples that leave at one end enter at the other. Otherwise silence enters.",
    )

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            shift = draw_between(self.min_shift, self.max_shift, len(lengths), generator) * sample_rate
            shift = torch.minimum(torch.maximum(shift.round().long(), -(lengths // 2)), lengths // 2)

            before = torch.arange(waveform.shape[1]) - shift[:, None]
            shifted = waveform.gather(1, (before % lengths[:, None]).to(waveform.device))
            if self.rotate:
                return shifted, lengths
            is_real = (before >= 0) & (before < lengths[:, None])
            return shifted * is_real.to(waveform.device), lengths

        return self.on_waveforms(change)
