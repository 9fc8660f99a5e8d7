"""Muon: momentum whose matrix updates are orthogonalised."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from skastw._device import has_native_bfloat16

__all__ = ["Muon", "orthogonalize"]

#: Coefficients of the quintic Newton-Schulz step, chosen by Jordan et al. for a steep slope at zero.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Muon for linear and convolution weights.

    A weight of shape (out, in, ...) is updated as the matrix (out, in * ...): Nesterov momentum, then the
    nearest semi-orthogonal matrix by a few Newton-Schulz steps, scaled by ``sqrt(max(1, rows / columns))``.
    Weights of one matrix shape are stacked and orthogonalised together. For 2-D weights the result is that
    of ``torch.optim.Muon``, which takes no other weights.

    Parameters
    ----------
    params : iterable of Tensor
        Weights with at least two dimensions.
    lr : float, default=0.01
        Learning rate.
    weight_decay : float, default=0.01
        Decoupled weight decay.
    momentum : float, default=0.95
        Decay of the running mean of gradients.
    steps : int, default=5
        Newton-Schulz steps.

    Raises
    ------
    ValueError
        If a weight has fewer than two dimensions.

    References
    ----------
    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

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
        steps: int = 5,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "steps": steps})
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
        """Update weights of one matrix shape together."""
        directions = []
        for weight in weights:
            assert weight.grad is not None
            state = self.state[weight]
            momentum = state.setdefault("momentum_buffer", torch.zeros_like(weight.grad))
            momentum.lerp_(weight.grad, 1 - group["momentum"])
            directions.append(weight.grad.lerp(momentum, group["momentum"]).flatten(1))

        updates = orthogonalize(torch.stack(directions), group["steps"])
        rows, columns = updates.shape[1:]
        scale = group["lr"] * math.sqrt(max(1, rows / columns))
        for weight, update in zip(weights, updates, strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.sub_(update.view_as(weight), alpha=scale)


def _by_matrix_shape(weights: Iterable[Tensor]) -> dict[tuple[int, int], list[Tensor]]:
    groups = defaultdict(list)
    for weight in weights:
        if weight.grad is not None:
            groups[weight.shape[0], weight[0].numel()].append(weight)
    return groups


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Bring the singular values of matrices near 1, keeping their singular vectors.

    Parameters
    ----------
    matrices : Tensor of shape (B, rows, columns)
    steps : int
        Newton-Schulz steps; five bring singular values into about [0.7, 1.2].

    Returns
    -------
    Tensor of shape (B, rows, columns), of the dtype of ``matrices``

    Notes
    -----
    Iterates ``X <- a X + b (X X^T) X + c (X X^T)^2 X`` from a matrix of Frobenius norm 1, in bfloat16 where
    the hardware has it. The shorter side is put first, so that ``X X^T`` is as small as it can be.
    """
    a, b, c = NEWTON_SCHULZ
    dtype = torch.bfloat16 if has_native_bfloat16(matrices.device) else torch.float32
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    if tall:
        x = x.mT
    return x.to(matrices.dtype)
