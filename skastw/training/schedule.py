"""The learning-rate schedule."""

from __future__ import annotations

import math
from numbers import Real

from skastw.core.parameters import param, parameters
from skastw.core.sklearn_private import Interval


@parameters
class ScheduleParams:
    """Parameters of the learning-rate schedule."""

    warmup_ratio: float = param(
        default=0.1,
        valid=[Interval(Real, 0, 1, closed="left")],
        doc="Share of the training steps in which the learning rates rise linearly to their peak. In the other steps "
        "they fall to zero along a cosine.",
    )


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
    >>> from skastw.training.schedule import warmup_cosine
    >>> [round(warmup_cosine(s, 10, 0.2), 2) for s in range(10)]
    [0.5, 1.0, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04]
    """
    warmup = math.ceil(warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
