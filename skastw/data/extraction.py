"""Extraction of frames from clips: check X, decode, resample and run the front end in threads."""

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from itertools import chain, repeat
from numbers import Integral
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from joblib import effective_n_jobs
from sklearn.utils.validation import validate_data
from torch import Tensor

from skastw.audio import as_clips, is_array_input
from skastw.audio.clips import MAX_AMPLITUDE, MIN_MONO_SHARE, UnreadableClip, load_mono, naming_clip, unreadable_reason
from skastw.core.device import is_out_of_memory, resolve_device
from skastw.core.parameters import param, parameters, take_params
from skastw.core.progress import ProgressBar
from skastw.core.sklearn_private import StrOptions
from skastw.core.warn import HeldWarning, hold_warnings, issue_held, n_held, warn_user
from skastw.data.cache import FrameCache, FrameCacheParams, open_cache
from skastw.data.failures import POLICIES, FailedClip
from skastw.errors import ClipError, ClipTypeError, ClipValueError
from skastw.features import Features, FeaturesModule, Precomputed

#: Number of clips that the front end processes together, and the number of samples at which a smaller group is used.
_GROUP, _MAX_SAMPLES = 8, 2**20

S = TypeVar("S")
T = TypeVar("T")


@parameters
class ReadParams(FrameCacheParams):
    """Parameters of reading clips."""

    device: str | torch.device = param(
        default="auto",
        valid=[str, torch.device],
        doc='Device for training and predictions. ``"auto"`` uses the GPU if the machine has one, and else the CPU.',
        saved=False,
    )
    n_jobs: int | None = param(
        default=None,
        valid=[Integral, None],
        doc="Number of threads that decode clips, counted as in joblib: None is 1, -1 is all processors.",
        saved=False,
    )
    on_error: str = param(
        default="raise",
        valid=[StrOptions(set(POLICIES))],
        doc="What to do with clips that cannot be read: raise an error, or leave them out, with or without a warning. "
        "``failed_`` lists the clips that were left out. ``fit`` always raises an error if more than a fifth of the "
        "clips, or all clips of a class, cannot be read.",
    )
    verbose: int = param(
        default=0,
        valid=["verbose"],
        doc="0 shows nothing. 1 shows progress bars. 2 writes one line for each epoch to standard error instead, for "
        "log files.",
        saved=False,
    )


class Outcome(NamedTuple):
    """Result of reading one clip.

    Attributes
    ----------
    position : int
        Position of the clip in X.
    result : Tensor of shape (T, F), or FailedClip
        Frames of the clip, or the reason why it cannot be used.
    cancelled : bool
        Whether the channels of the clip cancel each other in their mean. Such a clip is used, with a warning.
    side : Tensor of shape (S,), optional
        Side vector of the clip.
    """

    position: int
    result: Tensor | FailedClip
    cancelled: bool = False
    side: Tensor | None = None


def check_clips(estimator: Any, X: Any, *, reset: bool) -> Sequence[Any]:
    """Return X as a sequence of clips; a numeric array is checked by scikit-learn.

    Parameters
    ----------
    estimator : estimator
        Estimator, which gets ``n_features_in_`` if ``reset`` is True and X is an array.
    X : clips
        See :mod:`skastw.audio.clips`.
    reset : bool
        Whether to set ``n_features_in_``, as in ``fit``, or to check it.

    Returns
    -------
    sequence of clips

    Raises
    ------
    ValueError, TypeError
        If X is empty or does not contain clips.
    """
    if reset:
        for learned in ("n_features_in_", "feature_names_in_"):
            estimator.__dict__.pop(learned, None)

    if is_array_input(X):
        array = X if hasattr(X, "shape") else np.asarray(X)
        if len(array.shape) == 1 and len(array):
            method = "predict" if hasattr(estimator, "predict") else "transform"
            raise ValueError(
                f"Got one clip, an array of shape {tuple(array.shape)}, expected several clips: write "
                f"{method}([waveform]). Reshape your data to (n_clips, n_samples) if it holds clips of equal length."
            )
        clips = list(array) if len(array.shape) == 3 else validate_data(estimator, array, reset=reset)
    else:
        clips = as_clips(X)

    if len(clips) == 0:
        raise ValueError(
            f"Found array with 0 sample(s) in X while a minimum of 1 is required by {type(estimator).__name__}."
        )
    return clips


