"""Operations whose stock kernels waste a CPU's time or share state between threads, written out of others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from skastw.core.generators import generator_on

__all__ = ["attention", "cast_once", "dropout"]

#: Scores of one layer that may be kept for the way back; more are recomputed by the stock kernel.
MAX_SCORES = 2**26


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) V, fast in training too.

    The stock fused kernel never stores the scores. That is what a long clip needs, and what makes the way
    back on a CPU several times slower than matrix products on stored scores.

    Parameters
    ----------
    query, key, value : Tensor of shape (B, heads, T, d)
    mask : Tensor of shape (B, T), bool, optional
        True where the key is real; each item needs a real key. Without padding, leave it out.

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
    stored = query.device.type == "cpu" and query.requires_grad and batch * heads * time**2 <= MAX_SCORES
    if not stored:
        keys = None if mask is None else mask[:, None, None, :]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=keys)
    query, key, value = (x.reshape(batch * heads, time, size) for x in (query, key, value))
    if mask is None:
        offset, beta = query.new_zeros(()), 0.0
    else:
        hidden = torch.zeros(batch, 1, 1, time, dtype=query.dtype).masked_fill(~mask[:, None, None, :], -torch.inf)
        offset, beta = hidden.expand(batch, heads, 1, time).reshape(batch * heads, 1, time), 1.0
    scores = torch.baddbmm(offset, query, key.mT, beta=beta, alpha=size**-0.5)
    return torch.bmm(scores.softmax(dim=-1), value).view(batch, heads, time, size)


def cast_once(weight: Tensor) -> Tensor:
    """Return a weight that a forward pass uses several times, in the number format of autocast if that is on.

    Autocast casts such a weight once, unless another thread that leaves autocast empties the cache of casts meanwhile.
    The gradients would then be added up in another order.

    Parameters
    ----------
    weight : Tensor

    Returns
    -------
    Tensor of the shape of weight

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
    """Return x with a share ``p`` of its values dropped and the others scaled by ``1 / (1 - p)``.

    On a CPU the stock dropout draws one Bernoulli number after another, which takes an eighth of a training
    step. Here a value is dropped by one random byte, so its probability is ``p`` rounded to 1/256.

    In training by an estimator the draws come from the generator of that run, else from torch's global one.

    Parameters
    ----------
    x : Tensor
    p : float
        Probability that a value is dropped, in [0, 1).
    training : bool
        False returns x.

    Returns
    -------
    Tensor of the shape of x

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
    kept = torch.ge(draws, threshold, out=torch.empty(x.shape, dtype=x.dtype))
    return x * kept.mul_(256 / (256 - threshold))
