"""Batched inference with a fitted model: from clips to frames, embeddings and outputs."""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from skastw.augment import Transform
from skastw.core.batching import Batch, pad, round_length, sorted_buckets, split_evenly
from skastw.core.device import PRECISIONS, autocast, resolve_device
from skastw.core.parameters import integers, param, parameters
from skastw.core.sklearn_private import StrOptions
from skastw.data.extraction import ReadParams, ahead, read_frames, read_with_side
from skastw.data.failures import FailedClip, FailedClips, report_failures
from skastw.data.frames import FrameStore, blocks, clip_digests, clips_sha256
from skastw.errors import PredictionError
from skastw.network.model import AudioModel
from skastw.network.trained import Trained

#: Largest difference of a float32 probability, or of a coordinate of an embedding, if the same clip is predicted in
#: another batch, order or input form. Matrix products of other shapes have other rounding errors, which depend on the
#: processor.
ROUNDING = 1e-5
#: Bytes of frames in memory at once.
_BLOCK = 64 * 2**20
#: Copies of models on devices other than the CPU.
_COPIES: WeakKeyDictionary[AudioModel, dict[torch.device, AudioModel]] = WeakKeyDictionary()


@parameters
class InferenceParams(ReadParams):
    """Parameters of inference; they may be changed after ``fit``."""

    precision: str = param(
        default="auto",
        valid=[StrOptions(set(PRECISIONS))],
        doc='Number format of matrix products: ``"auto"`` trains in bfloat16 if the hardware has native instructions '
        "for it, and predicts in float32. The other values set the format of both. The weights are float32, or "
        'float64 if the model was fitted with ``"float64"``.',
    )
    batch_size: int = param(
        default=16,
        valid=[integers(1)],
        doc="Number of clips in a training step and in a batch of predictions.",
    )
    tta: int = param(
        default=1,
        valid=[integers(1, 1000)],
        doc="Test-time augmentation: the number of versions of each clip that predictions average over. The first "
        "version is the clip itself. The augmentations in ``augment`` that warp, stretch or crop frames make the "
        "others. Each version takes as long as a prediction without augmentation.",
    )


def number_format(params: InferenceParams) -> str:
    """Return the precision of predictions.

    Parameters
    ----------
    params : InferenceParams
    """
    return "float32" if params.precision == "auto" else params.precision


def embed(trained: Trained, clips: Sequence[Any], params: InferenceParams) -> tuple[Tensor, list[FailedClip]]:
    """Return the embeddings of clips, in blocks of limited memory.

    Parameters
    ----------
    trained : Trained
    clips : sequence of clips
        Clips, or frames if the model was fitted with precomputed frames.
    params : InferenceParams

    Returns
    -------
    embeddings : Tensor of shape (n_clips, D), on the CPU
        NaN for clips that could not be used.
    failed : list of FailedClip
        The clips that could not be used.

    Raises
    ------
    ClipError
        For the first clip that cannot be used, if ``on_error`` is ``"raise"``.
    PredictionError
        If the network returns NaN or infinite values for a usable clip.
    """
    device, components = resolve_device(params.device), trained.components
    model = on_device(trained.model, device)
    settings: dict[str, Any] = {"batch_size": params.batch_size, "device": device, "precision": number_format(params)}
    transforms = [augmentation.apply for augmentation in components.augment if augmentation.test_time]

    outcomes = read_with_side(
        clips,
        range(len(clips)),
        components.features,
        components.side,
        components.sample_rate,
        params,
        front_end=(model if device.type == "cuda" else trained.model).features,
        n_features=trained.model.features.n_features,
    )
    in_blocks = blocks(outcomes, _BLOCK, n_bytes=lambda outcome: getattr(outcome.result, "nbytes", 0))

    embeddings = torch.full((len(clips), model.n_embedding), torch.nan, dtype=model.head.weight.dtype)
    failed = FailedClips()
    for block in ahead(in_blocks) if len(clips) > 1 else in_blocks:
        failed += [outcome.result for outcome in block if isinstance(outcome.result, FailedClip)]
        frames = {outcome.position: outcome.result for outcome in block if isinstance(outcome.result, Tensor)}
        if not frames:
            continue
        sides = [outcome.side for outcome in block if outcome.side is not None]
        side = torch.stack(sides) if sides else None
        stores = [FrameStore(frames.values())]
        stores += [FrameStore(varied(stores[0], transforms, seed)) for seed in range(1, params.tta) if transforms]
        versions = [embed_clips(model, store, side, **settings) for store in stores]
        embeddings[list(frames)] = torch.stack(versions).mean(dim=0)

    usable = np.setdiff1d(np.arange(len(clips)), [clip.index for clip in failed])
    check_outputs(embeddings[usable], usable)
    report_failures(failed, len(clips), params.on_error)
    return embeddings, failed


def predict(trained: Trained, clips: Sequence[Any], params: InferenceParams) -> tuple[Tensor, list[FailedClip]]:
    """Return the outputs of the network for clips, shape (n_clips, K), NaN for clips that could not be used, and these.

    Parameters
    ----------
    trained, clips, params
        As :func:`embed` takes them.

    Raises
    ------
    PredictionError
        If an output of a usable clip is NaN or infinite.
    """
    embeddings, failed = embed(trained, clips, params)
    with torch.inference_mode():
        outputs = trained.model.outputs(embeddings)
    usable = np.flatnonzero(embeddings.isfinite().all(dim=1))  # the other clips were left out
    check_outputs(outputs[usable], usable)
    return outputs, failed


