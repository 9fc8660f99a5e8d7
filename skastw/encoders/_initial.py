"""Initial weights of the encoders that follow papers which draw them otherwise than torch does."""

from __future__ import annotations

from torch import nn

__all__ = ["draw_xavier"]


def draw_xavier(module: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers of ``module`` by Xavier's rule, with biases of zero.

    Torch's own draw lets the signal shrink to two fifths in each layer with a ReLU; after eight of them little is
    left for the first steps.

    References
    ----------
    Glorot and Bengio, "Understanding the Difficulty of Training Deep Feedforward Neural Networks", 2010.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
