"""Summary statistics of frames: one row for each clip, for classical models."""

import math

import torch
from torch import Tensor

#: Statistics over time of each value of a frame.
STATISTICS = ("mean", "std", "delta_std")
#: Number of cepstral coefficients whose statistics are computed, in addition to the log-mel bands.
N_MFCC = 20


def frame_statistics(frames: Tensor) -> Tensor:
    """Return summary statistics of the frames of one clip.

    Parameters
    ----------
    frames : Tensor of shape (T, F)
        Log-mel frames of one clip, without padding.

    Returns
    -------
    Tensor of shape (3 * (F + min(20, F)),), float32
        Mean, standard deviation, and standard deviation of the differences between neighbouring frames, for each band
        and for the first cepstral coefficients. All are finite. For a clip of one frame, the deviations are zero.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.statistics import frame_statistics
    >>> tuple(frame_statistics(torch.zeros(50, 80)).shape)
    (300,)
    """
    values = torch.cat([frames, cepstral_coefficients(frames, min(N_MFCC, frames.shape[1]))], dim=1)
    deltas = values.diff(dim=0) if len(values) > 1 else torch.zeros_like(values)
    return torch.cat([values.mean(dim=0), values.std(dim=0, correction=0), deltas.std(dim=0, correction=0)])


def statistic_names(n_features: int) -> list[str]:
    """Return the names of the values of :func:`frame_statistics` for frames of ``n_features`` bands.

    Examples
    --------
    >>> from skastw.features.statistics import statistic_names
    >>> names = statistic_names(80)
    >>> names[0], names[80], names[-1]
    ('mel00_mean', 'mfcc00_mean', 'mfcc19_delta_std')
    """
    values = [f"mel{i:02d}" for i in range(n_features)] + [f"mfcc{i:02d}" for i in range(min(N_MFCC, n_features))]
    return [f"{value}_{statistic}" for statistic in STATISTICS for value in values]


def cepstral_coefficients(frames: Tensor, n_mfcc: int) -> Tensor:
    """Return the first cepstral coefficients: the orthonormal type-2 cosine transform over bands.

    Parameters
    ----------
    frames : Tensor of shape (T, F)
    n_mfcc : int

    Returns
    -------
    Tensor of shape (T, n_mfcc)

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980.
    """
    n_bands = frames.shape[1]
    band = torch.arange(n_bands, dtype=torch.float64) + 0.5
    order = torch.arange(n_mfcc, dtype=torch.float64)
    basis = torch.cos(math.pi / n_bands * order[:, None] * band) * math.sqrt(2 / n_bands)
    basis[0] /= math.sqrt(2)
    return frames @ basis.T.to(frames.dtype)
