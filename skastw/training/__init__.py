"""Training: one loop outside the estimators, its optimisers, schedule, losses and validation split."""

from skastw.training.average import MovingAverage
from skastw.training.checkpoint import Checkpoint, Snapshot
from skastw.training.loop import Monitor, TrainingConfig, TrainingResult, train
from skastw.training.losses import TASKS, Task
from skastw.training.muon import Muon

__all__ = [
    "TASKS",
    "Checkpoint",
    "Monitor",
    "MovingAverage",
    "Muon",
    "Snapshot",
    "Task",
    "TrainingConfig",
    "TrainingResult",
    "train",
]
