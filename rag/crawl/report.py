"""What a crawl has done so far, and what became of each address: for people, the console and CSV."""

import csv
import io
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from engine.errors import CrawlError
from rag.crawl.lock import holder
from rag.crawl.options import options_of
from rag.crawl.store import connect_to_read, nothing_in

State = Literal["running", "paused", "interrupted", "done"]
# What a row says of itself while it waits.
OUTCOME = "CASE WHEN waiting THEN 'waiting' ELSE outcome END"


@dataclass(frozen=True)
class CrawlStatus:
    """How far a crawl is.

    `state` is `interrupted` when its process died. `pages` are kept, `hosts` answered, `bytes` came over the wire in
    this crawl. `counts` has the number of addresses for each outcome. `ended_by` is empty until the crawl is done; then
    `nothing left`, `pages`, `hosts`, `pages per host` or `requests`: the cap that ended it. Times are ISO 8601 in UTC.
    """

    name: str
    state: State
    crawl: int
    seeds: tuple[str, ...]
    started: str
    ended: str
    ended_by: str
    pages: int
    hosts: int
    waiting: int
    requests: int
    bytes: int
    counts: dict[str, int]


@dataclass(frozen=True)
class ReportRow:
    """An address of a crawl. `kind` is `page`, `sitemap` or `robots`; `status` is 0 where nothing was asked for."""

    url: str
    host: str
    kind: str
    outcome: str
    reason: str
    status: int
    bytes: int
    ms: int
    content_type: str
    found_on: str
    visited: str


def status(folder: Path) -> CrawlStatus:
    """Raises CrawlError when nothing was crawled in the folder."""
    with closing(connect_to_read(folder)) as database:
        last = last_crawl(database, folder)
        number = last["number"]
        counts = dict(
            database.execute(
                f"SELECT {OUTCOME} AS told, COUNT(*) FROM pages WHERE crawl = ? GROUP BY told ORDER BY 2 DESC",
                (number,),
            ).fetchall()
        )
        sums = database.execute(
            "SELECT COALESCE(SUM(visited != ''), 0) AS requests, COALESCE(SUM(bytes), 0) AS bytes, "
            "COUNT(DISTINCT CASE WHEN status > 0 THEN host END) AS hosts FROM pages WHERE crawl = ?",
            (number,),
        ).fetchone()
        pages = database.execute("SELECT COUNT(*) FROM pages WHERE kept").fetchone()[0]
    return CrawlStatus(
        name=folder.name,
        state=_state(folder, last["state"]),
        crawl=number,
        seeds=options_of(last["options"]).seeds,
        started=last["started"],
        ended=last["ended"],
        ended_by=last["ended_by"],
        pages=pages,
        hosts=sums["hosts"],
        waiting=counts.get("waiting", 0),
        requests=sums["requests"],
        bytes=sums["bytes"],
        counts=counts,
    )


def last_crawl(database: sqlite3.Connection, folder: Path) -> sqlite3.Row:
    """The row of the last crawl; raises CrawlError when there is none."""
    row: sqlite3.Row | None = database.execute("SELECT * FROM crawls ORDER BY number DESC LIMIT 1").fetchone()
    if row is None:
        raise CrawlError(nothing_in(folder))
    return row


def _state(folder: Path, written: str) -> State:
    if written == "done":
        return "done"
    if holder(folder):
        return "running"
    return "paused" if written == "paused" else "interrupted"


def rows(
    folder: Path, *, outcome: str = "", host: str = "", text: str = "", limit: int = -1, offset: int = 0
) -> list[ReportRow]:
    """Addresses of the last crawl in the order in which they were met; `text` is looked for in address and reason.

    `limit` -1 is all of them. Raises CrawlError when nothing was crawled in the folder.
    """
    names = ", ".join(f"{OUTCOME} AS outcome" if field.name == "outcome" else field.name for field in fields(ReportRow))
    where, values = _filter(outcome, host, text)
    with closing(connect_to_read(folder)) as database:
        found = database.execute(
            f"SELECT {names} FROM pages {where} ORDER BY id LIMIT ? OFFSET ?", (*values, limit, offset)
        )
        return [ReportRow(**dict(row)) for row in found]


def count(folder: Path, *, outcome: str = "", host: str = "", text: str = "") -> int:
    """How many `rows` there are."""
    where, values = _filter(outcome, host, text)
    with closing(connect_to_read(folder)) as database:
        return int(database.execute(f"SELECT COUNT(*) FROM pages {where}", values).fetchone()[0])


def hosts(folder: Path) -> dict[str, dict[str, int]]:
    """For each host that the last crawl asked: pages kept, requests, bytes, and milliseconds spent waiting for it."""
    with closing(connect_to_read(folder)) as database:
        found = database.execute(
            "SELECT host, SUM(kept) AS pages, SUM(visited != '') AS requests, SUM(bytes) AS bytes, SUM(ms) AS ms "
            "FROM pages WHERE crawl = (SELECT MAX(number) FROM crawls) GROUP BY host HAVING requests > 0 ORDER BY host"
        )
        return {row["host"]: {name: row[name] for name in ("pages", "requests", "bytes", "ms")} for row in found}


def visits(folder: Path) -> list[str]:
    """When each kept page was last seen as it is kept, ISO 8601 in UTC."""
    with closing(connect_to_read(folder)) as database:
        return [row[0] for row in database.execute("SELECT MAX(visited, fetched_at) FROM pages WHERE kept")]


def as_csv(table: Iterable[ReportRow]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(ReportRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in table)
    return out.getvalue()


def _filter(outcome: str, host: str, text: str) -> tuple[str, Sequence[str]]:
    conditions, values = ["crawl = (SELECT MAX(number) FROM crawls)"], []
    for condition, value in ((f"{OUTCOME} = ?", outcome), ("host = ?", host), ("instr(url || ' ' || reason, ?)", text)):
        if value:
            conditions.append(condition)
            values.append(value)
    return f"WHERE {' AND '.join(conditions)}", values
