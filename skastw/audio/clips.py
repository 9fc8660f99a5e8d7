"""Supported forms of ``X`` and of a clip, and the conversion of a clip to a waveform.

An array is an array, and a list is a list of clips: a 2-D numeric array (or table, or nested list of numbers) holds n
clips of equal length at the estimator's sample rate, and any other sequence holds one clip per item. A clip can be:

=========================================  =========================================================
``str`` or ``Path``                        path of an audio file
1-D array                                  samples at the estimator's ``sample_rate``
2-D array ``(channels, samples)``          averaged to mono
``(array, sample_rate)``                   resampled
``{"array": ..., "sample_rate": ...}``     resampled; ``sampling_rate`` is accepted too
``{"path": ..., "bytes": ...}``            decoded, as in rows of Hugging Face ``datasets``
``{..., "start": 1.5, "end": 4.0}``        a part of such a clip, in seconds; either may be missing
=========================================  =========================================================
"""

import numbers
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from skastw.audio.decode import segment_bounds
from skastw.audio.isolation import current_decoder
from skastw.audio.resample import check_sample_rate, resample
from skastw.errors import ClipError, ClipTypeError, ClipValueError, SkastwError, plain

__all__ = [
    "MAX_AMPLITUDE",
    "MIN_MONO_SHARE",
    "MonoClip",
    "UnreadableClip",
    "as_clips",
    "check_amplitude",
    "clip_path",
    "is_array_input",
    "load_mono",
    "load_samples",
    "load_waveform",
    "mono_share",
    "naming_clip",
    "to_mono",
    "unreadable_reason",
]

#: Largest absolute value of a sample (full scale is 1). The power spectrum of a window of 65536 samples, the longest of
#: a front end, is then below ``(1e12 * 65536)**2 = 4e33``, while the largest value of float32 is 3e38.
MAX_AMPLITUDE = 1e12
#: Channels cancel each other if their mean has a smaller share of their energy than this. Channels below this level
#: (RMS, full scale is 1) are silent.
MIN_MONO_SHARE, _AUDIBLE = 0.01, 1e-3

_FORMS = (
    "a path, a 1-D array, a (channels, samples) array, an (array, sample_rate) tuple, or a dict with 'array' or 'path'"
)
#: What to write instead of objects of other packages, by an attribute that they have.
_ADVICE = {
    "get_array_of_samples": "(numpy.array(segment.set_channels(1).get_array_of_samples()), segment.frame_rate)",
    "requires_grad": "tensor.detach().cpu().float().numpy()",
    "read": "{'bytes': file.read()}",
}
#: An array with more columns is not (samples, channels).
_MAX_CHANNELS = 32
#: Value of silence and full scale of the integer formats of audio.
_PCM = {"uint8": (128.0, 2.0**7), "int8": (0.0, 2.0**7), "int16": (0.0, 2.0**15), "int32": (0.0, 2.0**31)}


@dataclass(frozen=True)
class MonoClip:
    """A clip as one channel.

    Attributes
    ----------
    waveform : ndarray of shape (n_samples,), float32
        Waveform as :func:`load_waveform` returns it.
    share : float
        Share of the channels' energy in their mean; see :func:`mono_share`.
    """

    waveform: np.ndarray
    share: float


@dataclass(frozen=True)
class UnreadableClip:
    """Placeholder for a clip whose container raised an error; loading it reports this error.

    Attributes
    ----------
    error : Exception
        Error of the container.

    Examples
    --------
    >>> from skastw.audio import as_clips
    >>> class Column:
    ...     def __len__(self):
    ...         return 2
    ...
    ...     def __getitem__(self, index):
    ...         raise OSError(f"row {index} is damaged")
    >>> as_clips(Column())
    [UnreadableClip(error=OSError('row 0 is damaged')), UnreadableClip(error=OSError('row 1 is damaged'))]
    """

    error: Exception


