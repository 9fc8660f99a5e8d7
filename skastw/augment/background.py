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
class BackgroundAugment(SoundAugment):
    """Base of augmentations that add recordings of the user."""

    paths: Sequence[str] | None = param(
        default=None,
        valid=[list, tuple, None],
        doc="Audio files, at least one. A recording that is shorter than a clip is repeated.",
    )
    max_snr: float = param(default=25.0, valid=[reals(-100, 100)], doc="Largest signal-to-noise ratio (dB).")

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Raise an error: :meth:`prepare` must read the recordings first."""
        raise ComponentError(
            f"{type(self).__name__}.apply is not available, because the recordings are not read yet: call the function "
            f"that {type(self).__name__}.prepare(extract, sample_rate) returns."
        )

    def read(self, extract: Callable[[Sequence[str]], list[Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the frames of the recordings that ``extract`` reads, one after another, and their lengths."""
        if not self.paths:
            name = type(self).__name__
            raise ComponentError(f"Got {name}(paths={plain(self.paths)!r}), expected at least one audio file.")
        recordings = extract([str(path) for path in self.paths])
        return torch.cat(recordings), torch.tensor([len(recording) for recording in recordings])


@parameters
class Background(BackgroundAugment):
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
    log_mel = True

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Read the recordings; see :class:`~skastw.augment.Augment`."""
        frames, lengths = self.read(extract)

        def transform(batch: Batch, generator: torch.Generator) -> Batch:
            n_items, n_frames, _ = batch.inputs.shape
            segments = draw_segments(frames, lengths, (n_items, n_frames), generator)
            return self.add_power(batch, to_power(segments), generator)

        return transform


def draw_segments(frames: Tensor, lengths: Tensor, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Draw a segment of a random recording for each item by ``generator``.

    Parameters
    ----------
    frames : Tensor of shape (sum(lengths), F)
        Frames of the recordings, one after another.
    lengths : Tensor of int64
        Their lengths. A recording that is shorter than a segment is repeated.
    shape : (int, int)
        Number B of items, and length T of each segment.
    generator : Generator

    Returns
    -------
    Tensor of shape (B, T, F)
    """
    n_items, n_frames = shape
    which = torch.randint(len(lengths), (n_items,), generator=generator)
    size = lengths[which]
    n_starts = torch.where(size >= n_frames, size - n_frames + 1, size)
    start = (torch.rand(n_items, generator=generator).double() * n_starts).long()

    first = (lengths.cumsum(dim=0) - lengths)[which]
    return frames[first[:, None] + (start[:, None] + torch.arange(n_frames)) % size[:, None]]
