"""Kind `app`: any web app as a job, joined at the one address under its path."""

import sys
from pathlib import Path

import httpx
from websockets.sync.client import connect

from tests.serving import Engine

APP = Path(__file__).parent.parent / "data" / "echo_app.py"


def test_a_web_app_runs_as_a_slurm_job_and_answers_at_its_path_websockets_included(slurm_engine: Engine) -> None:
    slurm_engine.run("launch", "--app", "echo", "--wait", "--", sys.executable, str(APP))
    row = slurm_engine.row("echo")
    assert (row["kind"], row["scheduler"]) == ("app", "slurm")

    page = httpx.get(f"{slurm_engine.address}/echo/page")
    assert page.text == f"hello from {row['replicas'][0]['node']} at /echo/page\n"
    with connect(f"{slurm_engine.address.replace('http', 'ws')}/echo/ws") as socket:
        socket.send("hallo")
        assert socket.recv(timeout=10) == "echo: hallo"


def test_an_app_on_this_machine_stands_beside_slurm_jobs_and_may_have_its_path_stripped(slurm_engine: Engine) -> None:
    options = ("--app", "here", "--scheduler", "local", "--path", "/my/app/", "--strip-path", "--wait")
    slurm_engine.run("launch", *options, "--", sys.executable, str(APP))
    assert httpx.get(f"{slurm_engine.address}/my/app/page").text == "hello from localhost at /page\n"


def test_two_apps_cannot_have_one_path(slurm_engine: Engine) -> None:
    slurm_engine.run("launch", "--app", "first", "--path", "/same/", "--", sys.executable, str(APP))
    refused = slurm_engine.run(
        "launch", "--app", "second", "--path", "/same/", "--", sys.executable, str(APP), check=False
    )
    assert refused.returncode == 1
    assert "/same/" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
