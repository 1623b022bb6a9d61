"""Batches on a real `engine serve` behind NGINX: large uploads, and a worker that is killed in the middle."""

import io
import json
import os
import signal
from collections.abc import Iterator

import openai
import pytest

from tests.processes import require
from tests.serving import Engine, engine, until

MESSAGES = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    require("nginx")
    with engine(tmp_path_factory.mktemp("batches") / "home", {"ENGINE_SCHEDULER": "local"}) as running:
        running.run("launch", "simulator", "--name", "sim", "--set", "capacity=2", "--set", "latency_ms=100", "--wait")
        yield running


def lines(count: int, padding: int = 0) -> io.BytesIO:
    body = {"model": "sim", "messages": MESSAGES, "max_tokens": 2, "user": "x" * padding}
    rows = ({"custom_id": f"item-{i}", "method": "POST", "url": CHAT, "body": body} for i in range(count))
    return io.BytesIO("\n".join(map(json.dumps, rows)).encode())


def client_of(served: Engine) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.address}/v1", api_key=served.key(), max_retries=3)


def test_a_batch_survives_its_worker_and_repeats_nothing_that_is_done(served: Engine) -> None:
    with client_of(served) as client:
        file = client.files.create(file=("in.jsonl", lines(200)), purpose="batch")
        id = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h").id
        until(lambda: client.batches.retrieve(id).request_counts.completed > 20, 30, "some items are done")
        [output] = (served.home / "local" / "batches" / "batches" / id).glob("output.jsonl")
        before = [json.loads(line)["id"] for line in output.read_text().splitlines()[:20]]
        (worker,) = served.workers()
        os.kill(worker, signal.SIGKILL)
        until(lambda: served.workers() not in ([], [worker]) and served.answers, 60, "the next worker")
        batch = until(lambda: (b := client.batches.retrieve(id)).status in ENDED and b, 60, "the batch has ended")
        assert batch.status == "completed" and batch.request_counts.completed == 200
        rows = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
        assert [row["id"] for row in rows[:20]] == before
        assert len(rows) == len({row["custom_id"] for row in rows}) == 200


def test_a_large_file_passes_the_one_address(served: Engine) -> None:
    large = lines(40, padding=1024 * 1024)
    with client_of(served) as client:
        file = client.files.create(file=("large.jsonl", large), purpose="batch")
        assert file.bytes == large.getbuffer().nbytes > 40 * 2**20
        assert client.files.content(file.id).content == large.getvalue()


def test_the_command_line_shows_verdicts_and_laws(served: Engine) -> None:
    with client_of(served) as client:
        client.chat.completions.create(model="tribunal:logical-rigour/sim", messages=MESSAGES)
    [verdict] = served.json("verdicts")
    assert verdict["model"] == "sim" and verdict["laws"] == "logical-rigour"
    hashes = {row["name"]: row["hash"] for row in served.json("laws")}
    assert verdict["laws_hash"] == hashes["logical-rigour"]
    assert "logical-rigour" in served.run("verdicts").stdout
