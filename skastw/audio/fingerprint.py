"""Find copies of a recording: equal samples, or the same sound at another level, sample rate or codec.

Modern decoders keep the start of a lossy copy aligned with the original. The waveforms of two copies are therefore
equal sample by sample, except for the losses of the codec. A sketch is a vector of 256 numbers that approximately
preserves the angle between waveforms of any length: each sample is added, with a random sign, to four random elements
(Charikar, Chen & Farach-Colton, "Finding frequent items in data streams", 2002).

Waveforms of few frequencies, such as tones of one pitch, can be similar by chance, and must be more similar to count as
copies. The number of frequencies is estimated as ``sum(power)**2 / sum(power**2)``: 1 for a steady tone, 23 and more
for the spoken digits.
"""

import hashlib
from functools import lru_cache

import numpy as np

from skastw.audio.resample import resample

#: Largest difference between 1 and the cosine of copies, for few frequencies (4) and for many (20), and largest
#: difference between their durations (s).
_FEW, _MANY, _STRICT, _LOOSE, _MAX_DIFFERENCE = 4, 20, 0.03, 0.15, 0.1
#: Sample rate of compared waveforms (Hz), size of a sketch, elements that a sample is added to, and number of samples
#: after which these elements repeat (1 min).
_RATE, _SIZE, _N_PLACES, _PERIOD = 8000, 256, 4, 480_000


def fingerprint(samples: np.ndarray, rate: float) -> str:
    """Return a hash of the samples, which is the same for all lossless copies of a recording.

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
    """Return the sketch of a waveform, which is nearly the same for all copies of a recording.

    Parameters
    ----------
    waveform : ndarray of shape (n_samples,), float32
    rate : float
        Samples per second (Hz).

    Returns
    -------
    ndarray of shape (256,), float64
        Vector of norm 1, or up to 2.2 for clips of few frequencies, which must be more similar. Zero if the clip is
        silent below 4 kHz.

    Notes
    -----
    Only the frequencies below 4 kHz are used, since every codec keeps them. The sketch is computed from the differences
    between neighbouring samples, in which low frequencies are weak: otherwise, hum and rumble would make different
    recordings from one place similar.

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
    """Group the copies of each recording.

    Parameters
    ----------
    sketches : ndarray of shape (n, 256)
        Results of :func:`sketch`.
    durations : ndarray of shape (n,)
        Durations of the clips (s).

    Returns
    -------
    ndarray of shape (n,), int
        Number of the group of each clip; -1 for clips without a copy and for silent clips.

    Examples
    --------
    >>> import numpy as np
    >>> from skastw.audio.fingerprint import find_copies
    >>> find_copies(np.eye(256)[[0, 1, 0]], np.ones(3))
    array([ 0, -1,  0])
    """
    from sklearn.cluster import DBSCAN

    groups = np.full(len(sketches), -1)
    audible = np.flatnonzero(sketches.any(axis=1))
    if len(audible):
        radius = np.sqrt(2 * _LOOSE)
        lengths = durations[audible, None] * (radius / _MAX_DIFFERENCE)
        points = np.hstack([sketches[audible], lengths])
        groups[audible] = DBSCAN(eps=radius, min_samples=2, algorithm="brute").fit_predict(points)
    return groups


@lru_cache(maxsize=1)
def _places() -> tuple[np.ndarray, np.ndarray]:
    """Return the elements that the samples of a minute are added to, and the signs, each of shape (4, 480000)."""
    rng = np.random.RandomState(0)  # its numbers are the same in all releases of NumPy
    shape = (_N_PLACES, _PERIOD)
    return rng.randint(_SIZE, size=shape, dtype=np.uint8), rng.choice(np.array([-1, 1], dtype=np.int8), size=shape)
