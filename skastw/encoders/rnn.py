"""A recurrent network over frames, and recurrent layers for padded batches."""

import functools
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from skastw.core.batching import is_padded
from skastw.core.functional import cast_once
from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.encoders._base import EncoderModule
from skastw.encoders._pretrained import PretrainedEncoder
from skastw.errors import WeightsError
from skastw.storage.checkpoints import Checkpoint

#: Kinds of recurrent layers by name.
CELLS: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
#: Kinds of layers by the number of rows of their weights for each value of the state.
_BY_ROWS = {1: "rnn", 3: "gru", 4: "lstm"}
#: Name of a weight of torch's recurrent layers, after the name of the layers.
_WEIGHT = re.compile(r"(.*\.|)((?:weight|bias)_(?:ih|hh)_l\d+(?:_reverse)?)")


@parameters
class RNNEncoder(PretrainedEncoder):
    """Recurrent layers over the frames.

    ==========  ==========================================================  ============================
    layer       operation                                                   output
    ==========  ==========================================================  ============================
    layer x L   recurrent layer in one direction or in both                 (T, hidden) or (T, 2 hidden)
    dense       Linear, ReLU; only with ``embedding``                       (T, embedding)
    ==========  ==========================================================  ============================

    The output is the state at each frame, or the embedding of this state. Padding a clip does not change its outputs.
    With the defaults and 80 features, the encoder has 0.09 million parameters.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    ``weights`` may be a file of recurrent layers of torch, with or without a linear layer named ``linear`` behind them.
    Kind, number and width of the layers then come from the file. An example is the voice encoder of Resemblyzer,
    ``pretrained.pt``, on the power of 40 mel bands at 16 kHz. Its embedding of a part of a clip is that of the last
    frame, ``embedding=256`` with ``pooling="last"``, scaled to length 1.

    References
    ----------
    Elman, "Finding Structure in Time", 1990; Hochreiter and Schmidhuber, "Long Short-Term Memory", 1997; Cho et
    al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation", 2014
    (gated recurrent units); Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018 (the voice
    encoder). The default sizes are taken from Ludwig's audio encoder of this name.

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
    embedding: int | None = param(
        default=None,
        valid=[integers(1, 8192), None],
        doc="Width of a dense layer with ReLU after the recurrent layers; None for no such layer.",
    )

    def defined_by(self, checkpoint: Checkpoint, sample_rate: int) -> dict[str, Any]:
        """Return the sizes of the layers of a checkpoint; see :class:`~skastw.encoders.PretrainedEncoder`."""
        found = {match[2]: spec.shape for name, spec in checkpoint.specs.items() if (match := _WEIGHT.fullmatch(name))}
        *rows, hidden = found.get("weight_hh_l0") or [0]
        if rows not in [[number * hidden] for number in _BY_ROWS] or hidden == 0:
            raise WeightsError(
                f"The weights {checkpoint.name!r} contain no recurrent layer of torch, expected 'weight_hh_l0'."
            )
        return {
            "cell": _BY_ROWS[rows[0] // hidden],
            "hidden": hidden,
            "num_layers": sum(bool(re.fullmatch(r"weight_hh_l\d+", name)) for name in found),
            "bidirectional": "weight_hh_l0_reverse" in found,
        }

    def converted(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors by our names; see :class:`~skastw.encoders.PretrainedEncoder`.

        Left out are a linear layer, if ``embedding`` is None, and the scale of Resemblyzer's loss.
        """
        left_out = (
            "similarity_weight",
            "similarity_bias",
            *([] if self.embedding else ["linear.weight", "linear.bias"]),
        )
        return {
            _WEIGHT.sub(r"recurrent.layers.\2", name).replace("linear.", "embed."): tensor
            for name, tensor in tensors.items()
            if name not in left_out
        }

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
        self.n_outputs = params.embedding or self.recurrent.n_outputs
        self.embed = nn.Linear(self.recurrent.n_outputs, params.embedding) if params.embedding else None

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        states = self.recurrent(frames, lengths)
        return (states if self.embed is None else self.embed(states).relu()), lengths


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
