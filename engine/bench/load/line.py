"""One user's line to the server: a request at a time, on a connection that is made anew when it has to be."""

import asyncio
import math
import time
from typing import Protocol

from engine.bench.load import shortage
from engine.bench.load.answers import UNKNOWN, stream_code, usage
from engine.bench.load.samples import Code
from engine.bench.load.wire import Wire

CONNECT_TIMEOUT_S = 10.0
# A server that closes a kept connection does so at once; one that lets go of a request later has failed.
STALE_S = 1.0
MOST_COMPLAINT = 300


class Caller(Protocol):
    """Whose line it is. `ended` is told of each request once."""

    stream: bool
    reuses: bool
    address: tuple[str, int]
    complaint: str
    shortage: str | None

    def request(self) -> bytes: ...

    def begun(self, line: "Line") -> None: ...

    def repeated(self) -> None: ...

    def ended(self, line: "Line", end: float, code: Code, wire: Wire | None, tokens: tuple[int, int, int]) -> None: ...


class Line:
    """`intended`, `lag` and `sent` are of the request under way; see samples.Window."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._wire: Wire | None = None
        self.connecting: asyncio.Task[None] | None = None
        self._request = b""
        self._repeated = False
        self.intended = self.lag = self.started = 0.0
        self.sent = math.nan
        self.failures = 0  # in a row
        self.retired = False

    def begin(self, intended: float) -> None:
        """Sends the next request, now; it should have been sent at `intended`."""
        self.started = now = time.perf_counter()
        self.intended, self.lag = intended, now - intended
        self._request, self._repeated = self._caller.request(), False
        self._caller.begun(self)
        if self._wire is not None:
            self.sent = now
            self._wire.send(self._request)
        else:
            self.sent = math.nan
            self._connect()

    def _connect(self) -> None:
        self.connecting = asyncio.get_running_loop().create_task(self._send_on_a_new_wire())

    async def _send_on_a_new_wire(self) -> None:
        caller, loop = self._caller, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, wire = await loop.create_connection(lambda: Wire(self, caller.stream), *caller.address)
        except (OSError, TimeoutError) as failure:
            caller.complaint = str(failure) or f"no connection within {CONNECT_TIMEOUT_S:g} s"
            caller.shortage = shortage.of(failure) or caller.shortage
            return self._end(time.perf_counter(), Code.CONNECTION, None)
        self.connecting, self._wire = None, wire
        self.sent = time.perf_counter()
        wire.send(self._request)

    def answered(self, wire: Wire) -> None:
        if wire.garbled or not wire.keeps or not self._caller.reuses:
            self._drop()
        if wire.status != 200:
            self._end(wire.end, Code.HTTP, wire)
        elif wire.garbled:
            self._end(wire.end, Code.BROKEN, wire)
        else:
            text = wire.text
            self._end(wire.end, stream_code(text) if self._caller.stream else Code.OK, wire, usage(text))

    def lost(self, wire: Wire) -> None:
        """The connection ended; what of the answer there was decides."""
        self._wire = None
        if not wire.busy:
            return
        now = time.perf_counter()
        if not wire.touched and wire.used and not self._repeated and now - self.sent < STALE_S:
            self._repeated = True
            self._caller.repeated()
            self._connect()
        elif not wire.touched:
            self._end(now, Code.CONNECTION, wire)
        else:
            text = wire.text if not wire.garbled else b""
            self._end(now, stream_code(text), wire, usage(text))

    def give_up(self, code: Code) -> None:
        """Ends the request under way, as timed out or aborted."""
        wire = self._wire
        self.close()
        self._end(time.perf_counter(), code, wire)

    def close(self) -> None:
        if self.connecting is not None:
            self.connecting.cancel()
        self._drop()

    def _drop(self) -> None:
        if self._wire is not None:
            self._wire.leave()
            self._wire = None

    def _end(self, end: float, code: Code, wire: Wire | None, tokens: tuple[int, int, int] = UNKNOWN) -> None:
        if code in (Code.HTTP, Code.BROKEN) and wire is not None:
            self._caller.complaint = wire.text[-MOST_COMPLAINT:].decode("utf-8", "replace")
        self.failures = 0 if code == Code.OK else self.failures + 1
        self._caller.ended(self, end, code, wire, tokens)