def on_device(model: AudioModel, device: torch.device) -> AudioModel:
    """Return a model on ``device``: for the CPU the model itself, else a copy, which is cached as long as the model.

    Examples
    --------
    >>> import torch
    >>> from skastw.network.inference import on_device
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> model = ASTWClassifier(epochs=1, encoder="rnn", val_split=None).fit(*make_tones(8, random_state=0)).model_
    >>> on_device(model, torch.device("cpu")) is model
    True
    """
    if device.type == "cpu":
        return model
    copies = _COPIES.setdefault(model, {})
    key = torch.device(device.type, device.index or 0)  # "cuda" is "cuda:0"
    if key not in copies:
        copies[key] = copy.deepcopy(model).to(device)
    return copies[key]


def was_trained_on(trained: Trained, clips: Sequence[Any], index: np.ndarray, params: InferenceParams) -> bool:
    """Return whether the clips at ``index`` are all clips of ``fit``, all its training or all its validation clips.

    Frames are computed only if the number of clips is the same.

    Parameters
    ----------
    trained : Trained
    clips : sequence of clips
    index : ndarray of int
        Positions of the usable clips.
    params : InferenceParams
    """
    record, components = trained.record, trained.components
    counts = (record.n_train, record.n_validation, record.n_train + record.n_validation)
    if not record.clips_sha256 or len(index) not in counts:
        return False

    quiet = replace(params, verbose=0, on_error="raise")
    front_end = None if components.in_step else trained.model.features
    outcomes = read_frames(clips, index, components.stored, components.sample_rate, quiet, front_end=front_end)
    digests = clip_digests(outcome.result for outcome in outcomes if isinstance(outcome.result, Tensor))
    return clips_sha256(digests) in record.clips_sha256


def check_outputs(outputs: Tensor, positions: np.ndarray) -> Tensor:
    """Return the outputs of a network if they are all finite.

    Parameters
    ----------
    outputs : Tensor of shape (n, D)
    positions : ndarray of shape (n,)
        Positions of the clips in X, for the error message.

    Returns
    -------
    Tensor of shape (n, D)
        The unchanged ``outputs``.

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


def frames_of(model: AudioModel, waveforms: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield the frames of each clip for the front end of ``model``, on the CPU.

    Parameters
    ----------
    model : AudioModel
        Network, which is set to evaluation mode.
    waveforms : iterable of Tensors of shape (N_i, 1)
        Frames of the front end ``waveform``.

    Yields
    ------
    Tensor of shape (T_i, F), float32
    """
    device = model.head.weight.device
    model.eval()
    for waveform in waveforms:
        with torch.no_grad():
            frames, _ = model.frames(waveform[None, :, 0].to(device), torch.tensor([len(waveform)]))
        yield frames[0].float().cpu()


@torch.inference_mode()
def embed_clips(
    model: AudioModel,
    frames: FrameStore,
    side: Tensor | None = None,
    *,
    batch_size: int,
    device: torch.device,
    precision: str = "float32",
    embed_chunks: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the embeddings of clips of any length, computed in batches of similar lengths.

    A clip that is longer than the encoder can process at once is divided into equal consecutive chunks, and its
    embedding is the mean of the embeddings of the chunks. An embedding does not depend on the other clips, except for
    rounding errors (:data:`ROUNDING`).

    Parameters
    ----------
    model : AudioModel
        Network, which is set to evaluation mode.
    frames : FrameStore
    side : Tensor of shape (n_clips, S), optional
        Side vectors, if the model takes them.
    batch_size : int
        Number of chunks in a batch.
    device : torch.device
        Device of the model.
    precision : str
        See :func:`skastw.core.device.autocast`.
    embed_chunks : callable, optional
        Function ``(frames (B, T, F), lengths (B,)) -> (B, D)``, whose results are averaged over the chunks of a clip;
        by default ``model.embed``.

    Returns
    -------
    Tensor of shape (n_clips, D), of the dtype of the weights, on the CPU

    Raises
    ------
    ValueError
        If there are no clips.
    """
    if not len(frames):
        raise ValueError("Got no clips, expected at least one.")
    if model.training:  # eval() visits all modules, which takes as long as a small network on a short clip
        model.eval()
    chunks = [
        (clip, start, stop)
        for clip, length in enumerate(frames.lengths.tolist())
        for start, stop in split_evenly(length, model.max_frames)
    ]
    embed_chunks = embed_chunks or model.embed
    embeddings = torch.zeros(len(frames), 0, dtype=model.head.weight.dtype)
    counts = torch.zeros(len(frames), 1)

    for bucket in sorted_buckets([stop - start for _, start, stop in chunks], batch_size):
        items = [frames[clip][start:stop] for clip, start, stop in (chunks[i] for i in bucket)]
        inputs, lengths = pad(items, size=round_length(len(items[0]), model.max_frames))
        with autocast(precision, device):
            embedded = embed_chunks(inputs.to(device), lengths).cpu()

        if not embeddings.shape[1]:
            embeddings = embeddings.new_zeros(len(frames), embedded.shape[1])
        clips = torch.tensor([chunks[i][0] for i in bucket])
        embeddings.index_add_(0, clips, embedded)
        counts.index_add_(0, clips, torch.ones(len(clips), 1))
    embeddings /= counts
    if model.side is None:
        return embeddings
    assert side is not None
    return torch.cat([embeddings, model.side(side.to(device)).cpu()], dim=1)


def varied(frames: Iterable[Tensor], transforms: Sequence[Transform], seed: int) -> Iterator[Tensor]:
    """Yield an augmented version of each clip, which does not depend on the other clips.

    Parameters
    ----------
    frames : iterable of Tensors of shape (T_i, F)
    transforms : sequence of callables
        Prepared augmentations.
    seed : int
        Seed of the version.

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
