"""Convert between mel power and the scale of log-mel frames.

On this scale, one unit is 40 dB and a mel power of 1 has the value 1 (a full-scale tone is louder). Front ends return
frames on this scale. Augmentations convert them to power, so that they can add sounds and change levels.
"""

import torch
from torch import Tensor

__all__ = ["UNIT", "from_power", "to_power"]

#: Decibels in one unit of a log-mel frame.
UNIT = 40.0
#: Lower powers are raised to this value.
_FLOOR = 1e-10


def from_power(power: Tensor) -> Tensor:
    """Return the log-mel frames of mel power: ``(log10(power) + 4) / 4``.

    Parameters
    ----------
    power : Tensor
        Non-negative power. Values below 1e-10 are raised to 1e-10.

    Returns
    -------
    Tensor of the shape of ``power``
        Values of at least -1.5.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.decibels import from_power
    >>> from_power(torch.tensor([1.0, 1e-4, 0.0])).tolist()
    [1.0, 0.0, -1.5]
    """
    return power.clamp(min=_FLOOR).log10().add(4.0).div(4.0)


def to_power(frames: Tensor) -> Tensor:
    """Return the mel power of log-mel frames.

    Parameters
    ----------
    frames : Tensor
        Log-mel frames.

    Returns
    -------
    Tensor of the shape of ``frames``
        Power, limited to 150 dB above and below 1.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.decibels import to_power
    >>> [round(power, 3) for power in to_power(torch.tensor([1.0, 1.5])).tolist()]
    [1.0, 100.0]
    """
    exponent = (frames - 1.0) * 13.287712379549449  # 4 log2(10): exp2 is faster than a power of ten
    return torch.exp2(exponent.clamp(min=-50.0, max=50.0))
