"""Tell whether two clips are one recording: exactly, or at another level, rate or codec.

Decoders of today start a lossy copy at the sample at which the original starts, so the waveforms of two copies agree
sample by sample but for what the codec lost, and waveforms of different recordings do not. A sketch keeps the
angle between two waveforms in 256 numbers, whatever their length: each sample is added, with a random sign, to four
random places (Charikar, Chen & Farach-Colton, "Finding frequent items in data streams", 2002).

Tones of one pitch can agree by chance. The narrower the spectrum, the more is asked for: the frequencies that a clip is
made of are counted as ``sum(power)**2 / sum(power**2)``, 1 for a steady tone, 23 and more for the spoken digits.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from skastw.audio.resample import resample

__all__ = ["find_copies", "fingerprint", "sketch"]

#: How far the cosine between the waveforms of copies may be below 1, for few frequencies (4) and for many (20), and by
#: how much their lengths may differ (s).
_FEW, _MANY, _STRICT, _LOOSE, _MAX_DIFFERENCE = 4, 20, 0.03, 0.15, 0.1
#: Rate of what is compared (Hz), numbers in a sketch, places of one sample, and samples until places repeat (1 min).
_RATE, _SIZE, _N_PLACES, _PERIOD = 8000, 256, 4, 480_000


def fingerprint(samples: np.ndarray, rate: float) -> str:
    """Return a name of the audio, the same for the same samples in any lossless file.

    Parameters
    ----------
    samples : ndarray of shape (n_channels, n_samples), float32
    rate : float
        Samples per second (Hz).

    Returns
    -------
    str of 32 hexadecimal digits

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio.fingerprint import fingerprint
    >>> fingerprint(np.zeros((1, 8), dtype=np.float32), 16000) == fingerprint(np.zeros((1, 9), np.float32), 16000)
    False
    """
    digest = hashlib.blake2b(f"{samples.shape} {rate:g}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(samples + np.float32(0), dtype="<f4").data)  # -0.0 + 0.0 is 0.0
    return digest.hexdigest()


def sketch(waveform: np.ndarray, rate: float) -> np.ndarray:
    """Return 256 numbers that copies of a recording share, at any level and from any codec.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,), float32
    rate : float
        Samples per second (Hz).

    Returns
    -------
    ndarray of shape (256,), float64
        Of length 1, or up to 2.2 for clips of few frequencies, which have to be more alike; zero where there is
        nothing but silence below 4 kHz.

    Notes
    -----
    It is of the part below 4 kHz, which every codec keeps, and of its slope from sample to sample: hum and rumble
    would make different recordings of one place alike.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio.fingerprint import sketch
    >>> noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    >>> round(float(sketch(noise, 16000) @ sketch(0.1 * noise, 16000)), 3)
    1.0
    """
    slope = np.diff(resample(waveform, rate, _RATE).astype(np.float64))
    if not slope.any():
        return np.zeros(_SIZE)
    if len(slope) > _PERIOD:
        slope = np.pad(slope, (0, -len(slope) % _PERIOD)).reshape(-1, _PERIOD).sum(axis=0)
    result = np.zeros(_SIZE)
    for places, signs in zip(*_places(), strict=True):
        result += np.bincount(places[: len(slope)], signs[: len(slope)] * slope, minlength=_SIZE)
    power = np.abs(np.fft.rfft(slope)) ** 2
    n_frequencies = power.sum() ** 2 / (power**2).sum()
    tolerance = np.interp(n_frequencies, [_FEW, _MANY], [_STRICT, _LOOSE])
    return result / np.linalg.norm(result) * np.sqrt(_LOOSE / tolerance)


def find_copies(sketches: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Put copies of one recording into one set.

    Parameters
    ----------
    sketches : ndarray of shape (n, 256)
        Of :func:`sketch`.
    durations : ndarray of shape (n,)
        Lengths of the clips (s).

    Returns
    -------
    ndarray of shape (n,), int
        Number of the set that a clip is in; -1 for one that is alone, or silent.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio.fingerprint import find_copies
    >>> find_copies(np.eye(256)[[0, 1, 0]], np.ones(3))
    array([ 0, -1,  0])
    """
    from sklearn.cluster import DBSCAN

    sets = np.full(len(sketches), -1)
    audible = np.flatnonzero(sketches.any(axis=1))
    if len(audible):
        radius = np.sqrt(2 * _LOOSE)
        lengths = durations[audible, None] * (radius / _MAX_DIFFERENCE)
        points = np.hstack([sketches[audible], lengths])
        sets[audible] = DBSCAN(eps=radius, min_samples=2, algorithm="brute").fit_predict(points)
    return sets


@lru_cache(maxsize=1)
def _places() -> tuple[np.ndarray, np.ndarray]:
    """Return where the samples of a minute go, and with which sign, each of shape (4, 480000)."""
    rng = np.random.RandomState(0)  # whose numbers never change
    shape = (_N_PLACES, _PERIOD)
    return rng.randint(_SIZE, size=shape, dtype=np.uint8), rng.choice(np.array([-1, 1], dtype=np.int8), size=shape)
