"""Base of augmentations of waveforms, and levels and spectra that several of them share."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from skastw.augment._base import ItemAugment, Transform, on_items
from skastw.core.batching import Batch, length_mask
from skastw.core.parameters import param, parameters, reals
from skastw.errors import ComponentError

#: ``(waveform (B, N), lengths (B,), generator) -> (waveform (B, N'), lengths (B,))``.
Change = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]

#: Samples, with padding, that are changed at once, so that memory is limited for batches of long clips.
_MAX_SAMPLES = 2**21
#: Least level by which a waveform is divided.
_TINY = 1e-20


@parameters
class WaveformAugment(ItemAugment):
    """Base of augmentations of waveforms; :meth:`prepare` of a subclass returns :meth:`on_waveforms`.

    Two parameters ``min_*`` and ``max_*`` are the limits of a random value.
    """

    stage = "waveform"

    p: float = param(default=0.5, valid=[reals(0, 1)], doc="Probability that an item is changed.")

    def check_params(self) -> None:
        """Check the parameters, and the order of limits."""
        super().check_params()
        params = self.get_params(deep=False)
        for name in (name for name in params if name.startswith("min_")):
            other = name.replace("min_", "max_", 1)
            if params[name] > params[other]:
                got = f"{type(self).__name__}({name}={params[name]}, {other}={params[other]})"
                raise ComponentError(f"Got {got}, expected {name} of at most {other}.")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Raise an error: only :meth:`prepare` gets the sample rate."""
        name = type(self).__name__
        raise ComponentError(
            f"{name}.apply is not available, because it does not know the sample rate: call the function that "
            f"{name}.prepare(extract, sample_rate) returns."
        )

    def on_waveforms(self, change: Change) -> Transform:
        """Return the function that changes items of a batch with probability ``p``.

        Parameters
        ----------
        change : callable
            ``(waveform (B, N), lengths (B,), generator) -> (waveform (B, N'), lengths (B,))``. It gets only the items
            that are changed. Samples beyond each length are zero, and are set to zero in the result.
        """

        def change_part(batch: Batch, generator: torch.Generator) -> Batch:
            waveform, lengths = change(batch.inputs[..., 0], batch.lengths, generator)
            return batch.with_frames(waveform[..., None], lengths)

        def transform(batch: Batch, generator: torch.Generator) -> Batch:
            items = torch.nonzero(self.changed(len(batch.lengths), generator))[:, 0]
            for part in items.split(max(1, _MAX_SAMPLES // batch.inputs.shape[1])):
                batch = on_items(batch, part, change_part, generator)
            return batch

        return transform


def as_column(values: Tensor, waveform: Tensor) -> Tensor:
    """Return ``values`` (B,) as a column (B, 1) of the type of ``waveform``, on its device."""
    return values[:, None].to(waveform)


def level_ratio(waveform: Tensor, other: Tensor) -> Tensor:
    """Return the level of each waveform (B, N) as a multiple of the level of the ``other``, shape (B, 1).

    The ratio is zero for silence.
    """
    levels = (torch.linalg.vector_norm(item, dim=1, keepdim=True) for item in (waveform, other))
    return next(levels) / next(levels).clamp(min=_TINY)


def at_level_of(waveform: Tensor, changed: Tensor, lengths: Tensor) -> Tensor:
    """Return ``changed`` waveforms (B, N), zero beyond the ``lengths`` (B,), at the level of ``waveform`` (B, N)."""
    changed = changed * length_mask(lengths, changed.shape[1], changed.device)
    return changed * level_ratio(waveform, changed)


def fft_size(n_samples: int) -> int:
    """Return a length of Fourier transforms that is quick to compute and not less than ``n_samples``.

    Examples
    --------
    >>> from skastw.augment._waveform import fft_size
    >>> [fft_size(n) for n in (1, 1000, 1025, 20000)]
    [1, 1024, 1280, 20480]
    """
    return min(odd * 2 ** max(0, math.ceil(math.log2(n_samples / odd))) for odd in (1, 3, 5))


def window_size(sample_rate: int) -> int:
    """Return the length of windows of about 50 ms at ``sample_rate`` (Hz), a power of two."""
    return 2 ** max(4, round(math.log2(0.05 * sample_rate)))


def to_spectra(waveform: Tensor, window: Tensor, hop: int) -> Tensor:
    """Return the spectra (B, F, T) of waveforms (B, N) in windows that are centred on every ``hop``-th sample."""
    return torch.stft(waveform, len(window), hop, window=window, center=True, pad_mode="constant", return_complex=True)


def from_spectra(spectra: Tensor, window: Tensor, hop: int, n_samples: int) -> Tensor:
    """Return waveforms (B, n_samples) from spectra (B, F, T); see :func:`to_spectra` for ``window`` and ``hop``."""
    return torch.istft(spectra, len(window), hop, window=window, center=True, length=n_samples)


def filtered(waveform: Tensor, sample_rate: int, response: Callable[[Tensor], Tensor]) -> Tensor:
    """Return filtered waveforms.

    Parameters
    ----------
    waveform : Tensor of shape (B, N)
    sample_rate : int
        Hz.
    response : callable
        Function that returns the frequency response, shape (F,) or (B, F), at frequencies (F,) in Hz. The impulse
        response must be shorter than a quarter of a second.

    Returns
    -------
    Tensor of shape (B, N)
    """
    n_samples = waveform.shape[1]
    size = fft_size(n_samples + sample_rate // 4)
    frequencies = torch.arange(size // 2 + 1, dtype=waveform.dtype, device=waveform.device) * (sample_rate / size)
    spectrum = torch.fft.rfft(waveform, size) * response(frequencies)
    return torch.fft.irfft(spectrum, size)[:, :n_samples]


def slope(frequencies: Tensor, stop: Tensor | float, passed: Tensor | float) -> Tensor:
    """Return the response at ``frequencies`` that rises as a cosine from 0 at ``stop`` to 1 at ``passed``."""
    position = ((frequencies - stop) / (passed - stop)).clamp(min=0, max=1)
    return (1 - torch.cos(math.pi * position)) / 2
