"""One request: a bounded answer, or why there is none. Redirects are not followed here."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Literal

import httpx

from engine.errors import FetchFailed
from rag.crawl.addresses import PinnedTransport, Resolver, override
from rag.crawl.options import CrawlOptions
from rag.crawl.robots import user_agent

Kind = Literal["page", "sitemap", "robots"]
HTML = ("text/html", "application/xhtml+xml")
PDF = ("application/pdf", "application/x-pdf")
Refused = Literal["", "type", "too large"]
UNSAID = ("", "application/octet-stream", "binary/octet-stream")
ROBOTS_BYTES = 500_000
SITEMAP_BYTES = 10_000_000
REST_BYTES = 65_536
LONGEST_RETRY_AFTER_S = 120.0


@dataclass(frozen=True)
class Reply:
    """An answer. `content_type` is `text/html`, `application/pdf`, or what the server said otherwise.

    `refused` is `type` or `too large` where the body was not read (to the end); `reason` says why. `bytes` came over
    the wire. Header names are in lower case.
    """

    url: str
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = ""
    body: bytes = b""
    bytes: int = 0
    ms: int = 0
    refused: Refused = ""
    reason: str = ""

    @property
    def retry_after_s(self) -> float:
        """What Retry-After asks for in seconds, at most LONGEST_RETRY_AFTER_S; 0 where it asks for nothing."""
        value = self.headers.get("retry-after", "").strip()
        if value.isdecimal():
            return min(float(value), LONGEST_RETRY_AFTER_S)
        try:
            moment = parsedate_to_datetime(value).timestamp()
        except ValueError:
            return 0.0
        return min(max(moment - time.time(), 0.0), LONGEST_RETRY_AFTER_S)


class Fetcher:
    """An HTTP client that goes only where the resolver lets it, and reads no more than the limits."""

    def __init__(self, options: CrawlOptions) -> None:
        self._options = options
        resolver = Resolver(map(override, options.resolve), options.allow_private)
        self._client = httpx.AsyncClient(
            transport=PinnedTransport(resolver, options.concurrency * 2),
            headers={
                "User-Agent": user_agent(options.contact),
                "Accept": "text/html,application/xhtml+xml,application/pdf;q=0.9,*/*;q=0.1",
                "Accept-Language": "de,en;q=0.8",
                "Accept-Encoding": "gzip",
            },
            timeout=min(options.timeout_s, 20.0),
            trust_env=False,
        )

    async def __aenter__(self) -> "Fetcher":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, url: str, kind: Kind = "page", etag: str = "", last_modified: str = "") -> Reply:
        """Asks for an address, conditionally where there is a validator; raises FetchFailed or AddressRefused."""
        headers = {"If-None-Match": etag} if etag else {"If-Modified-Since": last_modified} if last_modified else {}
        began = time.monotonic()
        # A server sets cookies for a visitor; a crawler is a new one each time.
        self._client.cookies.clear()
        try:
            async with asyncio.timeout(self._options.timeout_s):
                async with self._client.stream("GET", url, headers=headers) as response:
                    return await self._read(url, kind, response, began)
        except (httpx.TimeoutException, TimeoutError) as error:
            raise FetchFailed(f"no answer within {self._options.timeout_s:g} s", again=True) from error
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.DecodingError) as error:
            raise FetchFailed(_words(error), again=False) from error
        except httpx.TransportError as error:
            raise FetchFailed(_words(error), again="CERTIFICATE" not in str(error)) from error

    async def _read(self, url: str, kind: Kind, response: httpx.Response, began: float) -> Reply:
        refused: Refused = ""
        reason, body = "", b""
        said = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        content_type = _sort_of(said, url) if kind == "page" else said
        limit = self._limit(kind, content_type)
        announced = response.headers.get("content-length", "")
        if response.status_code != 200:
            body, _ = await _body(response, REST_BYTES)
        elif not limit:
            refused, reason = "type", said or "no content type"
        elif announced.isdecimal() and int(announced) > limit:
            refused, reason = "too large", f"{int(announced):,} bytes announced, {limit:,} allowed"
        else:
            body, whole = await _body(response, limit)
            if not whole:
                refused, reason = "too large", f"more than {limit:,} bytes"
            elif content_type == PDF[0] and b"%PDF-" not in body[:1024]:
                refused, reason = "type", f"{said or 'no content type'}, but not a PDF"
        return Reply(
            url=url,
            status=response.status_code,
            headers={name.lower(): value for name, value in response.headers.items()},
            content_type=content_type,
            body=b"" if refused else body,
            bytes=response.num_bytes_downloaded,
            ms=round((time.monotonic() - began) * 1000),
            refused=refused,
            reason=reason,
        )

    def _limit(self, kind: Kind, content_type: str) -> int:
        """How many bytes may be read of a body; 0: none, it is of no use."""
        if kind != "page":
            return ROBOTS_BYTES if kind == "robots" else SITEMAP_BYTES
        return {HTML[0]: self._options.html_bytes, PDF[0]: self._options.pdf_bytes}.get(content_type, 0)


async def _body(response: httpx.Response, limit: int) -> tuple[bytes, bool]:
    """Up to `limit` decoded bytes, and whether that was all."""
    pieces, size = [], 0
    async for piece in response.aiter_bytes(REST_BYTES):
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            return b"".join(pieces)[:limit], False
    return b"".join(pieces), True


def _sort_of(said: str, url: str) -> str:
    if said in HTML:
        return HTML[0]
    if said in PDF or (said in UNSAID and url.partition("?")[0].lower().endswith(".pdf")):
        return PDF[0]
    return HTML[0] if said == "" else said


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
