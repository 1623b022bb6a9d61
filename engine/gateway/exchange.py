"""One request on the hot path: what is known of it from its first byte to its line in the log."""

import asyncio

from engine.gateway.body import ClientLeft, Receive
from engine.gateway.connection import Response
from engine.gateway.gates import Waiter
from engine.gateway.keys import Key
from engine.gateway.metrics import NO_MODEL
from engine.gateway.records.metering import Meter


class Exchange:
    """One request on its way; once it takes long, it listens for its client's leaving and then ends it upstream.

    Most of what it may come to know stays as the class has it, which costs a quick request nothing.
    """

    name = NO_MODEL
    path = error = ""
    headers = request_id = query = label = body = b""
    left = started = streamed = experiment = False
    # Made of requests that are recorded each for itself.
    apart = False
    key: Key | None = None
    meter: Meter | None = None
    status = 0
    # Seconds from its beginning: to the answer's head, to a stream's first data, to the end.
    head_s: float | None = None
    ttft_s: float | None = None
    latency_s = 0.0
    # Seconds: how long it may wait in the queue, where it says so, and how long it did.
    wait_s: float | None = None
    queued_s = 0.0
    response: Response | None = None
    waiter: Waiter | None = None
    watch: "asyncio.Task[None] | None" = None

    def __init__(self, receive: Receive, begun: float) -> None:
        self.receive, self.begun = receive, begun

    def slow(self, response: Response) -> None:
        self.response = response
        if self.left:
            response.abort(ClientLeft())
        else:
            self.listen()

    def listen(self) -> None:
        if self.watch is None:
            self.watch = asyncio.create_task(self._until_left())

    async def _until_left(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.left = True
        if self.response is not None:
            self.response.abort(ClientLeft())
        elif self.waiter is not None:
            self.waiter.future.cancel()
