"""What the console asks of `rag`: crawls and the index on this machine. All of it reads or begins processes."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.settings import Settings, require_local_disk
from rag.crawl import process, report
from rag.crawl.store import folder_of
from rag.index import process as building
from rag.index.generations import Generations
from rag.retrieve.retriever import index_folder


def settings() -> Settings:
    """Those of this process; raises ConfigurationError when ENGINE_LOCAL is no local disk."""
    found = Settings.from_env(os.environ)
    require_local_disk(found.local)
    return found


def folder(name: str) -> Path:
    return folder_of(settings(), name)


def every() -> list[dict[str, Any]]:
    """The status of each crawl, the one begun last first; raises CrawlError."""
    found = sorted(folder("").glob("*/frontier.db"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [asdict(report.status(path.parent)) for path in found]


def one(name: str) -> dict[str, Any]:
    """Its status, its hosts, and the moments of the last visits of kept pages."""
    place = folder(name)
    return {**asdict(report.status(place)), "by_host": report.hosts(place), "visits": report.visits(place)}


@dataclass(frozen=True)
class Filter:
    """Of addresses; empty is all."""

    outcome: str = ""
    host: str = ""
    text: str = ""


def page(name: str, wanted: Filter, limit: int, offset: int) -> dict[str, Any]:
    """Addresses of the last crawl, a page of them, and how many there are."""
    place = folder(name)
    outcome, host, text = wanted.outcome, wanted.host, wanted.text
    rows = report.rows(place, outcome=outcome, host=host, text=text, limit=limit, offset=offset)
    return {"rows": [asdict(row) for row in rows], "count": report.count(place, outcome=outcome, host=host, text=text)}


def as_csv(name: str, wanted: Filter) -> str:
    rows = report.rows(folder(name), outcome=wanted.outcome, host=wanted.host, text=wanted.text)
    return report.as_csv(rows)


def begin(name: str, arguments: Sequence[str]) -> int:
    """Begins a crawl or goes on with it; raises CrawlError."""
    return process.start(settings(), name, arguments)


def pause(name: str) -> str:
    """Waits until it has paused, and returns its name; raises CrawlError."""
    process.pause(folder(name))
    return name


def index() -> dict[str, Any]:
    """The generations, the latest first, what the last build found out, and whether one builds now."""
    chosen = settings()
    known = Generations(index_folder(chosen))
    current = known.current() if (known.folder / "current").is_file() else ""
    rows = [
        {"name": name, "current": name == current, **_read(known.path(name) / "generation.json")}
        for name in reversed(known.names())
    ]
    return {
        "generations": rows,
        "quality": _read(known.folder / "quality.json"),
        "builds": building.builds(known),
        "said": building.last_line(chosen),
    }


def build(crawls: Sequence[str], shrink: bool) -> int:
    return building.start(settings(), crawls, shrink)


def roll_back() -> str:
    """The name of the generation that is current from now on; raises IndexRejected."""
    return Generations(index_folder(settings())).rollback()


def _read(path: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told
