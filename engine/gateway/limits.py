"""What a key's own limits refuse: a model, too many requests at once or in a minute, too many tokens in a day."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime

from engine.errors import Overloaded
from engine.gateway.keys import NO_LIMITS, Key
from engine.gateway.protocol import Refusal, Refused

MINUTE_S = 60.0
DAY_S = 86400


def require_model(key: Key, *names: str) -> None:
    """Raises Refused (403) when none of a model's names is open to the key."""
    if not key.limits.allow(*names):
        opened = ", ".join(key.limits.models)
        text = f"key {key.name!r} does not open {names[0]!r}; it opens {opened}"
        raise Refused(Refusal(403, text, "permission_error", "model_not_allowed", "model"))


class KeyLimits:
    """Counts by key; only keys that have limits cost anything. One event loop.

    Tokens are known when a request has ended, so the requests that run when a day's tokens are spent end as they would.
    """

    def __init__(
        self,
        tokens_today: Callable[[str], int],
        now: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tokens_today, self._now, self._today = tokens_today, now, today
        self._running: Counter[str] = Counter()
        self._recent: dict[str, deque[float]] = {}

    def enter(self, key: Key) -> None:
        """Counts one request in; raises Overloaded, which counts nothing. Each `enter` needs a `leave`."""
        limits = key.limits
        if limits is NO_LIMITS:
            return
        if limits.parallel is not None and self._running[key.id] >= limits.parallel:
            raise Overloaded(f"key {key.name!r} may have {limits.parallel} requests at the same time, and has", 1)
        if limits.tokens_per_day is not None and self._tokens_today(key.id) >= limits.tokens_per_day:
            text = f"key {key.name!r} has used its {limits.tokens_per_day} tokens of today; the day ends at 0:00 UTC"
            raise Overloaded(text, self._until_midnight_s())
        if limits.requests_per_minute is not None:
            self._count_minute(key, limits.requests_per_minute)
        self._running[key.id] += 1

    def leave(self, key: Key) -> None:
        if key.limits is NO_LIMITS:
            return
        self._running[key.id] -= 1
        if self._running[key.id] <= 0:
            del self._running[key.id]

    def _count_minute(self, key: Key, most: int) -> None:
        now = self._now()
        recent = self._recent.setdefault(key.id, deque())
        while recent and recent[0] <= now - MINUTE_S:
            recent.popleft()
        if len(recent) >= most:
            text = f"key {key.name!r} may ask {most} times a minute, and has"
            raise Overloaded(text, max(1, math.ceil(recent[0] + MINUTE_S - now)))
        recent.append(now)

    def _until_midnight_s(self) -> int:
        now = self._today()
        return max(1, DAY_S - (now.hour * 3600 + now.minute * 60 + now.second))
