"""What the console shows, without a browser: its words, tables and markup."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.console import markup, words
from apps.console.feed import Feed
from apps.console.markup import Column, Share, Step, Tile, Word
from apps.console.views import cluster, deployments, launch, overview, usage
from tests.unit import console_data as data
from tests.unit.console_data import FakeClient

NOW = datetime(2026, 11, 28, 12, 30, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def test_a_feed_keeps_the_last_good_answer_and_says_since_when_there_is_no_newer_one() -> None:
    clock, client = Clock(), FakeClient()
    feed = Feed(client, clock)
    good = feed.read("rows", lambda c: c.deployments())
    assert good.value and good.at == NOW and not good.trouble
    client.away = True
    clock.passes(10)
    feed.read("rows", lambda c: c.deployments())
    clock.passes(10)
    bad = feed.read("rows", lambda c: c.deployments())
    assert bad.value == good.value and bad.at == NOW and bad.since == NOW + timedelta(seconds=10)
    assert "nothing listens there" in bad.trouble
    client.away = False
    assert not feed.read("rows", lambda c: c.deployments()).trouble


def test_a_feed_asks_anew_only_when_the_answer_is_old_enough_or_something_was_changed() -> None:
    clock, asked = Clock(), []
    feed = Feed(FakeClient(), clock)

    def ask(client: FakeClient) -> int:
        asked.append(1)
        return len(asked)

    assert [feed.read("x", ask, fresh_s=5).value for _ in range(3)] == [1, 1, 1]
    clock.passes(6)
    assert feed.read("x", ask, fresh_s=5).value == 2
    feed.forget()
    assert feed.read("x", ask, fresh_s=5).value == 3


def test_a_revoked_key_is_noticed() -> None:
    client = FakeClient()
    client.denied = True
    feed = Feed(client)
    assert feed.read("rows", lambda c: c.deployments()).value is None and "revoked" in feed.denied


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.0, "0 s"), (4.2, "4.2 s"), (59, "59 s"), (150, "2 min"), (7300, "2 h"), (2e5, "2 d")],
)
def test_spans_in_words(seconds: float | None, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(None, "–"), (0, "0"), (950, "950"), (0.25, "0.25"), (12345, "12.3k"), (4.56e6, "4.56M"), (2e9, "2G")],
)
def test_amounts_in_words(number: float | None, text: str) -> None:
    assert words.amount(number) == text


def test_what_others_wrote_cannot_become_markup() -> None:
    evil = "<script>alert(1)</script>"
    for made in (
        markup.items([("bad", evil, evil)]),
        markup.tiles([Tile(evil, evil, evil)]),
        markup.steps([Step(evil, "now", evil)]),
        markup.bar([Share(evil, 1, "good")]),
        markup.table([Column(evil)], [[evil], [Word(evil)]]),
        markup.named(evil, ""),
    ):
        assert "<script>" not in made and "&lt;script&gt;" in made
    assert "<code>gpus</code>" in markup.items([("bad", "fewer `gpus`", "")])


def test_health_says_in_words_what_its_colour_says() -> None:
    well = overview.health(data.overview())
    assert [(tile.name, tile.value, tile.tone) for tile in well] == [
        ("Gateway", "answers", "good"),
        ("Slurm", "answers", "good"),
        ("NGINX", "runs", "good"),
        ("Database", "answers", "good"),
    ]
    silent = {**data.overview()["schedulers"][0], "answers": False, "silent_since": data.AT, "trouble": "no route"}
    ill = data.overview(
        schedulers=[silent],
        nginx={"wanted": True, "running": False, "pid": None, "error": "bind failed"},
        database={"kind": "sqlite", "trouble": "locked"},
    )
    found = {tile.name: (tile.value, tile.note, tile.tone) for tile in overview.health(ill)}
    assert found["Slurm"] == ("silent", "since 12:00:00 UTC: no route", "bad")
    assert found["NGINX"] == ("refuses", "bind failed", "bad") and found["Database"] == ("fails", "locked", "bad")


def test_gpus_are_told_apart_by_whose_they_are() -> None:
    [(name, bar)] = overview.gpus(data.overview()["gpus"])
    assert name == "a100: 8" and all(part in bar for part in ("3 ours", "2 others", "3 free"))


def test_deployments_that_need_a_look_come_first() -> None:
    table = deployments.rows([data.row("b"), data.failed("z"), data.row("a", queued=2)], NOW)
    assert list(table["Name"]) == ["z", "a", "b"]
    assert list(table["Load"])[1:] == ["GPU 90 %", "GPU 90 %"] and table["Memory"][1] == "70 of 80 GB"
    assert table["Slots"][1] == "49 (measured)" and table["Ends"][1] == "in 24 h" and table["Queue"][1] == 2


def test_an_app_has_no_slots() -> None:
    app = {**data.row("web", kind="app", model=None)}
    for name in ("in_flight", "queued", "slots", "measured", "capacity", "peak"):
        del app[name]
    assert deployments.rows([app], NOW)["Slots"][0] == ""
    assert [tile.name for tile in deployments.tiles(app, NOW)] == ["Stage", "Replicas ready", "Load", "First job ends"]


def test_a_ready_replica_that_is_out_of_rotation_is_silent() -> None:
    row = data.row(count=2)
    row["replicas"][1]["in_rotation"] = False
    table = deployments.replicas(row, NOW)
    assert list(table["Stage"]) == ["ready", "silent"]
    assert table["Start-up"][0] == "queue 30 s, load 42 s, first token 0.4 s"


def test_a_search_in_a_log_tells_the_numbers_of_its_lines() -> None:
    log = "loading\nERROR: no file\nbye"
    assert deployments.search(log, "") == log
    assert deployments.search(log, "error") == "     2  ERROR: no file"
    assert deployments.search(log, "warn") == ""


def test_a_card_is_shown_only_for_its_own_arguments() -> None:
    card = {"setup": {"model": "llama-3.1-8b", "engine": "vllm", "arguments": {"max_num_seqs": "64"}}, "slots": 49}
    assert deployments.card([card], data.row()) == card
    assert deployments.card([card], data.row(arguments={"max_num_seqs": "8"})) is None


TYPED = {"name": "llama-3.1-8b", "replicas": 1, "max_replicas": 1, "engine": "vllm", "precision": "bf16", "cpus": 4,
         "mem_gb": 16.0, "gpus": 1, "vram_gb": 16.0, "gpu_type": "", "nodes": 1, "time_limit": "1-00:00:00",
         "partition": "", "account": "", "arguments": {}}  # fmt: skip


def test_a_form_left_as_it_is_asks_for_the_catalogue_row_and_no_more() -> None:
    assert launch.request(data.model(), TYPED) == {"model": "llama-3.1-8b", "replicas": 1}


def test_a_form_asks_for_what_differs() -> None:
    typed = {**TYPED, "name": "mine", "gpus": 2, "precision": "int8", "partition": "gpu-large", "max_replicas": 4,
             "arguments": {"max_num_seqs": "8"}, "engine": "sglang", "scheduler": "slurm"}  # fmt: skip
    assert launch.request(data.model(), typed, "r1") == {
        "model": "llama-3.1-8b", "replicas": 1, "name": "mine", "max_replicas": 4, "engine": "sglang",
        "precision": "int8", "gpus": 2, "partition": "gpu-large", "arguments": {"max_num_seqs": "8"},
        "scheduler": "slurm", "request_id": "r1",
    }  # fmt: skip


def test_arguments_are_read_a_line_each() -> None:
    assert launch.arguments("--max-num-seqs=8\n\n dtype = auto ") == ({"max_num_seqs": "8", "dtype": "auto"}, "")
    assert launch.arguments("nonsense")[1] == "write NAME=VALUE, one a line, not 'nonsense'"


def test_the_difference_of_scripts_leaves_out_the_numbers_of_attempts() -> None:
    before = "#SBATCH --comment=engine:h:x:0:1\n#SBATCH --mem=1G\n# x, replica 0, attempt 1: rendered"
    before += "\nexec x --index 0 --attempt 1"
    same = before.replace("x:0:1", "x:0:2").replace("attempt 1", "attempt 2")
    assert launch.difference(before, same) == ""
    assert "-#SBATCH --mem=1G\n+#SBATCH --mem=2G" in launch.difference(before, same.replace("1G", "2G"))


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"scheduler": "local", "expected_start_at": data.AT}, "This machine would start it at once."),
        ({"scheduler": "local", "expected_start_at": None}, "This machine is full: it would wait for another job."),
        ({"scheduler": "slurm", "expected_start_at": None}, "Slurm names no time at which it would start."),
        ({"scheduler": "slurm", "expected_start_at": data.AT}, "Slurm expects to start it at once."),
        ({"scheduler": "slurm", "expected_start_at": "2026-11-28T15:30:00Z"},
         "Slurm expects to start it in 3 h, at 2026-11-28 15:30:00 UTC."),
    ],
)  # fmt: skip
def test_the_expected_start_in_words(told: dict[str, str | None], text: str) -> None:
    assert launch.start(told, NOW) == text


def stepped(row: dict[str, object]) -> list[str]:
    return [step.state for step in launch.steps(row)]


def test_a_replica_that_waits_while_others_serve_tells_why() -> None:
    waits = data.replica(1, in_rotation=False, stage="queued", started_at=None, reason="waits for GPUs")
    leaves = data.replica(2, in_rotation=False, stage="draining", reason="asked to leave")
    row = {"replicas": [data.replica(0), waits, leaves]}
    assert launch.still_to_come(row) == ["Replica 1: waits for GPUs"]


def test_the_steps_of_a_launch() -> None:
    waiting = data.replica(stage="queued", in_rotation=False, started_at=None, startup=None, reason="waits for GPUs")
    queued = data.row(ready=0, stage="queued", reason="waits for GPUs", replicas=[waiting])
    loading = data.row(
        ready=0, stage="loading", replicas=[data.replica(stage="loading", in_rotation=False, startup=None)]
    )
    assert stepped(data.row(replicas=[], ready=0, reason="")) == ["now"]
    assert stepped(queued) == ["done", "now", "to come", "to come"]
    assert launch.steps(queued)[1].note == "waits for GPUs"
    assert stepped(loading) == ["done", "done", "now", "to come"]
    assert stepped(data.row()) == ["done", "done", "done", "done"] and launch.over(data.row())
    assert stepped(data.failed()) == ["done", "done", "failed", "to come"] and launch.over(data.failed())
    assert launch.steps(data.failed())[2].note == "the model file /models/x.gguf does not exist"


def test_nodes_that_take_no_jobs_come_first_with_their_reason() -> None:
    nodes = [data.node(), data.node("n2", state="DOWN*", reason="power")]
    table = cluster.nodes(nodes, data.FakeClient().told["gpus"]["slurm"]["nodes"])
    assert list(table["Node"]) == ["n2", "n1"] and table["Reason"][0] == "power"
    assert table["Ours"][1] == "3 a100" and table["Our jobs"][1] == "100"
    assert cluster.partitions(nodes) == [("gpu-large", 2, 1, 24, 64, "1 a100", "8 a100")]


def test_our_waiting_jobs_come_first() -> None:
    jobs = [data.job("1"), data.job("2", state="PENDING"), data.job("3", deployment="")]
    table = cluster.jobs(jobs, NOW)
    assert list(table["Job"]) == ["2", "1", "3"] and table["Submitted"][0] == "30 min ago"
    assert "Priority" not in cluster.jobs([data.job(priority=None)], NOW)


def test_slurm_calls_are_told_with_the_time_in_which_they_were_counted() -> None:
    state = data.overview()["schedulers"][0]
    assert cluster.calls_in_words(state) == "243 calls in the last hour, counted by this gateway."
    assert cluster.calls_in_words({**state, "counted_s": 600.0}).startswith("243 calls in the last 10 min")
    assert cluster.calls(state)[0] == ("squeue", 240)


def test_valid_keys_come_first() -> None:
    keys = [data.key("old", revoked_at=data.AT), data.key("new", limits={**data.LIMITS, "models": ["a", "b"]})]
    table = usage.keys(keys)
    assert list(table["Name"]) == ["new", "old"] and table["Models"][0] == "a, b"
    assert [key["name"] for key in usage.active(keys)] == ["new"]


def test_no_limit_is_written_as_zero() -> None:
    assert usage.limits(" a, ,b ", 0, 5, 0) == {
        "models": ["a", "b"], "requests_per_minute": None, "tokens_per_day": 5, "parallel": None,
    }  # fmt: skip


def test_gpu_hours_stand_beside_the_tokens_that_they_made() -> None:
    told = data.FakeClient().told
    used = [*told["usage"], {**told["usage"][0], "model": "cpu-only", "total_tokens": 5}]
    assert usage.beside_tokens(told["gpu_hours"]["rows"], used) == [
        ("llama", "12.00", "30", "2.5"),
        ("cpu-only", "0.00", "5", None),
    ]


def test_a_table_for_a_spreadsheet_holds_no_formulas() -> None:
    rows = [{**data.FakeClient().told["usage"][0], "key": "=cmd()"}]
    table = usage.usage(rows, ["day", "key"])
    assert usage.as_csv(table).splitlines()[1] == "2026-11-28,'=cmd(),3,1,10,20,30"
