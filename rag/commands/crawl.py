"""crawl, pause and status: pages from a university's site, and what became of each address."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from engine.errors import ConfigurationError, CrawlError
from engine.settings import Settings
from engine.terminal import Json, print_json, print_table, say
from rag.commands.local import settings
from rag.crawl import process, report
from rag.crawl.options import CrawlOptions
from rag.crawl.report import CrawlStatus
from rag.crawl.store import folder_of

Name = Annotated[str, typer.Argument(help="The crawl; by default the only one, or the one begun last.")]


def crawl(
    seeds: Annotated[
        list[str] | None, typer.Argument(help="Where to begin. Without one, the crawl NAME again.")
    ] = None,
    name: Annotated[str, typer.Option(help="Under which name it is kept; by default the domain.")] = "",
    domain: Annotated[list[str] | None, typer.Option(help="Crawl it and all under it; else the seeds' own.")] = None,
    sitemap: Annotated[list[str] | None, typer.Option(help="A sitemap that no robots.txt names.")] = None,
    contact: Annotated[str | None, typer.Option(help="A mail or web address in the user agent.")] = None,
    max_hosts: Annotated[int | None, typer.Option(help="Ask at most so many hosts (100).")] = None,
    max_pages: Annotated[int | None, typer.Option(help="Keep at most so many pages (100).")] = None,
    pages_per_host: Annotated[int | None, typer.Option(help="Keep at most so many pages of one host (all).")] = None,
    max_requests: Annotated[int | None, typer.Option(help="Ask at most so often (20 times a page).")] = None,
    delay_s: Annotated[float | None, typer.Option(help="Seconds between two requests to a host (1).")] = None,
    timeout_s: Annotated[float | None, typer.Option(help="Seconds for one request (60).")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Hosts asked at the same time (8).")] = None,
    attempts: Annotated[int | None, typer.Option(help="How often to try what fails for the moment (3).")] = None,
    backoff_s: Annotated[
        float | None, typer.Option(help="Seconds before the second attempt; then doubled (5).")
    ] = None,
    html_bytes: Annotated[int | None, typer.Option(help="The largest page that is kept (5 million).")] = None,
    pdf_bytes: Annotated[int | None, typer.Option(help="The largest PDF that is kept (20 million).")] = None,
    resolve: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT:ADDRESS[:PORT], as with curl; *.HOST for all under it.")
    ] = None,
    allow_private: Annotated[bool | None, typer.Option(help="Also ask private addresses: an intranet.")] = None,
    as_json: Json = False,
) -> None:
    """Crawl a site politely, or go on with a crawl that was paused or interrupted.

    SIGTERM, Ctrl-C and `pause` pause it. Each progress report is one line on stderr; with --json, a JSON object a line.
    """
    chosen = settings()
    given = {option: value for option, value in locals().items() if option in CrawlOptions.__dataclass_fields__}
    given |= {"domains": domain, "sitemaps": sitemap}
    options, folder = options_of(chosen, name, {key: value for key, value in given.items() if value not in (None, [])})

    def progress(now: CrawlStatus) -> None:
        say(json.dumps(asdict(now)) if as_json else _line(now))

    done = process.crawl(folder, options, progress)
    if as_json:
        print_json(asdict(done))
    else:
        _print(done)
    if done.state == "done" and not done.pages:
        first = report.rows(folder, limit=1)[0]
        raise CrawlError(f"no page was kept; {first.url}: {first.outcome}, {first.reason or first.status}")


def pause(name: Name = "") -> None:
    """Pause a crawl that runs; `crawl --name NAME` goes on with it."""
    process.pause(_folder(settings(), name))


def status(
    name: Name = "",
    urls: Annotated[bool, typer.Option("--urls", help="List every address and what became of it, as CSV.")] = False,
    outcome: Annotated[str, typer.Option(help="Only addresses with this outcome.")] = "",
    host: Annotated[str, typer.Option(help="Only addresses of this host.")] = "",
    as_json: Json = False,
) -> None:
    """How far a crawl is; what it kept and what it did not, by reason and host."""
    folder = _folder(settings(), name)
    if urls:
        found = report.rows(folder, outcome=outcome, host=host)
        print_json([asdict(row) for row in found]) if as_json else print(report.as_csv(found), end="")
        return
    now = report.status(folder)
    if as_json:
        print_json({**asdict(now), "by_host": report.hosts(folder)})
    else:
        _print(now)
        rows = [(name, *one.values()) for name, one in report.hosts(folder).items()]
        print_table(("HOST", "PAGES", "REQUESTS", "BYTES", "MS"), rows, "no host was asked yet")


def options_of(chosen: Settings, name: str, given: dict[str, Any]) -> tuple[CrawlOptions, Path]:
    """What to crawl and where to: without seeds, what the crawl of this name was asked for, and what is given now."""
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in given.items()}
    if not given.get("seeds"):
        folder = _folder(chosen, name)
        return replace(process.last_options(folder), **given).checked(), folder
    options = CrawlOptions(**{"contact": chosen.contact, **given}).checked()
    name = name or options.scope.domains[0].replace(":", "_")
    if "/" in name or name.startswith("."):
        raise ConfigurationError(f"--name {name!r}: it must be a plain name, for a folder")
    return options, folder_of(chosen, name)


def _folder(chosen: Settings, name: str) -> Path:
    """The folder of a crawl; without a name, that of the one that was written to last."""
    if name:
        return folder_of(chosen, name)
    found = sorted(folder_of(chosen, "").glob("*/frontier.db"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise CrawlError(f"nothing was crawled in {folder_of(chosen, '')}; `python -m rag crawl URL` does")
    return found[-1].parent


def _line(now: CrawlStatus) -> str:
    counts = ", ".join(f"{number} {outcome}" for outcome, number in now.counts.items() if outcome != "waiting")
    return f"{now.name}: {now.pages} pages of {now.hosts} hosts, {now.waiting} waiting, {now.bytes:,} bytes ({counts})"


def _print(now: CrawlStatus) -> None:
    ended = f", ended by: {now.ended_by}" if now.ended_by else ""
    print(f"{now.name}: crawl {now.crawl} is {now.state}{ended}")
    print(
        f"{now.pages} pages of {now.hosts} hosts, {now.requests} requests, {now.bytes:,} bytes, {now.waiting} waiting"
    )
    print_table(("OUTCOME", "ADDRESSES"), list(now.counts.items()), "no address was met yet")
    sys.stdout.flush()
