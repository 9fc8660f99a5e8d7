"""ONNX graphs that somebody else may have written: checked before onnxruntime opens them.

A graph consists of standard operators and contains its weights. It cannot name files, libraries or functions of other
programs. However, like any program, it may take much time and memory.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from skastw.core.optional import import_optional
from skastw.core.text import listed, looked_in
from skastw.errors import ArtifactError, WeightsError
from skastw.storage.files import open_inside, read_limited

#: Largest graph (bytes), and largest number of its nodes.
MAX_GRAPH_BYTES, MAX_NODES = 512 * 2**20, 200_000
#: Largest number of values of a tensor whose shape a graph states.
MAX_VALUES = 2**28
#: The names of the domain of standard operators.
_STANDARD = ("", "ai.onnx")
#: SHA-256 of the graphs that :func:`check_graph` has accepted.
_CHECKED: set[str] = set()


def read_graph(path: str | os.PathLike[str]) -> bytes:
    """Return the content of an ONNX file, which is not checked yet.

    Parameters
    ----------
    path : path

    Raises
    ------
    WeightsError
        If the file is missing, cannot be read, or is larger than :data:`MAX_GRAPH_BYTES`.
    """
    file = Path(path)
    if not file.is_file():
        raise WeightsError(f"There is no ONNX file {str(file)!r}{looked_in(file)}.")
    try:
        with open_inside(file.resolve().parent, file.resolve().name) as opened:
            return read_limited(opened, str(file), max_bytes=MAX_GRAPH_BYTES)
    except ArtifactError as error:
        raise WeightsError(str(error)) from error


def check_graph(content: bytes, name: str) -> None:
    """Raise WeightsError unless the bytes are a graph that a runtime may load.

    Parameters
    ----------
    content : bytes
        An ONNX file.
    name : str
        Its name in errors.

    Raises
    ------
    WeightsError
        If the graph is damaged or too large, needs other files, or uses operators that are not standard.
    MissingDependencyError
        If the extra ``onnx`` is not installed.

    Examples
    --------
    >>> from skastw.storage.graphs import check_graph
    >>> check_graph(b"not a graph", "owls.onnx")
    Traceback (most recent call last):
        ...
    skastw.errors.WeightsError: 'owls.onnx' is not an ONNX file, or is damaged: ...
    """
    digest = hashlib.sha256(content).hexdigest()
    if digest in _CHECKED:
        return
    onnx = import_optional("onnx", extra="onnx", purpose="A front end of ONNX models")
    if len(content) > MAX_GRAPH_BYTES:
        raise WeightsError(f"{name!r} has {len(content)} bytes, expected at most {MAX_GRAPH_BYTES}.")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise WeightsError(f"{name!r} is not an ONNX file, or is damaged: {first_line(error)}") from error

    problem = _problem(model, len(content))
    if problem is None:
        try:
            onnx.checker.check_model(model)
            # without data_prop, which computes constants of any size
            problem = _too_large(onnx.shape_inference.infer_shapes(_without_shapes(model)).graph)
        except Exception as error:
            problem = first_line(error)
    if problem is not None:
        raise WeightsError(f"{name!r} cannot be used: {problem}")
    _CHECKED.add(digest)


def open_session(content: bytes, name: str) -> Any:
    """Return a session of onnxruntime that runs a graph on the CPU, with as many threads as torch has.

    Parameters
    ----------
    content : bytes
        An ONNX file.
    name : str
        Its name in errors.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    WeightsError
        If the graph is refused by :func:`check_graph` or by onnxruntime.
    MissingDependencyError
        If the extra ``onnx`` is not installed.
    """
    check_graph(content, name)
    onnxruntime = import_optional("onnxruntime", extra="onnx", purpose="A front end of ONNX models")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    options.log_severity_level = 4  # errors are raised, not printed
    # the format that was checked, also for bytes that are valid in another format too
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # some releases return wrong convolutions with these kernels: https://github.com/microsoft/onnxruntime/issues/26669
    options.add_session_config_entry("mlas.disable_kleidiai", "1")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise WeightsError(f"onnxruntime cannot run {name!r}: {first_line(error)}") from error


def _problem(model: Any, n_bytes: int) -> str | None:
    """Return the reason why a model is refused before its operators are checked, or None."""
    if model.functions or model.training_info:
        return "it defines functions or a training graph, expected one graph; inline the functions with onnx.inliner."

    n_nodes = 0
    for graph in _graphs(model.graph):
        n_nodes += len(graph.node)
        if n_nodes > MAX_NODES:
            return f"it has more than {MAX_NODES} nodes."
        if foreign := sorted({f"{node.op_type} of {node.domain}" for node in graph.node if _is_foreign(node)}):
            return f"it has the operators {listed(foreign)}, expected only standard operators."
        for tensor in _tensors(graph):
            if tensor.external_data or tensor.data_location:
                return f"its tensor {tensor.name[:100]!r} is in another file, expected one file that contains all."
            if math.prod(tensor.dims) > 2 * n_bytes or min(tensor.dims, default=0) < 0:  # at least half a byte a value
                return f"its tensor {tensor.name[:100]!r} has the shape {list(tensor.dims)}, more than the file holds."
        if problem := _too_large(graph):
            return problem
    return None


def _is_foreign(node: Any) -> bool:
    return node.domain not in _STANDARD


def _graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph and the graphs in its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield the constant tensors of a graph, without the graphs in its nodes."""
    sparse = list(graph.sparse_initializer)
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += (attribute.sparse_tensor, *attribute.sparse_tensors)
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _without_shapes(model: Any) -> Any:
    """Return a model that states no shapes besides those of its inputs and constants. The model itself changes."""
    for graph in _graphs(model.graph):
        graph.ClearField("value_info")
        for output in graph.output:
            output.ClearField("type")
    return model


def _too_large(graph: Any) -> str | None:
    """Return the problem of a graph that states the shape of a tensor with too many values, or None."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim if axis.HasField("dim_value")]
        if math.prod(sizes) > MAX_VALUES:
            return f"{value.name[:100]!r} has the shape {sizes}, expected at most {MAX_VALUES} values."
    return None


def first_line(error: Exception) -> str:
    """Return the first line of an error of another package, as a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"{lines[0][:300].rstrip('.')}."
