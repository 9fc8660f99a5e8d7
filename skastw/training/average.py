"""Moving average of the weights of a network over the steps of training."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

from skastw.core.parameters import param, parameters, reals

M = TypeVar("M", bound=nn.Module)


@parameters
class AverageParams:
    """Parameters of the average of the weights."""

    ema_decay: float | None = param(
        default=0.99,
        valid=[reals(0, 1, closed="neither"), None],
        doc="Decay of an exponential moving average of the weights, which spans about the last ``1 / (1 - "
        "ema_decay)`` steps. The model gets the averaged weights instead of the weights after the last step. None "
        "does not average.",
    )


class MovingAverage(Generic[M]):
    """Exponential moving average of a model's weights and buffers over the steps of training.

    The average spans few steps early in training: the decay at step t is at most ``(1 + t) / (10 + t)``.

    Parameters
    ----------
    model : Module
        The model that is trained.
    decay : float or None
        Weight of the old average in each update, so that it spans about ``1 / (1 - decay)`` steps. None does not
        average.

    Attributes
    ----------
    model : Module
        A copy of the model with the averaged weights; the model itself if ``decay`` is None.
    steps : int
        Number of updates.

    References
    ----------
    Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; Izmailov et al.,
    "Averaging Weights Leads to Wider Optima and Better Generalization", 2018.

    Examples
    --------
    >>> import torch
    >>> from skastw.training import MovingAverage
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> average = MovingAverage(model, 0.5)
    >>> before = model.weight.item()
    >>> with torch.no_grad():
    ...     _ = model.weight.add_(1.0)
    >>> average.update()
    >>> bool(before < average.model.weight.item() < before + 1)
    True
    """

    def __init__(self, model: M, decay: float | None) -> None:
        self.decay = decay
        fixed = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
        # both models share the weights that do not change
        self.model = model if decay is None else copy.deepcopy(model, fixed)
        self.steps = 0
        pairs = zip(self.model.state_dict().values(), model.state_dict().values(), strict=True)
        self._pairs = [(mean, value) for mean, value in pairs if mean.data_ptr() != value.data_ptr()]

    @torch.no_grad()
    def update(self) -> None:
        """Update the average with the current weights."""
        if self.decay is None:
            return

        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mean, value in self._pairs:
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)