def is_array_input(X: Any) -> bool:
    """Return whether ``X`` is a numeric array (n clips of equal length) instead of a sequence of clips.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio import is_array_input
    >>> is_array_input(np.zeros((3, 16000))), is_array_input(["a.wav"]), is_array_input(np.array(["a.wav"]))
    (True, False, False)
    """
    if hasattr(X, "toarray"):  # sparse matrices are refused by scikit-learn's check of arrays
        return True
    if isinstance(X, list):
        return _is_nested_list_of_numbers(X)
    if _is_frame(X):  # several numeric columns are an array; a single column holds clips
        return X.shape[1] > 1 and all(dtype.kind in "biuf" for dtype in X.dtypes)
    is_series = hasattr(X, "iloc")
    if isinstance(X, tuple | str | bytes | Mapping | os.PathLike) or is_series or not hasattr(X, "__array__"):
        return False

    array = X if isinstance(X, np.ndarray) else np.asarray(X)  # a tensor, or an array of another library
    if array.dtype.kind == "O" and array.ndim == 2 and array.shape[1] > 1:
        return not any(isinstance(value, str | os.PathLike) for value in array[0])  # numbers stored as objects
    return array.dtype.kind not in "OUST"


def as_clips(X: Any) -> Sequence[Any]:
    """Return the clips in ``X`` as a list.

    Parameters
    ----------
    X : list, tuple, Series, one-column DataFrame, object array of shape (n,) or (n, 1), or one path or dict
        Container of the clips. A single path or dict is one clip.

    Returns
    -------
    list of clips, of length n_clips
        If an item of ``X`` cannot be read, an :class:`UnreadableClip` takes its place.

    Raises
    ------
    ClipTypeError, ClipValueError
        If ``X`` is not such a container. The message names the remedy.

    Examples
    --------
    >>> from skastw.audio import as_clips
    >>> as_clips("dog.wav")
    ['dog.wav']
    """
    if isinstance(X, str | os.PathLike | Mapping):
        return [X]
    if isinstance(X, tuple) and len(X) == 2 and isinstance(X[1], numbers.Real) and hasattr(X[0], "__len__"):
        raise ClipTypeError(
            "got one (array, sample_rate) tuple, expected a list of clips: pass [(array, sample_rate)]."
        )

    if _is_frame(X):
        if X.shape[1] != 1:
            raise ClipValueError(
                f"got a DataFrame with {X.shape[1]} columns ({', '.join(map(str, X.columns[:5]))}), expected the audio "
                f"column alone{_advice_on_columns(X)}."
            )
        X = X.iloc[:, 0]
    if hasattr(X, "iloc"):  # a Series
        return X.tolist()

    if hasattr(X, "__array__"):
        X = np.asarray(X)
        if X.ndim == 2 and X.shape[1] == 1:
            X = X[:, 0]
        if X.ndim != 1:
            raise ClipValueError(f"got an array of shape {X.shape} and dtype {X.dtype}, expected shape (n,) or (n, 1).")
        return list(X)

    if isinstance(X, list | tuple):
        if X and all(isinstance(item, numbers.Real) for item in X):
            raise ClipTypeError(
                f"got a {type(X).__name__} of {len(X)} numbers, expected a list of clips: write [numpy.array(samples)] "
                "for one waveform."
            )
        return list(X)
    if hasattr(X, "__len__") and hasattr(X, "__getitem__") and not isinstance(X, bytes | bytearray | set):
        return [_item(X, i) for i in range(len(X))]
    advice = ": write list(X)" if isinstance(X, Iterator | Set) and not hasattr(X, "read") else _advice(X, "[{}]")
    raise ClipTypeError(f"got X of type {type(X).__name__}, expected a list of clips; a clip is {_FORMS}{advice}.")


