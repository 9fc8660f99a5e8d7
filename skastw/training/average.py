"""Moving average of the weights."""

from __future__ import annotations

import copy
from numbers import Real
from typing import Generic, TypeVar

import torch
from torch import nn

from skastw.core.parameters import param, parameters
from skastw.core.sklearn_private import Interval

__all__ = ["AverageParams", "MovingAverage"]

M = TypeVar("M", bound=nn.Module)


@parameters
class AverageParams:
    """Whether the weights of several steps are averaged."""

    ema_decay: float | None = param(
        default=None,
        valid=[Interval(Real, 0, 1, closed="neither"), None],
        doc="Decay of an exponential moving average of the weights, which spans about the last ``1 / (1 - "
        "ema_decay)`` steps. The model gets the averaged weights instead of the weights after the last step. None "
        "does not average.",
    )


class MovingAverage(Generic[M]):
    """Exponential moving average of a model's weights and statistics over the steps of training.

    Early in training the window is short: the decay at step t is at most
    ``(1 + t) / (10 + t)``.

    Parameters
    ----------
    model : Module
        In training.
    decay : float or None
        Share of the average that a step keeps; about ``1 / (1 - decay)`` steps are averaged. None follows the
        model without averaging, at no cost.

    Attributes
    ----------
    model : Module
        The average; the model itself if ``decay`` is None.
    steps : int
        Number of averaged steps.

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
        self.model = model if decay is None else copy.deepcopy(model)
        self.steps = 0
        self._pairs = list(zip(self.model.state_dict().values(), model.state_dict().values(), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights of a step into the average."""
        if self.decay is None:
            return
        self.steps += 1
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        for mean, value in self._pairs:
            if mean.is_floating_point():
                mean.lerp_(value, weight)
            else:
                mean.copy_(value)
