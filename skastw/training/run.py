"""The state of a training run: what goes on from one epoch to the next."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skastw.augment import Transform
from skastw.core.generators import drawing_from, draws_globally, seeded_generators
from skastw.network.model import AudioModel
from skastw.targets import Targets
from skastw.training.average import MovingAverage
from skastw.training.optim import build_optimizers
from skastw.training.settings import TrainingSettings

__all__ = ["Loss", "Run"]

#: ``(outputs (B, K), targets) -> losses (B,)``.
Loss = Callable[[Tensor, Tensor], Tensor]


class Run:
    """A network in training, with everything that the epochs to come depend on.

    Parameters
    ----------
    model : AudioModel
        On ``settings.device``.
    targets : Targets
        Scores, and the score that selects the best epoch.
    settings : TrainingSettings
    loss : callable, optional
        ``(outputs (B, K), targets) -> losses (B,)`` in training; by default that of ``targets``.
    transforms : sequence of callables
        Prepared augmentations, applied to each training batch in order.
    generators : sequence of Generators, optional
        What dropout draws from, one for each type of device; by default new ones with the seed of the settings.

    Attributes
    ----------
    epoch : int
        Epochs that this run has trained.
    done : bool
        Whether training has ended before ``settings.epochs``.
    history : list of dict
        A row for each epoch.
    best : dict
        ``epoch`` (counted from 1; 0 before the first epoch has ended), ``score`` and ``weights`` of the best epoch.
    stopped : Exception, KeyboardInterrupt or None
        What ended training before its time.
    class_scores : list of dict, or None
        Scores of each class on the validation clips, of the weights that were kept.
    """

    def __init__(
        self,
        model: AudioModel,
        targets: Targets,
        settings: TrainingSettings,
        *,
        loss: Loss | None = None,
        transforms: Sequence[Transform] = (),
        generators: Sequence[torch.Generator] | None = None,
    ) -> None:
        self.model, self.targets, self.settings = model, targets, settings
        self.loss = loss or targets.loss
        self.transforms = transforms
        self.optimizers = build_optimizers(model, settings)
        self.average = MovingAverage(model, settings.ema_decay)

        self.rng = np.random.default_rng(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.generators = generators or seeded_generators(settings.seed, settings.device)
        self._borrows = draws_globally(model)

        self.epoch, self.done = 0, False
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": 0, "score": [-math.inf, -math.inf], "weights": {}}
        self.stopped: Exception | KeyboardInterrupt | None = None
        self.class_scores: list[dict[str, float]] | None = None

    def draws(self) -> AbstractContextManager[None]:
        """Return the context in which a forward pass draws from the generators of this run."""
        return drawing_from(self.generators, borrow=self._borrows)

    def keep_best(self, row: dict[str, Any]) -> None:
        """Keep the weights of an epoch if none was better: by score, then by validation loss; without scores, the last.

        Parameters
        ----------
        row : dict
            The epoch's row of the history.
        """
        name = f"val_{self.targets.monitor}"
        by_score = self.settings.keep == "best" and name in row
        score = [row[name], -row["val_loss"]] if by_score else self.best["score"]
        if not by_score or not self.best["epoch"] or score > self.best["score"]:
            weights = copy.deepcopy(self.average.model.state_dict())
            self.best = {"epoch": row["epoch"], "score": score, "weights": weights}

    def state_dict(self) -> dict[str, Any]:
        """Return everything as one dict of tensors and JSON values."""
        momenta = [optimizer.state_dict()["state"] for optimizer in self.optimizers]
        averaged = {} if self.average.model is self.model else self.average.model.state_dict()
        return {
            "epoch": self.epoch,
            "done": self.done,
            "history": list(self.history),
            "best": self.best,
            "model": self.model.state_dict(),
            "average": {"steps": self.average.steps, "model": averaged},
            "optimizers": [{str(number): values for number, values in momentum.items()} for momentum in momenta],
            "shuffle": self.rng.bit_generator.state,
            "augment": self.generator.get_state(),
            "dropout": {generator.device.type: generator.get_state() for generator in self.generators},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.epoch, self.done, self.best = state["epoch"], state["done"], state["best"]
        self.history = list(state["history"])
        self.model.load_state_dict(state["model"])
        self.average.steps = state["average"]["steps"]
        if self.average.model is not self.model:
            self.average.model.load_state_dict(state["average"]["model"])
        self.load_optimizers(state)

        self.rng.bit_generator.state = state["shuffle"]
        self.generator.set_state(state["augment"])
        for generator in self.generators:
            if generator.device.type in state["dropout"]:  # the run may go on, on another device
                generator.set_state(state["dropout"][generator.device.type])

    def load_optimizers(self, state: dict[str, Any]) -> None:
        """Take over the momentum of another run; with other optimisers, start anew."""
        if len(state["optimizers"]) != len(self.optimizers):
            return
        for optimizer, momentum in zip(self.optimizers, state["optimizers"], strict=True):
            by_number = {int(number): values for number, values in momentum.items()}
            optimizer.load_state_dict({**optimizer.state_dict(), "state": by_number})
