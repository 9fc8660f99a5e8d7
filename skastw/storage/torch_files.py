"""Checkpoints in the format of ``torch.save``, which are converted to safetensors before anything else reads them.

Such a file is a pickle, and a pickle may run code. It is read with ``weights_only=True``, which accepts tensors, plain
values and containers, and refuses everything else without running it.

The weights are the tensors of the file by their names. Names of nested containers are joined by dots, and if the file
contains its weights below one of the names in :data:`WRAPPERS`, only these are kept. Other plain values beside them,
such as the settings of the network, go to ``config.json``. The rest, such as the state of an optimiser, is left out.
"""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skastw.core.text import looked_in
from skastw.errors import ArtifactError, OutputError, WeightsError
from skastw.storage.outputs import write_file
from skastw.storage.weights import MAX_WEIGHT_BYTES, open_weights, weights_to_bytes

#: The files of a checkpoint that the library reads: the settings and the weights.
CONFIG, WEIGHTS = "config.json", "model.safetensors"
#: Endings of the names of files that ``torch.save`` writes.
SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
#: Names below which a file may contain the weights; the first one that it has counts.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module")

#: Version of the conversion. Raise it if a change gives other files.
_VERSION = 1
#: Largest number of values in a file, which may contain the same container many times, and largest length of a name.
_MAX_VALUES, _MAX_NAME = 100_000, 1000
#: Largest ``config.json`` (bytes).
_MAX_CONFIG_BYTES = 2**20


def convert_torch_file(path: str | os.PathLike[str], output: str | os.PathLike[str]) -> Path:
    """Convert a checkpoint that ``torch.save`` wrote to safetensors.

    The weights and their names stay the same, except that half precision becomes float32, and integers and truth
    values become int64.

    Parameters
    ----------
    path : path
        The checkpoint, for example a ``.pt`` file.
    output : path
        Folder for ``model.safetensors`` and ``config.json``. It is created if missing, and files of these names are
        replaced.

    Returns
    -------
    Path
        The folder, which encoders take as ``weights``.

    Raises
    ------
    WeightsError
        If the file cannot be read, needs more than tensors, plain values and containers, has no weights, or has weights
        that are NaN or infinite.
    OutputError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from skastw.storage.torch_files import convert_torch_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"model": {"bias": torch.zeros(2)}, "cfg": {"layers": 12}}, f"{folder}/owls.pt")
    ...     converted = convert_torch_file(f"{folder}/owls.pt", f"{folder}/owls")
    ...     sorted(file.name for file in converted.iterdir())
    ...     (converted / "config.json").read_text()
    ['config.json', 'model.safetensors']
    '{"cfg": {"layers": 12}}'
    """
    file, folder = Path(path), Path(output)
    try:
        weights, settings = _divide(_load(file))
        content = weights_to_bytes(_converted(weights))
    except (ArtifactError, WeightsError) as error:
        raise WeightsError(f"The weights {os.fspath(path)!r} cannot be converted: {error}") from error

    # the weights come last: a folder with them is complete
    write_file(folder / CONFIG, json.dumps(settings))
    write_file(folder / WEIGHTS, content)
    return folder


def converted_folder(path: Path, sha256: str) -> Path:
    """Return the folder with a converted checkpoint in the user's cache, which is written if it is missing or damaged.

    The cache is the folder ``skastw`` in the folder of the system for such files, for example ``~/.cache``, or the one
    that the environment variable ``SKASTW_CACHE`` names. It may be deleted at any time.

    Parameters
    ----------
    path : Path
        A checkpoint that ``torch.save`` wrote.
    sha256 : str
        SHA-256 of the file.

    Raises
    ------
    WeightsError
        If the file cannot be converted, or the cache cannot be written.
    """
    folder = cache_folder() / f"converted-{_VERSION}" / sha256
    try:
        with open(folder / WEIGHTS, "rb") as file:
            open_weights(file, folder / WEIGHTS)
        return folder
    except (OSError, ArtifactError):
        pass  # not converted yet, or damaged

    try:
        return convert_torch_file(path, folder)
    except OutputError as error:
        raise WeightsError(
            f"The weights {str(path)!r} must be converted to safetensors, but the folder for converted weights cannot "
            f"be written: {error} Set SKASTW_CACHE to another folder."
        ) from error


