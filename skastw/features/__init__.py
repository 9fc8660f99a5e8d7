"""Front ends: waveform -> frames."""

from typing import TYPE_CHECKING, Any

from skastw.core.component import export_named
from skastw.features._base import Features, FeaturesModule, WholeClipFeatures

__all__ = ["Features", "FeaturesModule", "WholeClipFeatures", *export_named(__name__, __path__, Features, globals())]

if TYPE_CHECKING:  # the classes are exported when the package is imported

    def __getattr__(name: str) -> Any: ...
