"""Summary statistics of log-mel frames: one row for each clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skastw.core.component import Component, component_base, resolve_component
from skastw.core.parameters import param, parameters
from skastw.errors import ComponentError
from skastw.features._base import FeaturesModule, WholeClipFeatures, WholeClipModule
from skastw.features.precomputed import Precomputed

#: Statistics over time of each value of a frame.
STATISTICS = ("mean", "std", "delta_std")
#: Number of cepstral coefficients whose statistics are computed, in addition to the log-mel bands.
N_MFCC = 20


@parameters
class Statistics(WholeClipFeatures):
    """Summary statistics of log-mel frames: one frame for each clip.

    The values are those of ``ASTWFeaturizer(output="statistics")``; see :func:`frame_statistics`. With
    ``encoder="identity"``, ``normalization="per_bin"`` and ``augment=None``, a network on them is a linear model.
    Padding a clip does not change its frame.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.features import Statistics
    >>> module = Statistics().build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 1, 300), [1, 1])
    """

    name = "statistics"

    features: Any = param(
        default="log_mel", valid=[str, Component], doc="Log-mel front end, whose frames are summarised."
    )

    def frames(self) -> Any:
        """Return the front end of the frames as a component.

        Raises
        ------
        ComponentError
            If it does not compute log-mel frames from clips.
        """
        features: Any = resolve_component(component_base("features"), self.features)
        if not features.log_mel or isinstance(features, Precomputed):
            raise ComponentError(
                f"Got Statistics(features={features.name!r}), expected a log-mel front end such as 'log_mel', because "
                "the statistics describe log-mel bands and their cepstra."
            )
        return features

    def value_names(self, sample_rate: int) -> list[str]:
        """Return the names of the values; see :func:`statistic_names`."""
        return statistic_names(self.frames().build(sample_rate).n_features)

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _StatisticsModule(self.frames().build(sample_rate))


class _StatisticsModule(WholeClipModule):
    def __init__(self, features: FeaturesModule) -> None:
        super().__init__()
        self.features = features
        self.n_features = len(statistic_names(features.n_features))

    def row(self, waveform: Tensor) -> Tensor:
        return self.extract([waveform])[0][0]

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        return [frame_statistics(frames)[None] for frames in self.features.extract(waveforms)]


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
