"""Workflows, batches and feedback over HTTP: a real uvicorn in front of simulated servers."""

import asyncio
import io
import json
import threading
import time
from contextlib import ExitStack

import httpx
import openai
import pytest
import uvicorn

from engine.client import AsyncEngineClient, EngineClient
from engine.errors import GatewayError
from engine.fleet.hosts import Endpoint
from engine.gateway.app import create_app
from engine.gateway.keys import Keys
from engine.gateway.server import config
from engine.ports import listen
from engine.settings import Settings
from tests.fakes import FakeController, serving
from tests.processes import Server, simulator

HELLO = [{"role": "user", "content": "hello"}]
LAWS = [{"name": "polite", "text": "Be polite."}, {"name": "short", "text": "Be short."}]
KEPT = '{"reason": "it keeps to it", "violated": false, "severity": "none", "fix": ""}'
BROKEN = '{"reason": "it does not", "violated": true, "severity": "high", "fix": "do"}'


class Running:
    """A gateway in a thread, as `engine serve` runs it, on a home that outlives it."""

    def __init__(self, home, *deployments: tuple[str, list[Server], dict[str, str]]) -> None:
        settings = Settings.from_env({"ENGINE_HOME": str(home)})
        self.controller = FakeController()
        self.show(*deployments)
        self.keys = Keys(settings.database_url)
        self.app = create_app(self.controller, self.keys, settings, "operator")
        listener = listen("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = uvicorn.Server(config(self.app, drain_s=5))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.thread.start()
        wait_for(lambda: self.server.started)

    def show(self, *deployments: tuple[str, list[Server], dict[str, str]]) -> None:
        self.controller.show(*(
            serving(name, *(Endpoint("127.0.0.1", one.port, one.key) for one in servers), arguments=arguments)
            for name, servers, arguments in deployments
        ))  # fmt: skip

    def key(self, name: str = "someone", role: str = "user") -> str:
        return self.keys.create(name, role)[1]

    def http(self, secret: str = "operator", **more) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {secret}"}, timeout=60, **more)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()
        self.keys.close()


def wait_for(condition, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path):
    """`start(sim=["--capacity", "4"], twin=[[…], […]])` starts a gateway; a list of lists is one replica each."""
    with ExitStack() as stack:
        servers: dict[str, list[Server]] = {}

        def starting(restart: bool = False, **deployments) -> Running:
            for name, flags in deployments.items():
                each = flags if flags and isinstance(flags[0], list) else [flags]
                if not restart:
                    servers[name] = [stack.enter_context(simulator(*one, name=name)) for one in each]
            capacity = {
                name: (flags if not flags or not isinstance(flags[0], list) else flags[0])
                for name, flags in deployments.items()
            }
            rows = [
                (
                    name,
                    servers[name],
                    {"capacity": flags[flags.index("--capacity") + 1] if "--capacity" in flags else "4"},
                )
                for name, flags in capacity.items()
            ]
            running = Running(tmp_path / "home", *rows)
            stack.callback(lambda: running.thread.is_alive() and running.stop())
            return running

        yield starting


def error_of(response: httpx.Response) -> dict[str, str]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["message"]
    return error


def running_requests(server_url: str) -> float:
    text = httpx.get(f"{server_url}/metrics", trust_env=False).text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("vllm:num_requests_running"))


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_bulk_takes_nearly_the_ideal_time(start, replicas: int) -> None:
    slots, latency_s = 4, 0.2
    flags = ["--capacity", str(slots), "--latency-ms", str(latency_s * 1000)]
    running = start(sim=[flags] * replicas)
    requests = [{"prompt": f"question {i}"} for i in range(20 * slots)]
    ideal_s = 20 * slots / (slots * replicas) * latency_s
    taken = []
    with running.http(running.key()) as http:
        for _ in range(3):
            begun = time.perf_counter()
            answer = http.post("/v1/bulk", json={"model": "sim", "requests": requests, "max_tokens": 4})
            taken.append(time.perf_counter() - begun)
            assert answer.status_code == 200, answer.text
            results = answer.json()["results"]
            assert [one["index"] for one in results] == list(range(len(requests)))
            assert {one["status"] for one in results} == {"ok"}
            assert answer.json()["usage"]["completion_tokens"] == 4 * len(requests)
            if taken[-1] <= ideal_s * 1.1:
                break
    assert min(taken) <= ideal_s * 1.1, f"ideal {ideal_s:.2f} s, taken {taken}"