def load_waveform(clip: Any, sample_rate: float, *, index: int | None = None) -> np.ndarray:
    """Load a clip as a mono waveform at ``sample_rate``.

    Parameters
    ----------
    clip : any form of the table above
    sample_rate : float
        Samples per second of the result (Hz). An array without a rate is assumed to have this rate.
    index : int, optional
        Position of the clip in ``X``, for error messages.

    Returns
    -------
    ndarray of shape (n_samples,), float32
        At least one sample. All samples are finite and have absolute values up to :data:`MAX_AMPLITUDE`. 8-, 16- and
        32-bit integers are scaled to [-1, 1), unsigned bytes after 128 is subtracted. 64-bit integers are not a format
        of audio and are not scaled.

    Raises
    ------
    ClipError
        If the clip cannot be used. The message names its index and path, the problem and the remedy.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio import load_waveform
    >>> load_waveform((np.zeros((2, 4410)), 44100), 16000).shape
    (1600,)
    """
    return load_mono(clip, sample_rate, index=index).waveform


def load_mono(clip: Any, sample_rate: float, *, index: int | None = None) -> MonoClip:
    """Load a clip as a mono waveform, and measure how much of its channels' energy is left.

    Parameters
    ----------
    clip, sample_rate, index
        As in :func:`load_waveform`.

    Returns
    -------
    MonoClip

    Raises
    ------
    ClipError
        As in :func:`load_waveform`.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio.clips import load_mono
    >>> noise = np.random.default_rng(0).standard_normal(1600)
    >>> load_mono(np.stack([noise, -noise]), 16000).share
    0.0
    """
    with naming_clip(clip, index):
        channels, rate = _scaled_samples(clip, sample_rate)
        mono = to_mono(channels)
        check_amplitude(mono)
        share = mono_share(channels, mono) if channels.ndim == 2 else 1.0

        waveform = resample(mono, rate, sample_rate)
        check_amplitude(waveform)
        return MonoClip(waveform, share)


def mono_share(channels: np.ndarray, mono: np.ndarray) -> float:
    """Return the energy of the channels' mean, divided by the mean energy of the channels.

    Parameters
    ----------
    channels : ndarray of shape (n_channels, n_samples), float32
    mono : ndarray of shape (n_samples,), float32
        Mean of the channels.

    Returns
    -------
    float
        1 if the channels are equal or silent, about ``1 / n_channels`` if they are unrelated, and 0 if they cancel each
        other. Constant offsets are ignored.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio.clips import mono_share
    >>> noise = np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32)
    >>> round(mono_share(noise, noise.mean(axis=0)), 1)
    0.5
    """
    if len(channels) == 1:
        return 1.0
    energy = sum(map(_energy, channels)) / len(channels)
    return max(_energy(mono), 0.0) / energy if energy > _AUDIBLE**2 * len(mono) else 1.0


def _energy(samples: np.ndarray) -> float:
    """Return the energy after a constant offset is removed."""
    return float(np.dot(samples, samples)) - len(samples) * float(samples.mean()) ** 2


def load_samples(clip: Any, sample_rate: float, *, index: int | None = None) -> tuple[np.ndarray, float]:
    """Load all channels of a clip at its own sample rate.

    Parameters
    ----------
    clip : any form of the table above
    sample_rate : float
        Rate of arrays without a rate (Hz).
    index : int, optional
        Position of the clip in ``X``, for error messages.

    Returns
    -------
    samples : ndarray of shape (n_channels, n_samples), float32
        At least one sample, all finite, scaled as in :func:`load_waveform`.
    rate : float
        Samples per second (Hz).

    Raises
    ------
    ClipError
        As in :func:`load_waveform`.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio import load_samples
    >>> samples, rate = load_samples((np.zeros((2, 4410)), 44100), 16000)
    >>> samples.shape, rate
    ((2, 4410), 44100.0)
    """
    with naming_clip(clip, index):
        samples, rate = _scaled_samples(clip, sample_rate)
        samples = np.ascontiguousarray(np.atleast_2d(samples))
        check_amplitude(samples.ravel())
        return samples, rate


