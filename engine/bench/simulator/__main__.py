"""An inference server with a known capacity, to check measurements against: `python -m engine.bench.simulator --help`.

Exactly `capacity` requests run at a time, the others wait, first come first served. A request takes `latency_ms`, or
`ttft_ms` + `itl_ms` for each token; a stream shows its tokens at those times. It speaks OpenAI's API and vLLM's
metrics. No model is run and every answer says so. The flags below `faults` make it fail on purpose.
"""

import argparse
import asyncio
import hmac
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
import uvloop

from engine.bench.clock import Clock
from engine.bench.simulator import replies
from engine.bench.simulator.replies import Refused
from engine.bench.simulator.slots import Slots
from engine.bench.simulator.turns import Machine, Schedule, Turn
from engine.bench.simulator.vllm_metrics import Metrics
from engine.bench.simulator.wire import Connection, Request

INFERENCE = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")


@dataclass(frozen=True)
class Faults:
    """What goes wrong on purpose. Rates are exact: .25 is every fourth request."""

    start_delay_s: float = 0.0
    die_after_s: float = 0.0
    die_after_requests: int = 0
    exit_at_start: int | None = None
    fail_rate: float = 0.0
    break_rate: float = 0.0
    hang_rate: float = 0.0


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
        faults: Faults = Faults(),
        die: Callable[[], None] = lambda: None,
    ) -> None:
        self.machine, self._words, self._faults, self._die = machine, words, faults, die
        self._models, self._context = tuple(models), context
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
        self.machine.metrics.prompt_tokens += ask.prompt_tokens
        turn = Turn(self.machine, connection, ask, self._hits(self._faults.break_rate))
        connection.work = turn
        self.machine.slots.enter(turn)

    def _hits(self, rate: float) -> bool:
        return int(self._seen * rate) > int((self._seen - 1) * rate)


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine.bench.simulator", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-name", action="append", required=True, metavar="NAME", help="may be repeated")
    parser.add_argument("--capacity", type=int, default=4, help="parallel slots")
    parser.add_argument("--latency-ms", type=float, default=100.0, help="time of a request, whatever its tokens")
    parser.add_argument("--ttft-ms", type=float, help="instead: time to the first token …")
    parser.add_argument("--itl-ms", type=float, default=0.0, help="… and then per token")
    parser.add_argument("--tokens", type=int, default=16, help="length of an answer; max_tokens shortens it")
    parser.add_argument("--reply", default="", help="the answer's text, instead of the labelled sentence")
    parser.add_argument("--context", type=int, default=131_072, help="longest prompt, in tokens")
    faults = parser.add_argument_group("faults")
    faults.add_argument("--start-delay-s", type=float, default=0.0, help="/health answers 503 so long")
    faults.add_argument("--die-after-s", type=float, default=0.0, help="kill itself by SIGKILL")
    faults.add_argument("--die-after-requests", type=int, default=0, help="kill itself at the request after these")
    faults.add_argument("--exit-at-start", type=int, metavar="CODE")
    faults.add_argument("--fail-rate", type=float, default=0.0, help="share of requests answered by 500")
    faults.add_argument("--break-rate", type=float, default=0.0, help="share of answers broken off half-way")
    faults.add_argument("--hang-rate", type=float, default=0.0, help="share of requests never answered")
    given = parser.parse_args(argv)
    if given.capacity < 1 or given.tokens < 1 or min(given.latency_ms, given.ttft_ms or 0, given.itl_ms) < 0:
        parser.error("capacity and tokens start at 1, times at 0")
    return given


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def serve(given: argparse.Namespace, key: str) -> None:
    """Serves until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    clock = Clock(loop)
    ttft_s = None if given.ttft_ms is None else given.ttft_ms / 1000
    schedule = Schedule(given.latency_ms / 1000, ttft_s, given.itl_ms / 1000)
    simulator = Simulator(
        Machine(clock, Slots(given.capacity), Metrics(given.served_name[0]), schedule),
        models=given.served_name,
        words=replies.answer(given.tokens, given.reply),
        context=given.context,
        key=key,
        faults=Faults(**{name: getattr(given, name) for name in Faults.__dataclass_fields__}),
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
