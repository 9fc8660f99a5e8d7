"""How much a file may announce before it is refused: a header of 50 bytes can ask for any amount of memory."""

from __future__ import annotations

from dataclasses import dataclass

from skastw.errors import ClipValueError

__all__ = ["LIMITS", "Limits"]

_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one audio file may hold.

    Parameters
    ----------
    file_size : int
        Bytes of the file.
    values : int
        Samples times channels; each takes 4 bytes of memory once decoded. The default, 2 GiB, is 9.3 hours of
        mono at 16 kHz, or 3.1 hours at 48 kHz.
    channels : int
    duration : float
        Seconds.

    Examples
    --------
    The limits are checked on what a file announces, before memory is taken:

    >>> from skastw.audio import Limits, decode
    >>> from skastw.datasets import load_spoken_digits
    >>> decode(load_spoken_digits().data[0], limits=Limits(duration=0.1))
    Traceback (most recent call last):
        ...
    skastw.errors.ClipValueError: ...announces 0.5 s of audio and Limits.duration is 0.1 s: ...
    """

    file_size: int = 2**32
    values: int = 2**29
    channels: int = 256
    duration: float = 24 * _HOUR

    def check_file_size(self, size: int) -> None:
        """Refuse a file of too many bytes."""
        if size > self.file_size:
            raise _excess("file_size", f"has {size} bytes", f"{self.file_size} bytes")

    def check_audio(self, samples: float, channels: int, rate: float, *, verb: str = "announces") -> None:
        """Refuse audio that is too long, or has too many channels or values.

        Parameters
        ----------
        samples : float
            In each channel.
        channels : int
        rate : float
            Samples per second (Hz).
        verb : str
            What the file does, for the message.
        """
        if channels > self.channels:
            raise _excess("channels", f"{verb} {channels} channels", f"{self.channels}")
        if samples > self.duration * rate:
            raise _excess("duration", f"{verb} {_seconds(samples / rate)} of audio", _seconds(self.duration))
        if samples * channels > self.values:
            memory = f"{4 * samples * channels / 2**20:.0f} MiB"
            values = f"{verb} {samples * channels:.0f} values ({samples:.0f} samples, {channels} channels, {memory})"
            raise _excess("values", values, f"{self.values}")


#: What applies unless a caller says otherwise.
LIMITS = Limits()


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def _excess(name: str, found: str, limit: str) -> ClipValueError:
    return ClipValueError(
        f"{found} and Limits.{name} is {limit}: its header is damaged, or cut it into shorter clips, or decode it by "
        f"skastw.audio.decode(..., limits=Limits({name}=...)) and pass the array."
    )
