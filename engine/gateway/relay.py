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
from engine.gateway.admission import Admission
from engine.gateway.answering import Send, pass_body, passed_back, refuse
from engine.gateway.body import ClientLeft, Receive, discard, fields_of, read_body, renamed
from engine.gateway.connection import Response
from engine.gateway.exchange import Exchange
from engine.gateway.forwarding import Forwarder
from engine.gateway.gates import Klass, Ticket
from engine.gateway.keys import NO_LIMITS, Key, Keys
from engine.gateway.limits import KeyLimits, require_model
from engine.gateway.metrics import Counts
from engine.gateway.protocol import Refusal, Refused, refusal, starting
from engine.gateway.records.ledger import Ledger
from engine.gateway.records.metering import Events, Whole, asking_for_usage
from engine.gateway.routes import Route, Routes, Target

Scope = MutableMapping[str, Any]

log = logging.getLogger("engine.relay")

PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"})
CHAT = "/v1/chat/completions"
# Names of models that mean a workflow.
TRIBUNAL = ("tribunal/", "tribunal:")
# In the scope of a request that came by a deployment's own address: its name.
DEPLOYMENT = "engine.deployment"
CLIENT_LEFT = 499
LONGEST_WAIT_S = 3600
SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


Tribunal = Callable[[Exchange, str, bytes, Key, Send], Awaitable[int]]


