"""The training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from skastw._device import autocast
from skastw.augment import Augment
from skastw.batching import Batch, FrameSet, shuffled_buckets
from skastw.errors import TrainingError
from skastw.inference import embed_clips
from skastw.model import AudioModel
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


@dataclass(frozen=True)
class TrainingResult:
    """What training leaves beside the weights, which the model then holds.

    Attributes
    ----------
    history : list of dict
        One row an epoch.
    best_epoch : int
        The epoch whose weights were kept, counted from 1.
    """

    history: list[dict[str, Any]]
    best_epoch: int


def train(
    model: AudioModel,
    train_set: FrameSet,
    valid_set: FrameSet | None,
    task: Task,
    config: TrainingConfig,
    augment: Sequence[Augment] = (),
) -> TrainingResult:
    """Train a model, keeping the weights of the epoch with the best validation score.

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
    augment : sequence of Augment
        Applied to each training batch, in order.

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
    optimizers = build_optimizers(
        model, muon_lr=config.muon_lr, adam_lr=config.adam_lr, weight_decay=config.weight_decay
    )
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    lengths = np.array([min(len(item), model.max_frames) for item in train_set.frames])
    total_steps = config.epochs * math.ceil(len(train_set) / config.batch_size)

    history: list[dict[str, Any]] = []
    best_epoch, best_score, best_weights = 0, (-math.inf, -math.inf), None
    step = 0
    bar = tqdm(range(1, config.epochs + 1), desc="training", unit="epoch", disable=not config.verbose)
    for epoch in bar:
        began = time.perf_counter()
        model.train()
        losses = []
        for indices in shuffled_buckets(lengths, config.batch_size, rng):
            factor = warmup_cosine(step, total_steps, config.warmup_ratio)
            _set_learning_rates(optimizers, peaks, factor)
            batch = train_set.batch(indices, model.max_frames, rng).to(config.device)
            for augmentation in augment:
                batch = augmentation.apply(batch, generator)
            losses.append(_step(model, batch, task, config, optimizers))
            step += 1

        row = {"epoch": epoch, "loss": _mean_loss(losses, epoch, config)}
        if valid_set is not None:
            row |= _validate(model, valid_set, task, config)
        row |= {"muon_lr": config.muon_lr * factor, "adam_lr": config.adam_lr * factor}
        row["seconds"] = time.perf_counter() - began
        history.append(row)
        bar.set_postfix(
            {name: f"{row[name]:.3f}" for name in ("loss", "val_loss", f"val_{task.selects}") if name in row}
        )

        if valid_set is None:
            best_epoch = epoch
            continue
        score = (row[f"val_{task.selects}"], -row["val_loss"])
        if score > best_score:
            best_epoch, best_score, best_weights = epoch, score, copy.deepcopy(model.state_dict())
        elif config.patience is not None and epoch - best_epoch >= config.patience:
            break
    bar.close()

    if best_weights is not None:
        model.load_state_dict(best_weights)
    model.eval()
    return TrainingResult(history, best_epoch)


def _step(
    model: AudioModel, batch: Batch, task: Task, config: TrainingConfig, optimizers: list[torch.optim.Optimizer]
) -> Tensor:
    """Take one optimisation step; return the batch's loss and its weight, shape (2,), without waiting for them."""
    with autocast(config.precision, config.device):
        logits = model.classify(batch.inputs, batch.lengths)
    losses = task.loss(logits, batch.targets, config.label_smoothing)
    total = batch.weights.sum().clamp(min=1e-12)
    loss = (losses * batch.weights).sum() / total
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return torch.stack([loss.detach() * total, total])


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


def _set_learning_rates(optimizers: list[torch.optim.Optimizer], peaks: list[list[float]], factor: float) -> None:
    for optimizer, rates in zip(optimizers, peaks, strict=True):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
