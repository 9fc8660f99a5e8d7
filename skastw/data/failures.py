"""Clips that cannot be used: an error, or a list of what was left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skastw.core.warn import warn_user
from skastw.errors import ClipError, DataError

__all__ = ["MAX_FAILED_SHARE", "POLICIES", "FailedClip", "Failures"]

#: Values of the parameter ``on_error``.
POLICIES = ("raise", "warn", "ignore")
#: Training stops where a larger share of the clips cannot be used.
MAX_FAILED_SHARE = 0.2


@dataclass(frozen=True)
class FailedClip:
    """A clip that was left out.

    Attributes
    ----------
    index : int
        Its position in X.
    path : str or None
        Its file.
    reason : str
        What is wrong with it, and what to do about it.
    """

    index: int
    path: str | None
    reason: str


class Failures:
    """What happens to clips that cannot be used.

    Parameters
    ----------
    policy : {"raise", "warn", "ignore"}
        ``"raise"`` ends with the first of them.

    Attributes
    ----------
    clips : list of FailedClip
        Those that were left out, in the order of X.

    Examples
    --------
    >>> from skastw.errors import ClipValueError
    >>> from skastw.data.failures import Failures
    >>> failures = Failures("ignore")
    >>> failures.note(ClipValueError("the file is empty.", index=3, path="dog.wav"))
    >>> failures.clips
    [FailedClip(index=3, path='dog.wav', reason='the file is empty.')]
    """

    def __init__(self, policy: str) -> None:
        self.policy = policy
        self._clips: list[FailedClip] = []
        self._cancelled: list[tuple[int, str | None]] = []

    @property
    def clips(self) -> list[FailedClip]:
        """Return what was left out."""
        return sorted(self._clips, key=lambda clip: clip.index)

    def note(self, error: ClipError) -> None:
        """Raise an error, or list its clip.

        Parameters
        ----------
        error : ClipError
            Of a clip whose index is known.
        """
        if error.index is None:
            raise error
        clip = FailedClip(error.index, error.path, error.reason)
        if self.policy == "raise":
            error.failed = [clip]
            raise error
        self._clips.append(clip)

    def note_cancelled(self, index: int, path: str | None) -> None:
        """List a clip that is used, though its channels cancel each other.

        Parameters
        ----------
        index : int
            Its position in X.
        path : str or None
            Its file.
        """
        self._cancelled.append((index, path))

    def without(self, index: np.ndarray) -> np.ndarray:
        """Return ``index``, positions in X of shape (n,), without those of clips that were left out."""
        return index[~np.isin(index, [clip.index for clip in self._clips])]

    def tell(self, n_clips: int, *, training: bool = False) -> None:
        """Warn of what was left out of ``n_clips`` clips.

        Parameters
        ----------
        n_clips : int
        training : bool
            Warn of channels that cancel each other, and stop where too many clips were left out.

        Raises
        ------
        DataError
            In training, with more than :data:`MAX_FAILED_SHARE` of the clips left out.
        """
        if training and self._cancelled:
            self._tell_of_cancelled(n_clips)
        if not self._clips:
            return
        examples = "; ".join(str(ClipError(c.reason, index=c.index, path=c.path)) for c in self.clips[:3])
        found = f"{len(self._clips)} of {n_clips} clips cannot be used ({examples}{'; ...' * (len(self._clips) > 3)})"
        if training and len(self._clips) > MAX_FAILED_SHARE * n_clips:
            error = DataError(
                f"{found}, more than {MAX_FAILED_SHARE:.0%}: something is wrong with the whole collection, or with how "
                "it is read; error.failed lists them."
            )
            error.failed = self.clips
            raise error
        if self.policy == "warn":
            warn_user(f"{found} and are left out; failed_ lists them.")

    def _tell_of_cancelled(self, n_clips: int) -> None:
        cancelled = sorted(self._cancelled)
        examples = ", ".join(f"clip {index}" + (f" ({path!r})" if path else "") for index, path in cancelled[:3])
        warn_user(
            f"The channels of {len(cancelled)} of {n_clips} clips cancel each other ({examples}"
            f"{', ...' * (len(cancelled) > 3)}): less than 1 % of their energy is left in their mean, which the model "
            "hears. Pass one channel, as in (array[0], sample_rate), or invert one."
        )
