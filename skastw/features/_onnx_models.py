"""The models of :class:`~skastw.features.OnnxFeatures`: their settings, their windows, and what they compute."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated, Any, NamedTuple

import numpy as np
from msgspec import Meta, Struct, structs

from skastw.core.text import listed, unknown_value
from skastw.errors import ComponentError
from skastw.storage.graphs import MAX_GRAPH_BYTES, first_line
from skastw.storage.schema import Finite, Text

#: Longest window and hop (samples or frames), longest clip that one frame may need (samples), and largest number of
#: windows that share a sample.
MAX_WINDOW, _MAX_LEAST, _MAX_OVERLAP = 2**24, 2**26, 1024
#: Largest number of values and of windows that a model takes at once.
_SLAB_SIZE, _SLAB = 2**22, 64
#: Layouts of inputs that are tried, by the number of axes: of waveforms, and of frames.
_WAVEFORMS = {1: ["t"], 2: ["bt"], 3: ["b1t", "bt1"]}
_FRAMES = {2: ["tf"], 3: ["btf", "bft"], 4: ["btf1", "b1tf", "bft1", "b1ft"]}
_AXES = {"b": 0, "t": 1, "f": 2}
#: Number of hops by which one of the clips is longer with which a model of whole clips is tried.
_MORE = 8
#: Largest difference between the outputs for windows that a model takes together and one by one, as a share.
_ROUNDING = 1e-3

_Length = Annotated[int, Meta(ge=1, le=MAX_WINDOW, description=f"an integer of 1 to {MAX_WINDOW}")]
_Axis = Annotated[int, Meta(ge=0, le=7, description="an axis from 0 to 7")]
_LAYOUT = Meta(pattern="^[1bft]{1,8}$", description='a text such as "btf1"')


class Facts(Struct, frozen=True, forbid_unknown_fields=True):
    """Facts about the file of a model.

    Attributes
    ----------
    n_bytes : int
    sha256 : str
    n_values : int
        Number of values in each frame that the model gives.
    batched : bool
        Whether it takes several windows at once, each with the result that the window has alone.
    axes : list of two int, or None
        The axes of time and of values in the output of a model that takes whole clips.
    """

    n_bytes: Annotated[int, Meta(ge=1, le=MAX_GRAPH_BYTES)]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    n_values: Annotated[int, Meta(ge=1, le=2**20)]
    batched: bool
    axes: Annotated[list[_Axis], Meta(min_length=2, max_length=2)] | None


class Model(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of a model; see :class:`~skastw.features.OnnxFeatures`. ``facts`` are unknown until its file is read."""

    path: Text
    window: _Length
    hop: _Length
    whole: bool = False
    output: str | Annotated[int, Meta(ge=0)] | None = None
    scale: Finite = 1.0
    offset: Finite = 0.0
    layout: Annotated[str, _LAYOUT] | None = None
    facts: Facts | None = None

    @property
    def complete(self) -> bool:
        """Whether the model can run."""
        known = isinstance(self.output, int) and self.layout is not None and self.facts is not None
        return known and self.whole == (self.facts is not None and self.facts.axes is not None)


def check_cost(models: Sequence[Model]) -> None:
    """Raise an error if windows overlap too much, or one frame needs too many samples.

    Parameters
    ----------
    models : sequence of Model

    Raises
    ------
    ComponentError
        If a limit is exceeded. The message names the values and the limit.
    """
    for position, model in enumerate(models):
        if not model.whole and model.window > _MAX_OVERLAP * model.hop:
            raise ComponentError(
                f"Got window={model.window} and hop={model.hop} for models[{position}] of OnnxFeatures, expected a hop "
                f"of at least {-(-model.window // _MAX_OVERLAP)}, so that at most {_MAX_OVERLAP} windows overlap."
            )
    if (least := least_samples(models)) > _MAX_LEAST:
        raise ComponentError(
            f"A frame of OnnxFeatures would need {least} samples, expected at most {_MAX_LEAST}: lower window or hop."
        )


