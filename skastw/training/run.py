"""The state of a training run: its start from new or given weights, and the fitted model that it gives."""

import copy
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import sklearn
import torch
from torch import Tensor

from skastw.augment import Transform
from skastw.core.compiler import import_compiler
from skastw.core.generators import OwnDraws, drawing_from, draws_globally, seeded_generators
from skastw.core.version import __version__
from skastw.data.dataset import Data
from skastw.data.extraction import ReadParams, read_frames
from skastw.errors import ComponentError
from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.network.trained import ClassScores, Trained, TrainingRecord
from skastw.targets import Targets
from skastw.training.average import MovingAverage
from skastw.training.optim import build_optimizers
from skastw.training.settings import TrainingSettings
from skastw.training.transfer import transfer_weights

#: ``(outputs (B, K), targets) -> losses (B,)``.
Loss = Callable[[Tensor, Tensor], Tensor]


class Run:
    """A network in training, with the optimisers, random generators and scores that its next epochs depend on.

    Parameters
    ----------
    model : AudioModel
        Network on ``settings.device``.
    targets : Targets
        Targets, which define the loss, the scores and which score selects the best epoch.
    settings : TrainingSettings
    loss : callable, optional
        Training loss ``(outputs (B, K), targets) -> losses (B,)``; by default ``targets.loss``.
    transforms : sequence of callables
        Prepared augmentations, applied to each training batch in order.
    generators : sequence of Generators, optional
        Generators for dropout, one for each type of device; by default new ones with the seed in ``settings``.

    Attributes
    ----------
    epoch : int
        Number of epochs that this run has trained.
    done : bool
        Whether training has stopped before ``settings.epochs``.
    history : list of dict
        Losses, scores, learning rates and seconds of each epoch.
    best : dict
        ``epoch`` (counted from 1; 0 before the first epoch has ended), ``score`` and ``weights`` of the best epoch.
    stopped : Exception, KeyboardInterrupt or None
        Exception that ended training.
    class_scores : list of dict, or None
        Scores of each class on the validation clips, with the weights that were kept.
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
        """Return a context in which dropout draws from the generators of this run."""
        return drawing_from(self.generators, borrow=self._borrows)

    def keep_best(self, row: dict[str, Any]) -> None:
        """Keep the weights of an epoch if it is the best so far.

        Epochs are compared by their score, then by their validation loss. Without scores, the last epoch is kept.

        Parameters
        ----------
        row : dict
            Row of the epoch in ``history``.
        """
        name = f"val_{self.targets.monitor}"
        by_score = self.settings.keep == "best" and name in row
        score = [row[name], -row["val_loss"]] if by_score else self.best["score"]
        if not by_score or not self.best["epoch"] or score > self.best["score"]:
            weights = copy.deepcopy(self.average.model.state_dict())
            self.best = {"epoch": row["epoch"], "score": score, "weights": weights}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run as one dict of tensors and JSON values."""
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
        """Continue from a state that :meth:`state_dict` returned."""
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
            if generator.device.type in state["dropout"]:  # the run may continue on another device
                generator.set_state(state["dropout"][generator.device.type])

    @property
    def momenta(self) -> list[dict[str, Any]]:
        """The state of each optimiser, by the index of the weight."""
        states = [optimizer.state_dict()["state"] for optimizer in self.optimizers]
        return [{str(number): values for number, values in state.items()} for state in states]

    def load_momenta(self, momenta: list[dict[str, Any]]) -> None:
        """Continue from the state of optimisers; ignore it if their number differs."""
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
    """Return a run with a new network; all its random numbers come from the generators of the run.

    Parameters
    ----------
    components : Components
    targets : Targets
    settings : TrainingSettings
    data : Data
        Data to train on. The normalization learns its statistics from the training clips.
    start : Trained, optional
        Fitted model, whose weights the network gets.
    loss : callable, optional
        Training loss; see :class:`Run`.
    """
    generators = seeded_generators(settings.seed, settings.device)

    import_compiler()  # otherwise the first operation under OwnDraws imports it
    with OwnDraws(generators):
        model = components.build(targets.n_outputs, data.train.frames[0].shape[1])
        if start is None:
            model.normalization.learn(data.train.frames)
        else:
            transfer_weights(start, model.to(components.dtype), targets)  # before they are copied, not to round them
    model = model.to(settings.device, components.dtype)

    transforms = [
        augmentation.prepare(partial(_frames_of_files, components), components.sample_rate)
        for augmentation in components.augment
    ]
    return Run(model, targets, settings, loss=loss, transforms=transforms, generators=generators)


def _frames_of_files(components: Components, paths: Sequence[str]) -> list[Tensor]:
    """Return the frames of the audio files that an augmentation uses, such as background noise."""
    if components.precomputed:
        raise ComponentError(
            "An augmentation reads audio files, but features='precomputed' has no front end for them: set features to "
            "a front end and pass clips, or remove the augmentation."
        )
    settings = ReadParams(device="cpu")
    outcomes = read_frames(paths, range(len(paths)), components.features, components.sample_rate, settings)
    return [outcome.result for outcome in outcomes if isinstance(outcome.result, Tensor)]


def trained_from(
    run: Run,
    data: Data,
    components: Components,
    *,
    seed: int | None,
    params: Mapping[str, Any],
    model: AudioModel | None = None,
) -> Trained:
    """Return the fitted model of a run, of which at least one epoch has ended.

    Parameters
    ----------
    run : Run
    data : Data
        Data that the run was trained on.
    components : Components
    seed : int or None
        Seed that was drawn from ``random_state``.
    params : mapping
        Other parameters of the estimator, which are copied.
    model : AudioModel, optional
        By default the network of the run, which must not be trained any further.

    Returns
    -------
    Trained
    """
    best_epoch = run.best["epoch"]
    best = run.history[best_epoch - 1]
    validation = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}

    class_scores = run.class_scores or []
    validation |= run.targets.averages(class_scores)
    per_class = [ClassScores(label=label, **row) for label, row in zip(run.targets.labels, class_scores, strict=False)]

    record = TrainingRecord(
        n_train=len(data.train),
        n_validation=len(data.valid) if data.valid else 0,
        split=data.split,
        data_sha256=data.fingerprint,
        clips_sha256=data.clips_sha256,
        versions={
            "skastw": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        seed=seed,
        batch_size=run.settings.batch_size,
        n_epochs=len(run.history),
        max_epochs=None if run.settings.constant_lr else run.settings.epochs,  # partial_fit has no maximum
        interrupted=isinstance(run.stopped, KeyboardInterrupt),
        best_epoch=best_epoch,
        validation=validation or None,
        per_class=per_class or None,
        history=list(run.history),
    )
    network = (run.model if model is None else model).cpu().eval()
    return Trained(components, network, run.targets, record, dict(params))
