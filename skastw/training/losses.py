"""Tasks: what a kind of target needs of training, as one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CLASSIFICATION", "Task"]


@dataclass(frozen=True)
class Task:
    """What training needs to know of a task.

    Attributes
    ----------
    loss : callable
        ``(logits (B, K), targets, label_smoothing) -> Tensor of shape (B,)``, one loss an item.
    scores : callable
        ``(logits (n, K), targets, weights (n,)) -> dict of name -> value``, on the validation clips.
    selects : str
        The score whose highest value marks the best epoch.
    """

    loss: Callable[[Tensor, Tensor, float], Tensor]
    scores: Callable[[Tensor, Tensor, Tensor], dict[str, float]]
    selects: str


def _cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")


def _classification_scores(logits: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
    truth, predicted, weight = (np.asarray(torch.as_tensor(t)) for t in (targets, logits.argmax(dim=1), weights))
    return {
        "accuracy": float(accuracy_score(truth, predicted, sample_weight=weight)),
        "macro_f1": float(f1_score(truth, predicted, average="macro", sample_weight=weight, zero_division=0.0)),
    }


#: One label a clip, out of two or more classes.
CLASSIFICATION = Task(loss=_cross_entropy, scores=_classification_scores, selects="macro_f1")
