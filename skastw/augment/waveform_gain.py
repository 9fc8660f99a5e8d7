"""Random levels of waveforms."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._waveform import WaveformAugment, as_column
from skastw.core.parameters import param, parameters, reals


@parameters
class WaveformGain(WaveformAugment):
    """Change the level of each waveform.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformGain
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.ones(1, 3, 1), torch.tensor([3]), torch.zeros(1), torch.ones(1))
    >>> half = WaveformGain(min_gain=-6.02, max_gain=-6.02, p=1.0).prepare(lambda paths: [], 16000)
    >>> half(batch, torch.Generator().manual_seed(0)).inputs.flatten().mul(100).round().tolist()
    [50.0, 50.0, 50.0]
    """

    name = "waveform_gain"

    min_gain: float = param(default=-12.0, valid=[reals(-100, 100)], doc="Least gain (dB).")
    max_gain: float = param(default=6.0, valid=[reals(-100, 100)], doc="Largest gain (dB).")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            gain = draw_between(self.min_gain, self.max_gain, len(lengths), generator)
            return waveform * as_column(10 ** (gain / 20), waveform), lengths

        return self.on_waveforms(change)