def test_a_bad_item_of_a_bulk_does_not_fail_the_rest(start) -> None:
    running = start(sim=["--latency-ms", "5", "--context", "100"])
    requests = [{"prompt": "a"}, {"prompt": "word " * 200}, {}, 7, {"prompt": 7}, {"model": "none", "prompt": "b"},
                {"messages": HELLO, "max_tokens": -1}, {"messages": HELLO}]  # fmt: skip
    with running.http(running.key()) as http:
        answer = http.post("/v1/bulk", json={"model": "sim", "requests": requests}).json()
    assert [one["status"] for one in answer["results"]] == ["ok", *["error"] * 6, "ok"]
    for one in answer["results"][1:7]:
        assert one["error"].keys() == {"message", "type", "param", "code"} and one["error"]["message"]
    assert "context length" in answer["results"][1]["error"]["message"]


def test_a_streamed_bulk_tells_each_result_and_its_progress(start) -> None:
    running = start(sim=["--latency-ms", "20"])
    with EngineClient(running.url, running.key()) as client:
        events = list(client.bulk_stream("sim", [{"prompt": "a"}] * 9, max_tokens=2))
    assert sorted(event["index"] for event in events[:-1]) == list(range(9))
    assert [event["progress"]["done"] for event in events[:-1]] == list(range(1, 10))
    assert events[-1]["object"] == "bulk.done" and events[-1]["usage"]["completion_tokens"] == 18


def test_bad_input_is_refused_in_openais_shape(start) -> None:
    running = start(sim=["--latency-ms", "5"])
    wrong = [
        ("/v1/bulk", {"model": "sim", "requests": []}, 422),
        ("/v1/bulk", {"model": "sim", "requests": [{"prompt": "a"}] * 100_001}, 422),
        ("/v1/bulk", {"model": "none", "requests": [{"prompt": "a"}]}, 404),
        ("/v1/bulk", {"requests": [{"prompt": "a"}]}, 422),
        ("/v1/bulk", {"model": 7, "requests": "many"}, 422),
        ("/v1/tribunal", {"model": "sim", "messages": HELLO, "laws": "no-such-laws"}, 404),
        ("/v1/tribunal", {"model": "sim", "messages": [], "laws": LAWS}, 422),
        ("/v1/tribunal", {"model": "sim", "messages": HELLO, "laws": []}, 422),
        ("/v1/tribunal", {"model": "sim", "messages": HELLO, "max_rounds": 0}, 422),
        ("/v1/tribunal", {"model": "sim", "messages": [{"role": "user", "content": ""}]}, 422),
        ("/v1/longprompt", {"model": "sim", "text": ""}, 422),
        ("/v1/longprompt", {"model": "sim"}, 422),
        ("/v1/longprompt", {"model": "sim", "text": "a", "max_tokens": "many"}, 422),
        ("/v1/chat/completions", {"model": "tribunal/none", "messages": HELLO}, 404),
        ("/v1/chat/completions", {"model": "tribunal:none/sim", "messages": HELLO}, 404),
        ("/v1/chat/completions", {"model": "tribunal/", "messages": HELLO}, 404),
        ("/v1/chat/completions", {"model": "tribunal/sim", "messages": "hello"}, 422),
        ("/v1/embeddings", {"model": "tribunal/sim", "input": "hello"}, 404),
        ("/v1/batches", {"input_file_id": "file-none", "endpoint": "/v1/chat/completions"}, 404),
        ("/api/feedback", {"kind": "hate", "question": "a", "language": "de"}, 422),
    ]  # fmt: skip
    with running.http(running.key()) as http:
        for path, body, status in wrong:
            answer = http.post(path, json=body)
            assert answer.status_code == status, (path, str(body)[:200], answer.status_code, answer.text[:300])
            error_of(answer)
        for path in ("/v1/bulk", "/v1/tribunal", "/v1/longprompt", "/v1/batches", "/api/feedback"):
            answer = http.post(path, content=b"{nonsense", headers={"content-type": "application/json"})
            assert answer.status_code in (400, 422), answer.text
            error_of(answer)
            surrogate = http.post(
                path, content=b'{"model": "\\ud800", "x": 1e999}', headers={"content-type": "application/json"}
            )
            assert surrogate.status_code < 500, surrogate.text
            error_of(surrogate)
        assert http.get("/api/verdicts").status_code == 403
        assert http.get("/api/feedback").status_code == 403
        http.headers.clear()
        for path in ("/v1/bulk", "/v1/tribunal", "/v1/longprompt", "/v1/batches", "/api/feedback"):
            assert http.post(path, json={}).status_code == 401


