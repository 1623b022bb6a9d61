"""One HTTP/1.1 connection to a replica and the answer on it, on asyncio.Protocol and httptools."""

import asyncio
import socket
from typing import Any, Protocol, cast

import httptools

from engine.errors import EndpointRefused

HIGH_WATER = 256 * 1024
ONE_WRITE = 64 * 1024
LONGEST_HEAD = 64 * 1024
BODILESS = (204, 304)


class EndpointBroke(EndpointRefused):
    """It took the connection, and perhaps the request, and gave no whole answer."""


class Watcher(Protocol):
    """Told once a request has been going for a while without an end, so that the quick ones cost nothing."""

    def slow(self, response: "Response") -> None: ...


class Owner(Protocol):
    """Whose connections they are: takes one back when its answer is whole, and forgets one that is lost."""

    address: str
    first_byte_s: float
    body_s: float
    loop: asyncio.AbstractEventLoop
    busy: set["Connection"]

    def give_back(self, connection: "Connection") -> None: ...

    def forget(self, connection: "Connection") -> None: ...


class Response:
    """The answer to one request: `status` and `headers` once `head()` returned, then the body by `read()`."""

    __slots__ = (
        "body_s", "buffered", "chunks", "complete", "connection", "error", "first_byte_s", "head_size", "headed",
        "headers", "silent_s", "status", "until_close", "waiter", "watcher",
    )  # fmt: skip

    def __init__(self, connection: "Connection", watcher: Watcher | None, first_byte_s: float, body_s: float) -> None:
        self.connection, self.watcher = connection, watcher
        self.first_byte_s, self.body_s = first_byte_s, body_s
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.chunks: list[bytes] = []
        self.buffered = self.head_size = 0
        self.silent_s = 0.0
        self.headed = self.complete = self.until_close = False
        self.error: Exception | None = None
        self.waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Waits for status and headers; raises EndpointBroke, EndpointTimedOut or what `abort` was given."""
        while not self.headed:
            if self.error is not None:
                raise self.error
            await self._wait()

    async def read(self) -> bytes:
        """The bytes that have come since the last call, at least one; b"" at the end of a whole body.

        Raises EndpointBroke when the body broke off.
        """
        while not self.chunks:
            if self.complete:
                return b""
            if self.error is not None:
                raise self.error
            await self._wait()
        chunks = self.chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self.chunks = []
        self.buffered = 0
        self.silent_s = 0.0
        self.connection.resume()
        return data

    def abort(self, error: Exception) -> None:
        """Ends the request now and closes its connection; a waiting `head()` or `read()` raises `error`."""
        if self.complete or self.error is not None:
            return
        self.fail(error)
        self.connection.abort()

    def close(self) -> None:
        """Lets go of an answer that nobody will read to its end."""
        self.abort(EndpointBroke("the answer was not wanted any more"))

    def fail(self, error: Exception) -> None:
        self.error = error
        self.wake()

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _wait(self) -> None:
        self.waiter = self.connection.owner.loop.create_future()
        try:
            await self.waiter
        finally:
            self.waiter = None


class Connection(asyncio.Protocol):
    """One TCP connection to a replica. httptools calls the `on_…` methods from within `data_received`."""

    __slots__ = ("bad", "began", "idle_s", "keep", "lost", "owner", "parser", "paused", "response", "transport")

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.parser: Any = httptools.HttpResponseParser(self)
        self.response: Response | None = None
        self.transport: asyncio.Transport
        self.idle_s = 0.0
        self.began = self.bad = self.keep = self.lost = self.paused = False

    def send(self, head: bytes, body: bytes, watcher: Watcher | None) -> Response:
        response = Response(self, watcher, self.owner.first_byte_s, self.owner.body_s)
        self.response = response
        self.began = False
        if len(body) < ONE_WRITE:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        return response

    def abort(self) -> None:
        self.bad = True
        self.transport.abort()

    def resume(self) -> None:
        if self.paused and not self.lost:
            self.paused = False
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        connected = transport.get_extra_info("socket")
        if connected is not None and connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        response = self.response
        if response is None:
            self.abort()
            return
        response.silent_s = 0.0
        self.began = True
        if not response.headed:
            response.head_size += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._broken(f"sent what is not HTTP ({type(error).__name__}: {error})")
            return
        if response.complete:
            self._finish(response)
        elif response.headed:
            response.wake()
        elif response.head_size > LONGEST_HEAD:
            self._broken(f"sent more than {LONGEST_HEAD} bytes of headers")

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True
        self.owner.forget(self)
        response, self.response = self.response, None
        if response is None or response.error is not None:
            return
        if response.until_close and error is None:
            response.complete = True
            response.wake()
        else:
            what = "closed the connection" if error is None else f"broke the connection ({error})"
            when = "in the middle of its answer" if response.headed else "before it answered"
            response.fail(EndpointBroke(f"{self.owner.address} {what} {when}"))

    def on_message_begin(self) -> None:
        if self.response is None or self.response.complete:
            self.bad = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.response is not None and not self.response.complete:
            self.response.headers.append((name.lower(), value))
            if len(self.response.headers) > 200:
                raise ValueError("more than 200 headers")

    def on_headers_complete(self) -> None:
        response = self.response
        status = self.parser.get_status_code()
        if response is None or response.complete or status < 200:
            return
        response.status = status
        response.headed = True
        framed = any(n == b"content-length" or (n == b"transfer-encoding" and b"chunked" in v.lower()) for n, v in
                     response.headers)  # fmt: skip
        response.until_close = not framed and status not in BODILESS

    def on_body(self, data: bytes) -> None:
        response = self.response
        if response is None or response.complete:
            return
        response.chunks.append(data)
        response.buffered += len(data)
        if response.buffered > HIGH_WATER and not self.paused:
            self.paused = True
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        response = self.response
        if response is None:
            return
        if not response.headed:  # 100 Continue, 103 Early Hints
            response.headers.clear()
        elif not response.until_close or response.status in BODILESS:
            response.complete = True
            self.keep = self.parser.should_keep_alive()  # asked later, it forgets the content-length and says no

    def _finish(self, response: Response) -> None:
        self.response = None
        self.resume()
        whole = self.keep and not self.bad and not self.transport.get_write_buffer_size()
        if whole and not self.transport.is_closing():
            self.owner.give_back(self)
        else:
            self.owner.busy.discard(self)
            self.transport.close()
        response.wake()

    def _broken(self, what: str) -> None:
        response, self.response = self.response, None
        self.abort()
        if response is not None and response.error is None:
            response.fail(EndpointBroke(f"{self.owner.address} {what}"))
