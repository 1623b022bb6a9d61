"""Which addresses belong to the crawl: a domain and what ends in a dot and that domain, on the ports of the seeds."""

from collections.abc import Iterable
from dataclasses import dataclass

from engine.errors import ConfigurationError
from rag.crawl.links import DEFAULT_PORTS, canonical, host_of, port_of


@dataclass(frozen=True)
class Scope:
    """`domains` are lower case ASCII names; `thi.de` holds `bib.thi.de`, not `asta-thi.de` nor `thi.de.example`."""

    domains: tuple[str, ...]
    ports: frozenset[int]

    def holds(self, url: str) -> bool:
        """Of a canonical address."""
        return self.refusal(url) == ""

    def refusal(self, url: str) -> str:
        """Why an address is not part of the crawl; empty when it is."""
        host = host_of(url)
        if not any(host == domain or host.endswith("." + domain) for domain in self.domains):
            return f"not under {' or '.join(self.domains)}"
        return "" if port_of(url) in self.ports else f"port {port_of(url)}"


def scope_of(seeds: Iterable[str], domains: Iterable[str] = ()) -> Scope:
    """The scope of canonical seeds; without `domains`, each seed's own host, a leading `www.` taken away.

    Raises ConfigurationError when a domain is none, or so short that half the internet lies under it.
    """
    seeds = list(seeds)
    named = [_domain(domain) for domain in domains] or [host_of(seed).removeprefix("www.") for seed in seeds]
    for domain in named:
        if "." not in domain and domain != "localhost" and ":" not in domain:
            raise ConfigurationError(f"{domain!r} is no domain that a crawl can keep to; name one such as thi.de")
    ports = frozenset((*DEFAULT_PORTS.values(), *map(port_of, seeds)))
    return Scope(tuple(dict.fromkeys(named)), ports)


def _domain(name: str) -> str:
    url = canonical(f"https://{name.removeprefix('*').removeprefix('.')}/")
    if not url:
        raise ConfigurationError(f"{name!r} is not the name of a domain")
    return host_of(url)
