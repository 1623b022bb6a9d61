"""The console in Chromium, through NGINX: on a real Slurm with fake GPUs, and while its gateway goes and comes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.chromium import Console, chromium, console, launch_console
from tests.processes import require, require_packages
from tests.serving import Engine, engine, load, until


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require("nginx")
    require_packages("streamlit", "playwright")
    with chromium() as opened:
        yield opened


def choose_simulator(tab: Console) -> None:
    tab.go("Launch")
    tab.choose("Model (type to search)", "simulator")
    # The script stands below the form, so that this is drawn by now.
    tab.sees("--job-name=simulator-0")


def launch_simulator(tab: Console, name: str, gpus: int, gpu_type: str) -> None:
    choose_simulator(tab)
    tab.type("Name", name)
    tab.type("GPUs per node", str(gpus))
    tab.choose("GPU type", gpu_type)
    tab.sees(f"({gpu_type})")
    # The script that would be submitted, while nothing was.
    tab.sees(f"--gres=gpu:{gpu_type}:{gpus}")
    tab.sees("Slurm expects to start it")
    tab.button("Launch").dblclick()
    tab.sees(f"{name} answers at", timeout_s=60)
    tab.button("Launch another").click()


def test_models_are_launched_scaled_drained_and_stopped_on_slurm(slurm_engine: Engine, browser: Browser) -> None:
    launch_console(slurm_engine)
    with console(browser, slurm_engine.address) as tab:
        tab.log_in(slurm_engine.key("admin"))
        launch_simulator(tab, "large", 1, "a100")
        launch_simulator(tab, "small", 2, "l40s")
        rows = {row["name"]: row for row in slurm_engine.json("ps")}
        assert rows.keys() == {"console", "large", "small"}

        tab.go("Overview")
        tab.sees("1 ours")
        tab.go("Cluster")
        tab.sees("gpu-large")

        open_deployment(tab, "large")
        tab.type("Replicas", "2")
        tab.button("Scale").click()
        tab.sees("2 of 2", timeout_s=60)
        with load(slurm_engine.address, slurm_engine.key(), "large", clients=4) as seen:
            until(lambda: seen.answered > 20, 20, "answers")
            tab.button("Drain").click()
            tab.button("Drain it").click()
            tab.part("Events")
            tab.sees("asked by an operator")
            tab.sees("1 of 2", timeout_s=30)
            tab.sees("2 of 2", timeout_s=60)
        assert seen.failures == []

        tab.button("Stop").click()
        tab.type("Type large to confirm", "large")
        tab.button("Stop it").click()
        until(lambda: "large" not in [row["name"] for row in slurm_engine.json("ps")], 60, "large is gone")


def open_deployment(tab: Console, name: str) -> None:
    tab.go("Deployments")
    tab.choose("Open one: select its row, or type its name", name)
    tab.heading(name)


def test_a_job_that_fails_tells_its_log_and_its_reason_and_what_cannot_be_is_refused_in_words(
    slurm_engine: Engine, browser: Browser
) -> None:
    launch_console(slurm_engine)
    slurm_engine.run("launch", "simulator", "--name", "broken", "--set", "capacity=none")
    with console(browser, slurm_engine.address) as tab:
        tab.log_in(slurm_engine.key("admin"))
        tab.sees("broken failed", timeout_s=60)
        tab.button("Open broken").click()
        tab.heading("broken")
        tab.part("Log")
        tab.sees("invalid int value: 'none'")

        choose_simulator(tab)
        tab.type("GPUs per node", "9")
        tab.sees("the largest node of partition gpu-small has 2 GPUs of type l40s")
        tab.sees("Requested node configuration is not available")
        tab.button("Launch").click()
        tab.sees("sbatch refused")


@pytest.mark.slow
def test_a_page_says_that_the_gateway_is_away_and_goes_on_when_it_is_back(tmp_path: Path, browser: Browser) -> None:
    home = tmp_path / "home"
    with engine(home, {"ENGINE_SCHEDULER": "local"}) as running:
        launch_console(running)
        with console(browser, running.address) as tab:
            tab.log_in(running.key("admin"))
            tab.sees("as of")
            # Killed so hard that NGINX stays; the worker leaves by itself.
            running.process.send_signal(signal.SIGKILL)
            running.process.wait(10)
            tab.sees("The gateway does not answer")
            tab.sees("showing data of")
            with engine(home, running.environ) as again:
                tab.page.get_by_text("The gateway does not answer").wait_for(state="hidden")
                tab.go("Deployments")
                tab.sees("as of")
                assert again.answers
