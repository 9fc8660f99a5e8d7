"""The kinds of target that a model can learn, one file each; a new file in this folder is found automatically."""

from typing import TYPE_CHECKING, Any

from skastw.core.component import export_named
from skastw.targets._base import Targets, learn_targets, targets_from_json
from skastw.targets._classes import ClassParams, ClassTargets

__all__ = [
    "ClassParams",
    "ClassTargets",
    "Targets",
    "learn_targets",
    "targets_from_json",
    *export_named(__name__, __path__, Targets, globals()),
]

if TYPE_CHECKING:  # the classes are exported when the package is imported

    def __getattr__(name: str) -> Any: ...
