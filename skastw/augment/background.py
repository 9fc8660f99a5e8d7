"""Backgrounds from recordings of the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skastw.augment._base import Transform
from skastw.augment.noise import SoundAugment
from skastw.core.batching import Batch
from skastw.core.decibels import to_power
from skastw.core.parameters import param, parameters, reals
from skastw.errors import ComponentError, plain


@parameters
class Background(SoundAugment):
    """Add a random segment of one of the user's recordings at a random signal-to-noise ratio.

    The frames of the recordings are computed once, before training. The powers of clip and background are added. A
    saved model contains the file names of the recordings, without their folders, but never opens them.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import Background
    >>> from skastw.core.batching import Batch
    >>> hum = Background(paths=["hum.wav"], p=1.0).prepare(lambda paths: [torch.ones(500, 80) for _ in paths], 16000)
    >>> batch = Batch(torch.zeros(1, 50, 80), torch.tensor([50]), torch.zeros(1), torch.ones(1))
    >>> bool((hum(batch, torch.Generator().manual_seed(0)).inputs > 0).all())
    True
    """

    name = "background"

    paths: Sequence[str] | None = param(
        default=None,
        valid=[list, tuple, None],
        doc="Audio files, at least one. A recording that is shorter than a clip is repeated.",
    )
    max_snr: float = param(default=25.0, valid=[reals(-100, 100)], doc="Largest signal-to-noise ratio (dB).")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Raise an error: :meth:`prepare` must read the recordings first."""
        raise ComponentError(
            "Background.apply is not available, because the recordings are not read yet: call the function that "
            "Background.prepare(extract, sample_rate) returns."
        )

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Read the recordings; see :class:`~skastw.augment.Augment`."""
        if not self.paths:
            raise ComponentError(f"Got Background(paths={plain(self.paths)!r}), expected at least one audio file.")
        recordings = extract([str(path) for path in self.paths])

        def transform(batch: Batch, generator: torch.Generator) -> Batch:
            n_items, n_frames, _ = batch.inputs.shape
            which = torch.randint(len(recordings), (n_items,), generator=generator).tolist()
            where = torch.rand(n_items, generator=generator).tolist()
            segments = [_segment(recordings[i], n_frames, share) for i, share in zip(which, where, strict=True)]
            return self.add(batch, to_power(torch.stack(segments)), generator)

        return transform


def _segment(recording: Tensor, n_frames: int, share: float) -> Tensor:
    """Return ``n_frames`` frames of a recording, from a ``share`` of its length on; a shorter recording is repeated."""
    n_starts = len(recording) - n_frames + 1 if len(recording) >= n_frames else len(recording)
    position = (int(share * n_starts) + torch.arange(n_frames)) % len(recording)
    return recording[position]
