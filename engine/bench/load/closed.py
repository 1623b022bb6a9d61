"""The closed loop: N users, each with one request under way."""

import time

from engine.bench.load.line import Line
from engine.bench.load.prompts import Prompts
from engine.bench.load.run import Run, resolve
from engine.bench.load.shortage import make_room
from engine.bench.load.target import Target

# A user whose request failed waits before the next one, twice as long each time: a dead server is not hammered.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


class Closed(Run):
    """Each user sends the next request as soon as the answer to the last is whole, on a connection of its own."""

    _users = 0

    @property
    def users(self) -> int:
        return self._users

    def set_users(self, users: int, stagger_s: float = 0.0) -> None:
        """More users start over `stagger_s`, one after the other; users too many leave after their answer."""
        make_room(users)
        lines = [line for line in self._lines if not line.retired]
        for line in lines[users:]:
            line.retired = True
        now, more = time.perf_counter(), users - len(lines)
        for i in range(more):
            line = Line(self)
            self._lines.add(line)
            self._later(line, now + stagger_s * i / more)
        self._users = users

    def next(self, line: Line, end: float) -> None:
        if line.failures:
            self._later(line, end + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(10, line.failures - 1)))
        else:
            self._go(line, end)

    def _later(self, line: Line, at: float) -> None:
        self._clock.call_at(at, lambda due: self._go(line, due))

    def _go(self, line: Line, due: float) -> None:
        if self.stopped or line.retired:
            self._lines.discard(line)
            line.close()
        else:
            line.begin(due)


async def closed(
    target: Target, prompts: Prompts, users: int, *, stagger_s: float = 0.0, timeout_s: float = 600.0
) -> Closed:
    """Starts `users` over `stagger_s`: in lockstep each would queue behind all others. `timeout_s` is for one request.

    Raises EndpointRefused when the target's name is unknown, ConfigurationError when this machine has no room for so
    many connections; a target that does not answer shows in the samples.
    """
    make_room(users)
    run = Closed(target, prompts, await resolve(target), timeout_s)
    run.set_users(users, stagger_s)
    return run
