"""The state of a training run: its start from new or given weights, and the fitted model that it gives."""

import copy
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
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
from skastw.data.frames import MEMORY_LIMIT, FrameSet, FrameStore
from skastw.errors import ComponentError
from skastw.features import FeaturesModule, Waveform
from skastw.network.components import Components
from skastw.network.inference import frames_of
from skastw.network.model import AudioModel, SideModule, convert, load_trained_state, trained_state
from skastw.network.trained import ClassScores, Trained, TrainingRecord
from skastw.targets import Targets
from skastw.training.average import MovingAverage
from skastw.training.linear import fit_side
from skastw.training.optim import build_optimizers
from skastw.training.settings import TrainingSettings
from skastw.training.transfer import Start

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
        Prepared augmentations of frames, applied to each training batch in order.
    waveform_transforms : sequence of callables, optional
        Prepared augmentations of waveforms, applied before the front end. None means that the data sets contain frames
        and not waveforms.
    pretrained : mapping of Tensor to float, optional
        Weights that have a learning rate of their own, and the factor of each.
    generators : sequence of Generators, optional
        Generators for dropout, one for each type of device; by default new ones with the seed in ``settings``.
    side : SideModule, optional
        Linear layer on the side vectors, which the network gets at the end of training.

    Attributes
    ----------
    epoch : int
        Number of epochs that this run has trained.
    done : bool
        Whether training has stopped before ``settings.n_epochs``.
    halted : bool
        Whether a monitor stopped training.
    history : list of dict
        Losses, scores, learning rates and seconds of each epoch of this run.
    best : dict
        ``epoch`` (counted from 1; 0 before the first epoch has ended), ``score`` and ``weights`` of the best epoch.
    stopped : Exception, KeyboardInterrupt or None
        Exception that ended training.
    class_scores : list of dict, or None
        Scores of each class on the validation clips, with the weights that were kept.
    teacher : Run or None
        The run of the network whose outputs this one learns to match; it is trained first.
    refit : Run or None
        The run that trains the kept weights further on all clips.
    name : str
        What the progress bar calls the run.
    joined_scores : dict
        Validation loss and scores with the side vector, whose names in ``history`` start with ``val_``.
    """

    def __init__(
        self,
        model: AudioModel,
        targets: Targets,
        settings: TrainingSettings,
        *,
        loss: Loss | None = None,
        transforms: Sequence[Transform] = (),
        waveform_transforms: Sequence[Transform] | None = None,
        pretrained: Mapping[Tensor, float] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        side: SideModule | None = None,
    ) -> None:
        self.side = side
        self.model, self.targets, self.settings = model, targets, settings
        self.loss, self.pretrained = loss or targets.loss, pretrained
        self.transforms, self.waveform_transforms = transforms, waveform_transforms
        self.optimizers = build_optimizers(model, settings, pretrained)
        self.average = MovingAverage(model, settings.ema_decay)

        self.rng = np.random.default_rng(settings.seed)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.generators = generators or seeded_generators(settings.seed, settings.device)
        self._borrows = draws_globally(model)
        self._whole_frames: tuple[FrameSet, FrameStore] | None = None

        self.epoch, self.done, self.halted = 0, False, False
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {"epoch": 0, "score": [-math.inf, -math.inf], "weights": {}}
        self.stopped: Exception | KeyboardInterrupt | None = None
        self.class_scores: list[dict[str, Any]] | None = None
        self.joined_scores: dict[str, float] = {}
        self.teacher: Run | None = None
        self.refit: Run | None = None
        self.name = "training"

    def whole_frames(self, model: AudioModel, frame_set: FrameSet) -> FrameStore:
        """Return the frames of whole clips; those of a front end that is not trained are computed once."""
        if self.waveform_transforms is None:
            return frame_set.frames
        known, frames = self._whole_frames or (None, None)
        if known is not frame_set or any(weight.requires_grad for weight in model.features.parameters()):
            frames = FrameStore(frames_of(model, frame_set.frames), limit=MEMORY_LIMIT)
            self._whole_frames = frame_set, frames
        assert frames is not None
        return frames

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
            weights = copy.deepcopy(trained_state(self.average.model))
            self.best = {"epoch": row["epoch"], "score": score, "weights": weights}

    def start_refit(self) -> "Run":
        """Return :attr:`refit`: a new run that trains the network further, and its teacher first."""
        settings = self.settings.for_refit()
        refit = self.refit = Run(
            self.model,
            self.targets,
            replace(settings, seed=(settings.seed + 1) % 2**31),
            loss=self.loss,
            transforms=self.transforms,
            waveform_transforms=self.waveform_transforms,
            pretrained=self.pretrained,
            side=self.side,
        )
        refit.teacher = None if self.teacher is None else self.teacher.start_refit()
        refit.name = "refit" if self.name == "training" else self.name
        return refit

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run as one dict of tensors and JSON values."""
        averaged = {} if self.average.model is self.model else trained_state(self.average.model)
        return {
            "epoch": self.epoch,
            "done": self.done,
            "halted": self.halted,
            "history": list(self.history),
            "best": self.best,
            "class_scores": self.class_scores,
            "joined_scores": self.joined_scores,
            "model": {} if self.refit else trained_state(self.model),  # the refit has the same network and teacher
            "average": {"steps": self.average.steps, "model": averaged},
            "optimizers": self.momenta,
            "shuffle": self.rng.bit_generator.state,
            "augment": self.generator.get_state(),
            "dropout": {generator.device.type: generator.get_state() for generator in self.generators},
            "teacher": {} if self.refit or self.teacher is None else trained_state(self.teacher.model),
            "refit": {} if self.refit is None else self.refit.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`state_dict` returned."""
        self.epoch, self.done, self.halted, self.best = (state[name] for name in ("epoch", "done", "halted", "best"))
        self.class_scores, self.joined_scores = state["class_scores"], state["joined_scores"]
        self.history = list(state["history"])
        if state["model"]:
            load_trained_state(self.model, state["model"])
        self.average.steps = state["average"]["steps"]
        if self.average.model is not self.model:
            load_trained_state(self.average.model, state["average"]["model"])
        self.load_momenta(state["optimizers"])

        self.rng.bit_generator.state = state["shuffle"]
        self.generator.set_state(state["augment"])
        for generator in self.generators:
            if generator.device.type in state["dropout"]:  # the run may continue on another device
                generator.set_state(state["dropout"][generator.device.type])
        if self.teacher is not None:
            if state["teacher"]:
                load_trained_state(self.teacher.model, state["teacher"])
            self.teacher.epoch = self.teacher.settings.n_epochs
        if state["refit"]:
            self.start_refit().load_state_dict(state["refit"])

    @property
    def momenta(self) -> dict[str, Any]:
        """The state of each optimiser by its name, as a dict by the index of the weight."""
        states = {name: optimizer.state_dict()["state"] for name, optimizer in self.optimizers.items()}
        return {name: {str(number): values for number, values in state.items()} for name, state in states.items()}

    def load_momenta(self, momenta: Mapping[str, Any]) -> None:
        """Continue from the state of optimisers; ignore it if there were other optimisers."""
        if momenta.keys() != self.optimizers.keys():
            return
        for name, optimizer in self.optimizers.items():
            state = {int(number): values for number, values in momenta[name].items()}
            optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def start_run(
    components: Components,
    targets: Targets,
    settings: TrainingSettings,
    data: Data,
    front_end: FeaturesModule,
    start: Start,
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
    front_end : FeaturesModule
        The built front end of the network.
    start : Start
        Weights that the network gets.
    loss : callable, optional
        Training loss; see :class:`Run`.
    """
    generators = seeded_generators(settings.seed, settings.device)

    import_compiler()  # otherwise the first operation under OwnDraws imports it
    with OwnDraws(generators):
        n_features = data.train.frames[0].shape[1] if components.precomputed else None
        model = components.build(targets.n_outputs, front_end, n_features, with_side=False)
        side = components.side and fit_side(
            components.side.build(components.sample_rate), data.train, targets, settings, components.dtype
        )
    model = convert(model, components.dtype)  # before weights are copied, not to round them
    pretrained = start.give(model, components, targets)
    if start.trained is None:
        frames = data.train.frames
        weights = data.train.weights.tolist()
        model.normalization.learn(frames_of(model, frames) if components.in_step else frames, weights)
    model = model.to(settings.device)

    by_stage: dict[str, list[Transform]] = {"waveform": [], "frames": []}
    for item in components.augment:
        extract = partial(_read_files, components, front_end, item.stage)
        by_stage[item.stage].append(item.prepare(extract, components.sample_rate))
    return Run(
        model,
        targets,
        settings,
        loss=loss,
        transforms=by_stage["frames"],
        waveform_transforms=by_stage["waveform"] if components.in_step else None,
        pretrained=pretrained,
        generators=generators,
        side=side,
    )


def _read_files(components: Components, front_end: FeaturesModule, stage: str, paths: Sequence[str]) -> list[Tensor]:
    """Return the frames or waveforms of the audio files that an augmentation uses, such as background noise."""
    if components.precomputed:
        raise ComponentError(
            "An augmentation reads audio files, but features='precomputed' has no front end for them: set features to "
            "a front end and pass clips, or remove the augmentation."
        )
    features, module = (Waveform(), None) if stage == "waveform" else (components.features, front_end)
    settings = ReadParams(device="cpu")
    outcomes = read_frames(paths, range(len(paths)), features, components.sample_rate, settings, front_end=module)
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
    further = [] if run.refit is None else run.refit.history
    history = [*run.history, *({**row, "epoch": len(run.history) + row["epoch"]} for row in further)]
    best_epoch = run.best["epoch"]
    best = run.history[best_epoch - 1]
    scores = {**best, **run.joined_scores}
    validation = {name.removeprefix("val_"): value for name, value in scores.items() if name.startswith("val_")}

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
        n_epochs=len(history),
        max_epochs=None if run.settings.constant_lr else run.settings.n_epochs + run.settings.n_refit,
        n_refit=len(history) - len(run.history),
        interrupted=isinstance(run.stopped, KeyboardInterrupt),
        best_epoch=best_epoch,
        validation=validation or None,
        per_class=per_class or None,
        history=history,
    )
    network = run.model if model is None else model
    network.side = run.side
    network = network.cpu().eval()
    return Trained(components, network, run.targets, record, dict(params))
