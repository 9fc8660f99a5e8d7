"""Batched inference: frames of many clips -> one embedding each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from skastw.augment import Transform
from skastw.core.batching import Batch, pad, round_length, sorted_buckets, split_evenly
from skastw.core.device import autocast
from skastw.data.frames import FrameStore
from skastw.errors import PredictionError
from skastw.network.model import AudioModel

__all__ = ["ROUNDING", "check_outputs", "embed_clips", "varied"]

#: Largest change of a float32 probability, or of a coordinate of an embedding, if the same clip is predicted in another
#: batch, in another order, alone or in another form. Matrix products of other shapes round differently, and how they
#: round depends on the processor.
ROUNDING = 1e-5


def check_outputs(outputs: Tensor, positions: np.ndarray) -> Tensor:
    """Return the outputs of a network for usable clips, if all of them are finite.

    Parameters
    ----------
    outputs : Tensor of shape (n, D)
    positions : ndarray of shape (n,)
        Positions of the clips in X, for the message.

    Returns
    -------
    Tensor of shape (n, D)
        ``outputs``.

    Raises
    ------
    PredictionError
        If a value is NaN or infinite.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from skastw.network.inference import check_outputs
    >>> check_outputs(torch.tensor([[0.5], [torch.nan]]), np.array([0, 7]))
    Traceback (most recent call last):
        ...
    skastw.errors.PredictionError: The network gives NaN or infinite outputs for 1 of 2 clips (the first is clip 7): ...
    """
    wrong = positions[(~outputs.isfinite().all(dim=1)).numpy()]
    if len(wrong):
        raise PredictionError(
            f"The network gives NaN or infinite outputs for {len(wrong)} of {len(positions)} clips (the first is clip "
            f"{wrong[0]}): its weights are not finite or too large, or these clips are scaled differently from the "
            "training clips; check the level of the clips, or train or fetch the model again."
        )
    return outputs


@torch.inference_mode()
def embed_clips(
    model: AudioModel, frames: FrameStore, *, batch_size: int, device: torch.device, precision: str = "float32"
) -> Tensor:
    """Embed clips of any length, in batches of similar lengths, in their own order.

    A clip longer than the encoder takes at once is cut into equal consecutive chunks that cover all of it,
    and its embedding is the mean of theirs. An embedding does not depend on the other clips, but for rounding
    (:data:`ROUNDING`).

    Parameters
    ----------
    model : AudioModel
        Put into evaluation mode.
    frames : FrameStore
    batch_size : int
        Chunks at a time.
    device : torch.device
        Where the model is.
    precision : str
        See :func:`skastw.core.device.autocast`.

    Returns
    -------
    Tensor of shape (n_clips, D), of the dtype of the weights, on the CPU
    """
    if model.training:  # telling each part again takes as long as a small network on a short clip
        model.eval()
    chunks = [
        (clip, start, stop)
        for clip, length in enumerate(frames.lengths.tolist())
        for start, stop in split_evenly(length, model.max_frames)
    ]
    embeddings: Tensor | None = None
    counts = torch.zeros(len(frames), 1)
    for bucket in sorted_buckets([stop - start for _, start, stop in chunks], batch_size):
        items = [frames[clip][start:stop] for clip, start, stop in (chunks[i] for i in bucket)]
        inputs, lengths = pad(items, size=round_length(len(items[0]), model.max_frames))
        with autocast(precision, device):
            embedded = model.embed(inputs.to(device), lengths).cpu()
        clips = torch.tensor([chunks[i][0] for i in bucket])
        if embeddings is None:
            embeddings = torch.zeros(len(frames), embedded.shape[1], dtype=embedded.dtype)
        embeddings.index_add_(0, clips, embedded)
        counts.index_add_(0, clips, torch.ones(len(clips), 1))
    if embeddings is None:
        raise ValueError("Got no clips, expected at least one.")
    return embeddings / counts


def varied(frames: Iterable[Tensor], transforms: Sequence[Transform], seed: int) -> Iterator[Tensor]:
    """Yield a version of each clip, changed as training changes clips; it does not depend on the other clips.

    Parameters
    ----------
    frames : iterable of Tensors of shape (T_i, F)
    transforms : sequence of callables
        Prepared augmentations.
    seed : int
        Which version.

    Yields
    ------
    Tensor of shape (T'_i, F)
    """
    for item in frames:
        generator = torch.Generator().manual_seed(seed)
        batch = Batch(item[None], torch.tensor([len(item)]), torch.zeros(1), torch.ones(1))
        for transform in transforms:
            batch = transform(batch, generator)
        yield batch.inputs[0, : int(batch.lengths[0])]
