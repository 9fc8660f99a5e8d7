"""Functionals: numbers that summarise the values of the frames of a clip."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skastw.features.mfcc import local_slopes

#: Functionals of the values in some of the frames of a clip.
FUNCTIONALS = ("mean", "std", "p05", "p25", "p50", "p75", "p95", "skew", "slope", "curve", "delta_std", "delta_abs")
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
#: Waves of the course of a value over a clip.
N_WAVES = 5
#: Fewest frames that are summarised on their own.
_FEWEST = 5


def summaries(values: Tensor, slopes: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Return :data:`FUNCTIONALS` of some frames, shape (12, L).

    Parameters
    ----------
    values : Tensor of shape (T, L)
    slopes : Tensor of shape (T, L)
        Change of each value per frame.
    chosen : Tensor of shape (T,), bool
        The frames to summarise.
    otherwise : Tensor of shape (T,), bool
        The frames to summarise instead if ``chosen`` has fewer than five.

    Returns
    -------
    Tensor of shape (12, L)
        Mean, standard deviation, percentiles 5, 25, 50, 75 and 95, skewness, line and parabola that fit the values best
        (their change from the middle to the end of the frames), standard deviation and mean magnitude of the slopes.
    """
    chosen = chosen if int(chosen.sum()) >= _FEWEST else otherwise
    x, dx = values[chosen], slopes[chosen]

    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    quantiles = torch.quantile(x, torch.tensor(_QUANTILES), dim=0)
    skew = ((x - mean) / std.clamp(min=1e-4)).pow(3).mean(dim=0).clamp(-10, 10)

    time = torch.linspace(-1, 1, len(x))[:, None] if len(x) > 1 else torch.zeros(1, 1)
    square = time.square() - time.square().mean()
    slope, curve = ((t * x).mean(dim=0) / t.square().mean().clamp(min=1e-6) for t in (time, square))
    changes = torch.stack([dx.std(dim=0, correction=0), dx.abs().mean(dim=0)])
    return torch.cat([mean[None], std[None], quantiles, torch.stack([skew, slope, curve]), changes])


def waves(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the first cosines of the course of each value from the first to the last chosen frame, shape (5, L).

    Parameters
    ----------
    values : Tensor of shape (T, L)
    chosen : Tensor of shape (T,), bool
        At least one frame.
    """
    index = torch.nonzero(chosen)[:, 0]
    course = values[index[0] : index[-1] + 1]
    n = len(course)
    order = torch.arange(1, N_WAVES + 1)[:, None]
    return torch.cos(math.pi / n * order * (torch.arange(n) + 0.5)) @ course / n


def with_slopes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the values (T, L), and their change per frame."""
    return values, local_slopes(values[None], torch.tensor([len(values)]))[0]


def stretches(mask: Tensor) -> Tensor:
    """Return the start and the end of each stretch of True, shape (n, 2).

    Examples
    --------
    >>> import torch
    >>> from skastw.features._functionals import stretches
    >>> stretches(torch.tensor([True, True, False, True])).tolist()
    [[0, 2], [3, 4]]
    """
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff()
    return torch.stack([torch.nonzero(edges == 1)[:, 0], torch.nonzero(edges == -1)[:, 0]], dim=1)
