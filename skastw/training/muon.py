"""Muon, an optimiser that orthogonalises the momentum of matrix-shaped weights."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from skastw.core.device import has_native_bfloat16

#: Coefficients of three quintic steps, each optimal for the singular values that the step before returns. Together
#: they map singular values in [0.01, 1] to [0.73, 1.27]. With the same polynomial in each step, this takes five steps.
POLAR_EXPRESS = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))


class Muon(torch.optim.Optimizer):
    """Muon for linear and convolution weights.

    A weight of shape (out, in, ...) is updated as a matrix of shape (out, in * ...). The update is the Nesterov
    momentum, replaced by the nearest semi-orthogonal matrix (approximated by a few Newton-Schulz steps) and scaled by
    ``sqrt(max(1, rows / columns))``. Weights of the same matrix shape are stacked and orthogonalised together.

    Parameters
    ----------
    params : iterable of Tensor
        Weights with at least two dimensions.
    lr : float, default=0.01
        Learning rate.
    weight_decay : float, default=0.01
        Decoupled weight decay.
    momentum : float, default=0.95
        Decay of the moving average of the gradients.

    Raises
    ------
    ValueError
        If a weight has fewer than two dimensions.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; Amsel et al., "The Polar
    Express: Optimal Matrix Sign Methods and Their Application to the Muon Algorithm", 2025.

    Examples
    --------
    >>> import torch
    >>> from skastw.training import Muon
    >>> weight = torch.nn.Parameter(torch.eye(3))
    >>> optimizer = Muon([weight], lr=0.1)
    >>> weight.square().sum().backward()
    >>> _ = optimizer.step()
    >>> bool(weight.trace() < 3)
    True
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float = 0.01,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.ndim < 2:
                    raise ValueError(f"Got a weight of shape {tuple(weight.shape)}, expected at least two dimensions.")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()

        for group in self.param_groups:
            for weights in _by_matrix_shape(group["params"]).values():
                self._update(weights, group)
        return loss

    def _update(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        """Update weights that have the same matrix shape."""
        rows, columns = weights[0].flatten(1).shape
        directions = torch.empty(len(weights), rows, columns, dtype=_dtype(weights[0]), device=weights[0].device)
        for weight, direction in zip(weights, directions, strict=True):
            assert weight.grad is not None
            state = self.state[weight]
            momentum = state.setdefault("momentum_buffer", torch.zeros_like(weight.grad))
            momentum.lerp_(weight.grad, 1 - group["momentum"])
            direction.copy_(weight.grad.lerp(momentum, group["momentum"]).flatten(1))

        scale = group["lr"] * math.sqrt(max(1, rows / columns))
        for weight, update in zip(weights, orthogonalize(directions), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(update.view_as(weight), alpha=scale)


def _by_matrix_shape(weights: Iterable[Tensor]) -> dict[tuple[int, int], list[Tensor]]:
    groups = defaultdict(list)
    for weight in weights:
        if weight.grad is not None:
            groups[weight.shape[0], weight[0].numel()].append(weight)
    return groups


def orthogonalize(matrices: Tensor) -> Tensor:
    """Map the singular values of matrices close to 1, and keep their singular vectors.

    Parameters
    ----------
    matrices : Tensor of shape (B, rows, columns)

    Returns
    -------
    Tensor of shape (B, rows, columns)
        With the norm ``(sum of s^4)^(1/4)`` of the singular values s of a matrix: singular values of at least 0.01 of
        the norm are mapped to [0.73, 1.27]. Smaller ones are divided by the norm and grow by a factor of up to 78.

    Notes
    -----
    Each step is ``X <- a X + b G X + c G^2 X`` with the Gram matrix ``G = X X^T``. For a tall X, it is
    ``X <- a X + b X G + c X G^2`` with ``G = X^T X``. X is first divided by the norm above, which is the square root of
    the Frobenius norm of G. It is at least the largest singular value, as Newton-Schulz requires. If the singular
    values are similar, it is several times less than the Frobenius norm of X, which saves a step. If one side of X is
    much longer than the other, the first two steps are computed on G, whose products cost less, and applied to X
    together. For more than two steps, rounding errors would grow.
    """
    rows, columns = matrices.shape[1:]
    x, wide = matrices, columns >= rows
    first, second, third = POLAR_EXPRESS

    gram = _gram(x, wide)
    size = torch.linalg.vector_norm(gram, dim=(1, 2), keepdim=True).clamp(min=1e-30)
    gram = gram / size
    one = _quadratic(gram, first)
    if max(rows, columns) >= 2 * min(rows, columns):
        x = _apply(_quadratic(one @ gram @ one, second) @ one / size.sqrt(), x, wide)
    else:
        x = _apply(one / size.sqrt(), x, wide)
        x = _apply(_quadratic(_gram(x, wide), second), x, wide)
    return _apply(_quadratic(_gram(x, wide), third), x, wide)


def _gram(x: Tensor, wide: bool) -> Tensor:
    """Return the Gram matrices: of the rows of wide matrices, or of the columns of tall ones."""
    return x @ x.mT if wide else x.mT @ x


def _apply(polynomial: Tensor, x: Tensor, wide: bool) -> Tensor:
    return polynomial @ x if wide else x @ polynomial


def _quadratic(gram: Tensor, coefficients: tuple[float, float, float]) -> Tensor:
    """Return ``a I + b G + c G^2``."""
    a, b, c = coefficients
    result = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal(dim1=1, dim2=2).add_(a)
    return result


def _dtype(weight: Tensor) -> torch.dtype:
    """Return the number format in which to orthogonalise: bfloat16 if the hardware has instructions for it."""
    if weight.dtype == torch.float32 and has_native_bfloat16(weight.device):
        return torch.bfloat16
    return weight.dtype
