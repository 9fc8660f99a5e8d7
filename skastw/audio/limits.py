"""Limits on the size of audio files: a header of 50 bytes can announce any amount of audio."""

from dataclasses import dataclass

from skastw.errors import ClipValueError

_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Largest size of an audio file that is decoded.

    Parameters
    ----------
    file_size : int
        Size of the file in bytes.
    values : int
        Number of samples times number of channels. A decoded value takes 4 bytes. The default, 2 GiB, is 9.3 hours of
        mono audio at 16 kHz or 3.1 hours at 48 kHz.
    channels : int
        Number of channels.
    duration : float
        Duration in seconds.

    Examples
    --------
    The size that a file announces is checked before memory is allocated:

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
        """Raise ``ClipValueError`` if a file has too many bytes."""
        if size > self.file_size:
            raise _excess("file_size", f"has {size} bytes", f"{self.file_size} bytes")

    def check_audio(self, samples: float, channels: int, rate: float, *, verb: str = "announces") -> None:
        """Raise ``ClipValueError`` if audio is too long, or has too many channels or values.

        Parameters
        ----------
        samples : float
            Number of samples in each channel.
        channels : int
            Number of channels.
        rate : float
            Samples per second (Hz).
        verb : str
            Verb of the message, whose subject is the file.
        """
        if channels > self.channels:
            raise _excess("channels", f"{verb} {channels} channels", f"{self.channels}")
        if samples > self.duration * rate:
            raise _excess("duration", f"{verb} {_seconds(samples / rate)} of audio", _seconds(self.duration))
        if samples * channels > self.values:
            memory = f"{4 * samples * channels / 2**20:.0f} MiB"
            values = f"{verb} {samples * channels:.0f} values ({samples:.0f} samples, {channels} channels, {memory})"
            raise _excess("values", values, f"{self.values}")


#: Default limits.
LIMITS = Limits()


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < _HOUR else f"{seconds / _HOUR:.1f} h"


def _excess(name: str, predicate: str, limit: str) -> ClipValueError:
    return ClipValueError(
        f"{predicate} and Limits.{name} is {limit}: if its header is right, split it into shorter clips, or decode it "
        f"with skastw.audio.decode(..., limits=Limits({name}=...)) and pass the array."
    )
