"""The training loop."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skastw.augment import Transform
from skastw.core.batching import Batch, shuffled_buckets
from skastw.core.device import autocast, out_of_memory
from skastw.core.generators import drawing_from, draws_globally, seeded_generators
from skastw.core.progress import ProgressBar
from skastw.data.frames import FrameSet
from skastw.errors import TrainingError
from skastw.network.inference import embed_clips
from skastw.network.model import AudioModel
from skastw.training.average import MovingAverage
from skastw.training.checkpoint import Checkpoint, Snapshot
from skastw.training.losses import Task
from skastw.training.optim import build_optimizers
from skastw.training.schedule import warmup_cosine

__all__ = ["TrainingConfig", "TrainingResult", "train"]


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run; the names and meanings are those of the estimators' parameters.

    Attributes
    ----------
    epochs, batch_size : int
    muon_lr : float or None
    adam_lr, weight_decay, warmup_ratio, label_smoothing : float
    patience : int or None
    device : torch.device
    precision : str
    seed : int
    verbose : int
    ema_decay : float or None
    keep : str
    constant_lr : bool
        Stay at the peak learning rates, for training in instalments.
    """

    epochs: int
    batch_size: int
    muon_lr: float | None
    adam_lr: float
    weight_decay: float
    warmup_ratio: float
    label_smoothing: float
    patience: int | None
    device: torch.device
    precision: str
    seed: int
    verbose: int
    ema_decay: float | None = None
    keep: str = "best"
    constant_lr: bool = False

    def lasting(self, n_items: int, min_steps: int) -> TrainingConfig:
        """Return the settings with the epochs that ``min_steps`` steps on ``n_items`` clips take, if those are more."""
        steps = math.ceil(n_items / self.batch_size)
        return replace(self, epochs=max(self.epochs, math.ceil(min_steps / steps)))


class Monitor(Protocol):
    """What may watch and end training: called before and after each epoch."""

    def begin_epoch(self) -> None:
        """Note that an epoch begins."""

    def end_epoch(self, model: AudioModel) -> bool:
        """Note that it has ended with ``model``; return True to stop training."""


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves beside the weights, which the model then holds.

    Attributes
    ----------
    history : list of dict
        One row an epoch.
    best_epoch : int
        The epoch whose weights were kept, counted from 1; 0 where no epoch ended.
    optimizers : list of Optimizer
        To go on with.
    stopped : Exception, KeyboardInterrupt or None
        What ended training before its time.
    class_scores : list of dict, optional
        Scores of each class on the validation clips, of the weights that were kept.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    optimizers: list[torch.optim.Optimizer]
    stopped: Exception | KeyboardInterrupt | None = None
    class_scores: list[dict[str, float]] | None = None


