"""Timers that are exact to tens of microseconds, on any asyncio loop."""

import asyncio
import ctypes
import heapq
import math
import os
import sys
import time
from collections.abc import Callable

Due = Callable[[float], None]
TFD_TIMER_ABSTIME = 1
TFD_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Timer:
    """A call that is due at `when`; `callback` is None once it was called or cancelled."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Due) -> None:
        self.when = when
        self.callback: Due | None = callback

    def __lt__(self, other: "Timer") -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        self.callback = None


class Clock:
    """Calls functions at absolute times of `time.monotonic()`, each with the time at which it was due.

    The loops' own timers count whole milliseconds (uvloop, and epoll under asyncio), 3 % of a 36 ms answer; a timerfd
    does not. Elsewhere than on Linux the loop's timers have to do.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = time.monotonic
        self._soon = loop.call_soon
        self._moment: float | None = None
        self._heap: list[Timer] = []
        self._armed = math.inf
        self._bell: _TimerFd | _LoopTimer = (_TimerFd if sys.platform == "linux" else _LoopTimer)(loop, self._ring)
        self._arm = self._bell.arm

    def close(self) -> None:
        """No timer rings any more."""
        self._heap.clear()
        self._arm = lambda when: None
        self._bell.close()

    def moment(self) -> float:
        """When the loop last woke: all requests of a burst were there by then, whenever each is read."""
        if self._moment is None:
            self._moment = self.now()
            self._soon(self._forget_moment)
        return self._moment

    def real(self, at: float) -> float:
        """The time of time.monotonic() that `at` stands for; clocks that go otherwise tell another."""
        return at

    def _forget_moment(self) -> None:
        self._moment = None

    def call_at(self, when: float, callback: Due) -> Timer:
        timer = Timer(when, callback)
        heapq.heappush(self._heap, timer)
        if when < self._armed:
            self._set(when)
        return timer

    def _set(self, when: float) -> None:
        self._armed = when
        self._arm(when)

    def _ring(self) -> None:
        heap = self._heap
        self._armed = -math.inf  # a callback's call_at must not arm: it is done once, below
        try:
            while heap and (heap[0].callback is None or heap[0].when <= self.now()):
                timer = heapq.heappop(heap)
                if timer.callback is not None:
                    callback, timer.callback = timer.callback, None
                    callback(timer.when)
        finally:
            self._set(heap[0].when if heap else math.inf)


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class _TimerFd:
    """timerfd_create(2) on CLOCK_MONOTONIC; Python's own os.timerfd_create needs 3.13."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, TFD_NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._spec = _TimerSpec()
        self._loop = loop
        loop.add_reader(self._fd, ring)

    def arm(self, when: float) -> None:
        """Setting the time anew also takes back the readiness of the file, so nothing has to be read from it."""
        value = self._spec.value
        if when == math.inf:
            value.seconds = value.nanoseconds = 0
        else:
            value.seconds, value.nanoseconds = divmod(max(1, int(when * 1e9)), 1_000_000_000)
        self._libc.timerfd_settime(self._fd, TFD_TIMER_ABSTIME, ctypes.byref(self._spec), None)

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class _LoopTimer:
    """The loop's own timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._pending: asyncio.TimerHandle | None = None

    def arm(self, when: float) -> None:
        self.close()
        if when != math.inf:
            self._pending = self._loop.call_later(max(0.0, when - time.monotonic()), self._ring)

    def close(self) -> None:
        if self._pending is not None:
            self._pending.cancel()
