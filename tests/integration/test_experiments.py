"""Sweeps against servers whose truth is known, and what becomes of them when something goes wrong."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from engine import experiments
from engine.bench.saturation import imbalance, sweep_json, sweep_of
from engine.capacity import Cards
from engine.errors import Conflict, GatewayError
from engine.settings import ROOT
from tests.processes import simulator
from tests.serving import Engine, engine, until
from tests.sweeping import FEW, served


def test_a_sweep_finds_the_slots_and_leaves_a_card(tmp_path):
    with served(tmp_path, "--capacity", "4", "--latency-ms", "100") as world:
        experiment = world.experiment()
        sweep = world.run(experiment)
    assert sweep.serialisation is not None
    assert sweep.serialisation.concurrency == pytest.approx(4, rel=0.04)
    assert sweep.serialisation.confirmed_by == "vllm:num_requests_waiting" and sweep.simulated
    assert sweep.startup is not None and (sweep.startup.load_s, sweep.startup.first_token_s) == (1.5, 0.25)
    valid = [trial for trial in sweep.trials if trial.valid]
    assert len(valid) >= 7, [trial.why_not for trial in sweep.trials]
    assert (experiment.state().state, experiment.state().valid) == ("done", len(valid))
    assert sweep_of(experiment.result()[0]) == sweep
    cards = Cards(tmp_path)
    cards.refresh()
    card = cards.find(world.status.deployment)
    assert card is not None and (card.slots, card.simulated, card.experiment) == (4, True, experiment.id)
    facts = experiment.provenance()
    assert facts["admission_exempt"] and facts["deployments"]["sim"]["path"]["way_s"] < 0.05
    assert facts["deployments"]["sim"]["template"]["sha256"] and facts["packages"]["uvloop"]


def test_prompts_have_the_papers_length_by_the_servers_own_count(tmp_path):
    with served(tmp_path, "--capacity", "4", "--latency-ms", "20") as world:
        sweep = world.run(world.experiment(max_concurrency=1, stream=True))
    for trial in sweep.trials:
        assert trial.prompt_tokens / trial.requests == pytest.approx(1024, rel=0.05)
        assert trial.ttft_s is not None and trial.ttft_s.mean < trial.latency_s.mean
        assert trial.validity.cached_share in (None, 0.0)


def test_errors_at_high_load_end_the_doubling_and_are_told(tmp_path):
    with served(tmp_path, "--capacity", "8", "--latency-ms", "100", "--fail-above", "3") as world:
        sweep = world.run(world.experiment(), FEW)
    assert any(trial.valid for trial in sweep.trials if trial.concurrency == 2)
    beyond = [trial for trial in sweep.trials if trial.concurrency > 3]
    assert {trial.concurrency for trial in beyond} == {4}
    told = [reason for trial in beyond for reason in trial.why_not]
    assert sum("errors" in reason for reason in told) >= len(beyond), told
    assert sweep.serialisation is None and any("invalid" in warning for warning in sweep.warnings)


def test_a_server_whose_speed_drifts_gives_no_silent_number(tmp_path):
    with served(tmp_path, "--capacity", "4", "--latency-ms", "40", "--drift-per-s", "0.3") as world:
        sweep = world.run(world.experiment(max_concurrency=2), FEW)
    told = [reason for trial in sweep.trials for reason in trial.why_not]
    assert any("drifted" in reason for reason in told), told
    assert any("invalid" in warning or "changed by" in warning for warning in sweep.warnings)


def test_a_load_generator_that_is_the_limit_says_so(tmp_path):
    ended = threading.Event()

    def take_the_interpreter() -> None:
        while not ended.is_set():
            sum(range(1000))

    busy = threading.Thread(target=take_the_interpreter)
    with served(tmp_path, "--capacity", "4", "--latency-ms", "40") as world:
        busy.start()
        try:
            sweep = world.run(world.experiment(max_concurrency=1), FEW)
        finally:
            ended.set()
            busy.join(10)
    assert not any(trial.valid for trial in sweep.trials)
    assert all(any("load generator" in reason for reason in trial.why_not) for trial in sweep.trials)
    assert sweep.serialisation is None


def test_a_replica_that_dies_makes_its_trial_invalid_and_the_sweep_goes_on_with_the_next(tmp_path):
    truth = ("--capacity", "2", "--latency-ms", "60")
    with (
        served(tmp_path, *truth, "--die-after-requests", "60") as world,
        simulator(*truth, key=world.status.replica_key) as other,
    ):

        def replace_it() -> None:
            world.server.process.wait(60)
            world.show(other, 2)

        watching = threading.Thread(target=replace_it)
        watching.start()
        sweep = world.run(world.experiment())
        watching.join(10)
    invalid = [trial for trial in sweep.trials if not trial.valid]
    told = [reason for trial in invalid for reason in trial.why_not]
    assert any("replica" in reason for reason in told), told
    assert sweep.serialisation is not None and sweep.serialisation.concurrency == pytest.approx(2, rel=0.1)
    assert any("invalid" in warning for warning in sweep.warnings)
    # The doubling in which it died was done again, and went on.
    assert max(trial.concurrency for trial in sweep.trials if trial.valid) >= 8


def test_a_deployment_that_was_changed_is_another_experiment(tmp_path):
    with served(tmp_path / "home", "--capacity", "2", "--latency-ms", "10") as world:
        experiment = world.experiment(max_concurrency=1)
        world.run(experiment)
    with served(tmp_path / "other", "--capacity", "3", "--latency-ms", "10") as changed:
        changed.home.joinpath("experiments").symlink_to(world.home / "experiments")
        with pytest.raises(Conflict, match="another set-up"):
            changed.run(experiment)
    assert experiment.state().state == "failed" and "another set-up" in experiment.state().message


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory):
    """A gateway on the local scheduler with one replica of two slots."""
    environ = {"ENGINE_SCHEDULER": "local"}
    with engine(tmp_path_factory.mktemp("experiments") / "home", environ) as running:
        running.run("launch", "simulator", "--name", "two", "--set", "capacity=2", "--set", "latency_ms=60", "--wait")
        yield running


def valid_wants(folder: Path) -> Counter:
    lines = (folder / "trials.jsonl").read_bytes().split(b"\n")[:-1] if (folder / "trials.jsonl").exists() else []
    trials = [json.loads(line) for line in lines]
    return Counter((trial["concurrency"], trial["repeat"]) for trial in trials if trial["valid"])


def interrupt_when(engine: Engine, id: str, condition: Callable[[], bool]) -> None:
    """Goes on with an experiment at the terminal, as it were, and presses Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "bench", "resume", id],
        env={**os.environ, **engine.environ},
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(condition, 60, "one more valid trial")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and f"bench resume {id}" in said, said


