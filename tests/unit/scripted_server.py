"""An HTTP server that answers as a test's script says: it may lie, hang, break off or die."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import numpy as np

from engine.bench.load.prompts import Prompts, Task
from engine.bench.load.run import Run
from engine.bench.load.target import Target


@dataclass
class Call:
    """One request that came: the how-manieth of all, on which connection, and of that one the how-manieth; from 1."""

    number: int
    connection: int
    nth: int
    body: bytes
    writer: asyncio.StreamWriter

    async def say(self, data: bytes, pause_s: float = 0.0) -> None:
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(pause_s)


@dataclass
class Scripted:
    """What the server saw. Times of the requests are those of the loop."""

    port: int = 0
    connections: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    calls: list[Call] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def target(self) -> Target:
        return Target.of(f"http://127.0.0.1:{self.port}/v1")


Script = Callable[[Call], Awaitable[bool | None]]


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Scripted]:
    """`script` answers each request; when it returns False the connection is closed."""
    seen, tasks = Scripted(), set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        seen.connections += 1
        connection, nth = seen.connections, 0
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                body = await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
                nth += 1
                call = Call(len(seen.calls) + 1, connection, nth, body, writer)
                seen.calls.append(call)
                seen.times.append(asyncio.get_running_loop().time())
                seen.in_flight += 1
                seen.most_in_flight = max(seen.most_in_flight, seen.in_flight)
                try:
                    if await script(call) is False:
                        return
                finally:
                    seen.in_flight -= 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=1024)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


USAGE = b'"usage":{"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4}}'
WHOLE = b'{"choices":[{"message":{"content":"hello"}}],' + USAGE + b"}"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
COUNTED = b'data: {"choices":[],' + USAGE + b"}\n\n"
DONE = b"data: [DONE]\n\n"


def whole(body: bytes = WHOLE, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), headers, body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream(*events: bytes) -> bytes:
    return STREAM_HEAD + b"".join(map(chunk, events)) + b"0\r\n\r\n"


MESSAGES = ({"role": "user", "content": "hello"},)


def prompts(stream: bool = False) -> Prompts:
    return Prompts(Task("sim", messages=MESSAGES, stream=stream))


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def first(run: Run, count: int = 1) -> np.ndarray:
    """The samples once so many requests have ended."""
    await until(lambda: len(run.samples) >= count)
    return run.samples.since()


def replying(data: bytes, delay_s: float = 0.0, close: bool = False) -> Script:
    async def script(call: Call) -> bool:
        await asyncio.sleep(delay_s)
        await call.say(data)
        return not close

    return script
