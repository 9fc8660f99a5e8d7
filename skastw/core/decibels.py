"""The scale of log-mel frames: one unit is 40 dB, and 1 is a mel power of 1 (a full-scale tone is louder).

Front ends write this scale and augmentations read it, so that a gain, a noise or a mixture of two clips is that of
the sounds, not of the numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["UNIT", "from_power", "to_power"]

#: Decibels in one unit of a log-mel frame.
UNIT = 40.0
#: Power below which nothing is told apart.
_FLOOR = 1e-10


def from_power(power: Tensor) -> Tensor:
    """Return the log-mel frames of mel power: ``(log10(power) + 4) / 4``.

    Parameters
    ----------
    power : Tensor
        At least 0.

    Returns
    -------
    Tensor of the shape of ``power``, at least -1.5

    Examples
    --------
    >>> import torch
    >>> from skastw.core.decibels import from_power
    >>> from_power(torch.tensor([1.0, 1e-4, 0.0])).tolist()
    [1.0, 0.0, -1.5]
    """
    return power.clamp(min=_FLOOR).log10().add(4.0).div(4.0)


def to_power(frames: Tensor) -> Tensor:
    """Return the mel power of log-mel frames, within 150 dB of 1.

    Parameters
    ----------
    frames : Tensor

    Returns
    -------
    Tensor of the shape of ``frames``

    Examples
    --------
    >>> import torch
    >>> from skastw.core.decibels import to_power
    >>> [round(power, 3) for power in to_power(torch.tensor([1.0, 1.5])).tolist()]
    [1.0, 100.0]
    """
    exponent = (frames - 1.0) * 13.287712379549449  # 4 log2(10): powers of two are the fast ones
    return torch.exp2(exponent.clamp(min=-50.0, max=50.0))
