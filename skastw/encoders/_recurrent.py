"""Recurrent layers for padded batches."""

import functools
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from skastw.core.batching import is_padded
from skastw.core.functional import cast_once

#: Kinds of recurrent layers by name.
CELLS: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(nn.Module):
    """Recurrent layers over (B, T, C); the backward direction starts at the end of each clip.

    Parameters
    ----------
    cell : str
        One of :data:`CELLS`.
    n_inputs, hidden, num_layers : int
        Width of the input, width of the state of one direction, and number of layers.
    bidirectional : bool
        Whether the layers also run from the end to the start.
    dropout : float
        Dropout between the layers.

    Attributes
    ----------
    n_outputs : int
        Width of the output.
    """

    def __init__(
        self, cell: str, n_inputs: int, hidden: int, num_layers: int, *, bidirectional: bool, dropout: float
    ) -> None:
        super().__init__()
        self.layers = CELLS[cell](
            n_inputs,
            hidden,
            num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.bidirectional = bidirectional
        self.n_outputs = hidden * (1 + bidirectional)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the states (B, T, n_outputs)."""
        # the forward direction reads padding only after the clip
        if not self.bidirectional or not is_padded(x, lengths):
            return self._states(x)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self._states(packed), batch_first=True, total_length=x.shape[1])[0]

    def _states(self, x: Any) -> Any:
        """Return the states of a tensor or packed sequence in the same form."""
        device = (x.data if isinstance(x, PackedSequence) else x).device.type
        if device != "cpu" or not torch.is_autocast_enabled(device):
            return self.layers(x)[0]
        if isinstance(self.layers, nn.LSTM) and not _lstm_takes_bfloat16():
            with torch.autocast(device, enabled=False):
                return self.layers(x.float())[0]

        # all time steps use the same cast of the weights
        weights = {name: cast_once(weight) for name, weight in self.layers.named_parameters()}
        return functional_call(self.layers, weights, (x,))[0]


@functools.cache
def _lstm_takes_bfloat16() -> bool:
    """Return whether oneDNN has an LSTM in bfloat16 for this processor; if not, torch fails under autocast."""
    layer = nn.LSTM(1, 1, device="meta").to_empty(device="cpu")  # draws no random numbers
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            layer(torch.zeros(1, 1, 1))
    except RuntimeError:
        return False
    return True
