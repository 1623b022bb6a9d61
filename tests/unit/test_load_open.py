"""The load generator's open loop, how a run ends, and when the generator itself is the limit."""

import asyncio
import os
import resource
import time

import numpy as np
import pytest

from engine.bench.load.closed import closed
from engine.bench.load.line import Line
from engine.bench.load.open import open_
from engine.bench.load.samples import Code
from engine.bench.load.target import Target
from engine.errors import ConfigurationError, EndpointRefused
from tests.unit.scripted_server import (
    Call,
    first,
    prompts,
    replying,
    serving,
    until,
    whole,
)


async def test_bytes_that_nobody_asked_for_end_a_connection_not_a_request() -> None:
    async def script(call: Call) -> None:
        await call.say(whole(), 0.02)
        if call.number == 1:
            await call.say(b"HTTP/1.1 200 OK\r\n", 0.05)

    async with serving(script) as server, await open_(server.target, prompts(), 20, "constant") as run:
        rows = await first(run, 4)
    assert set(rows["code"]) == {Code.OK} and server.connections >= 2


async def test_a_drain_waits_for_the_answers_under_way_and_sends_no_more() -> None:
    async with serving(replying(whole(), 0.2)) as server:
        run = await closed(server.target, prompts(), users=4)
        await until(lambda: len(server.calls) == 4)
        assert await run.drain(5) == 0
    assert (len(server.calls), len(run.samples), run.in_flight) == (4, 4, 0)
    assert run.samples.between(0, np.inf).errors == {}


async def test_a_drain_gives_up_at_its_deadline_and_says_how_many() -> None:
    async with serving(replying(whole(), 30)) as server:
        run = await closed(server.target, prompts(), users=4)
        await until(lambda: len(server.calls) == 4)
        began = time.perf_counter()
        assert await run.drain(0.2) == 4
        assert time.perf_counter() - began < 1
        await until(lambda: server.in_flight == 4)
    assert run.samples.between(0, np.inf).errors == {"aborted": 4}


async def test_nothing_is_sent_after_an_abort() -> None:
    async with serving(replying(whole(), 0.01)) as server:
        async with (
            await open_(server.target, prompts(), 500) as open_run,
            await closed(server.target, prompts(), users=4, stagger_s=1.0) as closed_run,
        ):
            await first(closed_run, 5)
        calls = len(server.calls)
        await asyncio.sleep(0.1)
        assert len(server.calls) <= calls + 2
    assert open_run.in_flight == closed_run.in_flight == 0


async def test_an_open_loop_sends_at_its_rate_whatever_comes_back() -> None:
    async with serving(replying(whole(), 0.3)) as server, await open_(server.target, prompts(), 100, "constant") as run:
        rows = await first(run, 60)
    intended = np.sort(rows["intended"])
    assert np.diff(intended) == pytest.approx(np.full(len(rows) - 1, 0.01))
    assert 25 <= server.most_in_flight <= 45 and np.median(rows["end"] - rows["intended"]) < 0.36


async def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    async with (
        serving(replying(whole())) as server,
        await open_(server.target, prompts(), 1000, "poisson", seed=3) as run,
    ):
        await first(run, 1200)
        assert await run.drain(10) == 0
    gaps = np.diff(np.sort(run.samples.since()["intended"]))[:1200]
    assert gaps.mean() == pytest.approx(0.001, rel=0.12) and gaps.std() / gaps.mean() == pytest.approx(1, abs=0.12)


async def test_latencies_count_from_the_intended_start_also_of_what_had_to_wait() -> None:
    async with (
        serving(replying(whole(), 0.1)) as server,
        await open_(server.target, prompts(), 40, "constant", connections=1) as run,
    ):
        await until(lambda: run.waiting >= 8)
        rows = await first(run, 4)
        stopped_with = run.in_flight + run.waiting
        run.stop()
        ended = len(run.samples)
        assert await run.drain(0.25) in range(stopped_with - 4, stopped_with)
    latencies = (rows["end"] - rows["intended"])[:4]
    assert np.diff(latencies) == pytest.approx(np.full(3, 0.075), abs=0.03)
    assert len(run.samples) == ended + stopped_with, "what was never sent is recorded, too"
    assert run.samples.since()["code"][-1] == Code.ABORTED


async def test_a_generator_that_is_held_up_shows_it() -> None:
    async with (
        serving(replying(whole(), 0.01)) as server,
        await open_(server.target, prompts(), 100, "constant") as run,
    ):
        await first(run, 10)
        begin = time.perf_counter()
        time.sleep(0.3)  # noqa: ASYNC251
        await asyncio.sleep(0.2)
        assert await run.drain(10) == 0
    end = time.perf_counter()
    rows, watched = run.samples.between(begin, end), run.watch(begin, end)
    assert rows["lag"].max() > 0.25 and watched.send_lag_p99_s > 0.2 and watched.loop_lag_p99_s > 0.2
    assert watched.limited and "late" in watched.limited


async def test_a_generator_without_room_for_connections_is_its_own_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with serving(replying(whole(), 0.3)) as server, await closed(server.target, prompts(), users=1) as run:
        begin = time.perf_counter()
        await first(run)
        # when: this process may open no more files
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            line = Line(run)
            run._lines.add(line)
            line.begin(time.perf_counter())
            await until(lambda: run.shortage is not None)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        watched = run.watch(begin, time.perf_counter())
    assert watched.limited == "the load generator ran out of open files of this process"


async def test_an_unknown_host_or_an_impossible_rate_is_told_before_anything_is_sent() -> None:
    with pytest.raises(EndpointRefused, match=r"nowhere\.invalid"):
        await closed(Target.of("http://nowhere.invalid:1/v1"), prompts(), users=1)
    with pytest.raises(ConfigurationError, match="rate of 0"):
        await open_(Target.of("http://127.0.0.1:1/v1"), prompts(), 0)
