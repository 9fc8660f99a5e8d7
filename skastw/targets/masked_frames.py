"""Targets of pretraining without labels: the frames of the clips themselves, of which spans are hidden."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from msgspec import Meta, Struct
from torch import Tensor

from skastw.core.batching import length_mask
from skastw.core.functional import keeping_frames
from skastw.core.generators import generator_on
from skastw.core.parameters import integers, param, parameters, reals
from skastw.errors import ArtifactError, ComponentError
from skastw.storage.schema import Finite, check
from skastw.targets._base import Targets

#: Largest number of values that an output frame predicts. A folder from an untrusted source may ask for any number.
_MOST_OUTPUTS = 2**20


@parameters
class MaskParams:
    """Parameters of the masks of pretraining."""

    mask_share: float = param(
        default=0.5,
        valid=[reals(0, 1, closed="neither")],
        doc="Share of the frames of a clip that are hidden, in spans at random places.",
    )
    mask_length: int = param(
        default=15,
        valid=[integers(1, 10_000)],
        doc="Mean length of a hidden span in frames. The lengths vary between two thirds and four thirds of it.",
    )


class _Document(Struct):
    """Content of ``labels.json``."""

    labels: Annotated[list[str], Meta(max_length=0, description="an empty list")]
    n_features: int
    stride: int
    mask_share: Finite
    mask_length: int

    def __post_init__(self) -> None:
        if min(self.n_features, self.stride, self.mask_length) < 1 or not 0 < self.mask_share < 1:
            raise ValueError("n_features, stride or mask_length is less than 1, or mask_share is not between 0 and 1")
        if (size := self.n_features * self.stride) > _MOST_OUTPUTS:
            raise ValueError(f"n_features * stride is {size}, expected at most {_MOST_OUTPUTS}")


@dataclass(frozen=True, eq=False)
class MaskedFrames(Targets):
    """The normalized frames of a clip, of which the network sees some and predicts the others.

    Spans of frames are replaced by zeros after the normalization, which is the mean with ``normalization="per_bin"``.
    From each output frame of the encoder, the head predicts the ``stride`` input frames at its place. The loss is the
    squared error of the hidden frames.

    Parameters
    ----------
    n_features : int
        Number of values in a frame.
    stride : int
        Number of input frames for each output frame of the encoder.
    mask_share : float
        Share of the frames that are hidden.
    mask_length : int
        Mean length of a hidden span in frames.

    References
    ----------
    Liu et al., "Mockingjay: Unsupervised Speech Representation Learning with Deep Bidirectional Transformer Encoders",
    2020.

    Examples
    --------
    >>> import torch
    >>> from skastw.targets import MaskedFrames
    >>> frames = MaskedFrames(n_features=80, stride=2)
    >>> frames.n_outputs
    160
    >>> hidden = frames.draw(torch.tensor([100, 40]), 100, torch.Generator().manual_seed(0))
    >>> tuple(hidden.shape), bool(hidden[1, 40:].any())
    ((2, 100), False)
    """

    n_features: int
    stride: int
    mask_share: float = 0.5
    mask_length: int = 15

    name: ClassVar[str] = "pretraining"
    estimator: ClassVar[str] = "pretrainer"
    taught: ClassVar[bool] = False
    monitor: ClassVar[str] = "r2"
    noun: ClassVar[str] = "labels"
    purpose: ClassVar[str] = "Representing sounds as vectors, and starting a training with labels,"
    limits: ClassVar[str] = "The model knows no labels: a classifier that starts from it learns them."

    @classmethod
    def accepts(cls, y: Any) -> bool:
        """Return whether there is no y."""
        return y is None

    @classmethod
    def learn(cls, y: Any, sample_weight: Any = None) -> Self:
        """Raise ValueError, because these targets follow from the front end and the encoder and not from y."""
        raise ValueError("Got a y to learn masked frames from, expected MaskedFrames(n_features=..., stride=...).")

    def encode(self, y: Any) -> np.ndarray:
        """Return a zero for each clip, shape (n,), float32; the frames themselves are the targets."""
        return np.zeros(len(y), dtype=np.float32)

    @property
    def labels(self) -> list[Any]:
        """No labels."""
        return []

    @property
    def n_outputs(self) -> int:
        """The number of values that are predicted from an output frame of the encoder."""
        return self.n_features * self.stride

    # ------------------------------------------------------------ the task

    def draw(self, lengths: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
        """Draw which frames of clips are hidden.

        Parameters
        ----------
        lengths : Tensor of shape (B,)
            Number of frames of each clip.
        size : int
            Padded length T.
        generator : Generator or None
            None stands for torch's global generator.

        Returns
        -------
        Tensor of shape (B, T), bool
            True for hidden frames; False in the padding.
        """
        # a short clip has shorter spans, so that it has hidden frames and others
        spans = (self.mask_share * lengths).clamp(min=1, max=self.mask_length)[:, None]
        gaps = spans * (1 - self.mask_share) / self.mask_share
        n_runs = 2 + int((1.5 * lengths[:, None] / (spans + gaps)).max())

        # visible and hidden runs in turn, from a random place in the first pair
        factors = 2 / 3 * (1 + torch.rand(len(lengths), n_runs, 2, generator=generator))
        ends = (factors * torch.stack([gaps, spans], dim=2)).flatten(1).cumsum(dim=1)
        places = torch.arange(size) + torch.rand(len(lengths), 1, generator=generator) * (spans + gaps)
        is_hidden = torch.searchsorted(ends, places.contiguous(), right=True) % 2 == 1
        return is_hidden & length_mask(lengths, size)

    def errors(self, model: Any, frames: Tensor, lengths: Tensor, is_hidden: Tensor) -> list[Tensor]:
        """Return the mean squares of the errors and of the values of the hidden frames, (B, 2), for each model.

        Parameters
        ----------
        model : AudioModel
        frames : Tensor of shape (B, T, F)
        lengths : Tensor of shape (B,)
        is_hidden : Tensor of shape (B, T), bool

        Raises
        ------
        ComponentError
            If the encoder does not give an output frame for ``stride`` input frames.
        """
        expected = model.normalization(frames.to(model.head.weight.dtype), lengths)
        is_hidden = is_hidden.to(frames.device)
        with keeping_frames():
            predictions = model.classify_frames_each(expected.masked_fill(is_hidden[:, :, None], 0.0), lengths)

        n_frames = -(-frames.shape[1] // self.stride)
        if predictions[0].shape[1] < n_frames:
            raise ComponentError(
                f"The encoder gives {predictions[0].shape[1]} output frames for {frames.shape[1]} frames, expected "
                f"{n_frames}, one for {self.stride} frames; pretrain another encoder, such as 'astw'."
            )
        weights = is_hidden / is_hidden.sum(dim=1, keepdim=True).clamp(min=1)
        power = (expected.square().mean(dim=2) * weights).sum(dim=1)

        results = []
        for outputs in predictions:
            predicted = outputs.unflatten(2, (self.stride, self.n_features)).flatten(1, 2)[:, : frames.shape[1]]
            error = ((predicted - expected).square().mean(dim=2) * weights).sum(dim=1)
            results.append(torch.stack([error, power], dim=1))
        return results

    def forward(self, model: Any, frames: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the errors of a training step, for which other frames are hidden each time; see :meth:`errors`."""
        generator = generator_on(torch.device("cpu"))
        return self.errors(model, frames, lengths, self.draw(lengths, frames.shape[1], generator))

    def embed(self, model: Any, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the mean errors of the models on chunks of which the same frames are hidden each time."""
        masks = [
            self.draw(length[None], frames.shape[1], torch.Generator().manual_seed(int(length))) for length in lengths
        ]
        return torch.stack(self.errors(model, frames, lengths, torch.cat(masks))).mean(dim=0)

    def outputs(self, model: Any, vectors: Tensor) -> Tensor:
        """Return the errors (n, 2) of validation clips as they are."""
        return vectors

    def loss(self, outputs: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean squared error of the hidden frames of each item."""
        return outputs[:, 0]

    def scores(self, outputs: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
        """Return R2: the share of the squares of the hidden frames that the predictions explain."""
        error, power = (outputs * weights[:, None]).sum(dim=0).tolist()
        return {"r2": 1 - error / max(power, 1e-12)}

    # ------------------------------------------------------------ predictions and the disk

    def finish(self, outputs: Tensor) -> Tensor:
        """Return the outputs of the head as they are: normalized frames."""
        return outputs

    def decide(self, outputs: Tensor) -> np.ndarray:
        """Return the outputs of the head as they are: normalized frames."""
        return outputs.numpy()

    def to_json(self) -> dict[str, Any]:
        """Return the size of the predictions and the parameters of the masks."""
        return {
            "labels": [],
            "n_features": self.n_features,
            "stride": self.stride,
            "mask_share": self.mask_share,
            "mask_length": self.mask_length,
        }

    @classmethod
    def from_json(cls, labels: dict[str, Any]) -> Self:
        """Return the targets with the sizes and parameters of ``labels.json``."""
        document = check(labels, _Document, "labels.json", ArtifactError)
        return cls(document.n_features, document.stride, float(document.mask_share), document.mask_length)
