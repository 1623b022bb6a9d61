"""Who may go on to a deployment now, who waits, and who is told to come back later.

Per deployment at most `limit` requests are in flight. Beyond that they wait in a bounded queue: classes in their
order, keys of one class in turn, the requests of one key first in first out. One event loop, no locks.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from engine.errors import EngineError, Overloaded
from engine.gateway.gates import Gate, Klass, Ticket, Waiter

TICK_S = 0.1
# How fast the mean time of a request follows what is seen.
MEAN_WEIGHT = 0.05


class Admission:
    """Hands out tickets. The free way is `enter` alone and synchronous; `wait` is for those that got none.

    ticket = admission.enter(name, key_id, Klass.BULK, route.limit) or await admission.wait(name, key_id, Klass.BULK)
    try: …
    finally: admission.leave(ticket)
    """

    def __init__(
        self,
        limit: Callable[[str], int],
        *,
        queue_most: int = 1000,
        wait_s: float = 60.0,
        peak_share: float = 0.8,
        calm_share: float = 0.6,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limit` tells how many requests a deployment may have in flight now, or raises what waiting ones are told.

        `queue_most` bounds the queue of each deployment. Peak begins above `peak_share` of the limit and ends at
        `calm_share` of it.
        """
        self._limit, self._now = limit, now
        self.queue_most, self.wait_s = queue_most, wait_s
        self.peak_share, self.calm_share = peak_share, calm_share
        self._gates: dict[str, Gate] = {}
        self._timer: asyncio.TimerHandle | None = None

    def enter(self, name: str, key_id: str, klass: int, limit: int) -> Ticket | None:
        """A ticket at once, or None where the caller has to `wait`; never passes by somebody who waits."""
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = Gate(name)
        if gate.limit != limit:
            gate.limit = limit
            self._admit(gate)
        if gate.in_flight >= limit or gate.queued:
            return None
        gate.in_flight += 1
        if gate.in_flight > self.peak_share * limit:
            gate.peak = True
        return Ticket(gate, self._now())

    async def wait(self, name: str, key_id: str, klass: int, wait_s: float | None = None) -> Ticket:
        """A ticket when this request's turn comes, after `enter` gave none: `line_up`, then `turn`."""
        return await self.turn(self.line_up(name, key_id, klass, wait_s))

    def line_up(self, name: str, key_id: str, klass: int, wait_s: float | None = None) -> Waiter:
        """A place in the queue, which needs `turn`; raises Overloaded when the queue is full."""
        gate = self._gates[name]
        self._make_room(gate, key_id, klass)
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        waiter = Waiter(gate, future, key_id, klass, self._now(), self.wait_s if wait_s is None else wait_s)
        gate.lanes[klass].add(waiter)
        gate.queued += 1
        self._admit(gate)
        self._start_timer()
        return waiter

    async def turn(self, waiter: Waiter) -> Ticket:
        """Waits for a ticket. A caller that is cancelled, or whose `waiter.future` is, is out of the queue at once.

        Raises Overloaded when the deadline has passed or a request that goes before took the place, with the seconds
        after which to come again; whatever the limit raises when there is nothing to wait for any more.
        """
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self._forget(waiter.gate, waiter)
            raise

    def leave(self, ticket: Ticket) -> None:
        """Gives a slot back, to whoever is next; a second time does nothing."""
        gate = ticket.gate
        if gate is None:
            return
        ticket.gate = None
        held_s = self._now() - ticket.since
        gate.mean_s += (held_s - gate.mean_s) * (MEAN_WEIGHT if gate.mean_s else 1.0)
        gate.in_flight -= 1
        if gate.queued:
            self._admit(gate)
        elif gate.peak:
            self._note_peak(gate)

    @asynccontextmanager
    async def slot(
        self, name: str, key_id: str, klass: int, limit: int, wait_s: float | None = None
    ) -> AsyncIterator[Ticket]:
        """A ticket for as long as a block runs; raises as `wait` does."""
        ticket = self.enter(name, key_id, klass, limit) or await self.wait(name, key_id, klass, wait_s)
        try:
            yield ticket
        finally:
            self.leave(ticket)

    def load(self, name: str) -> tuple[int, int, int]:
        """Requests in flight, requests waiting, and the limit."""
        gate = self._gates.get(name)
        limit = self._limit(name)
        return (gate.in_flight, gate.queued, limit) if gate else (0, 0, limit)

    def is_peak(self, name: str) -> bool:
        """Whether the advanced workflows should stand back: from `peak_share` of the limit until `calm_share` again."""
        gate = self._gates.get(name)
        return gate is not None and gate.peak

    def queued(self) -> dict[str, int]:
        """Waiting requests by deployment."""
        return {name: gate.queued for name, gate in self._gates.items()}

    def keep_only(self, names: Iterable[str]) -> None:
        """Forgets deployments that are gone and have nothing here any more."""
        kept = set(names)
        gone = [g for g in self._gates.values() if g.name not in kept and not g.in_flight and not g.queued]
        for gate in gone:
            del self._gates[gate.name]

    def sweep(self) -> None:
        """Sees new limits and passed deadlines; runs by itself every TICK_S as long as anybody waits."""
        now = self._now()
        for gate in tuple(self._gates.values()):
            if not gate.queued:
                continue
            try:
                gate.limit = self._limit(gate.name)
            except EngineError as error:
                for waiter in self._waiters(gate):
                    self._refuse(gate, waiter, error)
                continue
            self._admit(gate)
            for waiter in self._waiters(gate):
                if waiter.deadline <= now:
                    self._refuse(gate, waiter, self._too_late(gate, waiter))

    def _waiters(self, gate: Gate) -> list[Waiter]:
        return [waiter for lane in gate.lanes for waiter in lane.waiters()]

    def _admit(self, gate: Gate) -> None:
        while gate.queued and gate.in_flight < gate.limit:
            waiter = next(lane for lane in gate.lanes if lane.size).next()
            gate.queued -= 1
            if not waiter.future.done():
                gate.in_flight += 1
                waiter.future.set_result(Ticket(gate, self._now()))
        self._note_peak(gate)

    def _note_peak(self, gate: Gate) -> None:
        load = gate.in_flight + gate.queued
        gate.peak = load > (self.calm_share if gate.peak else self.peak_share) * gate.limit

    def _make_room(self, gate: Gate, key_id: str, klass: int) -> None:
        """Where the queue is full, the newest request of the greediest key of the lowest class gives way to one that
        comes before it in class or in fairness; else the new one is refused.
        """
        if gate.queued < self.queue_most:
            return
        lowest = max((k for k in Klass if gate.lanes[k].size), default=klass)
        longest = gate.lanes[lowest].longest()
        mine = len(gate.lanes[lowest].keys.get(key_id, ()))
        full = Overloaded(
            f"{gate.name!r} is overloaded: {gate.in_flight} requests run and {gate.queued} wait, the most that may",
            gate.retry_after_s(klass),
        )
        if lowest < klass or (lowest == klass and len(longest) <= mine + 1):
            raise full
        self._refuse(gate, next(reversed(longest)), full)

    def _too_late(self, gate: Gate, waiter: Waiter) -> Overloaded:
        waited_s = self._now() - waiter.since
        text = f"{gate.name!r} is overloaded: no slot came free within {waited_s:.0f} s, {gate.queued - 1} more wait"
        return Overloaded(text, gate.retry_after_s(waiter.klass))

    def _refuse(self, gate: Gate, waiter: Waiter, error: EngineError) -> None:
        if gate.lanes[waiter.klass].remove(waiter):
            gate.queued -= 1
        if not waiter.future.done():
            waiter.future.set_exception(error)

    def _forget(self, gate: Gate, waiter: Waiter) -> None:
        """Of a cancelled wait: out of the queue, or the ticket back that it had already got and nobody saw."""
        if gate.lanes[waiter.klass].remove(waiter):
            gate.queued -= 1
            self._note_peak(gate)
        elif waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
            self.leave(waiter.future.result())

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.sweep()
        if any(gate.queued for gate in self._gates.values()):
            self._start_timer()