def least_samples(models: Sequence[Model]) -> int:
    """Return the number of samples from which a chain of models computes one frame."""
    *_, least = accumulate(reversed(models), lambda n, model: model.window + (n - 1) * model.hop, initial=1)
    return least


def compute_frames(models: Sequence[Model], sessions: Sequence[Any], waveform: np.ndarray) -> np.ndarray:
    """Return the frames that a chain of models computes from a clip.

    Parameters
    ----------
    models : sequence of Model
    sessions : sequence of onnxruntime.InferenceSession
        One for each model.
    waveform : ndarray of shape (N,), float32

    Returns
    -------
    ndarray of shape (T, D), float32
    """
    values = _padded(waveform[:, None], least_samples(models))
    for model, session in zip(models, sessions, strict=True):
        values = _frames(model, session, _windows(model, values, partial=model is models[0]))
    return values


def _padded(values: np.ndarray, size: int) -> np.ndarray:
    """Return values (N, F), followed by zeros if N is less than ``size``."""
    return np.pad(values, ((0, max(0, size - len(values))), (0, 0)))


def _windows(model: Model, values: np.ndarray, *, partial: bool) -> np.ndarray:
    """Return windows (W, T, F) of values (N, F); a model that takes whole clips has one window.

    With ``partial``, the last window may be padded with zeros.
    """
    if model.whole:
        return values[None]
    n_windows = 1 + (len(values) - model.window + partial * (model.hop // 2)) // model.hop
    values = _padded(values, model.window + (n_windows - 1) * model.hop)
    views = np.lib.stride_tricks.sliding_window_view(values, model.window, axis=0)
    return views[:: model.hop][:n_windows].transpose(0, 2, 1)


def _frames(model: Model, session: Any, windows: np.ndarray) -> np.ndarray:
    """Return the frames (T, D) that a model computes from windows (W, T, F)."""
    assert model.facts is not None
    if model.facts.axes is not None:
        outputs = np.moveaxis(_outputs(model, session, windows), model.facts.axes, (-2, -1))
        return outputs.reshape(outputs.shape[-2], model.facts.n_values)

    size = max(1, min(_SLAB, _SLAB_SIZE // windows[0].size)) if model.facts.batched else 1
    slabs = [windows[start : start + size] for start in range(0, len(windows), size)]
    outputs_of = (_outputs(model, session, slab).reshape(len(slab), model.facts.n_values) for slab in slabs)
    return np.concatenate(list(outputs_of))


def _outputs(model: Model, session: Any, windows: np.ndarray) -> np.ndarray:
    """Return the chosen output of a model for windows (W, T, F)."""
    layout = model.layout or ""
    order = [_AXES[letter] for letter in layout if letter in _AXES]
    order += sorted({0, 1, 2} - {*order})  # axes of size 1, which the input does not have
    shape = [windows.shape[_AXES[letter]] if letter in _AXES else 1 for letter in layout]

    values = windows * np.float32(model.scale) + np.float32(model.offset)
    [source], target = session.get_inputs(), session.get_outputs()[model.output]
    [outputs] = session.run([target.name], {source.name: values.transpose(order).reshape(shape)})
    return np.asarray(outputs, dtype=np.float32)


# ------------------------------------------------------------------ facts


def with_facts(model: Model, session: Any, content: bytes, previous: Model | None) -> Model:
    """Return the settings of a model with its layout, the position of its output, and its facts.

    Parameters
    ----------
    model : Model
    session : onnxruntime.InferenceSession
    content : bytes
        Its file.
    previous : Model, optional
        The model whose frames it takes; None if it takes waveforms.

    Raises
    ------
    ComponentError
        If the file does not fit the settings. The message is the rest of a sentence about the model.
    """
    n_inputs = 1 if previous is None or previous.facts is None else previous.facts.n_values
    layout = model.layout or _guessed_layout(model, session, n_inputs, _WAVEFORMS if previous is None else _FRAMES)
    counts = {letter: layout.count(letter) for letter in "btf"}
    if max(counts.values()) > 1 or not counts["t"] or (n_inputs > 1 and not counts["f"]):
        raise ComponentError(f"has layout={layout!r}, expected one t, and one f if frames have several values.")
    model = structs.replace(model, layout=layout, output=_output_position(model, session))

    n_steps = model.window + _MORE * model.hop
    noise = np.random.default_rng(0).normal(scale=0.1, size=(n_steps, n_inputs)).astype(np.float32)
    try:
        found = _try_whole(model, session, noise) if model.whole else _try_windows(model, session, noise)
    except ComponentError:
        raise
    except Exception as error:
        raise ComponentError(f"cannot process {_expected(model, n_inputs)}: {first_line(error)}") from error
    facts = Facts(n_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), **found._asdict())
    return structs.replace(model, facts=facts)


class _Found(NamedTuple):
    n_values: int
    batched: bool
    axes: list[int] | None


def _try_windows(model: Model, session: Any, noise: np.ndarray) -> _Found:
    """Return what the outputs for two windows, of different levels, show."""
    windows = np.stack([noise[: model.window], 0.01 * noise[-model.window :]])
    alone = [_outputs(model, session, window[None]) for window in windows]
    if sum(size > 1 for size in alone[0].shape) > 1 or not alone[0].size:
        raise ComponentError(
            f"gives an output of shape {list(alone[0].shape)} for a window, expected one vector: choose another "
            "output, or set whole=True if the model takes whole clips."
        )

    expected = np.stack([output.reshape(-1) for output in alone])
    try:  # a model may have a batch of fixed size, or compute statistics of the batch
        together = _outputs(model, session, windows).reshape(expected.shape)
        batched = bool((abs(together - expected) <= _ROUNDING * abs(expected).max()).all())
    except Exception:
        batched = False
    return _Found(expected.shape[1], batched, None)


def _try_whole(model: Model, session: Any, noise: np.ndarray) -> _Found:
    """Return what the outputs for the shortest clip and a longer one show."""
    short, long = (_outputs(model, session, noise[None, :n]).shape for n in (model.window, len(noise)))
    times = [axis for axis, n in enumerate(short) if n and len(long) == len(short) and long[axis] - n == _MORE]
    others = [axis for axis in range(len(short)) if axis not in times]
    values = [axis for axis in others if short[axis] > 1] or others[-1:]
    if len(times) != 1 or len(values) != 1:
        raise ComponentError(
            f"gives outputs of shapes {list(short)} and {list(long)} for clips of {model.window} and {len(noise)} "
            f"steps, expected {_MORE} frames more, and one axis of values: check window, hop and output."
        )
    return _Found(short[values[0]], False, [times[0], values[0]])


def _output_position(model: Model, session: Any) -> int:
    """Return the position of the output that is used."""
    names = [output.name for output in session.get_outputs()]
    if model.output is None and len(names) == 1:
        return 0
    if model.output in names:
        return names.index(model.output)
    if isinstance(model.output, int) and model.output < len(names):
        return model.output
    raise ComponentError(f"has other outputs. {unknown_value('output', model.output, [*names, *range(len(names))])}")


def _guessed_layout(model: Model, session: Any, n_inputs: int, layouts: dict[int, list[str]]) -> str:
    """Return the first layout that fits the shape of the input."""
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        got = listed(f"{item.name!r} of type {item.type}" for item in inputs)
        raise ComponentError(f"takes {got or 'no input'}, expected one input of type tensor(float).")

    sizes = {"b": 1, "1": 1, "f": n_inputs, "t": None if model.whole else model.window}
    shape = inputs[0].shape
    for layout in layouts.get(len(shape), []):
        if all(size == sizes[letter] for letter, size in zip(layout, shape, strict=True) if isinstance(size, int)):
            return layout
    raise ComponentError(
        f"takes an input of shape {shape}, which does not fit {_expected(model, n_inputs)}: check window and whole, or "
        'give the layout, for example "btf1".'
    )


def _expected(model: Model, n_inputs: int) -> str:
    """Return the input of a model in words."""
    steps = "whole clips" if model.whole else f"windows of {model.window} steps"
    return f"{steps} of {n_inputs} values" if n_inputs > 1 else steps