def read_frames(
    clips: Sequence[Any],
    index: Iterable[int],
    features: Features,
    sample_rate: int,
    settings: ReadParams,
    *,
    front_end: FeaturesModule | None = None,
    n_features: int | None = None,
) -> Generator[Outcome, None, None]:
    """Yield the outcome of each clip for a model with the front end ``features``.

    Parameters
    ----------
    clips : sequence of clips, or of frames if ``features`` is ``Precomputed``
    index : iterable of int
        Positions of the clips to read.
    features : Features
    sample_rate : int
        Sampling rate of the waveforms that the front end takes (Hz).
    settings : ReadParams
    front_end : FeaturesModule, optional
        The built front end, which has weights if it is pretrained; by default a new one.
    n_features : int, optional
        Expected number of values in a precomputed frame; by default the number in the first clip.

    Yields
    ------
    Outcome
        In the order of ``index``.

    Raises
    ------
    ClipError
        For the first clip that cannot be used, if ``settings.on_error`` is ``"raise"``.
    """
    if isinstance(features, Precomputed):
        outcomes = check_frames(clips, n_features, indices=index)
    else:
        device = resolve_device(settings.device)
        front_end = features.build(sample_rate) if front_end is None else front_end
        device_type = "cuda" if device.type == "cuda" else "cpu"  # of the front end
        outcomes = extract_frames(
            clips,
            front_end,
            sample_rate=sample_rate,
            cache=open_cache(settings, features, front_end, sample_rate, device_type),
            indices=index,
            device=device if device_type == "cuda" else None,
            n_jobs=settings.n_jobs,
            verbose=int(settings.verbose),
        )

    with closing(outcomes):  # an error stops the threads that decode the clips ahead
        for outcome in outcomes:
            if isinstance(outcome.result, FailedClip):
                outcome.result.check(settings.on_error)
            yield outcome


def read_with_side(
    clips: Sequence[Any],
    index: Iterable[int],
    features: Features,
    side: Features | None,
    sample_rate: int,
    settings: ReadParams,
    **built: Any,
) -> Generator[Outcome, None, None]:
    """Yield the outcome of each clip with its side vector, the single frame of the front end ``side``.

    Parameters
    ----------
    clips, index, features, sample_rate, settings
        As :func:`read_frames` takes them.
    side : Features or None
        Front end that gives one frame for each clip. None yields the outcomes of :func:`read_frames`.
    **built
        Further arguments of :func:`read_frames`.

    Yields
    ------
    Outcome
        In the order of ``index``.
    """
    if side is None:
        yield from read_frames(clips, index, features, sample_rate, settings, **built)
        return
    index = list(index)
    outcomes = read_frames(clips, index, features, sample_rate, settings, **built)

    quiet = replace(take_params(ReadParams, settings), verbose=0)
    vectors = read_frames(clips, index, side, sample_rate, quiet)
    with closing(outcomes), closing(vectors):
        for outcome in outcomes:
            vector, _ = hold_warnings(next, vectors)  # the same clip caused the same warnings a moment ago
            if isinstance(outcome.result, FailedClip):
                yield outcome
            elif isinstance(vector.result, FailedClip):
                yield outcome._replace(result=vector.result)
            else:
                yield outcome._replace(side=vector.result[0])


