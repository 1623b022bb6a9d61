"""How often the scheduler's commands are run: what an administrator of the cluster wants to know of us."""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from engine.fleet.run import Completed, Run

HOUR_S = 3600.0
MOST = 100_000


class CallLog:
    """Counts calls by program over the last hour. Thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = now()
        self._calls: deque[tuple[float, str]] = deque(maxlen=MOST)
        self._lock = threading.Lock()

    def counted(self, run: Run) -> Run:
        """The same seam, with each call noted. `env NAME=… PROGRAM` counts as PROGRAM."""

        def noted(argv: Sequence[str], timeout_s: float) -> Completed:
            with self._lock:
                self._calls.append((self._now(), _program(argv)))
            return run(argv, timeout_s)

        return noted

    def last_hour(self) -> dict[str, int]:
        with self._lock:
            while self._calls and self._calls[0][0] < self._now() - HOUR_S:
                self._calls.popleft()
            return dict(Counter(program for _, program in self._calls))

    @property
    def counted_s(self) -> float:
        """How much of the last hour was counted: less than an hour after a start."""
        return min(HOUR_S, self._now() - self._began)


def _program(argv: Sequence[str]) -> str:
    words = iter(argv)
    for word in words:
        if word == "-u":
            next(words, None)
        elif word != "env" and "=" not in word:
            return word.rpartition("/")[2]
    return ""
