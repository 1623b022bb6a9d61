"""An address whose turn it is, and what became of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rag.crawl.fetch import Kind

Outcome = Literal[
    "kept", "not modified", "duplicate", "redirect", "robots", "scope", "private", "too large", "type", "noindex",
    "missing", "error", "cap", "trap", "read", "waiting",
]  # fmt: skip


@dataclass(frozen=True)
class Waiting:
    """An address whose turn it is, with what an earlier visit left."""

    id: int
    url: str
    host: str
    kind: Kind
    depth: int
    hops: int
    attempts: int
    kept: bool
    body: str
    content_type: str
    charset: str
    etag: str
    last_modified: str
    fetched_at: str
    missing_times: int


@dataclass(frozen=True)
class Visit:
    """What became of an address; `asked` when there was a request.

    What an earlier visit kept stays when `kept` is None; `missing` counts it as gone.
    """

    outcome: Outcome
    reason: str = ""
    status: int = 0
    bytes: int = 0
    ms: int = 0
    leads_to: str = ""
    kept: bool | None = False
    missing: bool = False
    asked: bool = True
    body: str = ""
    content_type: str = ""
    charset: str = ""
    etag: str = ""
    last_modified: str = ""
    fetched_at: str = ""
    twins: Mapping[str, str] = field(default_factory=dict)
