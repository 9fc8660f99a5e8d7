"""Base classes of encoders, and initial weights for encoders whose papers do not use torch's default."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from torch import nn

from skastw.core.component import Component
from skastw.errors import ComponentError


class EncoderModule(nn.Module):
    """A built encoder: ``(frames (B, T, F), lengths (B,)) -> (frames (B, T', D), lengths (B,))``.

    Attributes
    ----------
    n_outputs : int
        Width of the output, D.
    """

    n_outputs: int

    def parts_in_order(self) -> list[nn.Module]:
        """Return the parts of the module from its input to its output; lists of modules are several parts.

        Training of the last layers alone, and learning rates that depend on the depth, count these parts. Each weight
        must be in exactly one of them.
        """
        parts: list[nn.Module] = []
        for child in self.children():
            parts += list(child) if isinstance(child, nn.ModuleList | nn.Sequential) else [child]
        return [part for part in parts if next(part.parameters(), None) is not None]


class Encoder(Component):
    """Parameters of an encoder.

    ``build(n_features, max_frames)`` returns a module with

    * ``forward(frames (B, T, F), lengths (B,)) -> (frames (B, T', D), lengths (B,))`` for any
      ``1 <= T <= max_frames``, where padding a clip must not change its outputs;
    * ``n_outputs``, the width D of the output.
    """

    kind: ClassVar[str] = "encoder"

    @property
    def data_hungry(self) -> bool:
        """Whether the encoder learns slowly from a few hundred clips, so that by default it has a teacher and a refit.

        Such an encoder must be larger than its teacher.
        """
        return False

    @property
    def frozen(self) -> bool:
        """Whether all weights keep their initial values in training, so that the outputs of a clip never change."""
        return False

    @property
    def stride(self) -> float:
        """Number of input frames for each output frame, for the times of output frames."""
        return 1.0

    @abstractmethod
    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module, with initial weights drawn from torch's random generator."""


def per_layer(param: str, value: int | Sequence[int], factors: Sequence[int], layer: str) -> list[int]:
    """Return the number of channels of each layer.

    Parameters
    ----------
    param : str
        Name of the parameter, for the error.
    value : int or sequence of int
        Value of the parameter: channels of each layer, or a single number.
    factors : sequence of int
        Factor of a single number in each layer.
    layer : str
        What a layer is called, for the error.

    Raises
    ------
    ComponentError
        If the number of channels is not the number of layers.

    Examples
    --------
    >>> from skastw.encoders._base import per_layer
    >>> per_layer("width", 8, [1, 2, 4], "stage"), per_layer("width", [8, 8, 12], [1, 2, 4], "stage")
    ([8, 16, 32], [8, 8, 12])
    """
    if isinstance(value, int | np.integer):
        return [int(value) * factor for factor in factors]
    if len(value) != len(factors):
        raise ComponentError(
            f"Got {param}={list(value)} with {len(value)} numbers, expected {len(factors)}, one for each {layer}."
        )
    return [int(channels) for channels in value]


def draw_xavier(module: nn.Module) -> None:
    """Initialise all convolutions and linear layers of ``module`` by Xavier's rule, with biases of zero.

    With torch's default, each layer with ReLU scales the signal by two fifths. After eight layers it is too weak for
    the first steps of training.

    References
    ----------
    Glorot and Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural Networks", 2010.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
