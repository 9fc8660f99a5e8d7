"""The parameters of training, and the settings of one run."""

import math
from dataclasses import replace
from typing import Self

import torch

from skastw.core.parameters import integers, param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.training.average import AverageParams
from skastw.training.linear import LinearParams
from skastw.training.optim import OptimizerParams

#: With ``epochs=None``: the number of training steps, and the smallest and the largest number of epochs.
DEFAULT_STEPS, DEFAULT_EPOCHS = 2000, (30, 100)
#: With ``refit="auto"``: the share of the epochs on all clips, for an encoder that needs many clips.
REFIT = 0.7


@parameters
class TrainingParams(OptimizerParams, AverageParams, LinearParams):
    """Parameters of training."""

    epochs: int | None = param(
        default=None,
        valid=[integers(1), None],
        doc="Maximum number of epochs, that is, of passes over the training clips. None stands for as many as "
        f"{DEFAULT_STEPS} training steps take, but at least {DEFAULT_EPOCHS[0]} and at most {DEFAULT_EPOCHS[1]}: a "
        "small data set needs more epochs than a large one.",
    )
    min_steps: int = param(
        default=0,
        valid=[integers(0)],
        doc="If ``epochs`` epochs have fewer training steps than this, the number of epochs is raised.",
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
    refit: float | str | None = param(
        default="auto",
        valid=[StrOptions({"auto"}), reals(0, 1, closed="neither"), None],
        doc="Share of the epochs in which the model is trained further on all clips, including the validation clips "
        "that ``val_split`` held out. These epochs start from the weights of the best of the other epochs, with the "
        "same course of the learning rates. The validation scores are from before; the final model "
        "is usually better on new clips. None keeps the weights of the selected epoch. "
        f'``"auto"`` stands for {REFIT} with ``encoder="astw"`` and a ``d_model`` of at least 128, and for None with '
        "other encoders. Validation clips that are passed to ``fit`` are never trained on.",
    )
    teacher: str | None = param(
        default="auto",
        valid=[StrOptions({"auto", "resnet"}), None],
        doc='A small residual convolutional network (``"resnet"``) that is trained first, on the same frames. The '
        "network then learns to match its outputs on each augmented batch; the teacher is not kept. This helps a "
        'transformer that starts from random weights. ``"auto"`` has a teacher for ``encoder="astw"`` with a '
        "``d_model`` of at least 128, on log-mel frames, unless the weights come from another model. None has no "
        "teacher, as has ``partial_fit``.",
    )
    teacher_share: float = param(
        default=0.7,
        valid=[reals(0, 1, closed="both")],
        doc="Share of the distance to the outputs of the teacher in the training loss; the loss on the targets has the "
        "rest.",
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
    n_epochs : int
        Maximum number of epochs on the training clips, by default ``epochs``; see :meth:`lasting`.
    n_refit : int
        Number of further epochs, on all clips.
    constant_lr : bool
        Whether to keep the peak learning rates, as ``partial_fit`` does.
    """

    batch_size: int
    device: torch.device
    precision: str
    seed: int
    verbose: int
    n_epochs: int = 0
    n_refit: int = 0
    constant_lr: bool = False

    def __post_init__(self) -> None:
        self.n_epochs = self.n_epochs or self.epochs or DEFAULT_EPOCHS[0]

    def lasting(self, n_clips: int, *, held_out: bool = False, data_hungry: bool = False) -> Self:
        """Return the settings with the number of epochs for ``n_clips`` training clips.

        ``held_out`` says whether clips were held out for validation, on which a refit trains too, and ``data_hungry``
        whether the encoder has a refit by default.
        """
        share = self.refit if self.refit != "auto" else REFIT if data_hungry else None
        if self.solver == "lbfgs":
            return replace(self, n_epochs=1, n_refit=int(held_out and share is not None), ema_decay=None)
        steps = math.ceil(n_clips / self.batch_size)
        fewest, most = DEFAULT_EPOCHS
        epochs = min(max(fewest, math.ceil(DEFAULT_STEPS / steps)), most) if self.epochs is None else self.epochs
        epochs = max(epochs, math.ceil(self.min_steps / steps))
        n_refit = int(epochs * float(share)) if held_out and share is not None else 0
        return replace(self, n_epochs=epochs - n_refit, n_refit=n_refit)

    def for_refit(self) -> Self:
        """Return the settings of the epochs on all clips that follow the selection of the best epoch."""
        return replace(self, n_epochs=self.n_refit, n_refit=0, refit=None, patience=None, keep="last")