def test_ten_million_characters_are_read_or_refused(start) -> None:
    running = start(sim=["--latency-ms", "1", "--capacity", "16"])
    with running.http(running.key()) as http:
        answer = http.post(
            "/v1/tribunal", json={"model": "sim", "messages": [{"role": "user", "content": "a " * 5_000_000}]}
        )
        assert answer.status_code == 400 and "context" in error_of(answer)["message"]


def test_a_tribunal_accepts_rejects_and_is_logged(start) -> None:
    running = start(good=["--latency-ms", "5", "--reply", KEPT], bad=["--latency-ms", "5", "--reply", BROKEN],
                    odd=["--latency-ms", "5", "--reply", "bananas"])  # fmt: skip
    with EngineClient(running.url, running.key()) as client:
        accepted = client.tribunal("good", HELLO, laws=LAWS)
        rejected = client.tribunal("bad", HELLO, laws=LAWS, max_rounds=2)
        unread = client.tribunal("odd", HELLO, laws=LAWS)
        assert "default" in [one["name"] for one in client.laws()["data"]]
    assert accepted["object"] == "tribunal" and accepted["accepted"] is True and accepted["bypassed"] is None
    assert len(accepted["rounds"]) == 1 and accepted["usage"]["total_tokens"] > 0
    assert rejected["accepted"] is False and len(rejected["rounds"]) == 2
    assert [finding["violated"] for finding in rejected["rounds"][0]["findings"]] == [True, True]
    assert unread["accepted"] is False
    with EngineClient(running.url, "operator") as admin:
        rows = admin.verdicts()
        assert [row["accepted"] for row in rows] == [False, False, True]
        assert rows[1]["rounds"] == 2 and rows[1]["laws_hash"] and rows[1]["usage"]["total_tokens"] > 0
        assert [row["model"] for row in admin.verdicts("accepted")] == ["good"]
    with running.http() as http:
        metrics = http.get("/metrics").text
    assert 'engine_verdicts_total{model="good",outcome="accepted"} 1.0' in metrics
    assert 'engine_verdicts_total{model="bad",outcome="rejected"} 1.0' in metrics


async def test_a_tribunal_streams_its_steps(start) -> None:
    running = start(good=["--latency-ms", "5", "--reply", KEPT])
    async with AsyncEngineClient(running.url, running.key()) as client:
        events = [event async for event in client.tribunal_stream("good", HELLO, laws=LAWS)]
    assert [event["step"] for event in events] == ["draft", "judged", "judged", "verdict"]
    assert events[-1]["accepted"] is True


def test_a_long_prompt_is_read_in_parts(start) -> None:
    running = start(sim=["--latency-ms", "2", "--context", "600", "--tokens", "8"])
    text = " ".join(f"Sentence number {i} tells of something." for i in range(400))
    with EngineClient(running.url, running.key()) as client:
        answer = client.longprompt("sim", text, "Summarise it.", chunk_tokens=200, max_tokens=50)
    assert answer["object"] == "longprompt" and answer["chunks"] > 5
    assert abs(answer["tokens"] - len(text.split())) < 20


def test_a_long_prompts_answer_is_reviewed_by_the_tribunal(start) -> None:
    running = start(sim=["--latency-ms", "2", "--context", "600", "--reply", KEPT])
    body = {"model": "sim", "text": "A sentence. " * 50, "tribunal": {"laws": LAWS, "max_rounds": 1}}
    with running.http() as http:
        answer = http.post("/v1/longprompt", json=body).json()
        assert answer["accepted"] is True and len(answer["review"]["rounds"][0]["findings"]) == 2
        unknown = http.post("/v1/longprompt", json={**body, "tribunal": "no-such-laws"})
        assert unknown.status_code == 404 and "no-such-laws" in error_of(unknown)["message"]


