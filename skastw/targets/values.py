"""Targets with one or several numbers per clip, for regression."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from msgspec import Struct
from sklearn.utils.validation import check_array
from torch import Tensor

from skastw.core.sklearn_private import check_sample_weight
from skastw.errors import ArtifactError, DataError
from skastw.storage.schema import Finite, check
from skastw.targets._base import Targets
from skastw.targets.checks import numpy_targets


class _Document(Struct):
    """Content of ``labels.json``."""

    labels: list[str]
    named: bool
    one_dimensional: bool
    mean: list[Finite]
    scale: list[Finite]

    def __post_init__(self) -> None:
        if not len(self.labels) == len(self.mean) == len(self.scale) > 0:
            raise ValueError("labels, mean and scale are not lists of one length")
        if min(self.scale) <= 0:
            raise ValueError(f"scale is {self.scale}, expected numbers above 0")
        if self.one_dimensional and len(self.labels) > 1:
            raise ValueError(f"one_dimensional is true with {len(self.labels)} values")


@dataclass(frozen=True, eq=False)
class Values(Targets):
    """One or several numbers for each clip, standardised and trained with the squared error.

    Parameters
    ----------
    mean, scale : ndarray of shape (K,), float64
        Mean and standard deviation of the training targets.
    names : list of str or None
        Column names of y, if it was a DataFrame.
    one_dimensional : bool
        Whether y, and therefore predictions, have one dimension.

    Examples
    --------
    >>> from skastw.targets import Values
    >>> Values.learn([1.0, 3.0]).encode([5.0]).tolist()
    [[3.0]]
    """

    mean: np.ndarray
    scale: np.ndarray
    names: list[str] | None
    one_dimensional: bool

    name: ClassVar[str] = "regression"
    estimator: ClassVar[str] = "regressor"
    general: ClassVar[bool] = True
    monitor: ClassVar[str] = "r2"
    exported: ClassVar[tuple[str, ...]] = ("values",)
    noun: ClassVar[str] = "values"
    purpose: ClassVar[str] = "Estimating the values below"
    limits: ClassVar[str] = "The model estimates these values for every sound, even if they have no meaning for it."

    @classmethod
    def accepts(cls, y: Any) -> bool:
        """Return True, because a regressor has no other kind of target."""
        return True

    @classmethod
    def learn(cls, y: Any, sample_weight: Any = None) -> Self:
        """Return the targets with the weighted mean and standard deviation of y."""
        names = getattr(y, "columns", [y.name] if getattr(y, "name", None) is not None else None)  # a named Series
        y = _numbers(y)
        values = y.reshape(len(y), -1)

        weights = check_sample_weight(numpy_targets(sample_weight), values, ensure_non_negative=True)
        mean = np.average(values, axis=0, weights=weights)
        with np.errstate(over="ignore", invalid="ignore"):
            scale = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=weights))
        if not np.isfinite(scale).all():
            raise DataError(
                f"y holds values of up to {np.abs(values).max():.3g}, whose variance exceeds the largest float; "
                "expected smaller values: rescale y, or train on its logarithm."
            )
        names = None if names is None else list(map(str, names))
        return cls(mean, np.where(scale > 0, scale, 1.0), names, y.ndim == 1)

    def encode(self, y: Any) -> np.ndarray:
        """Return the standardised y, shape (n, K), float64."""
        y = _numbers(y)
        values = y.reshape(len(y), -1)
        if values.shape[1] != self.n_outputs:
            raise ValueError(f"Got {values.shape[1]} targets, expected {self.n_outputs} as in the first fit.")
        return (values - self.mean) / self.scale

    @property
    def labels(self) -> list[Any]:
        """The names of the values, or ``target0``, ``target1``, ..."""
        return self.names or [f"target{i}" for i in range(len(self.mean))]

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the squared error of each item, averaged over its values."""
        return (outputs - targets).square().mean(dim=1)

    def scores(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
        """Return R2."""
        from sklearn.metrics import r2_score

        if len(targets) < 2:  # a single clip has no variance: use the variance of the standardised training targets, 1
            return {"r2": 1.0 - float(self.loss(outputs, targets).mean())}
        return {"r2": float(r2_score(targets.numpy(), outputs.numpy(), sample_weight=weights.numpy()))}

    def finish(self, outputs: Tensor) -> Tensor:
        """Return values in the units of y, shape (n, K)."""
        return outputs * torch.from_numpy(self.scale).to(outputs) + torch.from_numpy(self.mean).to(outputs)

    def decide(self, outputs: Tensor) -> np.ndarray:
        """Return values in the units of y, shape (n,) or (n, K), float64."""
        values = outputs.numpy() * self.scale + self.mean
        return values[:, 0] if self.one_dimensional else values

    def strata(self, targets: np.ndarray, *, grouped: bool) -> np.ndarray:
        """Return up to ten quantile bins of a single value, or one stratum if there are groups or several values."""
        if grouped or targets.shape[1] > 1:
            return super().strata(targets, grouped=grouped)
        n_bins = min(10, max(1, len(targets) // 5))
        ranks = np.argsort(np.argsort(targets[:, 0], kind="stable"), kind="stable")
        return ranks * n_bins // len(targets)

    def to_json(self) -> dict[str, Any]:
        """Return the names, means and scales of the values."""
        return {
            "labels": self.labels,
            "named": self.names is not None,
            "one_dimensional": self.one_dimensional,
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def from_json(cls, labels: dict[str, Any]) -> Self:
        """Return the targets with the means and scales of ``labels.json``."""
        document = check(labels, _Document, "labels.json", ArtifactError)
        mean, scale = np.array(document.mean), np.array(document.scale)
        return cls(mean, scale, document.labels if document.named else None, document.one_dimensional)


def _numbers(y: Any) -> np.ndarray:
    return check_array(numpy_targets(y), ensure_2d=False, dtype=np.float64, input_name="y")
