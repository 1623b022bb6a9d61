"""One request at a time to a host, and a pause after each."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class _Host:
    delay_s: float
    ready_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Turnstile:
    """Lets requests to a host through one after the other, `delay_s` or more between an answer and the next request."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._hosts: dict[str, _Host] = {}

    @asynccontextmanager
    async def turn(self, host: str) -> AsyncIterator[None]:
        """Waits for the host to be free and ready, then holds it."""
        state = self._of(host)
        async with state.lock:
            await asyncio.sleep(self.wait_s(host))
            try:
                yield
            finally:
                state.ready_at = max(state.ready_at, time.monotonic() + state.delay_s)

    def wait_s(self, host: str) -> float:
        """How long until a host may be asked again; 0 when it may be now."""
        return max(self._of(host).ready_at - time.monotonic(), 0.0)

    def slow_down(self, host: str, delay_s: float) -> None:
        """Takes over a longer delay, as a robots.txt asks for it."""
        state = self._of(host)
        state.delay_s = max(state.delay_s, delay_s)
        if state.ready_at:
            state.ready_at = max(state.ready_at, time.monotonic() + state.delay_s)

    def pause(self, host: str, pause_s: float) -> None:
        """Leaves a host alone for a while."""
        state = self._of(host)
        state.ready_at = max(state.ready_at, time.monotonic() + pause_s)

    def _of(self, host: str) -> _Host:
        return self._hosts.setdefault(host, _Host(self._delay_s))
