"""The load generator's users against servers that lie, hang, break off and die."""

import asyncio

import numpy as np
import orjson
import pytest

from engine.bench.load.closed import closed
from engine.bench.load.samples import Code
from engine.bench.load.target import Target
from engine.ports import free_port
from tests.unit.scripted_server import (
    COUNTED,
    DONE,
    ROLE,
    STREAM_HEAD,
    TOKEN,
    Call,
    chunk,
    first,
    prompts,
    replying,
    serving,
    stream,
    until,
    whole,
)


async def test_every_user_has_one_request_under_way_on_a_connection_of_its_own() -> None:
    async with serving(replying(whole(), 0.02)) as server, await closed(server.target, prompts(), users=7) as run:
        rows = await first(run, 100)
        assert run.in_flight == 7
        assert run.mean_in_flight(rows["end"][20], rows["end"][90]) == pytest.approx(7, rel=0.02)
    assert (server.most_in_flight, server.connections) == (7, 7)
    assert set(rows["code"]) == {Code.OK} and (rows["end"] - rows["sent"]).min() > 0.019
    assert len({orjson.loads(call.body)["messages"][0]["content"] for call in server.calls}) == len(server.calls)


async def test_users_set_out_one_after_the_other() -> None:
    async with (
        serving(replying(whole(), 0.5)) as server,
        await closed(server.target, prompts(), users=5, stagger_s=0.25),
    ):
        await until(lambda: len(server.calls) == 5)
    assert np.diff(server.times) == pytest.approx(np.full(4, 0.05), abs=0.03)


async def test_users_come_and_leave_while_it_runs() -> None:
    async with serving(replying(whole(), 0.02)) as server, await closed(server.target, prompts(), users=2) as run:
        await first(run, 4)
        run.set_users(6)
        await until(lambda: run.in_flight == 6)
        run.set_users(1)
        await until(lambda: run.in_flight == 1)
        ended = len(run.samples)
        await first(run, ended + 3)
        assert run.users == 1 and run.in_flight == 1
        assert run.samples.between(0, np.inf).errors == {}
    assert server.most_in_flight == 6


async def test_tokens_are_the_servers_own_count() -> None:
    for streamed, reply in ((False, whole()), (True, stream(ROLE, TOKEN, COUNTED, DONE))):
        async with serving(replying(reply)) as server, await closed(server.target, prompts(streamed), users=1) as run:
            row = (await first(run))[0]
        assert (row["prompt_tokens"], row["completion_tokens"], row["cached_tokens"]) == (5, 7, 4)
        assert (row["status"], row["code"], row["events"]) == (200, Code.OK, 4 if streamed else 0)


async def test_the_first_token_is_the_first_text_not_the_first_event() -> None:
    async def script(call: Call) -> None:
        await call.say(STREAM_HEAD + chunk(ROLE), 0.1)
        await call.say(chunk(TOKEN[:30]), 0.05)
        await call.say(chunk(TOKEN[30:]), 0.1)
        await call.say(chunk(COUNTED + DONE) + b"0\r\n\r\n")

    async with serving(script) as server, await closed(server.target, prompts(True), users=1) as run:
        row = (await first(run))[0]
    assert 0.149 < row["first"] - row["sent"] < 0.22 and row["end"] - row["first"] > 0.099


async def test_an_answer_that_comes_byte_by_byte_is_read_all_the_same() -> None:
    async def script(call: Call) -> None:
        for byte in stream(ROLE, *[TOKEN] * 3, COUNTED, DONE):
            call.writer.write(bytes([byte]))
            await asyncio.sleep(0)

    async with serving(script) as server, await closed(server.target, prompts(True), users=1) as run:
        rows = await first(run, 2)
    assert rows["events"][:2].tolist() == [6, 6] and rows["completion_tokens"][:2].tolist() == [7, 7]


async def test_a_long_stream_is_counted_without_being_kept() -> None:
    async with (
        serving(replying(stream(ROLE, *[TOKEN] * 5000, COUNTED, DONE))) as server,
        await closed(server.target, prompts(True), users=1) as run,
    ):
        row = (await first(run))[0]
    assert (row["events"], row["completion_tokens"], row["code"]) == (5003, 7, Code.OK)


