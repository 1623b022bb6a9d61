"""A small HTTP client for the hot path: kept connections to one replica.

It does only what the relay needs: one POST at a time on a connection, the head of the answer, then its bytes.
Deadlines are kept by one sweep every TICK_S over the running requests, so a request costs no timer of its own.
"""

import asyncio
from collections import deque

from engine.errors import EndpointRefused, EndpointTimedOut, EngineError
from engine.fleet.hosts import Endpoint
from engine.gateway.connection import Connection, EndpointBroke, Response, Watcher

TICK_S = 0.2
IDLE_MOST = 256


class Upstream:
    """The connections to one replica. `close()` ends the idle ones now and the busy ones when they are done.

    `connect_s` bounds the connecting, `first_byte_s` the wait for the head of an answer, `body_s` any silence within a
    body, be it the replica's or a client's that stops reading. An idle connection is closed after `idle_s`: uvicorn,
    and so vLLM, closes its own after 5 s.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        connect_s: float = 3.0,
        first_byte_s: float = 600.0,
        body_s: float = 300.0,
        idle_s: float = 4.0,
    ) -> None:
        self.endpoint, self.address = endpoint, endpoint.address
        self.connect_s, self.first_byte_s, self.body_s, self.idle_s = connect_s, first_byte_s, body_s, idle_s
        self.idle: deque[Connection] = deque()
        self.busy: set[Connection] = set()
        self.closed = False
        self.loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None

    async def request(self, head: bytes, body: bytes, watcher: Watcher | None = None) -> Response:
        """Sends one request and returns when its status and headers are here.

        A kept connection that is dead before the first byte is replaced by a fresh one, once. Raises EndpointRefused
        without a connection, EndpointBroke when it broke, EndpointTimedOut, or what a watcher aborted it with.
        """
        connection = self._kept()
        if connection is not None:
            try:
                return await self._send(connection, head, body, watcher)
            except EndpointBroke:
                if connection.began or connection.bad:
                    raise
        return await self._send(await self._connect(), head, body, watcher)

    def give_back(self, connection: Connection) -> None:
        self.busy.discard(connection)
        if self.closed or len(self.idle) >= IDLE_MOST:
            connection.transport.close()
            return
        connection.idle_s = 0.0
        self.idle.append(connection)

    def forget(self, connection: Connection) -> None:
        self.busy.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)

    def close(self) -> None:
        self.closed = True
        while self.idle:
            self.idle.pop().transport.close()

    def abort(self, error: EngineError) -> None:
        """Ends everything now, running requests included."""
        self.close()
        for connection in tuple(self.busy):
            if connection.response is not None:
                connection.response.abort(error)

    async def _send(self, connection: Connection, head: bytes, body: bytes, watcher: Watcher | None) -> Response:
        self.busy.add(connection)
        if self._sweep is None:
            self._sweep = self.loop.call_later(TICK_S, self._tick)
        response = connection.send(head, body, watcher)
        try:
            await response.head()
        except asyncio.CancelledError:
            response.close()
            raise
        return response

    def _kept(self) -> Connection | None:
        while self.idle:
            connection = self.idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    async def _connect(self) -> Connection:
        endpoint = self.endpoint
        try:
            async with asyncio.timeout(self.connect_s):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self), endpoint.host, endpoint.port
                )
        except TimeoutError as error:
            raise EndpointRefused(f"{self.address} took no connection within {self.connect_s:g} s") from error
        except OSError as error:
            raise EndpointRefused(f"{self.address} took no connection: {error.strerror or error}") from error
        return connection

    def _tick(self) -> None:
        self._sweep = None
        for connection in tuple(self.busy):
            response = connection.response
            if response is not None:
                self._overdue(response)
        while self.idle and self.idle[0].idle_s >= self.idle_s:
            self.idle.popleft().transport.close()
        for connection in self.idle:
            connection.idle_s += TICK_S
        if self.busy or self.idle:
            self._sweep = self.loop.call_later(TICK_S, self._tick)

    def _overdue(self, response: Response) -> None:
        response.silent_s += TICK_S
        if response.watcher is not None:
            watcher, response.watcher = response.watcher, None
            watcher.slow(response)
        if not response.headed and response.silent_s > response.first_byte_s:
            response.abort(
                EndpointTimedOut(f"{self.address} did not begin to answer within {response.first_byte_s:g} s")
            )
        elif response.headed and response.silent_s > response.body_s:
            response.abort(EndpointTimedOut(f"no byte of the answer of {self.address} moved for {response.body_s:g} s"))
