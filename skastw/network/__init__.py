"""The network, the fitted model as a value, and predictions with it."""

from skastw.network.components import Components
from skastw.network.model import AudioModel
from skastw.network.trained import ClassScores, TestScores, Trained, TrainingRecord

__all__ = ["AudioModel", "ClassScores", "Components", "TestScores", "Trained", "TrainingRecord"]
