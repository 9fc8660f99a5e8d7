"""Mel-frequency cepstral coefficients."""

import torch
from torch import Tensor

from skastw.core.batching import frame_mask
from skastw.core.decibels import UNIT
from skastw.core.parameters import integers, param, parameters
from skastw.core.spectra import whisper_scale
from skastw.errors import ComponentError
from skastw.features._base import FeaturesModule
from skastw.features.log_mel import MelFeatures, MelModule
from skastw.features.statistics import cepstral_coefficients

#: Number of frames that a line or parabola is fitted to.
_WIDTH = 9


@parameters
class MFCC(MelFeatures):
    """Mel-frequency cepstral coefficients: the cosine transform over the bands of a log-mel spectrum.

    The spectrum is computed as in :class:`~skastw.features.LogMel`, in decibels, with a minimum of 80 dB below the
    maximum of the clip. The cosine transform is orthonormal and of type 2. The values are the same as in
    ``librosa.feature.mfcc``: the first coefficient, the level, lies between -900 and 500, and the others have
    magnitudes of some tens. Use ``normalization="per_bin"`` to bring them to the same scale for a network. Padding a
    clip does not change its frames.

    Parameters
    ----------
    {parameters}

    References
    ----------
    Davis and Mermelstein, "Comparison of parametric representations for monosyllabic word recognition", 1980.

    Examples
    --------
    >>> import torch
    >>> from skastw.features import MFCC
    >>> module = MFCC(n_mfcc=13, deltas=2).build(16000)
    >>> frames, lengths = module(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 100, 39), [100, 50])
    """

    name = "mfcc"

    n_mfcc: int = param(
        default=40,
        valid=[integers(1, 1024)],
        doc="Number of coefficients, counted from the first; at most ``n_mels``.",
    )
    deltas: int = param(
        default=0,
        valid=[integers(0, 2)],
        doc=(
            "With 1, the slope of each coefficient over time is appended, and with 2 also its second derivative; "
            "see :func:`local_slopes`. A frame then has two or three times ``n_mfcc`` values."
        ),
    )

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`."""
        return _MFCCModule(self, sample_rate)


class _MFCCModule(MelModule):
    basis: Tensor

    def __init__(self, params: MFCC, sample_rate: int) -> None:
        super().__init__(params, sample_rate)
        if params.n_mfcc > params.n_mels:
            raise ComponentError(f"Got n_mfcc={params.n_mfcc}, expected at most n_mels={params.n_mels}.")
        self.n_features = params.n_mfcc * (1 + params.deltas)
        self.deltas = params.deltas
        self.register_buffer("basis", cepstral_coefficients(torch.eye(params.n_mels), params.n_mfcc), persistent=False)

    def scaled(self, mel: Tensor, lengths: Tensor) -> Tensor:
        decibels = (whisper_scale(mel, lengths) - 1) * UNIT
        coefficients = decibels @ self.basis
        orders = [local_slopes(coefficients, lengths, order) for order in range(1, self.deltas + 1)]
        frames = torch.cat([coefficients, *orders], dim=2)
        return frames * frame_mask(frames, lengths)


def local_slopes(frames: Tensor, lengths: Tensor, order: int = 1) -> Tensor:
    """Return derivatives over time of each value, from a line or parabola that is fitted to nine frames.

    The nine frames are centred on the current one. Before its start and after its end, the first and the last frame of
    a clip are repeated. Padding therefore does not change the result, and a clip may have fewer than nine frames.

    Parameters
    ----------
    frames : Tensor of shape (B, T, F)
    lengths : Tensor of shape (B,)
        Number of valid frames.
    order : {1, 2}, default=1
        1 is the slope of the line, 2 the second derivative of the parabola.

    Returns
    -------
    Tensor of shape (B, T, F)
        Change per frame. Values beyond each length are undefined.

    References
    ----------
    Savitzky and Golay, "Smoothing and Differentiation of Data by Simplified Least Squares Procedures", 1964.

    Examples
    --------
    >>> import torch
    >>> from skastw.features.mfcc import local_slopes
    >>> ramp = 3 * torch.arange(20.0).view(1, 20, 1)
    >>> round(float(local_slopes(ramp, torch.tensor([20]))[0, 10, 0]), 4)
    3.0
    """
    half = _WIDTH // 2
    offset = torch.arange(-half, half + 1, dtype=torch.float64)
    if order == 2:
        square = offset.square() - offset.square().mean()
        weights = 2 * square / square.square().sum()
    else:
        weights = offset / offset.square().sum()

    position = torch.arange(-half, frames.shape[1] + half)
    nearest = torch.minimum(position.clamp(min=0), lengths[:, None] - 1).to(frames.device)
    extended = frames[torch.arange(frames.shape[0], device=frames.device)[:, None], nearest]
    # a matrix, since onnxruntime 1.31 computes products with a vector wrongly
    column = weights[:, None].to(frames.device, frames.dtype)
    return (extended.unfold(1, _WIDTH, 1) @ column).squeeze(3)
