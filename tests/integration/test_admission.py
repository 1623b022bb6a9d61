"""What every request meets in the gateway: limits of deployments and keys, and how it is counted."""

import asyncio
import csv
import io
import json
import sqlite3

import openai
import pytest

from engine.gateway.keys import Limits
from tests.fakes import serving
from tests.integration.test_gateway import CHAT, EVENTS, error_of, gateway, until, upstreams

__all__ = ["gateway", "upstreams"]
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
BODY = {"model": "sim", "messages": [{"role": "user", "content": "secret words"}]}


class Replica:
    """Answers each request when it is let; knows how many it has at once."""

    def __init__(self) -> None:
        self.running = self.most = self.served = 0
        self.gate = asyncio.Event()
        self.bodies: list[dict] = []

    async def __call__(self, peer) -> None:
        while True:
            _, body = await peer.request()
            self.bodies.append(json.loads(body))
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await self.gate.wait()
                await self.answer(peer, json.loads(body))
                self.served += 1
            finally:
                self.running -= 1

    async def answer(self, peer, asked: dict) -> None:
        if not asked.get("stream"):
            answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}], "usage": USAGE}
            await peer.answer(json.dumps(answer).encode())
            return
        chunks = [{"choices": [{"index": 0, "delta": {"content": word}}]} for word in ("a", "b", "c")]
        if (asked.get("stream_options") or {}).get("include_usage"):
            chunks.append({"choices": [], "usage": USAGE})
        data = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks) + b"data: [DONE]\n\n"
        await peer.answer(data, EVENTS)


@pytest.fixture
async def replica(gateway, upstreams):
    """A replica of capacity 2 behind the gateway."""
    made = Replica()
    [(_, endpoint)] = await upstreams(made)
    gateway.controller.show(serving("sim", endpoint, arguments={"capacity": "2"}))
    return made


def queued(gateway) -> int:
    """Requests that wait for `sim`; only read, for the gateway lives in another thread."""
    return gateway.app.admission.queued().get("sim", 0)


async def test_no_more_than_the_capacity_reaches_a_replica(gateway, replica):
    async with gateway.client() as client:
        asking = [asyncio.create_task(client.post(CHAT, json=BODY)) for _ in range(10)]
        await until(lambda: (replica.running, queued(gateway)) == (2, 8))
        (row,) = (await client.get("/v1/models")).json()["data"]
        assert (row["load"], row["queued"], row["capacity"]) == (2, 8, 2)
        metrics = (await client.get("/metrics")).text
        assert 'engine_queued{model="sim"} 8.0' in metrics and 'engine_capacity{model="sim"} 2.0' in metrics
        replica.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}
    async with gateway.client(gateway.keys.create("chef", "admin")[1]) as client:
        minutes = (await client.get("/api/traffic?by=none")).json()["data"]
    assert 0 < sum(row["queued_s"] for row in minutes) < 60
    assert replica.most == 2 and replica.served == 10


async def test_a_deadline_ends_waiting_with_429_and_retry_after(gateway, replica):
    async with gateway.client() as client:
        asking = [asyncio.create_task(client.post(CHAT, json=BODY)) for _ in range(2)]
        await until(lambda: replica.running == 2)
        answer = await client.post(CHAT, json=BODY, headers={"x-engine-deadline-s": "0.2"})
        assert answer.status_code == 429 and int(answer.headers["retry-after"]) >= 1
        assert error_of(answer)["type"] == "rate_limit_error" and "overloaded" in error_of(answer)["message"]
        wrong = await client.post(CHAT, json=BODY, headers={"x-engine-deadline-s": "soon"})
        assert wrong.status_code == 422
        replica.gate.set()
        await asyncio.gather(*asking)


async def test_a_full_queue_is_told_at_once(gateway, replica):
    gateway.app.admission.queue_most = 1
    async with gateway.client() as client:
        asking = [asyncio.create_task(client.post(CHAT, json=BODY)) for _ in range(3)]
        await until(lambda: (replica.running, queued(gateway)) == (2, 1))
        answer = await client.post(CHAT, json=BODY)
        assert answer.status_code == 429 and answer.headers["retry-after"]
        replica.gate.set()
        await asyncio.gather(*asking)
        metrics = (await client.get("/metrics")).text
        assert 'engine_errors_total{kind="overloaded",model="sim"} 1.0' in metrics


