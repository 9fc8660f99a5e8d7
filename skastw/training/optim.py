"""The optimisers, and the schedule of their learning rates."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skastw.core.compiler import import_compiler
from skastw.core.parameters import param, parameters, reals
from skastw.training.muon import Muon

_MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


@parameters
class OptimizerParams:
    """Parameters of the optimisers and of the schedule of their learning rates."""

    muon_lr: float | None = param(
        default=0.01,
        valid=[reals(0, None, closed="left"), None],
        doc="Peak learning rate of Muon, which updates the weights of linear and convolution layers. With None, AdamW "
        "updates these weights too.",
    )
    adam_lr: float = param(
        default=3e-4,
        valid=[reals(0, None, closed="left")],
        doc="Peak learning rate of AdamW, which updates all other weights.",
    )
    pretrained_lr: float | None = param(
        default=1e-4,
        valid=[reals(0, None, closed="left"), None],
        doc="Peak learning rate of AdamW for the weights that the encoder takes from a checkpoint; see ``weights`` and "
        "``layer_decay`` of the encoder. With None, they are trained like all other weights.",
    )
    weight_decay: float = param(
        default=0.01,
        valid=[reals(0, None, closed="left")],
        doc="Decoupled weight decay of both optimisers. Biases and the weights of norms are not decayed.",
    )
    warmup_ratio: float = param(
        default=0.1,
        valid=[reals(0, 1, closed="left")],
        doc="Share of the training steps in which the learning rates rise linearly to their peak. In the other steps "
        "they fall to zero along a cosine.",
    )


def peak_rates(params: OptimizerParams) -> dict[str, float]:
    """Return the peak learning rate of each kind of optimiser, in the order of :func:`build_optimizers`.

    Parameters
    ----------
    params : OptimizerParams

    Examples
    --------
    >>> from skastw.training.optim import OptimizerParams, peak_rates
    >>> peak_rates(OptimizerParams(muon_lr=None))
    {'adam_lr': 0.0003, 'pretrained_lr': 0.0001}
    """
    rates = {"muon_lr": params.muon_lr, "adam_lr": params.adam_lr, "pretrained_lr": params.pretrained_lr}
    return {name: rate for name, rate in rates.items() if rate is not None}


def matrix_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights that Muon updates: the matrices of all linear and convolution layers of ``model``.

    Examples
    --------
    >>> from torch import nn
    >>> from skastw.training.optim import matrix_weights
    >>> [tuple(w.shape) for w in matrix_weights(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))]
    [(2, 3)]
    """
    weights = [m.weight for m in model.modules() if isinstance(m, _MATRIX_LAYERS)]
    return [weight for weight in weights if weight.requires_grad and weight.is_leaf]  # weight norm computes a weight


def build_optimizers(
    model: nn.Module, params: OptimizerParams, pretrained: Mapping[Tensor, float] | None = None
) -> dict[str, torch.optim.Optimizer]:
    """Return Muon for the matrix-shaped weights and AdamW for the others, or AdamW for all weights.

    Biases, the weights of norms and other vectors have no weight decay.

    Parameters
    ----------
    model : Module
    params : OptimizerParams
    pretrained : mapping of Tensor to float, optional
        Weights that have a learning rate of their own, and the factor of each.

    Returns
    -------
    dict of str to Optimizer
        Each optimiser by the name of its learning rate: ``muon_lr`` (Muon), ``adam_lr`` and ``pretrained_lr`` (AdamW).
    """
    pretrained = {} if params.pretrained_lr is None or pretrained is None else pretrained
    own = [weight for weight in model.parameters() if weight.requires_grad and weight not in pretrained]
    taken = set() if params.muon_lr is None else set(matrix_weights(model))
    groups: dict[str, list[Tensor]] = {
        "muon_lr": [weight for weight in own if weight in taken],
        "adam_lr": [weight for weight in own if weight not in taken],
        "pretrained_lr": [weight for weight in pretrained if weight.requires_grad],
    }

    import_compiler()  # otherwise the first optimiser imports it
    optimizers: dict[str, torch.optim.Optimizer] = {}
    for name, rate in peak_rates(params).items():
        if not groups[name]:
            continue
        if name == "muon_lr":
            optimizers[name] = Muon(groups[name], lr=rate, weight_decay=params.weight_decay)
        else:
            optimizers[name] = torch.optim.AdamW(_by_decay(groups[name], params.weight_decay, pretrained), lr=rate)
    return optimizers


def _by_decay(weights: list[Tensor], decay: float, factors: Mapping[Tensor, float]) -> list[dict[str, Any]]:
    """Return groups of weights with the same weight decay and the same factor of the learning rate."""
    groups: dict[tuple[bool, float], list[Tensor]] = {}
    for weight in weights:
        groups.setdefault((weight.ndim <= 1, factors.get(weight, 1.0)), []).append(weight)
    return [
        {"params": group, "weight_decay": 0.0 if is_vector else decay, "factor": factor}
        for (is_vector, factor), group in sorted(groups.items(), key=lambda item: item[0])
    ]


def warmup_cosine(step: int, total_steps: int, warmup_ratio: float) -> float:
    """Return the factor of the learning rates at a step: linear warm-up, then half a cosine towards zero.

    Parameters
    ----------
    step : int
        Index of the step, from 0 to ``total_steps - 1``.
    total_steps : int
    warmup_ratio : float
        Share of the steps in the warm-up, in [0, 1).

    Returns
    -------
    float
        In (0, 1].

    References
    ----------
    Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017 (without restarts).

    Examples
    --------
    >>> from skastw.training.optim import warmup_cosine
    >>> [round(warmup_cosine(s, 10, 0.2), 2) for s in range(10)]
    [0.5, 1.0, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04]
    """
    warmup = math.ceil(warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
