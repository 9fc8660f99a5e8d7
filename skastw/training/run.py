"""The state of a training run: what goes on from one epoch to the next."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skastw.augment import Transform
from skastw.core.compiler import import_compiler
from skastw.core.generators import OwnDraws, drawing_from, draws_globally, seeded_generators
from skastw.data.dataset import Data
from skastw.data.extraction import ReadParams, read_frames
from skastw.errors import ComponentError
from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.network.trained import Trained
from skastw.targets import Targets
from skastw.training.average import MovingAverage
from skastw.training.optim import build_optimizers
from skastw.training.settings import TrainingSettings
from skastw.training.transfer import transfer_weights

__all__ = ["Loss", "Run", "start_run"]

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
        self.class_scores: list[dict[str, Any]] | None = None

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
        averaged = {} if self.average.model is self.model else self.average.model.state_dict()
        return {
            "epoch": self.epoch,
            "done": self.done,
            "history": list(self.history),
            "best": self.best,
            "model": self.model.state_dict(),
            "average": {"steps": self.average.steps, "model": averaged},
            "optimizers": self.momenta,
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
        self.load_momenta(state["optimizers"])

        self.rng.bit_generator.state = state["shuffle"]
        self.generator.set_state(state["augment"])
        for generator in self.generators:
            if generator.device.type in state["dropout"]:  # the run may go on, on another device
                generator.set_state(state["dropout"][generator.device.type])

    @property
    def momenta(self) -> list[dict[str, Any]]:
        """The state of each optimiser, by the number of the weight."""
        states = [optimizer.state_dict()["state"] for optimizer in self.optimizers]
        return [{str(number): values for number, values in state.items()} for state in states]

    def load_momenta(self, momenta: list[dict[str, Any]]) -> None:
        """Go on with the state of optimisers; if these were others, start anew."""
        if len(momenta) != len(self.optimizers):
            return
        for optimizer, momentum in zip(self.optimizers, momenta, strict=True):
            state = {int(number): values for number, values in momentum.items()}
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def start_run(
    components: Components,
    targets: Targets,
    settings: TrainingSettings,
    data: Data,
    start: Trained | None = None,
    loss: Loss | None = None,
) -> Run:
    """Return a run with a fresh network, whose random numbers all come from the run's own generators.

    Parameters
    ----------
    components : Components
    targets : Targets
    settings : TrainingSettings
    data : Data
        The normalization learns from its training clips.
    start : Trained, optional
        The network gets these weights.
    loss : callable, optional
        See :class:`Run`.
    """
    generators = seeded_generators(settings.seed, settings.device)
    import_compiler()  # or the first operation under OwnDraws would
    with OwnDraws(generators):
        model = components.build(targets.n_outputs, data.train.frames[0].shape[1])
        if start is None:
            model.normalization.learn(data.train.frames)
        else:
            transfer_weights(start, model, targets)
    model = model.to(settings.device, components.dtype)

    transforms = [augmentation.prepare(partial(_frames_of_files, components)) for augmentation in components.augment]
    return Run(model, targets, settings, loss=loss, transforms=transforms, generators=generators)


def _frames_of_files(components: Components, paths: Sequence[str]) -> list[Tensor]:
    """Return the frames of audio files that augmentations ask for."""
    if components.precomputed:
        raise ComponentError(
            "An augmentation reads audio files, but features='precomputed' has no front end to read them with: give "
            "the classifier the front end and clips, or leave the augmentation out."
        )
    settings = ReadParams(device="cpu")
    outcomes = read_frames(paths, range(len(paths)), components.features, components.sample_rate, settings)
    return [outcome.result for outcome in outcomes if isinstance(outcome.result, Tensor)]
