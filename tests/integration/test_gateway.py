"""The gateway on a real uvicorn, in front of small servers that say what the test wants."""

import asyncio
import json
import socket
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import replace

import httpx
import openai
import pytest
import uvicorn

from engine.fleet.deployments import Replica, Status
from engine.fleet.hosts import Endpoint
from engine.gateway.app import create_app
from engine.gateway.keys import Keys
from engine.gateway.server import config
from engine.ports import STALLED_S, listen
from engine.settings import Settings
from tests.fakes import FakeController, deployment, serving, talking

CHAT = "/v1/chat/completions"
EVENTS = b"content-type: text/event-stream\r\n"
COMPLETION = {
    "id": "c1", "object": "chat.completion", "created": 1, "model": "sim",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Grüß Gott"}}],
}  # fmt: skip


class Running:
    """A gateway in a thread with uvloop, as `engine serve` runs it; upstream servers live in the test's own loop."""

    def __init__(self, tmp_path) -> None:
        self.controller = FakeController()
        self.database = f"sqlite:///{tmp_path / 'engine.db'}"
        self.keys = Keys(self.database)
        self.key, self.secret = self.keys.create("test", "user")
        self.app = create_app(self.controller, self.keys, Settings.from_env({"ENGINE_HOME": str(tmp_path)}), "operator")
        self.listener = listen("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        self.server = uvicorn.Server(config(self.app, drain_s=300))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert self.thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.port}"

    def client(self, secret: str | None = None) -> httpx.AsyncClient:
        secret = self.secret if secret is None else secret
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=30)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.keys.close()


@pytest.fixture
def gateway(tmp_path):
    running = Running(tmp_path)
    yield running
    running.stop()


@pytest.fixture
async def upstreams():
    """`await upstreams(talk, talk)` starts one server for each and returns them with their endpoints."""
    async with AsyncExitStack() as stack:

        async def start(*talks):
            return [await stack.enter_async_context(talking(talk)) for talk in talks]

        yield start


async def completion(peer):
    while True:
        await peer.request()
        await peer.answer(json.dumps(COMPLETION).encode())


async def refused_endpoint() -> Endpoint:
    async with talking(completion) as (_, endpoint):
        return endpoint


async def until(condition, seconds=3.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.01)


def error_of(response: httpx.Response) -> dict[str, str]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["message"]
    return error


async def test_bodies_pass_byte_for_byte_in_both_directions(gateway, upstreams):
    seen = []
    answer = b'{ "choices":[],\n "of our own":"\\u00fc\xc3\xbc" }'

    async def talk(peer):
        seen.append(await peer.request())
        await peer.answer(answer, b"content-type: application/json\r\nx-own: 1\r\n")

    [(_, endpoint)] = await upstreams(talk)
    gateway.controller.show(serving("sim", endpoint))
    body = (
        b'{  "model":"sim" ,"tools":[{"type":"function","function":{"name":"f","parameters":{}}}],"response_format":'
        b'{"type":"json_object"},"unknown":[1e400,0.10,"\\ud83d\\ude00"],"messages":[{"role":"user","content":[{"type":'
        b'"image_url","image_url":{"url":"data:image/png;base64,AAAA"}}]}]}\n'
    )
    async with gateway.client() as client:
        response = await client.post(CHAT, content=body, headers={"x-request-id": "mine-1"})
    [(head, received)] = seen
    assert received == body and response.content == answer
    assert b"authorization: Bearer replica-secret\r\n" in head and gateway.secret.encode() not in head
    assert b"x-request-id: mine-1\r\n" in head and head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert response.headers["x-request-id"] == "mine-1"
    assert response.headers["x-engine-replica"] == "sim/0"
    assert response.headers["x-own"] == "1" and "server" not in response.headers


async def test_a_silly_request_id_is_replaced(gateway, upstreams):
    [(_, endpoint)] = await upstreams(completion)
    gateway.controller.show(serving("sim", endpoint))
    async with gateway.client() as client:
        ids = [(await client.post(CHAT, json={"model": "sim"}, headers={"x-request-id": text})).headers["x-request-id"]
               for text in ("x" * 500, "a b", "")]  # fmt: skip
    assert len(set(ids)) == 3 and all(len(text) < 40 and " " not in text for text in ids)


