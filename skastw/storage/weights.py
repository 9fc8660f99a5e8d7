"""The weights on disk: a safetensors file whose every byte is accounted for before a tensor is made of it."""

from __future__ import annotations

import hashlib
import math
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from skastw.errors import ArtifactError
from skastw.storage.files import parse_json

__all__ = [
    "MAX_HEADER_BYTES",
    "MAX_WEIGHT_BYTES",
    "StoredWeights",
    "TensorSpec",
    "open_weights",
    "weights_to_bytes",
]

#: Longest header that is parsed; the default model's takes 15 kB.
MAX_HEADER_BYTES = 4 * 2**20
#: Largest file that is read.
MAX_WEIGHT_BYTES = 2 * 2**30
_DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
_MAX_DIMS = 8


@dataclass(frozen=True)
class TensorSpec:
    """What a header says of a tensor.

    Attributes
    ----------
    dtype : torch.dtype
    shape : tuple of int
    start, stop : int
        Its bytes, counted from the end of the header.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """A safetensors file whose header is sound; its values are not read yet.

    The file stays open as long as this object lives, so that a file that takes its place meanwhile changes nothing.

    Attributes
    ----------
    path : Path
        For errors.
    descriptor : int
        Of the open file.
    specs : dict of str to TensorSpec
    size : int
        Bytes of the file.
    sha256 : str or None
        What the whole file must hash to; None where nobody wrote it down.
    """

    path: Path
    descriptor: int
    specs: dict[str, TensorSpec]
    size: int
    sha256: str | None

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.descriptor)

    def check(self, expected: Mapping[str, Tensor]) -> None:
        """Raise unless the file holds exactly tensors of the names, shapes and dtypes of ``expected``.

        Raises
        ------
        ArtifactError
            Naming the first tensor that differs.
        """
        for name in sorted(expected.keys() | self.specs.keys()):
            spec, tensor = self.specs.get(name), expected.get(name)
            found = "nothing" if spec is None else f"{_word(spec.dtype)} of shape {list(spec.shape)}"
            wanted = "nothing" if tensor is None else f"{_word(tensor.dtype)} of shape {list(tensor.shape)}"
            if found != wanted:
                raise ArtifactError(f"{self._path} has {found} for {name[:200]!r}, expected {wanted}.")

    def read(self) -> dict[str, Tensor]:
        """Return the tensors, which share one block of memory as large as the file.

        Raises
        ------
        ArtifactError
            If the file changed since it was opened, is not the one that was saved, or holds NaN or infinite values.
        """
        content = bytearray(self.size)
        with os.fdopen(os.dup(self.descriptor), "rb") as file:
            file.seek(0)
            complete = file.readinto(content) == self.size and not file.read(1)
        if self.sha256 is not None and hashlib.sha256(content).hexdigest() != self.sha256:
            raise ArtifactError(
                f"{self._path} is not the file that was saved: its SHA-256 is not the one in config.json. "
                "It was damaged or exchanged; fetch or save the model again."
            )
        length = int.from_bytes(content[:8], "little")
        if not complete or _parse_header(bytes(content[8 : 8 + length]), self.size - 8 - length) != self.specs:
            raise ArtifactError(f"{self._path} changed while it was read; load it again.")
        tensors = {name: _view(content, spec, 8 + length) for name, spec in self.specs.items()}
        for name, tensor in tensors.items():
            if not _all_finite(tensor):
                raise ArtifactError(f"{self._path} holds NaN or infinite values in {name!r}; such a model is broken.")
        return tensors

    @property
    def _path(self) -> str:
        return repr(str(self.path))


def open_weights(file: BinaryIO, path: Path, *, sha256: str | None = None) -> StoredWeights:
    """Read and check the header of a safetensors file: sizes, offsets without hole or overlap, and no key twice.

    Parameters
    ----------
    file : file object
        Open for reading, in binary mode; the caller may close it afterwards.
    path : Path
        For errors.
    sha256 : str, optional
        What the file must hash to when it is read.

    Returns
    -------
    StoredWeights

    Raises
    ------
    ArtifactError
        Saying what is wrong with the file.

    References
    ----------
    https://huggingface.co/docs/safetensors (the format).
    """
    name = repr(str(path))
    size = file.seek(0, 2)
    file.seek(0)
    if size > MAX_WEIGHT_BYTES:
        raise ArtifactError(f"{name} has {size} bytes, more than the limit of {MAX_WEIGHT_BYTES}.")
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ArtifactError(f"{name} has {size} bytes and announces a header of {length}; it is damaged.")

    try:
        specs = _parse_header(file.read(length), size - 8 - length)
    except ArtifactError as error:
        raise ArtifactError(f"{name} is damaged: {error}") from error
    return StoredWeights(path, os.dup(file.fileno()), specs, size, sha256)


def weights_to_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file that :func:`open_weights` reads.

    Parameters
    ----------
    weights : mapping of str to Tensor
        On any device.

    Returns
    -------
    bytes

    Raises
    ------
    ArtifactError
        Naming the first tensor that is NaN or infinite in places or has a type that is not read again, or if the file
        would be larger than ``MAX_WEIGHT_BYTES``.

    Examples
    --------
    >>> import torch
    >>> from skastw.storage.weights import weights_to_bytes
    >>> weights_to_bytes({"bias": torch.zeros(2)})[-8:]
    b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES.values():
            expected = ", ".join(map(_word, _DTYPES.values()))
            raise ArtifactError(f"The weights {name!r} are {_word(tensor.dtype)}, expected one of {expected}.")
        if not _all_finite(tensor):
            raise ArtifactError(
                f"The weights {name!r} hold NaN or infinite values, and such a model predicts nothing. Fit it again, "
                "with lower learning rates (muon_lr, adam_lr) if it was training that led there."
            )

    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if n_bytes > MAX_WEIGHT_BYTES - MAX_HEADER_BYTES:
        raise ArtifactError(f"The weights take {n_bytes} bytes, more than the limit of {MAX_WEIGHT_BYTES} for a file.")
    try:
        return bytes(save(tensors, metadata={"format": "pt"}))
    except (SafetensorError, RuntimeError) as error:  # RuntimeError: tensors that share memory
        raise ArtifactError(f"The weights cannot be written: {error}.") from error


def _parse_header(header: bytes, n_bytes: int) -> dict[str, TensorSpec]:
    """Return what a header says, checked against the bytes that follow it."""
    entries = parse_json(header, "its header")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ArtifactError("its metadata are not strings.")
    specs = {name: _parse_entry(name[:200], entry) for name, entry in entries.items()}
    position = 0
    for name, spec in sorted(specs.items(), key=lambda item: (item[1].start, item[1].stop)):
        if spec.start != position:
            raise ArtifactError(f"{name[:200]!r} begins at byte {spec.start}, expected {position}.")
        position = spec.stop
    if position != n_bytes:
        raise ArtifactError(f"{n_bytes} bytes follow its header, which accounts for {position}.")
    return specs


def _parse_entry(name: str, entry: Any) -> TensorSpec:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ArtifactError(f"{name!r} is not described by dtype, shape and data_offsets.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise ArtifactError(f"{name!r} has dtype {str(dtype)[:50]!r}, expected one of {list(_DTYPES)}.")
    if not _is_sizes(shape) or len(shape) > _MAX_DIMS or not _is_sizes(offsets) or len(offsets) != 2:
        raise ArtifactError(f"{name!r} has a shape or offsets that are not sizes.")
    itemsize = _DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != math.prod(shape) * itemsize or offsets[0] % itemsize:
        raise ArtifactError(f"{name!r} of shape {shape} does not fit its bytes {offsets[0]} to {offsets[1]}.")
    return TensorSpec(_DTYPES[dtype], tuple(shape), *offsets)


def _is_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**48 for value in values)


def _view(content: bytearray, spec: TensorSpec, offset: int) -> Tensor:
    count = math.prod(spec.shape)
    if not count:
        return torch.empty(spec.shape, dtype=spec.dtype)
    return torch.frombuffer(content, dtype=spec.dtype, count=count, offset=offset + spec.start).view(spec.shape)


def _all_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    return bool(tensor.sum(dtype=torch.float64).isfinite()) or bool(tensor.isfinite().all())


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
