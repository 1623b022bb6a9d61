"""Continuous batching: the more requests run, the slower each gets on. The truth for estimators that must bear it."""

import heapq
import itertools
import math
from collections.abc import Callable

from engine.bench.clock import Clock, Due, Timer


class Batch:
    """The clock of a machine that all running requests share: with n running it goes 1 + n * slowing times slower.

    An answer that takes r0 on a machine that slows nothing takes R(n) = r0 + r1 * n here, where r1 = r0 * slowing. With
    B slots and N users who ask without a pause, min(N, B) run and the others wait, so that by Little's law

        R(N) = (r0 + r1 * min(N, B)) * max(1, N / B).

    An answer under way when others come or go gets on at each moment's pace, as if tokens were endlessly small; a real
    server changes its batch only between two of them.
    """

    def __init__(self, clock: Clock, slowing: float) -> None:
        self._clock, self._slowing = clock, slowing
        self._running = 0
        self._machine = self._real = clock.now()  # the same moment on both clocks: when `running` last changed
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._alarm: Timer | None = None

    @property
    def _pace(self) -> float:
        """Real seconds per second of the machine's."""
        return 1 + self._running * self._slowing

    def now(self) -> float:
        return self._at(self._clock.now())

    def moment(self) -> float:
        return self._at(self._clock.moment())

    def real(self, at: float) -> float:
        """When it is `at` on the machine's clock, as long as nothing comes or goes."""
        return self._real + (at - self._machine) * self._pace

    def _at(self, real: float) -> float:
        return self._machine + (real - self._real) / self._pace

    def running(self, count: int, at: float) -> None:
        """From `at` (the machine's time) on so many run."""
        if at > self._machine:
            self._real, self._machine = self.real(at), at
        self._running = count
        self._arm()

    def call_at(self, when: float, callback: Due) -> Timer:
        timer = Timer(when, callback)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        if self._heap[0][2] is timer:
            self._arm()
        return timer

    def _arm(self) -> None:
        while self._heap and self._heap[0][2].callback is None:
            heapq.heappop(self._heap)
        when = self.real(self._heap[0][0]) if self._heap else math.inf
        if self._alarm is not None:
            if self._alarm.callback is not None and self._alarm.when == when:
                return
            self._alarm.cancel()
        self._alarm = self._clock.call_at(when, self._ring) if self._heap else None

    def _ring(self, due: float) -> None:
        """Calls what is due at `due`, one at a time: each may change the pace for the next."""
        if self._heap and self._heap[0][2].callback is not None:
            when, _, timer = heapq.heappop(self._heap)
            callback: Callable[[float], None] | None = timer.callback
            timer.callback = None
            if callback is not None:
                callback(when)
        self._arm()
