"""The queue before a deployment: its classes, its turns between keys, and the gate with what is in flight."""

import asyncio
import math
from collections import OrderedDict
from enum import IntEnum

# Before anything was seen, how long a request is thought to take; and the longest wait that is told.
FIRST_GUESS_S = 1.0
LONGEST_RETRY_S = 600


class Klass(IntEnum):
    """The classes of requests; a lower number goes first."""

    INTERACTIVE = 0
    WORKFLOW = 1
    BULK = 2


class Ticket:
    """The right to have one request in flight; `leave` takes it back, once."""

    __slots__ = ("gate", "since")

    def __init__(self, gate: "Gate", since: float) -> None:
        self.gate: Gate | None = gate
        self.since = since


class Waiter:
    """One request in the queue."""

    __slots__ = ("deadline", "future", "gate", "key_id", "klass", "since")

    def __init__(
        self, gate: "Gate", future: "asyncio.Future[Ticket]", key_id: str, klass: int, since: float, wait_s: float
    ) -> None:
        self.gate, self.future, self.key_id, self.klass = gate, future, key_id, klass
        self.since, self.deadline = since, since + wait_s


class Lane:
    """The waiting requests of one class: keys in the order of their turns, each with its own in the order they came."""

    def __init__(self) -> None:
        self.keys: OrderedDict[str, OrderedDict[Waiter, None]] = OrderedDict()
        self.size = 0

    def add(self, waiter: Waiter) -> None:
        self.keys.setdefault(waiter.key_id, OrderedDict())[waiter] = None
        self.size += 1

    def remove(self, waiter: Waiter) -> bool:
        """False when it was not here any more."""
        mine = self.keys.get(waiter.key_id)
        if mine is None or waiter not in mine:
            return False
        del mine[waiter]
        if not mine:
            del self.keys[waiter.key_id]
        self.size -= 1
        return True

    def next(self) -> Waiter:
        """Takes out the oldest of the key whose turn it is; that key's next turn comes after all others'."""
        key_id, mine = next(iter(self.keys.items()))
        waiter, _ = mine.popitem(last=False)
        self.size -= 1
        if mine:
            self.keys.move_to_end(key_id)
        else:
            del self.keys[key_id]
        return waiter

    def longest(self) -> OrderedDict[Waiter, None]:
        return max(self.keys.values(), key=len, default=OrderedDict())

    def waiters(self) -> list[Waiter]:
        return [waiter for mine in self.keys.values() for waiter in mine]


class Gate:
    """One deployment: what is in flight and what waits. `mean_s` is how long a request has a slot, smoothed."""

    __slots__ = ("in_flight", "lanes", "limit", "mean_s", "name", "peak", "queued")

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = self.limit = self.queued = 0
        self.lanes = tuple(Lane() for _ in Klass)
        self.mean_s = 0.0
        self.peak = False

    def retry_after_s(self, klass: int) -> int:
        """When all that now goes before a new request of this class will have had its slot."""
        before = sum(lane.size for lane in self.lanes[: klass + 1]) + 1
        wait_s = before * (self.mean_s or FIRST_GUESS_S) / max(1, self.limit)
        return min(LONGEST_RETRY_S, max(1, math.ceil(wait_s)))