async def test_a_picture_near_the_limit_passes_and_more_is_refused(gateway, upstreams):
    async def talk(peer):
        while True:
            _, body = await peer.request()
            await peer.answer(b'{"bytes": %d}' % len(body))

    [(_, endpoint)] = await upstreams(talk)
    gateway.controller.show(serving("sim", endpoint))
    frame = b'{"model":"sim","image":"%b"}'
    most = 32 * 2**20
    async with gateway.client() as client:
        whole = await client.post(CHAT, content=frame % (b"A" * (most - len(frame) + 2)))
        assert whole.json() == {"bytes": most}
        more = await client.post(CHAT, content=frame % (b"A" * most))
        assert more.status_code == 413 and "32 MB" in error_of(more)["message"]

        async def chunks():
            for _ in range(34):
                yield b"A" * 2**20

        unannounced = await client.post(CHAT, content=chunks())
        assert unannounced.status_code == 413


async def test_the_unmodified_openai_client_works_streamed_and_not(gateway, upstreams):
    async def talk(peer):
        while True:
            _, body = await peer.request()
            if not json.loads(body).get("stream"):
                await peer.answer(json.dumps(COMPLETION).encode())
                continue
            await peer.say(b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n" % EVENTS)
            for word in ("Grüß ", "Gott"):
                delta = {"index": 0, "delta": {"content": word}, "finish_reason": None}
                chunk = {
                    "id": "c1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "sim",
                    "choices": [delta],
                }
                event = b"data: " + json.dumps(chunk).encode() + b"\n\n"
                await peer.say(b"%x\r\n%b\r\n" % (len(event), event), pause_s=0.02)
            await peer.say(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    [(_, endpoint)] = await upstreams(talk)
    gateway.controller.show(serving("sim", endpoint))
    messages = [{"role": "user", "content": "Hallo"}]
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key=gateway.secret, max_retries=0) as client:
        answer = await client.chat.completions.create(model="sim", messages=messages)
        assert answer.choices[0].message.content == "Grüß Gott"
        stream = await client.chat.completions.create(model="sim", messages=messages, stream=True)
        assert [chunk.choices[0].delta.content async for chunk in stream] == ["Grüß ", "Gott"]
        [model] = (await client.models.list()).data
        assert (model.id, model.simulated) == ("sim", True)
        with pytest.raises(openai.NotFoundError, match="known: sim"):
            await client.chat.completions.create(model="gpt", messages=messages)
    async with openai.AsyncOpenAI(base_url=gateway.url + "/v1", api_key="sk-wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_a_stream_comes_event_by_event_and_unbuffered(gateway, upstreams):
    release = asyncio.Event()

    async def talk(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n%b\r\ndata: 1\n\n" % EVENTS)
        await release.wait()
        await peer.say(b"data: 2\n\n")

    [(_, endpoint)] = await upstreams(talk)
    gateway.controller.show(serving("sim", endpoint))
    async with gateway.client() as client, client.stream("POST", CHAT, json={"model": "sim"}) as response:
        assert response.headers["x-accel-buffering"] == "no"
        parts = response.aiter_raw()
        assert await anext(parts) == b"data: 1\n\n"
        release.set()
        assert b"".join([part async for part in parts]) == b"data: 2\n\n"


async def test_a_replica_that_fails_before_the_first_byte_costs_the_client_nothing(gateway, upstreams):
    async def resets(peer):
        await peer.request()
        peer.reset()

    async def unavailable(peer):
        while True:
            await peer.request()
            await peer.answer(b"{}", status=b"503 Service Unavailable")

    servers = await upstreams(resets, unavailable, completion)
    endpoints = [await refused_endpoint(), *(endpoint for _, endpoint in servers)]
    gateway.controller.show(serving("sim", *endpoints))
    async with gateway.client() as client:
        answers = [await client.post(CHAT, json={"model": "sim"}) for _ in range(40)]
        metrics = (await client.get("/metrics")).text
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["x-engine-replica"] for answer in answers} == {"sim/3"}
    assert 'engine_requests_total{model="sim",status="2xx"} 40.0' in metrics
    assert "engine_retries_total 0.0" not in metrics and "engine_in_flight 0.0" in metrics
    assert servers[0][0].connections < 20, "the breaker keeps requests from a replica that always fails"


async def test_a_request_that_kills_servers_does_not_kill_them_all(gateway, upstreams):
    async def dies(peer):
        await peer.request()
        peer.reset()

    servers = await upstreams(*[dies] * 6)
    gateway.controller.show(serving("sim", *(endpoint for _, endpoint in servers)))
    async with gateway.client() as client:
        response = await client.post(CHAT, json={"model": "sim"})
    assert response.status_code == 502 and "before it answered" in error_of(response)["message"]
    assert sum(server.connections for server, _ in servers) == 3


async def test_a_replica_that_the_controller_replaces_meanwhile_is_waited_for(gateway, upstreams):
    [(_, endpoint)] = await upstreams(completion)
    gateway.controller.show(serving("sim", await refused_endpoint()))
    async with gateway.client() as client:
        answer = asyncio.create_task(client.post(CHAT, json={"model": "sim"}))
        await asyncio.sleep(0.2)
        gateway.controller.show(serving("sim", endpoint))
        assert (await answer).status_code == 200


async def test_requests_are_spread_over_the_replicas(gateway, upstreams):
    async def slow(peer):
        while True:
            await peer.request()
            await asyncio.sleep(0.1)
            await peer.answer(b"{}")

    servers = await upstreams(slow, slow, slow)
    gateway.controller.show(serving("sim", *(endpoint for _, endpoint in servers)))
    async with gateway.client() as client:
        answers = await asyncio.gather(*(client.post(CHAT, json={"model": "sim"}) for _ in range(30)))
    replicas = [answer.headers["x-engine-replica"] for answer in answers]
    counts = {name: replicas.count(name) for name in set(replicas)}
    assert counts.keys() == {"sim/0", "sim/1", "sim/2"}
    # Twelve slots for thirty requests: whose turn comes last is a matter of milliseconds.
    assert all(abs(count - 10) <= 2 for count in counts.values()), counts


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "no stream"])
async def test_a_client_that_leaves_ends_its_request_upstream(gateway, upstreams, stream):
    async def endless(peer):
        await peer.request()
        if stream:
            await peer.say(b"HTTP/1.1 200 OK\r\n%b\r\ndata: 1\n\n" % EVENTS)
        await peer.gone()

    [(server, endpoint)] = await upstreams(endless)
    gateway.controller.show(serving("sim", endpoint))
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = b'{"model":"sim"}'
    writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
                 % (CHAT.encode(), gateway.secret.encode(), len(body), body))  # fmt: skip
    if stream:
        await reader.readuntil(b"data: 1")
    await until(lambda: server.open == 1)
    await asyncio.sleep(0.3)
    assert gateway.app.routes.load("sim") == 1
    writer.transport.abort()
    await until(lambda: server.open == 0, 1.0)
    await until(lambda: gateway.app.counts.in_flight == 0 and gateway.app.routes.load("sim") == 0, 1.0)
    assert gateway.app.counts.left == 1


