"""Base of augmentations that consist of other ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from skastw.augment._base import Augment, ItemAugment, Transform
from skastw.core.batching import Batch
from skastw.core.component import MAX_DEPTH, Component, resolve_component
from skastw.core.parameters import param, parameters
from skastw.errors import ComponentError, plain


@parameters
class NestedAugment(ItemAugment):
    """Base of augmentations that consist of other ones; stage and other properties follow from them."""

    augmentations: Sequence[Any] = param(
        default=(),
        valid=[list, tuple],
        doc="The augmentations, as objects or names; at least one. All of them change frames, or all change waveforms.",
    )

    def parts(self) -> list[Augment]:
        """Return the augmentations as components."""
        return [resolve_component(Augment, item) for item in self.augmentations]

    def check_params(self) -> None:
        """Check the parameters, and that the parts can be combined."""
        super().check_params()
        parts, name = self.parts(), type(self).__name__
        if not parts:
            raise ComponentError(f"Got {name}(augmentations={plain(self.augmentations)!r}), expected at least one.")
        if _n_levels(self) > MAX_DEPTH:
            raise ComponentError(f"Got augmentations nested {_n_levels(self)} times, expected at most {MAX_DEPTH}.")

        of_stage = {part.stage: part.name for part in parts}
        if len(of_stage) > 1:
            stages = " and ".join(f"{inner!r} ({stage})" for stage, inner in sorted(of_stage.items()))
            raise ComponentError(
                f"Got {name} of {stages}, expected augmentations of one stage: write one {name} for the frames and one "
                "for the waveforms."
            )

    @property
    def stage(self) -> str:  # type: ignore[override]
        """The stage of the parts."""
        return self.parts()[0].stage if self.augmentations else "frames"

    @property
    def log_mel(self) -> bool:  # type: ignore[override]
        """Whether a part requires log-mel frames."""
        return any(part.log_mel for part in self.parts())

    @property
    def mixes(self) -> bool:  # type: ignore[override]
        """Whether a part mixes clips."""
        return any(part.mixes for part in self.parts())

    @property
    def test_time(self) -> bool:  # type: ignore[override]
        """Whether predictions may be averaged over versions from each of the parts."""
        return bool(self.augmentations) and all(part.test_time for part in self.parts())

    def apply(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the augmented batch; see :class:`~skastw.augment.Augment`."""
        return self.compose([part.apply for part in self.parts()], batch, generator)

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Prepare each part; see :class:`~skastw.augment.Augment`."""
        transforms = [part.prepare(extract, sample_rate) for part in self.parts()]
        return lambda batch, generator: self.compose(transforms, batch, generator)

    @abstractmethod
    def compose(self, transforms: Sequence[Transform], batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch after the ``transforms`` of the parts."""


def _n_levels(component: Component) -> int:
    """Return the number of levels of components inside a component."""
    return max((1 + _n_levels(inner) for inner in component.inner_components()), default=0)
