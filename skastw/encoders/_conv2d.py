"""What the two-dimensional convolutional encoders share: masks, batch norm, blocks.

Maps have shape (B, C, T, F). Whatever lies beyond a clip is zeroed after each layer, as the zeros at its own end
would have it, so padding changes nothing; a batch without padding has no mask and pays nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.batching import is_padded, length_mask

__all__ = ["BatchNorm", "ConvNormAct", "apply_mask", "as_map", "halved", "time_mask"]


def as_map(frames: Tensor) -> Tensor:
    """Return ``frames`` (B, T, F) as a map (B, 1, T, F)."""
    return frames[:, None]


def halved(lengths: Tensor) -> Tensor:
    """Return ``lengths`` after a stride of two."""
    return (lengths + 1) // 2


def time_mask(x: Tensor, lengths: Tensor) -> Tensor | None:
    """Return the mask (B, 1, T, 1...) of ``x`` (B, C, T, ...) of some ``lengths``, or None where nothing is padded."""
    if not is_padded(x.transpose(1, 2), lengths):
        return None
    mask = length_mask(lengths, x.shape[2], x.device)
    return mask.view(len(lengths), 1, -1, *[1] * (x.ndim - 3)).to(x.dtype)


def apply_mask(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return ``x``, zero where ``mask`` is."""
    return x if mask is None else x * mask


class BatchNorm(nn.BatchNorm2d):
    """Batch norm of sequences (B, C, T) or maps (B, C, T, F) whose statistics are those of the real frames.

    References
    ----------
    Ioffe and Szegedy, "Batch Normalization", 2015.
    """

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        pass

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: A002
        """Normalise; a single value a channel, which has no spread, is taken as in evaluation."""
        values = input.numel() // input.shape[1]
        if not self.training or values == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if mask is None:
            return super().forward(input)
        return self._masked(input, mask)

    def _masked(self, x: Tensor, mask: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        dims = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        full = x.float() if x.dtype == torch.bfloat16 else x
        mask = mask.to(full.dtype)
        count = mask.sum() * x[0, 0, 0].numel()
        mean = (full * mask).sum(dim=dims) / count
        centred = full - mean.view(shape)
        variance = (centred.square() * mask).sum(dim=dims) / count
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)
        scale = (self.weight * (variance + self.eps).rsqrt()).view(shape)
        return (centred * scale + self.bias.view(shape)).to(x.dtype)


class ConvNormAct(nn.Module):
    """Convolution from ``n_in`` to ``n_out`` channels by ``kernel`` and ``stride``, batch norm, ReLU, mask."""

    def __init__(self, n_in: int, n_out: int, *, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = BatchNorm(n_out)
        self.stride = stride

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return the map, channels last, as convolutions on a CPU like it; ``mask`` is that of the output."""
        x = self._convolve(x).contiguous(memory_format=torch.channels_last)
        return apply_mask(F.relu(self.norm(x, mask)), mask)

    def _convolve(self, x: Tensor) -> Tensor:
        bins = x.shape[3]
        if self.stride == 1 or bins > 2:
            return self.conv(x)
        # where a single bin comes out, oneDNN's strided bfloat16 convolution leaves values unset; let two, and take one
        return self.conv(F.pad(x, (0, 3 - bins)))[..., :1]
