"""Devices and number formats of the network, and memory on them."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from skastw.core.text import did_you_mean
from skastw.errors import TrainingError, plain

#: Values of the parameter ``precision``.
PRECISIONS = ("auto", "float32", "bfloat16", "float64")
#: Devices that are suggested for a mistyped name.
_DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(device: str | torch.device) -> torch.device:
    """Return a torch device by its name.

    Parameters
    ----------
    device : str or torch.device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``, ... ``"auto"`` is the GPU if this machine has one,
        else the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If this machine has no such device.

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
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        # torch lists all types of devices, most of which nobody has
        problem = _unknown_device(str(device)) if reason.startswith("Expected one of") else f": {reason}"
        raise ValueError(
            f"Got device={plain(device)!r}, expected 'auto', 'cpu' or a device of this machine{problem}"
        ) from error
    return resolved


def _unknown_device(device: str) -> str:
    """Return the end of an error about a type of device that torch does not know, with a suggestion."""
    kind, colon, number = device.partition(":")
    if kind.lower() in ("gpu", "nvidia"):
        return f"; did you mean {f'cuda{colon}{number}'!r}?"
    return f", such as 'cuda' or 'mps'{did_you_mean(kind, _DEVICES) or '.'}"


def has_native_bfloat16(device: torch.device) -> bool:
    """Return whether ``device`` has native instructions for products of bfloat16 matrices.

    Emulated bfloat16 is many times slower than float32, so ``precision="auto"`` never selects it.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return the context manager that sets the number format of matrix products in training.

    Weights, gradients and optimiser states always stay in float32.

    Parameters
    ----------
    precision : str
        One of :data:`PRECISIONS`. ``"auto"`` is bfloat16 if the device has native instructions for it, else float32.
    device : torch.device
    """
    if precision == "bfloat16" or (precision == "auto" and has_native_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def out_of_memory(error: BaseException, **settings: int) -> TrainingError | None:
    """Return an error that names the settings to lower, or None if ``error`` has another cause than memory.

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
    """Return whether ``error`` reports that the memory of a CPU or GPU is exhausted.

    Examples
    --------
    >>> from skastw.core.device import is_out_of_memory
    >>> is_out_of_memory(RuntimeError("CUDA out of memory.")), is_out_of_memory(RuntimeError("shapes differ"))
    (True, False)
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY)


#: Parts of torch's messages about exhausted memory, on a GPU and on a CPU.
_NO_MEMORY = ("out of memory", "can't allocate memory", "defaultcpuallocator")


#: Bytes of the largest block after whose release glibc retains more memory, minus glibc's own overhead.
_LARGEST_ADAPTED = 32 * 2**20 - 2**16


@contextmanager
def retained_heap() -> Iterator[None]:
    """Retain freed memory in the process, for a loop that allocates blocks of the same sizes again and again.

    A training step frees tens of megabytes at its end. By default glibc returns them to the kernel, and the page faults
    of the next step take up to a tenth of its time. After one large block was freed, glibc retains blocks of up to that
    size. No setting is changed. When the context is left, the memory is returned to the kernel. On systems without
    glibc, this context manager does nothing.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        yield
        return
    torch.empty(_LARGEST_ADAPTED, dtype=torch.uint8)  # freed at once, and its pages are never used
    try:
        yield
    finally:
        libc.malloc_trim(0)