@pytest.mark.parametrize(
    ("reply", "code", "status"),
    [
        (STREAM_HEAD + chunk(ROLE + TOKEN), Code.BROKEN, 200),
        (stream(ROLE, TOKEN), Code.BROKEN, 200),
        (stream(ROLE, b'data: {"error":{"message":"gone"}}\n\n', DONE), Code.BROKEN, 200),
        (whole()[:-5], Code.BROKEN, 200),
        (b"SSH-2.0-OpenSSH\r\n", Code.BROKEN, 0),
        (whole() + whole(), Code.BROKEN, 200),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", Code.BROKEN, 101),
        (whole(b"{}", b"503 Service Unavailable"), Code.HTTP, 503),
        (b"", Code.CONNECTION, 0),
        (STREAM_HEAD + chunk(ROLE + TOKEN + DONE), Code.OK, 200),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + stream(ROLE, DONE), Code.OK, 200),
    ],
)
async def test_every_way_to_fail_has_its_code(reply: bytes, code: Code, status: int) -> None:
    async with (
        serving(replying(reply, close=True)) as server,
        await closed(server.target, prompts(True), users=1) as run,
    ):
        row = (await first(run))[0]
    assert (Code(row["code"]), row["status"]) == (code, status)
    assert code == Code.OK or run.samples.between(0, np.inf).errors == {code.name.lower(): len(run.samples)}


async def test_a_server_that_hangs_is_given_up_after_the_timeout() -> None:
    async def script(call: Call) -> None:
        await asyncio.sleep(30)

    async with serving(script) as server, await closed(server.target, prompts(), users=3, timeout_s=0.2) as run:
        rows = await first(run, 3)
        await until(lambda: server.connections >= 4)  # another request, on another connection
    assert set(rows["code"]) == {Code.TIMEOUT}
    assert (rows["end"] - rows["intended"]).min() >= 0.2 and (rows["end"] - rows["intended"]).max() < 0.5


async def test_a_stream_that_stops_half_way_is_given_up_with_what_it_had() -> None:
    async def script(call: Call) -> None:
        await call.say(STREAM_HEAD + chunk(ROLE + TOKEN), 30)

    async with serving(script) as server, await closed(server.target, prompts(True), users=1, timeout_s=0.2) as run:
        row = (await first(run))[0]
    assert (row["code"], row["events"]) == (Code.TIMEOUT, 2) and row["first"] > row["sent"]


async def test_a_server_that_is_not_there_is_not_hammered() -> None:
    async with await closed(Target.of(f"http://127.0.0.1:{free_port()}"), prompts(), users=2) as run:
        rows = await first(run, 6)
        took_s = rows["end"][5] - rows["intended"][0]
    assert set(rows["code"]) == {Code.CONNECTION} and np.isnan(rows["sent"]).all()
    assert took_s > 0.14, "each user waits 50 ms, then 100 ms"


async def test_a_user_that_was_refused_asks_again_at_once_after_an_answer() -> None:
    async def script(call: Call) -> None:
        await call.say(whole(b"{}", b"500 Internal Server Error") if call.number <= 2 else whole())

    async with serving(script) as server, await closed(server.target, prompts(), users=1) as run:
        rows = await first(run, 12)
    gaps = rows["intended"][1:12] - rows["end"][:11]
    assert gaps[:2] == pytest.approx([0.05, 0.1]) and gaps[2:].max() == 0


async def test_a_kept_connection_that_is_closed_all_the_same_costs_no_request() -> None:
    """As llama.cpp does after each stream."""
    async with (
        serving(replying(stream(ROLE, TOKEN, COUNTED, DONE), close=True)) as server,
        await closed(server.target, prompts(True), users=2) as run,
    ):
        rows = await first(run, 60)
        assert set(rows["code"]) == {Code.OK}
        assert run.repeats >= 1 and not run.reuses, "and it has learnt that connections are used once"
        repeats = run.repeats
        await first(run, 120)
        assert run.repeats <= repeats + 2
        assert run.samples.between(0, np.inf).errors == {}


async def test_a_server_that_says_close_is_believed() -> None:
    async with (
        serving(replying(whole(headers=b"connection: close\r\n"))) as server,
        await closed(server.target, prompts(), users=1) as run,
    ):
        await first(run, 20)
    assert run.repeats == 0 and run.reuses and server.connections >= 20


async def test_a_request_that_is_let_go_late_has_failed_and_is_not_repeated() -> None:
    async def script(call: Call) -> bool:
        if call.nth == 1:
            await call.say(whole())
            return True
        await asyncio.sleep(1.1)
        return False

    async with serving(script) as server, await closed(server.target, prompts(), users=1) as run:
        rows = await first(run, 2)
    assert rows["code"][:2].tolist() == [Code.OK, Code.CONNECTION] and run.repeats == 0


async def test_what_the_server_said_of_a_failure_is_kept() -> None:
    async with (
        serving(replying(whole(b'{"error":{"message":"no such model"}}', b"404 Not Found"))) as server,
        await closed(server.target, prompts(), users=1) as run,
    ):
        await first(run)
    assert "no such model" in run.complaint and run.shortage is None
    async with await closed(Target.of(f"http://127.0.0.1:{free_port()}"), prompts(), users=1) as run:
        await first(run)
    assert "refused" in run.complaint.lower() or "Connect call failed" in run.complaint
