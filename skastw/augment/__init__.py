"""Augmentations: batch -> batch, in training only."""

from typing import TYPE_CHECKING, Any

from skastw.augment._base import AUTO, Augment, Transform, listed_augmentations
from skastw.augment._nested import NestedAugment
from skastw.augment._waveform import WaveformAugment
from skastw.core.component import export_named

__all__ = [
    "AUTO",
    "Augment",
    "NestedAugment",
    "Transform",
    "WaveformAugment",
    "listed_augmentations",
    *export_named(__name__, __path__, Augment, globals()),
]

if TYPE_CHECKING:  # the classes are exported when the package is imported

    def __getattr__(name: str) -> Any: ...
