"""Base class of the kinds of target, and the choice of the kind for a given y."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from skastw.errors import ArtifactError
from skastw.targets.checks import check_complete

#: The kinds of target by name, in the order in which they are defined.
_REGISTRY: dict[str, type[Targets]] = {}


class Targets(ABC):
    """Base of the kinds of target, which define the encoding of y, the loss, the scores and the predictions.

    A subclass with a ``name`` is registered. Its objects are frozen values: :meth:`learn` makes one from the y of
    ``fit``, and :meth:`from_json` from a saved model. K is the number of outputs of the network.

    Attributes
    ----------
    name : str
        Name of the task in ``labels.json`` and ``task_``.
    estimator : {"classifier", "regressor", "pretrainer"}
        Type of estimator that learns this kind of target.
    general : bool
        Whether this kind is tried after all others.
    exclusive : bool
        Whether each clip has exactly one of several classes.
    taught : bool
        Whether a teacher can learn them too, and its pupil match its outputs; see :meth:`distance`.
    monitor : str
        Name of the validation score that selects the best epoch (higher is better).
    exported : tuple of str
        Names of the outputs of an ONNX file: the result of :meth:`finish` and, optionally, ``"logits"``.
    noun, purpose, limits : str
        Texts of the model card: a word for the labels, the purpose and the limits of the model.
    """

    name: ClassVar[str] = ""
    estimator: ClassVar[str] = "classifier"
    general: ClassVar[bool] = False
    exclusive: ClassVar[bool] = False
    taught: ClassVar[bool] = True
    monitor: ClassVar[str] = ""
    exported: ClassVar[tuple[str, ...]] = ()
    noun: ClassVar[str] = ""
    purpose: ClassVar[str] = ""
    limits: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            _REGISTRY[cls.name] = cls

    @classmethod
    @abstractmethod
    def accepts(cls, y: Any) -> bool:
        """Return whether y, which has no missing values, is of this kind."""

    @classmethod
    @abstractmethod
    def learn(cls, y: Any, sample_weight: Any = None) -> Self:
        """Return the targets for the y of ``fit``.

        Parameters
        ----------
        y : array-like of shape (n,) or (n, n_columns)
            Labels or values, none of them missing.
        sample_weight : array-like of shape (n,), optional
        """

    @abstractmethod
    def encode(self, y: Any) -> np.ndarray:
        """Return y in the form that the loss takes, shape (n,) or (n, K).

        Raises
        ------
        ValueError
            If y is of another kind, or has labels or columns that the y of ``fit`` did not have.
        """

    @property
    @abstractmethod
    def labels(self) -> list[Any]:
        """The classes or the names of the values, in the order of the outputs."""

    @property
    def n_outputs(self) -> int:
        """The number of outputs of the network, K."""
        return len(self.labels)

    def forward(self, model: Any, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the outputs (B, K) for the loss of a training step, for each of the models that are trained.

        Parameters
        ----------
        model : AudioModel
        frames : Tensor of shape (B, T, F)
        lengths : Tensor of shape (B,)
        """
        return model.classify_each(frames, lengths)

    def embed(self, model: Any, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the vectors (B, D) of the chunks of validation clips, which are averaged for each clip.

        Parameters
        ----------
        model : AudioModel
        frames : Tensor of shape (B, T, F)
        lengths : Tensor of shape (B,)
        """
        return model.embed(frames, lengths)

    def outputs(self, model: Any, vectors: Tensor) -> Tensor:
        """Return the outputs (n, K) for the vectors (n, D) of validation clips.

        Parameters
        ----------
        model : AudioModel
        vectors : Tensor of shape (n, D)
        """
        return model.outputs(vectors)

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the loss of each item, shape (B,), for outputs of shape (B, K) and encoded targets."""

    def distance(self, outputs: Tensor, taught: Tensor) -> Tensor:
        """Return the distance of outputs (B, K) to the outputs ``taught`` of a teacher (B, K), shape (B,).

        By default, it is the squared difference, averaged over the outputs.
        """
        return (outputs - taught).square().mean(dim=1)

    @abstractmethod
    def scores(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
        """Return the scores of validation clips by name, for outputs (n, K), targets and weights (n,)."""

    def class_scores(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> list[dict[str, Any]] | None:
        """Return the scores of each class, or None if the outputs are not classes."""
        return None

    def averages(self, class_scores: list[dict[str, Any]]) -> dict[str, float]:
        """Return further validation scores by name, computed from the scores of each class."""
        return {}

    @abstractmethod
    def finish(self, outputs: Tensor) -> Tensor:
        """Return probabilities, or values in the units of y, shape (n, K), with operations that ONNX supports."""

    @abstractmethod
    def decide(self, outputs: Tensor) -> np.ndarray:
        """Return the predictions for outputs (n, K). A row of NaN is a clip that could not be used."""

    def strata(self, targets: np.ndarray, *, grouped: bool) -> np.ndarray:
        """Return the stratum of each clip for the validation split, an integer array of shape (n,).

        Parameters
        ----------
        targets : ndarray of shape (n,) or (n, K)
            Encoded targets.
        grouped : bool
            Whether the split keeps groups whole.
        """
        return np.zeros(len(targets), dtype=np.int64)

    def lost(self, before: np.ndarray, after: np.ndarray) -> str | None:
        """Return a description of a class that has clips in ``before`` but none in ``after``, or None."""
        return None

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the content of ``labels.json`` without the task."""

    @classmethod
    @abstractmethod
    def from_json(cls, labels: dict[str, Any]) -> Self:
        """Return the targets for the result of :meth:`to_json`.

        Raises
        ------
        ArtifactError
            If the content is not valid.
        """


def learn_targets(y: Any, estimator: str, sample_weight: Any = None) -> Targets:
    """Return the targets for y, of the first kind that accepts it.

    Parameters
    ----------
    y : array-like of shape (n,) or (n, n_columns)
    estimator : {"classifier", "regressor"}
    sample_weight : array-like of shape (n,), optional

    Returns
    -------
    Targets

    Raises
    ------
    DataError
        If a value is missing, or ``estimator`` does not support this kind of y.

    Examples
    --------
    >>> from skastw.targets import learn_targets
    >>> learn_targets(["dog", "cat", "dog"], "classifier").labels
    ['cat', 'dog']
    >>> learn_targets([[0, 1], [1, 1]], "classifier").name
    'multilabel'
    """
    if y is None:
        raise ValueError(f"A {estimator} requires y to be passed, but the target y is None.")
    check_complete(y, "y")
    check_complete(sample_weight, "sample_weight")
    kinds = [kind for kind in _REGISTRY.values() if kind.estimator == estimator]
    kind = next(kind for kind in sorted(kinds, key=lambda kind: kind.general) if kind.accepts(y))  # a general one does
    return kind.learn(y, sample_weight)


def targets_from_json(labels: dict[str, Any]) -> Targets:
    """Return the targets that ``labels.json`` describes.

    Raises
    ------
    ArtifactError
        If the task is unknown, or the content is not valid.

    Examples
    --------
    >>> from skastw.targets import targets_from_json
    >>> targets_from_json({"task": "classification", "dtype": "<U3", "labels": ["cat", "dog"]}).n_outputs
    2
    """
    kind = _REGISTRY.get(str(labels.get("task")))
    if kind is None:
        raise ArtifactError(f"labels.json has task={labels.get('task')!r:.50}, expected one of {list(_REGISTRY)}.")
    return kind.from_json(labels)
