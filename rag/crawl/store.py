"""What a crawl keeps on disk: `frontier.db` and the bodies of pages, under ENGINE_LOCAL/crawl/NAME."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from engine.errors import CrawlError
from engine.settings import Settings

# A row is an address, and whether it waits; `outcome` and what follows tell of its last visit. `kept` rows are pages
# for the index; a row that is not kept may have a body, too (a sitemap, robots.txt, the copy behind a rel=canonical).
SCHEMA = """
CREATE TABLE IF NOT EXISTS crawls (
    number INTEGER PRIMARY KEY, state TEXT NOT NULL, started TEXT NOT NULL, ended TEXT NOT NULL DEFAULT '',
    ended_by TEXT NOT NULL DEFAULT '', options TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS pages (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE, host TEXT NOT NULL, kind TEXT NOT NULL DEFAULT 'page',
    crawl INTEGER NOT NULL, waiting INTEGER NOT NULL DEFAULT 0, depth INTEGER NOT NULL DEFAULT 0,
    hops INTEGER NOT NULL DEFAULT 0, attempts INTEGER NOT NULL DEFAULT 0, not_before REAL NOT NULL DEFAULT 0,
    found_on TEXT NOT NULL DEFAULT '', outcome TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
    status INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, ms INTEGER NOT NULL DEFAULT 0,
    visited TEXT NOT NULL DEFAULT '', leads_to TEXT NOT NULL DEFAULT '', kept INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL DEFAULT '', content_type TEXT NOT NULL DEFAULT '', charset TEXT NOT NULL DEFAULT '',
    etag TEXT NOT NULL DEFAULT '', last_modified TEXT NOT NULL DEFAULT '', fetched_at TEXT NOT NULL DEFAULT '',
    twins TEXT NOT NULL DEFAULT '{}', missing_times INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS waiting ON pages (host, depth, id) WHERE waiting;
CREATE INDEX IF NOT EXISTS kept ON pages (body) WHERE kept;
CREATE INDEX IF NOT EXISTS outcomes ON pages (crawl, outcome);
"""


@dataclass(frozen=True)
class Kept:
    """A page that a crawl keeps.

    `url` is its canonical address, `urls` are all addresses that lead to it, that one included. `content_type` is
    `text/html` or `application/pdf`; `charset` decodes an HTML body (with errors="replace"; empty for a PDF).
    `fetched_at` is ISO 8601 in UTC; `last_modified` and `etag` are the server's headers, or empty. `twins` are the same
    page in other languages (hreflang to address). `missing_times` counts the crawls in a row that found it gone:
    from two on it no longer belongs into an index.
    """

    url: str
    urls: tuple[str, ...]
    body: bytes
    content_type: str
    charset: str
    fetched_at: str
    last_modified: str
    etag: str
    twins: Mapping[str, str]
    missing_times: int


def folder_of(settings: Settings, name: str) -> Path:
    return settings.local / "crawl" / name


def names(settings: Settings) -> list[str]:
    """The names of all crawls."""
    return sorted(path.parent.name for path in folder_of(settings, "").glob("*/frontier.db"))


def kept(folder: Path) -> Iterator[Kept]:
    """The kept pages of a crawl, by address; works while it runs. Raises CrawlError when nothing was crawled there."""
    with closing(connect_to_read(folder)) as database:
        aliases = _aliases(database)
        for row in database.execute("SELECT * FROM pages WHERE kept ORDER BY url"):
            yield Kept(
                url=row["url"],
                urls=(row["url"], *sorted(aliases.get(row["url"], ()))),
                body=read_body(folder, row["body"]),
                content_type=row["content_type"],
                charset=row["charset"],
                fetched_at=row["fetched_at"],
                last_modified=row["last_modified"],
                etag=row["etag"],
                twins=json.loads(row["twins"]),
                missing_times=row["missing_times"],
            )


def connect(folder: Path) -> sqlite3.Connection:
    """The frontier, to be written by the one crawl that holds the folder's lock."""
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "frontier.db", isolation_level=None, timeout=30)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.executescript(SCHEMA)
    return database


def connect_to_read(folder: Path) -> sqlite3.Connection:
    """The frontier for readers; raises CrawlError when there is none."""
    path = folder / "frontier.db"
    if not path.is_file():
        raise CrawlError(nothing_in(folder))
    database = sqlite3.connect(path, timeout=30)
    database.row_factory = sqlite3.Row
    database.execute("PRAGMA query_only=1")
    if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'outcomes'").fetchone():
        # A crawl that begins at this moment.
        database.close()
        raise CrawlError(nothing_in(folder))
    return database


def nothing_in(folder: Path) -> str:
    return f"nothing was crawled in {folder}; `python -m rag crawl URL` does"


def read_body(folder: Path, digest: str) -> bytes:
    return _body_path(folder, digest).read_bytes()


def has_body(folder: Path, digest: str) -> bool:
    return bool(digest) and _body_path(folder, digest).is_file()


def write_body(folder: Path, body: bytes) -> str:
    """Stores a body once, whole, and returns its SHA-256."""
    digest = hashlib.sha256(body).hexdigest()
    path = _body_path(folder, digest)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{digest}.{os.getpid()}.tmp")
        temporary.write_bytes(body)
        temporary.replace(path)
    return digest


def remove_bodies_except(folder: Path, digests: set[str]) -> None:
    for path in (folder / "bodies").glob("*/*"):
        if path.name not in digests:
            path.unlink(missing_ok=True)


def _body_path(folder: Path, digest: str) -> Path:
    return folder / "bodies" / digest[:2] / digest


def _aliases(database: sqlite3.Connection) -> dict[str, set[str]]:
    """For each kept address the others that lead to it, over any number of redirects and canonicals."""
    leads = dict(database.execute("SELECT url, leads_to FROM pages WHERE leads_to != '' AND NOT kept"))
    found: dict[str, set[str]] = {}
    for url in leads:
        end, seen = url, {url}
        while (after := leads.get(end)) and after not in seen:
            end = after
            seen.add(end)
        found.setdefault(end, set()).add(url)
    return found
