"""Training: one loop outside the estimators, its optimisers, schedule, losses and validation split."""

from skastw.training.loop import TrainingConfig, TrainingResult, train
from skastw.training.losses import CLASSIFICATION, Task
from skastw.training.muon import Muon
from skastw.training.split import split_validation

__all__ = ["CLASSIFICATION", "Muon", "Task", "TrainingConfig", "TrainingResult", "split_validation", "train"]
