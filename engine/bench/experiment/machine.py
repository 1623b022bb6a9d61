"""How much of this machine's CPU others use: neither the load generator nor the engine."""

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


class Machine:
    """Looked up once, read cheaply: the processes that belong to the experiment are those of this ENGINE_HOME."""

    def __init__(self, home: Path, pids: Iterable[int] = ()) -> None:
        """`pids` are further ones of ours, with their children; this process is one by itself."""
        self._ours = list(_families(_of_home(home), [os.getpid(), *pids]))
        self._last: dict[int, float] = {}

    def reading(self) -> tuple[float, float, float]:
        """Now, in seconds: the clock, the CPU time of all, the CPU time of ours."""
        return time.perf_counter(), _busy_s(), sum(self._used_s(process) for process in self._ours)

    def _used_s(self, process: psutil.Process) -> float:
        with suppress(psutil.Error):
            times = process.cpu_times()
            self._last[process.pid] = times.user + times.system
        return self._last.get(process.pid, 0.0)


def foreign(before: tuple[float, float, float], after: tuple[float, float, float]) -> float:
    """The share of all CPUs that others used between two readings."""
    wall_s, busy_s, ours_s = (b - a for a, b in zip(before, after, strict=True))
    share = (busy_s - ours_s) / max(1e-9, wall_s * (psutil.cpu_count() or 1))
    return float(min(1.0, max(0.0, share)))


def _busy_s() -> float:
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guest)


def _of_home(home: Path) -> Iterable[psutil.Process]:
    """Sidecars and NGINX carry the path in their command line."""
    mark = str(home)
    for process in psutil.process_iter(["cmdline"]):
        if any(mark in word for word in process.info["cmdline"] or ()):
            yield process


def _families(found: Iterable[psutil.Process], pids: Iterable[int]) -> Iterable[psutil.Process]:
    known: dict[int, psutil.Process] = {}
    for process in (*found, *_processes(pids)):
        with suppress(psutil.Error):
            known |= {one.pid: one for one in (process, *process.children(recursive=True))}
    return known.values()


def _processes(pids: Iterable[int]) -> Iterable[psutil.Process]:
    for pid in pids:
        with suppress(psutil.Error):
            yield psutil.Process(pid)
