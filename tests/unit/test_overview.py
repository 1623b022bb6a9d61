"""What the gateway's overview makes of the fleet: counts, traffic, and what needs attention."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from engine.fleet.deployments import Failure, Replica, Status
from engine.fleet.gpus import GpuType
from engine.fleet.hosts import Endpoint
from engine.fleet.inspection import NginxState, SchedulerState
from engine.gateway.overview import Attention, Traffic, attention, stages, traffic
from engine.gateway.records.cells import BUCKETS_S
from tests.fakes import deployment, serving

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
QUIET = Traffic(300, 0, 0.0, 0.0, 0.0, None, None)
WELL = NginxState(True, True, 1)
UP = [SchedulerState("slurm", True, NOW)]
READY = serving("ready", Endpoint("n1", 1))


def seen(*statuses: Status, **more: object) -> list[Attention]:
    given = {"schedulers": UP, "nginx": WELL, "database_trouble": "", "gpus": {}, "seen": QUIET, "queued": {}, **more}
    return attention(statuses, now=NOW, **given)  # type: ignore[arg-type]


def minute(requests: int, failed: int = 0, tokens: int = 0, bucket: int = 5) -> dict[str, object]:
    counts = [0] * (len(BUCKETS_S) + 1)
    counts[bucket] = requests
    errors = {"overloaded": 0, "refused": 0, "failed": failed, "left": 0}
    shape = {"buckets": counts}
    return {"requests": requests, "completion_tokens": tokens, "errors": errors, "latency_s": shape, "ttft_s": shape}


def test_a_fleet_that_is_well_needs_nobody() -> None:
    assert seen(READY) == []


def test_a_deployment_that_gave_up_is_told_with_its_reason_and_what_to_do() -> None:
    [one] = seen(Status(deployment("llama", replicas=1), gave_up="the model file does not exist"))
    assert one == Attention("bad", "llama failed: the model file does not exist",
                            "read its log, mend the cause, then restart it", "llama")  # fmt: skip


def test_a_deployment_that_fails_again_and_again_is_told_before_it_gives_up() -> None:
    failures = tuple(Failure(0, n, NOW, False, "out of memory") for n in (1, 2))
    [one] = seen(Status(deployment("llama"), (Replica(0, 3, 1),), failures))
    assert (one.level, one.what) == ("bad", "llama failed 2 times: out of memory")


def test_a_job_that_waits_for_long_is_told_and_a_young_one_is_not() -> None:
    waiting = Replica(0, 1, 1, submitted_at=NOW - timedelta(minutes=25), reason="waits for resources (Resources)")
    [one] = seen(Status(deployment("llama"), (waiting,)))
    assert one.what == "llama replica 0 has been waiting for 25 min: waits for resources (Resources)"
    assert seen(Status(deployment("llama"), (replace(waiting, submitted_at=NOW),))) == []


def test_a_model_whose_every_replica_ends_soon_is_told() -> None:
    ending = replace(READY, replicas=tuple(replace(r, expires_at=NOW + timedelta(minutes=9)) for r in READY.replicas))
    [one] = seen(ending)
    assert "ends by 12:09 UTC" in one.what


def test_parts_that_are_down_stand_first() -> None:
    silent = [SchedulerState("slurm", False, NOW, NOW - timedelta(minutes=3), "sinfo: no answer")]
    down = NginxState(True, False, None, "nginx: [emerg] bind() failed")
    gpus = {"slurm": [GpuType("a100", 8, away=4)]}
    found = seen(READY, schedulers=silent, nginx=down, database_trouble="the database is locked", gpus=gpus)
    assert [one.level for one in found] == ["bad", "bad", "bad", "warn"]
    assert found[0].what == "slurm gives no answer since 11:57 UTC: sinfo: no answer"
    assert found[3].what == "4 of 8 a100 GPUs are on nodes that take no jobs"


def test_a_gateway_without_nginx_is_not_told_to_mend_it() -> None:
    assert seen(READY, nginx=NginxState(False)) == []


def test_errors_and_queues_are_told_by_numbers() -> None:
    found = seen(READY, seen=replace(QUIET, requests=100, error_share=0.25), queued={"ready": 12, "other": 0})
    assert [one.what for one in found] == [
        "25% of the requests of the last 5 min failed or were refused",
        "12 requests wait for a slot of ready",
    ]


def test_few_requests_make_no_error_rate() -> None:
    assert seen(READY, seen=replace(QUIET, requests=3, error_share=1.0)) == []


def test_traffic_is_the_sum_of_its_minutes_and_its_quantiles_those_of_all() -> None:
    found = traffic([minute(30, tokens=600), minute(10, failed=4, tokens=0, bucket=9)], window_s=200)  # type: ignore[list-item]
    assert (found.requests, found.requests_per_s, found.tokens_per_s, found.error_share) == (40, 0.2, 3.0, 0.1)
    assert found.ttft_p95_s is not None and BUCKETS_S[8] < found.ttft_p95_s <= BUCKETS_S[9]


def test_no_traffic_has_no_quantiles() -> None:
    assert traffic([], 300) == QUIET


def test_deployments_are_counted_by_what_they_are_doing() -> None:
    statuses = [
        READY,
        Status(deployment("a")),
        Status(deployment("b"), failures=(Failure(0, 1, NOW, False, "x"),)),
        Status(deployment("c", replicas=0)),
        Status(deployment("d"), gave_up="x"),
        Status(deployment("web", kind="app")),
    ]
    assert stages(statuses, "model") == {"ready": 1, "starting": 1, "failing": 2, "stopped": 1}
    assert stages(statuses, "app") == {"ready": 0, "starting": 1, "failing": 0, "stopped": 0}
