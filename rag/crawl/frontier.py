"""The frontier: every address that a crawl has met, what waits, and what became of the rest."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rag.crawl import store
from rag.crawl.fetch import Kind
from rag.crawl.links import host_of
from rag.crawl.visit import Outcome, Visit, Waiting

# A page that is gone stays for two crawls, so that one bad day of a server empties no index; then it is forgotten.
FORGOTTEN_AFTER = 3


class Frontier:
    """The only writer of a folder's frontier.db. Whoever uses it holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self._database = store.connect(folder)
        self.crawl = 0

    def close(self) -> None:
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    def begin(self, options: str) -> bool:
        """Goes on with the last crawl if it has not ended, else begins a new one; says whether it is a new one."""
        last = self._one("SELECT number, state FROM crawls ORDER BY number DESC LIMIT 1")
        new = last is None or last["state"] == "done"
        self.crawl = (last["number"] if last else 0) + new
        if new:
            self._database.execute(
                "INSERT INTO crawls (number, state, started, options) VALUES (?, 'running', ?, ?)",
                (self.crawl, now(), options),
            )
        else:
            self._database.execute(
                "UPDATE crawls SET state = 'running', options = ? WHERE number = ?", (options, self.crawl)
            )
        return new

    def pause(self) -> None:
        self._database.execute("UPDATE crawls SET state = 'paused' WHERE number = ?", (self.crawl,))

    def end(self, ended_by: str) -> None:
        """Ends the crawl; what still waits, and what of earlier crawls was not reached, falls under the cap."""
        words = f"the crawl ended first ({ended_by})"
        with self.transaction():
            self._database.execute(
                "UPDATE pages SET waiting = 0, kept = 0, outcome = 'cap', reason = ?, crawl = ? "
                "WHERE waiting OR (kept AND crawl < ?)",
                (words, self.crawl, self.crawl),
            )
            self._database.execute(
                "UPDATE crawls SET state = 'done', ended = ?, ended_by = ? WHERE number = ?",
                (now(), ended_by, self.crawl),
            )

    def knows(self, url: str) -> bool:
        """Whether this crawl has met an address."""
        return self._one("SELECT 1 FROM pages WHERE url = ? AND crawl = ?", (url, self.crawl)) is not None

    def add(self, url: str, found_on: str, depth: int, kind: Kind = "page", hops: int = 0) -> None:
        """Lets an address wait for its turn."""
        self._meet(url, found_on, depth, kind, hops, waiting=1)

    def refuse(self, url: str, found_on: str, outcome: Outcome, reason: str) -> None:
        """Takes an address down without asking for it."""
        self._meet(url, found_on, 0, "page", 0, waiting=0)
        self._database.execute(
            "UPDATE pages SET outcome = ?, reason = ?, kept = 0 WHERE url = ?", (outcome, reason, url)
        )

    def _meet(self, url: str, found_on: str, depth: int, kind: Kind, hops: int, waiting: int) -> None:
        self._database.execute(
            "INSERT INTO pages (url, host, kind, crawl, waiting, depth, hops, found_on) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (url) DO UPDATE SET kind = excluded.kind, crawl = excluded.crawl, waiting = excluded.waiting, "
            "depth = excluded.depth, hops = excluded.hops, found_on = excluded.found_on, attempts = 0, not_before = 0, "
            "outcome = '', reason = '', status = 0, bytes = 0, ms = 0, visited = ''",
            (url, host_of(url), kind, self.crawl, waiting, depth, hops, found_on),
        )

    def finish(self, row: Waiting, visit: Visit) -> None:
        """Writes down what became of an address."""
        done: dict[str, object] = {
            "outcome": visit.outcome,
            "reason": visit.reason,
            "status": visit.status,
            "ms": visit.ms,
            "visited": now() if visit.asked else "",
            "leads_to": visit.leads_to,
            "waiting": 0,
        }
        if visit.kept is None:
            missing = row.missing_times + 1 if visit.missing and row.kept else row.missing_times
            done |= {"missing_times": missing, "kept": int(row.kept and missing < FORGOTTEN_AFTER)}
        else:
            copied = ("body", "content_type", "charset", "etag", "last_modified", "fetched_at")
            done |= {name: getattr(visit, name) for name in copied}
            done |= {"kept": int(visit.kept), "missing_times": 0, "twins": json.dumps(dict(visit.twins))}
        columns = ", ".join(f"{name} = ?" for name in done)
        self._database.execute(
            f"UPDATE pages SET {columns}, bytes = bytes + ? WHERE id = ?", (*done.values(), visit.bytes, row.id)
        )

    def postpone(self, row: Waiting, until: float, reason: str) -> None:
        """Lets an address wait for another attempt, not before a Unix time."""
        self._database.execute(
            "UPDATE pages SET attempts = attempts + 1, not_before = ?, reason = ? WHERE id = ?", (until, reason, row.id)
        )

    def refuse_host(self, host: str, outcome: Outcome, reason: str) -> None:
        """Takes everything down that waits for a host."""
        self._database.execute(
            "UPDATE pages SET waiting = 0, kept = 0, outcome = ?, reason = ? WHERE waiting AND host = ?",
            (outcome, reason, host),
        )

    def waiting_hosts(self) -> dict[str, float]:
        """Hosts with waiting addresses, and from which Unix time on the first of them may be asked for."""
        rows = self._database.execute("SELECT host, MIN(not_before) FROM pages WHERE waiting GROUP BY host")
        return dict(rows.fetchall())

    def next_of(self, host: str, moment: float) -> Waiting | None:
        """The address of a host whose turn it is at a Unix time: the fewest links away, then the first met."""
        row = self._one(
            f"SELECT {', '.join(Waiting.__dataclass_fields__)} FROM pages "
            "WHERE waiting AND host = ? AND not_before <= ? ORDER BY depth, id LIMIT 1",
            (host, moment),
        )
        return Waiting(**{**dict(row), "kept": bool(row["kept"])}) if row else None

    def row(self, url: str) -> Waiting | None:
        row = self._one(f"SELECT {', '.join(Waiting.__dataclass_fields__)} FROM pages WHERE url = ?", (url,))
        return Waiting(**{**dict(row), "kept": bool(row["kept"])}) if row else None

    def unseen(self) -> list[tuple[str, str, int]]:
        """Pages of earlier crawls that nothing has led to in this one: address, found on, depth."""
        rows = self._database.execute(
            "SELECT url, found_on, depth FROM pages WHERE kept AND crawl < ? ORDER BY depth, id", (self.crawl,)
        )
        return [tuple(row) for row in rows]

    def pages_kept(self, host: str = "") -> int:
        """How many pages this crawl has kept, of a host or altogether."""
        where, values = (" AND host = ?", (host,)) if host else ("", ())
        row = self._one(
            f"SELECT COUNT(*) FROM pages WHERE crawl = ? AND kept AND outcome IN ('kept', 'not modified'){where}",
            (self.crawl, *values),
        )
        return int(row[0]) if row else 0

    def keeper_of(self, digest: str, but: str) -> str:
        """The kept page, other than `but`, that has this very body; empty when there is none."""
        row = self._one("SELECT url FROM pages WHERE kept AND body = ? AND url != ? ORDER BY id LIMIT 1", (digest, but))
        return str(row["url"]) if row else ""

    def asked(self) -> list[str]:
        """The addresses that this crawl has asked for or will ask for."""
        return self._column("SELECT url FROM pages WHERE crawl = ? AND (waiting OR visited != '')")

    def hosts_asked(self) -> set[str]:
        """The hosts that this crawl got an answer from."""
        return set(self._column("SELECT DISTINCT host FROM pages WHERE crawl = ? AND visited != '' AND status > 0"))

    def requests(self) -> int:
        """How many addresses this crawl has asked for."""
        row = self._one("SELECT COUNT(*) FROM pages WHERE crawl = ? AND visited != ''", (self.crawl,))
        return int(row[0]) if row else 0

    def caps_met(self) -> set[str]:
        """The reasons for which this crawl left addresses out."""
        return set(self._column("SELECT DISTINCT reason FROM pages WHERE crawl = ? AND outcome = 'cap'"))

    def keep_orphans(self, most: int) -> int:
        """Keeps, at most `most`, pages that named a canonical address which in the end was not kept; says how many."""
        rows = self._database.execute(
            "SELECT id, url, body, leads_to FROM pages WHERE crawl = ? AND outcome = 'duplicate' AND body != '' "
            "ORDER BY depth, id",
            (self.crawl,),
        ).fetchall()
        done = 0
        for row in rows:
            if done < most and not self._ends_kept(row["leads_to"]) and not self.keeper_of(row["body"], row["url"]):
                reason = f"its canonical address {row['leads_to']} is not kept"
                self._database.execute(
                    "UPDATE pages SET kept = 1, outcome = 'kept', reason = ?, leads_to = '' WHERE id = ?",
                    (reason, row["id"]),
                )
                done += 1
        return done

    def bodies(self) -> set[str]:
        return {row["body"] for row in self._database.execute("SELECT DISTINCT body FROM pages WHERE body != ''")}

    def _ends_kept(self, url: str) -> bool:
        for _ in range(10):
            row = self._one("SELECT kept, leads_to FROM pages WHERE url = ?", (url,))
            if row is None or row["kept"] or not row["leads_to"]:
                return bool(row and row["kept"])
            url = row["leads_to"]
        return False

    def _column(self, query: str) -> list[str]:
        return [str(row[0]) for row in self._database.execute(query, (self.crawl,))]

    def _one(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._database.execute(query, values).fetchone()
        return row


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
