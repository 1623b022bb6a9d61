"""Work for a client that may leave: it ends with the client's connection, streamed or not."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine.errors import EngineError
from engine.gateway.advanced.answers import encode
from engine.gateway.protocol import Refusal, Refused, refusal

log = logging.getLogger("engine.gateway")
T = TypeVar("T")
# Often enough that no proxy on the way takes the silence for the end.
KEEP_ALIVE_S = 10.0
LEFT = Refusal(499, "the client left before the answer", "api_error", "client_left")


async def unless_left(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """What the work comes to; when the client leaves before, the work is cancelled and Refused (499) is raised.

    The body must have been read already: whatever else comes in is thrown away.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Refused(LEFT)
    finally:
        await _end(working, watching)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Events(Response):
    """Server-sent events made of an asynchronous generator of JSON values, then `[DONE]`.

    An EngineError after the start is the last event; while nothing comes, a comment now and then keeps the line open.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[Any, None], headers: dict[str, str] | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no", **(headers or {})})
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            await unless_left(receive, stream(self._events, send))
        except Refused as error:
            if error.refusal is not LEFT:
                raise


async def stream(events: AsyncGenerator[Any, None], send: Send) -> None:
    """Sends events and the end of the body; the generator is closed whatever happens."""
    async with aclosing(events):
        try:
            await _send_all(events, send)
        except Exception as error:
            if not isinstance(error, EngineError):
                log.exception("a stream failed in a way nobody foresaw")
            await _say(send, event(refusal(error).payload))
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})


async def _send_all(events: AsyncGenerator[Any, None], send: Send) -> None:
    coming: asyncio.Future[Any] = asyncio.ensure_future(_next(events))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=KEEP_ALIVE_S)
            if not done:
                await _say(send, b": still at it\n\n")
                continue
            found = coming.result()
            if not found:
                return
            await _say(send, event(found[0]))
            coming = asyncio.ensure_future(_next(events))
    finally:
        await _end(coming)


async def _next(events: AsyncGenerator[Any, None]) -> tuple[Any, ...]:
    """The next event in a tuple; () at the end."""
    async for value in events:
        return (value,)
    return ()


def event(value: Any) -> bytes:
    return b"data: %b\n\n" % encode(value)


async def _say(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
