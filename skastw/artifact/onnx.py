"""Export of a fitted model as one ONNX file, which runs without torch.

.. code-block:: text

    waveform (batch, samples)
       |  front end
    frames (batch, T, F)
       |  for each of the fewest equal chunks of at most max_frames:  normalization -> encoder -> pooling -> head
    logits (batch, K), the mean over the chunks
       |  softmax, sigmoid, or the units of the values
    probabilities or values (batch, K)

Torch exports the front end, and the network for one chunk. It cannot export the loop over chunks, which this module
adds. The file therefore takes clips of any length with the same results as the library, one chunk at a time in memory.
"""

import copy
import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skastw.artifact.onnx_operators import Operators
from skastw.core.batching import split_evenly, unpadded
from skastw.core.compiler import removed_traces
from skastw.core.optional import import_optional
from skastw.core.version import __version__
from skastw.core.warn import ignored_warnings
from skastw.errors import ExportError
from skastw.features import FeaturesModule
from skastw.features.frozen import FrozenModule
from skastw.features.log_mel import MelModule
from skastw.network.model import AudioModel
from skastw.network.trained import Trained
from skastw.storage.outputs import check_file, write_file
from skastw.targets import Targets

#: Version of the ONNX operators. onnxruntime supports it since 1.17, and computes its means over several axes correctly
#: since 1.21.
_OPSET = 20
#: Largest difference of logits that is accepted as rounding error; relative for logits larger than 1.
_TOLERANCE = 3e-4
#: Number of frames in the example that torch traces. It is large enough that no axis has size 1 after pooling, because
#: torch assumes that a size of 1 never changes.
_FRAMES = 331
#: Longest clip with which a file is checked (s): two chunks of the default length.
_LONGEST_CHECK = 40.0


def write_onnx(path: str | os.PathLike[str], trained: Trained) -> Path:
    """Write a model as one ONNX file, after a check in onnxruntime that it gives the same results.

    Parameters
    ----------
    path : path
        The file; its name must end in ``.onnx``. An existing file is replaced in one step. The folder is created if
        missing.
    trained : Trained
        Fitted model with a front end.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written. The path is checked before the export starts.
    ExportError
        If a component cannot be expressed in ONNX, or the file would give other results.
    MissingDependencyError
        If the extra ``onnx`` is not installed.
    """
    target = check_file(path, [".onnx"])
    for package in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(package, extra="onnx", purpose="Exporting to ONNX")
    from onnx import helper

    components, targets = trained.components, trained.targets
    names = {kind: part.name for kind, part in components.parts.items()}
    if "side" in names:
        raise ExportError(
            f"side={names['side']!r} cannot be expressed in ONNX, because it is computed from whole clips: train with "
            "side=None, or save the model with save_pretrained."
        )
    model = copy.deepcopy(trained.model).float().requires_grad_(False)
    front_end = model.features.eval()
    network: AudioModel | _WithFrozenEncoder = model
    if isinstance(front_end, FrozenModule):  # torch cannot export its loop over chunks either
        network, front_end = _WithFrozenEncoder(front_end, model), front_end.features
    with _quiet(), removed_traces(), torch.no_grad():
        parts = (
            _front_end_graph(front_end, names),
            _network_graph(network, front_end.n_features, names),
            _graph(_Traced(nn.Identity(), targets.finish), torch.zeros(2, targets.n_outputs), n_dynamic=1),
        )

    proto = helper.make_model(
        _assembled(*parts, network.max_frames, targets),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=10,
        producer_name="skastw",
    )

    metadata = {
        "library": "skastw",
        "library_version": __version__,
        "sample_rate": components.sample_rate,
        "chunk_length": float(components.chunk_length),
        "task": targets.name,
        "labels": targets.labels,
    }
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in metadata.items()
    }
    helper.set_model_props(proto, texts)
    if proto.ByteSize() >= 2**31:
        raise ExportError("The model has 2 GB of weights or more, expected less, which is the limit of an ONNX file.")

    content = proto.SerializeToString()
    # chunks of frozen outputs may differ by a frame from chunks of the frames that they are computed from
    whole = getattr(components.features, "chunk_length", components.chunk_length)
    longest = (0.9 if isinstance(network, _WithFrozenEncoder) else 1.25) * whole
    seconds = (0.0, 0.3, min(longest, _LONGEST_CHECK))
    _check(content, network, front_end, targets, [1 + int(length * components.sample_rate) for length in seconds])
    write_file(target, content)
    return target


# ------------------------------------------------------------------ parts that torch exports


