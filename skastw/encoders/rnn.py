"""A recurrent network over frames."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from torch import Tensor

from skastw.core.sklearn_private import Interval, StrOptions
from skastw.encoders._base import Encoder, EncoderModule
from skastw.encoders._recurrent import CELLS, Recurrent

__all__ = ["RNNEncoder"]


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
    cell : {"rnn", "gru", "lstm"}, default="rnn"
        Kind of the layers: plain recurrence with tanh, gated recurrent units or long short-term memory.
    hidden : int, default=256
        Width of the state of one direction.
    num_layers : int, default=1
        Number of recurrent layers L.
    bidirectional : bool, default=False
        Whether the layers also run from the end to the start.
    dropout : float, default=0.0
        Dropout between the layers; without effect on a single layer.

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
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "cell": [StrOptions(set(CELLS))],
        "hidden": [Interval(Integral, 1, 8192, closed="both")],
        "num_layers": [Interval(Integral, 1, 32, closed="both")],
        "bidirectional": ["boolean"],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        *,
        cell: str = "rnn",
        hidden: int = 256,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        self.cell = cell
        self.hidden = hidden
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout

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
