"""Occlusion: predictions of a model while parts of a clip are hidden."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skastw.core.batching import split_evenly
from skastw.core.checks import check_positive
from skastw.core.device import resolve_device
from skastw.core.templates import summary
from skastw.core.text import did_you_mean, unknown_value
from skastw.data.extraction import read_with_side
from skastw.data.frames import FrameStore, blocks
from skastw.errors import plain
from skastw.network.inference import InferenceParams, check_outputs, embed_clips, number_format, on_device
from skastw.network.model import AudioModel
from skastw.network.trained import Trained
from skastw.targets import ClassTargets

#: Dimensions of the mean that replaces hidden frames: over the whole clip, or over time for each bin.
FILLS = {"clip": (0, 1), "band": (0,)}
#: Parts in the short text of an explanation.
_SHOWN = 6
#: Size of the frames in memory at a time (bytes).
_BLOCK = 16 * 2**20


@dataclass(frozen=True, repr=False)
class Occlusion:
    """Evidence of each part of a clip for a class.

    Attributes
    ----------
    label : label
        The class.
    probability : float
        Probability of the class for the whole clip.
    saliency : ndarray of shape (n_times, n_bands), float32
        Drop of the log-probability when a part is hidden: positive for evidence for the class, negative for evidence
        against it.
    times : ndarray of shape (n_times,)
        Centres of the parts (s).
    bands : ndarray of shape (n_bands,)
        Centres of the parts among the bins of a frame, counted from 0.
    frequencies : ndarray of shape (n_bands,) or None
        Centres of the parts (Hz), if bins are frequency bands.
    """

    label: Any
    probability: float
    saliency: np.ndarray
    times: np.ndarray
    bands: np.ndarray
    frequencies: np.ndarray | None

    def __repr__(self) -> str:
        rows = [f"* at {', '.join(place)}: {drop}" for *place, drop in self._strongest()]
        return "\n".join([f"{self._title()}:", *rows])

    def _repr_html_(self) -> str:
        height = "band" if self.frequencies is None else "frequency"
        return summary(self._title(), header=("time", height, "drop"), rows=self._strongest())

    def _title(self) -> str:
        label, (n_times, n_bands) = " ".join(str(self.label).split()), self.saliency.shape
        return (
            f"Class {label}, probability {self.probability:.3f}; largest drops of its log-probability if one of "
            f"{n_times} x {n_bands} parts is hidden"
        )

    def _strongest(self) -> list[tuple[str, str, str]]:
        """Return time, place in frequency and drop of the parts with the most evidence for or against the class."""
        order = np.argsort(-np.abs(self.saliency), axis=None, kind="stable")[:_SHOWN]
        rows = []
        for time, band in zip(*np.unravel_index(order, self.saliency.shape), strict=True):
            height = f"band {self.bands[band]:g}" if self.frequencies is None else f"{self.frequencies[band]:.0f} Hz"
            rows.append((f"{self.times[time]:.2f} s", height, f"{self.saliency[time, band]:+.3f}"))
        return rows


def explain(
    trained: Trained,
    clip: Any,
    params: InferenceParams,
    *,
    label: Any = None,
    n_times: int = 20,
    n_bands: int = 16,
    fill: str = "clip",
) -> Occlusion:
    """Return which parts of a clip speak for a class: how its probability drops when they are hidden.

    Parameters
    ----------
    trained : Trained
        A model of classes.
    clip : clip
        Or its frames, if the model has no front end.
    params : InferenceParams
    label : label, optional
        One of the classes; by default the most probable.
    n_times, n_bands : int, default=20 and 16
        Parts in time and in frequency; no more are made than there are frames and bins.
    fill : {"clip", "band"}, default="clip"
        See :func:`occluded_logits`.

    Returns
    -------
    Occlusion

    Raises
    ------
    ClipError
        If the clip cannot be used.
    ValueError
        If ``label`` is not a class, or another argument is not valid.
    """
    check_positive(n_times=n_times, n_bands=n_bands)
    if fill not in FILLS:
        raise ValueError(unknown_value("fill", fill, FILLS))
    targets, components = trained.targets, trained.components
    assert isinstance(targets, ClassTargets)
    labels = targets.labels
    if label is not None and label not in labels:
        meant = did_you_mean(label, labels) or "."
        raise ValueError(f"Got label={plain(label)!r}, expected one of the classes: {plain(labels[:10])}{meant}")

    device = resolve_device(params.device)
    model = on_device(trained.model, device)
    reading = replace(params, on_error="raise")
    [outcome] = read_with_side(
        [clip],
        [0],
        components.features,
        components.side,
        components.sample_rate,
        reading,
        n_features=trained.model.features.n_features,
    )
    frames = outcome.result
    assert isinstance(frames, Tensor)
    n_times, n_bands = min(n_times, len(frames)), min(n_bands, frames.shape[1])
    logits, occluded = occluded_logits(
        model,
        frames,
        side=outcome.side,
        n_times=n_times,
        n_bands=n_bands,
        fill=fill,
        batch_size=params.batch_size,
        device=device,
        precision=number_format(params),
    )
    check_outputs(logits[None], np.zeros(1, dtype=np.int64))

    index = int(logits.argmax()) if label is None else labels.index(label)
    logarithm = targets.log_probabilities(logits[None])[0, index]
    drops = logarithm - targets.log_probabilities(occluded.flatten(0, 1))[:, index]
    bands = cell_centres(frames.shape[1], n_bands)
    hz = components.features.frequencies(components.sample_rate)
    return Occlusion(
        label=labels[index],
        probability=float(logarithm.exp()),
        saliency=drops.view(n_times, n_bands).numpy(),
        times=cell_centres(len(frames), n_times) / components.features.frames_per_second(components.sample_rate),
        bands=bands,
        frequencies=None if hz is None else np.interp(bands, np.arange(len(hz)), hz),
    )


def cell_centres(length: int, n_cells: int) -> np.ndarray:
    """Return the centres of ``n_cells`` equal parts of ``length`` positions, counted from 0.

    Examples
    --------
    >>> from skastw.analysis.occlusion import cell_centres
    >>> cell_centres(8, 2).tolist()
    [1.5, 5.5]
    """
    return (np.arange(n_cells) + 0.5) * length / n_cells - 0.5


@torch.inference_mode()
def occluded_logits(
    model: AudioModel,
    frames: Tensor,
    *,
    side: Tensor | None = None,
    n_times: int,
    n_bands: int,
    fill: str = "clip",
    batch_size: int = 16,
    device: torch.device | None = None,
    precision: str = "float32",
) -> tuple[Tensor, Tensor]:
    """Return the logits of a clip, and the logits with each part of it hidden.

    Parts are the cells of a grid over time and frequency. A hidden part is a cell and half a cell around it, so that a
    sound on the border of two cells is hidden with both. If the encoder splits the clip into chunks, only chunks with
    hidden frames are embedded again.

    Parameters
    ----------
    model : AudioModel
    frames : Tensor of shape (T, F)
        Frames of one clip.
    side : Tensor of shape (S,), optional
        Side vector of the clip, if the model takes one. It does not change when frames are hidden.
    n_times, n_bands : int
        Number of parts in time and frequency, at most T and F.
    fill : {"clip", "band"}
        Replace hidden values by the mean of all frames, or by the mean over time of each bin.
    batch_size : int
        Number of versions of the clip at a time.
    device : torch.device, optional
        Device of the model, by default the CPU.
    precision : str
        Precision of the network; see :func:`skastw.core.device.autocast`.

    Returns
    -------
    logits : Tensor of shape (n_outputs,)
    occluded : Tensor of shape (n_times, n_bands, n_outputs)

    References
    ----------
    Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.2.

    Examples
    --------
    >>> import torch
    >>> from skastw.encoders import ASTWEncoder
    >>> from skastw.features import LogMel
    >>> from skastw.network.model import build_model
    >>> from skastw.normalization import NoNormalization
    >>> from skastw.analysis.occlusion import occluded_logits
    >>> from skastw.pooling import MeanPooling
    >>> parts = LogMel(), NoNormalization(), ASTWEncoder(d_model=32, num_heads=2, num_layers=1), MeanPooling()
    >>> model = build_model(*parts, n_outputs=4, sample_rate=16000, chunk_length=30.0)
    >>> logits, occluded = occluded_logits(model, torch.rand(50, 80), n_times=5, n_bands=8)
    >>> tuple(logits.shape), tuple(occluded.shape)
    ((4,), (5, 8, 4))
    """
    mean = frames.mean(dim=FILLS[fill], keepdim=True).expand(1, frames.shape[1])
    chunks = split_evenly(len(frames), model.max_frames)
    settings: dict[str, Any] = {"batch_size": batch_size, "device": device or torch.device("cpu")}

    def embed(store: FrameStore) -> Tensor:
        vectors = None if side is None else side.expand(len(store), -1)
        return embed_clips(model, store, vectors, precision=precision, **settings)

    embedded = embed(FrameStore(frames[start:stop] for start, stop in chunks))

    # each patch hides frames of one chunk or of several
    patches = list(product(_patches(len(frames), n_times), _patches(frames.shape[1], n_bands)))
    touched = [
        (patch, chunk)
        for patch, ((begin, end), _) in enumerate(patches)
        for chunk, (start, stop) in enumerate(chunks)
        if begin < stop and start < end
    ]

    def versions() -> Iterator[Tensor]:
        for patch, chunk in touched:
            (begin, end), (low, high) = patches[patch]
            start, stop = chunks[chunk]
            version = frames[start:stop].clone()
            version[max(0, begin - start) : max(0, end - start), low:high] = mean[:, low:high]
            yield version

    means = embedded.mean(dim=0).repeat(len(patches), 1)
    where = iter(touched)
    for block in blocks(versions(), _BLOCK, n_bytes=lambda version: version.nbytes):
        for version in embed(FrameStore(block)):
            patch, chunk = next(where)
            means[patch] += (version - embedded[chunk]) / len(chunks)

    rows, weight = torch.cat([embedded.mean(dim=0, keepdim=True), means]), model.head.weight
    logits = model.outputs(rows.to(weight.device, weight.dtype)).cpu()
    return logits[0], logits[1:].view(n_times, n_bands, -1)


def _patches(length: int, n_cells: int) -> list[tuple[int, int]]:
    """Return the begin and end of each cell, with half a cell more on both sides."""
    half = length / n_cells / 2
    bounds = [(math.floor(half * (2 * i - 1)), math.ceil(half * (2 * i + 3))) for i in range(n_cells)]
    return [(max(0, begin), min(length, end)) for begin, end in bounds]
