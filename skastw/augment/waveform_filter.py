"""Random filters of waveforms."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._waveform import WaveformAugment, as_column, filtered
from skastw.core.parameters import param, parameters, reals
from skastw.core.sklearn_private import StrOptions

_SHAPES = ("low_pass", "high_pass", "band_pass", "peak", "low_shelf", "high_shelf")
#: Largest frequency of a filter, as a share of the sample rate.
_MAX_SHARE = 0.45


@parameters
class WaveformFilter(WaveformAugment):
    """Filter each waveform by a random filter of second order, like other rooms and microphones.

    Low-pass filters have a frequency in the upper half of the range, on a logarithmic scale, and high-pass filters in
    the lower half. The other filters have any frequency in the range, which is limited to 0.45 times the sample rate.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients".

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformFilter
    >>> from skastw.core.batching import Batch
    >>> batch = Batch(torch.ones(1, 8000, 1), torch.tensor([8000]), torch.zeros(1), torch.ones(1))
    >>> without_dc = WaveformFilter(shape="high_pass", p=1.0).prepare(lambda paths: [], 16000)
    >>> bool(without_dc(batch, torch.Generator().manual_seed(0)).inputs[:, 4000:].abs().max() < 1e-3)
    True
    """

    name = "waveform_filter"

    shape: str = param(
        default="any",
        valid=[StrOptions({"any", *_SHAPES})],
        doc='``"any"`` draws a shape for each clip. Peaks and shelves raise or lower a band.',
    )
    min_frequency: float = param(default=100.0, valid=[reals(20, 1e6)], doc="Least frequency (Hz).")
    max_frequency: float = param(default=6000.0, valid=[reals(20, 1e6)], doc="Largest frequency (Hz).")
    min_gain: float = param(default=-12.0, valid=[reals(-24, 24)], doc="Least gain of peaks and shelves (dB).")
    max_gain: float = param(default=12.0, valid=[reals(-24, 24)], doc="Largest gain of peaks and shelves (dB).")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""
        lowest = min(self.min_frequency, _MAX_SHARE * sample_rate)
        ratio = min(self.max_frequency, _MAX_SHARE * sample_rate) / lowest

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            shape = torch.randint(len(_SHAPES), (len(lengths),), generator=generator)
            if self.shape != "any":
                shape = torch.full_like(shape, _SHAPES.index(self.shape))

            place = torch.rand(len(lengths), generator=generator)
            place = torch.where(shape == _SHAPES.index("low_pass"), (place + 1) / 2, place)
            place = torch.where(shape == _SHAPES.index("high_pass"), place / 2, place)
            angle = as_column(math.pi * lowest * ratio**place / sample_rate, waveform)

            gain = draw_between(self.min_gain, self.max_gain, len(lengths), generator)
            coefficients = _coefficients(10 ** (gain / 80))[shape, :, torch.arange(len(shape))].to(waveform)
            return filtered(waveform, sample_rate, lambda f: _response(f, sample_rate, angle, coefficients)), lengths

        return self.on_waveforms(change)


def _coefficients(root: Tensor) -> Tensor:
    """Return the analogue filters of each shape, at frequency 1, with the fourth power of ``root`` (B,) as gain.

    Returns
    -------
    Tensor of shape (shapes, 6, B)
        Coefficients of s**2, s and 1 in the numerator, and in the denominator.
    """
    none, one, damping = torch.zeros_like(root), torch.ones_like(root), torch.full_like(root, math.sqrt(2))
    filters = {
        "low_pass": [none, none, one, one, damping, one],
        "high_pass": [one, none, none, one, damping, one],
        "band_pass": [none, damping, none, one, damping, one],
        "peak": [one, root**2, one, one, 1 / root**2, one],
        "low_shelf": [root**2, damping * root**3, root**4, root**2, damping * root, one],
        "high_shelf": [root**4, damping * root**3, root**2, one, damping * root, root**2],
    }
    return torch.stack([torch.stack(filters[shape]) for shape in _SHAPES])


def _response(frequencies: Tensor, sample_rate: int, angle: Tensor, coefficients: Tensor) -> Tensor:
    """Return the response (B, F) of digital filters with the ``coefficients`` (B, 6), at ``frequencies`` (F,) in Hz.

    By the bilinear transform, s is i tan(x) / tan(angle), where x is pi times the frequency over the sample rate.
    """
    x = math.pi * frequencies / sample_rate
    sine, cosine = x.sin() * angle.cos(), x.cos() * angle.sin()
    b2, b1, b0, a2, a1, a0 = coefficients[:, :, None].unbind(dim=1)

    numerator = torch.complex(b0 * cosine**2 - b2 * sine**2, b1 * sine * cosine)
    return numerator / torch.complex(a0 * cosine**2 - a2 * sine**2, a1 * sine * cosine)