async def test_a_client_that_stays_but_never_reads_holds_nothing_for_ever(gateway, upstreams):
    async def endless(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\n%b\r\n" % EVENTS)
        while True:
            await peer.say(b"data: 1\n\n" * 1000)

    [(server, endpoint)] = await upstreams(endless)
    gateway.controller.show(serving("sim", endpoint))
    assert gateway.listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == STALLED_S * 1000
    gateway.listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000)
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        body = b'{"model":"sim"}'
        client.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
                       % (CHAT.encode(), gateway.secret.encode(), len(body), body))  # fmt: skip
        await until(lambda: gateway.app.routes.load("sim") == 1)
        await until(lambda: gateway.app.counts.in_flight == 0, 15)
    assert gateway.app.routes.load("sim") == 0
    await until(lambda: server.open == 0)


async def test_a_stream_that_breaks_says_so_and_is_counted(gateway, upstreams):
    async def breaks(peer):
        await peer.request()
        await peer.say(
            b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n" % EVENTS, pause_s=0.05
        )
        peer.reset()

    [(_, endpoint)] = await upstreams(breaks)
    gateway.controller.show(serving("sim", endpoint))
    async with gateway.client() as client:
        response = await client.post(CHAT, json={"model": "sim", "stream": True})
    first, last = [event for event in response.text.split("\n\n") if event.strip()]
    assert first == "data: 1" and json.loads(last.removeprefix("data: "))["error"]["code"] == "replica_unreachable"
    assert gateway.app.counts.broken == 1


async def test_a_whole_answer_that_breaks_off_does_not_look_whole(gateway, upstreams):
    async def breaks(peer):
        await peer.request()
        await peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf", pause_s=0.05)

    [(_, endpoint)] = await upstreams(breaks)
    gateway.controller.show(serving("sim", endpoint))
    async with gateway.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(CHAT, json={"model": "sim"})


