"""Sitemaps (sitemaps.org): XML, gzipped XML, an index of sitemaps, or one address a line."""

import zlib
from dataclasses import dataclass

from lxml import etree

from rag.crawl.links import canonical

MOST_ENTRIES = 50_000
UNPACKED_BYTES = 50_000_000
GZIP = b"\x1f\x8b"
KINDS = ("url", "sitemap")


@dataclass(frozen=True)
class Sitemap:
    """Canonical addresses of pages, and of further sitemaps."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


def read_sitemap(body: bytes) -> Sitemap:
    """What a sitemap lists; what is no sitemap lists nothing."""
    if body.startswith(GZIP):
        try:
            body = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, UNPACKED_BYTES)
        except zlib.error:
            return Sitemap()
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return Sitemap(pages=_addresses(body.decode("utf-8-sig", errors="replace").splitlines()))
    # No entities and no network: a sitemap is a stranger's file.
    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True, load_dtd=False)
    root = etree.fromstring(body, parser)
    if root is None:
        return Sitemap()
    places = {kind: _addresses(root.xpath(f"*[local-name()='{kind}']/*[local-name()='loc']/text()")) for kind in KINDS}
    return Sitemap(pages=places["url"], sitemaps=places["sitemap"])


def _addresses(lines: list[str]) -> tuple[str, ...]:
    found = (canonical(line) for line in lines[:MOST_ENTRIES] if line.strip())
    return tuple(dict.fromkeys(url for url in found if url))
