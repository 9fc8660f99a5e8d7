"""Base of the targets with classes, for one or several labels per clip."""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import count
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from msgspec import Meta, Struct
from sklearn.utils.multiclass import type_of_target
from torch import Tensor

from skastw.core.parameters import param, parameters, reals
from skastw.core.sklearn_private import StrOptions
from skastw.errors import ArtifactError, DataError
from skastw.storage.schema import check
from skastw.targets._base import Targets
from skastw.targets.checks import check_label_types, numpy_targets

#: Largest array of labels that is created for a saved model (bytes).
_MAX_LABEL_BYTES = 2**28


class _Document(Struct):
    """Content of ``labels.json``. The dtype pattern is strict, because NumPy accepts much more in a dtype string."""

    dtype: Annotated[str, Meta(pattern=r"^(object|[<>|=]?[biufU]\d{1,9})$", description="the dtype of an array")]
    labels: Annotated[list[str | bool | int | float], Meta(min_length=1, description="a list of labels")]


@parameters
class ClassParams:
    """Parameters of the loss of a classifier."""

    label_smoothing: float = param(
        default=0.1,
        valid=[reals(0, 1, closed="left")],
        doc="Share of the target probability that the training loss spreads evenly over all classes.",
    )
    class_weight: dict[Any, float] | str | None = param(
        default=None,
        valid=[dict, StrOptions({"balanced"}), None],
        doc='Weight of each class in the training loss, as in scikit-learn: ``"balanced"``, or a dict with a weight '
        "from 0 to 1e9 for each class. Classes that are missing in the dict have weight 1. Multi-label targets do not "
        "take class weights.",
    )


@dataclass(frozen=True, eq=False)
class ClassTargets(Targets):
    """Targets whose outputs are logits of classes.

    Attributes
    ----------
    classes : ndarray of shape (K,)
    """

    classes: np.ndarray

    monitor: ClassVar[str] = "macro_f1"
    exported: ClassVar[tuple[str, ...]] = ("probabilities", "logits")

    @property
    def labels(self) -> list[Any]:
        """The classes, in the order of the outputs."""
        return self.classes.tolist()

    @property
    def placeholder(self) -> Any:
        """The prediction for clips that cannot be used, which is not a class."""
        kind = self.classes.dtype.kind
        if kind == "f":
            return np.nan
        if kind in "iu":
            lowest, smallest = int(self.classes.min()), np.iinfo(np.int64).min
            return min(-1, lowest - 1) if lowest > smallest else next(i for i in count(lowest) if i not in self.classes)
        return None if kind == "b" or "" in self.classes else ""

    @abstractmethod
    def log_probabilities(self, outputs: Tensor) -> Tensor:
        """Return the log-probability of each class for logits of shape (n, K)."""

    def decision(self, outputs: Tensor) -> Tensor:
        """Return the result of ``decision_function`` for logits (n, K)."""
        return outputs

    @abstractmethod
    def chosen(self, outputs: Tensor) -> Tensor:
        """Return the predicted classes for logits (n, K), encoded like the targets."""

    def top_k(self, outputs: Tensor, k: int) -> list[list[tuple[Any, float]]]:
        """Return the ``k`` most probable classes of each clip with their probabilities, for logits (n, K).

        A clip that could not be used gets :attr:`placeholder` alone. A probability has the digits of its dtype: 0.1,
        not 0.10000000149, for float32.
        """
        probabilities = self.finish(outputs).numpy()
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
        return [
            [(self.placeholder, np.nan)] if np.isnan(row).any() else [(self.labels[i], float(str(row[i]))) for i in top]
            for row, top in zip(probabilities, order, strict=True)
        ]

    def loss_weights(self, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Return the weight of each clip in the loss according to ``class_weight``, shape (n,)."""
        return np.ones(len(targets))

    def scores(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
        """Return accuracy and macro-F1."""
        from sklearn.metrics import accuracy_score, f1_score  # a tenth of the import time of skastw

        true, predicted, weight = targets.numpy(), self.chosen(outputs).numpy(), weights.numpy()
        macro_f1 = f1_score(true, predicted, average="macro", sample_weight=weight, zero_division=0.0)
        return {"accuracy": float(accuracy_score(true, predicted, sample_weight=weight)), "macro_f1": float(macro_f1)}

    def class_scores(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> list[dict[str, Any]]:
        """Return precision, recall, F1 and the number of clips (``support``) of each class."""
        from sklearn.metrics import precision_recall_fscore_support

        *scores, _ = precision_recall_fscore_support(
            targets.numpy(),
            self.chosen(outputs).numpy(),
            labels=range(self.n_outputs),
            sample_weight=weights.numpy(),
            zero_division=0.0,
        )
        support = targets.sum(dim=0) if targets.ndim == 2 else targets.bincount(minlength=self.n_outputs)
        columns = (*(column.tolist() for column in scores), support.int().tolist())
        return [dict(zip(("precision", "recall", "f1", "support"), row, strict=True)) for row in zip(*columns)]  # noqa: B905

    def to_json(self) -> dict[str, Any]:
        """Return the classes and their dtype."""
        kind, labels = self.classes.dtype.kind, self.labels
        if kind not in "biufU" and not all(isinstance(label, str) for label in labels):
            raise ArtifactError(
                f"Cannot save classes of dtype {self.classes.dtype} ({labels[:3]}), expected strings, integers, "
                "booleans or floats."
            )
        return {"dtype": self.classes.dtype.str if kind in "biufU" else "object", "labels": labels}

    @classmethod
    def from_json(cls, labels: dict[str, Any]) -> Self:
        """Return the targets with the classes of ``labels.json``."""
        document = check(labels, _Document, "labels.json", ArtifactError)
        try:
            dtype = np.dtype(document.dtype)
            if len(document.labels) * dtype.itemsize > _MAX_LABEL_BYTES:
                raise ValueError(f"{len(document.labels)} labels of dtype {dtype} exceed {_MAX_LABEL_BYTES} bytes")

            classes = np.array(document.labels, dtype=dtype)
            texts = dtype.kind != "O" or all(isinstance(label, str) for label in document.labels)
            if len(np.unique(classes)) < len(classes) or repr(classes.tolist()) != repr(document.labels) or not texts:
                raise ValueError(f"a label occurs twice or is not a value of dtype {dtype}")
        except (TypeError, ValueError, OverflowError) as error:
            raise ArtifactError(f"labels.json is not valid: {repr(error)[:300]}.") from error
        return cls(classes)


def y_and_type(y: Any) -> tuple[Any, str]:
    """Return labels with NumPy types, and the type of target in scikit-learn's terms.

    Raises
    ------
    DataError
        If a label has a type that cannot be saved.
    """
    y = numpy_targets(y)
    check_label_types(y, "y")
    y_type = type_of_target(y, input_name="y", raise_unknown=True)
    if y_type.endswith("multioutput"):
        raise DataError(
            f"Got y of type {y_type!r}, expected one label per clip (strings, integers, booleans or floats), or an "
            "indicator of 0 and 1 for several labels: join the parts of a label into one string."
        )
    return y, y_type
