"""A server that answers at once and costs as little as can be, so that a load client is the limit and not the server.

python -m tests.benchmarks.quick_server PORT. A request ends where its JSON does. Streams are of 100 events: at /lump
all at once, elsewhere one each 10 ms.
"""

import asyncio
import sys
from typing import cast

import uvloop

EVENTS = 100
PACE_S = 0.01
USAGE = b'"usage":{"prompt_tokens":10,"completion_tokens":100,"total_tokens":110}'
BODY = b'{"id":"c","object":"chat.completion","choices":[{"index":0,"message":{"content":"hello"}}],' + USAGE + b"}"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
CHOICE = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
LAST = b'data: {"id":"c","choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n"
EVENT, END = (b"%x\r\n%b\r\n" % (len(data), data) for data in (CHOICE, LAST))
LUMP = HEAD + EVENT * EVENTS + END + b"0\r\n\r\n"


class Quick(asyncio.Protocol):
    """`streams` are those under way at the moment, of all connections, with the events that they still get."""

    def __init__(self, streams: dict["Quick", int]) -> None:
        self._streams = streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if not data.endswith(b"}"):
            if data.startswith(b"POST"):
                self._lumps = data.startswith(b"POST /lump")
            return
        if data.startswith(b"POST"):
            self._lumps = data.startswith(b"POST /lump")
        if b'"stream":true' not in data:
            self.transport.write(ANSWER)
        elif self._lumps:
            self.transport.write(LUMP)
        else:
            self.transport.write(HEAD)
            self._streams[self] = EVENTS


async def pace(streams: dict[Quick, int]) -> None:
    """One event to each stream, again and again."""
    while True:
        await asyncio.sleep(PACE_S)
        for stream, left in list(streams.items()):
            if left:
                stream.transport.write(EVENT)
                streams[stream] = left - 1
            else:
                del streams[stream]
                stream.transport.write(END + b"0\r\n\r\n")


async def main(port: int) -> None:
    streams: dict[Quick, int] = {}
    await asyncio.get_running_loop().create_server(lambda: Quick(streams), "127.0.0.1", port, backlog=1024)
    await pace(streams)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
