"""What a crawl was asked for; kept with the crawl, so that it can be continued."""

import getpass
import json
import socket
from dataclasses import asdict, dataclass, replace

from pydantic import TypeAdapter

from engine.errors import ConfigurationError
from rag.crawl.links import canonical
from rag.crawl.scope import Scope, scope_of


@dataclass(frozen=True)
class CrawlOptions:
    """Seeds and limits of a crawl.

    At most `max_hosts` hosts are asked and `max_pages` pages kept, of one host `pages_per_host` (0: no fewer than
    `max_pages`), with at most `max_requests` requests (0: twenty a page). `delay_s` lies between two requests to a
    host, more where its robots.txt asks for more. `timeout_s` bounds one request as a whole. Transient failures are
    tried `attempts` times, `backoff_s` after the first and twice as long after each further one. `resolve` holds
    `HOST:PORT:ADDRESS[:PORT]`; `allow_private` admits private addresses, as on an intranet.
    """

    seeds: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()
    contact: str = ""
    max_hosts: int = 100
    max_pages: int = 100
    pages_per_host: int = 0
    max_requests: int = 0
    delay_s: float = 1.0
    timeout_s: float = 60.0
    concurrency: int = 8
    attempts: int = 3
    backoff_s: float = 5.0
    html_bytes: int = 5_000_000
    pdf_bytes: int = 20_000_000
    resolve: tuple[str, ...] = ()
    allow_private: bool = False

    @property
    def scope(self) -> Scope:
        return scope_of(self.seeds, self.domains)

    @property
    def requests_at_most(self) -> int:
        return self.max_requests or 20 * self.max_pages

    @property
    def pages_of_a_host(self) -> int:
        return self.pages_per_host or self.max_pages

    def checked(self) -> "CrawlOptions":
        """The same with canonical seeds and a contact; raises ConfigurationError for what no crawl can be made of."""
        seeds = tuple(dict.fromkeys(_address(seed) for seed in self.seeds))
        if not seeds:
            raise ConfigurationError("a crawl needs an address to begin at, such as https://www.thi.de/")
        for name in ("max_hosts", "max_pages", "concurrency", "attempts", "html_bytes", "pdf_bytes", "timeout_s"):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be more than 0")
        for name in ("pages_per_host", "max_requests", "delay_s", "backoff_s"):
            if getattr(self, name) < 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must not be negative")
        sitemaps = tuple(_address(sitemap) for sitemap in self.sitemaps)
        done = replace(self, seeds=seeds, sitemaps=sitemaps, contact=self.contact or _me())
        _ = done.scope
        return done

    def as_json(self) -> str:
        return json.dumps(asdict(self))


OPTIONS = TypeAdapter(CrawlOptions)


def options_of(text: str) -> CrawlOptions:
    """From `as_json`; fields that this version does not know are left out."""
    return OPTIONS.validate_json(text)


def _address(text: str) -> str:
    url = canonical(text if "://" in text else f"https://{text}")
    if not url:
        raise ConfigurationError(f"{text!r} is no http or https address")
    return url


def _me() -> str:
    return f"{getpass.getuser()}@{socket.getfqdn()}"
