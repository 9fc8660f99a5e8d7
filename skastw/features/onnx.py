"""Frozen ONNX models as front end."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import PureWindowsPath
from typing import Any, Self
from weakref import WeakKeyDictionary

import torch
from msgspec import to_builtins
from sklearn.base import clone
from torch import Tensor, nn

from skastw.core.batching import pad
from skastw.core.parameters import integers, param, parameters
from skastw.errors import ComponentError, ExportError, WeightsError, plain
from skastw.features._base import Features, FeaturesModule
from skastw.features._onnx_models import MAX_WINDOW, Model, check_cost, compute_frames, least_samples, with_facts
from skastw.storage.graphs import check_graph, open_session, read_graph
from skastw.storage.schema import check

#: Largest number of models. A folder from an untrusted source may list any number.
_MAX_MODELS = 16
#: The sessions that run the graphs of each module, by process: a session of a parent process does not run in a child.
_SESSIONS: WeakKeyDictionary[nn.Module, dict[int, list[Any]]] = WeakKeyDictionary()
_LOCK = threading.Lock()


@parameters
class OnnxFeatures(Features):
    """Outputs of frozen ONNX models, such as bird models, sound-event models or wake-word embeddings.

    The first model takes windows of the waveform, and each further model takes windows of the frames of the previous
    one. A model gives one frame for each window. The frames are computed once for each clip, and
    ``encoder="identity"`` trains a linear probe on them. Saved models contain the ONNX models, so that they need no
    other files. The extra ``onnx`` is required.

    Parameters
    ----------
    {parameters}

    Notes
    -----
    A model is given as a path, or as a dict with ``path`` and any of these settings:

    * ``window`` and ``hop``: as the parameters of these names.
    * ``whole``: True for a model that takes clips of any length and computes the frames of all windows itself.
      ``window`` is then the length of its shortest input.
    * ``output``: as the parameter of this name.
    * ``scale`` and ``offset``: the model gets ``scale * x + offset`` instead of its input x. By default 1 and 0.
    * ``layout``: the axes of its input, with ``b`` for the windows of a batch, ``t`` for time, ``f`` for the values of
      a frame and ``1`` for an axis of size 1, for example ``"b1tf"``. By default it is guessed from the shape.

    A clip that is too short for one frame is padded with zeros. If at least half a hop of a waveform lies beyond its
    last complete window, it gives one more window, padded with zeros. Models that take frames get complete windows
    only, because zeros are not silence there.

    Only models of standard ONNX operators are accepted, in files of at most 512 MB without external data. Their inputs
    and outputs are float32. They run on the CPU.

    Examples
    --------
    >>> import tempfile
    >>> import onnx, torch
    >>> from onnx import TensorProto, helper
    >>> from skastw.features import OnnxFeatures
    >>> node = helper.make_node("ReduceMax", ["waveform"], ["loudest"], axes=[1])
    >>> shapes = {"waveform": ["batch", 8000], "loudest": ["batch", 1]}
    >>> ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    >>> graph = helper.make_graph([node], "loudest", ends[:1], ends[1:])
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     onnx.save(model, f"{folder}/loudest.onnx")
    ...     features = OnnxFeatures(models=[f"{folder}/loudest.onnx"], sample_rate=16000, window=8000)
    ...     features = features.resolved(sample_rate=16000, chunk_length=30.0)  # as fit does
    ...     weights = features.initial_weights()
    >>> module = features.build(16000)
    >>> _ = module.load_state_dict(weights)
    >>> waveforms = torch.tensor([0.25, 0.5]).repeat_interleave(8000).expand(2, -1)
    >>> frames, lengths = module(waveforms, torch.tensor([16000, 9000]))
    >>> frames[0].tolist(), lengths.tolist()
    ([[0.25], [0.5]], [2, 1])
    """

    name = "onnx"

    models: list[Any] | None = param(
        default=None,
        valid=[list, tuple, None],
        doc="The ONNX models, in the order in which a clip passes them: paths, or dicts with settings. Required.",
    )
    sample_rate: int = param(
        default=16000,
        valid=[integers(1000, 1_000_000)],
        doc="Sampling rate that the first model requires (Hz). ``sample_rate`` of the estimator must be the same.",
    )
    window: int | None = param(
        default=None,
        valid=[integers(1, MAX_WINDOW), None],
        doc="Length of the windows of a model: samples for the first model, and frames of the previous one for others. "
        "Required, here or in the settings of each model.",
    )
    hop: int | None = param(
        default=None,
        valid=[integers(1, MAX_WINDOW), None],
        doc="Step from window to window, in samples or frames. None is the length of a window.",
    )
    output: str | int | None = param(
        default=None,
        valid=[str, integers(0), None],
        doc="Name or position of the output that is used. Required for models with several outputs.",
    )
    license: str | None = param(
        default=None,
        valid=[str, None],
        doc='Licence of the models, as an identifier of the Hugging Face Hub, for example ``"cc-by-nc-sa-4.0"``. It is '
        "written into saved models.",
    )
    source: str | None = param(
        default=None,
        valid=[str, None],
        doc="Where the models come from, for example an address or a citation. It is written into saved models.",
    )

    def check_params(self) -> None:
        """Raise ComponentError if a parameter is not valid; see :class:`~skastw.core.component.Component`."""
        super().check_params()
        if self.models is not None:
            self.stages()

    def stages(self) -> list[Model]:
        """Return the settings of each model.

        Raises
        ------
        ComponentError
            If ``models`` is missing, or a setting is missing or not valid.
        """
        if not self.models or len(self.models) > _MAX_MODELS:
            got = f"{len(self.models)} models" if self.models else f"models={plain(self.models)!r}"
            raise ComponentError(f"Got OnnxFeatures with {got}, expected the paths of 1 to {_MAX_MODELS} ONNX models.")
        shared = {"window": self.window, "hop": self.hop, "output": self.output}
        shared = {name: value for name, value in shared.items() if value is not None}

        settings = [{**shared, **_as_dict(item)} for item in self.models]
        for item in settings:
            if "window" in item:
                item.setdefault("hop", item["window"])
        models = check(settings, list[Model], "OnnxFeatures", ComponentError, place="models")
        check_cost(models)
        return models

    def frames_per_second(self, sample_rate: int) -> float:
        """Return the frame rate (Hz)."""
        return sample_rate / math.prod(model.hop for model in self.stages())

    @property
    def n_lost(self) -> int:
        """Samples at the end of a clip that have no frame; see :class:`~skastw.features.Features`."""
        models = self.stages()
        return max(0, least_samples(models) - math.prod(model.hop for model in models))

    def sources(self) -> list[dict[str, str]]:
        """Return where the models come from; see :class:`~skastw.core.component.Component`."""
        stated = {"license": self.license, "citation": self.source}
        sources = []
        for model in self.stages():
            known = {"sha256": model.facts.sha256 if model.facts else None, **stated}
            name = PureWindowsPath(model.path).name  # also of a path of this system
            sources.append({"weights": name, **{key: value for key, value in known.items() if value is not None}})
            stated = {**stated, "citation": None}  # once
        return sources

    def resolved(self, sample_rate: int, chunk_length: float) -> Self:
        """Return the front end with the facts of each file; see :class:`~skastw.core.component.Component`."""
        self._check_rate(sample_rate)
        models = self.stages()
        if all(model.complete for model in models):
            return self

        known: list[Model] = []
        for position, model in enumerate(models):
            content = read_graph(model.path)
            session = open_session(content, model.path)
            try:
                known.append(with_facts(model, session, content, known[-1] if known else None))
            except ComponentError as error:
                raise ComponentError(f"The ONNX model {model.path!r}, models[{position}], {error}") from error.__cause__

        # window and hop stay where they were set, so that set_params changes them
        elsewhere = [{"window", "hop"} - _as_dict(item).keys() for item in self.models or ()]
        settings = [
            {name: value for name, value in to_builtins(model).items() if name not in shared}
            for model, shared in zip(known, elsewhere, strict=True)
        ]
        return clone(self).set_params(models=settings, output=None)

    def initial_weights(self) -> Mapping[str, Tensor]:
        """Return the bytes of each file; see :class:`~skastw.core.component.Component`."""
        graphs = {}
        for position, model in enumerate(self.stages()):
            content = read_graph(model.path)
            if model.facts is not None and hashlib.sha256(content).hexdigest() != model.facts.sha256:
                raise WeightsError(f"The ONNX file {model.path!r} was changed: its SHA-256 is another one.")
            graphs[f"graph_{position}"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return graphs

    def build(self, sample_rate: int) -> FeaturesModule:
        """Return the module; see :class:`~skastw.features.Features`.

        Raises
        ------
        ComponentError
            If the front end is not :meth:`resolved` yet.
        """
        self._check_rate(sample_rate)
        return _OnnxModule(self.stages())

    def _check_rate(self, sample_rate: int) -> None:
        if sample_rate != self.sample_rate:
            raise ComponentError(
                f"Got sample_rate={plain(sample_rate)!r} with OnnxFeatures(sample_rate={plain(self.sample_rate)!r}), "
                "expected the same rate: set both to the rate that the ONNX models require."
            )


def _as_dict(item: Any) -> dict[str, Any]:
    """Return a path or a mapping in ``models`` as a dict, in which the path is text."""
    settings = plain(dict(item)) if isinstance(item, Mapping) else {"path": item}
    if isinstance(settings.get("path"), os.PathLike):
        settings["path"] = os.fspath(settings["path"])
    return settings


class _OnnxModule(FeaturesModule):
    """Built :class:`OnnxFeatures`. Copies and pickles contain the graphs, but not the sessions that run them."""

    def __init__(self, models: Sequence[Model]) -> None:
        super().__init__()
        self.models = list(models)
        for position, model in enumerate(models):
            if model.facts is None or not model.complete:
                raise ComponentError(
                    "OnnxFeatures has not read its ONNX models yet: call resolved(sample_rate, chunk_length), as fit "
                    "does, and build the result."
                )
            self.register_buffer(f"graph_{position}", torch.zeros(model.facts.n_bytes, dtype=torch.uint8))
            self.n_features = model.facts.n_values
        self.register_load_state_dict_post_hook(_check_loaded)

    def extract(self, waveforms: Sequence[Tensor]) -> list[Tensor]:
        """Return the frames of several clips, computed one after another."""
        if not len(waveforms):
            return []
        sessions = _sessions_of(self)
        inputs = (waveform.detach().float().cpu().numpy() for waveform in waveforms)
        outputs = [torch.from_numpy(compute_frames(self.models, sessions, waveform)) for waveform in inputs]
        return [frames.to(waveform.device) for frames, waveform in zip(outputs, waveforms, strict=True)]

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling():
            raise ExportError("OnnxFeatures runs ONNX models outside of torch, which cannot export them")
        return pad(self.extract([item[:length] for item, length in zip(waveform, lengths.tolist(), strict=True)]))


def _check_loaded(module: nn.Module, _: Any) -> None:
    """Check the graphs of a module whose weights were loaded, perhaps from an untrusted folder."""
    for content, name in _graphs_of(module):
        check_graph(content, name)


def _sessions_of(module: _OnnxModule) -> list[Any]:
    """Return the sessions that run the graphs of a module. Each process opens them once."""
    with _LOCK:
        by_process = _SESSIONS.setdefault(module, {})
        if os.getpid() not in by_process:
            by_process[os.getpid()] = [open_session(*graph) for graph in _graphs_of(module)]
        return by_process[os.getpid()]


def _graphs_of(module: Any) -> list[tuple[bytes, str]]:
    """Return the bytes of each graph, after a check of their SHA-256, and its name in errors."""
    graphs = []
    for position, model in enumerate(module.models):
        content = module.get_buffer(f"graph_{position}").cpu().numpy().tobytes()
        if hashlib.sha256(content).hexdigest() != model.facts.sha256:
            raise WeightsError(
                f"The weights of OnnxFeatures are not loaded, or belong to other models: the SHA-256 of {model.path!r} "
                "is not the one in its parameters."
            )
        graphs.append((content, model.path))
    return graphs
