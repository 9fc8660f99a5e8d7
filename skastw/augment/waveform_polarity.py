"""Inverted polarity of waveforms."""

from collections.abc import Callable, Sequence

from torch import Tensor

from skastw.augment._base import Transform
from skastw.augment._waveform import WaveformAugment
from skastw.core.parameters import parameters


@parameters
class WaveformPolarity(WaveformAugment):
    """Invert the sign of each waveform, which sounds the same.

    Front ends of powers, such as ``"log_mel"``, do not depend on the sign, but networks on samples do.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformPolarity
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.ones(1, 3, 1), torch.tensor([3]), torch.zeros(1), torch.ones(1))
    >>> inverted = WaveformPolarity(p=1.0).prepare(lambda paths: [], 16000)
    >>> inverted(batch, torch.Generator().manual_seed(0)).inputs.flatten().tolist()
    [-1.0, -1.0, -1.0]
    """

    name = "waveform_polarity"

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""
        return self.on_waveforms(lambda waveform, lengths, generator: (-waveform, lengths))
