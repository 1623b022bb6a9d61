"""Whether the load generator itself was the limit."""

import time
from array import array
from dataclasses import dataclass

import numpy as np

from engine.bench.clock import Clock, Timer
from engine.bench.load.samples import Column, Window

TICK_S = 0.01
# From here on a core has queues of its own, which add to what is measured.
MOST_CPU = 0.85
# What a loop that is late adds to the latencies: below the floor is any machine's own noise.
MOST_LAG_SHARE, LAG_FLOOR_S = 0.02, 0.0005
MOST_SEND_LAG_SHARE, SEND_LAG_FLOOR_S = 0.05, 0.002


@dataclass(frozen=True)
class Watch:
    """The generator in a window. Its thread's share of one core; how late its loop came round, as in every latency;
    how much later than intended it sent. `limited` says why IT was the limit."""

    cpu: float
    loop_lag_mean_s: float
    loop_lag_p99_s: float
    send_lag_p99_s: float
    limited: str | None


class Ticks:
    """Looks at its own loop every TICK_S; rows of (when, how late, CPU seconds of this thread so far)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows = array("d")
        self._timer: Timer = clock.call_at(clock.now(), self._tick)

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self, due: float) -> None:
        now = self._clock.now()
        self._rows.extend((now, now - due, time.thread_time()))
        # A tick that comes very late stands for all that it missed: the loop was not there for them, either.
        missed = int((now - due) / TICK_S)
        for i in range(1, missed + 1):
            self._rows.extend((now, now - due - i * TICK_S, time.thread_time()))
        self._timer = self._clock.call_at(due + (missed + 1) * TICK_S, self._tick)

    def between(self, begin: float, end: float) -> Column:
        """The rows in [begin, end], shape (n, 3)."""
        rows = np.array(self._rows).reshape(-1, 3)
        first, last = np.searchsorted(rows[:, 0], (begin, end))
        found: Column = rows[first:last]
        return found


def watch(ticks: Column, window: Window) -> Watch:
    """The verdict on a window of which `ticks` are the rows; pure."""
    cpu = loop_mean = loop_p99 = 0.0
    if len(ticks) >= 2:
        cpu = float((ticks[-1, 2] - ticks[0, 2]) / max(1e-9, ticks[-1, 0] - ticks[0, 0]))
        loop_mean, loop_p99 = float(ticks[:, 1].mean()), float(np.percentile(ticks[:, 1], 99))
    send_p99 = float(np.percentile(window["lag"], 99)) if len(window) else 0.0
    median_s = float(np.median(window.latency_s)) if len(window) else 0.0
    unwatched = None if len(ticks) >= 2 else "the load generator's loop did not come round in this window"
    why = unwatched or _why(cpu, loop_mean, send_p99, median_s)
    return Watch(cpu, loop_mean, loop_p99, send_p99, why)


def _why(cpu: float, loop_lag_s: float, send_lag_s: float, median_s: float) -> str | None:
    if cpu > MOST_CPU:
        return f"the load generator used {cpu:.0%} of its core"
    if loop_lag_s > max(LAG_FLOOR_S, MOST_LAG_SHARE * median_s):
        late, of = f"{loop_lag_s * 1000:.1f} ms late on average", f"a median latency of {median_s * 1000:.1f} ms"
        return f"the load generator's loop was {late}, of {of}"
    if send_lag_s > max(SEND_LAG_FLOOR_S, MOST_SEND_LAG_SHARE * median_s):
        return f"the load generator sent 1 % of the requests more than {send_lag_s * 1000:.1f} ms late"
    return None
