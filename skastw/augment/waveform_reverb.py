"""Reverberation of waveforms by impulse responses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform, draw_between
from skastw.augment._waveform import WaveformAugment, as_column, at_level_of, fft_size, level_ratio
from skastw.core.batching import pad
from skastw.core.parameters import param, parameters, reals
from skastw.errors import ComponentError

#: Logarithm of a decrease by 60 dB.
_DECAY = math.log(1000)


@parameters
class WaveformReverb(WaveformAugment):
    """Play each waveform in a room: convolve it with an impulse response.

    The impulse responses are recordings of the user, or synthetic: a direct sound, followed by noise that decays
    exponentially. The direct sound, the largest sample of a recording, stays at its time. Length and level stay the
    same, so reverberation after the end of a clip is cut off.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import WaveformReverb
    >>> from skastw.core.batching import Batch
    >>> click = torch.zeros(1, 8000, 1)
    >>> click[:, 1000] = 1.0
    >>> batch = Batch(click, torch.tensor([8000]), torch.zeros(1), torch.ones(1))
    >>> room = WaveformReverb(p=1.0).prepare(lambda paths: [], 16000)(batch, torch.Generator().manual_seed(0))
    >>> int(room.inputs.argmax()), bool(room.inputs[:, 1001:2000].any())
    (1000, True)
    """

    name = "waveform_reverb"

    paths: Sequence[str] | None = param(
        default=None,
        valid=[list, tuple, None],
        doc="Audio files of impulse responses, from which one is drawn for each clip; None for synthetic ones.",
    )
    min_rt60: float = param(
        default=0.1,
        valid=[reals(0.01, 20)],
        doc="Least reverberation time of a synthetic response, in which it decays by 60 dB (s).",
    )
    max_rt60: float = param(default=0.8, valid=[reals(0.01, 20)], doc="Largest reverberation time (s).")
    min_drr: float = param(
        default=0.0,
        valid=[reals(-60, 100)],
        doc="Least ratio of the energies of direct sound and reverberation in a synthetic response (dB).",
    )
    max_drr: float = param(default=15.0, valid=[reals(-60, 100)], doc="Largest ratio of these energies (dB).")

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Read the impulse responses; see :class:`~skastw.augment.Augment`."""
        if self.paths is not None and not self.paths:
            raise ComponentError("Got WaveformReverb(paths=[]), expected at least one audio file, or None.")
        recordings = extract([str(path) for path in self.paths]) if self.paths else []
        for path, recording in zip(self.paths or [], recordings, strict=True):
            if not recording.any():
                raise ComponentError(f"The impulse response {str(path)!r} is silent, expected a recording of a room.")
        responses = pad(recordings)[0][..., 0] if recordings else torch.zeros(0, 1)

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            if recordings:
                response = responses[torch.randint(len(responses), (len(lengths),), generator=generator)]
            else:
                rt60 = draw_between(self.min_rt60, self.max_rt60, len(lengths), generator) * sample_rate
                ratio = draw_between(self.min_drr, self.max_drr, len(lengths), generator)
                response = _room(rt60, ratio, generator)
            return _reverberant(waveform, lengths, response.to(waveform)), lengths

        return self.on_waveforms(change)


def _room(rt60: Tensor, ratio: Tensor, generator: torch.Generator) -> Tensor:
    """Return synthetic impulse responses, shape (B, R): an impulse, and noise that decays after it.

    Parameters
    ----------
    rt60 : Tensor of shape (B,)
        Number of samples in which the noise decays by 60 dB.
    ratio : Tensor of shape (B,)
        Energy of the impulse as a multiple of the energy of the noise (dB).
    generator : Generator
        Draws the noise.
    """
    time = torch.arange(1, int(rt60.max()) + 2)
    noise = torch.randn(len(rt60), len(time), generator=generator) * torch.exp(-_DECAY * time / rt60[:, None])
    impulse = torch.ones(len(rt60), 1)
    noise = noise * level_ratio(impulse, noise) * as_column(10 ** (-ratio / 20), noise)
    return torch.cat([impulse, noise], dim=1)


def _reverberant(waveform: Tensor, lengths: Tensor, response: Tensor) -> Tensor:
    """Return waveforms (B, N) with impulse responses (B, R), at the level and time of the direct sound."""
    n_samples = waveform.shape[1]
    size = fft_size(n_samples + response.shape[1])
    wet = torch.fft.irfft(torch.fft.rfft(waveform, size) * torch.fft.rfft(response, size), size)

    direct = response.abs().argmax(dim=1, keepdim=True)
    wet = wet.gather(1, direct + torch.arange(n_samples, device=waveform.device))
    return at_level_of(waveform, wet, lengths)
