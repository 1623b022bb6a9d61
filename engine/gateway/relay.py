"""The hot path, raw ASGI: parse, pick, forward, stream. Bytes pass through untouched."""

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from engine.errors import AccessDenied, EndpointError, EngineError
from engine.gateway.access import NO_KEY, WRONG_KEY
from engine.gateway.body import ClientLeft, Message, Receive, discard, model_of, read_body, renamed
from engine.gateway.connection import Response
from engine.gateway.forwarding import Forwarder
from engine.gateway.keys import Keys
from engine.gateway.metrics import NO_MODEL, Counts
from engine.gateway.protocol import Refusal, Refused, refusal
from engine.gateway.routes import Routes, Target

Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger("engine.relay")

PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"})
# In the scope of a request that came by a deployment's own address: its name.
DEPLOYMENT = "engine.deployment"
CLIENT_LEFT = 499
SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
# Hop by hop (RFC 9110, 7.6.1), or set by ourselves or by uvicorn.
NOT_PASSED_BACK = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
     b"upgrade", b"server", b"date", b"x-request-id", b"x-accel-buffering"}
)  # fmt: skip


class Exchange:
    """One request on its way; once it takes long, it listens for its client's leaving and then ends it upstream."""

    __slots__ = ("begun", "headers", "left", "name", "query", "receive", "request_id", "response", "started", "watch")

    def __init__(self, receive: Receive, begun: float) -> None:
        self.receive, self.begun = receive, begun
        self.name = NO_MODEL
        self.headers = self.request_id = self.query = b""
        self.left = self.started = False
        self.response: Response | None = None
        self.watch: asyncio.Task[None] | None = None

    def slow(self, response: Response) -> None:
        self.response = response
        if self.left:
            response.abort(ClientLeft())
        elif self.watch is None:
            self.watch = asyncio.create_task(self._until_left())

    async def _until_left(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.left = True
        if self.response is not None:
            self.response.abort(ClientLeft())

    def end(self) -> None:
        if self.watch is not None:
            self.watch.cancel()


class Relay:
    """ASGI application of the inference routes."""

    def __init__(self, routes: Routes, keys: Keys, counts: Counts) -> None:
        self._routes, self._keys, self._counts = routes, keys, counts
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)
        self._forwarder = Forwarder(routes, counts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        exchange = Exchange(receive, loop.time())
        counts = self._counts
        counts.in_flight += 1
        status = CLIENT_LEFT
        try:
            status = await self._serve(exchange, scope, send)
        except ClientLeft:
            counts.left += 1
        except EngineError as error:
            if not exchange.started:
                refused = refusal(error)
                status = refused.status
                await refuse(send, refused, exchange.request_id)
        except Exception as error:
            log.exception("request %s failed", exchange.request_id.decode())
            status = 500
            if not exchange.started:
                await refuse(send, refusal(error), exchange.request_id)
        finally:
            counts.in_flight -= 1
            counts.ended(exchange.name, status)
            exchange.end()

    async def _serve(self, exchange: Exchange, scope: Scope, send: Send) -> int:
        """Answers one request; returns the status that the client saw."""
        token, length = self._read_head(exchange, scope)
        named = scope.get(DEPLOYMENT)
        if not await self._may_ask(token, named):
            await discard(exchange.receive, length)
            raise AccessDenied(NO_KEY if not token else WRONG_KEY)
        body = await read_body(exchange.receive, length)
        model = named or model_of(body)
        if not self._routes.ready:
            await self._routes.wait()
        route = self._routes.serving(model)
        exchange.name = route.name
        if route.alias:
            body = renamed(body, route.name)
        line = b"POST %b%b HTTP/1.1\r\n" % (scope["path"].encode(), exchange.query)
        target, response = await self._forwarder.forward(model, line, exchange.headers, body, exchange)
        try:
            return await self._pass_back(exchange, target, response, send)
        finally:
            target.in_flight -= 1
            response.close()

    async def _may_ask(self, token: bytes, deployment: str | None) -> bool:
        """A key opens every model, an access token its own deployment."""
        if deployment is None:
            return (self._keys.known(token) or await self._keys.verify(token)) is not None
        await self._routes.wait()
        expected = self._routes.access_token(deployment).encode()
        return bool(expected) and secrets.compare_digest(token, expected)

    def _read_head(self, exchange: Exchange, scope: Scope) -> tuple[bytes, int]:
        """The key and the body's length; what the replica shall see of the headers goes to the exchange."""
        token = b""
        length = 0
        passed = b"content-type: application/json\r\n"
        for name, value in scope["headers"]:
            if name == b"authorization":
                token = value[7:].strip() if value[:7].lower() == b"bearer " else b""
            elif name == b"content-length":
                length = int(value)
            elif name == b"x-request-id" and SANE_ID.fullmatch(value):
                exchange.request_id = value
            elif name in (b"accept", b"traceparent", b"tracestate"):
                passed += b"%b: %b\r\n" % (name, value)
        if not exchange.request_id:
            exchange.request_id = f"{self._id_prefix}-{next(self._ids):x}".encode()
        exchange.headers = b"%bx-request-id: %b\r\n" % (passed, exchange.request_id)
        if scope["query_string"]:
            exchange.query = b"?" + scope["query_string"]
        return token, length

    async def _pass_back(self, exchange: Exchange, target: Target, response: Response, send: Send) -> int:
        status = response.status
        if status == 401:
            where = target.label.decode()
            raise Refused(
                Refusal(502, f"replica {where} does not take our key; restart it", "api_error", "replica_key")
            )
        headers = [(name, value) for name, value in response.headers if name not in NOT_PASSED_BACK]
        headers.append((b"x-engine-replica", target.label))
        headers.append((b"x-request-id", exchange.request_id))
        events = any(n == b"content-type" and v.startswith(b"text/event-stream") for n, v in headers)
        if events:
            headers.append((b"x-accel-buffering", b"no"))
        self._counts.answered(exchange.name, asyncio.get_running_loop().time() - exchange.begun)
        exchange.started = True
        await send({"type": "http.response.start", "status": status, "headers": headers})
        try:
            while True:
                data = await response.read()
                more = not response.complete or bool(response.chunks)
                if data or not more:
                    await send({"type": "http.response.body", "body": data, "more_body": more})
                if not more:
                    return status
        except EndpointError as error:
            self._counts.broken += 1
            if events:
                event = b"\n\ndata: %b\n\n" % refusal(error).body
                await send({"type": "http.response.body", "body": event, "more_body": False})
            # Without events it stays unfinished, and uvicorn closes the connection: the client sees it is not whole.
            return 502


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