def test_killed_stopped_and_resumed_a_sweep_loses_and_repeats_no_valid_trial(local: Engine):
    with local.client() as client:
        started = client.experiment_start(["two"], max_concurrency=4, repeats=2, foreign_cpu=1.0)
        folder = local.home / "experiments" / started["id"]
        until(lambda: len(valid_wants(folder)) >= 2, 60, "two valid trials")
        os.kill(client.experiment(started["id"])["pid"], signal.SIGKILL)
        killed = until(lambda: (row := client.experiment(started["id"]))["state"] == "failed" and row, 10, "it is gone")
        assert "its process is gone" in killed["message"] and "bench resume" in killed["message"]
        before = valid_wants(folder)
        with (folder / "trials.jsonl").open("ab") as file:
            file.write(b'{"half a li')
        client.experiment_resume(started["id"])
        with pytest.raises(GatewayError, match="runs"):
            client.experiment_resume(started["id"])
        until(lambda: len(valid_wants(folder)) > len(before), 60, "another valid trial")
        local.run("bench", "stop", started["id"])
        stopped = client.experiment(started["id"])
        assert stopped["state"] == "stopped"
        interrupt_when(local, started["id"], lambda: len(valid_wants(folder)) > stopped["valid"])
        assert client.experiment(started["id"])["state"] == "stopped"
        client.experiment_resume(started["id"])
        done = until(lambda: (row := client.experiment(started["id"]))["state"] == "done" and row, 90, "it is done")
    after = valid_wants(folder)
    assert set(after.values()) == {1} and set(before) <= set(after)
    assert {repeat for _, repeat in after} == {0, 1} and {users for users, _ in after} >= {1, 2, 4}
    (sweep,) = done["result"]
    assert sweep["target"] == "gateway" and sweep["serialisation"]["concurrency"] == pytest.approx(2, rel=0.15)
    assert done["provenance"]["deployments"]["two"]["path"]["added_s"] > 0
    assert local.json("bench", "list")[0]["id"] == started["id"]
    with local.client() as client:
        assert len(client.experiment(started["id"], first_trial=2)["trial_list"]) == done["trials"] - 2
        client.experiment_delete(started["id"])
        assert client.experiments() == [] and not folder.exists()


def test_the_command_prints_sweeps_as_json_through_nginx(local: Engine):
    done = local.run("bench", "saturate", "two", "--target", "nginx", "--max-concurrency", "2", "--repeats", "1",
                     "--foreign-cpu", "1", "--experiment", "mine", "--json")  # fmt: skip
    (printed,) = json.loads(done.stdout)
    assert printed["deployment"] == "two" and printed["target"] == "nginx"
    assert {"concurrency", "requests", "errors", "latency_s", "ttft_s", "throughput_rps", "throughput_tok_s",
            "per_request_tok_s", "valid", "why_not"} <= printed["trials"][0].keys()  # fmt: skip
    assert {"queue_s", "load_s", "first_token_s"} <= printed["startup"].keys()
    assert json.loads(json.dumps(sweep_json(sweep_of(printed)))) == printed
    assert imbalance(sweep_of(printed).trials[0].loads) is None
    assert "users, repeat 1" in done.stderr
    again = local.run("bench", "saturate", "two", "--experiment", "mine", check=False)
    assert again.returncode == 1 and "bench resume mine" in again.stderr
    assert local.run("bench", "saturate", "nobody", check=False).returncode == 2
    (row,) = local.json("ps")
    assert (row["slots"], row["measured"]) == (2, True)
    until(lambda: "max_conns=8" in (local.home / "nginx" / "nginx.conf").read_text(), 10, "NGINX is bounded")


def test_rest_refuses_what_cannot_be_swept(local: Engine):
    with local.client() as client:
        for names, options, status in ((["nobody"], {}, 404), (["two"], {"repeats": 0}, 422), ([], {}, 422)):
            with pytest.raises(GatewayError) as refused:
                client.experiment_start(names, **options)
            assert refused.value.status == status
        with pytest.raises(GatewayError, match="unknown experiment") as unknown:
            client.experiment("nothing-there")
        assert unknown.value.status == 404
    assert list(experiments.every(local.home)) == [experiments.find(local.home, "mine")]