async def test_a_replica_that_hangs_gives_504(gateway, upstreams):
    async def hangs(peer):
        await peer.request()
        await peer.gone()

    [(_, endpoint)] = await upstreams(hangs)
    gateway.controller.show(serving("sim", endpoint))
    async with gateway.client() as client:
        gateway.app.routes.deadlines["first_byte_s"] = 0.4
        response = await client.post(CHAT, json={"model": "sim"})
    assert response.status_code == 504 and error_of(response)["code"] == "replica_timed_out"


@pytest.mark.parametrize("status", [b"400 Bad Request", b"404 Not Found", b"422 Wrong", b"429 Too Many", b"500 Oops"])
async def test_a_replicas_own_errors_are_passed_through(gateway, upstreams, status):
    async def talk(peer):
        await peer.request()
        await peer.answer(b'{"own": true}', b"retry-after: 3\r\n", status)

    [(server, endpoint)] = await upstreams(talk)
    gateway.controller.show(serving("sim", endpoint))
    async with gateway.client() as client:
        response = await client.post(CHAT, json={"model": "sim"})
    assert (response.status_code, response.content) == (int(status[:3]), b'{"own": true}')
    assert response.headers["retry-after"] == "3" and server.connections == 1


async def test_a_replica_that_refuses_our_key_is_our_fault_and_not_the_clients(gateway, upstreams):
    async def talk(peer):
        await peer.request()
        await peer.answer(b"{}", status=b"401 Unauthorized")

    [(_, endpoint)] = await upstreams(talk)
    gateway.controller.show(serving("sim", endpoint))
    async with gateway.client() as client:
        response = await client.post(CHAT, json={"model": "sim"})
    assert response.status_code == 502 and "our key" in error_of(response)["message"]


async def test_wrong_requests_are_told_what_is_wrong(gateway, upstreams):
    [(_, endpoint)] = await upstreams(completion)
    gateway.controller.show(serving("sim", endpoint))
    cases = [
        (b"{", 400), (b"\xff\xfe", 400), (b"", 400), (b"[]", 422), (b"{}", 422), (b'{"model": 3}', 422),
        (b'{"model": "sim", "deep": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"model": "%b"}' % (b"x" * 100_000), 422),
        (b'{"model": "nothing"}', 404),
    ]  # fmt: skip
    async with gateway.client() as client:
        for body, status in cases:
            response = await client.post(CHAT, content=body)
            assert response.status_code == status, body[:100]
            assert len(error_of(response)["message"]) < 500
        unknown = error_of(response)
        assert (
            unknown["code"] == "model_not_found" and "known: sim" in unknown["message"] and unknown["param"] == "model"
        )
        wrong_method = await client.get(CHAT)
        assert wrong_method.status_code == 405 and error_of(wrong_method)
        assert (await client.get("/v1/nothing")).status_code == 404
    async with gateway.client("") as client:
        for secret in ("", "Bearer nonsense", "Basic abc"):
            response = await client.post(CHAT, json={"model": "sim"}, headers={"authorization": secret})
            assert response.status_code == 401 and error_of(response)["code"] == "invalid_api_key"


async def test_a_model_that_starts_says_how_far_it_is(gateway):
    replicas = (Replica(0, 1, 1, stage="loading"), Replica(1, 2, 1, stage="queued", reason="Resources"))
    gateway.controller.show(Status(deployment("llama", replicas=2), replicas))
    async with gateway.client() as client:
        response = await client.post(CHAT, json={"model": "llama"})
        listed = (await client.get("/v1/models/llama")).json()
    assert response.status_code == 503 and int(response.headers["retry-after"]) > 0
    assert "replica 0 is loading; replica 1 is queued (Resources)" in error_of(response)["message"]
    assert (listed["stage"], listed["ready"], listed["wanted"]) == ("loading", 0, 2)


async def test_requests_before_the_first_snapshot_wait_for_it(gateway, upstreams):
    [(_, endpoint)] = await upstreams(completion)
    async with gateway.client() as client:
        early = asyncio.create_task(client.post(CHAT, json={"model": "sim"}))
        listing = asyncio.create_task(client.get("/v1/models"))
        assert (await client.get("/health")).json()["started"] is False
        await asyncio.sleep(0.2)
        assert not early.done()
        gateway.controller.show(serving("sim", endpoint))
        assert (await early).status_code == (await listing).status_code == 200
        gateway.controller.snapshot = None
        gateway.app.routes.first_snapshot_s = 0.1
        late = await client.post(CHAT, json={"model": "sim"})
        assert late.status_code == 503 and late.headers["retry-after"]


