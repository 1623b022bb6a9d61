"""HTTP/1.1 on a bare asyncio protocol: enough for a server whose timing must be known."""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

import httptools

MAX_BODY = 64 * 1024 * 1024
SSE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"


class Work(Protocol):
    """What a request has set going; told when its client leaves."""

    def abandon(self) -> None: ...


class Request:
    """One request, whole. `path` is without the query."""

    __slots__ = ("authorization", "body", "keep_alive", "method", "path")

    def __init__(self, method: str, path: str, authorization: str, body: bytes, keep_alive: bool) -> None:
        self.method, self.path, self.authorization = method, path, authorization
        self.body, self.keep_alive = body, keep_alive


class Connection(asyncio.Protocol):
    """Keeps the connection alive; pipelined requests are answered one after the other."""

    def __init__(self, handle: Callable[["Connection", Request], None]) -> None:
        self._handle = handle
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._busy = False
        self._body: list[bytes] = []
        self._size = 0
        self._authorization = ""
        self._close_after = False
        self.work: Work | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._waiting.clear()
        if self.work is not None:
            work, self.work = self.work, None
            work.abandon()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(HTTPStatus.NOT_IMPLEMENTED)
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST)

    def on_message_begin(self) -> None:
        self._body, self._size, self._authorization = [], 0, ""

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"authorization":
            self._authorization = value.decode("latin-1")
        elif lower == b"expect":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self.transport.is_closing():
            return
        path = self._url.partition(b"?")[0].decode("latin-1")
        method, body = self._parser.get_method().decode(), b"".join(self._body)
        request = Request(method, path, self._authorization, body, self._parser.should_keep_alive())
        if self._busy:
            self._waiting.append(request)
        else:
            self._begin(request)

    def _begin(self, request: Request) -> None:
        self._busy, self._close_after = True, not request.keep_alive
        self._handle(self, request)

    def respond(self, status: int, body: bytes, content_type: bytes = b"application/json", extra: bytes = b"") -> None:
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %d\r\n%s\r\n%s"
            % (status, HTTPStatus(status).phrase.encode(), content_type, len(body), extra, body)
        )
        self.done()

    def chunk(self, data: bytes) -> bytes:
        return b"%x\r\n%s\r\n" % (len(data), data)

    def done(self) -> None:
        """The answer is written; on to the next request of this connection, if there is one."""
        self.work = None
        self._busy = False
        if self._close_after:
            self.transport.close()
        elif self._waiting:
            self._begin(self._waiting.popleft())

    def _refuse(self, status: HTTPStatus) -> None:
        line = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(line.encode())
        self.transport.close()
