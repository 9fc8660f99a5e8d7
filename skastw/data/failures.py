"""Clips that cannot be used, which raise an error or are left out and listed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from skastw.core.templates import summary
from skastw.core.text import listed, readable
from skastw.core.warn import warn_user
from skastw.errors import ClipError, DataError

__all__ = [
    "MAX_FAILED_SHARE",
    "POLICIES",
    "FailedClip",
    "FailedClips",
    "left_out",
    "report_cancelled",
    "report_failures",
]

#: Values of the parameter ``on_error``.
POLICIES = ("raise", "warn", "ignore")
#: ``fit`` raises an error if a larger share of the clips cannot be used.
MAX_FAILED_SHARE = 0.2
#: Clips of a list that are shown.
_SHOWN = 10


@dataclass(frozen=True)
class FailedClip:
    """A clip that was left out.

    Attributes
    ----------
    index : int
        Position of the clip in X.
    path : str or None
        File of the clip.
    reason : str
        Why the clip cannot be used, and the remedy.
    error : ClipError or None
        The error that ``on_error="raise"`` raises.

    Examples
    --------
    >>> from skastw.data.failures import FailedClip
    >>> from skastw.errors import ClipValueError
    >>> FailedClip.from_error(ClipValueError("the file is empty.", index=3, path="dog.wav"))
    FailedClip(index=3, path='dog.wav', reason='the file is empty.')
    """

    index: int
    path: str | None
    reason: str

    error: ClassVar[ClipError | None] = None  # not a field: tables and JSON list the clips without it

    @classmethod
    def from_error(cls, error: ClipError) -> Self:
        """Return the failed clip of an error; raise the error if it has no index."""
        if error.index is None:
            raise error
        clip = cls(int(error.index), error.path, error.reason)  # often a position from NumPy
        object.__setattr__(clip, "error", error)
        return clip

    def check(self, policy: str) -> None:
        """Raise the error of the clip if the policy is ``"raise"``."""
        if policy == "raise" and self.error is not None:
            self.error.failed = [self]
            raise self.error


class FailedClips(list[FailedClip]):
    """A list of clips that were left out, which notebooks and consoles show in a few lines.

    Examples
    --------
    >>> from skastw.data.failures import FailedClip, FailedClips
    >>> FailedClips([FailedClip(3, "dog.wav", "the file is empty.")])
    1 clip cannot be used:
    * Clip 3 ('dog.wav'): the file is empty.
    >>> FailedClips()
    []
    """

    def __repr__(self) -> str:
        if not self:
            return "[]"
        clips = [ClipError(clip.reason, index=clip.index, path=clip.path) for clip in self[:_SHOWN]]
        texts = [" ".join(readable(str(clip)).split()) for clip in clips]
        return "\n".join([f"{self._title()}:", *(f"* {text}" for text in texts), *self._more()])

    def _repr_html_(self) -> str:
        rows = [(clip.index, readable(clip.path or ""), readable(clip.reason)) for clip in self[:_SHOWN]]
        return summary(self._title(), header=("clip", "file", "reason"), rows=rows, notes=self._more())

    def _title(self) -> str:
        return f"{len(self)} clip{'s' * (len(self) != 1)} cannot be used"

    def _more(self) -> list[str]:
        return [f"and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []


def left_out(estimator: Any) -> list[FailedClip]:
    """Return the clips that the last prediction of an estimator left out.

    Parameters
    ----------
    estimator : estimator
        Any; only estimators with ``on_error`` leave out clips. With ``on_error="raise"``, ``failed_`` is the list of an
        earlier call.
    """
    return estimator.failed_ if getattr(estimator, "on_error", "raise") != "raise" else []


def report_failures(failed: Sequence[FailedClip], n_clips: int, policy: str, *, training: bool = False) -> None:
    """Warn about clips that were left out.

    Parameters
    ----------
    failed : sequence of FailedClip
    n_clips : int
        Number of all clips, usable or not.
    policy : {"raise", "warn", "ignore"}
        Only ``"warn"`` issues a warning.
    training : bool, default=False
        Whether to raise an error if too many clips were left out.

    Raises
    ------
    DataError
        In training, if more than :data:`MAX_FAILED_SHARE` of the clips were left out.
    """
    if not failed:
        return

    examples = "; ".join(str(ClipError(c.reason, index=c.index, path=c.path)) for c in failed[:3])
    summary = f"{len(failed)} of {n_clips} clips cannot be used ({examples}{'; ...' * (len(failed) > 3)})"
    if training and len(failed) > MAX_FAILED_SHARE * n_clips:
        error = DataError(
            f"{summary}, more than {MAX_FAILED_SHARE:.0%}: check the collection of clips and how it is read; "
            "error.failed lists them."
        )
        error.failed = FailedClips(failed)
        raise error
    if policy == "warn":
        warn_user(f"{summary} and are left out; failed_ lists them.")


def report_cancelled(cancelled: Sequence[tuple[int, str | None]], n_clips: int) -> None:
    """Warn about clips whose channels cancel each other in their mean.

    Parameters
    ----------
    cancelled : sequence of (int, str or None)
        Position in X and file of each of these clips.
    n_clips : int
        Number of all clips.
    """
    if not cancelled:
        return
    examples = listed(f"clip {index}" + (f" ({path!r})" if path else "") for index, path in cancelled)
    warn_user(
        f"The channels of {len(cancelled)} of {n_clips} clips cancel each other ({examples}): the mean of the "
        "channels, which the model takes, has less than 1 % of their energy. Pass one channel, as in "
        "(array[0], sample_rate), or invert one channel."
    )