@contextmanager
def naming_clip(clip: Any, index: int | None) -> Iterator[None]:
    """Convert errors that are raised while a clip is read to a ``ClipError`` with its index and path.

    Some errors are not converted: other errors of skastw (a missing package), exhausted memory, interrupts, and
    warnings that the user has turned into errors. All other errors become the cause of the ``ClipError``, whose message
    names their type.

    Parameters
    ----------
    clip : any form of a clip
    index : int or None
        Position of the clip in ``X``.

    Examples
    --------
    >>> from skastw.audio.clips import naming_clip
    >>> with naming_clip("dog.wav", 3):
    ...     raise OSError(22, "Invalid argument")
    Traceback (most recent call last):
        ...
    skastw.errors.ClipValueError: Clip 3 ('dog.wav'): cannot be read (OSError: [Errno 22] Invalid argument); ...
    """
    try:
        yield
    except ClipError as error:
        raise type(error)(error.reason, index=index, path=error.path or clip_path(clip)) from error.__cause__
    except (SkastwError, MemoryError, Warning):
        raise
    except Exception as error:
        raise ClipValueError(unreadable_reason(error), index=index, path=clip_path(clip)) from error


def unreadable_reason(error: Exception) -> str:
    """Return the reason of a ``ClipError`` for an error of another package.

    Parameters
    ----------
    error : Exception

    Examples
    --------
    >>> from skastw.audio.clips import unreadable_reason
    >>> unreadable_reason(RuntimeError("Failed to decode."))
    'cannot be read (RuntimeError: Failed to decode); repair or drop the clip.'
    """
    cause = f"{type(error).__name__}: {' '.join(str(error).split()):.500}".rstrip(".: ")
    return f"cannot be read ({cause}); repair or drop the clip."


def clip_path(clip: Any) -> str | None:
    """Return the path of a clip's file, or None if the clip is an array."""
    if isinstance(clip, Mapping):
        try:
            clip = clip.get("path")
        except Exception:  # a lazy row may decode here; the error is reported when the clip is loaded
            return None
    return os.fspath(clip) if isinstance(clip, str | os.PathLike) else None


def check_amplitude(samples: np.ndarray) -> None:
    """Raise ``ClipValueError`` unless all samples are finite and their absolute values at most :data:`MAX_AMPLITUDE`.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32

    Raises
    ------
    ClipValueError
        If a sample is NaN, infinite or too large.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio.clips import check_amplitude
    >>> check_amplitude(np.array([0.5, -3e18], dtype=np.float32))
    Traceback (most recent call last):
        ...
    skastw.errors.ClipValueError: Clip: has samples of up to 3e+18, expected at most 1e+12 (full scale is 1); ...
    """
    with np.errstate(over="ignore", invalid="ignore"):
        energy = np.dot(samples, samples)  # takes a quarter of the time of a check of each sample
    if energy <= MAX_AMPLITUDE**2:
        return

    largest = float(np.abs(samples).max())
    if not np.isfinite(largest):
        kind = "NaN" if np.isnan(samples).any() else "infinite"
        raise ClipValueError(f"has {kind} samples; repair or drop the clip.")
    if largest > MAX_AMPLITUDE:
        raise ClipValueError(
            f"has samples of up to {largest:.3g}, expected at most {MAX_AMPLITUDE:g} (full scale is 1); divide them by "
            "the full scale of their format, or drop the clip."
        )


def _item(X: Any, position: int) -> Any:
    """Return a clip of a container, or a placeholder if the container raises an error."""
    try:
        return X[position]
    except (MemoryError, Warning):
        raise
    except Exception as error:  # a lazy container may decode here
        return UnreadableClip(error)


