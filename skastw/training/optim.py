"""Which optimiser updates which weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skastw.core.compiler import import_compiler
from skastw.training.muon import Muon

__all__ = ["build_optimizers", "matrix_weights"]

_MATRIX_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)


def matrix_weights(model: nn.Module) -> list[Tensor]:
    """Return the weights that Muon updates: those of the linear and convolution layers of ``model``.

    Examples
    --------
    >>> from torch import nn
    >>> from skastw.training.optim import matrix_weights
    >>> [tuple(w.shape) for w in matrix_weights(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)))]
    [(2, 3)]
    """
    return [m.weight for m in model.modules() if isinstance(m, _MATRIX_LAYERS) and m.weight.requires_grad]


def build_optimizers(
    model: nn.Module, *, muon_lr: float | None, adam_lr: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrix-shaped weights and AdamW for the rest, or AdamW for all.

    Biases, norms and other vectors are not decayed.

    Parameters
    ----------
    model : Module
    muon_lr : float or None
        Learning rate of Muon; without one there is no Muon.
    adam_lr : float
        That of AdamW.
    weight_decay : float
        Decoupled weight decay.

    Returns
    -------
    list of Optimizer
        ``[Muon, AdamW]``, or ``[AdamW]``.
    """
    matrices = [] if muon_lr is None else matrix_weights(model)
    taken = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if weight.requires_grad and id(weight) not in taken]
    groups = [
        {"params": [weight for weight in rest if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [weight for weight in rest if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    import_compiler()  # or the first optimiser would
    adam = torch.optim.AdamW([group for group in groups if group["params"]], lr=adam_lr)
    return [adam] if muon_lr is None else [Muon(matrices, lr=muon_lr, weight_decay=weight_decay), adam]
