"""Conversion of a training run to a fitted model."""

from collections.abc import Mapping
from typing import Any

from skastw.core.version import library_versions
from skastw.data.dataset import Data
from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.network.trained import ClassScores, Trained, TrainingRecord
from skastw.training.run import Run


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
        versions=library_versions(),
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
