"""From launch to a streamed answer, on real parts: Slurm, NGINX, llama.cpp with a small model, the openai client."""

import base64
import io
import subprocess
from collections import Counter

import httpx
import openai
import pytest
from PIL import Image, ImageDraw

from tests.serving import Engine, load, until

QUESTION = [{"role": "user", "content": "Name three rivers in Europe."}]


def squeue(fields: str) -> list[str]:
    return subprocess.run(
        ["squeue", "-h", "-o", fields], check=True, capture_output=True, text=True
    ).stdout.splitlines()


def openai_client(engine: Engine) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{engine.address}/v1", api_key=engine.key(), max_retries=0)


def test_two_replicas_of_a_real_model_and_two_simulators_on_different_gpus(slurm_engine: Engine) -> None:
    slurm_engine.run("launch", "smollm2-135m", "--replicas", "2", "--mem-gb", "1")
    simulated = ("--set", "capacity=4", "--set", "latency_ms=100", "--wait")
    slurm_engine.run("launch", "simulator", "--name", "large", "--gpus", "1", "--gpu-type", "a100", *simulated)
    slurm_engine.run("launch", "simulator", "--name", "small", "--gpus", "2", "--gpu-type", "l40s", *simulated)
    slurm_engine.ready("smollm2-135m", 2)

    assert sorted(squeue("%j %b %P")) == [
        "large-0 gres:gpu:a100:1 gpu-large",
        "small-0 gres:gpu:l40s:2 gpu-small",
        "smollm2-135m-0 N/A gpu-small",
        "smollm2-135m-1 N/A gpu-small",
    ]
    client = openai_client(slurm_engine)
    answer = client.chat.completions.create(model="smollm2-135m", messages=QUESTION, max_tokens=24)
    assert answer.choices[0].message.content
    assert answer.usage.completion_tokens <= 24
    chunks = list(client.chat.completions.create(model="smollm2-135m", messages=QUESTION, max_tokens=24, stream=True))
    assert len(chunks) > 10

    with load(slurm_engine.address, slurm_engine.key(), "smollm2-135m", clients=4) as seen:
        until(lambda: seen.answered >= 12, 60, "answers")
    assert seen.failures == []
    assert Counter(seen.replicas).keys() == {"smollm2-135m/0", "smollm2-135m/1"}

    assert "ready" in slurm_engine.run("logs", "smollm2-135m").stdout
    slurm_engine.run("scale", "smollm2-135m", "1")
    slurm_engine.ready("smollm2-135m", 1)
    slurm_engine.run("stop", "large")
    assert {row["name"] for row in slurm_engine.json("ps")} == {"smollm2-135m", "small"}
    slurm_engine.run("stop", "--all")
    assert slurm_engine.json("ps") == []
    until(lambda: squeue("%j") == [], 15, "no job is left")


def test_a_drawn_red_circle_is_named_through_image_url(slurm_engine: Engine) -> None:
    slurm_engine.run("launch", "smollm2-135m-toy-vision", "--wait")
    picture = Image.new("RGB", (192, 192), (255, 255, 255))
    ImageDraw.Draw(picture).ellipse([36, 36, 156, 156], fill=(220, 30, 30))
    file = io.BytesIO()
    picture.save(file, "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    content = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": "What shape and colour is in the image?"},
    ]
    answer = openai_client(slurm_engine).chat.completions.create(
        model="smollm2-135m-toy-vision", messages=[{"role": "user", "content": content}], max_tokens=24, temperature=0
    )
    words = answer.choices[0].message.content.lower()
    assert "red" in words
    assert "circle" in words
    with slurm_engine.client() as client:
        (model,) = client.models()["data"]
    assert (model["vision"], model["toy"]) == (True, True)


def test_a_deployment_answers_through_nginx_alone_and_its_own_port_refuses_strangers(slurm_engine: Engine) -> None:
    launched = slurm_engine.json(
        "launch", "simulator", "--name", "alone", "--replicas", "2", "--set", "latency_ms=50", "--wait"
    )
    body = {"model": "alone", "messages": QUESTION}
    url = f"{launched['url']}/chat/completions"
    assert launched["url"] == f"{slurm_engine.address}/deployments/alone/v1"
    for worker in slurm_engine.workers():
        subprocess.run(["kill", "-STOP", str(worker)], check=True)
    try:
        right = httpx.post(url, json=body, headers={"Authorization": f"Bearer {launched['access_token']}"})
        assert (right.status_code, right.headers.get("x-engine-replica")) == (200, None)
        assert httpx.post(url, json=body).status_code == 401
        assert httpx.post(url, json=body, headers={"Authorization": "Bearer wrong"}).status_code == 401
    finally:
        for worker in slurm_engine.workers():
            subprocess.run(["kill", "-CONT", str(worker)], check=True)
    for replica in launched["replicas"]:
        own = f"http://{replica['endpoint']}/v1/chat/completions"
        assert httpx.post(own, json=body).status_code == 401
        token = {"Authorization": f"Bearer {launched['access_token']}"}
        assert httpx.post(own, json=body, headers=token).status_code == 401


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no-such-model",), "unknown model"),
        (("simulator", "--name", "UPPER"), "name"),
        (("simulator", "--partition", "nowhere"), "nowhere"),
        (("simulator", "--gpus", "1", "--vram-gb", "200"), "200 GB"),
        (("simulator", "--gpus", "9", "--gpu-type", "a100"), "job 0|sbatch|node configuration"),
        (("simulator", "--time-limit", "soon"), "time_limit"),
        (("simulator", "--set", "host=0.0.0.0"), "host"),
    ],
)
def test_what_cannot_be_launched_is_refused_in_one_line_and_leaves_nothing(
    slurm_engine: Engine, arguments: tuple[str, ...], words: str
) -> None:
    refused = slurm_engine.run("launch", *arguments, check=False)
    assert refused.returncode in (1, 2)
    assert len(refused.stderr.strip().splitlines()) == 1
    assert any(word in refused.stderr for word in words.split("|")), refused.stderr
    assert slurm_engine.json("ps") == []
    assert list((slurm_engine.home / "deployments").glob("*")) == []


def test_following_a_log_tells_each_line_once(slurm_engine: Engine) -> None:
    slurm_engine.run("launch", "simulator", "--wait")
    with pytest.raises(subprocess.TimeoutExpired) as ended:
        slurm_engine.run("logs", "simulator", "--follow", "--lines", "1", timeout_s=6)
    lines = (ended.value.stdout or b"").decode().splitlines()
    assert len(lines) == 1 and "ready at" in lines[0], lines
