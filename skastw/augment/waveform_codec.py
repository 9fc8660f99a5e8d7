"""Band limits and noise of audio codecs at low bit rates."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from skastw.augment._base import Transform, draw_between
from skastw.augment._waveform import (
    WaveformAugment,
    as_column,
    filtered,
    from_spectra,
    slope,
    to_spectra,
    window_size,
)
from skastw.core.parameters import param, parameters, reals

#: Slope of the band limit, as a share of its frequency, and number of bins that share one step of quantisation.
_SLOPE, _BAND = 0.05, 9


@parameters
class WaveformCodec(WaveformAugment):
    """Remove high frequencies and quantise the spectrum of each waveform, as audio codecs at low bit rates do.

    The steps of the quantisation follow the level of each band in each window of about 50 ms, so the noise is hidden
    below the sound, and weak bands are lost. No codec is run.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformCodec
    >>> from skastw.core.batching import Batch
    >>> whistle = torch.sin(2 * torch.pi * 7500 / 16000 * torch.arange(16000)).view(1, -1, 1)
    >>> batch = Batch(whistle, torch.tensor([16000]), torch.zeros(1), torch.ones(1))
    >>> heard = WaveformCodec(p=1.0).prepare(lambda paths: [], 16000)(batch, torch.Generator().manual_seed(0))
    >>> bool(heard.inputs[:, 2000:-2000].abs().max() < 0.01)
    True
    """

    name = "waveform_codec"

    min_cutoff: float = param(default=2500.0, valid=[reals(100, 1e6)], doc="Least highest frequency (Hz).")
    max_cutoff: float = param(default=7000.0, valid=[reals(100, 1e6)], doc="Largest highest frequency (Hz).")
    quantize: bool = param(default=True, valid=["boolean"], doc="Whether the spectrum is quantised.")
    min_snr: float = param(
        default=8.0, valid=[reals(-20, 100)], doc="Least ratio of the sound to the noise of the quantisation (dB)."
    )
    max_snr: float = param(default=25.0, valid=[reals(-20, 100)], doc="Largest ratio of the sound to this noise (dB).")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            cutoff = draw_between(self.min_cutoff, self.max_cutoff, len(lengths), generator)
            snr = draw_between(self.min_snr, self.max_snr, len(lengths), generator)
            if self.quantize:
                waveform = _quantized(waveform, snr, window_size(sample_rate))
            stop = as_column(cutoff, waveform)
            return filtered(waveform, sample_rate, lambda f: slope(f, stop, (1 - _SLOPE) * stop)), lengths

        return self.on_waveforms(change)


def _quantized(waveform: Tensor, snr: Tensor, window_size: int) -> Tensor:
    """Return waveforms (B, N) whose spectra are rounded, such that the noise is ``snr`` (B,) dB below the sound."""
    window = torch.hann_window(window_size, device=waveform.device, dtype=waveform.dtype).sqrt()
    padded = F.pad(waveform, (0, window_size))  # windows beyond the end, where the last real one fades
    spectrum = to_spectra(padded, window, window_size // 2)

    # rounding by steps d changes a complex number by d² / 6 on average, and half of it remains where windows overlap
    power = spectrum.abs().square()
    band = F.avg_pool2d(power[:, None], (_BAND, 1), 1, (_BAND // 2, 0), count_include_pad=False)[:, 0]
    step = (12 * band * as_column(10 ** (-snr / 10), waveform)[:, :, None]).sqrt().clamp(min=1e-20)
    values = torch.view_as_real(spectrum)
    rounded = torch.view_as_complex((values / step[..., None]).round() * step[..., None])
    return from_spectra(rounded, window, window_size // 2, waveform.shape[1])
