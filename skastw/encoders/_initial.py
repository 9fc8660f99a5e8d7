"""Initial weights of encoders whose papers do not use torch's default."""

from torch import nn


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
