"""What ended requests leave behind, counted and logged in short runs between requests rather than on their way.

Code that runs once for many requests costs a third of the same code between two system calls, and clients in step
do not wait for the books of those before them.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

import sqlalchemy as sa

from engine.gateway.keys import NO_LIMITS, Key
from engine.gateway.metrics import Counts
from engine.gateway.records.metering import Meter
from engine.gateway.records.recording import Recorder
from engine.gateway.records.requestlog import Line

# How long a request may go uncounted, and for how long at a time others are counted without a look at the network.
SETTLE_S = 0.005
RUN_S = 0.0005

T = TypeVar("T")


class Ended(Protocol):
    """A request that has ended. `body` is its own; `meter` knows the usage; times are in seconds."""

    name: str
    path: str
    error: str
    request_id: bytes
    label: bytes
    body: bytes
    streamed: bool
    apart: bool
    key: Key | None
    meter: Meter | None
    status: int
    head_s: float | None
    ttft_s: float | None
    latency_s: float
    queued_s: float


class Ledger:
    """Takes in what ended. One event loop; whoever reads the counts calls `settle` first."""

    def __init__(self, counts: Counts, recorder: Recorder) -> None:
        self._counts, self._recorder = counts, recorder
        self._ended: deque[Ended] = deque()
        self._due = False

    def add(self, ended: Ended) -> None:
        """Costs less than a microsecond; its time is the moment of its counting. A key with limits is counted at once,
        for its next request is measured by it.
        """
        self._ended.append(ended)
        if ended.key is not None and ended.key.limits is not NO_LIMITS:
            self.settle()
        elif not self._due:
            self._due = True
            asyncio.get_running_loop().call_later(SETTLE_S, self._run)

    def settle(self) -> None:
        """Counts all that has ended up to now."""
        self._count_until(math.inf)

    async def ask(self, question: Callable[[sa.Connection], T]) -> T:
        """Runs a query on all that has happened up to now; raises EngineError when the database fails."""
        self.settle()
        return await self._recorder.ask(question)

    async def written(self) -> None:
        """Until all that has ended up to now is in the database and in the log."""
        self.settle()
        await self._recorder.flush()

    def _run(self) -> None:
        self._count_until(time.perf_counter() + RUN_S)
        self._due = bool(self._ended)
        if self._due:
            asyncio.get_running_loop().call_soon(self._run)

    def _count_until(self, deadline: float) -> None:
        at = self._recorder.moment()
        while self._ended and time.perf_counter() < deadline:
            self.count(self._ended.popleft(), at)

    def count(self, ended: Ended, at: str) -> None:
        """Into the counters, the usage and the log; `at` is its time there, as `Recorder.moment` gives it."""
        counts, recorder, key = self._counts, self._recorder, ended.key
        counts.ended(ended.name, ended.status)
        if ended.error:
            counts.failed(ended.name, ended.error)
        if ended.head_s is not None:
            counts.answered(ended.name, ended.head_s)
        meter = ended.meter if ended.status < 400 else None
        usage = meter.usage if meter is not None else None
        prompt, completion = (usage.prompt, usage.completion) if usage else (0, 0)
        finish = meter.finish if meter is not None else ""
        if key is not None and not ended.apart:
            times = ended.status, ended.latency_s, ended.ttft_s
            recorder.record(key.id, ended.name, *times, prompt, completion, finish, ended.queued_s)
        if recorder.logs:
            recorder.line(self._line(ended, at, prompt, completion, finish))

    def _line(self, ended: Ended, at: str, prompt: int, completion: int, finish: str) -> Line:
        return Line(
            at,
            ended.request_id.decode(),
            ended.key.id if ended.key else "",
            ended.name,
            ended.path,
            ended.status,
            ended.latency_s,
            ended.ttft_s,
            ended.queued_s,
            prompt,
            completion,
            ended.streamed,
            ended.label.decode(),
            ended.error,
            ended.body.decode(errors="replace") if self._recorder.logs_prompts else "",
            finish,
        )
