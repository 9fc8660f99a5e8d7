"""Base classes of encoders."""

from abc import abstractmethod
from typing import ClassVar

from torch import nn

from skastw.core.component import Component


class EncoderModule(nn.Module):
    """A built encoder: ``(frames (B, T, F), lengths (B,)) -> (frames (B, T', D), lengths (B,))``.

    Attributes
    ----------
    n_outputs : int
        Width of the output, D.
    """

    n_outputs: int


class Encoder(Component):
    """Parameters of an encoder.

    ``build(n_features, max_frames)`` returns a module with

    * ``forward(frames (B, T, F), lengths (B,)) -> (frames (B, T', D), lengths (B,))`` for any
      ``1 <= T <= max_frames``, where padding a clip must not change its outputs;
    * ``n_outputs``, the width D of the output.
    """

    kind: ClassVar[str] = "encoder"

    @abstractmethod
    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module, with initial weights drawn from torch's random generator."""
