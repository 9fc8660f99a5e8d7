"""The training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from skastw._device import autocast
from skastw.augment import Transform
from skastw.batching import Batch, shuffled_buckets
from skastw.errors import TrainingError
from skastw.frames import FrameSet
from skastw.inference import embed_clips
from skastw.model import AudioModel
from skastw.training.average import MovingAverage
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
    muon_lr, adam_lr, weight_decay, warmup_ratio, label_smoothing : float
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
    muon_lr: float
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
        The epoch whose weights were kept, counted from 1.
    optimizers : list of Optimizer
        To go on with.
    """

    history: list[dict[str, Any]]
    best_epoch: int
    optimizers: list[torch.optim.Optimizer]


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
    monitor: Monitor | None = None,
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
    monitor : Monitor, optional
        Watches the epochs, and may end training.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TrainingError
        If the loss is no longer finite.
    """
    rng = np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    optimizers = optimizers or build_optimizers(
        model, muon_lr=config.muon_lr, adam_lr=config.adam_lr, weight_decay=config.weight_decay
    )
    n_batches = math.ceil(len(train_set) / config.batch_size)
    history = [] if history is None else history
    average = MovingAverage(model, config.ema_decay)
    best = _Best(task.selects if config.keep == "best" else None)

    bar = tqdm(range(config.epochs), desc="training", unit="epoch", disable=not config.verbose)
    for epoch in bar:
        began = time.perf_counter()
        if monitor is not None:
            monitor.begin_epoch()
        model.train()
        losses = []
        batches = shuffled_buckets(train_set.lengths(model.max_frames), config.batch_size, rng)
        for step, indices in enumerate(batches, start=epoch * n_batches):
            rates = _set_learning_rates(optimizers, step, config.epochs * n_batches, config)
            batch = train_set.batch(indices, model.max_frames, rng).to(config.device)
            for transform in transforms:
                batch = transform(batch, generator)
            losses.append(_step(model, batch.fitted(model.max_frames), task, config, optimizers))
            average.update()

        row = {"epoch": len(history) + 1, "loss": _mean_loss(losses, epoch + 1, config)}
        if valid_set is not None:
            row |= _validate(average.model, valid_set, task, config)
        history.append(row | rates | {"seconds": time.perf_counter() - began})
        bar.set_postfix({name: f"{value:.3f}" for name, value in row.items() if "loss" in name or task.selects in name})

        best.update(row, average.model)
        stop = monitor is not None and monitor.end_epoch(average.model)
        if stop or (config.patience is not None and row["epoch"] - best.epoch >= config.patience):
            break
    bar.close()

    best.restore(average.model)
    if average.model is not model:
        model.load_state_dict(average.model.state_dict())
    model.eval()
    return TrainingResult(history, best.epoch, optimizers)


class _Best:
    """The best epoch so far: the highest score, and of equals the lowest validation loss; without scores, the last."""

    def __init__(self, score: str | None) -> None:
        self.score = f"val_{score}"
        self.epoch = 0
        self._reached = (-math.inf, -math.inf)
        self._weights: dict[str, Tensor] | None = None

    def update(self, row: dict[str, Any], model: AudioModel) -> None:
        if self.score not in row:
            self.epoch = row["epoch"]
            return
        reached = (row[self.score], -row["val_loss"])
        if reached > self._reached or not self.epoch:
            self.epoch, self._reached, self._weights = row["epoch"], reached, copy.deepcopy(model.state_dict())

    def restore(self, model: AudioModel) -> None:
        if self._weights is not None:
            model.load_state_dict(self._weights)


def _step(
    model: AudioModel, batch: Batch, task: Task, config: TrainingConfig, optimizers: list[torch.optim.Optimizer]
) -> Tensor:
    """Take one optimisation step; return the batch's loss and its weight, shape (2,), without waiting for them."""
    with autocast(config.precision, config.device):
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


def _mean_loss(losses: list[Tensor], epoch: int, config: TrainingConfig) -> float:
    total, weight = torch.stack(losses).sum(dim=0).tolist()
    if not math.isfinite(total):
        raise TrainingError(
            f"The training loss is {total / weight} in epoch {epoch}, expected a finite number; lower muon_lr "
            f"(now {config.muon_lr}) or adam_lr (now {config.adam_lr})."
        )
    return total / weight


def _validate(model: AudioModel, valid_set: FrameSet, task: Task, config: TrainingConfig) -> dict[str, float]:
    embeddings = embed_clips(
        model,
        valid_set.frames,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,
    )
    with torch.inference_mode():
        logits = model.head(embeddings.to(config.device)).cpu()
    losses = task.loss(logits, valid_set.targets, 0.0)
    loss = (losses * valid_set.weights).sum() / valid_set.weights.sum()
    scores = task.scores(logits, valid_set.targets, valid_set.weights)
    return {"val_loss": float(loss), **{f"val_{name}": value for name, value in scores.items()}}


def _set_learning_rates(
    optimizers: list[torch.optim.Optimizer], step: int, total_steps: int, config: TrainingConfig
) -> dict[str, float]:
    """Set and return the learning rates of a step."""
    factor = 1.0 if config.constant_lr else warmup_cosine(step, total_steps, config.warmup_ratio)
    rates = {"muon_lr": config.muon_lr * factor, "adam_lr": config.adam_lr * factor}
    for optimizer, rate in zip(optimizers, rates.values(), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
    return rates
