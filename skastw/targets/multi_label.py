"""Targets with several labels per clip, given as an indicator."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch import Tensor
from torch.nn import functional as F

from skastw.errors import DataError, plain
from skastw.targets._classes import ClassTargets, y_and_type
from skastw.targets.checks import check_label_texts


@dataclass(frozen=True, eq=False)
class MultiLabel(ClassTargets):
    """Any number of labels for each clip, trained with a sigmoid and binary cross-entropy for each label.

    Parameters
    ----------
    classes : ndarray of shape (K,)
        Names of the columns of the indicator, or their positions.

    Examples
    --------
    >>> from skastw.targets import MultiLabel
    >>> MultiLabel.learn([[0, 1, 1], [1, 0, 0]]).labels
    [0, 1, 2]
    """

    name: ClassVar[str] = "multilabel"
    noun: ClassVar[str] = "labels, any number of which may apply"
    purpose: ClassVar[str] = "Finding the labels below"
    limits: ClassVar[str] = "The model knows only the labels above."

    @classmethod
    def accepts(cls, y: Any) -> bool:
        """Return whether y is an indicator of zeros and ones with several columns."""
        if (names := _names(y)) is not None and len(np.unique(names)) < len(names):
            raise DataError(f"y has the columns {plain(names)}, expected names that differ as text: rename them.")
        return y_and_type(y)[1] == "multilabel-indicator"

    @classmethod
    def learn(cls, y: Any, sample_weight: Any = None) -> Self:
        """Return the targets with the columns of y."""
        names = _names(y)
        return cls(np.arange(_indicator(y).shape[1]) if names is None else names)

    def encode(self, y: Any) -> np.ndarray:
        """Return the indicator, shape (n, K), float32."""
        indicator = _indicator(y)
        if indicator.shape[1] != self.n_outputs:
            raise ValueError(f"Got an indicator of {indicator.shape[1]} labels, expected {self.n_outputs}.")
        return indicator

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the binary cross-entropy of each item, averaged over its labels."""
        smoothed = targets.to(outputs.dtype) * (1 - label_smoothing) + label_smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, smoothed, reduction="none").mean(dim=1)

    def distance(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the Kullback-Leibler divergence from the probabilities of the teacher, averaged over the labels."""
        own, theirs = (F.logsigmoid(torch.stack([logits, -logits])) for logits in (outputs, taught))
        return F.kl_div(own, theirs, reduction="none", log_target=True).sum(dim=0).mean(dim=1)

    def loss_weights(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return ones; class weights do not define the weight of a clip with several labels."""
        if class_weight is not None:
            raise ValueError(
                f"Got class_weight={plain(class_weight)!r} for multi-label targets, expected None; use sample_weight."
            )
        return np.ones(len(targets))

    def chosen(self, outputs: Tensor) -> Tensor:
        """Return which labels have a probability above 0.5, shape (n, K), bool."""
        return outputs > 0

    def decide(self, outputs: Tensor) -> np.ndarray:
        """Return the indicator of labels with a probability above 0.5, or -1 for clips that could not be used."""
        failed = outputs.isnan().any(dim=1, keepdim=True)
        return self.chosen(outputs).long().masked_fill(failed, -1).numpy()

    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return the log-sigmoid."""
        return F.logsigmoid(outputs)

    def finish(self, outputs: Tensor) -> Tensor:
        """Return the sigmoid."""
        return outputs.sigmoid()

    def strata(self, targets: np.ndarray, *, grouped: bool) -> np.ndarray:
        """Return the combination of labels of each clip, or one stratum for all clips of a split by groups."""
        if grouped:
            return super().strata(targets, grouped=grouped)
        return np.unique(targets, axis=0, return_inverse=True)[1].reshape(-1)


def _names(y: Any) -> np.ndarray | None:
    """Return the names of the columns of a DataFrame as text, or None if y has no columns."""
    columns = getattr(y, "columns", None)
    if columns is None:
        return None
    names = np.array(list(map(str, columns)))
    check_label_texts(names)
    return names


def _indicator(y: Any) -> np.ndarray:
    y, y_type = y_and_type(y)
    if y_type != "multilabel-indicator":
        raise ValueError(f"Got targets of type {y_type!r}, expected an indicator as in the first fit.")
    indicator = check_array(y, accept_sparse="csr", dtype=np.float32, input_name="y")
    return indicator.toarray() if hasattr(indicator, "toarray") else indicator
