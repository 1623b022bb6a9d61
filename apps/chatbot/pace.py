"""How often a chat is drawn: all chats together share what one process can draw, and each is drawn evenly."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol, TypeVar

# A drawing costs the process 4.5 ms: at this rate a core is a quarter busy with it.
DRAWINGS_PER_S = 60.0
# Text that grows five times a second reads as flowing.
APART_S = 0.2


class Shows(Protocol):
    @property
    def ended(self) -> bool: ...

    @property
    def text(self) -> str: ...


V = TypeVar("V", bound=Shows)


class Pace:
    """A budget of drawings for all chats of a process; the more chats write, the rarer each one's drawings."""

    def __init__(self, per_s: float = DRAWINGS_PER_S, apart_s: float = APART_S) -> None:
        self._per_s, self._apart_s = per_s, apart_s
        self._writing = 0

    @property
    def apart_s(self) -> float:
        return max(self._apart_s, self._writing / self._per_s)

    async def paced(
        self, views: AsyncGenerator[V, None], now: Callable[[], float] | None = None
    ) -> AsyncGenerator[V, None]:
        """Of the views those that should be drawn: the first words and whatever has ended at once, growth now and then.

        The last view always comes, so that nothing of the text is lost.
        """
        clock = now or asyncio.get_running_loop().time
        drawn_at, waiting, words = -1e9, None, False
        self._writing += 1
        try:
            async with aclosing(views) as coming:
                async for view in coming:
                    first = bool(view.text) and not words
                    words = words or first
                    if first or view.ended or not words or clock() - drawn_at >= self.apart_s:
                        drawn_at, waiting = clock(), None
                        yield view
                    else:
                        waiting = view
            if waiting is not None:
                yield waiting
        finally:
            self._writing -= 1
