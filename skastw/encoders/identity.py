"""An encoder that changes nothing."""

from torch import Tensor

from skastw.encoders._base import Encoder, EncoderModule


class IdentityEncoder(Encoder):
    """Return the frames unchanged, so that pooling and head are the whole network.

    With a frozen encoder as front end, this is a linear probe. The frames of a front end such as ``"log_mel"`` may be
    pooled directly too.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import IdentityEncoder
    >>> frames, lengths = IdentityEncoder().build(80, 100)(torch.ones(2, 9, 80), torch.tensor([9, 5]))
    >>> tuple(frames.shape), lengths.tolist()
    ((2, 9, 80), [9, 5])
    """

    name = "identity"

    def build(self, n_features: int, max_frames: int) -> EncoderModule:
        """Return the module; see :class:`~skastw.encoders.Encoder`."""
        return _Identity(n_features)


class _Identity(EncoderModule):
    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_outputs = n_features

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return frames, lengths