async def test_a_catalogue_id_leads_to_its_deployment_under_the_name_that_the_replica_knows(gateway, upstreams):
    seen = []

    async def talk(peer):
        while True:
            seen.append((await peer.request())[1])
            await peer.answer(b"{}")

    [(_, endpoint)] = await upstreams(talk)
    app = replace(serving("web", endpoint), deployment=deployment("web", kind="app"))
    gateway.controller.show(serving("mine", endpoint, model="llama-3.1-8b"), app)
    async with gateway.client() as client:
        body = b'{"tools": [{"model":"llama-3.1-8b"}], "model": "llama-3.1-8b", "x": 1.50}'
        response = await client.post(CHAT, content=body)
        assert response.headers["x-engine-replica"] == "mine/0"
        assert b'{"model":"llama-3.1-8b"}' in seen[0] and b"1.50" in seen[0]
        assert json.loads(seen[0])["model"] == "mine"
        missing = await client.post(CHAT, json={"model": "web"})
        assert missing.status_code == 404 and error_of(missing)["message"].endswith("known: mine")
        assert [row["id"] for row in (await client.get("/v1/models")).json()["data"]] == ["mine"]


async def test_connections_to_a_replica_that_left_the_snapshot_are_closed(gateway, upstreams):
    (old, old_endpoint), (_, new_endpoint) = await upstreams(completion, completion)
    gateway.controller.show(serving("sim", old_endpoint))
    async with gateway.client() as client:
        await client.post(CHAT, json={"model": "sim"})
        assert old.open == 1
        gateway.controller.show(serving("sim", new_endpoint))
        await client.post(CHAT, json={"model": "sim"})
        await until(lambda: old.open == 0, 1.0)


async def test_a_draining_replica_is_sent_nothing_and_its_requests_end_in_peace(gateway, upstreams):
    release = asyncio.Event()

    async def slow(peer):
        await peer.request()
        await release.wait()
        await peer.answer(b'{"ended": "in peace"}')

    [(_, old), (_, new)] = await upstreams(slow, completion)
    gateway.controller.show(serving("sim", old))
    async with gateway.client() as client:
        running = asyncio.create_task(client.post(CHAT, json={"model": "sim"}))
        await until(lambda: gateway.app.routes.load("sim") == 1)
        gateway.controller.show(serving("sim", new))
        assert (await client.post(CHAT, json={"model": "sim"})).json() == COMPLETION
        assert gateway.app.routes.in_flight(old) == 1
        release.set()
        assert (await running).json() == {"ended": "in peace"}
        assert gateway.app.routes.in_flight(old) == 0


async def test_keys_of_another_process_come_and_go(gateway, upstreams):
    [(_, endpoint)] = await upstreams(completion)
    gateway.controller.show(serving("sim", endpoint))
    other = Keys(gateway.database)
    key, secret = other.create("other", "user")
    async with gateway.client(secret) as client:
        assert (await client.post(CHAT, json={"model": "sim"})).status_code == 200
        assert (await client.get("/api/deployments")).status_code == 403
        other.revoke(key.id)
        await asyncio.sleep(1.0)
        assert (await client.post(CHAT, json={"model": "sim"})).status_code == 401
    other.close()


async def test_a_scheduler_that_hangs_delays_no_key(gateway, upstreams):
    """However many operators' calls wait for it: a new key works and a revoked one ends as ever."""
    over = threading.Event()
    gateway.controller.cluster = lambda: over.wait(30) and {}
    [(_, endpoint)] = await upstreams(completion)
    gateway.controller.show(serving("sim", endpoint))
    other = Keys(gateway.database)
    async with gateway.client("operator") as admin:
        calls = [asyncio.create_task(admin.get("/api/cluster")) for _ in range(80)]
        await asyncio.sleep(0.3)
        key, secret = other.create("new", "user")
        async with gateway.client(secret) as client, asyncio.timeout(5):
            assert (await client.post(CHAT, json={"model": "sim"})).status_code == 200
            other.revoke(key.id)
            await asyncio.sleep(1.2)
            assert (await client.post(CHAT, json={"model": "sim"})).status_code == 401
        over.set()
        await asyncio.gather(*calls)
    other.close()


