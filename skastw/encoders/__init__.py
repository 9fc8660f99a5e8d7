"""Encoders: frames -> frames of embeddings."""

from typing import TYPE_CHECKING, Any

from skastw.core.component import export_named
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._known import fetch_pretrained, list_pretrained
from skastw.encoders._pretrained import PretrainedEncoder

__all__ = [
    "Encoder",
    "EncoderModule",
    "PretrainedEncoder",
    "fetch_pretrained",
    "list_pretrained",
    *export_named(__name__, __path__, Encoder, globals()),
]

if TYPE_CHECKING:  # the classes are exported when the package is imported

    def __getattr__(name: str) -> Any: ...
