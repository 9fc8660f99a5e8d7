"""Import and use torch's compiler without its side effects on the environment and the temporary files."""

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_LOCK = threading.Lock()


def import_compiler() -> None:
    """Import torch's compiler and undo the side effects of this import.

    Torch's optimisers, exporters and dispatch modes import the compiler when they are first used. If it is imported
    here before, they have no side effects either.

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
    """Restore the environment and the temporary files after torch's compiler was imported or used.

    When the compiler is imported, it creates a temporary folder for compiled code and sets an environment variable to
    its path, even if nothing is compiled. It does both again when it compiles something. A folder that is not empty
    is kept.
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
                    with contextlib.suppress(OSError):  # not empty: another process compiles
                        folder.rmdir()


def _cache_folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("torchinductor_*"))