def _scaled_samples(clip: Any, sample_rate: float) -> tuple[np.ndarray, float]:
    """Return a copy of the samples as float32, of shape (n,) or (channels, n), and their rate."""
    samples, rate = _samples_and_rate(clip, sample_rate)
    if not samples.size:
        raise ClipValueError("has no samples (zero length); drop the clip.")
    if samples.ndim > 2:
        raise ClipValueError(f"got an array of shape {samples.shape}, expected (samples,) or (channels, samples).")

    silence, full_scale = _PCM.get(samples.dtype.name, (0.0, 1.0))
    with np.errstate(over="ignore"):  # too large values become infinite, which check_amplitude reports
        scaled = samples.astype(np.float32)
    scaled -= silence
    scaled /= full_scale
    return scaled, rate


def _samples_and_rate(clip: Any, sample_rate: float) -> tuple[np.ndarray, float]:
    """Return samples of shape (n,) or (channels, n), and their rate."""
    if isinstance(clip, UnreadableClip):
        raise ClipValueError(unreadable_reason(clip.error)) from clip.error
    if isinstance(clip, str | os.PathLike):
        return _decoded(clip, sample_rate)
    if isinstance(clip, Mapping):
        return _from_mapping(clip, sample_rate)
    if hasattr(clip, "get_all_samples"):  # a decoder of torchcodec, which Hugging Face datasets return
        decoded = clip.get_all_samples()
        return _as_samples(decoded.data), check_sample_rate(decoded.sample_rate)

    if isinstance(clip, tuple) and len(clip) == 2:
        first, second = clip
        if isinstance(first, str | os.PathLike):
            raise ClipTypeError("got a (path, sample_rate) tuple, expected the path alone: the file gives its rate.")
        if isinstance(first, numbers.Real) and hasattr(second, "__len__"):
            raise ClipTypeError("got a (sample_rate, array) tuple, expected (array, sample_rate): swap the two.")
        if hasattr(first, "__len__"):
            return _as_samples(first, transposed="(waveform.T, sample_rate)"), check_sample_rate(second)
    return _as_samples(clip), sample_rate


def _decoded(
    source: str | os.PathLike[str] | bytes, sample_rate: float, start: float | None = None, end: float | None = None
) -> tuple[np.ndarray, float]:
    decoder = current_decoder()
    samples, rate = decoder(source, start=start, end=end)
    decoder.limits.check_audio(len(samples) * sample_rate / rate, 1, sample_rate, verb="resampled, has")
    return samples.T, float(rate)


def _from_mapping(clip: Mapping[str, Any], sample_rate: float) -> tuple[np.ndarray, float]:
    start, end = _seconds(clip, "start"), _seconds(clip, "end")

    if clip.get("array") is not None:
        rates = [clip[key] for key in ("sample_rate", "sampling_rate") if clip.get(key) is not None]
        if not rates:
            raise ClipValueError(
                "got a dict with 'array' and no rate, expected 'sample_rate' (or 'sampling_rate') too."
            )
        if rates[0] != rates[-1]:
            first, second = plain(rates)
            raise ClipValueError(f"got a dict with two rates, {first!r} and {second!r}, expected one.")

        samples = _as_samples(clip["array"], transposed="{'array': waveform.T, ...}")
        rate = check_sample_rate(rates[0])
        return samples[..., slice(*segment_bounds(samples.shape[-1], rate, start, end))], rate

    content, path = clip.get("bytes"), clip.get("path")
    if isinstance(content, bytes | bytearray | memoryview):
        return _decoded(bytes(content), sample_rate, start, end)
    if content is None and isinstance(path, str | os.PathLike):
        return _decoded(path, sample_rate, start, end)

    for key, value, expected in (("bytes", content, "bytes"), ("path", path, "a str or Path")):
        if value is not None:
            raise ClipTypeError(f"got a dict with {key!r} of type {type(value).__name__}, expected {expected}.")
    named = next((f": pass clip[{key!r}]" for key in ("audio", "file", "filename") if key in clip), "")
    raise ClipValueError(f"got a dict with keys {sorted(map(str, clip))}, expected 'array', 'bytes' or 'path'{named}.")


