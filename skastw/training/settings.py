"""The parameters of training, and what one run adds to them."""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Integral
from typing import Self

import torch

from skastw.core.parameters import param, parameters
from skastw.core.sklearn_private import Interval, StrOptions
from skastw.training.average import AverageParams
from skastw.training.optim import OptimizerParams
from skastw.training.schedule import ScheduleParams

__all__ = ["TrainingParams", "TrainingSettings"]


@parameters
class TrainingParams(AverageParams, ScheduleParams, OptimizerParams):
    """How a network is trained."""

    epochs: int = param(
        default=30,
        valid=[Interval(Integral, 1, None, closed="left")],
        doc="Largest number of passes over the training clips.",
    )
    min_steps: int = param(
        default=0,
        valid=[Interval(Integral, 0, None, closed="left")],
        doc="Smallest number of steps: train for more than ``epochs`` if these have fewer. A set of twenty clips needs "
        "more passes than a set of a thousand.",
    )
    patience: int | None = param(
        default=30,
        valid=[Interval(Integral, 1, None, closed="left"), None],
        doc="Stop after so many epochs without a better validation score: macro-F1 of labels, R2 of values.",
    )
    keep: str = param(
        default="best",
        valid=[StrOptions({"best", "last"})],
        doc="Keep the weights of the epoch with the best validation score, or of the last epoch.",
    )


@parameters
class TrainingSettings(TrainingParams):
    """The parameters of a run, with the machine that it runs on.

    Attributes
    ----------
    batch_size : int
    device : torch.device
    precision : str
        See :func:`skastw.core.device.autocast`.
    seed : int
    verbose : int
    constant_lr : bool
        Stay at the peak learning rates, for training in instalments.
    """

    batch_size: int
    device: torch.device
    precision: str
    seed: int
    verbose: int
    constant_lr: bool = False

    def lasting(self, n_clips: int) -> Self:
        """Return the settings with the epochs that ``min_steps`` steps on ``n_clips`` clips take, if those are more."""
        steps = math.ceil(n_clips / self.batch_size)
        return replace(self, epochs=max(self.epochs, math.ceil(self.min_steps / steps)))
