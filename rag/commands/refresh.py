"""refresh: crawl a site and index it, in one go."""

from typing import Annotated

import typer

from rag.commands import build, crawl
from rag.commands.local import settings
from rag.crawl import report
from rag.crawl.store import folder_of


def refresh(
    seeds: Annotated[list[str], typer.Argument(help="Where to begin, say https://www.example.org/.")],
    name: Annotated[str, typer.Option(help="Under which name it is kept; by default the domain.")] = "",
    contact: Annotated[str | None, typer.Option(help="A mail or web address in the user agent.")] = None,
    max_hosts: Annotated[int | None, typer.Option(help="Ask at most so many hosts.")] = None,
    max_pages: Annotated[int | None, typer.Option(help="Keep at most so many pages.")] = None,
    delay_s: Annotated[float | None, typer.Option(help="Seconds between two requests to a host.")] = None,
    resolve: Annotated[
        list[str] | None, typer.Option(help="HOST:PORT:ADDRESS[:PORT], as with curl; *.HOST for all under it.")
    ] = None,
    allow_private: Annotated[bool | None, typer.Option(help="Also ask private addresses: an intranet.")] = None,
    shrink: Annotated[bool, typer.Option(help="Also when more than half of the chunks have gone.")] = False,
) -> None:
    """Crawl a site, index what was kept, and report on its quality. A crawl that was paused is not indexed."""
    given = {"contact": contact, "max_hosts": max_hosts, "max_pages": max_pages, "delay_s": delay_s}
    crawl.crawl(seeds, name, resolve=resolve, allow_private=allow_private, **given)  # type: ignore[arg-type]
    name = name or crawl.options_of(settings(), "", {"seeds": seeds})[1].name
    if report.status(folder_of(settings(), name)).state == "done":
        build.build([name], shrink=shrink)
