"""Clipping of waveforms."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._waveform import WaveformAugment, as_column
from skastw.core.parameters import param, parameters, reals


@parameters
class WaveformClipping(WaveformAugment):
    """Amplify each waveform, and clip it at the peak that it had, like a recorder whose gain is too high.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformClipping
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.tensor([[[0.1], [0.4], [-1.0]]]), torch.tensor([3]), torch.zeros(1), torch.ones(1))
    >>> clipped = WaveformClipping(min_overdrive=20.0, max_overdrive=20.0, p=1.0).prepare(lambda paths: [], 16000)
    >>> clipped(batch, torch.Generator().manual_seed(0)).inputs.flatten().tolist()
    [1.0, 1.0, -1.0]
    """

    name = "waveform_clipping"

    min_overdrive: float = param(
        default=1.0, valid=[reals(0, 100)], doc="Least gain, and so the least level of peaks above the limit (dB)."
    )
    max_overdrive: float = param(default=12.0, valid=[reals(0, 100)], doc="Largest gain (dB).")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            gain = draw_between(self.min_overdrive, self.max_overdrive, len(lengths), generator)
            peak = waveform.abs().amax(dim=1, keepdim=True)
            louder = waveform * as_column(10 ** (gain / 20), waveform)
            return torch.minimum(torch.maximum(louder, -peak), peak), lengths

        return self.on_waveforms(change)
