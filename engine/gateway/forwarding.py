"""One request to whichever replica of a model takes it: the balancer's pick, and another when that one fails."""

import asyncio
from typing import Protocol

from engine.errors import EndpointError, EndpointRefused
from engine.gateway.balancer import pick
from engine.gateway.body import ClientLeft
from engine.gateway.connection import EndpointBroke, Response, Watcher
from engine.gateway.metrics import Counts
from engine.gateway.routes import Route, Routes, Target

BREAKS_MOST = 3
ROUNDS_MOST = 3
ROUND_PAUSE_S = 0.3
TRY_ANOTHER = frozenset({502, 503, 504})


class Waiting(Watcher, Protocol):
    """Who the request is for. `left` tells that nobody waits for the answer any more."""

    left: bool


class Forwarder:
    """Sends requests to the targets of a route; shared by the hot path and the workflows."""

    __slots__ = ("_counts", "_routes", "_turn")

    def __init__(self, routes: Routes, counts: Counts) -> None:
        self._routes, self._counts = routes, counts
        self._turn = 0

    async def forward(
        self, model: str, line: bytes, headers: bytes, body: bytes, waiting: Waiting
    ) -> tuple[Target, Response]:
        """The head of the first answer worth passing on, from a target whose `in_flight` counts it.

        `line` is the request line, `headers` are lines, both with their line ends. Whoever takes the answer gives
        `in_flight` back and closes the response. A refused connection costs the client nothing; a replica that broke
        with the request in its hands is replaced at most BREAKS_MOST times, for a request may be what kills them. When
        all were tried, a pause and another round: a controller that replaces a replica needs a moment to say so.
        """
        head = b"%bcontent-length: %d\r\n\r\n" % (headers, len(body))
        now = asyncio.get_running_loop().time
        tried: list[Target] = []
        breaks = rounds = 0
        failure: EndpointError = EndpointRefused(f"no replica of {model!r} answered")
        while True:
            route = self._routes.serving(model)
            self._turn += 1
            target = pick(route.targets, now(), self._turn, tried)
            if target is None:
                rounds += 1
                if rounds >= ROUNDS_MOST:
                    raise failure
                await asyncio.sleep(ROUND_PAUSE_S * rounds)
                tried.clear()
                continue
            try:
                response = await _send(target, line + target.head + head, body, waiting)
            except EndpointRefused as error:
                failure = error
                breaks += isinstance(error, EndpointBroke)
                if breaks >= BREAKS_MOST:
                    raise
            else:
                if response.status not in TRY_ANOTHER or not _others(route, target, tried):
                    return target, response
                target.in_flight -= 1
                response.close()
            if waiting.left:
                raise ClientLeft
            self._counts.retries += 1
            tried.append(target)


async def _send(target: Target, head: bytes, body: bytes, waiting: Waiting) -> Response:
    target.in_flight += 1
    target.breaker.begin()
    try:
        response = await target.upstream.request(head, body, waiting)
    except BaseException as error:
        target.in_flight -= 1
        if isinstance(error, EndpointRefused):
            target.breaker.failed(asyncio.get_running_loop().time())
        else:
            target.breaker.gave_no_verdict()
        raise
    target.breaker.succeeded()
    return response


def _others(route: Route, target: Target, tried: list[Target]) -> bool:
    return any(other is not target and other not in tried for other in route.targets)