def cache_folder() -> Path:
    """Return the folder of the user for files that can be made or downloaded again; see :func:`converted_folder`."""
    import pooch

    return Path(os.environ.get("SKASTW_CACHE") or pooch.os_cache("skastw"))


def _load(path: Path) -> Any:
    """Return the content of a file; nothing in it is executed."""
    if not path.is_file():
        raise WeightsError(f"there is no file {str(path)!r}{looked_in(path)}.")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise WeightsError(
            "the file contains Python objects beside tensors, plain values and containers, or is not a file of "
            f"torch.save. Nothing in it was executed. Ask its authors for a file with the weights alone. "
            f"({' '.join(str(error).split())[:300]})"
        ) from error
    except Exception as error:  # a damaged file makes torch raise errors of many types
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"the file is damaged, or is not a file of torch.save ({reason}).") from error


def _divide(content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the weights of a file by name, and its settings."""
    beside: dict[str, Any] = {}
    for _ in WRAPPERS:  # a wrapper may contain another one
        names = content if isinstance(content, Mapping) else {}
        wrapper = next((name for name in WRAPPERS if isinstance(names.get(name), Mapping)), None)
        if wrapper is not None:
            beside |= {name: value for name, value in names.items() if name != wrapper}
            content = names[wrapper]

    weights: dict[str, Tensor] = {}
    for name, tensor in _tensors(content):
        if name in weights:
            raise WeightsError(f"it contains two tensors with the name {name!r}.")
        weights[name] = tensor
    if not weights.keys() - {""}:
        raise WeightsError("it contains no weights, expected tensors by name.")
    return weights, _settings(beside)


def _tensors(content: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in nested containers, with their keys joined by dots."""
    left, waiting = _MAX_VALUES, [("", content)]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
            continue

        items = _items(value)
        left -= len(items)
        if left < 0 or len(name) > _MAX_NAME:
            raise WeightsError(f"it contains more than {_MAX_VALUES} values, or containers that contain each other.")
        waiting += [(f"{name}.{key}".removeprefix("."), item) for key, item in reversed(items)]


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list | tuple) else []


def _settings(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the values that can be stored as JSON, as long as they are small."""
    settings: dict[str, Any] = {}
    for name, value in values.items():
        if _is_plain({name: value}):
            try:
                size = len(json.dumps({**settings, name: value}, allow_nan=False))
            except (ValueError, RecursionError):  # NaN, an endless integer, or very deep containers
                continue
            if size <= _MAX_CONFIG_BYTES:
                settings[name] = value
    return settings


def _is_plain(value: Any) -> bool:
    """Return whether a value consists of JSON values whose text is not too long."""
    left, waiting = _MAX_CONFIG_BYTES, [value]
    while waiting:
        item = waiting.pop()
        items = _items(item)
        names = [name for name, _ in items] if isinstance(item, Mapping) else []
        if not isinstance(item, str | int | float | dict | list | tuple | None):
            return False
        if not all(isinstance(name, str) for name in names):
            return False

        left -= 10 + sum(map(len, names)) + (len(item) if isinstance(item, str) else 0)
        if left < 0:
            return False
        waiting += [part for _, part in items]
    return True


def _converted(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous copies of weights with the types that are stored."""
    for name, tensor in weights.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.is_meta:
            raise WeightsError(f"the weights {name!r} are {tensor.dtype} with the layout {tensor.layout}.")
    types = {name: _stored_type(tensor) for name, tensor in weights.items()}

    # a tensor may have more values than the file has bytes
    n_bytes = sum(tensor.numel() * types[name].itemsize for name, tensor in weights.items())
    if n_bytes > MAX_WEIGHT_BYTES:
        raise WeightsError(f"its weights take {n_bytes} bytes, more than the limit of {MAX_WEIGHT_BYTES}.")

    converted = {name: tensor.detach().to(types[name], copy=True).contiguous() for name, tensor in weights.items()}
    for name, tensor in converted.items():
        if not bool(tensor.isfinite().all()):
            raise WeightsError(f"the weights {name!r} hold NaN or infinite values.")
    return converted


def _stored_type(tensor: Tensor) -> torch.dtype:
    if not tensor.is_floating_point():
        return torch.int64
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
