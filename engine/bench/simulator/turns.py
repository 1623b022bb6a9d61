"""How one request passes through the simulated machine: it waits for a slot, its tokens come on time, it leaves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.bench.clock import Clock, Timer
from engine.bench.simulator import replies
from engine.bench.simulator.batching import Batch
from engine.bench.simulator.replies import Ask
from engine.bench.simulator.slots import Slots
from engine.bench.simulator.vllm_metrics import Metrics
from engine.bench.simulator.wire import LAST_CHUNK, SSE, Connection


@dataclass(frozen=True)
class Schedule:
    """When the tokens of one answer come, in seconds after it got its slot.

    With a drift, an answer that begins t seconds after `drifts_from` takes 1 + drift_per_s * t times as long.
    """

    latency_s: float = 0.1
    ttft_s: float | None = None
    itl_s: float = 0.0
    drift_per_s: float = 0.0
    drifts_from: float = 0.0

    def stretch(self, begins: float) -> float:
        return 1 + self.drift_per_s * (begins - self.drifts_from)

    def total_s(self, tokens: int) -> float:
        return self.latency_s if self.ttft_s is None else self.ttft_s + self.itl_s * tokens

    def token_s(self, index: int, tokens: int) -> float:
        """The time of token `index` (from 0) of `tokens`; the end of the stream is index `tokens`."""
        if self.ttft_s is None:
            return self.latency_s * min(1.0, (index + 1) / tokens)
        return self.ttft_s + self.itl_s * index


@dataclass(frozen=True)
class Machine:
    """What all requests share. The times of a turn are those of this clock, the metrics' are real ones."""

    clock: Clock | Batch
    slots: Slots
    metrics: Metrics
    schedule: Schedule


class Turn:
    """One request from its arrival to its last byte; it holds a slot while it runs."""

    def __init__(self, machine: Machine, connection: Connection, ask: Ask, breaks: bool) -> None:
        self._machine, self._connection, self._ask, self._breaks = machine, connection, ask, breaks
        self.arrived = machine.clock.moment()
        self._came = machine.clock.real(self.arrived)
        self._started = 0.0
        self._stretch = 1.0
        self._timer: Timer | None = None
        self._events: Iterator[bytes] | None = replies.events(ask) if ask.stream else None
        self._body = b"" if ask.stream else replies.whole(ask)  # made now, so that it costs nothing when it is due
        self._sent = 0
        self._tokens = len(ask.words)

    def begin(self, at: float) -> None:
        self._started = at
        if self._machine.schedule.drift_per_s:
            self._stretch = self._machine.schedule.stretch(at)
        self._machine.metrics.queue_s.observe(self._since_it_came(at))
        self._follow(at)

    def abandon(self) -> None:
        """The client left: its slot, or its place in the queue, is free."""
        self._machine.metrics.finished["abort"] += 1
        if self._machine.slots.forget(self):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._machine.slots.leave(self._machine.clock.now())

    def _since_it_came(self, at: float) -> float:
        return self._machine.clock.real(at) - self._came

    def _token_s(self) -> float:
        return self._machine.schedule.token_s(self._sent, self._tokens) * self._stretch

    def _follow(self, at: float) -> None:
        schedule = self._machine.schedule
        after = self._token_s() if self._events else schedule.total_s(self._tokens) * self._stretch
        if after or at > self.arrived:
            then = self._tell if self._events else self._end
            self._timer = self._machine.clock.call_at(self._started + after, then)
        elif self._events:
            self._tell(at)
        else:
            self._end(at)

    def _tell(self, _: float) -> None:
        """Sends every token that is due by now."""
        clock, events = self._machine.clock, self._events
        assert events is not None
        parts = [] if self._sent else [SSE]
        now = clock.now()
        due = self._started + self._token_s()
        while due <= now and self._sent <= self._tokens:
            parts.append(self._connection.chunk(next(events)))
            self._sent += 1
            self._machine.metrics.generation_tokens += self._ask.choices if self._sent <= self._tokens else 0
            if self._sent == 1:
                self._machine.metrics.first_token_s.observe(self._since_it_came(due))
            if self._breaks and self._sent > self._tokens // 2:
                return self._break(parts)
            ended, due = due, self._started + self._token_s()
        if self._sent > self._tokens:
            self._finish(ended)
            self._connection.transport.write(b"".join((*parts, LAST_CHUNK)))
            self._connection.done()
        else:
            if parts:
                self._connection.transport.write(b"".join(parts))
            self._timer = clock.call_at(due, self._tell)

    def _end(self, at: float) -> None:
        if self._breaks:
            return self._break([])
        self._machine.metrics.first_token_s.observe(self._since_it_came(at))
        self._machine.metrics.generation_tokens += self._ask.completion_tokens
        self._finish(at)
        self._connection.respond(200, self._body)

    def _break(self, parts: Sequence[bytes]) -> None:
        self._connection.transport.write(b"".join(parts))
        self._connection.transport.close()

    def _finish(self, at: float) -> None:
        self._connection.work = None
        metrics = self._machine.metrics
        metrics.finished[self._ask.finish] += 1
        metrics.latency_s.observe(self._since_it_came(at))
        self._machine.slots.leave(at)
