"""The weights on disk: a safetensors file whose header is checked before a value is read.

The ``safetensors`` library writes the file. Reading does not call it: it takes a path, which may lead to another file
meanwhile, or the whole content, which it copies, and it cannot check a header alone. It also accepts headers of 100 MB,
names that occur twice, unknown fields, any number of dimensions and offsets that are not aligned. Everything accepted
here is also accepted by the library, and has the same tensors there; a test compares the two.
"""

import hashlib
import math
import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from skastw.errors import ArtifactError
from skastw.storage.files import parse_json
from skastw.storage.schema import check

#: Longest header that is parsed; the header of the default model has 15 kB.
MAX_HEADER_BYTES = 4 * 2**20
#: Largest file that is read.
MAX_WEIGHT_BYTES = 2 * 2**30
_WRITTEN = {
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "F16": torch.float16,
    "U8": torch.uint8,
}
#: Checkpoints may be stored in half precision.
_DTYPES = {**_WRITTEN, "BF16": torch.bfloat16}
#: A length or an offset; products of eight stay exact, and no file is as large.
_Size = Annotated[int, Meta(ge=0, lt=2**48, description="an integer of 0 to 2**48")]


class TensorSpec(msgspec.Struct, forbid_unknown_fields=True):
    """Type, shape and place of a stored tensor, as the header describes it.

    Attributes
    ----------
    dtype : {"F32", "F64", "I64", "F16", "BF16", "U8"}
    shape : list of int
    data_offsets : list of two int
        Its first byte and the one after its last, counted from the end of the header.
    """

    dtype: Literal["F32", "F64", "I64", "F16", "BF16", "U8"]
    shape: Annotated[list[_Size], Meta(max_length=8)]
    data_offsets: Annotated[list[_Size], Meta(min_length=2, max_length=2, description="two integers")]


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """A safetensors file with a valid header, whose values are not read yet.

    The file stays open as long as this object lives. If another file replaces it meanwhile, the values are still read
    from the old one.

    Attributes
    ----------
    path : Path
        Used in errors.
    descriptor : int
        Descriptor of the open file.
    specs : dict of str to TensorSpec
        The tensors by name.
    size : int
        Size of the file in bytes.
    sha256 : str or None
        Expected SHA-256 of the whole file; None skips the comparison.
    """

    path: Path
    descriptor: int
    specs: dict[str, TensorSpec]
    size: int
    sha256: str | None

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.descriptor)

    def check(self, expected: Mapping[str, Tensor]) -> None:
        """Raise unless the names, shapes and dtypes of the tensors are those expected.

        Parameters
        ----------
        expected : mapping of str to Tensor
            Tensors of any values, such as the ``state_dict`` of a network.

        Raises
        ------
        ArtifactError
            Naming the first tensor that differs.
        """
        for name in sorted(expected.keys() | self.specs.keys()):
            stored, wanted = _describe(self.specs.get(name)), _describe(expected.get(name))
            if stored != wanted:
                raise ArtifactError(f"{str(self.path)!r} has {stored} for {name[:200]!r}, expected {wanted}.")

    def read(self) -> dict[str, Tensor]:
        """Return the tensors, which share one block of memory as large as the file.

        Raises
        ------
        ArtifactError
            If the file changed since it was opened, does not have its SHA-256, or contains NaN or infinite values.
        """
        content = bytearray(self.size)
        with os.fdopen(os.dup(self.descriptor), "rb") as file:
            file.seek(0)
            complete = file.readinto(content) == self.size and not file.read(1)

        name = repr(str(self.path))
        if self.sha256 is not None and hashlib.sha256(content).hexdigest() != self.sha256:
            raise ArtifactError(
                f"{name} is not the file that was saved: its SHA-256 is not the one in config.json. "
                "It was damaged or exchanged; fetch or save the model again."
            )
        offset = 8 + int.from_bytes(content[:8], "little")
        # The header was checked when the file was opened, and may have been overwritten since.
        if not complete or _parse_header(bytes(content[8:offset]), self.size - offset, self.path) != self.specs:
            raise ArtifactError(f"{name} changed while it was read; load it again.")

        tensors = {key: _view(content, spec, offset) for key, spec in self.specs.items()}
        for key, tensor in tensors.items():
            if not _all_finite(tensor):
                raise ArtifactError(
                    f"{name} holds NaN or infinite values in {key!r}, so the model cannot predict; train it again."
                )
        return tensors


