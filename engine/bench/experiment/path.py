"""How long the way to the server and back takes, apart from the server's work."""

import asyncio
import time
from contextlib import suppress

import numpy as np

from engine.bench.load.target import Target

PROBES = 30
TIMEOUT_S = 5.0


async def delay_s(target: Target, model: str) -> float | None:
    """Median seconds of a request that the replica refuses at once, for it has no messages; None where none came back.

    It goes the whole way, through the gateway's and NGINX's doors, but no slot is taken for it.
    """
    body = b'{"model":"%b","messages":[]}' % model.encode()
    request = b"%b%d\r\n\r\n%b" % (target.head, len(body), body)
    taken: list[float] = []
    with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(target.host, target.port)
            try:
                for _ in range(PROBES):
                    begun = time.perf_counter()
                    writer.write(request)
                    await _answer(reader)
                    taken.append(time.perf_counter() - begun)
            finally:
                writer.close()
    # The first one also opens connections on its way.
    return float(np.median(taken[1:])) if len(taken) > 1 else None


async def _answer(reader: asyncio.StreamReader) -> None:
    """Reads one answer; raises ValueError for one that is no refusal, or has no length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next((line for line in head.split(b"\r\n") if line.startswith(b"content-length:")), b"")
    await reader.readexactly(int(length.partition(b":")[2]))
    if head.split(b" ", 2)[1][:1] != b"4":
        raise ValueError("not refused")
