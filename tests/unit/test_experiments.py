"""Folders of experiments, and what is reckoned before and beside the trials."""

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import orjson
import pytest

from engine import experiments
from engine.bench.experiment import card, gauges, machine, task
from engine.bench.experiment.aim import Aim
from engine.bench.experiment.journal import Journal
from engine.bench.experiment.measure import Pace
from engine.bench.experiment.paper import FIGURES
from engine.bench.load.target import Target
from engine.bench.saturation import Serialisation, Subject, Summary, Trial, conclude
from engine.bench.saturation.sweep import Capacity
from engine.errors import ConfigurationError, Conflict, UnknownName
from engine.experiments import Experiment, Options, State, me
from engine.fleet.deployments import Replica, to_json, write_atomically
from engine.fleet.hosts import Endpoint
from tests.fakes import serving

SIM = Options(("sim",))
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def trial(concurrency: int, repeat: int = 0) -> Trial:
    return Trial("sim", concurrency, repeat, NOW, 1.0, 10, 0, Summary(0.1, 0.1, 0.1, 0.1), 10.0 * concurrency)


def test_an_experiment_is_made_once_and_found_by_its_id(tmp_path):
    made = experiments.create(tmp_path, SIM, "mine")
    assert experiments.find(tmp_path, "mine").options() == made.options() and made.options().seed > 0
    assert [one.id for one in experiments.every(tmp_path)] == ["mine"]
    with pytest.raises(Conflict, match="bench resume mine"):
        experiments.create(tmp_path, SIM, "mine")
    with pytest.raises(UnknownName, match="mine"):
        experiments.find(tmp_path, "yours")


@pytest.mark.parametrize("id", ["..", "a/b", "-x", "A", "x" * 101])
def test_an_id_cannot_lead_out_of_the_folder(tmp_path, id):
    with pytest.raises(ConfigurationError):
        experiments.create(tmp_path, SIM, id)
    with pytest.raises(UnknownName):
        experiments.find(tmp_path, id)


def test_options_that_mean_nothing_are_refused():
    for wrong in ({"target": "moon"}, {"repeats": 0}, {"max_concurrency": 0}, {"time_scale": 0}):
        with pytest.raises(ConfigurationError):
            replace(SIM, **wrong)
    for names in ((), ("sim", "sim")):
        with pytest.raises(ConfigurationError):
            Options(names)


def test_a_process_that_is_gone_has_failed_and_one_that_lives_runs(tmp_path):
    made = experiments.create(tmp_path, SIM)
    made.write_state(State("running", **me()))
    assert made.state().state == "running"
    made.write_state(State("running", **{**me(), "started": "1"}))
    assert made.state().state == "failed" and "bench resume" in made.state().message
    (made.path / "log.txt").write_text("experiment mine\nengine: the site file is broken\n")
    assert "(the site file is broken)" in made.state().message
    made.write_state(State("done", **{**me(), "started": "1"}))
    assert made.state().state == "done"


def test_on_another_machine_its_silence_tells(tmp_path):
    made = experiments.create(tmp_path, SIM)
    made.write_state(State("running", host="far-away", pid=1, started="1"))
    assert made.state().runs
    long_ago = made.path.stat().st_mtime - 2 * experiments.SILENT_S
    os.utime(made.path / "state.json", (long_ago, long_ago))
    assert made.state().state == "failed"


def test_one_that_runs_elsewhere_is_neither_started_nor_deleted(tmp_path):
    made = experiments.create(tmp_path, SIM)
    made.write_state(State("running", host="far-away", pid=4711, started="1"))
    for change in (experiments.delete, experiments.require_idle):
        with pytest.raises(Conflict, match="4711 on far-away"):
            change(made)
    experiments.ask_stop(made)
    assert made.stop_is_asked


