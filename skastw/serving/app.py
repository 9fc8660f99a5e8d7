"""The web application: a page, facts about the model, and predictions for one clip at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from skastw.audio import Limits, isolated_decoding, load_waveform
from skastw.audio.isolation import Decoder
from skastw.core.optional import import_optional
from skastw.core.templates import render
from skastw.core.version import __version__
from skastw.errors import ClipError, SkastwError, plain
from skastw.estimators.classifier import ASTWClassifier
from skastw.serving.access import is_own_page, is_trusted_address, security_headers, trusted_names
from skastw.serving.listener import Listener

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Largest upload (bytes), longest time for it to arrive (s), and most uploads in memory.
MAX_UPLOAD, _UPLOAD_TIME, _MAX_UPLOADS = 50_000_000, 60.0, 4
#: Longest clip (s), most decoded values (samples times channels), and limits of the decoding (s, bytes).
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

    ``GET /`` returns the page and ``GET /api/model`` returns facts about the model. ``POST /api/predict`` takes the
    bytes of an audio file and answers with JSON: ``seconds``, ``top``, ``spectrogram`` and ``windows``, or ``error``.
    Needs the extra ``demo``.

    Parameters
    ----------
    classifier : ASTWClassifier
        Fitted on clips, not on precomputed frames.
    title : str
        Name of the model, the heading of the page.
    top_k : int
        Number of classes to show.
    window : float, optional
        Length of the windows along a clip (s); by default a fifth of the clip, but from 0.5 to 5 seconds.
    max_upload : int
        Largest size of an audio file (bytes).
    upload_time : float
        Longest time for an audio file to arrive (s).
    host : str
        Name or IP address to serve at. Requests for another host are refused; see ``trusted_names`` and
        ``is_trusted_address`` in ``skastw.serving.access``.

    Returns
    -------
    Starlette

    Raises
    ------
    TypeError
        If the model is not an ``ASTWClassifier``, or takes precomputed frames.
    ValueError
        If ``top_k``, ``window`` or ``max_upload`` is too small, or ``host`` is a pattern.
    MissingDependencyError
        Without the extra ``demo``.

    Notes
    -----
    Clips are decoded in a separate process, with limits: 50 MB, ten minutes. One clip is predicted at a time and three
    more may wait; further requests are answered with status 503.

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
        raise ValueError(f"Got max_upload={plain(max_upload)!r}, expected a number of bytes.")
    if "*" in host:
        raise ValueError(f"Got host={plain(host)!r}, expected a name or an IP address without '*'.")

    listener = Listener.of(classifier, top_k=top_k, window=window)
    handlers = _Handlers(listener, title=title, max_upload=max_upload, upload_time=upload_time)
    return Starlette(
        routes=[
            Route("/", handlers.page),
            Route("/api/model", handlers.model),
            Route("/api/predict", handlers.predict, methods=["POST"]),
        ],
        middleware=[Middleware(_TrustedHosts, host=host, handlers=handlers)],
        exception_handlers={HTTPException: handlers.refuse, Exception: handlers.fail},
        lifespan=handlers.open,
    )


class _Handlers:
    """Functions that answer requests."""

    def __init__(self, listener: Listener, *, title: str, max_upload: int, upload_time: float) -> None:
        self.listener, self.max_upload, self.upload_time = listener, max_upload, upload_time
        limits = {"max_upload": max_upload, "max_seconds": _DURATION}
        self.about = {"title": title, "version": __version__, **listener.about(), **limits}

        self.html = render("skastw.serving", "page.html", title=title, model=self.about)
        self.headers = security_headers(self.html)

        self.n_uploads, self.turn = 0, asyncio.Lock()
        self.decode: Decoder

    @contextlib.asynccontextmanager
    async def open(self, app: Starlette) -> AsyncIterator[None]:
        """Run the process that decodes, as long as the application runs."""
        limits = Limits(file_size=self.max_upload, values=_VALUES, duration=_DURATION)
        with isolated_decoding(
            timeout=_DECODING_TIME, memory=_DECODING_MEMORY, workers=1, limits=limits
        ) as self.decode:
            yield

    async def page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        return HTMLResponse(self.html, headers=self.headers)

    async def model(self, request: Request) -> Response:
        return self.answer(self.about)

    async def predict(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.exceptions import HTTPException

        if not is_own_page(request.headers):
            raise HTTPException(403, "Only the page itself may send clips, not another site.")
        if self.n_uploads >= _MAX_UPLOADS:
            raise HTTPException(503, "Other clips are being analysed: try again in a moment.", {"Retry-After": "2"})

        self.n_uploads += 1
        try:
            content = await _body(request, self.max_upload, self.upload_time)
            async with self.turn:
                return self.answer(await run_in_threadpool(self.hear, content))
        except SkastwError as error:
            reason = error.reason if isinstance(error, ClipError) else str(error)
            raise HTTPException(422, " ".join(reason.split())) from error
        finally:
            self.n_uploads -= 1

    def hear(self, content: bytes) -> dict[str, Any]:
        """Decode and predict; in a thread, one at a time."""
        samples, rate = self.decode(content)
        return self.listener.hear(load_waveform((samples.T, rate), self.listener.sample_rate))

    async def refuse(self, request: Request, error: Exception) -> Response:
        status, detail = getattr(error, "status_code", 500), getattr(error, "detail", "")
        return self.answer({"error": detail}, status=status, headers=getattr(error, "headers", None))

    async def fail(self, request: Request, error: Exception) -> Response:
        """Answer after an unexpected error, whose details go to the log and not to the page."""
        return self.answer({"error": "The server failed; the details are in its log."}, status=500)

    def answer(
        self, content: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse(content, status_code=status, headers={**self.headers, **(headers or {})})


class _TrustedHosts:
    """Refuse requests whose header ``Host`` is not this server, in JSON as all errors."""

    def __init__(self, app: ASGIApp, *, host: str, handlers: _Handlers) -> None:
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        self.app, self.host, self.handlers = app, host, handlers
        self.named = TrustedHostMiddleware(app, allowed_hosts=trusted_names(host), www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers

        async def send_from_routes(message: Message) -> None:
            if "router" in scope:  # the request was not refused before it reached the routes
                await send(message)

        is_address = scope["type"] == "http" and is_trusted_address(Headers(scope=scope).get("host", ""), self.host)
        await (self.app if is_address else self.named)(scope, receive, send_from_routes)
        if "router" not in scope:
            refusal = {"error": "This server answers to its own names only: open the address that skastw demo printed."}
            await self.handlers.answer(refusal, status=421)(scope, receive, send)


async def _body(request: Request, most: int, seconds: float) -> bytes:
    """Return the body of a request, of which at most ``most`` bytes are read, whatever length it announces."""
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    def refusal(status: int, reason: str) -> HTTPException:
        return HTTPException(status, reason, {"Connection": "close"})  # do not wait for the rest

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
