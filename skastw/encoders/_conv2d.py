"""Layers of the encoders with two-dimensional convolutions: masks, batch norm, convolution.

Maps have shape (B, C, T, F). After each layer, the values beyond the end of a clip are set to zero, so the next
convolution sees the same zeros as at the end of an unpadded clip. A batch without padding needs no mask.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.batching import is_padded, length_mask


def shortened(lengths: Tensor, step: int) -> Tensor:
    """Return ``lengths`` after a layer of stride ``step``."""
    return (lengths + step - 1) // step


@dataclass(frozen=True)
class Mask:
    """Mask of the real frames in a padded batch.

    Attributes
    ----------
    values : Tensor of shape (B, 1, T, 1...)
        1 for real frames, 0 for padding.
    rows : Tensor of shape (n_real,), int64
        Positions of the real frames among all B x T frames.
    """

    values: Tensor
    rows: Tensor


def time_mask(x: Tensor, lengths: Tensor) -> Mask | None:
    """Return the mask of the first ``lengths`` frames of ``x`` (B, C, T, ...), or None if nothing is padded."""
    if not is_padded(x.transpose(1, 2), lengths):
        return None
    real = length_mask(lengths, x.shape[2])
    values = real.view(len(lengths), 1, -1, *[1] * (x.ndim - 3)).to(x.dtype)
    rows = real.flatten().nonzero()[:, 0]
    return Mask(values.to(x.device, non_blocking=True), rows.to(x.device, non_blocking=True))


def apply_mask(x: Tensor, mask: Mask | None) -> Tensor:
    """Return ``x`` with zeros in the padding; ``mask`` is None without padding."""
    return x if mask is None else x * mask.values


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of sequences (B, C, T) or maps (B, C, T, F) by the statistics of the real frames.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", 2015.
    """

    running_mean: Tensor
    running_var: Tensor

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        pass

    def forward(self, input: Tensor, mask: Mask | None = None) -> Tensor:  # noqa: A002
        """Normalise each channel; with one value per channel, which has no variance, as in evaluation."""
        values = input.numel() // input.shape[1] if mask is None else len(mask.rows) * input[0, 0, 0].numel()
        if not self.training or values == 1:
            statistics = self.running_mean, self.running_var
            return apply_mask(F.batch_norm(input, *statistics, self.weight, self.bias, eps=self.eps), mask)
        if mask is None:
            return super().forward(input)

        # gather and normalise the real frames, and scatter them into a tensor of zeros
        by_frame = input.movedim(1, -1)  # (B, T, ..., C)
        frames = by_frame.flatten(0, 1).index_select(0, mask.rows)
        normalized = super().forward(frames.flatten(0, -2)).view_as(frames)
        padded = torch.zeros(by_frame.shape, dtype=input.dtype, device=input.device).flatten(0, 1)
        return padded.index_copy(0, mask.rows, normalized.to(input.dtype)).view(by_frame.shape).movedim(-1, 1)


class _FusedWeights(NamedTuple):
    """Weights and offsets of a convolution fused with batch norm."""

    learned: tuple[Tensor, ...]  #: the tensors that they were computed from; while these live, their ids are unique
    state: list[tuple[int, int, int]]  #: changes when one of these tensors is replaced, moved or written to
    weight: Tensor
    offsets: Tensor


class ConvNorm(nn.Module):
    """Convolution from ``n_in`` to ``n_out`` channels with ``kernel`` and ``stride``, then batch norm.

    In evaluation, batch norm is one factor and one offset for each channel, which are fused with the convolution. In
    inference mode the fused weights are cached until a weight changes, because fusing them takes a tenth of the time
    for a short clip.
    """

    def __init__(self, n_in: int, n_out: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = BatchNorm(n_out)
        self._fused: _FusedWeights | None = None

    def forward(self, x: Tensor, mask: Mask | None) -> Tensor:
        """Return the map, with the memory format that is fast on a CPU; ``mask`` belongs to the output."""
        if self.training:
            x = self._convolve(x, self.conv.weight, None)
            return self.norm(x.contiguous(memory_format=torch.channels_last), mask)
        x = self._convolve(x, *self._fused_weights())
        return apply_mask(x.contiguous(memory_format=torch.channels_last), mask)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fused": None}

    def _fused_weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights and offsets of the fused convolution, from the cache if possible."""
        learned = self.conv.weight, self.norm.weight, self.norm.bias, self.norm.running_mean, self.norm.running_var
        if not torch.is_inference_mode_enabled() or any(tensor.is_inference() for tensor in learned):
            return self._fuse()
        state = [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in learned]
        if self._fused is None or self._fused.state != state:
            self._fused = _FusedWeights(learned, state, *self._fuse())
        return self._fused.weight, self._fused.offsets

    def _fuse(self) -> tuple[Tensor, Tensor]:
        norm = self.norm
        factors = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = self.conv.weight * factors.view(-1, 1, 1, 1)
        return weight.contiguous(memory_format=torch.channels_last), norm.bias - norm.running_mean * factors

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        bins, padding = x.shape[3], self.conv.padding
        if self.conv.stride == (1, 1) or bins > 2:
            return F.conv2d(x, weight, bias, self.conv.stride, padding)
        # oneDNN's strided bfloat16 convolution leaves values unset if the output has one bin: compute two, return one
        return F.conv2d(F.pad(x, (0, 3 - bins)), weight, bias, self.conv.stride, padding)[..., :1]


class ConvNormAct(ConvNorm):
    """Convolution, batch norm and ReLU; see :class:`ConvNorm`."""

    def forward(self, x: Tensor, mask: Mask | None) -> Tensor:
        """Return the map; see :class:`ConvNorm`."""
        return F.relu(super().forward(x, mask), inplace=True)
