"""The real NGINX before simulated replicas."""

import asyncio
import io
import itertools
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import websockets
from yarl import URL

from engine.catalogue import Resources
from engine.errors import NginxError
from engine.fleet import nginx_conf
from engine.fleet.deployments import Deployment, Replica, Status
from engine.fleet.hosts import Endpoint
from engine.fleet.nginx import Nginx
from tests.processes import ROOT, Server, free_port, require, simulator, wait_for_port

KEY, TOKEN = "replica-key-of-sim", "Access-Token-of-sim"
CHAT = {"model": "sim", "messages": [{"role": "user", "content": "hello there"}]}
STREAM = {**CHAT, "stream": True}


class Address:
    """The one address, served by a real NGINX that a test fills with statuses."""

    def __init__(self, root: Path) -> None:
        self.nginx, self.port = Nginx(root), free_port()
        self.session: aiohttp.ClientSession

    def text(self, *statuses: Status, gateway: str | None = None) -> str:
        return nginx_conf.nginx(
            statuses,
            home=self.nginx.root,
            host="127.0.0.1",
            port=self.port,
            gateway=gateway,
            templates=ROOT / "templates",
        )

    def show(self, *statuses: Status, gateway: str | None = None) -> bool:
        changed = self.nginx.apply(self.text(*statuses, gateway=gateway))
        wait_for_port(self.port)
        return changed

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def chat(self, token: str = TOKEN, name: str = "sim", **body: object) -> tuple[int, dict]:
        headers = {"Authorization": f"Bearer {token}"}
        url = self.url(f"/deployments/{name}/v1/chat/completions")
        async with self.session.post(url, json={**CHAT, **body}, headers=headers) as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[Address]:
    require("nginx")
    one = Address(tmp_path / "nginx")
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as one.session:
            yield one
    finally:
        one.nginx.stop()


@pytest.fixture
def start() -> Iterator[object]:
    """Starts simulators that end with the test."""
    with ExitStack() as stack:
        yield lambda *flags: stack.enter_context(simulator(*flags, key=KEY))


def model(*servers: Server, name: str = "sim") -> Status:
    asked = Deployment(name, "model", "simulator", "local", Resources(), datetime.now(UTC))
    return Status(asked, replicas(*(one.port for one in servers)), access_token=TOKEN, replica_key=KEY)


def app(name: str, path: str, *ports: int, strip: bool = False) -> Status:
    asked = Deployment(name, "app", "app", "local", Resources(), datetime.now(UTC), path=path, strip_path=strip)
    return Status(asked, replicas(*ports))


def replicas(*ports: int) -> tuple[Replica, ...]:
    plain = Replica(0, 1, 1, "ready", in_rotation=True)
    return tuple(replace(plain, index=i, endpoint=Endpoint("127.0.0.1", port, KEY)) for i, port in enumerate(ports))


async def served(session: aiohttp.ClientSession, one: Server) -> int:
    async with session.get(f"{one.url}/metrics", headers=one.headers) as answer:
        lines = (await answer.text()).splitlines()
    return sum(int(line.split()[-1]) for line in lines if line.startswith("vllm:request_success_total"))


async def test_the_access_token_is_checked_and_swapped_for_the_replica_key(address: Address, start) -> None:
    address.show(model(start("--latency-ms", "1")))
    status, body = await address.chat()
    assert status == 200 and body["engine"] == "simulator"
    for wrong in ("", "other", KEY, TOKEN.lower(), TOKEN + "x"):
        status, body = await address.chat(token=wrong)
        assert status == 401 and body["error"]["code"] == "invalid_api_key"


async def test_a_replicas_own_port_refuses_calls_without_our_key(address: Address, start) -> None:
    one = start()
    for path in ("/v1/models", "/metrics"):
        async with address.session.get(one.url + path) as answer:
            assert answer.status == 401
    async with address.session.get(one.url + "/health") as answer:
        assert answer.status == 200


