"""A small real web site with every trap that a crawler meets, on loopback, under the names of many hosts."""

import asyncio
import hashlib
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from aiohttp import web

from rag.crawl.options import CrawlOptions
from tests.trap_pages import DOMAIN, NOT_FOUND, SITE, WWW, Answer, without_end

LAST_MODIFIED = "Mon, 02 Nov 2026 08:00:00 GMT"


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it; `began` and `ended` are time.monotonic()."""

    host: str
    path: str
    status: int
    sent: int
    began: float
    ended: float
    user_agent: str


@dataclass
class TrapSite:
    """The running site: what it was asked, and what it has taken offline."""

    port: int = 0
    log: list[Asked] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    times: dict[str, int] = field(default_factory=dict)

    @property
    def resolve(self) -> list[str]:
        """For `--resolve`: also the hosts that nobody should ask, so that it would be seen."""
        names = (DOMAIN, f"*.{DOMAIN}", f"{DOMAIN}.boese.example", f"asta-{DOMAIN}", "*.viele.example", "fremd.example")
        # The port is that of a server that is not there: nobody listens at 1.
        return [f"tot.{DOMAIN}:80:127.0.0.1:1", *(f"{name}:80:127.0.0.1:{self.port}" for name in names)]

    def asked(self, host: str) -> list[str]:
        return [one.path for one in self.log if one.host == host]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        began, host, path = time.monotonic(), request.host.partition(":")[0], request.path_qs
        self.times[path] = self.times.get(path, 0) + 1
        response = web.StreamResponse()
        sent = 0
        try:
            if path == "/endlos.html":
                sent = await _stream(request, response, _endless())
                return response
            answer = self._answer(host, path)
            if path == "/traege.html":
                await asyncio.sleep(30)
            response = _response(answer, request)
            sent = len(answer.body) if response.status == 200 else 0
            return response
        finally:
            agent = request.headers.get("User-Agent", "")
            self.log.append(Asked(host, path, response.status, sent, began, time.monotonic(), agent))

    def _answer(self, host: str, path: str) -> Answer:
        if path in self.gone:
            return Answer(b"gone", status=410)
        found = SITE.get((host, path)) or without_end(host, path)
        if found is None:
            return NOT_FOUND
        return found(self.times[path]) if callable(found) else found


@contextmanager
def trap_site(tls: ssl.SSLContext | None = None) -> Iterator[TrapSite]:
    """Serves the site in a thread of its own until the block ends."""
    site, loop = TrapSite(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(_serve(site, tls), loop).result(10)
    try:
        yield site
    finally:
        asyncio.run_coroutine_threadsafe(_end(runner), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def options(site: TrapSite, **changes: object) -> CrawlOptions:
    quick = CrawlOptions(
        seeds=(f"http://{WWW}/",), contact="web@falle.example", delay_s=0.02, timeout_s=2, backoff_s=0.05,
        html_bytes=200_000, resolve=tuple(site.resolve),
    )  # fmt: skip
    return replace(quick, **changes)  # type: ignore[arg-type]


def many(site: TrapSite, **changes: object) -> CrawlOptions:
    """Seven hosts with ten pages each, which link to one another."""
    return options(site, seeds=("http://h1.viele.example/",), domains=("viele.example",), delay_s=0, **changes)


async def _serve(site: TrapSite, tls: ssl.SSLContext | None) -> web.AppRunner:
    app = web.Application()
    app.router.add_get("/{path:.*}", site.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    site.port = runner.addresses[0][1]
    return runner


async def _end(runner: web.AppRunner) -> None:
    await runner.cleanup()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _response(answer: Answer, request: web.Request) -> web.Response:
    etag = f'"{hashlib.md5(answer.body).hexdigest()}"'
    headers = {**answer.headers, **({"Content-Type": answer.content_type} if answer.content_type else {})}
    if answer.status == 200:
        headers |= {"ETag": etag, "Last-Modified": LAST_MODIFIED}
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
    return web.Response(body=answer.body, status=answer.status, headers=headers)


async def _endless() -> AsyncIterator[bytes]:
    """200 MB, made as they are read."""
    for _ in range(3200):
        yield b"x" * 65_536


async def _stream(request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes]) -> int:
    response.content_type = "text/html"
    await response.prepare(request)
    sent = 0
    with suppress(ConnectionError):
        async for piece in pieces:
            await response.write(piece)
            sent += len(piece)
    return sent
