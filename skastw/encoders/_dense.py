"""Base classes of the encoders that end with two dense layers for each frame."""

from torch import Tensor, nn

from skastw.core.functional import Dropout
from skastw.core.parameters import integers, param, parameters, reals, widths
from skastw.encoders._base import Encoder, EncoderModule, draw_xavier


@parameters
class DenseEncoder(Encoder):
    """Base of encoders with convolutions over time and two dense layers.

    Parameters
    ----------
    {parameters}
    """

    channels: int | list[int] = param(
        default=256,
        valid=[widths(8192)],
        doc="Number of filters of each convolution, or a list with the number of each.",
    )
    hidden: int = param(default=512, valid=[integers(1, 8192)], doc="Width of the first dense layer.")
    embedding: int = param(
        default=256,
        valid=[integers(1, 8192)],
        doc="Width of the second dense layer, and of the output.",
    )
    dropout: float = param(default=0.0, valid=[reals(0, 1, closed="left")], doc="Dropout after each layer.")


class DenseModule(EncoderModule):
    """Base of the modules of such encoders."""

    def add_dense(self, n_inputs: int, params: DenseEncoder) -> None:
        """Add the dense layers, and draw all weights; subclasses add their convolutions before."""
        self.dense1 = nn.Linear(n_inputs, params.hidden)
        self.dense2 = nn.Linear(params.hidden, params.embedding)
        self.drop = Dropout(params.dropout)
        self.n_outputs = params.embedding
        draw_xavier(self)

    def run_dense(self, x: Tensor) -> Tensor:
        """Return the output (B, T, embedding) of the dense layers for frames (B, T, n_inputs)."""
        for layer in (self.dense1, self.dense2):
            x = self.drop(layer(x).relu())
        return x
