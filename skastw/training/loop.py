"""The training loop, from the first epoch to the weights that are kept."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from skastw.core.batching import Batch, shuffled_buckets
from skastw.core.device import autocast, out_of_memory
from skastw.core.progress import ProgressBar
from skastw.data.dataset import Data
from skastw.data.frames import FrameSet
from skastw.errors import TrainingError
from skastw.network.inference import embed_clips
from skastw.network.model import AudioModel, load_trained_state
from skastw.training.checkpoint import save_state
from skastw.training.linear import fit_linear
from skastw.training.optim import peak_rates, warmup_cosine
from skastw.training.run import Loss, Run


class Monitor(Protocol):
    """Observer that is called before and after each epoch, and can stop training."""

    def begin_epoch(self) -> None:
        """Called before an epoch."""

    def end_epoch(self, run: Run) -> bool:
        """Called after an epoch; return True to stop training."""


def train(run: Run, data: Data, *, monitor: Monitor | None = None, checkpoint: Path | None = None) -> Run:
    """Train a network: select the best epoch, and train its weights further on all clips.

    Parameters
    ----------
    run : Run
        A new run, or one that continues from a saved state.
    data : Data
        The training set and, optionally, a validation set, whose score selects the best epoch. Without it, the last
        epoch is the best.
    monitor : Monitor, optional
        Observer of the epochs, which can stop training.
    checkpoint : Path, optional
        File to which the state of the run is written after each epoch.

    Returns
    -------
    Run
        ``run``. An exception that ends training is not raised but kept in ``run.stopped``: the loss is not finite,
        memory runs out, the monitor raises, or the user interrupts.
    """

    def end_epoch() -> None:
        if checkpoint is not None:
            save_state(checkpoint, run.state_dict())

    if run.refit is None:  # otherwise the run continues from a state of its refit
        _train_and_select(run, data, monitor, end_epoch)
    if run.settings.n_refit and data.together is not None and run.stopped is None and not run.halted:
        _refit(run, Data(data.together, None, "all clips"), monitor, end_epoch)
    return run


def _train_and_select(run: Run, data: Data, monitor: Monitor | None, end_epoch: Callable[[], None]) -> None:
    """Train the teacher and the network, and give the network the best weights and the side vector."""
    if run.teacher is not None:
        run.stopped = _train_teacher(run.teacher, data)
    _train_epochs(run, data, monitor, end_epoch)

    if run.best["epoch"]:
        load_trained_state(run.model, run.best["weights"])
    _finish(run)
    _score_classes(run, data.valid)


def _refit(run: Run, data: Data, monitor: Monitor | None, end_epoch: Callable[[], None]) -> None:
    """Train the selected weights further on all clips; restore them if this is stopped."""
    run.model.side = None
    refit = run.refit or run.start_refit()
    _train_and_select(refit, data, monitor, end_epoch)

    run.stopped = refit.stopped
    if refit.stopped is not None or refit.halted:
        run.model.side = run.refit = None
        load_trained_state(run.model, run.best["weights"])
        _finish(run)


def _finish(run: Run) -> None:
    """Give the network its side vector, and set it to evaluation mode."""
    run.model.side = None if run.side is None else run.side.to(run.settings.device)
    run.model.eval()


def _train_epochs(run: Run, data: Data, monitor: Monitor | None, end_epoch: Callable[[], None]) -> None:
    """Train the epochs that are left, and keep the best weights."""
    settings = run.settings
    bar = ProgressBar(
        total=settings.n_epochs, initial=run.epoch, desc=run.name, unit="epoch", disable=settings.verbose != 1
    )
    try:
        while run.epoch < settings.n_epochs and not run.done and run.stopped is None:
            began = time.perf_counter()
            if monitor is not None:
                monitor.begin_epoch()

            loss, rates = _fit_head(run, data.train) if settings.solver == "lbfgs" else _train_epoch(run, data.train)
            scores = {} if data.valid is None else _validate(run, data.valid)
            row = {"epoch": len(run.history) + 1, "loss": loss, **scores}
            run.history.append({**row, **rates, "seconds": time.perf_counter() - began})
            _show(bar, run, row)

            run.keep_best(row)
            run.halted = monitor is not None and monitor.end_epoch(run)
            without_better = row["epoch"] - run.best["epoch"]
            run.done = run.halted or (settings.patience is not None and without_better >= settings.patience)

            run.epoch += 1
            end_epoch()
    except (Exception, KeyboardInterrupt) as error:
        run.stopped = out_of_memory(error, batch_size=settings.batch_size) or error
    bar.close()


def _train_teacher(teacher: Run, data: Data) -> Exception | KeyboardInterrupt | None:
    """Train a teacher, unless its weights come from a checkpoint; return the exception that ended its training."""
    if teacher.epoch < teacher.settings.n_epochs:
        train(teacher, replace(data, valid=None, together=None))
    teacher.model.eval()
    return teacher.stopped


def _train_epoch(run: Run, train_set: FrameSet) -> tuple[float, dict[str, float]]:
    """Train on each batch once; return the mean loss and the learning rates of the last step."""
    model, settings = run.model.train(), run.settings
    longest = model.max_frames if run.waveform_transforms is None else train_set.longest  # whole clips are in samples
    batches = shuffled_buckets(train_set.lengths(longest), settings.batch_size, run.rng)
    losses = []

    for step, indices in enumerate(batches, start=run.epoch * len(batches)):
        rates = _learning_rates(run, step, settings.n_epochs * len(batches))
        for name, optimizer in run.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name] * group.get("factor", 1.0)

        batch = _augmented(run, train_set, indices)
        losses.append(_step(run, batch))
        run.average.update()

    sums = torch.stack(losses).cpu()  # the only time in an epoch that the CPU waits for the device
    total, weight = sums.sum(dim=0).tolist()
    if not math.isfinite(total):
        raise _not_finite(run, sums[:, 0], batches, train_set)
    return total / weight, rates


def _fit_head(run: Run, train_set: FrameSet) -> tuple[float, dict[str, float]]:
    """Fit the head exactly to the embeddings of the training clips; return the mean loss, and no learning rates."""
    model, settings = run.model, run.settings
    parts = {name.partition(".")[0] for name, weight in model.named_parameters() if weight.requires_grad} - {"head"}
    if parts:
        raise ValueError(
            f"Got solver='lbfgs' with weights to train in {', '.join(sorted(parts))}, expected only the head to have "
            "such weights, as with encoder='identity'; set solver='gradient', or freeze these parts."
        )

    embeddings = _embeddings(run, model, train_set)
    layer = fit_linear(
        embeddings, train_set.targets, train_set.weights, run.targets.loss, run.targets.n_outputs, settings.C
    )
    model.head.load_state_dict(layer.state_dict())

    losses = run.targets.loss(_outputs(run, model, train_set), train_set.targets)
    return float((losses * train_set.weights).sum() / train_set.weights.sum()), {}


def _augmented(run: Run, train_set: FrameSet, indices: np.ndarray) -> Batch:
    """Return a batch of augmented frames, with a random chunk of each long clip."""
    max_frames, device = run.model.max_frames, run.settings.device

    if run.waveform_transforms is None:
        batch = train_set.batch(indices, max_frames, run.rng).to(device)
    else:  # the frames of a chunk may depend on the whole clip, so chunks are cut after the front end
        batch = train_set.batch(indices, train_set.longest, run.rng).to(device)
        for transform in run.waveform_transforms:
            batch = transform(batch, run.generator)
        with run.draws():
            frames = run.model.frames(batch.inputs[:, :, 0], batch.lengths)
        batch = batch.with_frames(*frames).chunk(max_frames, run.rng)

    for transform in run.transforms:
        batch = transform(batch, run.generator)
    return batch.crop_or_pad(max_frames)


def _step(run: Run, batch: Batch) -> Tensor:
    """Update the weights on a batch; return its loss and its weight, shape (2,), without waiting for the device."""
    settings = run.settings
    with run.draws(), autocast(settings.precision, settings.device):
        by_model = run.targets.forward(run.model, batch.inputs, batch.lengths)

    losses = [_losses(outputs, batch, run.loss) for outputs in by_model]
    total = losses[0][1].sum().clamp(min=1e-12)
    mean = torch.stack([weighted.sum() for weighted, _ in losses]).mean() / total
    if run.teacher is not None:
        mean = torch.lerp(mean, _distance_to_teacher(run, run.teacher.model, by_model, batch), settings.teacher_share)

    mean.backward()
    for optimizer in run.optimizers.values():
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return torch.stack([mean.detach() * total, total])


def _distance_to_teacher(run: Run, teacher: AudioModel, by_model: list[Tensor], batch: Batch) -> Tensor:
    """Return the mean distance of the outputs of each model to the outputs of the teacher for the same batch."""
    with torch.no_grad(), autocast(run.settings.precision, run.settings.device):
        taught = teacher.classify(batch.inputs, batch.lengths)
    distances = torch.stack([run.targets.distance(outputs, taught) for outputs in by_model]).mean(dim=0)
    return (distances * batch.weights).sum() / batch.weights.sum().clamp(min=1e-12)


def _losses(outputs: Tensor, batch: Batch, loss: Loss) -> tuple[Tensor, Tensor]:
    """Return weighted losses and weights, shape (n,).

    A mixed item gets a share of the loss on its own target, and the rest on the target of its partner.
    """
    losses, weights = loss(outputs, batch.targets), batch.weights
    if batch.partners is None or batch.shares is None:
        return losses * weights, weights

    partners, shares = batch.partners.to(outputs.device), batch.shares.to(outputs.device, weights.dtype)
    others = loss(outputs, batch.targets[partners])
    weights = torch.cat([shares * weights, (1 - shares) * weights[partners]])
    return torch.cat([losses, others]) * weights, weights


def _learning_rates(run: Run, step: int, total_steps: int) -> dict[str, float]:
    """Return the learning rate of each optimiser at a step, by the name of the parameter."""
    settings = run.settings
    factor = 1.0 if settings.constant_lr else warmup_cosine(step, total_steps, settings.warmup_ratio)
    return {name: float(peak * factor) for name, peak in peak_rates(settings).items() if name in run.optimizers}


def _validate(run: Run, valid_set: FrameSet) -> dict[str, float]:
    """Return the loss and the scores on the validation clips."""
    return _scores(run, _outputs(run, run.average.model, valid_set), valid_set)


def _scores(run: Run, outputs: Tensor, valid_set: FrameSet) -> dict[str, float]:
    losses = run.targets.loss(outputs, valid_set.targets)
    loss = (losses * valid_set.weights).sum() / valid_set.weights.sum()
    scores = run.targets.scores(outputs, valid_set.targets, valid_set.weights)
    return {"val_loss": float(loss), **{f"val_{name}": value for name, value in scores.items()}}


def _outputs(run: Run, model: AudioModel, valid_set: FrameSet) -> Tensor:
    """Return the outputs of the network for each clip, shape (n, K), on the CPU."""
    with torch.inference_mode():
        vectors = _embeddings(run, model, valid_set, partial(run.targets.embed, model))
        return run.targets.outputs(model, vectors.to(run.settings.device)).cpu()


def _embeddings(
    run: Run, model: AudioModel, frame_set: FrameSet, embed_chunks: Callable[[Tensor, Tensor], Tensor] | None = None
) -> Tensor:
    """Return the embedding of each clip, shape (n, D), on the CPU."""
    settings = run.settings
    return embed_clips(
        model,
        run.whole_frames(model, frame_set),
        frame_set.side,
        batch_size=settings.batch_size,
        device=settings.device,
        precision=settings.precision,
        embed_chunks=embed_chunks,
    )


def _score_classes(run: Run, valid_set: FrameSet | None) -> None:
    """Compute the scores of each class on the validation clips, unless an error ended training."""
    interrupted = isinstance(run.stopped, KeyboardInterrupt) and run.best["epoch"] > 0
    if valid_set is None or not (run.stopped is None or interrupted):
        return
    try:
        outputs = _outputs(run, run.model, valid_set)
        run.joined_scores = {} if run.side is None else _scores(run, outputs, valid_set)
        run.class_scores = run.targets.class_scores(outputs, valid_set.targets, valid_set.weights)
    except (Exception, KeyboardInterrupt) as error:  # keep the weights in any case
        run.stopped = out_of_memory(error, batch_size=run.settings.batch_size) or error


def _show(bar: ProgressBar, run: Run, row: dict[str, Any]) -> None:
    """Show the losses of an epoch and the score that selects the best one, in the progress bar or as a line."""
    numbers = {name: f"{value:.3f}" for name, value in row.items() if "loss" in name or run.targets.monitor in name}
    bar.set_postfix(numbers)
    bar.update()
    if run.settings.verbose > 1:
        text = ", ".join(f"{name} {value}" for name, value in numbers.items())
        who = "" if run.name == "training" else f"{run.name}, "
        ProgressBar.write(f"{who}epoch {run.epoch + 1} of {run.settings.n_epochs}: {text}", file=sys.stderr)


def _not_finite(run: Run, losses: Tensor, batches: list[np.ndarray], train_set: FrameSet) -> TrainingError:
    """Return the error for the first step whose loss was not finite."""
    first = int((~losses.isfinite()).nonzero()[0])
    rates = _learning_rates(run, run.epoch * len(batches) + first, run.settings.n_epochs * len(batches))
    peaks = peak_rates(run.settings)
    words = " and ".join(f"{name}={rate:.2g} (of {peaks[name]})" for name, rate in rates.items())
    best = run.best["epoch"]
    kept = f"The weights of epoch {best} are kept, in error.trained." if best else "No epoch had ended."
    return TrainingError(
        f"The training loss is {float(losses[first])} at step {first + 1} of epoch {run.epoch + 1}, expected a finite "
        f"number; the learning rates there were {words}, the clips {train_set.positions[batches[first]].tolist()}. "
        f"Lower the rates, or look at these clips. {kept}"
    )