def _seconds(clip: Mapping[str, Any], key: str) -> float | None:
    value = clip.get(key)
    if _is_missing(value):  # also an empty cell of a table
        return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        kind = type(value).__name__
        raise ClipTypeError(f"got a dict with {key!r} of type {kind} ({plain(value)!r}), expected seconds.")
    return float(value)


def _as_samples(value: Any, *, transposed: str = "waveform.T") -> np.ndarray:
    """Return a clip's samples as an array; ``transposed`` says how to write the clip with the transposed array."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise ClipTypeError(f"got {_describe(value)}, expected {_FORMS}{_advice(value)}.")
    try:
        samples = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ClipTypeError(f"got {_describe(value)}, expected {_FORMS}{_advice(value)} ({error}).") from error

    if samples.ndim == 0:
        raise ClipTypeError(f"got {_describe(value)}, expected {_FORMS}{_advice(value)}.")
    if samples.dtype.kind not in "fiu":
        what = f"samples of dtype {samples.dtype}"
        if isinstance(value, list | tuple) and samples.size:
            what = f"{_describe(value)} that holds {_describe(plain(samples.flat[0]))}"
        raise ClipTypeError(f"got {what}, expected integers or floats: {_FORMS}.")
    if samples.ndim == 2 and samples.shape[0] > samples.shape[1] > 0:
        order = "(samples, channels), as soundfile returns it"
        order = f"which is {order}" if samples.shape[1] <= _MAX_CHANNELS else "with more rows than columns"
        raise ClipValueError(
            f"got an array of shape {samples.shape}, {order}, expected (channels, samples): write {transposed}."
        )
    return samples


def _describe(value: Any) -> str:
    """Return a short description of a value for messages."""
    if _is_missing(value):
        return "a missing value"
    name = type(value).__name__
    return f"{name} {plain(value)!r:.100}" if isinstance(value, numbers.Number | str) else name


def _advice(value: Any, form: str = "{}") -> str:
    """Return the end of an error about a value that is not a clip: what to write, in a form, or nothing."""
    if isinstance(value, bytes | bytearray | memoryview):
        line = "{'bytes': content}"
    elif _is_missing(value):
        return "; drop it, and its label" if form == "{}" else ""
    else:
        line = next((line for name, line in _ADVICE.items() if hasattr(value, name)), "")
    return f": write {form.format(line)}" if line else ""


def _is_missing(value: Any) -> bool:
    try:
        return value is None or bool(value != value)  # NaN and NaT are not equal to themselves
    except TypeError:  # comparisons with pandas.NA have no truth value
        return True
    except (ValueError, RuntimeError):  # nor have those of arrays and tensors
        return False


def to_mono(channels: np.ndarray) -> np.ndarray:
    """Return the mean of ``channels`` (n_channels, n_samples), or the samples (n_samples,) of one channel."""
    if channels.ndim == 2:
        channels = channels[0] if len(channels) == 1 else channels.mean(axis=0, dtype=np.float64)
    return np.ascontiguousarray(channels, dtype=np.float32)


def _advice_on_columns(X: Any) -> str:
    """Return a hint that names the column that probably holds the audio."""
    named = [label for label in X.columns if str(label).lower() in ("audio", "clip", "path", "file", "filename", "wav")]
    textual = [label for label in X.columns if len(X) and isinstance(X[label].iloc[0], str | os.PathLike | Mapping)]
    candidates = named or textual or list(X.columns)
    return f": pass df[{plain(candidates[0])!r}]" if candidates else ""


def _is_frame(X: object) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "columns")


def _is_nested_list_of_numbers(X: list[Any]) -> bool:
    """Return whether X is a 2-D array of numbers in the form of nested lists, which scikit-learn accepts too."""
    if not X or not all(isinstance(row, list) for row in X):
        return False
    return len({len(row) for row in X}) == 1 and all(isinstance(row[0], int | float) for row in X if row)
