"""Scores of models on new clips, with confidence intervals and reports, and comparisons of models."""

from skastw.analysis.scores import SCORES, class_scores, part_scores, score_intervals, total_scores
from skastw.evaluation.compare import Comparison, compare
from skastw.evaluation.evaluation import Evaluation, evaluate, evaluate_predictions

__all__ = [
    "SCORES",
    "Comparison",
    "Evaluation",
    "class_scores",
    "compare",
    "evaluate",
    "evaluate_predictions",
    "part_scores",
    "score_intervals",
    "total_scores",
]
