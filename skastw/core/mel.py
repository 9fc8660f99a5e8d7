"""Mel scales and filter banks."""

import functools

import numpy as np

from skastw.core.warn import warn_user
from skastw.errors import ComponentError, plain


def mel_filter_bank(
    sample_rate: float,
    n_fft: int,
    n_mels: int,
    fmin: float = 0.0,
    fmax: float | None = None,
    *,
    scale: str = "slaney",
    norm: str = "slaney",
) -> np.ndarray:
    """Return triangular mel filters.

    Parameters
    ----------
    sample_rate : float
        Samples per second (Hz).
    n_fft : int
        Length of the Fourier transform in samples.
    n_mels : int
        Number of bands.
    fmin, fmax : float
        Range of the bands in Hz; ``fmax=None`` is half the sample rate.
    scale : {"slaney", "htk", "kaldi"}, default="slaney"
        Mel scale; see :func:`hz_to_mel`. The sides of the triangles are straight lines over the frequency in Hz. With
        ``"kaldi"``, the scale is HTK's, and they are straight lines over the mel.
    norm : {"slaney", "none"}, default="slaney"
        ``"slaney"`` divides each triangle by half its width in Hz, so that its area is 1. ``"none"`` gives it the peak
        1.

    Returns
    -------
    ndarray of shape (n_mels, n_fft // 2 + 1), float32

    Raises
    ------
    ComponentError
        If the range is empty or passes half the sample rate.

    Examples
    --------
    >>> from skastw.core.mel import mel_filter_bank
    >>> mel_filter_bank(16000, 400, 80).shape
    (80, 201)
    """
    return _mel_filters(sample_rate, n_fft, n_mels, fmin, fmax, scale, norm).copy()


@functools.lru_cache(maxsize=16)
def _mel_filters(
    sample_rate: float, n_fft: int, n_mels: int, fmin: float, fmax: float | None, scale: str, norm: str
) -> np.ndarray:
    """Return the filters, cached because each prediction builds its front end."""
    edges = mel_frequencies(sample_rate, n_mels, fmin, fmax, scale=scale)
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    width = (edges[2:] - edges[:-2])[:, None]
    if scale == "kaldi":
        edges, bins = hz_to_mel(edges, scale), hz_to_mel(bins, scale)

    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins - lower) / (centre - lower)
    falling = (upper - bins) / (upper - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * 2 / width if norm == "slaney" else triangles).astype(np.float32)


def warn_about_empty_bands(filters: np.ndarray, sample_rate: float, n_fft: int) -> None:
    """Warn if mel bands lie between the bins of the Fourier transform, so that their values are constant.

    Parameters
    ----------
    filters : ndarray of shape (n_mels, n_fft // 2 + 1)
    sample_rate : float
        Samples per second (Hz).
    n_fft : int
        Length of the Fourier transform in samples.
    """
    n_empty = int((filters.max(axis=1) == 0).sum())
    if n_empty:
        warn_user(
            f"{n_empty} of n_mels={len(filters)} mel bands lie between the bins of n_fft={n_fft} at {sample_rate:g} Hz "
            "and are constant: raise n_fft or lower n_mels."
        )


def mel_frequencies(
    sample_rate: float, n_mels: int, fmin: float = 0.0, fmax: float | None = None, *, scale: str = "slaney"
) -> np.ndarray:
    """Return the edges and centres of mel bands. Each band extends from the centre of the previous to that of the next.

    Parameters
    ----------
    sample_rate : float
        Samples per second (Hz).
    n_mels : int
        Number of bands.
    fmin, fmax : float
        Range of the bands in Hz; ``fmax=None`` is half the sample rate.
    scale : {"slaney", "htk", "kaldi"}, default="slaney"
        Mel scale; see :func:`hz_to_mel`.

    Returns
    -------
    ndarray of shape (n_mels + 2,)
        ``fmin``, the centre of each band, and ``fmax`` in Hz.

    Raises
    ------
    ComponentError
        If the range is empty or passes half the sample rate.

    Examples
    --------
    >>> from skastw.core.mel import mel_frequencies
    >>> mel_frequencies(16000, 4, fmax=1000.0).tolist()
    [0.0, 200.0, 400.0, 600.0, 800.0, 1000.0]
    """
    fmax = sample_rate / 2 if fmax is None else fmax
    if not 0 <= fmin < fmax <= sample_rate / 2:
        raise ComponentError(
            f"Got fmin={plain(fmin)!r} and fmax={plain(fmax)!r}, expected 0 <= fmin < fmax <= {sample_rate / 2:g} Hz, "
            f"half of sample_rate={sample_rate:g}."
        )
    return mel_to_hz(np.linspace(hz_to_mel(fmin, scale), hz_to_mel(fmax, scale), n_mels + 2), scale)


def hz_to_mel(hz: float | np.ndarray, scale: str = "slaney") -> np.ndarray:
    """Convert frequencies to mel.

    Parameters
    ----------
    hz : float or ndarray
        Frequencies (Hz).
    scale : {"slaney", "htk", "kaldi"}, default="slaney"
        Slaney's scale is linear below 1 kHz (15 mel per kHz) and logarithmic above (27 mel per factor of 6.4). HTK and
        Kaldi use ``1127 ln(1 + hz / 700)``.

    Returns
    -------
    ndarray
    """
    hz = np.asarray(hz, dtype=np.float64)
    if scale != "slaney":
        return 1127 * np.log1p(hz / 700)
    above = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    return np.where(hz < 1000, hz * 15 / 1000, above)


def mel_to_hz(mel: float | np.ndarray, scale: str = "slaney") -> np.ndarray:
    """Convert values ``mel`` on a ``scale`` of :func:`hz_to_mel` to frequencies in Hz."""
    mel = np.asarray(mel, dtype=np.float64)
    if scale != "slaney":
        return 700 * np.expm1(mel / 1127)
    above = 1000 * np.exp((np.maximum(mel, 15) - 15) * np.log(6.4) / 27)
    return np.where(mel < 15, mel * 1000 / 15, above)