async def test_requests_go_to_the_replica_with_fewer_of_them(address: Address, start) -> None:
    quick, slow = start("--latency-ms", "20", "--capacity", "50"), start("--latency-ms", "600", "--capacity", "50")
    address.show(model(quick, slow))

    async def client() -> None:
        for _ in range(6):
            assert (await address.chat())[0] == 200

    await asyncio.gather(*(client() for _ in range(8)))
    assert await served(address.session, quick) > 2 * await served(address.session, slow) > 0


async def arrivals(address: Address) -> AsyncIterator[tuple[float, bytes]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = address.url("/deployments/sim/v1/chat/completions")
    async with address.session.post(url, json=STREAM, headers=headers) as answer:
        assert answer.status == 200
        async for line in answer.content:
            if line.startswith(b"data: "):
                yield time.monotonic(), line


async def test_a_stream_arrives_token_by_token(address: Address, start) -> None:
    address.show(model(start("--ttft-ms", "100", "--itl-ms", "60", "--tokens", "10")))
    asked = time.monotonic()
    times = [at - asked async for at, _ in arrivals(address)]
    assert len(times) == 13  # the role, ten tokens, the end, [DONE]
    assert times[1] < 0.4 and times[-1] > 0.65
    assert sum(later - earlier > 0.02 for earlier, later in itertools.pairwise(times)) >= 8


async def test_a_reload_under_a_running_stream_loses_no_token(address: Address, start) -> None:
    one, two = (start("--ttft-ms", "50", "--itl-ms", "20", "--tokens", "60") for _ in range(2))
    address.show(model(one))
    seen = []
    async for _, line in arrivals(address):
        seen.append(line)
        if len(seen) in (10, 30):
            await asyncio.to_thread(address.show, model(two) if len(seen) == 10 else model(one, two))
    assert len(seen) == 63 and seen[-1] == b"data: [DONE]\n"


async def test_the_new_configuration_is_in_force_when_apply_returns(address: Address, start) -> None:
    server = start("--latency-ms", "1")
    url, headers = address.url("/deployments/sim/v1/chat/completions"), {"Authorization": f"Bearer {TOKEN}"}
    for shown, expected in [(model(), 503), (model(server), 200)] * 5:
        address.show(shown)
        async with aiohttp.request("POST", url, json=CHAT, headers=headers) as answer:
            assert answer.status == expected


async def test_a_dead_replica_fails_no_request(address: Address, start) -> None:
    dead, living = start("--latency-ms", "5"), start("--latency-ms", "5", "--capacity", "50")
    address.show(model(dead, living))
    assert {(await address.chat())[0] for _ in range(10)} == {200}
    dead.kill()
    assert {status for status, _ in await asyncio.gather(*(address.chat() for _ in range(60)))} == {200}


async def test_a_deployment_without_a_ready_replica_says_so(address: Address) -> None:
    address.show(model(), app("page", "/page/"))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with address.session.post(address.url("/deployments/sim/v1/completions"), headers=headers) as answer:
        assert answer.status == 503 and answer.headers["Retry-After"] == "5"
        assert (await answer.json())["error"]["code"] == "not_ready"
    async with address.session.get(address.url("/page/")) as answer:
        assert answer.status == 503 and "not ready yet" in await answer.text()
    async with address.session.get(address.url("/deployments/other/v1/models")) as answer:
        assert answer.status == 404 and "error" in await answer.json()


@pytest.mark.parametrize("path", ["metrics", "health", "v1/../metrics", "v1/%2e%2e/metrics", "v1/%252e%252e/metrics"])
async def test_a_token_opens_the_inference_routes_of_a_replica_and_nothing_else(
    address: Address, start, path: str
) -> None:
    address.show(model(start()))
    url = URL(address.url(f"/deployments/sim/{path}"), encoded=True)
    async with address.session.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert answer.status == 404 and "vllm:" not in await answer.text()


async def test_when_every_replica_is_gone_the_error_has_openais_shape(address: Address, start) -> None:
    one = start()
    address.show(model(one))
    one.kill()
    status, body = await address.chat()
    assert status == 502 and body["error"]["code"] == "no_answer"


async def test_pictures_of_32_mb_pass_and_larger_ones_get_a_clear_error(address: Address, start) -> None:
    address.show(model(start("--latency-ms", "1")))
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (32 * 1024 * 1024)}}
    body = json.dumps({"model": "sim", "messages": [{"role": "user", "content": [picture]}]}).encode()
    url, headers = address.url("/deployments/sim/v1/chat/completions"), {"Authorization": f"Bearer {TOKEN}"}
    async with address.session.post(url, data=io.BytesIO(body), headers=headers) as answer:
        assert answer.status == 200 and (await answer.json())["usage"]["prompt_tokens"] > 0
    headers["Content-Length"] = str(40 * 1024 * 1024)
    async with address.session.post(url, headers=headers) as answer:
        assert answer.status == 413 and (await answer.json())["error"]["code"] == "body_too_large"


