"""Scores of a model on new clips, with confidence intervals and reports."""

from skastw.analysis.scores import SCORES, class_scores, part_scores, score_intervals, total_scores
from skastw.evaluation.evaluation import Evaluation, evaluate, evaluate_predictions

__all__ = [
    "SCORES",
    "Evaluation",
    "class_scores",
    "evaluate",
    "evaluate_predictions",
    "part_scores",
    "score_intervals",
    "total_scores",
]
