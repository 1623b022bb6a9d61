"""The answer's way back to the client: a replica's as it comes, or a refusal of ours."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from engine.gateway.body import Message
from engine.gateway.connection import Response
from engine.gateway.exchange import Exchange
from engine.gateway.protocol import Refusal
from engine.gateway.records.metering import Meter

Send = Callable[[Message], Awaitable[None]]

# Hop by hop (RFC 9110, 7.6.1), or set by ourselves or by uvicorn.
NOT_PASSED_BACK = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
     b"upgrade", b"server", b"date", b"x-request-id", b"x-accel-buffering"}
)  # fmt: skip


def passed_back(headers: Sequence[tuple[bytes, bytes]]) -> tuple[list[tuple[bytes, bytes]], bool]:
    """Those of a replica's headers that the client sees, and whether they announce a stream of events."""
    passed, events = [], False
    for header in headers:
        name, value = header
        if name not in NOT_PASSED_BACK:
            passed.append(header)
            if name == b"content-type" and value.startswith(b"text/event-stream"):
                events = True
    return passed, events


async def pass_body(exchange: Exchange, response: Response, meter: Meter, send: Send) -> None:
    """Passes on what comes, as it comes; raises EndpointError when it breaks off."""
    more = True
    while more:
        data = await response.read()
        if exchange.streamed and exchange.ttft_s is None and data:
            exchange.ttft_s = asyncio.get_running_loop().time() - exchange.begun
        more = not response.complete or bool(response.chunks)
        data = meter.feed(data) if more else meter.feed(data) + meter.end()
        if data or not more:
            await send({"type": "http.response.body", "body": data, "more_body": more})


async def refuse(send: Send, refused: Refusal, request_id: bytes, more: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Sends a Refusal as the whole answer."""
    body = refused.body
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *more,
        *((name.encode(), value.encode()) for name, value in refused.headers.items()),
    ]
    if request_id:
        headers.append((b"x-request-id", request_id))
    if refused.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
