"""Functionals: numbers that summarise the values of the frames of a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from skastw.features.mfcc import local_slopes

_PERCENTILES = (5, 25, 50, 75, 95)
#: Names of the functionals of the values in some of the frames of a clip.
FUNCTIONALS = (
    "mean",
    "std",
    *(f"p{percentile:02d}" for percentile in _PERCENTILES),
    "skewness",
    "slope",
    "curvature",
    "delta_std",
    "delta_abs",
)
#: Number of cosines of the course of a value over a clip.
N_WAVES = 5
#: Fewest frames that are summarised on their own.
_FEWEST = 5


def summaries(values: Tensor, changes: Tensor, chosen: Tensor, otherwise: Tensor) -> Tensor:
    """Return :data:`FUNCTIONALS` of some of the frames, shape (12, L).

    Parameters
    ----------
    values : Tensor of shape (T, L)
    changes : Tensor of shape (T, L)
        Change of each value per frame; see :func:`changes_of`.
    chosen : Tensor of shape (T,), bool
        The frames to summarise.
    otherwise : Tensor of shape (T,), bool
        The frames to summarise instead if ``chosen`` has fewer than five.

    Returns
    -------
    Tensor of shape (12, L)
        Mean, standard deviation, percentiles, and skewness of the values; the line and the parabola that fit them best
        over time, as the change from the middle of the frames to their end; standard deviation and mean magnitude of
        the changes.
    """
    chosen = chosen if int(chosen.sum()) >= _FEWEST else otherwise
    x, dx = values[chosen], changes[chosen]

    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    skewness = ((x - mean) / std.clamp(min=1e-4)).pow(3).mean(dim=0).clamp(-10, 10)

    time = torch.linspace(-1, 1, len(x))[:, None] if len(x) > 1 else torch.zeros(1, 1)
    square = time.square() - time.square().mean()
    trends = [(curve * x).mean(dim=0) / curve.square().mean().clamp(min=1e-6) for curve in (time, square)]
    of_changes = dx.std(dim=0, correction=0), dx.abs().mean(dim=0)
    return torch.stack([mean, std, *percentiles(x, _PERCENTILES), skewness, *trends, *of_changes])


def waves(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the first cosines of the course of each value from the first to the last chosen frame, shape (5, L).

    Parameters
    ----------
    values : Tensor of shape (T, L)
    chosen : Tensor of shape (T,), bool
        At least one is True.
    """
    index = torch.nonzero(chosen)[:, 0]
    course = values[index[0] : index[-1] + 1]
    order, time = torch.arange(1, N_WAVES + 1)[:, None], torch.arange(len(course)) + 0.5
    return torch.cos(math.pi / len(course) * order * time) @ course / len(course)


def changes_of(values: Tensor) -> Tensor:
    """Return the change per frame of values (T, L), from a line that is fitted to nine frames."""
    return local_slopes(values[None], torch.tensor([len(values)]))[0]


def percentiles(values: Tensor, wanted: Sequence[float]) -> Tensor:
    """Return percentiles along the first axis, as ``numpy.percentile`` does; torch's function refuses long recordings.

    Parameters
    ----------
    values : Tensor of shape (T, ...)
    wanted : sequence of float
        Percentiles between 0 and 100.

    Returns
    -------
    Tensor of shape (n_wanted, ...)

    Examples
    --------
    >>> import torch
    >>> from skastw.features._functionals import percentiles
    >>> percentiles(torch.tensor([4.0, 1.0, 2.0]), [0, 25, 50]).tolist()
    [1.0, 1.5, 2.0]
    """
    ordered = values.sort(dim=0).values
    position = torch.tensor(wanted, dtype=torch.float64) / 100 * (len(values) - 1)
    below, above = position.floor().long(), position.ceil().long()
    weight = (position - below).to(values.dtype).view(-1, *[1] * (values.ndim - 1))
    return torch.lerp(ordered[below], ordered[above], weight)


def stretches(mask: Tensor) -> Tensor:
    """Return the start and the end of each stretch of True, shape (n, 2).

    Parameters
    ----------
    mask : Tensor of shape (T,), bool

    Examples
    --------
    >>> import torch
    >>> from skastw.features._functionals import stretches
    >>> stretches(torch.tensor([True, True, False, True])).tolist()
    [[0, 2], [3, 4]]
    """
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff()
    return torch.stack([torch.nonzero(edges == 1)[:, 0], torch.nonzero(edges == -1)[:, 0]], dim=1)
