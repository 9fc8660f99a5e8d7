"""Replacements for operations that torch exports to ONNX incorrectly, or only for a fixed length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

#: For each recurrent layer of torch: the operator of ONNX, the order of its gates in terms of torch's gates, and other
#: attributes.
_RECURRENT: dict[Callable[..., Any], tuple[str, tuple[int, ...], dict[str, Any]]] = {
    torch.rnn_tanh: ("RNN", (0,), {}),
    torch.gru: ("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    torch.lstm: ("LSTM", (0, 3, 1, 2), {}),
}


class Operators(TorchFunctionMode):
    """Context in which torch exports operations correctly and for inputs of any length.

    ================  =========================================================================================
    operation         behaviour of the exporter, and replacement
    ================  =========================================================================================
    recurrent layers  unrolled for the length of the example; replaced by the recurrent operators of ONNX
    ``max_pool1d``    exported for a fixed length; replaced by ``max_pool2d``
    ``avg_pool2d``    ``divisor_override`` is ignored; replaced by padding with zeros and a factor
    ``fft.rfft``      exported as an operator that is slow, inexact unless the length is a power of two, and missing in
                      some runtimes; replaced by a product with cosines and sines
    ================  =========================================================================================
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in _RECURRENT:
            return _recurrent(function, *args, **kwargs)
        if function is F.max_pool1d:
            return _max_pool1d(*args, **kwargs)
        if function is F.avg_pool2d and kwargs.get("divisor_override") is not None:
            return _sum_pool2d(*args, **kwargs)
        if function is torch.fft.rfft:
            return _rfft(*args, **kwargs)
        return function(*args, **kwargs)


def _recurrent(
    function: Callable[..., Any],
    x: Tensor,
    start: Any,
    weights: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    """Return the outputs and the final states of recurrent layers whose initial states are zero."""
    name, gates, attributes = _RECURRENT[function]
    directions, n_starts = 1 + bidirectional, 2 if function is torch.lstm else 1
    per_direction = 4 if has_biases else 2
    if len(weights) != num_layers * directions * per_direction:
        raise NotImplementedError(f"{name} with a projection")

    x = x.transpose(0, 1) if batch_first else x
    time, batch, _ = x.shape
    hidden = weights[1].shape[1]
    attributes = {**attributes, "hidden_size": hidden, "direction": "bidirectional" if bidirectional else "forward"}
    ends: list[list[Tensor]] = [[] for _ in range(n_starts)]

    for layer in range(num_layers):
        chosen = slice(layer * directions, (layer + 1) * directions)
        into, across, *biases = (
            torch.cat([_reordered(weight, gates)[None] for weight in weights[kind::per_direction][chosen]])
            for kind in range(per_direction)
        )

        inputs = [x, into, across, *([torch.cat(biases, dim=1)] if biases else [])]
        states, *last = torch.onnx.ops.symbolic_multi_out(
            name,
            inputs,
            attributes,
            dtypes=[x.dtype] * (1 + n_starts),
            shapes=[(time, directions, batch, hidden), *[(directions, batch, hidden)] * n_starts],
        )

        x = states.transpose(1, 2).flatten(2)
        for end, state in zip(ends, last, strict=True):
            end.append(state)
    return x.transpose(0, 1) if batch_first else x, *(torch.cat(end) for end in ends)


def _reordered(weight: Tensor, gates: tuple[int, ...]) -> Tensor:
    """Return a weight or bias with its gates in the order of ``gates``."""
    size = len(weight) // len(gates)
    return torch.cat([weight[gate * size : (gate + 1) * size] for gate in gates])


def _rfft(x: Tensor, n: int | None = None) -> Tensor:
    size, n_fft = x.shape[-1], n or x.shape[-1]
    if n_fft < size:
        raise NotImplementedError("fft.rfft of a part of the values")
    turns = np.outer(np.arange(size), np.arange(n_fft // 2 + 1)) % n_fft / n_fft
    cosines, sines = np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)
    return torch.complex(*(x @ torch.from_numpy(part.astype(np.float32)) for part in (cosines, sines)))


def _max_pool1d(
    x: Tensor,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if return_indices:
        raise NotImplementedError("max_pool1d with return_indices=True")
    sizes = (1, kernel_size), (1, stride or kernel_size), (0, padding), (1, dilation)
    return F.max_pool2d(x.unsqueeze(-2), *sizes, ceil_mode=ceil_mode).squeeze(-2)


def _sum_pool2d(
    x: Tensor,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int = 1,
) -> Tensor:
    """Return the sums in windows of ``kernel_size`` x ``kernel_size``, divided by ``divisor_override``."""
    if padding:
        raise NotImplementedError("avg_pool2d with padding and divisor_override")
    stride = stride or kernel_size
    for axis in (2, 3) if ceil_mode else ():  # pad, so that all windows that start inside are complete
        zeros = torch.zeros_like(x.narrow(axis, 0, 1))
        x = torch.cat([x, *[zeros] * (stride - 1)], dim=axis)  # onnxruntime 1.21 to 1.23 ignore a Pad before a pooling
    return F.avg_pool2d(x, kernel_size, stride) * (kernel_size**2 / divisor_override)