def test_a_journal_keeps_whole_lines_and_drops_a_half_one(tmp_path):
    made = experiments.create(tmp_path, SIM)
    journal = Journal(made)
    journal.add(trial(1))
    journal.add(trial(2))
    with (made.path / "trials.jsonl").open("ab") as file:
        file.write(b'{"deployment":"si')
    assert len(made.trials()) == 2
    again = Journal(made)
    again.add(trial(4))
    assert [one.concurrency for one in Journal(made).of("sim")] == [1, 2, 4]
    assert [one["concurrency"] for one in made.trials(2)] == [4] and made.trials(9) == []


def test_damaged_folders_are_told_and_do_not_hide_others(tmp_path):
    made = experiments.create(tmp_path, SIM)
    write_atomically(made.path / "options.json", "{}")
    with pytest.raises(ConfigurationError, match=r"options\.json"):
        made.options()
    (made.path / "state.json").unlink()
    assert made.state().state == "failed"
    assert Experiment(tmp_path / "nothing").trials() == [] and Experiment(tmp_path / "nothing").result() == []


def test_the_papers_task_is_a_translation_whose_length_follows_the_servers_count():
    made = task.prompts({}, "m", "vllm", stream=True, words=100, context=4096)
    body = orjson.loads(next(made))
    text = body["messages"][0]["content"]
    assert "Translate the following text from Latin to English." in text and "Lorem ipsum" in text
    assert body["max_tokens"] == 256 and body["ignore_eos"] and body["stream_options"] == {"include_usage": True}
    assert task.prompt_tokens({}, 4096) == 1024 and task.prompt_tokens({}, 512) == 256
    assert task.words_for(1024, 100, 312) == pytest.approx(1012 / 3, abs=1)


def test_a_task_file_is_taken_as_it_is_and_a_wrong_one_refused():
    given = {"prompt": "Say A.", "max_tokens": 1, "parameters": {"top_p": 0.5}, "shared_prefix": True}
    made = task.prompts(given, "m", "tgi", stream=False, words=100, context=None)
    body = orjson.loads(next(made))
    assert made.task.path == "/completions" and body["prompt"].startswith("Say A.")
    assert (body["max_tokens"], body["top_p"], made.prefix) == (1, 0.5, "shared") and "ignore_eos" not in body
    assert task.prompt_tokens(given, 4096) is None
    for wrong in ({"promt": "x"}, {"prompt": 3}, {"prompt": "x", "messages": [{"role": "user", "content": "y"}]}):
        with pytest.raises(ConfigurationError):
            task.task_file(wrong)


PAGES = {
    "vllm": 'vllm:num_requests_waiting{a="b"} 3.0\nvllm:num_requests_waiting{a="c"} 1.0\nvllm:num_requests_running 2\n',
    "llamacpp": "# HELP x\nllamacpp:requests_processing 4\nllamacpp:requests_deferred 7\n",
    "tgi": "tgi_queue_size 5\ntgi_queue_size_limit 99\n",
    "none": "python_info 1\n",
}


@pytest.fixture
def metrics_page():
    """A server whose /metrics is what `shown` says; yields the replica and the list to change."""
    shown = [""]

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if shown[0] else 500)
            self.end_headers()
            self.wfile.write(shown[0].encode())

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Replica(0, 1, 1, "ready", "7", endpoint=Endpoint("127.0.0.1", server.server_port)), shown
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ("vllm", ("vllm:num_requests_waiting", 4.0, 2.0)),
        ("llamacpp", ("llamacpp:requests_deferred", 7.0, 4.0)),
        ("tgi", ("tgi_queue_size", 5.0, None)),
        ("none", None),
    ],
)
async def test_each_engines_own_queue_gauge_is_read(metrics_page, tmp_path, monkeypatch, engine, expected):
    replica, shown = metrics_page
    shown[0] = PAGES[engine]
    monkeypatch.setattr(gauges, "INTERVAL_S", 0.01)
    told = gauges._gauge(await gauges.page(replica, "/metrics", "key"))
    assert told == expected
    sampler = gauges.Gauges([replica], "key", tmp_path, 1)
    async with sampler:
        for _ in range(100):
            if sampler.queue(0, 1e12) or expected is None:
                break
            await gauges.asyncio.sleep(0.02)
    queue = sampler.queue(0, 1e12)
    assert (queue and (queue.source, queue.waiting_mean, queue.running_mean)) == expected


