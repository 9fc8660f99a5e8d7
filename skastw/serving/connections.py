"""Connections: closed if their requests do not arrive, so that they cannot occupy the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uvicorn.protocols.http.h11_impl import H11Protocol

#: Most open connections.
_MAX_CONNECTIONS = 64


def bounded_protocol(idle_time: float, *, max_connections: int = _MAX_CONNECTIONS) -> type[H11Protocol]:
    """Return uvicorn's protocol for HTTP, with bounds on the time and the number of connections.

    uvicorn closes a connection on which nothing follows an answer. It waits without end for the head of a first
    request, for the rest of a head that has begun, and for a client that does not read its answer.

    Parameters
    ----------
    idle_time : float
        A connection is closed after this time (s) without a complete head of a request, or if its answer is not read.
        How long the application waits for the body of a request is its own decision.
    max_connections : int
        If more connections are open, the one that has made no progress for the longest time is closed. A connection
        whose request is complete and not yet answered is not closed.

    Returns
    -------
    type
        For the argument ``http`` of ``uvicorn.Config``.

    Examples
    --------
    >>> from skastw.serving.connections import bounded_protocol
    >>> bounded_protocol(10.0).__name__
    'BoundedProtocol'
    """
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class BoundedProtocol(H11Protocol):
        deadline: asyncio.TimerHandle

        @property
        def is_idle(self) -> bool:
            """Whether no request is complete, or its answer is not read."""
            return self.cycle is None or self.cycle.response_complete or self.flow.write_paused

        def restart(self) -> None:
            """Start the idle time again."""
            if hasattr(self, "deadline"):
                self.deadline.cancel()
            self.deadline = self.loop.call_later(idle_time, self.expire)

        def expire(self) -> None:
            if self.is_idle:
                self.transport.abort()  # not close, which waits until the answer is read
            else:
                self.restart()

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.restart()

            # the new connection is a candidate, so there is always one
            others = [one for one in self.connections if isinstance(one, BoundedProtocol)]
            alive = [one for one in others if not one.transport.is_closing()]
            if len(alive) > max_connections:
                waiting = [one for one in alive if one.is_idle or one.cycle.more_body]
                min(waiting, key=lambda one: one.deadline.when()).transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if not self.is_idle:  # pieces of a head do not count, pieces of a body do
                self.restart()

        def on_response_complete(self) -> None:
            self.restart()
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self.deadline.cancel()
            super().connection_lost(exc)

    return BoundedProtocol