def train(
    model: AudioModel,
    train_set: FrameSet,
    valid_set: FrameSet | None,
    task: Task,
    config: TrainingConfig,
    transforms: Sequence[Transform] = (),
    *,
    history: list[dict[str, Any]] | None = None,
    optimizers: list[torch.optim.Optimizer] | None = None,
    generators: Sequence[torch.Generator] | None = None,
    monitor: Monitor | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainingResult:
    """Train a model, keeping the weights of the epoch with the best validation score, or of the last one.

    Parameters
    ----------
    model : AudioModel
        On ``config.device``; left with the best weights, in evaluation mode.
    train_set : FrameSet
    valid_set : FrameSet or None
        None keeps the last epoch.
    task : Task
        Loss, scores, and the score that selects. Equal scores are told apart by the validation loss.
    config : TrainingConfig
    transforms : sequence of callables
        Prepared augmentations, applied to each training batch in order.
    history : list of dict, optional
        Rows of epochs that went before; new rows are appended as epochs end.
    optimizers : list of Optimizer, optional
        Those of an earlier instalment, with their momentum; by default new ones.
    generators : sequence of Generators, optional
        What dropout draws from, one for each type of device; by default new ones with ``config.seed``.
    monitor : Monitor, optional
        Watches the epochs, and may end training.
    checkpoint : Checkpoint, optional
        Where the run is written after each epoch, and goes on from if it is there.

    Returns
    -------
    TrainingResult
        Also if an exception ended training, because the loss was no longer finite, memory ran out, ``monitor`` raised,
        or the user interrupted; see ``stopped``.
    """
    run = _Run(model, config, task, history=history, optimizers=optimizers, generators=generators)
    if checkpoint is not None:
        run.restore(checkpoint.load())
    stopped: Exception | KeyboardInterrupt | None = None

    bar = ProgressBar(
        total=config.epochs, initial=run.epoch, desc="training", unit="epoch", disable=config.verbose != 1
    )
    try:
        while run.epoch < config.epochs and not run.done:
            began = time.perf_counter()
            if monitor is not None:
                monitor.begin_epoch()
            loss, rates = _train_epoch(run, train_set, task, config, transforms)
            row = {"epoch": len(run.history) + 1, "loss": loss}
            if valid_set is not None:
                row |= _validate(run.average.model, valid_set, task, config)
            run.history.append(row | rates | {"seconds": time.perf_counter() - began})
            shown = {name: f"{value:.3f}" for name, value in row.items() if "loss" in name or task.selects in name}
            bar.set_postfix(shown)
            bar.update()
            if config.verbose > 1:
                told = ", ".join(f"{name} {value}" for name, value in shown.items())
                ProgressBar.write(f"epoch {run.epoch + 1} of {config.epochs}: {told}", file=sys.stderr)

            run.best.update(row, run.average.model)
            stop = monitor is not None and monitor.end_epoch(run.average.model)
            run.done = stop or (config.patience is not None and row["epoch"] - run.best.epoch >= config.patience)
            run.epoch += 1
            if checkpoint is not None:
                checkpoint.save(run.snapshot())
    except (Exception, KeyboardInterrupt) as error:
        stopped = out_of_memory(error, batch_size=config.batch_size) or error
    bar.close()

    run.best.restore(model)
    model.eval()
    class_scores = None
    kept = stopped is None or (isinstance(stopped, KeyboardInterrupt) and run.best.epoch > 0)
    if valid_set is not None and task.class_scores is not None and kept:
        try:
            outputs = _validation_outputs(model, valid_set, config)
            class_scores = task.class_scores(outputs, valid_set.targets, valid_set.weights)
        except (Exception, KeyboardInterrupt) as error:  # what was learned is not lost for that
            stopped = out_of_memory(error, batch_size=config.batch_size) or error
    return TrainingResult(run.history, run.best.epoch, run.optimizers, stopped, class_scores)


class _Run:
    """What goes on from one epoch to the next, and so what a checkpoint holds."""

    def __init__(
        self,
        model: AudioModel,
        config: TrainingConfig,
        task: Task,
        *,
        history: list[dict[str, Any]] | None,
        optimizers: list[torch.optim.Optimizer] | None,
        generators: Sequence[torch.Generator] | None,
    ) -> None:
        self.model = model
        if optimizers is None or len(optimizers) != 1 + (config.muon_lr is not None):
            optimizers = build_optimizers(
                model, muon_lr=config.muon_lr, adam_lr=config.adam_lr, weight_decay=config.weight_decay
            )
        self.optimizers = optimizers
        self.average = MovingAverage(model, config.ema_decay)
        self.best = _Best(task.selects if config.keep == "best" else None)
        self.history = [] if history is None else history
        self.rng = np.random.default_rng(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.generators = seeded_generators(config.seed, config.device) if generators is None else generators
        self.borrows = draws_globally(model)
        self.epoch = 0
        self.done = False

    def draws(self) -> AbstractContextManager[None]:
        """Return the context in which a forward pass draws from the generators of this run."""
        return drawing_from(self.generators, borrow=self.borrows)

    def snapshot(self) -> Snapshot:
        """Return everything, for a checkpoint."""
        tensors = {
            **_named("model", self.model.state_dict()),
            **_named("average", {} if self.average.model is self.model else self.average.model.state_dict()),
            **_named("best", self.best.weights),
            "random.augment": self.generator.get_state(),
            **_named("random", {generator.device.type: generator.get_state() for generator in self.generators}),
        }
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= _named(f"optimizer.{number}.{index}", state)
        values = {
            "epoch": self.epoch,
            "done": self.done,
            "history": self.history,
            "average_steps": self.average.steps,
            "best_epoch": self.best.epoch,
            "best_reached": self.best.reached,
            "shuffle": self.rng.bit_generator.state,
        }
        return Snapshot(tensors, values)

    def restore(self, snapshot: Snapshot | None) -> None:
        """Become what a snapshot was taken of."""
        if snapshot is None:
            return
        tensors, values = snapshot.tensors, snapshot.values
        self.model.load_state_dict(_under("model", tensors))
        if self.average.model is not self.model:
            self.average.model.load_state_dict(_under("average", tensors))
        self.average.steps = values["average_steps"]
        for number, optimizer in enumerate(self.optimizers):
            found = _under(f"optimizer.{number}", tensors)
            indices = sorted({int(name.partition(".")[0]) for name in found})
            state = {index: _under(str(index), found) for index in indices}
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self.best.epoch, self.best.weights = values["best_epoch"], _under("best", tensors)
        self.best.reached = tuple(values["best_reached"])
        self.history[:] = values["history"]
        self.rng.bit_generator.state = values["shuffle"]
        self.generator.set_state(tensors["random.augment"])
        for generator in self.generators:
            if (name := f"random.{generator.device.type}") in tensors:  # the run may go on, on another device
                generator.set_state(tensors[name])
        self.epoch, self.done = values["epoch"], values["done"]


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


class _Best:
    """The best epoch so far: the highest score, and of equals the lowest validation loss; without scores, the last."""

    def __init__(self, score: str | None) -> None:
        self.score = f"val_{score}"
        self.epoch = 0
        self.reached = (-math.inf, -math.inf)
        self.weights: dict[str, Tensor] = {}

    def update(self, row: dict[str, Any], model: AudioModel) -> None:
        reached = (row[self.score], -row["val_loss"]) if self.score in row else self.reached
        if reached > self.reached or not self.epoch or self.score not in row:
            self.epoch, self.reached, self.weights = row["epoch"], reached, copy.deepcopy(model.state_dict())

    def restore(self, model: AudioModel) -> None:
        if self.epoch:
            model.load_state_dict(self.weights)


def _step(
    model: AudioModel,
    batch: Batch,
    task: Task,
    config: TrainingConfig,
    optimizers: list[torch.optim.Optimizer],
    draws: AbstractContextManager[None] | None = None,
) -> Tensor:
    """Take one optimisation step; return the batch's loss and its weight, shape (2,), without waiting for them."""
    with draws or nullcontext(), autocast(config.precision, config.device):
        by_model = model.classify_each(batch.inputs, batch.lengths)
    losses = [_losses(logits, batch, task, config.label_smoothing) for logits in by_model]
    total = losses[0][1].sum().clamp(min=1e-12)
    loss = torch.stack([weighted.sum() for weighted, _ in losses]).mean() / total
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return torch.stack([loss.detach() * total, total])


def _losses(logits: Tensor, batch: Batch, task: Task, label_smoothing: float) -> tuple[Tensor, Tensor]:
    """Return weighted losses and weights, shape (n,); a mixed item counts in shares as itself and as its partner."""
    losses, weights = task.loss(logits, batch.targets, label_smoothing), batch.weights
    if batch.partners is None or batch.shares is None:
        return losses * weights, weights
    partners, shares = batch.partners.to(logits.device), batch.shares.to(logits.device, weights.dtype)
    others = task.loss(logits, batch.targets[partners], label_smoothing)
    weights = torch.cat([shares * weights, (1 - shares) * weights[partners]])
    return torch.cat([losses, others]) * weights, weights


def _train_epoch(
    run: _Run, train_set: FrameSet, task: Task, config: TrainingConfig, transforms: Sequence[Transform]
) -> tuple[float, dict[str, float]]:
    """Update the weights with each batch; return the mean loss and the learning rates of the last step."""
    model = run.model.train()
    batches = shuffled_buckets(train_set.lengths(model.max_frames), config.batch_size, run.rng)
    losses = []
    for step, indices in enumerate(batches, start=run.epoch * len(batches)):
        rates = _set_learning_rates(run.optimizers, step, config.epochs * len(batches), config)
        batch = train_set.batch(indices, model.max_frames, run.rng).to(config.device)
        for transform in transforms:
            batch = transform(batch, run.generator)
        losses.append(_step(model, batch.crop_or_pad(model.max_frames), task, config, run.optimizers, run.draws()))
        run.average.update()
    return _mean_loss(losses, batches, train_set, run, config), rates


def _mean_loss(
    losses: list[Tensor], batches: list[np.ndarray], train_set: FrameSet, run: _Run, config: TrainingConfig
) -> float:
    """Return the mean loss of an epoch's clips.

    Raises
    ------
    TrainingError
        If it is not finite, naming the first step at which it was not.
    """
    sums = torch.stack(losses).cpu()
    total, weight = sums.sum(dim=0).tolist()
    if math.isfinite(total):
        return total / weight
    first = int((~sums[:, 0].isfinite()).nonzero()[0])
    positions = train_set.positions[batches[first]].tolist()
    step, total = run.epoch * len(batches) + first, config.epochs * len(batches)
    rates = _set_learning_rates(run.optimizers, step, total, config)
    there = [f"{name}={rate:.2g} (of {getattr(config, name)})" for name, rate in rates.items()]
    best = run.best.epoch
    kept = f"The weights of epoch {best} are kept, in error.trained." if best else "No epoch had ended."
    raise TrainingError(
        f"The training loss is {float(sums[first, 0])} at step {first + 1} of epoch {run.epoch + 1}, expected a finite "
        f"number; the learning rates there were {' and '.join(there)}, the clips {positions}. Lower the rates, or look "
        f"at these clips. {kept}"
    )


def _validation_outputs(model: AudioModel, valid_set: FrameSet, config: TrainingConfig) -> Tensor:
    embeddings = embed_clips(
        model,
        valid_set.frames,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,
    )
    with torch.inference_mode():
        return model.head(embeddings.to(config.device)).cpu()


def _validate(model: AudioModel, valid_set: FrameSet, task: Task, config: TrainingConfig) -> dict[str, float]:
    logits = _validation_outputs(model, valid_set, config)
    losses = task.loss(logits, valid_set.targets, 0.0)
    loss = (losses * valid_set.weights).sum() / valid_set.weights.sum()
    scores = task.scores(logits, valid_set.targets, valid_set.weights)
    return {"val_loss": float(loss), **{f"val_{name}": value for name, value in scores.items()}}


def _set_learning_rates(
    optimizers: list[torch.optim.Optimizer], step: int, total_steps: int, config: TrainingConfig
) -> dict[str, float]:
    """Set and return the learning rates of a step, by name."""
    factor = 1.0 if config.constant_lr else warmup_cosine(step, total_steps, config.warmup_ratio)
    peaks = {"muon_lr": config.muon_lr, "adam_lr": config.adam_lr}
    rates = {name: float(peak * factor) for name, peak in peaks.items() if peak is not None}
    for optimizer, rate in zip(optimizers, rates.values(), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
    return rates
