"""A closed-loop HTTP load client that costs little itself: one protocol per connection on uvloop, parsed by httptools.

As a program (`python -m tests.benchmarks.load URL --clients 64 --seconds 2`) it prints a Result as JSON.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop


@dataclass
class Result:
    """Of the requests that ended within the measured time: latencies and times to the first body byte in seconds, in
    the order of their end; `events` counts server-sent events, `errors` answers not 200 and broken connections.
    `answered` and `all_events` count the warm-up too: what the servers' CPU time was spent on."""

    elapsed_s: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    events: int = 0
    errors: int = 0
    answered: int = 0
    all_events: int = 0

    @property
    def requests(self) -> int:
        return len(self.latencies)


class Client(asyncio.Protocol):
    """Sends the same request again as soon as its answer is whole, until the loop's time is up."""

    def __init__(self, request: bytes, result: Result, begin: float, end: float, delay_s: float) -> None:
        self._request, self._result, self._begin, self._end = request, result, begin, end
        self._delay_s = delay_s
        self._last = b""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        asyncio.get_running_loop().call_later(self._delay_s, self._send)

    def _send(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._first = 0.0
        self._events = 0
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._first:
            self._first = time.perf_counter()
        self._events += (self._last + body).count(b"\n\n")
        self._last = b"\n" if body.endswith(b"\n") and not body.endswith(b"\n\n") else b""

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if self._parser.get_status_code() != 200:
            self._result.errors += 1
        else:
            self._result.answered += 1
            self._result.all_events += self._events
        if self._parser.get_status_code() == 200 and self._begin <= now < self._end:
            self._result.latencies.append(now - self._sent)
            self._result.first_bytes.append(self._first - self._sent)
            self._result.ends.append(now)
            self._result.events += self._events
        if now >= self._end:
            self._transport.close()
        else:
            # Not from inside the parser's own callback: the next answer needs a new parser.
            asyncio.get_running_loop().call_soon(self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or time.perf_counter() < self._end:
            self._result.errors += 1
        if not self.closed.done():
            self.closed.set_result(None)


def request_bytes(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"host: {parts.netloc}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join([*lines, f"content-length: {len(body)}"]) + "\r\n\r\n").encode() + body


async def closed_loop(
    url: str,
    body: bytes,
    *,
    clients: int,
    seconds: float,
    warm_up_s: float = 0.3,
    headers: Mapping[str, str] | None = None,
    grace_s: float = 30.0,
) -> Result:
    """`clients` connections, each with one request under way at any time, measured for `seconds` after the warm-up.

    They set out one after the other: in lockstep each would queue behind all others at whatever is measured.
    """
    loop = asyncio.get_running_loop()
    parts = urlsplit(url)
    result = Result(elapsed_s=seconds)
    begin = time.perf_counter() + warm_up_s
    request = request_bytes(url, body, headers)

    def client(i: int) -> Client:
        return Client(request, result, begin, begin + seconds, warm_up_s / 2 * i / clients)

    made = [await loop.create_connection(partial(client, i), parts.hostname, parts.port) for i in range(clients)]
    await asyncio.wait([client.closed for _, client in made], timeout=warm_up_s + seconds + grace_s)
    for transport, _ in made:
        transport.abort()
    return result


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank; nan of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else float("nan")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warm-up-s", type=float, default=0.3)
    parser.add_argument("--body", default='{"model":"sim","messages":[{"role":"user","content":"hello"}]}')
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--summary", action="store_true", help="percentiles instead of every latency")
    given = parser.parse_args(argv)
    headers = dict(line.split(": ", 1) for line in given.header)
    timing = {"clients": given.clients, "seconds": given.seconds, "warm_up_s": given.warm_up_s}
    result = uvloop.run(closed_loop(given.url, given.body.encode(), headers=headers, **timing))
    if given.summary:
        row = {"requests_per_s": result.requests / result.elapsed_s, "errors": result.errors}
        row |= {f"p{p}_ms": percentile(result.latencies, p) * 1000 for p in (50, 99)}
        print(json.dumps(row | {"events_per_s": result.events / result.elapsed_s}))
    else:
        print(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
