"""An inference server with a known capacity, to check measurements against: `python -m engine.bench.simulator --help`.

Exactly `capacity` requests run at a time, the others wait, first come first served. A request takes `latency_ms`, or
`ttft_ms` + `itl_ms` for each token; a stream shows its tokens at those times. With --batching that time, r0, is the one
of a request alone, and each that runs adds r1 = `batch_ms`: N users see (r0 + r1 min(N, B)) max(1, N/B) at B slots. It
speaks OpenAI's API and vLLM's metrics. No model is run and every answer says so. The flags below `faults` make it fail
on purpose.
"""

import argparse
import asyncio
import hmac
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace

import orjson
import uvloop

from engine.bench.clock import Clock
from engine.bench.simulator import replies
from engine.bench.simulator.batching import Batch
from engine.bench.simulator.options import NO_FAULTS, Faults, options
from engine.bench.simulator.prefixes import Prefixes, prompt_words
from engine.bench.simulator.replies import Refused
from engine.bench.simulator.slots import Slots
from engine.bench.simulator.turns import Machine, Schedule, Turn
from engine.bench.simulator.vllm_metrics import Metrics
from engine.bench.simulator.wire import Connection, Request

INFERENCE = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


class Simulator:
    """Routes requests, counts them, and hands those for inference to the slots."""

    def __init__(
        self,
        machine: Machine,
        *,
        models: Sequence[str],
        words: tuple[str, ...],
        context: int = 131_072,
        key: str = "",
        faults: Faults = NO_FAULTS,
        prefixes: Prefixes | None = None,
        die: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine, self._words, self._faults, self._die = machine, words, faults, die
        self._models, self._context, self._prefixes = tuple(models), context, prefixes
        self._expected = f"bearer {key}".encode() if key else b""
        self._ready_at = machine.clock.now() + faults.start_delay_s
        self._seen = 0
        self._routes: dict[tuple[str, str], Callable[[Connection, Request], None]] = {
            ("GET", "/health"): self._health,
            ("GET", "/v1/models"): self._list,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/tokenize"): self._tokenize,
            **{("POST", path): self._infer for path in INFERENCE},
        }

    def handle(self, connection: Connection, request: Request) -> None:
        try:
            route = self._routes.get((request.method, request.path))
            if request.path != "/health" and not self._allowed(request.authorization):
                message = "a key is needed: Authorization: Bearer KEY"
                raise Refused(401, message, "authentication_error", "invalid_api_key")
            if route is None:
                raise Refused(404, f"there is no {request.method} {request.path}", code="not_found")
            route(connection, request)
        except Refused as refusal:
            connection.respond(refusal.status, refusal.body)

    def _allowed(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        given = f"{scheme.lower()} {key.strip()}".encode("utf-8", "replace")
        return not self._expected or hmac.compare_digest(given, self._expected)

    def _health(self, connection: Connection, _: Request) -> None:
        self._must_be_ready()
        connection.respond(200, b'{"status":"ok","engine":"simulator"}')

    def _must_be_ready(self) -> None:
        if self.machine.clock.now() < self._ready_at:
            raise Refused(503, "the simulator is loading", "unavailable_error", "loading")

    def _list(self, connection: Connection, _: Request) -> None:
        same = {"object": "model", "created": 0, "owned_by": "simulator", "root": self._models[0]}
        rows = [{"id": model, **same, "max_model_len": self._context} for model in self._models]
        connection.respond(200, orjson.dumps({"object": "list", "data": rows}))

    def _metrics(self, connection: Connection, _: Request) -> None:
        slots = self.machine.slots
        text = self.machine.metrics.text(slots.running, slots.waiting, slots.capacity)
        connection.respond(200, text, b"text/plain; version=0.0.4; charset=utf-8")

    def _tokenize(self, connection: Connection, request: Request) -> None:
        connection.respond(200, replies.tokenize(replies.parse(request.body), self._context))

    def _infer(self, connection: Connection, request: Request) -> None:
        self._must_be_ready()
        ask = replies.understand(request.path, request.body, self._models, self._words, self._context)
        self._seen += 1
        if self._faults.die_after_requests and self._seen > self._faults.die_after_requests:
            self._die()
        if self._hits(self._faults.fail_rate):
            raise Refused(500, "the simulator fails on purpose", "InternalServerError", "simulated_failure")
        if self._hits(self._faults.hang_rate):
            return
        if (
            self._faults.fail_above
            and self.machine.slots.running + self.machine.slots.waiting >= self._faults.fail_above
        ):
            raise Refused(
                503, "the simulator is overloaded on purpose", "ServiceUnavailableError", "simulated_overload"
            )
        if self._prefixes is not None:
            words = prompt_words(replies.parse(request.body))
            ask = replace(ask, cached_tokens=self._prefixes.cached(words))
        self.machine.metrics.prompt_tokens += ask.prompt_tokens
        turn = Turn(self.machine, connection, ask, self._hits(self._faults.break_rate))
        connection.work = turn
        self.machine.slots.enter(turn)

    def _hits(self, rate: float) -> bool:
        return int(self._seen * rate) > int((self._seen - 1) * rate)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def machine(given: argparse.Namespace, clock: Clock) -> Machine:
    ttft_s = None if given.ttft_ms is None else given.ttft_ms / 1000
    schedule = Schedule(given.latency_ms / 1000, ttft_s, given.itl_ms / 1000, given.drift_per_s, clock.now())
    metrics = Metrics(given.served_name[0])
    if not given.batching:
        return Machine(clock, Slots(given.capacity), metrics, schedule)
    batch = Batch(clock, given.batch_ms / 1000 / schedule.total_s(given.tokens))
    return Machine(batch, Slots(given.capacity, batch.running), metrics, schedule)


async def serve(given: argparse.Namespace, key: str) -> None:
    """Serves until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    simulator = Simulator(
        machine(given, clock),
        models=given.served_name,
        words=replies.answer(given.tokens, given.reply),
        context=given.context,
        key=key,
        faults=Faults(**{name: getattr(given, name) for name in Faults.__dataclass_fields__}),
        prefixes=Prefixes() if given.prefix_cache else None,
        die=_die,
    )
    server = await loop.create_server(lambda: Connection(simulator.handle), given.host, given.port, backlog=4096)
    if given.die_after_s:
        clock.call_at(clock.now() + given.die_after_s, lambda _: _die())
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    print(f"simulator of {given.capacity} slots at {given.host}:{given.port}, no model behind it", flush=True)
    await stopped.wait()
    server.close()


def main(argv: Sequence[str] | None = None) -> int:
    given = options(argv)
    if given.exit_at_start is not None:
        print(f"simulator: leaving with {given.exit_at_start} on purpose", file=sys.stderr)
        return int(given.exit_at_start)
    key = os.environ.get("ENGINE_REPLICA_KEY", "")
    try:
        uvloop.run(serve(given, key))
    except OSError as failure:
        print(f"simulator: cannot listen at {given.host}:{given.port}: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