class Relay:
    """ASGI application of the inference routes."""

    def __init__(
        self,
        routes: Routes,
        keys: Keys,
        counts: Counts,
        forwarder: Forwarder,
        admission: Admission,
        limits: KeyLimits,
        ledger: Ledger,
    ) -> None:
        self._routes, self._keys, self._counts, self._forwarder = routes, keys, counts, forwarder
        self._admission, self._limits, self._ledger = admission, limits, ledger
        self.tribunal: Tribunal | None = None
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        now = asyncio.get_running_loop().time
        exchange = Exchange(receive, now())
        counts = self._counts
        counts.in_flight += 1
        status = CLIENT_LEFT
        try:
            status = await self._serve(exchange, scope, send)
        except ClientLeft:
            counts.left += 1
            exchange.error = "client_left"
        except EngineError as error:
            refused = refusal(error)
            exchange.error = refused.code or refused.type
            if not exchange.started:
                status = refused.status
                await refuse(send, refused, exchange.request_id)
        except Exception as error:
            log.exception("request %s failed", exchange.request_id.decode())
            status = 500
            exchange.error = "internal_error"
            if not exchange.started:
                await refuse(send, refusal(error), exchange.request_id)
        finally:
            counts.in_flight -= 1
            if exchange.watch is not None:
                exchange.watch.cancel()
            exchange.path, exchange.status, exchange.latency_s = scope["path"], status, now() - exchange.begun
            self._ledger.add(exchange)

    async def _serve(self, exchange: Exchange, scope: Scope, send: Send) -> int:
        """Answers one request; returns the status that the client saw."""
        token, length = self._read_head(exchange, scope)
        named = scope.get(DEPLOYMENT)
        key = exchange.key = (self._keys.known(token) if named is None else None) or await self._key(token, named)
        if key is None:
            await discard(exchange.receive, length)
            raise AccessDenied(NO_KEY if not token else WRONG_KEY)
        body = await read_body(exchange.receive, length)
        exchange.body = body
        fields = fields_of(body, named)
        if not self._routes.ready:
            await self._routes.wait()
        if fields.model.startswith(TRIBUNAL) and self.tribunal is not None and scope["path"] == CHAT and named is None:
            return await self.tribunal(exchange, fields.model, body, key, send)
        route = self._routes.find(fields.model)
        exchange.name = route.name
        if key.limits is not NO_LIMITS:
            require_model(key, *route.names)
        if not route.targets:
            raise Refused(starting(route.status))
        if route.alias:
            body = renamed(body, route.name)
        asking = asking_for_usage(body, fields, scope["path"]) if fields.stream else None
        line = b"POST %b%b HTTP/1.1\r\n" % (scope["path"].encode(), exchange.query)
        if key.limits is NO_LIMITS:
            return await self._ask(exchange, key, route, line, asking or body, asking is not None, send)
        self._limits.enter(key)
        try:
            return await self._ask(exchange, key, route, line, asking or body, asking is not None, send)
        finally:
            self._limits.leave(key)

    async def _ask(
        self, exchange: Exchange, key: Key, route: Route, line: bytes, body: bytes, asking: bool, send: Send
    ) -> int:
        """From the queue to the end of the answer; an admin's experiment goes by the queue."""
        name = route.name
        ticket = None
        try:
            if not exchange.experiment or key.role != "admin":
                ticket = self._admission.enter(name, key.id, Klass.INTERACTIVE, route.limit)
                ticket = ticket or await self._queue(exchange, name, key)
            target, response = await self._forwarder.forward(name, line, exchange.headers, body, exchange)
            exchange.label = target.label
            try:
                return await self._pass_back(exchange, target, response, asking, send)
            finally:
                target.in_flight -= 1
                response.close()
        finally:
            if ticket is not None:
                self._admission.leave(ticket)

    async def _queue(self, exchange: Exchange, name: str, key: Key) -> Ticket:
        """Waits for a slot, and listens meanwhile for the client's leaving."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        waiter = exchange.waiter = self._admission.line_up(name, key.id, Klass.INTERACTIVE, exchange.wait_s)
        exchange.listen()
        try:
            return await self._admission.turn(waiter)
        except asyncio.CancelledError:
            if exchange.left:
                raise ClientLeft from None
            raise
        finally:
            exchange.waiter = None
            exchange.queued_s = loop.time() - begun

    async def _key(self, token: bytes, deployment: str | None) -> Key | None:
        """Whose request it is: a key opens every model, an access token its own deployment."""
        if deployment is None:
            return await self._keys.verify(token)
        await self._routes.wait()
        expected = self._routes.access_token(deployment).encode()
        if not expected or not secrets.compare_digest(token, expected):
            return None
        return Key(f"access:{deployment}", f"access token of {deployment}", "user")

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
            elif name == b"x-engine-experiment":
                exchange.experiment = True
            elif name == b"x-engine-deadline-s":
                exchange.wait_s = deadline_s(value)
        if not exchange.request_id:
            exchange.request_id = f"{self._id_prefix}-{next(self._ids):x}".encode()
        exchange.headers = b"%bx-request-id: %b\r\n" % (passed, exchange.request_id)
        if scope["query_string"]:
            exchange.query = b"?" + scope["query_string"]
        return token, length

    async def _pass_back(self, exchange: Exchange, target: Target, response: Response, asking: bool, send: Send) -> int:
        """Passes an answer on; with `asking`, its usage is ours and the client does not see it."""
        status = response.status
        if status == 401:
            where = target.label.decode()
            raise Refused(
                Refusal(502, f"replica {where} does not take our key; restart it", "api_error", "replica_key")
            )
        headers, events = passed_back(response.headers)
        headers += ((b"x-engine-replica", target.label), (b"x-request-id", exchange.request_id))
        if events:
            headers = [(n, v) for n, v in headers if n != b"content-length"] if asking else headers
            headers.append((b"x-accel-buffering", b"no"))
        elif status >= 400:
            exchange.error = f"replica_{status}"
        exchange.head_s = asyncio.get_running_loop().time() - exchange.begun
        exchange.started, exchange.streamed = True, events
        exchange.meter = Events(asking) if events else Whole()
        await send({"type": "http.response.start", "status": status, "headers": headers})
        try:
            await pass_body(exchange, response, exchange.meter, send)
        except EndpointError as error:
            self._counts.broken += 1
            exchange.error = "broke_off"
            if events:
                event = b"%b\n\ndata: %b\n\n" % (exchange.meter.end(), refusal(error).body)
                await send({"type": "http.response.body", "body": event, "more_body": False})
            # Without events it stays unfinished, and uvicorn closes the connection: the client sees it is not whole.
            return 502
        return status


def deadline_s(value: bytes) -> float:
    """The header's seconds; raises Refused (422)."""
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST_WAIT_S:
        text = f"X-Engine-Deadline-S is {value.decode(errors='replace')!r}; it must be seconds, 0 to {LONGEST_WAIT_S}"
        raise Refused(Refusal(422, text, code="invalid_value"))
    return seconds
