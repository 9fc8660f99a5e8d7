"""Torch's compiler, which torch's optimisers, exporters and dispatch modes import, without what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["import_compiler", "removed_traces"]

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_LOCK = threading.Lock()


def import_compiler() -> None:
    """Import the compiler, as the first optimiser or dispatch mode would, without what that leaves behind.

    Examples
    --------
    >>> import os
    >>> from skastw.core.compiler import import_compiler
    >>> before = dict(os.environ)
    >>> import_compiler()
    >>> os.environ == before
    True
    """
    if "torch._dynamo" not in sys.modules:
        with removed_traces():
            import torch._dynamo  # noqa: F401


@contextlib.contextmanager
def removed_traces() -> Iterator[None]:
    """Leave the environment and the temporary files as they were before torch's compiler was imported or used.

    Its modules make a folder for compiled code among the temporary files and put its name into the environment, even
    if nothing is compiled. Torch does both again when it compiles something. A folder that holds anything stays.
    """
    with _LOCK:
        variable = os.environ.get(_CACHE)
        folders = set(_cache_folders())
        try:
            yield
        finally:
            if variable is not None:
                os.environ[_CACHE] = variable
            else:
                os.environ.pop(_CACHE, None)
                for folder in set(_cache_folders()) - folders:
                    with contextlib.suppress(OSError):  # another process compiles
                        folder.rmdir()


def _cache_folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("torchinductor_*"))