async def test_a_server_without_an_answer_tells_nothing(metrics_page):
    replica, shown = metrics_page
    shown[0] = ""
    assert await gauges.page(replica, "/metrics", "") is None
    gone = replace(replica, endpoint=Endpoint("127.0.0.1", 1))
    assert await gauges.page(gone, "/metrics", "") is None


def test_foreign_cpu_is_what_neither_we_nor_nobody_used():
    cpus = os.cpu_count() or 1
    assert machine.foreign((0, 0, 0), (10, 10 * cpus, 0)) == pytest.approx(1.0)
    assert machine.foreign((0, 0, 0), (10, 5 * cpus, 5 * cpus)) == 0.0
    assert machine.foreign((0, 5, 5), (10, 5 + cpus, 5)) == pytest.approx(0.1)


def sweep_of_slots(slots: float, replicas: int = 1, contradicted: str | None = None):
    subject = Subject("sim", replicas=replicas, simulated=True)
    found = conclude(subject, [trial(4), trial(8), trial(16)])
    point = Serialisation(slots, (slots, slots), 0.1, None, contradicted)
    return replace(found, serialisation=point, capacity=Capacity(0.1, 0.0, slots))


def test_a_card_is_of_one_replica_and_only_of_a_point_that_can_be_believed():
    where = Target.of("http://127.0.0.1:1/v1")
    status = serving("sim", Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2))
    aim = Aim(status, status.replicas, where, where)
    made = card.card(sweep_of_slots(12.2, replicas=2), aim, 0.0, "sweep-1")
    assert made is not None and (made.slots, made.simulated, made.experiment) == (6, True, "sweep-1")
    assert made.requests_per_s == pytest.approx(80 / 2 if made.requests_per_s < 60 else 160 / 2)
    assert card.card(sweep_of_slots(12, contradicted="nobody waits"), aim, 0.0, "x") is None
    assert card.card(replace(sweep_of_slots(12), serialisation=None), aim, 0.0, "x") is None
    behind = card.card(sweep_of_slots(12.0), aim, 0.02, "x")
    assert behind is not None and behind.slots == round(12.0 * 0.8)


def test_a_trial_takes_the_cycles_of_its_latency_and_no_less_than_a_second():
    pace = Pace()
    assert pace.window_s(10.0) == 60.0 and pace.window_s(0.3) == pytest.approx(1.8)
    assert pace.window_s(0.1) == pace.least_s and pace.window_s(0.01) == pytest.approx(0.3)


def test_the_papers_simulators_have_its_slots_and_its_latencies():
    by_model = {figure.reported.model: figure for figure in FIGURES}
    assert {m: f.reported.users for m, f in by_model.items()} == {
        "llama-3.2-1b": 128, "llama-3.2-3b": 49, "llama-3.1-8b": 20, "llama-3.1-70b": 2,
    }  # fmt: skip
    for figure in FIGURES:
        given = figure.launch["arguments"]
        total_ms = float(given["ttft_ms"]) + float(given["itl_ms"]) * int(given["tokens"])
        assert total_ms / figure.time_scale == pytest.approx(figure.reported.latency_s * 1000, rel=1e-4)
        assert 300 < total_ms < 450


def test_state_files_tell_times_in_utc(tmp_path):
    made = experiments.create(tmp_path, SIM)
    made.write_state(State("running", begun_at=NOW, **me()))
    row = made.summary()
    assert row["begun_at"] == "2026-01-01T00:00:00Z" and row["updated_at"].endswith("Z")
    assert to_json(made.state()).count("Z") == 2