class FourierPower(nn.Module):
    """Power spectrum around every ``hop_length``-th sample, computed by convolution with cosines and sines.

    It gives the same result as :func:`~skastw.core.spectra.power_spectrum` for the windows of
    :func:`~skastw.core.spectra.centred_windows`. The Fourier transform of ONNX is slow, and some runtimes lack it.

    Parameters
    ----------
    window : Tensor of shape (n_fft,)
        Weight of each sample.
    hop_length : int
        Samples between consecutive windows.

    Examples
    --------
    >>> import torch
    >>> from skastw.artifact.onnx import FourierPower
    >>> tuple(FourierPower(torch.hann_window(400), 160)(torch.zeros(1, 16000)).shape)
    (1, 100, 201)
    """

    kernels: Tensor

    def __init__(self, window: Tensor, hop_length: int) -> None:
        super().__init__()
        n_fft = len(window)
        steps = (
            torch.outer(torch.arange(n_fft // 2 + 1), torch.arange(n_fft)) % n_fft
        )  # in steps of 1 / n_fft of a circle
        angle = 2 * torch.pi / n_fft * steps.double()
        kernels = torch.cat([angle.cos(), angle.sin()]) * window.double()
        self.register_buffer("kernels", kernels.float()[:, None], persistent=False)
        self.hop_length = hop_length

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn waveforms (B, N) into powers (B, ceil(N / hop_length), n_fft // 2 + 1)."""
        n_fft = self.kernels.shape[2]
        followed = F.pad(waveform, (0, n_fft))
        mirrored = followed[:, 1 : n_fft // 2 + 1].flip(1)
        spectrum = F.conv1d(torch.cat([mirrored, followed], dim=1)[:, None], self.kernels, stride=self.hop_length)
        n_frames = (waveform.shape[1] + self.hop_length - 1) // self.hop_length
        real, imaginary = spectrum[:, :, :n_frames].transpose(1, 2).split(n_fft // 2 + 1, dim=2)
        return real * real + imaginary * imaginary


class _Traced(nn.Module):
    """A function of a tensor as a module, with the module whose weights it uses."""

    def __init__(self, module: nn.Module, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def _lengths(items: Tensor) -> Tensor:
    """Return the lengths (B,) of items (B, T, ...) without padding."""
    return torch.ones(items.shape[0], dtype=torch.int64) * items.shape[1]


class _WithFrozenEncoder(nn.Module):
    """A network together with the frozen encoder that is part of its front end."""

    def __init__(self, frozen: FrozenModule, model: AudioModel) -> None:
        super().__init__()
        self.frozen_encoder, self.model, self.max_frames = frozen.encoder, model, frozen.max_frames

    def classify(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Turn frames of the front end of the encoder into logits."""
        return self.model.classify(*self.frozen_encoder(frames, lengths))


def _front_end_graph(front_end: FeaturesModule, names: Mapping[str, str]) -> Any:
    """Return the graph from waveforms (B, N) without padding to frames (B, T, F)."""
    n_samples = _FRAMES * getattr(front_end, "hop_length", 160) + 1
    traced = _Traced(front_end, lambda waveform: front_end(waveform, _lengths(waveform))[0])
    if isinstance(front_end, MelModule):
        power = FourierPower(front_end.window, front_end.hop_length)

        def frames_of(waveform: Tensor) -> Tensor:
            mel = front_end.spectrum(power(waveform)) @ front_end.filters
            return front_end.scaled(mel, _lengths(mel))

        traced = _Traced(nn.ModuleList([front_end, power]), frames_of)

    try:
        return _graph(traced, torch.zeros(2, n_samples))
    except Exception as error:
        raise _no_form("features", names, error) from error


def _network_graph(network: AudioModel | _WithFrozenEncoder, n_features: int, names: Mapping[str, str]) -> Any:
    """Return the graph from frames (B, T, F) of one chunk without padding to logits."""

    def without_padding(module: nn.Module, function: Callable[[Tensor, Tensor], Any]) -> _Traced:
        return _Traced(module, lambda frames: function(frames, _lengths(frames)))

    # samples are frames with one value, and a network may need hundreds of them
    frames = torch.zeros(2, min(_FRAMES * (160 if n_features == 1 else 1), network.max_frames), n_features)
    try:
        return _graph(without_padding(network, network.classify), frames)
    except Exception as error:
        if not isinstance(network, AudioModel):
            raise _no_form("features", names, error) from error
        model = network
        encoder, pooling = (m[0] if isinstance(m, nn.ModuleList) else m for m in (model.encoder, model.pooling))

        # find the component that cannot be exported
        for kind, part in (("normalization", model.normalization), ("encoder", encoder), ("pooling", pooling)):
            module = without_padding(part, part)
            try:
                _graph(module, frames)
            except Exception as cause:
                raise _no_form(kind, names, cause) from cause
            output = module(frames)
            frames = output[0] if isinstance(output, tuple) else output
        raise ExportError(f"The network cannot be expressed in ONNX: {_first_line(error)}") from error


def _graph(module: nn.Module, example: Tensor, *, n_dynamic: int = 2) -> Any:
    """Return the ONNX graph of ``module`` for inputs like ``example`` with any size of the first axes."""
    sizes = (dict.fromkeys(range(n_dynamic), torch.export.Dim.DYNAMIC),)
    with unpadded(), Operators():
        program = torch.export.export(module.eval(), (example,), dynamic_shapes=sizes, strict=False)
    exported = torch.onnx.export(program, opset_version=_OPSET, verbose=False)
    assert exported is not None
    return exported.model_proto.graph


def _no_form(kind: str, names: Mapping[str, str], error: Exception) -> ExportError:
    return ExportError(
        f"{kind}={names[kind]!r} cannot be expressed in ONNX for clips of any length: {_first_line(error)}"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide warnings and log messages of the exporter about its internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with ignored_warnings():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# ------------------------------------------------------------------ the whole graph


def _assembled(front_end: Any, network: Any, final: Any, max_frames: int, targets: Targets) -> Any:
    """Return the graph from waveforms to probabilities or values."""
    from onnx import TensorProto, compose, helper, numpy_helper

    node = helper.make_node
    front_end = compose.add_prefix_graph(front_end, "features/")
    network = compose.add_prefix_graph(network, "network/")
    final = compose.add_prefix_graph(final, "final/")
    frames, chunk, chunk_logits = front_end.output[0].name, network.input[0].name, network.output[0].name
    n_outputs = targets.n_outputs

    def of_outputs(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", n_outputs])

    each_chunk = helper.make_graph(
        [
            node("Mul", ["n_frames", "index"], ["start_by_n"]),
            node("Add", ["start_by_n", "n_frames"], ["stop_by_n"]),
            node("Div", ["start_by_n", "n_chunks"], ["start"]),
            node("Div", ["stop_by_n", "n_chunks"], ["stop"]),
            node("Slice", [frames, "start", "stop", "one"], [chunk]),  # along axis one
            *network.node,
            node("Add", ["sum_before", chunk_logits], ["sum_after"]),
            node("Identity", ["unfinished"], ["unfinished_after"]),
        ],
        "each_chunk",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("unfinished", TensorProto.BOOL, []),
            of_outputs("sum_before"),
        ],
        [helper.make_tensor_value_info("unfinished_after", TensorProto.BOOL, []), of_outputs("sum_after")],
    )

    mean_of_chunks = [
        node("Shape", [frames], ["batch"], start=0, end=1),
        node("Shape", [frames], ["n_frames"], start=1, end=2),
        node("Add", ["n_frames", "max_frames"], ["frames_and_chunk"]),
        node("Sub", ["frames_and_chunk", "one"], ["rounded_up"]),
        node("Div", ["rounded_up", "max_frames"], ["n_chunks"]),
        node("Concat", ["batch", "n_outputs"], ["logits_shape"], axis=0),
        node("ConstantOfShape", ["logits_shape"], ["zeros"]),
        node("Loop", ["n_chunks", "", "zeros"], ["sum"], body=each_chunk),
        node("CastLike", ["n_chunks", "sum"], ["divisor"]),
        node("Div", ["sum", "divisor"], ["logits"]),
    ]

    constants = {"one": np.array([1]), "max_frames": np.array([max_frames]), "n_outputs": np.array([n_outputs])}
    last = [
        node("Identity", ["logits"], [final.input[0].name]),
        *final.node,
        node("Identity", [final.output[0].name], [targets.exported[0]]),
    ]
    return helper.make_graph(
        [node("Identity", ["waveform"], [front_end.input[0].name]), *front_end.node, *mean_of_chunks, *last],
        "skastw",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", "n_samples"])],
        [of_outputs(name) for name in targets.exported],
        [
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *front_end.initializer,
            *network.initializer,
            *final.initializer,
        ],
    )


@torch.no_grad()
def _check(
    content: bytes,
    network: AudioModel | _WithFrozenEncoder,
    front_end: FeaturesModule,
    targets: Targets,
    sizes: Sequence[int],
) -> None:
    """Raise ExportError if a file differs from the model on clips of ``sizes`` samples of fading noise."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for n_samples in sizes:
        generator = torch.Generator().manual_seed(n_samples)
        waveform = torch.randn(2, n_samples, generator=generator) * torch.linspace(0.5, 0.001, n_samples)
        frames, lengths = front_end(waveform, torch.full((2,), n_samples))
        chunks = [frames[:, start:stop] for start, stop in split_evenly(int(lengths[0]), network.max_frames)]
        expected = torch.stack([network.classify(chunk, _lengths(chunk)) for chunk in chunks]).mean(dim=0)
        unit = torch.ones(1)
        if targets.exported[-1] != "logits":  # in units of a change of the network's outputs by 1
            changed, expected = targets.finish(expected + 1), targets.finish(expected)
            unit = (changed - expected).abs().clamp(min=1e-30)

        try:
            result = torch.from_numpy(session.run(None, {"waveform": waveform.numpy()})[-1])
        except Exception as error:  # of a type of onnxruntime
            raise ExportError(
                f"The file fails on a clip of {n_samples} samples, because torch or onnxruntime cannot express a "
                f"component for clips of this length: {_first_line(error)}"
            ) from error
        difference = float(((result - expected) / unit).abs().max() / (expected / unit).abs().max().clamp(min=1.0))
        if not difference < _TOLERANCE:
            raise ExportError(
                f"The file would differ from the model by {difference:.2g} on a clip of {n_samples} samples, expected "
                f"less than {_TOLERANCE:g}: torch or onnxruntime computes a component differently."
            )
