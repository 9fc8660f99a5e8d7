"""Training of a network: the loop, the optimisers, the learning-rate schedule and checkpoints."""

from skastw.training.average import MovingAverage
from skastw.training.checkpoint import load_state, save_state
from skastw.training.loop import Monitor, train
from skastw.training.muon import Muon
from skastw.training.run import Run, start_run, trained_from
from skastw.training.settings import TrainingParams, TrainingSettings

__all__ = [
    "Monitor",
    "MovingAverage",
    "Muon",
    "Run",
    "TrainingParams",
    "TrainingSettings",
    "load_state",
    "save_state",
    "start_run",
    "train",
    "trained_from",
]
