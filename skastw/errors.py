"""The errors that skastw raises.

Each error that a caller can cause derives from :class:`SkastwError` and from the built-in type that scikit-learn raises
in such a case (``ValueError``, ``TypeError``, ...), so that ``except ValueError`` works. A message names the value, the
expected values and the remedy.
"""

from collections.abc import Sequence
from typing import Any

__all__ = [
    "ArtifactError",
    "ClipError",
    "ClipTypeError",
    "ClipValueError",
    "ComponentError",
    "DataError",
    "ExportError",
    "FetchError",
    "HubError",
    "MissingDependencyError",
    "OutputError",
    "PredictionError",
    "RecipeError",
    "RunError",
    "SkastwError",
    "TrainingError",
    "WeightsError",
]


def plain(value: Any) -> Any:
    """Convert a value of NumPy to Python's own type, for messages: ``'cat'`` instead of ``np.str_('cat')``.

    Parameters
    ----------
    value : object
        A scalar, an array, or a list, tuple or dict of them. Other values are returned unchanged.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.errors import plain
    >>> plain(np.int64(3)), plain(np.array(["cat", "dog"])), plain({np.str_("cat"): np.float32(2)}), plain(None)
    (3, ['cat', 'dog'], {'cat': 2.0}, None)
    """
    if type(value).__module__ == "numpy":  # NumPy is not imported, so that the help of a command appears quickly
        value = value.tolist()
    if type(value) is dict:
        return {plain(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


class SkastwError(Exception):
    """Base class of all errors of skastw.

    Attributes
    ----------
    failed : list of FailedClip
        Clips that could not be used; see :class:`skastw.data.failures.FailedClip`.
    trained : Trained or None
        Fitted model with the best weights so far, if this error ended ``fit`` after at least one epoch. Assign it to
        ``trained_`` of an estimator to use it.

    Notes
    -----
    Other exceptions have these attributes too if they end ``fit`` or ``partial_fit``.
    """

    failed: Sequence[Any] = ()
    trained: Any = None


class ClipError(SkastwError):
    """A clip cannot be used.

    Parameters
    ----------
    reason : str
        The problem and its remedy.
    index : int, optional
        Position of the clip in ``X``.
    path : str, optional
        File of the clip.

    Examples
    --------
    >>> from skastw.errors import ClipValueError
    >>> print(ClipValueError("the file is empty.", index=3, path="dog.wav"))
    Clip 3 ('dog.wav'): the file is empty.
    """

    def __init__(self, reason: str, *, index: int | None = None, path: str | None = None) -> None:
        self.reason = reason
        self.index = index
        self.path = None if path is None else str(path)  # may be a string of NumPy
        super().__init__(reason)

    def __str__(self) -> str:
        where = "Clip" if self.index is None else f"Clip {self.index}"
        return f"{where}: {self.reason}" if self.path is None else f"{where} ({self.path!r}): {self.reason}"

    def __reduce__(self):  # pickle (in joblib's workers) cannot pass keyword-only arguments
        return _rebuild_clip_error, (type(self), self.reason, self.index, self.path), vars(self)


def _rebuild_clip_error(cls: type[ClipError], reason: str, index: int | None, path: str | None) -> ClipError:
    return cls(reason, index=index, path=path)


class ClipValueError(ClipError, ValueError):
    """A clip has a supported type but cannot be used: it is missing, empty or truncated, or contains NaN."""


class ClipTypeError(ClipError, TypeError):
    """A clip has none of the supported forms."""


class ComponentError(SkastwError, ValueError):
    """A component (features, encoder, pooling, augment) is unknown or has invalid parameters."""


class DataError(SkastwError, ValueError):
    """A set of clips cannot be used: paths or labels are missing, or too few clips can be read."""


class RecipeError(SkastwError, ValueError):
    """A recipe is unknown, or its file is not valid."""


class RunError(SkastwError, ValueError):
    """A run file is not valid, or names something that does not exist."""


class ArtifactError(SkastwError, ValueError):
    """A saved folder is missing, incomplete, inconsistent, or written by a newer release."""


class WeightsError(SkastwError, ValueError):
    """Pretrained weights are missing or damaged, or do not fit the network."""


class FetchError(SkastwError, OSError):
    """A data set cannot be downloaded, or is incomplete."""


class ExportError(SkastwError, ValueError):
    """A model cannot be exported to a format."""


class HubError(SkastwError, OSError):
    """A repository of the Hugging Face Hub cannot be read or written."""


class OutputError(SkastwError, OSError, ValueError):
    """A result cannot be written to the given path."""


class TrainingError(SkastwError, RuntimeError):
    """Training cannot continue, for example because the loss is not finite."""


class PredictionError(SkastwError, RuntimeError):
    """The outputs of the network for valid clips are NaN or infinite."""


class MissingDependencyError(SkastwError, ImportError):
    """An optional package is required but not installed."""
