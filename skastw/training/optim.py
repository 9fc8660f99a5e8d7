"""The optimisers, and the schedule of their learning rates."""

import math

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
    """Return the peak learning rate of each optimiser, in the order of :func:`build_optimizers`.

    Parameters
    ----------
    params : OptimizerParams

    Examples
    --------
    >>> from skastw.training.optim import OptimizerParams, peak_rates
    >>> peak_rates(OptimizerParams(muon_lr=None))
    {'adam_lr': 0.0003}
    """
    rates = {"muon_lr": params.muon_lr, "adam_lr": params.adam_lr}
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
    return [m.weight for m in model.modules() if isinstance(m, _MATRIX_LAYERS) and m.weight.requires_grad]


def build_optimizers(model: nn.Module, params: OptimizerParams) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrix-shaped weights and AdamW for the others, or AdamW for all weights.

    Biases, the weights of norms and other vectors have no weight decay.

    Parameters
    ----------
    model : Module
    params : OptimizerParams

    Returns
    -------
    list of Optimizer
        ``[Muon, AdamW]``, or ``[AdamW]`` if ``muon_lr`` is None.
    """
    matrices = [] if params.muon_lr is None else matrix_weights(model)
    taken = {id(weight) for weight in matrices}

    rest = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in taken]
    groups = [
        {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [weight for weight in rest if weight.ndim <= 1], "weight_decay": 0.0},
    ]

    import_compiler()  # otherwise the first optimiser imports it
    adam = torch.optim.AdamW([group for group in groups if group["params"]], lr=params.adam_lr)
    if params.muon_lr is None:
        return [adam]
    return [Muon(matrices, lr=params.muon_lr, weight_decay=params.weight_decay), adam]


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