def test_at_a_peak_the_model_answers_alone_and_says_so(start) -> None:
    running = start(sim=["--latency-ms", "400", "--capacity", "2"])
    secret = running.key()
    with running.http(secret) as http, EngineClient(running.url, secret) as client:
        busy = threading.Thread(target=lambda: client.bulk("sim", [{"prompt": "a"}] * 8))
        busy.start()
        time.sleep(0.2)
        answer = http.post("/v1/tribunal", json={"model": "sim", "messages": HELLO, "laws": LAWS})
        chat = http.post("/v1/chat/completions", json={"model": "tribunal/sim", "messages": HELLO})
        long = http.post("/v1/longprompt", json={"model": "sim", "text": "A sentence. " * 50})
        busy.join()
        assert long.headers["x-engine-bypass"] == "peak" and long.json()["bypassed"] == "peak" and long.json()["answer"]
        assert answer.headers["x-engine-bypass"] == "peak" and chat.headers["x-engine-bypass"] == "peak"
        assert answer.json()["accepted"] is None and answer.json()["bypassed"] == "peak" and answer.json()["answer"]
        later = http.post("/v1/tribunal", json={"model": "sim", "messages": HELLO, "laws": LAWS, "max_rounds": 1})
        assert "x-engine-bypass" not in later.headers and later.json()["bypassed"] is None


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/bulk", {"requests": [{"prompt": "a"}] * 50}),
        ("/v1/tribunal", {"messages": HELLO}),
        ("/v1/longprompt", {"text": "One sentence of many. " * 400, "chunk_tokens": 100}),
        ("/v1/chat/completions", {"messages": HELLO}),
    ],
)
async def test_a_client_that_leaves_ends_everything_upstream(start, path, body, streamed) -> None:
    running = start(sim=["--latency-ms", "60000", "--capacity", "4"])
    replica = f"http://127.0.0.1:{running.controller.snapshot.statuses['sim'].replicas[0].endpoint.port}"
    model = "tribunal/sim" if path == "/v1/chat/completions" else "sim"
    async with httpx.AsyncClient(
        base_url=running.url, headers={"authorization": "Bearer operator"}, timeout=60
    ) as http:
        asking = asyncio.create_task(ask(http, path, {**body, "model": model, "stream": streamed}))
        await until(lambda: running_requests(replica) > 0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: running_requests(replica) == 0)
    assert running.app.admission.load("sim")[:2] == (0, 0)


async def ask(http: httpx.AsyncClient, path: str, body) -> None:
    async with http.stream("POST", path, json=body) as response:
        async for _ in response.aiter_lines():
            pass