async def test_a_waiting_client_that_leaves_is_out_of_the_queue(gateway, replica):
    async with gateway.client() as client:
        asking = [asyncio.create_task(client.post(CHAT, json=BODY)) for _ in range(2)]
        await until(lambda: replica.running == 2)
        async with gateway.client() as other:
            leaving = asyncio.create_task(other.post(CHAT, json=BODY))
            await until(lambda: (replica.running, queued(gateway)) == (2, 1))
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
        await until(lambda: (replica.running, queued(gateway)) == (2, 0))
        replica.gate.set()
        await asyncio.gather(*asking)
    assert len(replica.bodies) == 2


async def test_a_replica_that_goes_while_others_wait_for_it_is_told(gateway, replica):
    async with gateway.client() as client:
        asking = [asyncio.create_task(client.post(CHAT, json=BODY)) for _ in range(3)]
        await until(lambda: (replica.running, queued(gateway)) == (2, 1))
        gateway.controller.show(serving("sim"))
        done, _ = await asyncio.wait(asking, timeout=3, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status_code for task in done] == [503]
        replica.gate.set()
        assert sorted([task.result().status_code for task in (await asyncio.wait(asking))[0]]) == [200, 200, 503]


async def test_an_admins_experiment_goes_by_the_queue_and_a_users_does_not(gateway, replica):
    asking = []
    async with gateway.client("operator") as admin, gateway.client() as user:
        for client, reached in ((admin, 5), (user, 7)):
            headers = {"x-engine-experiment": "1"}
            asking += [asyncio.create_task(client.post(CHAT, json=BODY, headers=headers)) for _ in range(5)]
            await until(lambda reached=reached: replica.running == reached)
            await until(lambda client=client: client is admin or queued(gateway) == 3)
        replica.gate.set()
        await asyncio.gather(*asking)
    assert replica.served == 10


async def test_the_limits_of_a_key_are_kept(gateway, replica):
    replica.gate.set()
    _, models = gateway.keys.create("models", "user", Limits(models=("other",)))
    _, catalogue = gateway.keys.create("catalogue", "user", Limits(models=("simulator",)))
    _, rpm = gateway.keys.create("rpm", "user", Limits(requests_per_minute=2))
    _, tokens = gateway.keys.create("tokens", "user", Limits(tokens_per_day=30))
    async with gateway.client(models) as client:
        refused = await client.post(CHAT, json=BODY)
        assert refused.status_code == 403 and error_of(refused)["code"] == "model_not_allowed"
        assert (await client.get("/v1/models")).json()["data"] == []
        assert (await client.get("/v1/models/sim")).status_code == 403
    async with gateway.client(catalogue) as client:
        assert (await client.post(CHAT, json=BODY)).status_code == 200
    for secret in (rpm, tokens):
        async with gateway.client(secret) as client:
            statuses = [await client.post(CHAT, json=BODY) for _ in range(3)]
            assert [answer.status_code for answer in statuses] == [200, 200, 429]
            assert int(statuses[2].headers["retry-after"]) >= 1 and error_of(statuses[2])["type"] == "rate_limit_error"


async def test_parallel_requests_of_a_key_are_limited(gateway, replica):
    _, secret = gateway.keys.create("one", "user", Limits(parallel=1))
    async with gateway.client(secret) as client:
        first = asyncio.create_task(client.post(CHAT, json=BODY))
        await until(lambda: replica.running == 1)
        assert (await client.post(CHAT, json=BODY)).status_code == 429
        replica.gate.set()
        assert (await first).status_code == 200
        assert (await client.post(CHAT, json=BODY)).status_code == 200