def open_weights(
    file: BinaryIO, path: Path, *, sha256: str | None = None, max_bytes: int = MAX_WEIGHT_BYTES
) -> StoredWeights:
    """Read and check the header of a safetensors file.

    The tensors must have unique names, supported dtypes and at most 8 dimensions, and their bytes must follow each
    other without gap or overlap to the end of the file.

    Parameters
    ----------
    file : file object
        Open for reading, in binary mode; the caller may close it afterwards.
    path : Path
        Used in errors.
    sha256 : str, optional
        Expected SHA-256 of the file, compared when the values are read.
    max_bytes : int
        Largest size that is accepted.

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
    if size > max_bytes:
        raise ArtifactError(f"{name} has {size} bytes, more than the limit of {max_bytes}.")

    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ArtifactError(f"{name} has {size} bytes and announces a header of {length}; it is damaged.")
    specs = _parse_header(file.read(length), size - 8 - length, path)
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
        If a tensor contains NaN or infinite values or has another dtype than float16, float32, float64, int64 and
        uint8, or if the file would be larger than ``MAX_WEIGHT_BYTES``.

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
        if tensor.dtype not in _WRITTEN.values():
            expected = ", ".join(map(_word, _WRITTEN.values()))
            raise ArtifactError(f"The weights {name!r} are {_word(tensor.dtype)}, expected one of {expected}.")
        if not _all_finite(tensor):
            raise ArtifactError(
                f"The weights {name!r} hold NaN or infinite values, so the model cannot predict. Fit it again; if "
                "training diverged, with lower learning rates (muon_lr, adam_lr)."
            )

    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if n_bytes > MAX_WEIGHT_BYTES - MAX_HEADER_BYTES:
        raise ArtifactError(f"The weights take {n_bytes} bytes, more than the limit of {MAX_WEIGHT_BYTES} for a file.")
    try:
        return bytes(save(tensors, metadata={"format": "pt"}))
    except (SafetensorError, RuntimeError) as error:  # RuntimeError: tensors that share memory
        raise ArtifactError(f"The weights cannot be written: {error}.") from error


def _parse_header(header: bytes, n_bytes: int, path: Path) -> dict[str, TensorSpec]:
    """Return the tensors that a header describes, checked against the number of bytes that follow it."""
    entries = parse_json(header, f"The header of {str(path)!r}")
    check(entries.pop("__metadata__", {}), dict[str, str], f"{path}: __metadata__", ArtifactError)
    parsed = check(entries, dict[str, TensorSpec], str(path), ArtifactError)

    position = 0
    for name, spec in sorted(parsed.items(), key=lambda item: item[1].data_offsets):
        start, stop = spec.data_offsets
        if start != position:
            raise ArtifactError(
                f"{str(path)!r} is damaged: {name[:200]!r} begins at byte {start}, expected {position}."
            )
        itemsize = _DTYPES[spec.dtype].itemsize
        if stop - start != math.prod(spec.shape) * itemsize or start % itemsize:
            raise ArtifactError(
                f"{str(path)!r} is damaged: {name[:200]!r} of shape {spec.shape} does not fit its bytes {start} to "
                f"{stop}."
            )
        position = stop

    if position != n_bytes:
        raise ArtifactError(
            f"{str(path)!r} is damaged: {n_bytes} bytes follow its header, which accounts for {position}."
        )
    return parsed


def _view(content: bytearray, spec: TensorSpec, offset: int) -> Tensor:
    count, dtype = math.prod(spec.shape), _DTYPES[spec.dtype]
    if not count:
        return torch.empty(spec.shape, dtype=dtype)
    start = offset + spec.data_offsets[0]
    return torch.frombuffer(content, dtype=dtype, count=count, offset=start).view(spec.shape)


def _all_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    # in parts, because of the temporary tensors, which may be larger than the weights
    return all(bool(part.isfinite().all()) for part in tensor.reshape(-1).split(2**20))


def _describe(tensor: TensorSpec | Tensor | None) -> str:
    """Return dtype and shape in words, for errors and to compare them."""
    if tensor is None:
        return "nothing"
    dtype = _DTYPES[tensor.dtype] if isinstance(tensor, TensorSpec) else tensor.dtype
    return f"{_word(dtype)} of shape {list(tensor.shape)}"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
