"""The open loop: requests come at a rate, whether or not the earlier ones are answered."""

import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from math import nan
from typing import Literal

from engine.bench.load.answers import UNKNOWN
from engine.bench.load.line import Line
from engine.bench.load.prompts import Prompts
from engine.bench.load.run import Run, resolve
from engine.bench.load.samples import Code
from engine.bench.load.shortage import make_room
from engine.bench.load.target import Target
from engine.errors import ConfigurationError

Arrivals = Literal["poisson", "constant"]
MOST_CONNECTIONS = 2048


class Open(Run):
    """Latencies count from the intended start: also what waits for a connection, or was sent late, is not hidden."""

    def __init__(
        self,
        target: Target,
        prompts: Prompts,
        address: tuple[str, int],
        timeout_s: float,
        *,
        mean_gap_s: float,
        gaps: Callable[[], float],
        connections: int,
    ) -> None:
        """`gaps` gives the times between two requests, in units of `mean_gap_s`."""
        super().__init__(target, prompts, address, timeout_s)
        self._mean_gap_s, self._gaps, self._connections = mean_gap_s, gaps, connections
        self._free: list[Line] = []
        self._backlog: deque[float] = deque()
        self._due = time.perf_counter() + self._gap_s()
        self._clock.call_at(self._due, self._send_what_is_due)

    @property
    def waiting(self) -> int:
        return len(self._backlog)

    def next(self, line: Line, end: float) -> None:
        if self._backlog:
            line.begin(self._backlog.popleft())
        elif self.stopped:
            line.close()
        else:
            self._free.append(line)

    def abort(self) -> None:
        now = time.perf_counter()
        while not self.closed and self._backlog:
            intended = self._backlog.popleft()
            self.samples.append(intended, nan, nan, now, now - intended, 0, Code.ABORTED, 0, *UNKNOWN)
        super().abort()

    def _gap_s(self) -> float:
        return self._gaps() * self._mean_gap_s

    def _send_what_is_due(self, _: float = 0.0) -> None:
        now = self._clock.now()
        while self._due <= now and not self.stopped:
            self._send(self._due)
            self._due += self._gap_s()
        if self.stopped:
            return
        if self._due <= self._clock.now():
            self._loop.call_soon(self._send_what_is_due)  # too slow: the answers must be read in between
        else:
            self._clock.call_at(self._due, self._send_what_is_due)

    def _send(self, intended: float) -> None:
        if self._free:
            self._free.pop().begin(intended)
        elif len(self._lines) < self._connections:
            line = Line(self)
            self._lines.add(line)
            line.begin(intended)
        else:
            self._backlog.append(intended)


async def open_(
    target: Target,
    prompts: Prompts,
    rate_per_s: float,
    arrivals: Arrivals = "poisson",
    *,
    timeout_s: float = 600.0,
    seed: int | None = None,
    connections: int = MOST_CONNECTIONS,
) -> Open:
    """Starts to send at `rate_per_s`, on as many connections as it takes, up to `connections`; then requests wait.

    Raises EndpointRefused when the target's name is unknown, ConfigurationError for an impossible rate, or when this
    machine has no room for so many connections.
    """
    if rate_per_s <= 0:
        raise ConfigurationError(f"a rate of {rate_per_s:g} requests a second cannot be sent: it must be above 0")
    make_room(connections)
    gaps = partial(random.Random(seed).expovariate, 1.0) if arrivals == "poisson" else lambda: 1.0
    address = await resolve(target)
    return Open(target, prompts, address, timeout_s, mean_gap_s=1 / rate_per_s, gaps=gaps, connections=connections)
