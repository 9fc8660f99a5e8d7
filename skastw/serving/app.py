"""The web application: one page, what it says of the model, and the predictions for one clip at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from skastw.audio import Limits, isolated_decoding, load_waveform
from skastw.audio.isolation import Decoder
from skastw.core.optional import import_optional
from skastw.core.version import __version__
from skastw.errors import ClipError, SkastwError
from skastw.estimators.classifier import ASTWClassifier
from skastw.serving.access import is_own_page, is_trusted_name, security_headers
from skastw.serving.listener import Listener

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["MAX_UPLOAD", "create_app"]

#: Bytes of an upload, seconds that it may take to arrive, and uploads that are held in memory while they wait.
MAX_UPLOAD, _UPLOAD_TIME, _MOST_WAITING = 50_000_000, 60.0, 4
#: Seconds of a clip, values (samples times channels) once decoded, and what its decoding may take.
_DURATION, _VALUES, _DECODING_TIME, _DECODING_MEMORY = 600.0, 2**26, 20.0, 2**30


def create_app(
    classifier: ASTWClassifier,
    *,
    title: str = "skastw",
    top_k: int = 5,
    window: float | None = None,
    max_upload: int = MAX_UPLOAD,
    upload_time: float = _UPLOAD_TIME,
    host: str = "127.0.0.1",
) -> Starlette:
    """Return the demo page of a classifier as an ASGI application, which :func:`skastw.serving.serve` serves.

    ``GET /`` is the page, ``GET /api/model`` says what it needs to know of the model, and ``POST /api/predict`` takes
    the bytes of an audio file and answers with JSON: ``seconds``, ``top``, ``spectrogram`` and ``windows``, or
    ``error``. Needs the extra ``demo``.

    Parameters
    ----------
    classifier : ASTWClassifier
        Fitted, and of clips.
    title : str
        Name of the model, the heading of the page.
    top_k : int
        Classes to show.
    window : float, optional
        Seconds of the windows along a clip; by default a fifth of it, within half a second and five seconds.
    max_upload : int
        Bytes of a clip.
    upload_time : float
        Seconds in which a clip must have arrived.
    host : str
        Name or address that it will be served at; a request for another name is refused. See
        ``is_trusted_name`` in ``skastw.serving.access``.

    Returns
    -------
    Starlette

    Raises
    ------
    TypeError
        If the model is no ``ASTWClassifier``, or one of precomputed frames.
    ValueError
        If ``top_k``, ``window`` or ``max_upload`` is too small.
    MissingDependencyError
        Without the extra ``demo``.

    Notes
    -----
    Clips are decoded in a process of its own, with limits: 50 MB, ten minutes. One is predicted at a time and three
    more may wait; others are told to come back.

    Examples
    --------
    >>> from skastw import ASTWClassifier
    >>> from skastw.datasets import make_tones
    >>> from skastw.serving import create_app
    >>> X, y = make_tones(n_clips=8, n_classes=2, random_state=0)
    >>> clf = ASTWClassifier(epochs=1, encoder="stacked_cnn", val_split=None).fit(X, y)
    >>> app = create_app(clf, title="Tones")
    >>> sorted(route.path for route in app.routes)
    ['/', '/api/model', '/api/predict']
    """
    import_optional("starlette", extra="demo", purpose="The demo page")
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.routing import Route

    if max_upload < 1:
        raise ValueError(f"Got max_upload={max_upload!r}, expected a number of bytes.")
    listener = Listener(classifier, top_k=top_k, window=window)
    desk = _Desk(listener, title=title, max_upload=max_upload, upload_time=upload_time)
    return Starlette(
        routes=[
            Route("/", desk.page),
            Route("/api/model", desk.about),
            Route("/api/predict", desk.predict, methods=["POST"]),
        ],
        middleware=[Middleware(_OwnNames, host=host, desk=desk)],
        exception_handlers={HTTPException: desk.refuse, Exception: desk.fail},
        lifespan=desk.open,
    )


class _Desk:
    """Where requests are answered."""

    def __init__(self, listener: Listener, *, title: str, max_upload: int, upload_time: float) -> None:
        self.listener = listener
        self.title, self.max_upload, self.upload_time = title, max_upload, upload_time
        self.html = files("skastw.serving").joinpath("page.html").read_text(encoding="utf-8")
        self.headers = security_headers(self.html)
        self.waiting, self.turn = 0, asyncio.Lock()
        self.decode: Decoder

    @contextlib.asynccontextmanager
    async def open(self, app: Starlette) -> AsyncIterator[None]:
        """Keep a process that decodes while the application runs."""
        limits = Limits(file_size=self.max_upload, values=_VALUES, duration=_DURATION)
        with isolated_decoding(
            timeout=_DECODING_TIME, memory=_DECODING_MEMORY, workers=1, limits=limits
        ) as self.decode:
            yield

    async def page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        return HTMLResponse(self.html, headers=self.headers)

    async def about(self, request: Request) -> Response:
        limits = {"max_upload": self.max_upload, "max_seconds": _DURATION}
        return self.answer({"title": self.title, "version": __version__, **self.listener.about(), **limits})

    async def predict(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.exceptions import HTTPException

        if not is_own_page(request.headers):
            raise HTTPException(403, "Only the page itself may send clips, not another site.")
        if self.waiting >= _MOST_WAITING:
            raise HTTPException(503, "Other clips are being analysed: try again in a moment.", {"Retry-After": "2"})
        self.waiting += 1
        try:
            content = await _body(request, self.max_upload, self.upload_time)
            async with self.turn:
                return self.answer(await run_in_threadpool(self.hear, content))
        except SkastwError as error:
            reason = error.reason if isinstance(error, ClipError) else str(error)
            raise HTTPException(422, " ".join(reason.split())) from error
        finally:
            self.waiting -= 1

    def hear(self, content: bytes) -> dict[str, Any]:
        """Decode and predict; in a thread, one at a time."""
        samples, rate = self.decode(content)
        return self.listener.hear(load_waveform((samples.T, rate), self.listener.classifier.sample_rate_))

    async def refuse(self, request: Request, error: Exception) -> Response:
        status, detail = getattr(error, "status_code", 500), getattr(error, "detail", "")
        return self.answer({"error": detail}, status=status, headers=getattr(error, "headers", None))

    async def fail(self, request: Request, error: Exception) -> Response:
        """Answer in the place of an error of our own, which goes to the log and not to the page."""
        return self.answer({"error": "The server failed; what happened is in its log."}, status=500)

    def answer(
        self, content: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(content, status_code=status, headers={**self.headers, **(headers or {})})


class _OwnNames:
    """Refuse requests for a name that is not this server's."""

    def __init__(self, app: ASGIApp, *, host: str, desk: _Desk) -> None:
        self.app, self.host, self.desk = app, host, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers

        if scope["type"] == "http" and not is_trusted_name(Headers(scope=scope).get("host", ""), self.host):
            refusal = {"error": "This server answers to its own names only: open the address that skastw demo printed."}
            await self.desk.answer(refusal, status=421)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """Return what a request holds; never more than ``most`` bytes are read, whatever it announces."""
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    def refusal(status: int, reason: str) -> HTTPException:
        return HTTPException(status, reason, {"Connection": "close"})  # the rest is not waited for

    too_large = refusal(413, f"The clip is larger than {most / 1e6:g} MB: send a shorter one.")
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and float(announced) > most:
        raise too_large

    async def read() -> bytes:
        body = bytearray()
        async for piece in request.stream():
            if len(body) + len(piece) > most:
                raise too_large
            body += piece
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), seconds)
    except TimeoutError:
        raise refusal(408, f"The clip had not arrived after {seconds:g} s: try again.") from None
    except ClientDisconnect:
        raise refusal(400, "The connection was closed before the clip had arrived.") from None
