"""What a host's robots.txt allows (RFC 9309), read by Protego."""

from dataclasses import dataclass, field
from typing import Any, Literal

from protego import Protego

PRODUCT = "scalable-engine-crawler"
LONGEST_CRAWL_DELAY_S = 30.0


@dataclass(frozen=True)
class Robots:
    """A host's rules; `blocked` says why nothing may be asked for, and `again` whether that may change soon.

    `outcome` is what the host's addresses come to while it is blocked.
    """

    rules: Any = field(default=None, repr=False)
    blocked: str = ""
    again: bool = False
    outcome: Literal["robots", "error", "private"] = "robots"

    def refusal(self, url: str) -> str:
        """Why an address may not be asked for; empty when it may."""
        if self.blocked or self.rules is None:
            return self.blocked
        return "" if self.rules.can_fetch(url, PRODUCT) else "disallowed by robots.txt"

    @property
    def crawl_delay_s(self) -> float:
        """What the host asks for between two requests, at most LONGEST_CRAWL_DELAY_S; 0 when it asks for nothing."""
        asked = float(self.rules.crawl_delay(PRODUCT) or 0) if self.rules else 0.0
        return min(asked, LONGEST_CRAWL_DELAY_S) if asked > 0 else 0.0

    @property
    def sitemaps(self) -> list[str]:
        return list(self.rules.sitemaps) if self.rules else []


def robots_of(status: int, body: bytes) -> Robots:
    """The rules from an answer: 2xx has them, 4xx means that there are none, and anything else blocks the host."""
    if 200 <= status < 300:
        return Robots(Protego.parse(body.decode("utf-8-sig", errors="replace")))
    if 400 <= status < 500 and status != 429:
        return Robots()
    return Robots(blocked=f"robots.txt answered {status}", again=True)


def user_agent(contact: str) -> str:
    """What servers read in their logs: who asks, and whom to write to."""
    where = contact if contact.startswith(("http://", "https://")) else f"mailto:{contact}"
    return f"{PRODUCT}/1.0 (+{where})"
