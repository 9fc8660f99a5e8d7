"""A recurrent network over frames."""

from torch import Tensor

from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._recurrent import CELLS, Recurrent


@parameters
class RNNEncoder(Encoder):
    """Recurrent layers over the frames.

    ==========  ==========================================================  ============================
    layer       operation                                                   output
    ==========  ==========================================================  ============================
    layer x L   recurrent layer in one direction or in both                 (T, hidden) or (T, 2 hidden)
    ==========  ==========================================================  ============================

    The output is the state at each frame. Padding a clip does not change its outputs. With the defaults and 80
    features, the encoder has 0.09 million parameters.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Elman, "Finding Structure in Time", 1990; Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; Cho et
    al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation", 2014
    (gated recurrent units). The default sizes are taken from Ludwig's audio encoder of this name.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import RNNEncoder
    >>> module = RNNEncoder(cell="gru", hidden=16, bidirectional=True).build(n_features=80, max_frames=100)
    >>> frames, lengths = module(torch.zeros(2, 9, 80), torch.tensor([9, 4]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 9, 32), [9, 4])
    """

    name = "rnn"

    cell: str = param(
        default="rnn",
        valid=[StrOptions(set(CELLS))],
        doc="Kind of the layers: plain recurrence with tanh, gated recurrent units or long short-term memory.",
    )
    hidden: int = param(default=256, valid=[integers(1, 8192)], doc="Width of the state of one direction.")
    num_layers: int = param(default=1, valid=[integers(1, 32)], doc="Number of recurrent layers L.")
    bidirectional: bool = param(
        default=False, valid=["boolean"], doc="Whether the layers also run from the end to the start."
    )
    dropout: float = param(
        default=0.0,
        valid=[reals(0, 1, closed="left")],
        doc="Dropout between the layers; without effect on a single layer.",
    )

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _RNNModule(self, n_features)


class _RNNModule(EncoderModule):
    def __init__(self, params: RNNEncoder, n_features: int) -> None:
        super().__init__()
        self.recurrent = Recurrent(
            params.cell,
            n_features,
            params.hidden,
            params.num_layers,
            bidirectional=params.bidirectional,
            dropout=params.dropout,
        )
        self.n_outputs = self.recurrent.n_outputs

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.recurrent(frames, lengths), lengths