async def test_tokens_are_counted_streamed_or_not_and_a_client_sees_only_what_it_asked_for(gateway, replica):
    replica.gate.set()
    async with gateway.client() as client:
        await client.post(CHAT, json=BODY)
        plain = (await client.post(CHAT, json={**BODY, "stream": True})).text
        asked = (await client.post(CHAT, json={**BODY, "stream": True, "stream_options": {"include_usage": True}})).text
        assert "usage" not in plain and plain.endswith('{"content": "c"}}]}\n\ndata: [DONE]\n\n')
        assert asked.count('"usage"') == 1
        rows = (await client.get("/api/usage")).json()
        text = (await client.get("/api/usage?format=csv")).text
    assert [(r["key"], r["model"], r["requests"], r["prompt_tokens"], r["completion_tokens"]) for r in rows] == [
        ("test", "sim", 3, 36, 9)
    ]
    assert [row["total_tokens"] for row in csv.DictReader(io.StringIO(text))] == ["45"]


async def test_users_see_their_own_use_and_admins_all_of_it(gateway, replica):
    replica.gate.set()
    _, other = gateway.keys.create("other", "user")
    for secret in (gateway.secret, other, other):
        async with gateway.client(secret) as client:
            await client.post(CHAT, json=BODY)
    async with gateway.client(other) as client:
        assert [(r["key"], r["requests"]) for r in (await client.get("/api/usage")).json()] == [("other", 2)]
        assert (await client.get("/api/traffic")).status_code == 403
    async with gateway.client("operator") as client:
        rows = (await client.get("/api/usage")).json()
        assert {r["key"]: r["requests"] for r in rows} == {"test": 1, "other": 2}
        assert (await client.get("/api/usage?from=2030-01-01")).json() == []
        assert (await client.get("/api/usage?from=yesterday")).status_code == 422
        traffic = (await client.get("/api/traffic?step=60&by=none")).json()
        assert sum(row["requests"] for row in traffic["data"]) == 3 and traffic["step_s"] == 60
        for query in ("step=61", "from=2026-01-01T00:00:00Z&to=2025-01-01T00:00:00Z", "by=color", "from=0001-01-01"):
            assert (await client.get(f"/api/traffic?{query}")).status_code == 422, query


async def test_metrics_tell_tokens_and_times_of_streams(gateway, replica):
    replica.gate.set()
    async with gateway.client() as client:
        await client.post(CHAT, json={**BODY, "stream": True})
        text = (await client.get("/metrics")).text
    for line in (
        'engine_prompt_tokens_total{model="sim"} 12.0',
        'engine_generation_tokens_total{model="sim"} 3.0',
        'engine_time_to_first_token_seconds_count{model="sim"} 1.0',
        'engine_time_per_output_token_seconds_count{model="sim"} 1.0',
        'engine_request_duration_seconds_count{model="sim"} 1.0',
        'engine_bypasses_total{model="sim"} 0.0',
    ):
        assert line in text, line


async def test_a_database_that_fails_fails_no_request(gateway, replica):
    replica.gate.set()
    async with gateway.client() as client:
        await client.post(CHAT, json=BODY)
        await client.get("/api/usage")
        with sqlite3.connect(gateway.database.removeprefix("sqlite:///")) as connection:
            connection.execute("ALTER TABLE usage RENAME TO away")
        assert (await client.post(CHAT, json=BODY)).status_code == 200
        down = await client.get("/api/usage")
        assert down.status_code == 503 and down.json()["error"]["code"] == "database_error"
        with sqlite3.connect(gateway.database.removeprefix("sqlite:///")) as connection:
            connection.execute("ALTER TABLE away RENAME TO usage")
        connection.close()
        assert [row["requests"] for row in (await client.get("/api/usage")).json()] == [2]


async def test_the_request_log_tells_all_but_the_words(gateway, replica, tmp_path):
    replica.gate.set()
    async with gateway.client() as client:
        answer = await client.post(CHAT, json={**BODY, "stream": True})
        await client.get("/api/usage")
    text = (tmp_path / "local" / "requests.jsonl").read_text()
    line = json.loads(text)
    assert line["id"] == answer.headers["x-request-id"] and line["replica"] == "sim/0" and line["status"] == 200
    assert (line["key"], line["prompt_tokens"], line["stream"]) == (gateway.key.id, 12, True)
    assert "secret" not in text and gateway.secret not in text


async def test_the_openai_client_streams_without_noticing(gateway, replica):
    replica.gate.set()
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.secret) as client:
        stream = await client.chat.completions.create(**BODY, stream=True)
        words = [chunk.choices[0].delta.content async for chunk in stream]
    assert words == ["a", "b", "c"]
