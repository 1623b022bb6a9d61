"""The parsers on recorded output (tests/data/slurm, Slurm 22.05 of tests/cluster.sh), and reasons in plain words."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.fleet.schedulers import parse
from engine.fleet.schedulers.jobs import Job, explain

DATA = Path(__file__).parent.parent / "data" / "slurm"


def recorded(name: str) -> str:
    return (DATA / name).read_text()


def by_id(jobs: list[Job]) -> dict[str, Job]:
    return {job.id: job for job in jobs}


def test_squeue_gives_every_state_in_slurms_words():
    jobs = by_id(parse.parse_squeue(recorded("squeue.txt")))
    states = {jobs[i].name: jobs[i].state for i in jobs}
    assert states == {
        "impossible": "FAILED", "resources": "PENDING", "priority": "PENDING", "llama-0": "RUNNING", "two": "RUNNING",
        "killed": "CANCELLED", "done": "COMPLETED", "failed": "FAILED", "nodefail": "NODE_FAIL", "never": "PENDING",
        "begin": "PENDING", "held": "PENDING", "tolong": "TIMEOUT", "array": "RUNNING",
    }  # fmt: skip
    assert {"13_1", "13_2"} <= set(jobs)


def test_a_running_job_is_read_whole():
    job = by_id(parse.parse_squeue(recorded("squeue.txt")))["1"]
    assert job == Job(
        id="1", name="llama-0", state="RUNNING", nodes="n1", user="root", partition="gpu-large", gres="gpu:a100:2",
        comment="engine:h0me|x:llama:0:1", priority=4294901759,
        submitted_at=datetime(2026, 11, 25, 0, 32, 11, tzinfo=UTC),
        started_at=datetime(2026, 11, 25, 0, 32, 12, tzinfo=UTC),
        ends_at=datetime(2026, 11, 25, 1, 32, 12, tzinfo=UTC),
    )  # fmt: skip


def test_a_waiting_job_has_an_expected_start_and_has_not_started():
    jobs = by_id(parse.parse_squeue(recorded("squeue.txt")))
    assert jobs["6"].started_at is None and jobs["6"].ends_at is None
    assert jobs["6"].expected_start_at == datetime(2026, 11, 27, 0, 32, 12, tzinfo=UTC)
    assert jobs["8"].expected_start_at is None
    assert jobs["1"].expected_start_at is None


def test_json_tells_the_same_as_the_columns():
    columns = by_id(parse.parse_squeue(recorded("squeue.txt")))
    for job in parse.parse_squeue_json(recorded("squeue-22.05.json")):
        same = columns[job.id]
        assert (job.state, job.nodes, job.gres, job.comment, job.started_at, job.ends_at, job.expected_start_at) == (
            same.state, same.nodes, same.gres, same.comment, same.started_at, same.ends_at, same.expected_start_at
        )  # fmt: skip


def test_json_brings_exit_codes_and_can_be_narrowed_to_one_user():
    jobs = by_id(parse.parse_squeue_json(recorded("squeue-22.05.json"), user="root"))
    assert (jobs["3"].exit_code, jobs["4"].exit_code) == ("7:0", "0:15")
    assert jobs == by_id(parse.parse_squeue_json(recorded("squeue-22.05.json"), user="0"))
    assert parse.parse_squeue_json(recorded("squeue-22.05.json"), user="somebody") == []


def newer(row: dict[str, Any]) -> dict[str, Any]:
    """A row as Slurm 23.11 and later print it (data_parser v0.0.40): written from its documentation, not recorded."""

    def number(value: int | None) -> dict[str, Any]:
        return {"set": value is not None, "infinite": False, "number": value or 0}

    numbers = ("submit_time", "start_time", "end_time", "priority", "array_job_id", "array_task_id")
    code = {
        "status": ["ERROR"],
        "return_code": number(row["exit_code"] >> 8),
        "signal": {"id": number(None), "name": ""},
    }
    return {**row, **{key: number(row[key]) for key in numbers}, "job_state": [row["job_state"]], "exit_code": code}


def test_the_json_of_newer_slurm_is_read_alike():
    rows = [row for row in json.loads(recorded("squeue-22.05.json"))["jobs"] if row["job_state"] != "TIMEOUT"]
    old = parse.parse_squeue_json(json.dumps({"jobs": rows}))
    assert parse.parse_squeue_json(json.dumps({"jobs": [newer(row) for row in rows]})) == old


def test_a_completing_job_has_not_ended_yet():
    row = {**newer(json.loads(recorded("squeue-22.05.json"))["jobs"][0]), "job_state": ["COMPLETED", "COMPLETING"]}
    (job,) = parse.parse_squeue_json(json.dumps({"jobs": [row]}))
    assert job.state == "COMPLETING" and not job.ended and not job.waiting


def test_sacct_tells_exit_codes_and_cancelled_without_by_whom():
    jobs = by_id(parse.parse_sacct(recorded("sacct.txt")))
    assert {i: (job.state, job.exit_code) for i, job in jobs.items()} == {
        "1": ("COMPLETED", "0:0"), "2": ("FAILED", "7:0"), "3": ("FAILED", "0:9"), "4": ("CANCELLED", "0:0")
    }  # fmt: skip
    assert (jobs["1"].gres, jobs["1"].comment, jobs["1"].nodes) == ("gpu:1", "engine:h|x:llama:0:1", "n1")


def test_of_a_requeued_job_the_last_run_counts():
    line = recorded("sacct.txt").splitlines()[0]
    (job,) = parse.parse_sacct(line.replace("COMPLETED", "NODE_FAIL") + "\n" + line)
    assert job.state == "COMPLETED"


def test_scontrol_knows_exit_codes_without_accounting():
    jobs = by_id(parse.parse_scontrol_jobs(recorded("scontrol-jobs.txt")))
    columns = by_id(parse.parse_squeue(recorded("squeue.txt")))
    assert jobs["3"].exit_code == "7:0"
    assert {i: (j.name, j.state, j.gres, j.comment, j.nodes, j.ends_at) for i, j in jobs.items()} == {
        i: (j.name, j.state, j.gres, j.comment, j.nodes, j.ends_at) for i, j in columns.items()
    }


def test_nodes_have_partitions_gpus_and_what_is_used():
    nodes = {node.name: node for node in parse.parse_nodes(recorded("scontrol-nodes.txt"))}
    assert (nodes["n1"].gpus, nodes["n1"].gpus_used, nodes["n2"].gpus_used) == ({"a100": 4}, {"a100": 4}, {"a100": 2})
    assert (nodes["n1"].partitions, nodes["n1"].cpus, nodes["n1"].cpus_used) == (("gpu-large",), 64, 9)
    assert (nodes["n1"].mem_gb, nodes["n1"].mem_gb_used) == (500.0, 5.0)
    assert (nodes["n4"].state, nodes["n4"].reason) == ("DOWN+NOT_RESPONDING", "Not responding")
    assert nodes["n3"].gpus_used == {}


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:a100:4(S:0-1),gpu:l40s:2(IDX:0,1)", {"a100": 4, "l40s": 2}),
        ("gpu:4", {"gpu": 4}),
        ("gpu:3090:2", {"3090": 2}),
        ("gpu:1g.10gb:7,shard:8", {"1g.10gb": 7}),
        ("gres/gpu:a100=2", {"a100": 2}),
        ("gpu:a100:0(IDX:N/A)", {}),
        ("", {}),
    ],
)
def test_gpus_are_counted_by_type(gres, expected):
    assert parse.gpus_of(gres) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("31\n", "31"), ("31;cluster\n", "31"), ("sbatch: a warning\n31\n", "31")]
)
def test_the_job_id_is_found_in_what_sbatch_prints(text, expected):
    assert parse.parse_job_id(text) == expected


@pytest.mark.parametrize("text", ["", "Submitted", "-1"])
def test_no_job_id_is_an_error(text):
    with pytest.raises(ValueError, match="no job id"):
        parse.parse_job_id(text)


def test_the_expected_start_is_read_from_test_only():
    assert parse.parse_expected_start(recorded("test-only.txt")) == datetime(2026, 11, 29, 0, 32, 12, tzinfo=UTC)
    assert parse.parse_expected_start("allocation failure") is None


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("PENDING", "Resources", "waiting for enough free CPUs, memory or GPUs (Resources)"),
        ("PENDING", "Priority", "behind jobs of higher priority"),
        ("PENDING", "", "just submitted"),
        ("PENDING", "QOSMaxGRESPerUser", "limit of its quality of service for one job or one user"),
        ("PENDING", "QOSGrpCpuLimit", "quality of service as a whole"),
        ("PENDING", "AssocGrpGRES", "the account as a whole is at its limit (AssocGrpGRES)"),
        ("PENDING", "ReqNodeNotAvail, UnavailableNodes:n3", "down, drained or reserved"),
        ("PENDING", "BadConstraints", "can never start"),
        ("PENDING", "DependencyNeverSatisfied", "will never start"),
        ("PENDING", "SomethingNew", "waiting (SomethingNew)"),
        ("FAILED", "BadConstraints", "no node fulfils its constraints"),
        ("FAILED", "NonZeroExitCode", "ended with an error (FAILED)"),
        ("OUT_OF_MEMORY", "OutOfMemory", "ran out of memory"),
        ("TIMEOUT", "TimeLimit", "reached its time limit"),
        ("NODE_FAIL", "NodeDown", "its node failed"),
        ("COMPLETING", "", "being cleaned up"),
        ("NEW_STATE", "", "NEW_STATE"),
    ],
)
def test_states_and_reasons_are_told_in_plain_words(state, reason, words):
    assert words in explain(Job(id="1", name="x", state=state, reason=reason))


def test_names_with_line_ends_and_separators_hide_no_other_job() -> None:
    """Recorded from Slurm 22.05: sbatch takes any byte in --job-name and --comment."""
    rest = "\x1fRUNNING\x1fNone\x1fn3\x1froot\x1fp\x1fN/A\x1f{}\x1f42\x1f1764035474\x1f1764035475\x1f1764208275\n"
    plain = rest.format("(null)")
    text = "".join(
        [
            "1\x1fx\ny" + plain,
            "2\x1fa\x1fb" + plain,
            "3\x1fu\u2028\x85\x1cv" + plain,
            "4\x1fodd" + rest.format("co\nmment"),
            "5\x1fsim-0" + rest.format("engine:0123abcd:sim:0:1"),
        ]
    )
    assert list(by_id(parse.parse_squeue(text))) == ["3", "5"]
    assert parse.parse_squeue("") == []


@pytest.mark.parametrize("text", ["squeue: hello\n", "1\x1fsim-0\x1fRUNN", "\n"])
def test_what_is_no_list_of_jobs_or_breaks_off_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no list of jobs"):
        parse.parse_squeue(text)
