"""Sample-rate conversion with soxr's high-quality filter."""

import numbers

import numpy as np
import soxr

from skastw.errors import ClipTypeError, ClipValueError, plain

#: Range of valid sample rates (Hz): bat detectors use up to 768 kHz, infrasound sensors 100 Hz.
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100, 1_000_000


def check_sample_rate(rate: object) -> float:
    """Return a sample rate as a float, or raise an error if it is not valid.

    Raises
    ------
    ClipTypeError
        If ``rate`` is not a real number.
    ClipValueError
        If ``rate`` is not between 100 Hz and 1 MHz.

    Examples
    --------
    >>> from skastw.audio.resample import check_sample_rate
    >>> check_sample_rate(44100)
    44100.0
    """
    if isinstance(rate, bool | np.bool_) or not isinstance(rate, numbers.Real):
        raise ClipTypeError(
            f"got a sample rate of type {type(rate).__name__} ({plain(rate)!r}), expected a number of hertz."
        )
    if not MIN_SAMPLE_RATE <= float(rate) <= MAX_SAMPLE_RATE:
        raise ClipValueError(
            f"got a sample rate of {plain(rate)!r}, expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz; "
            "check that the rate is in samples per second."
        )
    return float(rate)


def resample(waveform: np.ndarray, rate: float, sample_rate: float) -> np.ndarray:
    """Convert a waveform from ``rate`` to ``sample_rate``.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,), float32
    rate, sample_rate : float
        Old and new samples per second (Hz).

    Returns
    -------
    ndarray of shape (about n_samples * sample_rate / rate,), float32
        At least one sample if ``waveform`` is not empty.

    Notes
    -----
    Band-limited interpolation by the SoX resampler at its "HQ" setting, with linear phase.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio import resample
    >>> resample(np.zeros(44100, dtype=np.float32), 44100, 16000).shape
    (16000,)
    """
    if rate == sample_rate or not waveform.size:
        return waveform
    converted = soxr.resample(waveform, rate, sample_rate, quality="HQ")
    if not converted.size:  # the clip is shorter than one new sample
        return waveform.mean(keepdims=True)
    return np.ascontiguousarray(converted, dtype=np.float32)
