"""A clip and its augmented versions."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state
from torch import Tensor

from skastw.augment import Augment, NestedAugment, Transform, listed_augmentations
from skastw.core.batching import Batch, pad
from skastw.core.checks import check_positive
from skastw.core.component import resolve_component
from skastw.features import Features, Precomputed, Waveform
from skastw.plots._canvas import Axes, panels, pyplot
from skastw.plots.spectrogram import SpectrogramDisplay, clip_frames, fitted_or_set

#: Most panels in a row, if each augmentation has one version.
_COLUMNS = 5


class AugmentationDisplay:
    """A clip and its augmented versions, with the same scales of time and colour.

    Make one with :meth:`from_estimator` or :meth:`from_clip`.

    Parameters
    ----------
    original : SpectrogramDisplay
        The clip.
    versions : list of (str, list of SpectrogramDisplay)
        Name and versions of each augmentation, the same number for all.

    Attributes
    ----------
    ax_, axes_ : Axes and ndarray of Axes
        First panel, with the clip, and all panels.
    figure_ : Figure
    colorbar_ : Colorbar

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skastw.datasets import make_tones
    >>> from skastw.plots import AugmentationDisplay
    >>> clips, y = make_tones(n_clips=2, random_state=0)
    >>> display = AugmentationDisplay.from_clip(clips[0], ["gain", "mixup"], partner=clips[1])
    >>> [axes.get_title() for axes in display.axes_.flat]
    ['the clip', 'gain', 'mixup', 'all together']
    """

    def __init__(
        self, original: SpectrogramDisplay, versions: Sequence[tuple[str, Sequence[SpectrogramDisplay]]]
    ) -> None:
        self.original = original
        self.versions = versions

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        clip: Any,
        *,
        partner: Any = None,
        n_versions: int = 3,
        random_state: Any = 0,
        ax: Axes | Sequence[Axes] | None = None,
        cmap: Any = None,
    ) -> Self:
        """Draw a clip and its versions from the augmentations of an estimator.

        Parameters
        ----------
        estimator : ASTWClassifier or ASTWRegressor
            It need not be fitted.
        clip : clip
            As the estimator takes it.
        partner, n_versions, random_state, ax, cmap : see :meth:`from_clip`

        Returns
        -------
        AugmentationDisplay

        Raises
        ------
        ClipError
            If a clip cannot be used.
        ValueError
            If the estimator has no augmentation.
        MissingDependencyError
            Without the extra ``plot``.
        """
        return cls.from_clip(
            clip,
            fitted_or_set(estimator, "augment"),
            features=fitted_or_set(estimator, "features"),
            sample_rate=fitted_or_set(estimator, "sample_rate"),
            partner=partner,
            n_versions=n_versions,
            random_state=random_state,
            ax=ax,
            cmap=cmap,
        )

    @classmethod
    def from_clip(
        cls,
        clip: Any,
        augment: Any,
        *,
        features: Any = "log_mel",
        sample_rate: int = 16000,
        partner: Any = None,
        n_versions: int = 1,
        random_state: Any = 0,
        ax: Axes | Sequence[Axes] | None = None,
        cmap: Any = None,
    ) -> Self:
        """Draw a clip and its versions from each augmentation and, for several augmentations, from all together.

        A single augmentation is always applied, with ``p=1``. All together are applied with their own probabilities, as
        in training: the augmentations of waveforms first, then the front end, then the augmentations of frames.

        Parameters
        ----------
        clip : clip
            See :mod:`skastw.audio.clips`.
        augment : str, Augment or list of these
            The augmentations.
        features : str or Features, default="log_mel"
            Front end.
        sample_rate : int, default=16000
            Rate that clips are resampled to (Hz).
        partner : clip, optional
            Second clip for augmentations that mix two clips; without it, these are left out.
        n_versions : int, default=1
            Number of versions from each augmentation; with more than one, each augmentation has a row.
        random_state : int, RandomState or None, default=0
            Seed of the random draws.
        ax : Axes or sequence of Axes, optional
            Axes to draw in; a single Axes of a grid is divided, several are used as panels. By default in a new figure.
        cmap : str or Colormap, optional
            By default matplotlib's ``image.cmap``, viridis.

        Returns
        -------
        AugmentationDisplay

        Raises
        ------
        ClipError
            If a clip cannot be used.
        ValueError
            If no augmentation is left, or ``n_versions`` is not a positive integer.
        MissingDependencyError
            Without the extra ``plot``.
        """
        pyplot(cls)
        check_positive(n_versions=n_versions)

        features = resolve_component(Features, features)
        augmentations = listed_augmentations(augment, log_mel=features.log_mel)
        for item in augmentations:
            item.check_params()
        augmentations = [item for item in augmentations if partner is not None or not item.mixes]
        if not augmentations:
            raise ValueError(f"Got augment={augment!r}, expected one that works on a single clip, or a partner to mix.")

        clips = [item for item in (clip, partner) if item is not None]
        seed = int(check_random_state(random_state).randint(2**31 - 1))

        def display(values: Tensor) -> SpectrogramDisplay:
            return SpectrogramDisplay.from_frames(values, features, sample_rate=sample_rate)

        rows = [(item.name, [_always_applied(item)]) for item in augmentations]
        if len(augmentations) > 1:
            rows.append(("all together", augmentations))
        versions = []
        for name, applied in rows:
            version = _augmenter(clips, applied, features, sample_rate)
            versions.append((name, [display(version(seed + i)) for i in range(n_versions)]))
        return cls(display(clip_frames(clip, features, sample_rate)), versions).plot(ax, cmap=cmap)

    def plot(self, ax: Axes | Sequence[Axes] | None = None, *, cmap: Any = None) -> Self:
        """Draw.

        Parameters
        ----------
        ax : Axes or sequence of Axes, optional
            Axes to draw in; a single Axes of a grid is divided, several are used as panels. By default in a new figure.
        cmap : str or Colormap, optional
            By default matplotlib's ``image.cmap``, viridis.

        Returns
        -------
        self
        """
        titled, columns = self._panels()
        gallery = ax is None or not isinstance(ax, Sequence | np.ndarray)
        rows = -(-len(titled) // columns)
        shape = (rows, columns) if gallery else (1, len(titled))
        size = (0.36 * columns + 0.2, 0.42 * rows + 0.1)
        self.axes_ = panels(type(self), ax, shape, size=size, share=True)
        self.ax_, self.figure_ = self.axes_.flat[0], self.axes_.flat[0].figure

        first, step = self.original, 1 / self.original.frame_rate
        low, high = first.span
        longest = max(len(display.values) for _, display in titled) * step
        for i, (title, display) in enumerate(titled):
            axes = self.axes_.flat[i]
            display.plot(axes, cmap=cmap, colorbar=False, vmin=low, vmax=high)
            axes.set_title(title, fontsize="medium", parse_math=False)
            axes.set(xlim=(-step / 2, longest - step / 2), facecolor="0.85")
            if gallery:  # labels at the left and at the bottom only
                axes.label_outer()
        for axes in self.axes_.flat[len(titled) :]:
            axes.set_axis_off()

        bar = {"ax": list(self.axes_.flat), "aspect": 40, "pad": 0.01}
        self.colorbar_ = self.figure_.colorbar(first.image_, label=first.quantity, **bar)
        return self

    def _panels(self) -> tuple[list[tuple[str, SpectrogramDisplay]], int]:
        """Return the displays with their titles, and the number of columns."""
        clip = ("the clip", self.original)
        n_versions = len(self.versions[0][1])
        if n_versions == 1:
            titled = [clip, *((name, displays[0]) for name, displays in self.versions)]
            return titled, min(_COLUMNS, len(titled))

        titled = []
        for name, displays in self.versions:
            titled += [clip, *((f"{name}, {i}", display) for i, display in enumerate(displays, start=1))]
        return titled, n_versions + 1


def _always_applied(augmentation: Augment) -> Augment:
    """Return the augmentation, and augmentations inside it, with a probability of 1."""
    augmentation = clone(augmentation)
    if isinstance(augmentation, NestedAugment):
        augmentation.set_params(augmentations=[_always_applied(part) for part in augmentation.parts()])
    return augmentation.set_params(p=1.0) if "p" in augmentation.get_params() else augmentation


def _augmenter(
    clips: Sequence[Any], augmentations: Sequence[Augment], features: Features, sample_rate: int
) -> Callable[[int], Tensor]:
    """Return the function from a seed to the frames of the first of ``clips``; the second may be mixed in."""
    stages: dict[str, list[Transform]] = {"waveform": [], "frames": []}
    for augmentation in augmentations:
        front_end = Waveform() if augmentation.stage == "waveform" else features
        read = partial(_read, front_end, sample_rate)
        stages[augmentation.stage].append(augmentation.prepare(read, sample_rate))
    if stages["waveform"] and isinstance(features, Precomputed):
        raise ValueError("Got an augmentation of waveforms with features='precomputed', expected a front end.")
    inputs, lengths = pad(_read(Waveform() if stages["waveform"] else features, sample_rate, clips))

    def version(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        batch = Batch(inputs, lengths, torch.zeros(len(clips)), torch.ones(len(clips)))
        for transform in stages["waveform"]:
            batch = transform(batch, generator)
        if stages["waveform"]:
            waveforms = [item[:n, 0].numpy() for item, n in zip(batch.inputs, batch.lengths.tolist(), strict=True)]
            batch = batch.with_frames(*pad(_read(features, sample_rate, waveforms)))

        for transform in stages["frames"]:
            batch = transform(batch, generator)
        return batch.inputs[0, : int(batch.lengths[0])]

    return version


def _read(features: Features, sample_rate: int, clips: Sequence[Any]) -> list[Tensor]:
    """Return the frames of clips."""
    return [clip_frames(clip, features, sample_rate) for clip in clips]
