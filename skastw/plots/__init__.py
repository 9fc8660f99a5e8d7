"""Plots of clips, models and scores, as scikit-learn's Display classes; they need the extra ``plot``."""

from skastw.plots.augmentation import AugmentationDisplay
from skastw.plots.embedding import EmbeddingDisplay
from skastw.plots.group_scores import GroupScoresDisplay
from skastw.plots.learning_curves import LearningCurvesDisplay
from skastw.plots.occlusion import OcclusionDisplay
from skastw.plots.pareto import ParetoDisplay
from skastw.plots.spectrogram import SpectrogramDisplay
from skastw.plots.window_predictions import WindowPredictionsDisplay

__all__ = [
    "AugmentationDisplay",
    "EmbeddingDisplay",
    "GroupScoresDisplay",
    "LearningCurvesDisplay",
    "OcclusionDisplay",
    "ParetoDisplay",
    "SpectrogramDisplay",
    "WindowPredictionsDisplay",
]
