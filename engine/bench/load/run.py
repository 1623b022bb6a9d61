"""A run: requests under way, their deadlines and samples, from the first one to the drain."""

import asyncio
import socket
from abc import ABC, abstractmethod
from dataclasses import replace
from types import TracebackType

import numpy as np

from engine.bench.clock import Clock
from engine.bench.load.line import Line
from engine.bench.load.prompts import Prompts
from engine.bench.load.samples import Code, Samples
from engine.bench.load.target import Target
from engine.bench.load.watch import Ticks, Watch, watch
from engine.bench.load.wire import Wire
from engine.errors import EndpointRefused

SWEEP_S = 0.05
# A server that keeps no connection although it says so (llama.cpp after streams): from then on each is used once.
LIES, LIE_SHARE = 8, 0.1


class Run(ABC):
    """Lives on the running loop until it is drained or aborted; `async with` aborts what is left of it.

    `samples` grows all the time; windows of it are cut by their times. `repeats` counts requests that were sent again,
    for the kept connection was closed before a byte of the answer came; `complaint` is what came back of the last one
    that failed, `shortage` what this machine lacked for a connection.
    """

    def __init__(self, target: Target, prompts: Prompts, address: tuple[str, int], timeout_s: float) -> None:
        self.target, self.prompts, self.address, self.timeout_s = target, prompts, address, timeout_s
        self.stream = prompts.task.stream
        self.samples = Samples()
        self.repeats = 0
        self.complaint = ""
        self.shortage: str | None = None
        self.reuses = True
        self.stopped = self.closed = False
        self._head = target.head
        self._loop = asyncio.get_running_loop()
        self._clock = Clock(self._loop)
        self._ticks = Ticks(self._clock)
        self._lines: set[Line] = set()
        # In the order of their start: all have the same patience, so the first is also the first to time out.
        self._under_way: dict[Line, None] = {}
        self._leaving: list[asyncio.Task[None]] = []
        self._empty = asyncio.Event()
        self._clock.call_at(self._clock.now() + SWEEP_S, self._sweep)

    async def __aenter__(self) -> "Run":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.abort()
        await self._settle()

    @property
    def in_flight(self) -> int:
        """Requests that were sent, or wait for their connection."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """Requests that should have been sent and were not, for all connections are taken (open loop)."""
        return 0

    def mean_in_flight(self, begin: float, end: float) -> float:
        """The mean over [begin, end) of the requests between their intended start and their end, ended or not."""
        rows = self.samples.since(begin)
        starts = np.concatenate([rows["intended"], [line.intended for line in self._under_way]])
        ends = np.concatenate([rows["end"], np.full(len(self._under_way), np.inf)])
        overlap = np.minimum(ends, end) - np.maximum(starts, begin)
        return float(np.clip(overlap, 0.0, None).sum() / (end - begin))

    def watch(self, begin: float, end: float) -> Watch:
        """Whether the generator itself was the limit in [begin, end)."""
        seen = watch(self._ticks.between(begin, end), self.samples.between(begin, end))
        lacks = f"the load generator ran out of {self.shortage}" if self.shortage else None
        return replace(seen, limited=lacks or seen.limited)

    def stop(self) -> None:
        """Sends no new requests; those under way go on."""
        self.stopped = True
        self._notice_the_end()

    async def drain(self, timeout_s: float) -> int:
        """Stops and waits for the answers under way; gives up after `timeout_s`. Returns how many were given up."""
        self.stop()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            pass
        left = self.in_flight + self.waiting
        self.abort()
        await self._settle()
        return left

    def abort(self) -> None:
        """Ends everything now; requests under way are recorded as aborted."""
        if self.closed:
            return
        self.stopped = self.closed = True
        self._leaving = [line.connecting for line in self._lines if line.connecting is not None]
        for line in list(self._under_way):
            line.give_up(Code.ABORTED)
        for line in self._lines:
            line.close()
        self._lines.clear()
        self._clock.close()

    async def _settle(self) -> None:
        """Sockets are closed by the loop's next rounds, those of connections just made one round later."""
        await asyncio.gather(*self._leaving, return_exceptions=True)
        for _ in range(2):
            await asyncio.sleep(0)

    def request(self) -> bytes:
        body = next(self.prompts)
        return b"%b%d\r\n\r\n%b" % (self._head, len(body), body)

    def begun(self, line: Line) -> None:
        self._under_way[line] = None

    def repeated(self) -> None:
        self.repeats += 1
        if self.repeats >= LIES and self.repeats > LIE_SHARE * len(self.samples):
            self.reuses = False

    def ended(self, line: Line, end: float, code: Code, wire: Wire | None, tokens: tuple[int, int, int]) -> None:
        del self._under_way[line]
        status, events, first = (wire.status, wire.events, wire.first) if wire else (0, 0, np.nan)
        self.samples.append(line.intended, line.sent, first, end, line.lag, status, code, events, *tokens)
        if not self.closed:
            self.next(line, end)
            self._notice_the_end()

    @abstractmethod
    def next(self, line: Line, end: float) -> None:
        """What a line does after its request ended at `end`."""

    def _notice_the_end(self) -> None:
        if self.stopped and not self._under_way and not self.waiting:
            self._empty.set()

    def _sweep(self, due: float) -> None:
        now = self._clock.now()
        while self._under_way:
            line = next(iter(self._under_way))
            if line.started + self.timeout_s > now:
                break
            line.give_up(Code.TIMEOUT)
        self._clock.call_at(now + SWEEP_S, self._sweep)


async def resolve(target: Target) -> tuple[str, int]:
    """The address of the target, looked up once; raises EndpointRefused when its name is unknown."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise EndpointRefused(f"the load has no target: looking up {target.host!r} gave {error}") from error
    host, port = found[0][4][:2]
    return str(host), int(port)
