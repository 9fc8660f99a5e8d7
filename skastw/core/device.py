"""Where and in which number format the network runs."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from skastw.errors import TrainingError

__all__ = [
    "PRECISIONS",
    "autocast",
    "has_native_bfloat16",
    "is_out_of_memory",
    "on_device",
    "out_of_memory",
    "resolve_device",
    "retained_heap",
    "weight_dtype",
]

#: Values of the parameter ``precision``.
PRECISIONS = ("auto", "float32", "bfloat16", "float64")

M = TypeVar("M", bound=nn.Module)


def resolve_device(device: str | torch.device) -> torch.device:
    """Return the device that ``device`` names; ``"auto"`` is the GPU where there is one, else the CPU.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, ...

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If the name is not a device of this machine.

    Examples
    --------
    >>> from skastw.core.device import resolve_device
    >>> resolve_device("cpu")
    device(type='cpu')
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"Got device={device!r}, expected 'auto', 'cpu' or a device of this machine: {reason}"
        ) from error
    return found


def has_native_bfloat16(device: torch.device) -> bool:
    """Say whether ``device`` multiplies bfloat16 matrices in hardware.

    Emulated bfloat16 is many times slower than float32, so it is never chosen automatically.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context in which the network's matrix products run during training.

    ``"auto"`` is bfloat16 where the hardware has native instructions for it and float32 elsewhere; weights,
    gradients and optimiser states stay in float32 throughout.

    Parameters
    ----------
    precision : str
        One of :data:`PRECISIONS`.
    device : torch.device
    """
    if precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def on_device(model: M, device: torch.device) -> M:
    """Return ``model`` on ``device``, at once where its weights are there: moving looks at each of its parts.

    Examples
    --------
    >>> import torch
    >>> from skastw.core.device import on_device
    >>> on_device(torch.nn.Linear(2, 2), torch.device("cpu")).weight.device
    device(type='cpu')
    """
    there = next(model.parameters()).device
    same = there.type == device.type and (device.index is None or there.index == device.index)
    return model if same else model.to(device)


def out_of_memory(error: BaseException, **settings: int) -> TrainingError | None:
    """Return an error that names the settings to lower, or None if memory was not the cause of ``error``.

    Examples
    --------
    >>> from skastw.core.device import out_of_memory
    >>> print(out_of_memory(MemoryError(), batch_size=16))
    Out of memory with batch_size=16; lower it, or chunk_length, or take a smaller encoder.
    """
    if isinstance(error, TrainingError) or not is_out_of_memory(error):
        return None
    values = ", ".join(f"{name}={value}" for name, value in settings.items())
    return TrainingError(f"Out of memory with {values}; lower it, or chunk_length, or take a smaller encoder.")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an ``error`` says that no memory is left, on a CPU or a GPU.

    Examples
    --------
    >>> from skastw.core.device import is_out_of_memory
    >>> is_out_of_memory(RuntimeError("CUDA out of memory.")), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


#: How torch says that there is no memory left, on a GPU and on a CPU.
_NO_MEMORY = ("out of memory", "can't allocate memory", "defaultcpuallocator")


def weight_dtype(precision: str) -> torch.dtype:
    """Return the number format of the weights for a ``precision``: float64 if asked for, else float32."""
    return torch.float64 if precision == "float64" else torch.float32


#: The largest block (bytes) whose freeing makes glibc keep more memory from then on, but for its own administration.
_LARGEST_ADAPTED = 32 * 2**20 - 2**16


@contextmanager
def retained_heap() -> Iterator[None]:
    """Keep memory that is freed in the process, for a loop that frees and takes the same blocks again.

    A training step frees tens of megabytes at its end. At first glibc hands them to the kernel, and the next step
    faults them in page by page, which takes up to a tenth of its time. Freeing one large block ends that: glibc then
    keeps blocks of up to that size. No setting is changed. On leaving, the memory is handed back to the kernel.
    Without glibc, nothing happens.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        yield
        return
    torch.empty(_LARGEST_ADAPTED, dtype=torch.uint8)  # freed at once, and never touched
    try:
        yield
    finally:
        libc.malloc_trim(0)