async def test_an_app_gets_its_websocket_and_its_path(address: Address) -> None:
    seen: list[websockets.Request] = []

    async def talk(connection: websockets.ServerConnection) -> None:
        seen.append(connection.request)
        async for message in connection:
            await connection.send(f"you said {message}")

    async with websockets.serve(talk, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        address.show(app("chat", "/chat/", port), app("bare", "/bare/", port, strip=True))
        for path in ("/chat/stream", "/bare/stream"):
            uri = f"ws://127.0.0.1:{address.port}{path}"
            async with websockets.connect(uri, additional_headers={"X-Forwarded-User": "admin"}) as connection:
                await connection.send("hello")
                assert await asyncio.wait_for(connection.recv(), 10) == "you said hello"
    assert [request.path for request in seen] == ["/chat/stream", "/stream"]
    assert [request.headers.get("X-Forwarded-Prefix") for request in seen] == [None, "/bare"]
    assert all("X-Forwarded-User" not in request.headers for request in seen)
    assert {request.headers["Host"] for request in seen} == {f"127.0.0.1:{address.port}"}


@asynccontextmanager
async def breaking_gateway(breaks: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Reads requests and closes the connection before it answers, `breaks` times; then answers."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head.split(b"\r\n")[0])
        if len(seen) > breaks:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


@pytest.mark.parametrize(("path", "status", "times"), [("/v1/chat/completions", 200, 2), ("/api/deployments", 502, 1)])
async def test_only_v1_is_sent_again_when_a_worker_leaves(address: Address, path: str, status: int, times: int) -> None:
    async with breaking_gateway(breaks=1) as (port, seen):
        address.show(gateway=f"127.0.0.1:{port}")
        async with address.session.post(address.url(path), data=b"") as answer:
            assert answer.status == status
        assert len(seen) == times


async def test_starting_again_changes_nothing_and_stopping_frees_the_port(address: Address) -> None:
    address.show()
    pid = address.nginx.pid
    address.nginx.start()
    assert address.show() is False and Nginx(address.nginx.root).pid == pid is not None
    address.nginx.stop()
    address.nginx.stop()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", address.port)) != 0


async def test_a_port_in_use_is_a_clear_error(address: Address) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", address.port))
        taken.listen()
        with pytest.raises(NginxError, match=f"127.0.0.1:{address.port} is taken by another program"):
            address.nginx.apply(address.text())


async def test_what_nginx_refuses_is_told_in_its_words_and_the_old_stays_in_force(address: Address, start) -> None:
    address.show(model(start("--latency-ms", "1")))
    with pytest.raises(NginxError, match="unknown directive"):
        address.nginx.apply(address.text() + "\nnonsense;\n")
    assert (await address.chat())[0] == 200
