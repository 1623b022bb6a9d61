"""A known number of parallel slots, first come, first served."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class Turn(Protocol):
    """What wants a slot. `begin(at)` is called when it gets one; `at` is when the slot was free, exactly."""

    arrived: float

    def begin(self, at: float) -> None: ...


class Slots:
    """Times are absolute seconds. A slot passes on at the time its last turn was due to end, not when we noticed,
    so that lateness never adds up over a queue. `on_change` is told the number that runs, and from when on."""

    def __init__(self, capacity: int, on_change: Callable[[int, float], None] | None = None) -> None:
        self.capacity = capacity
        self.running = 0
        self._on_change = on_change
        self._queue: OrderedDict[Turn, None] = OrderedDict()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def enter(self, turn: Turn) -> None:
        if self.running < self.capacity:
            self._count(self.running + 1, turn.arrived)
            turn.begin(turn.arrived)
        else:
            self._queue[turn] = None

    def leave(self, at: float) -> None:
        """A slot is free from `at` on."""
        if self._queue:
            turn, _ = self._queue.popitem(last=False)
            turn.begin(max(at, turn.arrived))
        else:
            self._count(self.running - 1, at)

    def _count(self, running: int, at: float) -> None:
        self.running = running
        if self._on_change is not None:
            self._on_change(running, at)

    def forget(self, turn: Turn) -> bool:
        """Takes a turn out of the queue; False if it is not in it."""
        if turn in self._queue:
            del self._queue[turn]
            return True
        return False
