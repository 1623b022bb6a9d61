"""One TCP connection that carries one request after the other, read with as few steps as can be."""

import asyncio
import math
import time
from typing import Protocol, cast

import httptools

from engine.bench.load.answers import CONTENT

# Of a stream the end is kept: it holds the usage, [DONE], and an error if there was one.
MOST_PIECES, KEPT_BYTES = 64, 16_384


class Owner(Protocol):
    def answered(self, wire: "Wire") -> None: ...

    def lost(self, wire: "Wire") -> None: ...


class Wire(asyncio.Protocol):
    """`touched` once a byte of the answer came, `complete` once all did, `garbled` if it was not HTTP or not asked for.

    An answer must say where it ends: one that ends with its connection is taken as broken off.
    """

    def __init__(self, owner: Owner, stream: bool) -> None:
        self._owner: Owner | None = owner
        self._stream = stream
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self.used = self.busy = False
        self._reset()

    def _reset(self) -> None:
        self._pieces.clear()
        self._newline = b""
        self.touched = self.complete = self.garbled = False
        self.first = math.nan
        self.end = 0.0
        self.status = self.events = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Both asyncio and uvloop set TCP_NODELAY on their TCP transports.
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> None:
        self._reset()
        self.busy = True
        self.transport.write(request)

    def leave(self) -> None:
        """Closes without a word to the owner."""
        self._owner = None
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            return self._garble()
        self.touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return self._garble()
        if self.complete and self._owner is not None:
            self.busy, self.used = False, True
            self._owner.answered(self)

    def _garble(self) -> None:
        self.garbled = True
        self.transport.abort()

    def on_body(self, body: bytes) -> None:
        pieces = self._pieces
        pieces.append(body)
        if not self._stream:
            return
        self.events += (self._newline + body).count(b"\n\n") if self._newline else body.count(b"\n\n")
        self._newline = b"\n" if body.endswith(b"\n") and not body.endswith(b"\n\n") else b""
        if self.first != self.first and CONTENT.search(self.text):
            self.first = time.perf_counter()
        if len(pieces) > MOST_PIECES:
            pieces[:] = [self.text[-KEPT_BYTES:]]

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return
        if self.complete:
            self.garbled = True  # two answers to one request
        self.end = time.perf_counter()
        self.status, self.complete = status, True
        self.keeps = self._parser.should_keep_alive()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._owner is not None:
            self.status = self._parser.get_status_code() if self.touched else 0
            self._owner.lost(self)

    @property
    def text(self) -> bytes:
        """The body; of a long stream its end."""
        return b"".join(self._pieces)
