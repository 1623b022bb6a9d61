"""The client against servers that misbehave, over real sockets on the loopback."""

import asyncio
import functools
import gc
import inspect
import socket
import time
from contextlib import asynccontextmanager

import pytest
import uvloop

from engine.errors import EndpointRefused, EndpointTimedOut
from engine.fleet.hosts import Endpoint
from engine.gateway.connection import HIGH_WATER, EndpointBroke, Response
from engine.gateway.upstream import Upstream
from tests.fakes import talking

HEAD = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
BODY = b'{"model": "sim"}'


def on_both_loops(test):
    """Runs a test on asyncio's own loop and on uvloop's, whose transports differ."""

    @functools.wraps(test)
    def run(loop, **given):
        loop(asyncio.wait_for(test(**given), 20))

    signature = inspect.signature(test)
    loop = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = signature.replace(parameters=[loop, *signature.parameters.values()])
    return pytest.mark.parametrize("loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])(run)


@asynccontextmanager
async def upstream(talk, **deadlines):
    async with talking(talk) as (server, endpoint):
        client = Upstream(endpoint, **deadlines)
        try:
            yield client, server
        finally:
            client.abort(EndpointRefused("the test is over"))


async def ask(client, body=BODY, watcher=None):
    return await client.request(HEAD % len(body), body, watcher)


async def whole(response):
    parts = []
    while part := await response.read():
        parts.append(part)
    return b"".join(parts)


async def echo(peer):
    while True:
        _, body = await peer.request()
        await peer.answer(body)


async def until(condition, seconds=2.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.01)


@on_both_loops
async def test_one_connection_serves_many_requests():
    async with upstream(echo) as (client, server):
        for number in range(20):
            response = await ask(client, b"%d" % number)
            assert (response.status, await whole(response)) == (200, b"%d" % number)
        assert server.connections == 1 and len(client.idle) == 1 and not client.busy


@on_both_loops
async def test_headers_come_lower_case_and_in_order():
    async def talk(peer):
        await peer.request()
        await peer.answer(b"", b"X-One: 1\r\nx-two: 2\r\nX-One: 3\r\n", b"429 Too Many")

    async with upstream(talk) as (client, _):
        response = await ask(client)
        assert response.status == 429
        assert response.headers[:3] == [(b"x-one", b"1"), (b"x-two", b"2"), (b"x-one", b"3")]
        assert await whole(response) == b""


@on_both_loops
async def test_slow_chunks_come_one_by_one():
    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for word in (b"one", b"two", b"three"):
            await peer.say(b"%x\r\n" % len(word), word, b"\r\n", pause_s=0.02)
        await peer.say(b"0\r\n\r\n")
        await peer.gone()

    async with upstream(talk) as (client, _):
        response = await ask(client)
        assert [await response.read() for _ in range(4)] == [b"one", b"two", b"three", b""]
        assert len(client.idle) == 1


@on_both_loops
async def test_a_body_without_a_length_ends_with_the_connection():
    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n\r\n", b"some ", b"text", pause_s=0.01)

    async with upstream(talk) as (client, _):
        assert await whole(await ask(client)) == b"some text"
        assert not client.idle and not client.busy


@on_both_loops
async def test_interim_answers_are_passed_over():
    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", pause_s=0.01)
        await peer.answer(b"done", b"x-real: 1\r\n")

    async with upstream(talk) as (client, _):
        response = await ask(client)
        assert (response.status, await whole(response)) == (200, b"done")
        assert [name for name, _ in response.headers] == [b"x-real", b"content-length"]


@on_both_loops
async def test_no_server_is_told_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = Upstream(Endpoint("127.0.0.1", taken.getsockname()[1]))
        with pytest.raises(EndpointRefused, match="took no connection"):
            await ask(client)


@on_both_loops
async def test_a_keep_alive_lie_costs_the_caller_nothing():
    """llama.cpp promises keep-alive and closes the connection after each streamed answer."""

    async def talk(peer):
        _, body = await peer.request()
        await peer.answer(body, b"connection: keep-alive\r\n")

    async with upstream(talk) as (client, server):
        for number in range(30):
            assert await whole(await ask(client, b"%d" % number)) == b"%d" % number
        assert server.connections == 30


@on_both_loops
async def test_a_kept_connection_that_died_is_replaced_by_a_fresh_one():
    async def talk(peer):
        _, body = await peer.request()
        await peer.answer(body)
        if peer.number == 1:
            await peer.request()
            peer.reset()
            return
        await peer.gone()

    async with upstream(talk) as (client, server):
        await whole(await ask(client))
        assert await whole(await ask(client, b"again")) == b"again"
        assert server.connections == 2


@on_both_loops
async def test_a_fresh_connection_that_breaks_is_not_tried_again():
    async def talk(peer):
        await peer.request()
        peer.reset()

    async with upstream(talk) as (client, server):
        with pytest.raises(EndpointBroke, match="before it answered"):
            await ask(client)
        assert server.connections == 1


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 200 OK\r\ncontent-le", b"this is no HTTP\r\n\r\n", b"x-long: " + b"x" * 10],
    ids=["half headers", "no http", "no status line"],
)  # fmt: skip
@on_both_loops
async def test_a_head_that_never_becomes_whole_is_an_error(said):
    async def talk(peer):
        await peer.request()
        await peer.say(said, pause_s=0.01)

    async with upstream(talk) as (client, _):
        with pytest.raises(EndpointBroke):
            await ask(client)
        await until(lambda: not client.busy)


