"""What the console knows: the last good answer to each question, and since when there is no newer one."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from engine.errors import AccessDenied, EndpointError, EngineError

T = TypeVar("T")


@dataclass(frozen=True)
class Reading(Generic[T]):
    """An answer and when it came. `trouble` tells why there is no newer one, since `since`; empty when all is well.

    `value` is None as long as there was no answer at all.
    """

    value: T | None = None
    at: datetime | None = None
    trouble: str = ""
    since: datetime | None = None


class Feed:
    """Asks a client, and keeps the last good answers for as long as somebody is logged in.

    `client` is an EngineClient, or anything with its methods. Once its key is refused, `denied` says so.
    """

    def __init__(self, client: Any, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.client, self._now = client, now
        self.denied = ""
        self._kept: dict[Hashable, Reading[Any]] = {}

    def read(self, question: Hashable, ask: Callable[[Any], T], fresh_s: float = 0.0) -> Reading[T]:
        """The answer to a question by which it is known, asked anew unless the last one is younger than `fresh_s`.

        Never raises an EngineError: then the last good answer comes again, with the trouble.
        """
        before: Reading[T] = self._kept.get(question, Reading())
        now = self._now()
        if before.at and not before.trouble and (now - before.at).total_seconds() < fresh_s:
            return before
        try:
            found = Reading(ask(self.client), now)
        except AccessDenied as error:
            self.denied = str(error)
            found = replace(before, trouble=str(error), since=before.since or now)
        except EndpointError as error:
            found = replace(before, trouble=f"the gateway does not answer ({error})", since=before.since or now)
        except EngineError as error:
            found = replace(before, trouble=str(error), since=before.since or now)
        self._kept[question] = found
        return found

    def forget(self) -> None:
        """After something was changed: the next look asks anew. Answers stay, in case none comes."""
        self._kept = {question: replace(reading, at=None) for question, reading in self._kept.items()}
