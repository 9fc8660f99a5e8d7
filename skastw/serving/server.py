"""The server of the demo page."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from skastw.core.optional import import_optional
from skastw.core.text import readable
from skastw.estimators.classifier import ASTWClassifier
from skastw.serving.access import is_local
from skastw.serving.app import MAX_UPLOAD, create_app

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
#: Longest wait for a request and for the reading of its answer, and for the last answers at the end (s).
_IDLE_TIME, _END_TIME = 10.0, 5


def serve(
    classifier: ASTWClassifier,
    *,
    title: str = "skastw",
    host: str = "127.0.0.1",
    port: int = 7860,
    top_k: int = 5,
    window: float | None = None,
    max_upload: int = MAX_UPLOAD,
    open_browser: bool = True,
) -> None:
    """Serve the demo page of a classifier until Ctrl-C. Needs the extra ``demo``.

    The address is printed on standard error.

    Parameters
    ----------
    classifier, title, top_k, window, max_upload
        As in :func:`skastw.serving.create_app`.
    host : str
        Address to serve at; by default only this machine can reach it. For another address a warning is printed:
        everybody who reaches it can use the model, and browsers on other machines record only over ``https``.
    port : int
        Port to serve at; 0 for a free port.
    open_browser : bool
        Open the page in a browser.

    Raises
    ------
    OSError
        If the address or port cannot be used, for example because another program uses it.
    TypeError, ValueError, MissingDependencyError
        As in :func:`skastw.serving.create_app`.
    """
    app = create_app(classifier, title=title, top_k=top_k, window=window, max_upload=max_upload, host=host)
    server = new_server(app)
    with _listening(host, port) as listening:
        url = _url(host, listening.getsockname()[1])
        if not is_local(host):
            warning = "everybody who can reach this machine can use this page; browsers record on https only."
            print(f"skastw: warning: {warning}", file=sys.stderr, flush=True)
        print(f"skastw: {title} is at {url} until Ctrl-C", file=sys.stderr, flush=True)

        if open_browser:  # in a thread, because a browser in the terminal runs until it is closed
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])


def new_server(app: Starlette, *, idle_time: float = _IDLE_TIME) -> uvicorn.Server:
    """Return the server of an application, with limits on connections and without a log of requests.

    Parameters
    ----------
    app : Starlette
    idle_time : float
        See :func:`skastw.serving.connections.bounded_protocol`.
    """
    uvicorn = import_optional("uvicorn", extra="demo", purpose="The demo page")
    from skastw.serving.connections import bounded_protocol

    config = uvicorn.Config(
        app,
        http=bounded_protocol(idle_time),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_END_TIME,
    )
    return uvicorn.Server(config)


def model_name(model: str | os.PathLike[str]) -> str:
    """Return the name of a saved model, for people.

    Parameters
    ----------
    model : path or str
        Folder of the model, or its repository on the Hub.

    Returns
    -------
    str
        The repository; or the name of the folder, with the name of its parent if that says more (``sounds/model``).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from skastw.serving import model_name
    >>> folder = Path(tempfile.mkdtemp()) / "sounds" / "model"
    >>> folder.mkdir(parents=True)
    >>> model_name(folder), model_name(folder.parent), model_name("user/sounds")
    ('sounds/model', 'sounds', 'user/sounds')
    """
    if not os.path.isdir(model):
        return os.fspath(model)
    parts = Path(os.path.abspath(model)).parts
    return readable("/".join(parts[-2:] if parts[-1] == "model" else parts[-1:]))  # skastw train writes DIR/model


def parse_size(text: str) -> int:
    """Return the number of bytes of a size such as ``"50MB"``.

    Parameters
    ----------
    text : str
        A number, followed by B, kB, MB, GB, KiB, MiB, GiB or no unit.

    Raises
    ------
    ValueError
        If the text is not a size.

    Examples
    --------
    >>> from skastw.serving import parse_size
    >>> parse_size("50MB"), parse_size("1.5 MiB")
    (50000000, 1572864)
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"Got the size {text!r}, expected one such as '50MB', '800kB' or '2GiB'.")
    return round(float(match[1]) * _UNITS[match[2]])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(f"Cannot serve at {host}, port {port} ({reason}): give another --port or --host.") from error


def _url(host: str, port: int) -> str:
    name = "localhost" if host in ("", "0.0.0.0", "::") else host
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
