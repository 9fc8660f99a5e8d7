"""Tasks: what a kind of target needs of training, as one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

__all__ = ["TASKS", "Task"]


@dataclass(frozen=True)
class Task:
    """What training needs to know of a kind of target.

    Attributes
    ----------
    loss : callable
        ``(outputs (B, K), targets, label_smoothing) -> Tensor of shape (B,)``, one loss an item.
    scores : callable
        ``(outputs (n, K), targets, weights (n,)) -> dict of name -> value``, on the validation clips.
    selects : str
        The score whose highest value marks the best epoch.
    class_scores : callable, optional
        ``(outputs (n, K), targets, weights (n,)) -> list of K dicts of name -> value``, where outputs are classes.
    """

    loss: Callable[[Tensor, Tensor, float], Tensor]
    scores: Callable[[Tensor, Tensor, Tensor], dict[str, float]]
    selects: str
    class_scores: Callable[[Tensor, Tensor, Tensor], list[dict[str, float]]] | None = None


def _cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")


def _binary_cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    smoothed = targets.to(logits.dtype) * (1 - label_smoothing) + label_smoothing / 2
    return F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none").mean(dim=1)


def _squared_error(outputs: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    return (outputs - targets).square().mean(dim=1)


def _label_scores(logits: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score  # a tenth of the time to import skastw

    arguments = (targets.numpy(), _predicted(logits, targets).numpy())
    weight = weights.numpy()
    return {
        "accuracy": float(accuracy_score(*arguments, sample_weight=weight)),
        "macro_f1": float(f1_score(*arguments, average="macro", sample_weight=weight, zero_division=0.0)),
    }


def _class_scores(logits: Tensor, targets: Tensor, weights: Tensor) -> list[dict[str, float]]:
    from sklearn.metrics import precision_recall_fscore_support

    n_classes = logits.shape[1]
    scores = precision_recall_fscore_support(
        targets.numpy(),
        _predicted(logits, targets).numpy(),
        labels=range(n_classes),
        sample_weight=weights.numpy(),
        zero_division=0.0,
    )
    support = targets.sum(dim=0) if targets.ndim == 2 else targets.bincount(minlength=n_classes)
    rows = zip(*(column.tolist() for column in scores[:3]), support.tolist(), strict=True)
    return [{"precision": p, "recall": r, "f1": f1, "support": int(n)} for p, r, f1, n in rows]


def _predicted(logits: Tensor, targets: Tensor) -> Tensor:
    return logits > 0 if targets.ndim == 2 else logits.argmax(dim=1)


def _value_scores(outputs: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
    from sklearn.metrics import r2_score

    if len(targets) < 2:  # no variance to compare with but that of the standardised training targets, which is 1
        return {"r2": 1.0 - float(_squared_error(outputs, targets, 0.0).mean())}
    return {"r2": float(r2_score(targets.numpy(), outputs.numpy(), sample_weight=weights.numpy()))}


#: Each kind of target: one label, an indicator of several labels, or standardised values.
TASKS = {
    "classification": Task(_cross_entropy, _label_scores, selects="macro_f1", class_scores=_class_scores),
    "multilabel": Task(_binary_cross_entropy, _label_scores, selects="macro_f1", class_scores=_class_scores),
    "regression": Task(_squared_error, _value_scores, selects="r2"),
}