async def until(condition, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come to pass in time"
        await asyncio.sleep(0.05)


def test_the_unmodified_openai_client_has_all_of_it(start) -> None:
    running = start(sim=["--latency-ms", "5", "--reply", KEPT])
    with openai.OpenAI(base_url=running.url + "/v1", api_key=running.key(), max_retries=0) as client:
        plain = client.chat.completions.create(model="sim", messages=HELLO)
        assert plain.choices[0].message.content == KEPT
        stream = client.chat.completions.create(model="sim", messages=HELLO, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == KEPT
        vectors = client.embeddings.create(model="sim", input=["a", "b"])
        assert len(vectors.data) == 2
        for model in ("tribunal/sim", "tribunal:logical-rigour/sim"):
            judged = client.chat.completions.create(model=model, messages=HELLO)
            assert judged.choices[0].message.content == KEPT and judged.usage.total_tokens > plain.usage.total_tokens
            assert judged.tribunal["accepted"] is True
            options = {"include_usage": True}
            chunks = list(
                client.chat.completions.create(model=model, messages=HELLO, stream=True, stream_options=options)
            )
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            assert text == KEPT and chunks[-1].usage.total_tokens > 0
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="tribunal:none/sim", messages=HELLO)


def lines(count: int) -> io.BytesIO:
    rows = [
        {"custom_id": f"item-{i}", "method": "POST", "url": "/v1/chat/completions",
         "body": {"model": "sim", "messages": HELLO, "max_tokens": -1 if i == 3 else 4}}
        for i in range(count)
    ]  # fmt: skip
    return io.BytesIO("\n".join(map(json.dumps, rows)).encode())


def finished(client: openai.OpenAI, id: str):
    wait_for(lambda: client.batches.retrieve(id).status in ("completed", "failed", "expired", "cancelled"), 40)
    return client.batches.retrieve(id)


def test_the_openai_client_runs_a_batch(start) -> None:
    running = start(sim=["--latency-ms", "5"])
    with openai.OpenAI(base_url=running.url + "/v1", api_key=running.key(), max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", lines(20)), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "test"}
        )
        assert batch.status == "validating"
        batch = finished(client, batch.id)
        assert batch.status == "completed", batch
        assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (20, 19, 1)
        rows = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
        assert {row["custom_id"] for row in rows} == {f"item-{i}" for i in range(20) if i != 3}
        assert all(row["response"]["body"]["choices"] for row in rows)
        [failed] = client.files.content(batch.error_file_id).text.splitlines()
        assert json.loads(failed)["response"]["status_code"] == 400
        assert [one.id for one in client.batches.list()] == [batch.id]
        assert {one.id for one in client.files.list()} == {file.id, batch.output_file_id, batch.error_file_id}
        assert client.files.delete(file.id).deleted
    with openai.OpenAI(base_url=running.url + "/v1", api_key=running.key("other"), max_retries=0) as other:
        assert list(other.batches.list()) == [] and list(other.files.list()) == []
        with pytest.raises(openai.NotFoundError):
            other.batches.retrieve(batch.id)
        with pytest.raises(openai.NotFoundError):
            other.files.content(batch.output_file_id)


def test_a_batch_of_nonsense_fails_with_the_lines_that_are_wrong(start) -> None:
    running = start(sim=["--latency-ms", "5"])
    with openai.OpenAI(base_url=running.url + "/v1", api_key=running.key(), max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", io.BytesIO(b'{"custom_id": "a"}\n{nonsense\n')), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        batch = finished(client, made.id)
        assert batch.status == "failed" and [error.line for error in batch.errors.data] == [1, 2]


def test_a_batch_is_cancelled_and_what_is_done_stays(start) -> None:
    running = start(sim=["--latency-ms", "300", "--capacity", "1"])
    with openai.OpenAI(base_url=running.url + "/v1", api_key=running.key(), max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", lines(200)), purpose="batch")
        made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        wait_for(lambda: client.batches.retrieve(made.id).request_counts.completed > 1)
        assert client.batches.cancel(made.id).status == "cancelling"
        batch = finished(client, made.id)
        assert batch.status == "cancelled"
        assert len(client.files.content(batch.output_file_id).text.splitlines()) == batch.request_counts.completed
        with pytest.raises(openai.ConflictError):
            client.batches.cancel(made.id)


def test_a_batch_whose_key_is_revoked_fails_and_keeps_what_is_done(start) -> None:
    flags = ["--latency-ms", "200", "--capacity", "1"]
    running = start(sim=flags)
    key, secret = running.keys.create("leaver", "user")
    with openai.OpenAI(base_url=running.url + "/v1", api_key=secret, max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", lines(50)), purpose="batch")
        id = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h").id
        wait_for(lambda: client.batches.retrieve(id).request_counts.completed > 1)
    running.keys.revoke(key.id)
    running.stop()
    again = start(restart=True, sim=flags)
    with openai.OpenAI(base_url=again.url + "/v1", api_key="operator", max_retries=0) as client:
        batch = finished(client, id)
        assert batch.status == "failed" and "revoked" in batch.errors.data[0].message
        assert len(client.files.content(batch.output_file_id).text.splitlines()) == batch.request_counts.completed > 1


def test_a_batch_goes_on_after_a_restart_and_repeats_nothing(start) -> None:
    flags = ["--latency-ms", "50", "--capacity", "2"]
    running = start(sim=flags)
    secret = running.key()
    with openai.OpenAI(base_url=running.url + "/v1", api_key=secret, max_retries=0) as client:
        file = client.files.create(file=("in.jsonl", lines(100)), purpose="batch")
        id = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h").id
        wait_for(lambda: client.batches.retrieve(id).request_counts.completed > 10)
    running.stop()
    again = start(restart=True, sim=flags)
    with openai.OpenAI(base_url=again.url + "/v1", api_key=secret, max_retries=0) as client:
        batch = finished(client, id)
        assert batch.status == "completed"
        ids = [json.loads(line)["custom_id"] for line in client.files.content(batch.output_file_id).text.splitlines()]
        assert sorted(ids) == sorted(f"item-{i}" for i in range(100) if i != 3)
        assert batch.request_counts.failed == 1


def test_feedback_is_masked_and_only_admins_read_it(start) -> None:
    running = start(sim=[])
    with EngineClient(running.url, running.key()) as client:
        client.feedback(
            "dislike", "Meine Matrikelnummer ist 00123456", "de", answer="Ruf 0841 9348-0 an", reason="me@thi.de"
        )
        with pytest.raises(GatewayError):
            client.feedback("like", "", "de")
    with EngineClient(running.url, "operator") as admin:
        [row] = admin.feedback_list()
        assert "00123456" not in json.dumps(row) and "9348" not in json.dumps(row) and "@" not in json.dumps(row)
        assert row["kind"] == "dislike" and admin.feedback_list("like") == []
