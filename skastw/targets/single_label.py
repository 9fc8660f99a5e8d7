"""Targets with one label per clip."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor
from torch.nn import functional as F

from skastw.core.text import did_you_mean
from skastw.core.warn import warn_user
from skastw.errors import DataError, plain
from skastw.targets._classes import ClassTargets, y_and_type
from skastw.targets.checks import check_label_texts, class_weights, look_like_values


@dataclass(frozen=True, eq=False)
class SingleLabel(ClassTargets):
    """One of several classes for each clip, trained with softmax and cross-entropy.

    Parameters
    ----------
    classes : ndarray of shape (K,)
        Sorted classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.targets import SingleLabel
    >>> pets = SingleLabel.learn(["dog", "cat", "dog"])
    >>> pets.encode(["cat", "dog"]).tolist()
    [0, 1]
    """

    name: ClassVar[str] = "classification"
    general: ClassVar[bool] = True
    exclusive: ClassVar[bool] = True
    noun: ClassVar[str] = "classes"
    purpose: ClassVar[str] = "Telling the classes below apart"
    limits: ClassVar[str] = "The model knows only the classes above and gives every sound one of them."

    @classmethod
    def accepts(cls, y: Any) -> bool:
        """Return True, because this kind is tried after all others."""
        return True

    @classmethod
    def learn(cls, y: Any, sample_weight: Any = None) -> Self:
        """Return the targets with the classes of y."""
        y = _one_column(y_and_type(y)[0])
        classes = np.unique(y)
        check_label_texts(classes)
        if look_like_values(y):
            warn_user(
                f"y has {len(classes)} different numbers for {len(y)} clips, and a classifier takes each number as a "
                "class: for values, such as ages or ratings, use ASTWRegressor. If the numbers are names of classes, "
                "ignore this warning."
            )
        if len(classes) < 2:
            raise ValueError(
                f"Got one class ({plain(classes[0])!r}) in y, expected at least 2: a classifier needs another class."
            )
        return cls(classes)

    def encode(self, y: Any) -> np.ndarray:
        """Return the position of each label in ``classes``, shape (n,), int64."""
        y, y_type = y_and_type(y)
        if y_type == "multilabel-indicator":
            raise ValueError(f"Got targets of type {y_type!r}, expected one label per clip as in the first fit.")

        y = _one_column(y)
        unknown = np.setdiff1d(y, self.classes)
        if len(unknown):
            known = plain(self.classes[:10])
            meant = did_you_mean(unknown[0], self.classes) or "."
            got = f"Got labels {plain(unknown[:5])} that are not in the training data"
            raise ValueError(f"{got}, expected labels among {known}{meant}")
        order = np.argsort(self.classes)  # a saved model may have its classes in any order
        return order[np.searchsorted(self.classes, y, sorter=order)]

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the cross-entropy of each item."""
        return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing, reduction="none")

    def distance(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence of the probabilities from those of the teacher."""
        pair = outputs.log_softmax(dim=1), taught.log_softmax(dim=1)
        return F.kl_div(*pair, reduction="none", log_target=True).sum(dim=1)

    def loss_weights(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the weight of the class of each clip."""
        by_class = class_weights(class_weight, self.classes) if isinstance(class_weight, dict) else class_weight
        return compute_sample_weight(by_class, targets)

    def chosen(self, outputs: Tensor) -> Tensor:
        """Return the position of the class with the largest logit, shape (n,)."""
        return outputs.argmax(dim=1)

    def averages(self, class_scores: list[dict[str, Any]]) -> dict[str, float]:
        """Return the unweighted average recall, over the classes that have clips."""
        recalls = [row["recall"] for row in class_scores if row["support"]]
        return {"uar": sum(recalls) / len(recalls)} if recalls else {}

    def decide(self, outputs: Tensor) -> np.ndarray:
        """Return the class with the largest logit, or :attr:`placeholder` for clips that could not be used."""
        failed = outputs.isnan().any(dim=1).numpy()
        labels = self.classes[self.chosen(outputs).numpy()]
        if not failed.any():
            return labels
        # unsigned and small integers cannot represent the placeholder
        if labels.dtype.kind in "iu":
            labels = labels.astype(np.int64 if self.classes.max() <= np.iinfo(np.int64).max else object)
        return np.where(failed, self.placeholder, labels)

    def decision(self, outputs: Tensor) -> Tensor:
        """Return the logits; for two classes, the second logit minus the first, shape (n,)."""
        return outputs[:, 1] - outputs[:, 0] if self.n_outputs == 2 else outputs

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return the log-softmax."""
        return outputs.log_softmax(dim=1)

    def finish(self, outputs: Tensor) -> Tensor:
        """Return the softmax."""
        return outputs.softmax(dim=1)

    def strata(self, targets: np.ndarray, *, grouped: bool) -> np.ndarray:
        """Return the encoded classes."""
        return targets

    def lost(self, before: np.ndarray, after: np.ndarray) -> str | None:
        """Return the name of a class whose clips are all unusable, or None."""
        lost = np.setdiff1d(before, after)
        return f"class {plain(self.classes[lost[0]])!r}" if len(lost) else None


def _one_column(y: Any) -> np.ndarray:
    y = column_or_1d(y, warn=True)
    check_classification_targets(y)
    if not len(y):
        raise DataError("Got y without labels, expected one label for each clip.")
    return y
