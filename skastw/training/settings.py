"""The parameters of training, and the settings of one run."""

import math
from dataclasses import replace
from typing import Self

import torch

from skastw.core.parameters import integers, param, parameters
from skastw.core.sklearn_private import StrOptions
from skastw.training.average import AverageParams
from skastw.training.optim import OptimizerParams


@parameters
class TrainingParams(OptimizerParams, AverageParams):
    """Parameters of training."""

    epochs: int = param(
        default=30,
        valid=[integers(1)],
        doc="Maximum number of epochs, that is, of passes over the training clips.",
    )
    min_steps: int = param(
        default=0,
        valid=[integers(0)],
        doc="If ``epochs`` epochs have fewer training steps than this, the number of epochs is raised. A data set of "
        "twenty clips needs more epochs than a data set of a thousand clips.",
    )
    patience: int | None = param(
        default=30,
        valid=[integers(1), None],
        doc="Stop training if the validation score (macro-F1 for labels, R2 for values) has not improved for this "
        "number of epochs. None never stops early.",
    )
    keep: str = param(
        default="best",
        valid=[StrOptions({"best", "last"})],
        doc='Whether the model gets the weights of the epoch with the best validation score (``"best"``) or of the '
        'last epoch (``"last"``).',
    )


@parameters
class TrainingSettings(TrainingParams):
    """The settings of a run: the parameters of training, the device and the seed.

    Attributes
    ----------
    batch_size : int
    device : torch.device
    precision : str
        See ``skastw.core.device.autocast``.
    seed : int
    verbose : int
    constant_lr : bool
        Whether to keep the peak learning rates, as ``partial_fit`` does.
    """

    batch_size: int
    device: torch.device
    precision: str
    seed: int
    verbose: int
    constant_lr: bool = False

    def lasting(self, n_clips: int) -> Self:
        """Return the settings with enough epochs for ``min_steps`` steps on ``n_clips`` clips."""
        steps = math.ceil(n_clips / self.batch_size)
        return replace(self, epochs=max(self.epochs, math.ceil(self.min_steps / steps)))
