"""Replacements for operations of torch that are slow on a CPU or share state between threads."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.core.generators import generator_on

__all__ = ["Dropout", "attention", "cast_once", "dropout", "keeping_frames", "keeps_frames", "skips"]

#: Largest number of attention scores of a layer that are stored for the backward pass.
MAX_SCORES = 2**26

_keeping = ContextVar("_keeping", default=False)


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the scaled dot-product attention, softmax(Q K^T / sqrt(d)) V.

    Torch's fused kernel does not store the scores but computes them again in the backward pass. This saves memory for
    long clips, but on a CPU the backward pass takes several times as long as with stored scores. Therefore the scores
    are stored in training on a CPU, up to :data:`MAX_SCORES`.

    Parameters
    ----------
    query, key, value : Tensor of shape (B, heads, T, d)
    mask : Tensor of shape (B, T), bool, optional
        True for real keys, of which each item must have at least one. By default all keys are real.

    Returns
    -------
    Tensor of shape (B, heads, T, d)

    Examples
    --------
    >>> import torch
    >>> from skastw.core.functional import attention
    >>> x = torch.randn(2, 4, 10, 16)
    >>> written_out = attention(x.requires_grad_(), x, x)
    >>> torch.allclose(written_out, torch.nn.functional.scaled_dot_product_attention(x, x, x), atol=1e-5)
    True
    """
    batch, heads, time, size = query.shape
    keys = None if mask is None else mask[:, None, None, :]
    if query.device.type != "cpu" or not query.requires_grad or batch * heads * time**2 > MAX_SCORES:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keys)

    query, key, value = (x.reshape(batch * heads, time, size) for x in (query, key, value))
    offset, beta = query.new_zeros(()), 0.0
    if keys is not None:
        hidden = torch.zeros(batch, 1, 1, time, dtype=query.dtype).masked_fill(~keys, -torch.inf)
        offset, beta = hidden.expand(batch, heads, 1, time).reshape(batch * heads, 1, time), 1.0

    scores = torch.baddbmm(offset, query, key.mT, beta=beta, alpha=size**-0.5)
    return torch.bmm(scores.softmax(dim=-1), value).view(batch, heads, time, size)


def cast_once(weight: Tensor) -> Tensor:
    """Cast a weight to the number format of autocast, for a forward pass that uses it several times.

    Autocast itself caches the cast of such a weight. But if another thread leaves autocast meanwhile, the cache is
    cleared, the weight is cast again, and its gradients are added in another order.

    Parameters
    ----------
    weight : Tensor

    Returns
    -------
    Tensor of the shape of ``weight``
        ``weight`` itself if autocast is off or the weight is not float32.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.functional import cast_once
    >>> with torch.autocast("cpu", dtype=torch.bfloat16):
    ...     cast_once(torch.ones(3)).dtype
    torch.bfloat16
    """
    device = weight.device.type
    if weight.dtype != torch.float32 or not torch.is_autocast_enabled(device):
        return weight
    return weight.to(torch.get_autocast_dtype(device))


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Set values of ``x`` to zero with probability ``p`` and scale the others by ``1 / (1 - p)``.

    On a CPU, torch's dropout draws one Bernoulli number for each value, which takes an eighth of a training step. Here
    one random byte decides for each value, so the probability is ``p`` rounded to 1/256.

    While an estimator trains, the random numbers come from the generator of the training run, otherwise from torch's
    global generator.

    Parameters
    ----------
    x : Tensor
    p : float
        Probability in [0, 1).
    training : bool
        If False, ``x`` is returned unchanged.

    Returns
    -------
    Tensor of the shape of ``x``

    Examples
    --------
    >>> import torch
    >>> from skastw.core.functional import dropout
    >>> dropout(torch.ones(10000), 0.25, training=True).unique().tolist()
    [0.0, 1.3333333730697632]
    """
    if not training or p == 0:
        return x

    generator = generator_on(x.device)
    if x.device.type != "cpu" or x.dtype == torch.float16:
        if generator is None:
            return F.dropout(x, p)
        return x * torch.empty_like(x).bernoulli_(1 - p, generator=generator).div_(1 - p)

    threshold = min(round(p * 256), 255)
    words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),), generator=generator)
    draws = words.view(torch.uint8)[: x.numel()].view(x.shape)
    factors = torch.ge(draws, threshold, out=torch.empty(x.shape, dtype=x.dtype))
    return x * factors.mul_(256 / (256 - threshold))


def skips(p: float, training: bool) -> bool:
    """Return whether to skip a part of a network in this training step, drawn with probability ``p``.

    The random number comes from the generator of :func:`dropout` on the CPU, so that no step waits for a device.

    Examples
    --------
    >>> from skastw.core.functional import skips
    >>> skips(0.5, training=False), skips(0.0, training=True)
    (False, False)
    """
    return training and p > 0 and float(torch.rand((), generator=generator_on(torch.device("cpu")))) < p


@contextmanager
def keeping_frames() -> Iterator[None]:
    """Make encoders keep all frames in training steps, for a loss that compares their outputs with their inputs.

    Examples
    --------
    >>> from skastw.core.functional import keeping_frames, keeps_frames
    >>> with keeping_frames():
    ...     keeps_frames()
    True
    """
    token = _keeping.set(True)
    try:
        yield
    finally:
        _keeping.reset(token)


def keeps_frames() -> bool:
    """Return whether a training step must not leave out frames; see :func:`keeping_frames`."""
    return _keeping.get()


class Dropout(nn.Module):
    """Layer that applies :func:`dropout` in training.

    Parameters
    ----------
    p : float
        Probability in [0, 1).

    Examples
    --------
    >>> import torch
    >>> from skastw.core.functional import Dropout
    >>> Dropout(0.5).eval()(torch.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with dropped values."""
        return dropout(x, self.p, self.training)


class FeatureDropout(Dropout):
    """Layer that drops values of frames (B, T, C) in training, the same ones in all frames of a clip.

    Parameters
    ----------
    p : float
        Probability in [0, 1).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` with dropped values."""
        return x * super().forward(torch.ones_like(x[:, :1]))
