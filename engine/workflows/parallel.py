"""Work on many things at once, bounded, results as they end; whoever leaves takes all of it along."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# How soon more room is seen while everything in flight takes long.
LOOK_AGAIN_S = 0.5


async def as_they_end(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], parallel: Callable[[], int]
) -> AsyncGenerator[R, None]:
    """Results of `work` in the order in which they end, at most parallel() at a time (at least one).

    `parallel` is asked again whenever something ends, and twice a second besides. The first exception ends the rest
    and is raised. Close the iterator (contextlib.aclosing) or cancel its reader: no task stays behind.
    """
    waiting, ended, running = iter(items), asyncio.Queue[asyncio.Task[R]](), set[asyncio.Task[R]]()

    def start_what_fits() -> None:
        for item in islice(waiting, max(0, max(1, parallel()) - len(running))):
            task = asyncio.ensure_future(work(item))
            running.add(task)
            task.add_done_callback(ended.put_nowait)

    try:
        start_what_fits()
        while running:
            task = await _next(ended)
            if task is not None:
                running.discard(task)
            start_what_fits()
            if task is not None:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _next(ended: "asyncio.Queue[asyncio.Task[R]]") -> "asyncio.Task[R] | None":
    if not ended.empty():
        return ended.get_nowait()
    try:
        async with asyncio.timeout(LOOK_AGAIN_S):
            return await ended.get()
    except TimeoutError:
        return None