def extract_frames(
    clips: Sequence[Any],
    front_end: FeaturesModule,
    *,
    sample_rate: int,
    cache: FrameCache | None = None,
    indices: Iterable[int] | None = None,
    device: torch.device | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Generator[Outcome, None, None]:
    """Decode clips, run the front end on them, and yield the outcome of each clip in order.

    The frames of a clip do not depend on the other clips.

    Parameters
    ----------
    clips : sequence of clips
        See :func:`skastw.audio.load_waveform`.
    front_end : FeaturesModule
        Front end that a ``Features`` component built.
    sample_rate : int
        Sampling rate of the waveforms that the front end takes (Hz).
    cache : FrameCache, optional
        Frames that are already known; the others are added.
    indices : iterable of int, optional
        Positions of the clips to read; by default all.
    device : torch.device, optional
        Device on which the front end runs, by default the CPU. Frames are always returned on the CPU.
    n_jobs : int, optional
        Number of threads, counted as in joblib.
    verbose : int
        1 shows a progress bar.

    Yields
    ------
    Outcome
        Frames are Tensors of shape (T_i, F), float32.
    """
    tensors = chain(front_end.parameters(), front_end.buffers())
    if device is not None and any(tensor.device.type != device.type for tensor in tensors):
        front_end = copy.deepcopy(front_end).to(device)  # a fitted model keeps its front end on the CPU
    chosen = list(range(len(clips)) if indices is None else indices)
    groups = [chosen[i : i + _GROUP] for i in range(0, len(chosen), _GROUP)]

    outcomes_of = partial(_group_outcomes, clips, front_end, sample_rate, device, cache)
    n_threads = effective_n_jobs(n_jobs)
    one_by_one = (hold_warnings(outcomes_of, group) for group in groups)
    results = (
        one_by_one if n_threads == 1 else _map_in_threads(outcomes_of, groups, n_threads, most_pending=4 * n_threads)
    )
    with ProgressBar(total=len(chosen), desc="features", unit="clip", disable=verbose != 1) as bar:
        for outcomes in issue_held(results):
            yield from outcomes
            bar.update(len(outcomes))


def _group_outcomes(
    clips: Sequence[Any],
    front_end: FeaturesModule,
    sample_rate: int,
    device: torch.device | None,
    cache: FrameCache | None,
    group: list[int],
) -> list[Outcome]:
    """Decode a group of clips, and run the front end on parts of it that are limited in memory."""
    entries = {index: cache.find(clips[index]) for index in group} if cache else {}
    outcomes = {i: Outcome(i, e.frames, e.cancelled) for i, e in entries.items() if e.frames is not None}
    group_left = [index for index in group if index not in outcomes]

    waveforms: dict[int, Tensor] = {}
    cancelled: set[int] = set()
    with_warnings: set[int] = set()
    for index in group_left:
        n_before = n_held()
        try:
            clip = load_mono(clips[index], sample_rate, index=index)
        except ClipError as error:
            outcomes[index] = Outcome(index, FailedClip.from_error(error))
        else:
            cancelled |= {index} if clip.share < MIN_MONO_SHARE else set()
            with_warnings |= {index} if n_held() > n_before else set()
            waveforms[index] = torch.from_numpy(clip.waveform).to(device or "cpu")

        if waveforms and (index == group_left[-1] or sum(map(len, waveforms.values())) > _MAX_SAMPLES):
            n_before = n_held()
            results = _extracted(front_end, waveforms, clips)
            with_warnings |= set(waveforms) if n_held() > n_before else set()
            outcomes |= {i: Outcome(i, result, i in cancelled) for i, result in results.items()}
            waveforms = {}

    if cache:
        for index in set(group_left) - with_warnings:  # clips that cause warnings cause them in every call
            if isinstance(frames := outcomes[index].result, Tensor):
                cache.keep(entries[index], frames, cancelled=index in cancelled)
    return [outcomes[index] for index in group]


def _extracted(
    front_end: FeaturesModule, waveforms: dict[int, Tensor], clips: Sequence[Any]
) -> dict[int, Tensor | FailedClip]:
    """Return the frames, or a failed clip, for each of ``waveforms``, whose keys are positions in ``clips``."""
    try:
        return dict(zip(waveforms, _finite_frames(front_end, list(waveforms.values())), strict=True))
    except Exception as error:
        if is_out_of_memory(error):
            raise

    results: dict[int, Tensor | FailedClip] = {}
    for index, waveform in waveforms.items():  # one by one, to find the clip that causes the error
        try:
            with naming_clip(clips[index], index):
                [results[index]] = _finite_frames(front_end, [waveform])
        except ClipError as error:
            results[index] = FailedClip.from_error(error)
    return results


def _finite_frames(front_end: FeaturesModule, waveforms: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        extracted = [frames.cpu() for frames in front_end.extract(waveforms)]
    # the sum takes a tenth of the time of a check of all values; it may overflow although all values are finite
    if not all(bool(frames.sum().isfinite()) or bool(frames.isfinite().all()) for frames in extracted):
        raise ClipValueError("the front end gives NaN or infinite frames for this clip; check its level, or drop it.")
    return extracted


def _map_in_threads(
    function: Callable[[S], T], items: Iterable[S], n_threads: int, *, most_pending: int
) -> Generator[tuple[T, list[HeldWarning]], None, None]:
    """Yield results and their warnings in order; prefetch only a few results, which limits the use of memory."""
    with ThreadPoolExecutor(n_threads) as pool:
        pending: deque[Future[tuple[T, list[HeldWarning]]]] = deque()
        try:
            for item in items:
                # with the context of the caller, so that an isolated_decoding block also applies in the thread
                pending.append(pool.submit(copy_context().run, partial(hold_warnings, function, item)))
                if len(pending) > most_pending:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def ahead(items: Iterator[T]) -> Iterator[T]:
    """Prefetch items: a thread computes the next item, so that clips are decoded while the network runs.

    Examples
    --------
    >>> from skastw.data.extraction import ahead
    >>> list(ahead(iter("abc")))
    ['a', 'b', 'c']
    """
    with closing(_map_in_threads(lambda _: next(items, None), repeat(None), 1, most_pending=1)) as results:
        for item, held in results:
            for message, category in held:  # in this thread, warnings can point at the user's code
                warn_user(message, category)
            if item is None:
                return
            yield item


def check_frames(
    items: Sequence[Any], n_features: int | None, *, indices: Iterable[int] | None = None
) -> Generator[Outcome, None, None]:
    """Check precomputed frames, and yield the outcome of each item.

    Parameters
    ----------
    items : sequence of arrays of shape (T_i, F)
    n_features : int or None
        Expected F; None takes F of the first usable item.
    indices : iterable of int, optional
        Positions of the items to check; by default all.

    Yields
    ------
    Outcome
        Frames are Tensors of shape (T_i, F), float32.
    """
    for index in map(int, range(len(items)) if indices is None else indices):
        try:
            with naming_clip(None, index):
                frames = _as_frames(items[index], n_features)
        except ClipError as error:
            yield Outcome(index, FailedClip.from_error(error))
        else:
            n_features = frames.shape[1]
            yield Outcome(index, frames)


def _as_frames(item: Any, n_features: int | None) -> Tensor:
    if isinstance(item, UnreadableClip):
        raise ClipValueError(unreadable_reason(item.error)) from item.error
    if not hasattr(item, "shape") or np.ndim(item) != 2:
        got = f"shape {np.shape(item)}" if hasattr(item, "shape") else f"type {type(item).__name__}"
        raise ClipTypeError(
            f"got {got}, expected frames of shape (n_frames, n_features) because features='precomputed'."
        )
    frames = torch.as_tensor(np.asarray(item), dtype=torch.float32)
    if n_features not in (None, frames.shape[1]) or not frames.numel():
        expected = "n_features" if n_features is None else n_features
        raise ClipValueError(f"got frames of shape {tuple(frames.shape)}, expected (n_frames, {expected}).")

    largest = float(frames.abs().max())
    if not np.isfinite(largest):
        raise ClipValueError("has NaN or infinite frames; repair or drop the clip.")
    if largest > MAX_AMPLITUDE:
        raise ClipValueError(
            f"has frames with values of up to {largest:.3g}, expected at most {MAX_AMPLITUDE:g}; scale them, or drop "
            "the clip."
        )
    return frames
