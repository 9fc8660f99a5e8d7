"""Base classes of augmentations, and the random numbers and the interpolation that several of them share."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from skastw.core.batching import Batch, round_length_down
from skastw.core.component import Component, resolve_component
from skastw.core.parameters import param, parameters, reals

#: The augmentations that ``augment="auto"`` stands for, for frames that are log-mel (True) and for others (False).
AUTO = {True: ("resized_crop", "frequency_warp", "gain", "spec_augment"), False: ("spec_augment",)}
#: Function that augments a batch of training clips.
Transform = Callable[[Batch, torch.Generator], Batch]


class Augment(Component):
    """Parameters of an augmentation of frames or waveforms, which the training loop applies to each batch.

    ``apply(batch, generator)`` returns a new batch and does not change its argument. All random numbers come from
    ``generator``. Frames beyond each length stay zero. A batch of waveforms has one value in each frame, its shape is
    (B, N, 1). Times of frames are given in frames or as shares of a clip, times of waveforms in seconds, levels in
    decibels.

    Attributes
    ----------
    stage : {"frames", "waveform"}
        What it changes. If one augmentation of a model changes waveforms, the front end runs in each training step.
    log_mel : bool
        Whether it requires log-mel frames, because it moves energy between bands, adds sounds or changes levels.
    mixes : bool
        Whether it mixes clips and their targets.
    test_time : bool
        Whether predictions may be averaged over augmented versions of a clip.
    """

    kind: ClassVar[str] = "augment"
    stage: ClassVar[str] = "frames"
    log_mel: ClassVar[bool] = False
    mixes: ClassVar[bool] = False
    test_time: ClassVar[bool] = False

    @abstractmethod
    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the augmented batch."""

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; by default :meth:`apply`. It is called once before training.

        Parameters
        ----------
        extract : callable
            Function that reads audio files. It returns their waveforms (N, 1) at ``sample_rate`` if :attr:`stage` is
            ``"waveform"``, and otherwise their frames (T, F), computed by the front end of the model.
        sample_rate : int
            Sampling rate of the model (Hz).
        """
        return self.apply


def listed_augmentations(augment: Any, *, log_mel: bool) -> list[Augment]:
    """Return the augmentations that the parameter ``augment`` of an estimator is, lists, or stands for.

    Parameters
    ----------
    augment : str, Augment, list of these, or None
        ``"auto"`` stands for the augmentations in :data:`AUTO`.
    log_mel : bool
        Whether they get log-mel frames.

    Returns
    -------
    list of Augment

    Raises
    ------
    ComponentError
        If an augmentation is unknown.

    Examples
    --------
    >>> from skastw.augment import listed_augmentations
    >>> [item.name for item in listed_augmentations("auto", log_mel=True)]
    ['resized_crop', 'frequency_warp', 'gain', 'spec_augment']
    """
    if isinstance(augment, str) and augment == "auto":
        augment = AUTO[log_mel]
    items = augment if isinstance(augment, list | tuple) else [augment]
    return [resolve_component(Augment, item) for item in items if item is not None]


@parameters
class ItemAugment(Augment):
    """Base of augmentations that change each item with a probability ``p``."""

    p: float = param(default=1.0, valid=[reals(0, 1)], doc="Probability that an item is changed.")

    def draw(self, limit: float, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw numbers from [-limit, limit] by ``generator``, shape ``size``; items that are not changed get zeros."""
        values = limit * (2 * torch.rand(size, generator=generator) - 1)
        is_chosen = chosen(size[0], self.p, generator).view(-1, *[1] * (len(size) - 1))
        return torch.where(is_chosen, values, 0.0)

    def changed(self, n_items: int, generator: torch.Generator) -> Tensor:
        """Draw which of ``n_items`` are changed by ``generator``, shape (n_items,), bool; nothing is drawn for p=1."""
        return chosen(n_items, self.p, generator) if self.p < 1 else torch.ones(n_items, dtype=torch.bool)


def chosen(n_items: int, p: float, generator: torch.Generator) -> Tensor:
    """Draw which of ``n_items`` are augmented, each with probability ``p``, by ``generator``, shape (n_items,)."""
    return torch.rand(n_items, generator=generator) < p


def draw_between(low: float, high: float, n_items: int, generator: torch.Generator) -> Tensor:
    """Draw a number from [low, high] for each of ``n_items`` by ``generator``, shape (n_items,)."""
    return low + (high - low) * torch.rand(n_items, generator=generator)


def on_items(batch: Batch, items: Tensor, transform: Transform, generator: torch.Generator) -> Batch:
    """Return a batch in which ``transform`` has changed the frames of some items.

    Parameters
    ----------
    batch : Batch
    items : Tensor of int64
        Sorted positions of the items.
    transform : callable
        A transform that does not mix items. It gets a batch of these items, without the padding that only other ones
        need, and may change their lengths.
    generator : Generator
        Passed to ``transform``.
    """
    if len(items) in (0, len(batch.lengths)):
        return transform(batch, generator) if len(items) else batch
    lengths = batch.lengths[items]
    inputs = batch.inputs[items, : int(lengths.max())]
    part = transform(Batch(inputs, lengths, batch.targets[items], batch.weights[items]), generator)

    lengths = batch.lengths.index_copy(0, items, part.lengths)
    n_frames = int(lengths.max())
    frames = batch.inputs.new_zeros(len(lengths), n_frames, batch.inputs.shape[2])
    frames[:, : batch.inputs.shape[1]] = batch.inputs[:, :n_frames]
    frames[items] = 0
    frames[items, : part.inputs.shape[1]] = part.inputs[:, :n_frames]
    return replace(batch, inputs=frames, lengths=lengths)


def draw_crop_length(batch: Batch, min_share: float, generator: torch.Generator) -> int:
    """Draw a length by ``generator``: a share in [min_share, 1] of the longest item of ``batch``, rounded down."""
    share = 1 - (1 - min_share) * float(torch.rand((), generator=generator))
    return round_length_down(math.ceil(share * int(batch.lengths.max())))


def draw_starts(lengths: Tensor, sizes: Tensor, generator: torch.Generator) -> Tensor:
    """Draw by ``generator`` where parts of some ``sizes`` (B,) begin in items of some ``lengths`` (B,)."""
    return (torch.rand(len(lengths), generator=generator) * (lengths - sizes + 1)).floor().long()


def interpolate_frames(frames: Tensor, position: Tensor, last: Tensor) -> Tensor:
    """Return frames at fractional positions, by linear interpolation.

    Parameters
    ----------
    frames : Tensor of shape (B, T, F)
    position : Tensor of shape (B, T')
        Positions of the results, at most ``last``.
    last : Tensor of shape (B, 1), int64
        Position of the last frame of each item.

    Returns
    -------
    Tensor of shape (B, T', F)
    """
    below = position.floor().long()
    above = torch.minimum(below + 1, last)
    weight = (position - below)[:, :, None].to(frames.device, frames.dtype)
    item = torch.arange(len(frames))[:, None]
    return torch.lerp(frames[item, below], frames[item, above], weight)
