"""Transforms of the library audiomentations."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skastw.augment._base import Transform
from skastw.augment._waveform import WaveformAugment
from skastw.core.batching import pad
from skastw.core.generators import seeded_globally
from skastw.core.parameters import param, parameters, reals
from skastw.core.text import without_folders
from skastw.errors import ComponentError, plain

#: Largest number of items of a list in a description, and of levels of values inside others.
_MAX_ITEMS, _MAX_LEVELS = 100, 20


@parameters
class Audiomentations(WaveformAugment):
    """Apply a transform of the library audiomentations, such as a ``Compose``, to each waveform.

    The transform takes one waveform at a time, without padding. Transforms of this library draw from the global
    generators of Python and NumPy. For each waveform, these get a seed of the training run, and then their old states,
    under a lock that all training runs share. A saved model contains a description of the transform, but not the
    transform, which predictions do not need.

    Parameters
    ----------
    {parameters}

    Examples
    --------
    >>> import torch
    >>> from skastw.augment import Audiomentations
    >>> from skastw.core.batching import Batch
    >>> def halve(samples, sample_rate):
    ...     return samples / 2
    >>> batch = Batch(torch.ones(1, 3, 1), torch.tensor([3]), torch.zeros(1), torch.ones(1))
    >>> softer = Audiomentations(transform=halve).prepare(lambda paths: [], 16000)
    >>> softer(batch, torch.Generator().manual_seed(0)).inputs.flatten().tolist()
    [0.5, 0.5, 0.5]
    """

    name = "audiomentations"

    transform: Any = param(
        default=None,
        valid=[callable, None],
        doc="The transform, called as ``transform(samples=array, sample_rate=number)``. Its result may have another "
        "length. The library is installed with the extra ``audiomentations``.",
    )
    settings: str | None = param(
        default=None,
        valid=[str, None],
        doc="Description of the transform in a saved model, as JSON. To train such a model again, pass ``transform``.",
    )
    p: float = param(
        default=1.0,
        valid=[reals(0, 1)],
        doc="Probability that the transform is called for an item. Transforms have probabilities of their own.",
    )

    def saved_params(self) -> dict[str, Any]:
        """Return the parameters with a description of the transform instead of the transform."""
        params = self.get_params(deep=False)
        if self.transform is not None:
            params["settings"] = json.dumps(without_folders(_described(self.transform)))
        return {**params, "transform": None}

    def prepare(self, extract: Callable[[Sequence[str]], list[Tensor]], sample_rate: int) -> Transform:
        """Return the function that augments batches; see :class:`~skastw.augment.Augment`."""
        if self.transform is None:
            reason = f"it was saved as {self.settings}, and transforms are not saved" if self.settings else "it is None"
            raise ComponentError(
                f"Audiomentations has no transform: {reason}. Pass Audiomentations(transform=...) in augment."
            )

        def change(waveform: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            seeds = torch.randint(2**32, (len(lengths),), generator=generator).tolist()
            clips = zip(waveform.cpu().numpy(), lengths.tolist(), seeds, strict=True)
            changed = [_transformed(self.transform, clip[:n], sample_rate, seed) for clip, n, seed in clips]
            padded, lengths = pad(changed)
            return padded.to(waveform), lengths

        return self.on_waveforms(change)


def _transformed(transform: Any, samples: np.ndarray, sample_rate: int, seed: int) -> Tensor:
    """Return the samples (N',) that a transform makes of ``samples`` (N,) with a ``seed`` for its draws."""
    with seeded_globally(seed):
        changed = np.asarray(transform(samples=samples.copy(), sample_rate=sample_rate), dtype=np.float32)

    if changed.ndim == 1 and changed.size and np.isfinite(changed).all():
        return torch.from_numpy(changed.copy())
    got = f"an array of shape {changed.shape}" if changed.ndim != 1 or not changed.size else "NaN or infinite samples"
    raise ComponentError(
        f"The transform {_title(transform)} returned {got} for a clip of {len(samples)} samples at {sample_rate} Hz, "
        "expected finite samples in an array of shape (n,). Change its settings, or remove it."
    )


def _title(transform: Any) -> str:
    """Return the name of a transform, and the names of the transforms inside it."""
    inner = ", ".join(map(_title, getattr(transform, "transforms", ())))
    name = getattr(transform, "__name__", "") if inspect.isroutine(transform) else type(transform).__name__
    return f"{name}({inner})" if inner else name


def _described(value: Any, n_levels: int = _MAX_LEVELS) -> Any:
    """Return an argument of a transform as a JSON value: another transform as its name and arguments."""
    if not n_levels:
        return "..."
    value = plain(value)
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)

    described = partial(_described, n_levels=n_levels - 1)
    if isinstance(value, list | tuple | set):
        items = list(value)
        return [*map(described, items[:_MAX_ITEMS]), *["..."] * (len(items) > _MAX_ITEMS)]
    if isinstance(value, dict):
        return {str(key): described(item) for key, item in value.items()}
    params = {name: described(getattr(value, name)) for name in _arguments(value) if hasattr(value, name)}
    return {"name": _title(value).partition("(")[0], "params": params}


def _arguments(value: Any) -> list[str]:
    """Return the names of the arguments that the object was made with; none are known of some compiled types."""
    try:
        return [] if inspect.isroutine(value) else list(inspect.signature(type(value)).parameters)
    except ValueError:
        return []
