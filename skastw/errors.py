"""The errors that skastw raises, all under one root.

Every error that a caller can cause derives from :class:`SkastwError` and from the built-in type that
scikit-learn users expect (``ValueError``, ``TypeError``, ...), so ``except ValueError`` keeps working.
Each message names the value, what was expected, and the remedy.
"""

from __future__ import annotations

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
]


def plain(value: Any) -> Any:
    """Return a label, a number or a sequence of them as Python's own, for a message: no one wants ``np.str_('cat')``.

    Parameters
    ----------
    value : object
        What is no number, text or sequence of numpy stays as it is.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.errors import plain
    >>> plain(np.int64(3)), plain(np.array(["cat", "dog"])), plain([np.str_("cat")]), plain(None)
    (3, ['cat', 'dog'], ['cat'], None)
    """
    if type(value).__module__ == "numpy":  # which is not imported here: commands that only print help are quick
        value = value.tolist()
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


class SkastwError(Exception):
    """Root of every error that skastw raises on purpose.

    Attributes
    ----------
    failed : list of FailedClip
        Clips that could not be used; see :class:`skastw.data.failures.FailedClip`.
    trained : estimator or None
        A fitted estimator with the best weights that were reached, if this error ended ``fit`` after an epoch.

    Notes
    -----
    Other exceptions that end ``fit`` or ``partial_fit`` have these attributes too.
    """

    failed: Sequence[Any] = ()
    trained: Any = None


class ClipError(SkastwError):
    """A clip cannot be used.

    Parameters
    ----------
    reason : str
        What is wrong and what to do about it.
    index : int, optional
        Position of the clip in ``X``.
    path : str, optional
        File that the clip came from.

    Examples
    --------
    >>> from skastw.errors import ClipValueError
    >>> print(ClipValueError("the file is empty.", index=3, path="dog.wav"))
    Clip 3 ('dog.wav'): the file is empty.
    """

    def __init__(self, reason: str, *, index: int | None = None, path: str | None = None) -> None:
        self.reason = reason
        self.index = index
        self.path = None if path is None else str(path)  # which may be a string of numpy
        super().__init__(reason)

    def __str__(self) -> str:
        where = "Clip" if self.index is None else f"Clip {self.index}"
        return f"{where}: {self.reason}" if self.path is None else f"{where} ({self.path!r}): {self.reason}"

    def __reduce__(self):  # keyword-only arguments: tell pickle (joblib workers) how to rebuild
        return _rebuild_clip_error, (type(self), self.reason, self.index, self.path), vars(self)


def _rebuild_clip_error(cls: type[ClipError], reason: str, index: int | None, path: str | None) -> ClipError:
    return cls(reason, index=index, path=path)


class ClipValueError(ClipError, ValueError):
    """A clip has the right type and unusable content: missing, empty, truncated, NaN, an absurd rate."""


class ClipTypeError(ClipError, TypeError):
    """A clip is not one of the forms that ``X`` may hold."""


class ComponentError(SkastwError, ValueError):
    """A component (features, encoder, pooling, augment) is unknown or has wrong parameters."""


class DataError(SkastwError, ValueError):
    """Clips as a whole: it is not said which there are or what they are, or too few of them can be read."""


class RecipeError(SkastwError, ValueError):
    """A recipe is not known, or its file is not one."""


class RunError(SkastwError, ValueError):
    """A run file is not one, or asks for what there is not."""


class ArtifactError(SkastwError, ValueError):
    """A saved folder is missing, incomplete, inconsistent, or written by a newer release."""


class FetchError(SkastwError, OSError):
    """A data set cannot be fetched, or what is there is not the whole of it."""


class ExportError(SkastwError, ValueError):
    """A model has no form in the format that it is exported to."""


class HubError(SkastwError, OSError):
    """A repository of the Hugging Face Hub cannot be read or written."""


class OutputError(SkastwError, OSError, ValueError):
    """A result cannot be written to the place that was named for it."""


class TrainingError(SkastwError, RuntimeError):
    """Training cannot go on, for example because the loss is no longer finite."""


class PredictionError(SkastwError, RuntimeError):
    """The network gives NaN or infinite outputs for clips that can be used."""


class MissingDependencyError(SkastwError, ImportError):
    """An optional package is needed and not installed."""
