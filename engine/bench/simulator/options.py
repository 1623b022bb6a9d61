"""The simulator's flags, and what goes wrong on purpose."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

ABOUT = "An inference server with a known capacity, to check measurements against."


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
    fail_above: int = 0


NO_FAULTS = Faults()


def options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine.bench.simulator", description=ABOUT)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-name", action="append", required=True, metavar="NAME", help="may be repeated")
    parser.add_argument("--capacity", type=int, default=4, help="parallel slots")
    parser.add_argument("--latency-ms", type=float, default=100.0, help="time of a request, whatever its tokens")
    parser.add_argument("--ttft-ms", type=float, help="instead: time to the first token …")
    parser.add_argument("--itl-ms", type=float, default=0.0, help="… and then per token")
    parser.add_argument("--batching", action="store_true", help="continuous batching: each running request slows all")
    parser.add_argument("--batch-ms", type=float, default=10.0, help="… by so much of a request's time")
    parser.add_argument(
        "--prefix-cache", action="store_true", help="usage tells the tokens that a cache would have had"
    )
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
    faults.add_argument("--fail-above", type=int, default=0, metavar="N", help="503 for what comes when N are there")
    faults.add_argument("--drift-per-s", type=float, default=0.0, help="growth of the latency: .01 is 1 %% a second")
    given = parser.parse_args(argv)
    times = (given.latency_ms, given.ttft_ms or 0, given.itl_ms, given.batch_ms, given.drift_per_s)
    if given.capacity < 1 or given.tokens < 1 or min(times) < 0:
        parser.error("capacity and tokens start at 1, times at 0")
    alone_ms = given.latency_ms if given.ttft_ms is None else given.ttft_ms + given.itl_ms
    if given.batching and not alone_ms:
        parser.error("--batching slows an answer: without --latency-ms there is none")
    return given