async def test_operators_reach_the_controller(gateway):
    gateway.controller.show(serving("sim", Endpoint("127.0.0.1", 9)))
    asked = gateway.controller.asked
    async with gateway.client("operator") as client:
        [row] = (await client.get("/api/deployments")).json()
        assert row["name"] == "sim" and "access_token" not in row
        assert (await client.get("/api/deployments/sim")).json()["access_token"] == "token"
        launched = await client.post("/api/deployments", json={"model": "simulator", "name": "new", "replicas": 2})
        assert launched.status_code == 201 and launched.json()["name"] == "new"
        assert (await client.patch("/api/deployments/sim", json={"replicas": 3})).status_code == 200
        assert (await client.post("/api/deployments/sim/drain", params={"replica": 0})).status_code == 200
        assert (await client.post("/api/deployments/sim/restart")).status_code == 200
        assert (await client.delete("/api/deployments/sim")).status_code == 200
        assert [call[0] for call in asked] == ["launch", "scale", "drain", "restart", "stop"]
        assert (await client.post("/api/render", json={"model": "simulator"})).text.startswith("#!/bin/bash")
        log = await client.get("/api/deployments/sim/log", params={"replica": 0, "lines": 5})
        assert log.text == "log of sim 0 5\n"
        assert (await client.get("/api/deployments/sim/events")).json()[0]["at"] == "2026-01-01T00:00:00Z"
        for path in ("/api/events", "/api/jobs", "/api/cluster"):
            assert (await client.get(path)).status_code == 200
        gone = await client.patch("/api/deployments/nothing", json={"replicas": 1})
        assert gone.status_code == 404 and "known: sim" in error_of(gone)["message"]
        wrong = await client.post("/api/deployments", json={"model": "m", "replica": 2})
        assert wrong.status_code == 422 and error_of(wrong)["param"] == "replica"


async def test_operators_make_and_revoke_keys(gateway):
    async with gateway.client("operator") as client:
        made = (await client.post("/api/keys", json={"name": "lecture", "role": "user"})).json()
        assert made["key"].startswith("sk-engine-")
        listed = (await client.get("/api/keys")).json()
        assert {key["name"] for key in listed} == {"test", "lecture"} and "hash" not in json.dumps(listed)
        assert (await client.delete(f"/api/keys/{made['id']}")).json()["revoked_at"]
    for secret in (gateway.secret, made["key"], ""):
        async with gateway.client(secret) as client:
            assert (await client.get("/api/keys")).status_code in (401, 403)


async def test_the_gateway_describes_itself_truly_and_without_anything_from_elsewhere(gateway):
    async with gateway.client("") as client:
        api = (await client.get("/openapi.json")).json()
        page = (await client.get("/docs")).text
        for path, operations in api["paths"].items():
            for method, operation in operations.items():
                answer = await client.request(method, path.replace("{", "").replace("}", ""))
                assert answer.status_code == (401 if operation.get("security") else 200), (method, path)
    assert CHAT in api["paths"] and CHAT in page and "src=" not in page


async def test_the_gateway_counts_what_it_does(gateway, upstreams):
    [(_, endpoint)] = await upstreams(completion)
    gateway.controller.show(serving("sim", endpoint))
    gateway.controller.squeue_calls = 7
    async with gateway.client() as client:
        for _ in range(3):
            await client.post(CHAT, json={"model": "sim"})
        await client.post(CHAT, json={"model": "random-" + "x" * 50})
        text = (await client.get("/metrics")).text
        health = (await client.get("/health")).json()
    assert 'engine_requests_total{model="sim",status="2xx"} 3.0' in text
    assert 'engine_requests_total{model="",status="4xx"} 1.0' in text and "random" not in text
    assert 'engine_time_to_first_byte_seconds_count{model="sim"} 3.0' in text
    assert 'engine_replicas{deployment="sim",stage="ready"} 1.0' in text and "engine_squeue_calls_total 7.0" in text
    assert (health["status"], health["replicas_ready"], health["in_flight"]) == ("ok", 1, 0)


async def test_without_nginx_a_deployment_has_its_own_address_and_token(gateway, upstreams):
    [(_, endpoint)] = await upstreams(completion)
    gateway.controller.show(replace(serving("own", endpoint), access_token="token-of-own"))
    url = "/deployments/own/v1/chat/completions"
    async with gateway.client("token-of-own") as client:
        assert (await client.post(url, json={"model": "whatever", "messages": []})).status_code == 200
        assert (await client.post("/deployments/other/v1/completions", json={"model": "own"})).status_code == 401
        assert (await client.post("/v1/completions", json={"model": "own"})).status_code == 401
        assert (await client.get("/deployments/own/v1/nothing")).status_code == 404
    async with gateway.client() as client:
        assert (await client.post(url, json={"model": "own", "messages": []})).status_code == 401
