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
from skastw.serving.access import is_own_page, is_trusted, security_headers
from skastw.serving.listener import Listener

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

#: Largest upload (bytes), longest time for it to arrive, and longest time without a byte of it (s).
MAX_UPLOAD, _UPLOAD_TIME, _STALL_TIME = 50_000_000, 60.0, 10.0
#: Most clips that wait for their prediction. All uploads together take the memory of as many clips of the largest size.
_MAX_CLIPS = 4
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
    stall_time: float = _STALL_TIME,
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
    stall_time : float
        Longest time in which no byte of an audio file arrives (s).
    host : str
        Name or IP address to serve at. Requests for another host are refused; see ``is_trusted`` in
        ``skastw.serving.access``.

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
    more may wait; further requests are answered with status 503. So are clips that would take more memory than four
    clips of the size ``max_upload``, together with the clips that are arriving or waiting.

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
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    if max_upload < 1:
        raise ValueError(f"Got max_upload={plain(max_upload)!r}, expected a number of bytes.")
    if "*" in host:
        raise ValueError(f"Got host={plain(host)!r}, expected a name or an IP address without '*'.")

    listener = Listener.of(classifier, top_k=top_k, window=window)
    about = {"title": title, "version": __version__, **listener.about()}
    about |= {"max_upload": max_upload, "max_seconds": _DURATION}
    page = render("skastw.serving", "page.html", title=title, model=about)
    handlers = _Handlers(listener, security_headers(page), max_upload, upload_time, stall_time)
    return Starlette(
        routes=[
            Route("/", HTMLResponse(page, headers=handlers.headers), methods=["GET"]),
            Route("/api/model", handlers.answer(about), methods=["GET"]),
            Route("/api/predict", handlers.predict, methods=["POST"]),
        ],
        middleware=[Middleware(_TrustedHosts, host=host, handlers=handlers)],
        exception_handlers={HTTPException: handlers.refuse, Exception: handlers.fail},
        lifespan=handlers.open,
    )


class _Handlers:
    """Functions that answer requests, with headers for all answers and the limits of :func:`create_app`."""

    def __init__(
        self, listener: Listener, headers: Mapping[str, str], max_upload: int, upload_time: float, stall_time: float
    ) -> None:
        self.listener, self.headers = listener, headers
        self.max_upload, self.upload_time, self.stall_time = max_upload, upload_time, stall_time
        self.n_bytes, self.n_clips, self.turn = 0, 0, asyncio.Lock()  # of uploads in memory, and clips that wait
        self.decode: Decoder

    @contextlib.asynccontextmanager
    async def open(self, app: Starlette) -> AsyncIterator[None]:
        """Run the process that decodes, as long as the application runs."""
        limits = Limits(file_size=self.max_upload, values=_VALUES, duration=_DURATION)
        with isolated_decoding(
            timeout=_DECODING_TIME, memory=_DECODING_MEMORY, workers=1, limits=limits
        ) as self.decode:
            yield

    async def predict(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.exceptions import HTTPException

        if not is_own_page(request.headers):
            raise HTTPException(403, "Only the page itself may send clips, not another site.")

        content = bytearray()
        try:
            await self.take(request, content)
            self.n_clips += 1
            try:
                async with self.turn:
                    return self.answer(await run_in_threadpool(self.hear, bytes(content)))
            finally:
                self.n_clips -= 1
        except SkastwError as error:
            reason = error.reason if isinstance(error, ClipError) else str(error)
            raise HTTPException(422, " ".join(reason.split())) from error
        finally:
            self.n_bytes -= len(content)

    async def take(self, request: Request, content: bytearray) -> None:
        """Read a clip into ``content``, within the limits, whatever length the request announces."""
        from starlette.requests import ClientDisconnect

        too_large = _refusal(413, f"The clip is larger than {self.max_upload / 1e6:g} MB: send a shorter one.")
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and float(announced) > self.max_upload:
            raise too_large

        clock = asyncio.get_running_loop().time
        latest = clock() + self.upload_time
        try:
            async with asyncio.timeout(min(self.stall_time, self.upload_time)) as deadline:
                async for piece in request.stream():
                    deadline.reschedule(min(clock() + self.stall_time, latest))
                    if len(content) + len(piece) > self.max_upload:
                        raise too_large
                    if self.n_clips >= _MAX_CLIPS or self.n_bytes + len(piece) > _MAX_CLIPS * self.max_upload:
                        raise _refusal(503, "Other clips are being analysed: try again in a moment.")
                    content += piece
                    self.n_bytes += len(piece)
        except TimeoutError:
            times = f"{self.stall_time:g} s without a byte, or {self.upload_time:g} s in all"
            raise _refusal(408, f"The clip did not arrive in time ({times}): try again.") from None
        except ClientDisconnect:
            raise _refusal(400, "The connection was closed before the clip had arrived.") from None

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
        self.app, self.host, self.handlers = app, host, handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.datastructures import Headers

        app = self.app
        if scope["type"] == "http" and not is_trusted(Headers(scope=scope).get("host", ""), self.host):
            refusal = {"error": "This server answers to its own names only: open the address that skastw demo printed."}
            app = self.handlers.answer(refusal, status=421)
        await app(scope, receive, send)


def _refusal(status: int, reason: str) -> HTTPException:
    """Return the refusal of a clip that has not arrived: the connection is closed, without waiting for the rest."""
    from starlette.exceptions import HTTPException

    retry = {"Retry-After": "2"} if status == 503 else {}
    return HTTPException(status, reason, {"Connection": "close", **retry})