@on_both_loops
async def test_endless_headers_are_cut_off():
    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\nx: ", *[b"y" * 20_000] * 10)
        await peer.gone()

    async with upstream(talk) as (client, _):
        with pytest.raises(EndpointBroke, match="headers"):
            await ask(client)


@pytest.mark.parametrize("framing", [b"content-length: 100\r\n", b"transfer-encoding: chunked\r\n"])
@on_both_loops
async def test_a_body_that_breaks_off_is_an_error_and_not_an_end(framing):
    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n%b\r\n5\r\nfirst" % framing, pause_s=0.02)

    async with upstream(talk) as (client, _):
        response = await ask(client)
        assert b"first" in await response.read()
        with pytest.raises(EndpointBroke, match="in the middle of its answer"):
            await response.read()


@on_both_loops
async def test_a_server_that_hangs_meets_the_first_byte_deadline():
    async def talk(peer):
        await peer.request()
        await peer.gone()

    async with upstream(talk, first_byte_s=0.4) as (client, server):
        begun = time.monotonic()
        with pytest.raises(EndpointTimedOut, match="did not begin"):
            await ask(client)
        assert 0.3 < time.monotonic() - begun < 1.5
        await until(lambda: server.open == 0)


@on_both_loops
async def test_a_stream_that_falls_silent_meets_its_deadline():
    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await peer.gone()

    async with upstream(talk, body_s=0.4) as (client, server):
        response = await ask(client)
        assert await response.read() == b"x"
        with pytest.raises(EndpointTimedOut, match="no byte"):
            await response.read()
        await until(lambda: server.open == 0)


@on_both_loops
async def test_a_slow_reader_holds_the_server_back():
    sent = 0
    size = 64 * 2**20

    async def talk(peer):
        nonlocal sent
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sent < size:
            await peer.say(b"z" * 2**20)
            sent += 2**20

    async with upstream(talk) as (client, _):
        response = await ask(client)
        await asyncio.sleep(0.3)
        assert response.buffered < HIGH_WATER * 4 and sent < size
        assert len(await whole(response)) == size


@on_both_loops
async def test_a_large_body_goes_up_whole():
    body = bytes(range(256)) * 2**17
    async with upstream(echo) as (client, _):
        assert await whole(await ask(client, body)) == body


@on_both_loops
async def test_letting_go_of_an_answer_closes_its_connection():
    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await peer.gone()

    async with upstream(talk) as (client, server):
        response = await ask(client)
        response.close()
        await until(lambda: server.open == 0 and not client.busy)


@on_both_loops
async def test_a_cancelled_request_closes_its_connection():
    async def talk(peer):
        await peer.request()
        await peer.gone()

    async with upstream(talk) as (client, server):
        task = asyncio.create_task(ask(client))
        await until(lambda: server.open == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: server.open == 0 and not client.busy)


@on_both_loops
async def test_idle_connections_are_closed_after_a_while():
    async with upstream(echo, idle_s=0.3) as (client, server):
        await whole(await ask(client))
        assert server.open == 1
        await until(lambda: server.open == 0 and not client.idle)


@on_both_loops
async def test_bytes_that_nobody_asked_for_close_the_connection():
    async def talk(peer):
        await peer.request()
        await peer.answer(b"one")
        await asyncio.sleep(0.05)
        await peer.answer(b"unasked")
        await peer.gone()

    async with upstream(talk) as (client, server):
        assert await whole(await ask(client)) == b"one"
        await until(lambda: server.open == 0 and not client.idle)


@on_both_loops
async def test_a_second_answer_in_the_same_packet_is_not_the_next_requests():
    async def talk(peer):
        await peer.request()
        one = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"
        await peer.say(one + b"one" + one + b"two")
        await peer.gone()

    async with upstream(talk) as (client, server):
        assert await whole(await ask(client)) == b"one"
        await until(lambda: server.open == 0 and not client.idle and not client.busy)


@on_both_loops
async def test_nothing_is_left_of_requests_that_are_over():
    async def talk(peer):
        while True:
            _, body = await peer.request()
            await peer.answer(body)
            if int(body) % 3 == 0:
                return

    async with upstream(talk) as (client, _):
        for number in range(300):
            await whole(await ask(client, b"%d" % number))
        gc.collect()
        # Other tests' clients have classes of this name, too.
        count = sum(type(thing) is Response for thing in gc.get_objects())
        assert count <= 2 and not client.busy and len(client.idle) <= 1


@on_both_loops
async def test_many_at_once_get_their_own_answers():
    async with upstream(echo) as (client, server):

        async def one(number):
            return await whole(await ask(client, b"%d" % number))

        answers = await asyncio.gather(*map(one, range(200)))
        assert answers == [b"%d" % number for number in range(200)]
        assert server.connections <= 200
