"""What replicas are, from what is seen of jobs, leases and ports."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from engine.fleet.deployments import Failure, Replica, Status
from engine.fleet.derive import FAILURES_KEPT, SUBMIT_GRACE, UNNAMED_GRACE, Mark, Observation, derive
from engine.fleet.history import events_between
from engine.fleet.hosts import Endpoint, HostFile, Timing
from engine.fleet.schedulers.jobs import ENDED, RUNNING, WAITING, Job
from tests import fakes

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, S = timedelta(hours=1), timedelta(seconds=1)
HOME = "0123abcd"


def mark(index: int = 0, attempt: int = 1, name: str = "sim", home: str = HOME) -> str:
    return str(Mark(home, name, index, attempt))


def job(state: str = "RUNNING", id: str = "101", **more: object) -> Job:
    started = NOW - HOUR if state in RUNNING else None
    plain = Job(id, "sim-0", state, comment=mark(), nodes="n1" if started else "", started_at=started)
    return replace(plain, **more)


def lease(attempt: int = 1, id: str = "101", **more: object) -> HostFile:
    plain = HostFile("sim", 0, attempt, id, "ready", "n1", 9000, "n1", NOW - HOUR, NOW - HOUR, NOW, 5, 30.0,
                     timing=Timing(2.0, 0.1))  # fmt: skip
    return replace(plain, **more)


def known(**more: object) -> Replica:
    return replace(Replica(0, 1, 1, job_id="101", submitted_at=NOW - HOUR), **more)


def loaded(**more: object) -> Replica:
    return replace(known(stage="loading", job_state="RUNNING", node="n1", started_at=NOW - HOUR), **more)


def ready(**more: object) -> Replica:
    there = Endpoint("n1", 9000, "secret")
    return replace(loaded(stage="ready", ready_at=NOW - HOUR, endpoint=there, in_rotation=True), **more)


def status(*replicas: Replica, failures: tuple[Failure, ...] = (), **more: object) -> Status:
    asked = fakes.deployment(**{"replicas": 1, **more})
    return Status(asked, replicas, failures, next_attempt=2, replica_key="secret")


def seen(*jobs: Job, leases: tuple[HostFile, ...] = (), fresh: bool = True, refused: bool = False, at: datetime = NOW,
         silent: bool = False) -> Observation:  # fmt: skip
    ids = frozenset(each.job_id for each in leases)
    return Observation(
        None if silent else jobs,
        at,
        {each.job_id: each for each in leases},
        ids if fresh else frozenset(),
        frozenset({"101"}) if refused else frozenset(),
        lambda replica: "CUDA out of memory",
    )


def look(before: Status, observation: Observation, now: datetime = NOW) -> Status:
    return derive(before, observation, HOME, now)


def one(before: Status, observation: Observation, now: datetime = NOW) -> Replica:
    (replica,) = look(before, observation, now).replicas
    return replica


def kinds(before: Status, after: Status) -> list[str]:
    return [event.kind for event in events_between(before, after, NOW)]


@pytest.mark.parametrize("state", sorted(WAITING))
def test_a_job_that_waits_is_queued_with_its_reason(state: str) -> None:
    replica = one(status(known()), seen(job(state, reason="Resources", started_at=None)))
    assert (replica.stage, replica.job_state, replica.in_rotation) == ("queued", state, False)
    assert replica.reason


@pytest.mark.parametrize("state", [*sorted(RUNNING), "COMPLETING", "A_STATE_OF_SLURM_99"])
def test_a_job_that_runs_without_a_lease_loads(state: str) -> None:
    replica = one(status(known()), seen(job(state, started_at=NOW - HOUR)))
    assert (replica.stage, replica.live, replica.started_at) == ("loading", True, NOW - HOUR)


def test_a_job_that_runs_with_a_fresh_lease_is_ready_at_its_address() -> None:
    before = status(loaded())
    after = look(before, seen(job(ends_at=NOW + HOUR), leases=(lease(),)))
    (replica,) = after.replicas
    assert replica.serving and replica.endpoint == Endpoint("n1", 9000, "secret")
    assert (replica.expires_at, replica.timing) == (NOW + HOUR, Timing(2.0, 0.1))
    assert kinds(before, after) == ["ready"]


def test_a_lease_is_believed_before_a_squeue_that_lags() -> None:
    replica = one(status(known()), seen(job("PENDING", started_at=None), leases=(lease(),)))
    assert replica.serving and replica.job_state == "RUNNING"


ROTATION = {
    "fresh": (True, False, True, False),
    "stale": (False, False, False, False),
    "refused": (True, True, False, False),
    "both": (False, True, False, True),
}


@pytest.mark.parametrize(("fresh", "refused", "serves", "silent"), ROTATION.values(), ids=ROTATION)
@pytest.mark.parametrize("quiet", [False, True], ids=["answered", "scheduler silent"])
def test_lease_and_port_decide_the_rotation_and_only_both_dead_count_as_silent(
    fresh: bool, refused: bool, serves: bool, silent: bool, quiet: bool
) -> None:
    before = status(ready())
    after = look(before, seen(job(), leases=(lease(),), fresh=fresh, refused=refused, silent=quiet))
    (replica,) = after.replicas
    assert (replica.stage, replica.serving, replica.silent_since is not None) == ("ready", serves, silent)
    assert kinds(before, after) == ([] if serves else ["silent"])
    assert bool(replica.reason) is not serves


def test_one_that_answers_again_is_back() -> None:
    before = status(ready(in_rotation=False, silent_since=NOW - 60 * S))
    after = look(before, seen(job(), leases=(lease(),)))
    assert after.replicas[0].serving and after.replicas[0].silent_since is None
    assert kinds(before, after) == ["back"]


def test_a_lost_host_file_takes_out_of_rotation_but_says_nothing_of_death_while_the_port_answers() -> None:
    replica = one(status(ready()), seen(job()))
    assert (replica.serving, replica.silent_since) == (False, None)
    replica = one(status(ready()), seen(job(), refused=True))
    assert (replica.serving, replica.silent_since) == (False, NOW)


@pytest.mark.parametrize("state", sorted(ENDED))
@pytest.mark.parametrize("before", [known(), loaded(), ready()], ids=["queued", "loading", "ready"])
def test_a_job_that_ended_unasked_is_a_failure_with_its_last_words(state: str, before: Replica) -> None:
    was = status(before)
    after = look(was, seen(job(state)))
    (replica,), (failure,) = after.replicas, after.failures
    assert (replica.stage, replica.job_state, replica.in_rotation) == ("failed", state, False)
    assert failure.was_ready is (before.ready_at is not None)
    assert "CUDA out of memory" in failure.reason
    assert kinds(was, after) == ["failed"]


@pytest.mark.parametrize("state", sorted(ENDED))
def test_a_job_that_ended_as_asked_is_gone_without_a_failure(state: str) -> None:
    for asked in ({"drain_asked_at": NOW}, {"cancel_asked_at": NOW}):
        before = status(ready(stage="draining", **asked))
        after = look(before, seen(job(state)))
        assert (after.replicas, after.failures) == ((), ())
        assert kinds(before, after) == ["ended"]


def test_draining_by_itself_before_the_time_limit_is_no_failure() -> None:
    before = status(ready())
    drains = look(before, seen(job(), leases=(lease(stage="draining"),)))
    assert (drains.replicas[0].stage, drains.replicas[0].serving) == ("draining", False)
    assert kinds(before, drains) == ["draining"]
    leaves = look(drains, seen(job("COMPLETING")))
    assert leaves.replicas[0].stage == "draining"
    ended = look(leaves, seen(job("COMPLETED")))
    assert (ended.replicas, ended.failures) == ((), ())


def test_running_into_the_time_limit_after_it_served_is_a_late_death() -> None:
    (failure,) = look(status(ready(stage="draining")), seen(job("TIMEOUT"))).failures
    assert failure.was_ready


def test_one_that_became_ready_unseen_and_died_was_ready() -> None:
    (failure,) = look(status(loaded()), seen(job("NODE_FAIL"), leases=(lease(),), fresh=False)).failures
    assert failure.was_ready


def test_a_requeued_job_begins_a_new_life() -> None:
    before = status(ready(expires_at=NOW + HOUR, silent_since=NOW, timing=Timing()))
    after = look(before, seen(job("PENDING", started_at=None), leases=(lease(),), fresh=False))
    (waits,) = after.replicas
    assert (waits.stage, waits.job_state, waits.endpoint, waits.started_at, waits.ready_at) == (
        "queued", "PENDING", None, None, None)  # fmt: skip
    assert (waits.silent_since, waits.expires_at, waits.timing, waits.node) == (None, None, None, "")
    assert kinds(before, after) == ["requeued"]
    again = look(after, seen(job(), leases=(lease(),), fresh=False, refused=True))
    assert (again.replicas[0].stage, again.replicas[0].silent_since) == ("loading", None)
    assert look(again, seen(job(), leases=(lease(restart=1),))).replicas[0].serving


def test_a_drained_or_cancelled_one_never_comes_back_into_rotation() -> None:
    for asked in ({"drain_asked_at": NOW}, {"cancel_asked_at": NOW}):
        replica = one(status(ready(**asked)), seen(job(), leases=(lease(),)))
        assert (replica.stage, replica.serving) == ("draining", False)


def test_a_silent_scheduler_changes_nothing_but_the_rotation() -> None:
    for replica in (known(), loaded(), ready(drain_asked_at=NOW, stage="draining", in_rotation=False)):
        assert look(status(replica), seen(silent=True)).replicas == (replica,)
    assert look(status(known(job_id="")), seen(silent=True), NOW + HOUR).replicas == (known(job_id=""),)


def test_another_job_with_a_recycled_id_is_not_taken_for_ours() -> None:
    for other in (
        "",
        "engine:ffff0000:sim:0:1",
        mark(name="mis"),
        mark(attempt=7, name="sim", home="x"),
        "engine:x",
        "a:b",
    ):
        after = look(status(ready()), seen(job("RUNNING", comment=other)))
        assert after.replicas[0].stage == "failed" and "vanished" in after.replicas[0].reason


def test_an_ended_job_that_accounting_tells_without_its_comment_is_known_by_id_and_name() -> None:
    ended = job("NODE_FAIL", comment="")
    after = look(status(ready()), seen(ended))
    assert "vanished" not in str(after) and "NODE_FAIL" in str(after)
    for other in (replace(ended, name="sim-1"), replace(ended, id="7"), replace(ended, name="other")):
        assert "vanished" in look(status(ready()), seen(other)).replicas[0].reason


def test_comments_that_only_look_like_ours_do_no_harm() -> None:
    odd = [
        job(id=str(n), comment=text)
        for n, text in enumerate([f"engine:{HOME}:sim:x:y", f"engine:{HOME}:sim:1", f"engine:{HOME}:sim:1:2:3"])
    ]
    assert look(status(ready()), seen(job(), *odd, leases=(lease(),))).replicas[0].serving


def test_squeue_may_lag_behind_sbatch() -> None:
    young = status(known(submitted_at=NOW))
    assert one(young, seen(at=NOW - 20 * S)).live
    assert one(young, seen(at=NOW + SUBMIT_GRACE - S)).live
    assert not one(young, seen(at=NOW + SUBMIT_GRACE + S)).live


def test_a_job_that_squeue_does_not_list_lives_while_its_lease_does() -> None:
    assert one(status(ready()), seen(leases=(lease(),))).serving


def test_an_unnamed_record_finds_its_job_by_the_mark() -> None:
    before = status(known(job_id="", submitted_at=NOW))
    after = look(before, seen(job("PENDING", id="555", started_at=None)))
    assert after.replicas[0].job_id == "555" and kinds(before, after) == ["found"]


def test_an_unnamed_record_that_no_job_answers_for_is_dropped_in_the_end() -> None:
    before = status(known(job_id="", submitted_at=NOW))
    assert look(before, seen(at=NOW + UNNAMED_GRACE - S)).replicas == before.replicas
    after = look(before, seen(at=NOW + UNNAMED_GRACE + S))
    assert (after.replicas, after.failures) == ((), ())
    assert kinds(before, after) == ["never-queued"]


def test_a_job_without_a_record_is_adopted() -> None:
    before = status()
    after = look(before, seen(job(id="77", comment=mark(2, 5)), leases=(lease(5, "77"),)))
    (replica,) = after.replicas
    assert (replica.index, replica.attempt, replica.job_id, replica.serving) == (2, 5, "77", True)
    assert after.next_attempt == 6
    assert kinds(before, after) == ["adopted"]


@pytest.mark.parametrize(("left", "told"), [(40 * S, True), (23 * HOUR, False)])
def test_one_that_left_before_it_served_because_its_time_limit_came_says_so(left: timedelta, told: bool) -> None:
    before = loaded(started_at=NOW - HOUR, expires_at=NOW + left)
    (failure,) = look(status(before), seen(job("COMPLETED"))).failures
    assert ("its time limit came before it served" in failure.reason) == told
    # One that had served is not told so: it may have ended for any reason.
    (failure,) = look(status(ready(expires_at=NOW + left)), seen(job("COMPLETED"))).failures
    assert "time limit" not in failure.reason


def test_a_job_that_ended_is_not_adopted() -> None:
    assert look(status(), seen(job("COMPLETED"))).replicas == ()


def test_a_job_given_up_for_dead_too_early_is_taken_over_again() -> None:
    before = status(ready())
    vanished = look(before, seen())
    assert vanished.replicas[0].stage == "failed"
    back = look(vanished, seen(job(), leases=(lease(),)))
    assert back.replicas[0].serving and back.failures == ()
    assert "adopted" in kinds(vanished, back)


def test_a_job_of_a_former_deployment_of_the_same_name_is_not_ours() -> None:
    before = status(known(attempt=8, job_id="200"), first_attempt=8)
    after = look(before, seen(job("CANCELLED"), job(id="102", comment=mark(1, 7))))
    assert after.replicas[0].stage == "failed" and len(after.replicas) == 1


def test_a_script_submitted_again_by_hand_does_not_displace_the_job_we_know() -> None:
    twin = job("COMPLETED", id="999")
    for order in ((job(), twin), (twin, job())):
        assert one(status(ready()), seen(*order, leases=(lease(),))).serving


def test_a_host_file_left_by_another_attempt_is_not_believed() -> None:
    assert one(status(loaded(attempt=4)), seen(job(comment=mark(0, 4)), leases=(lease(attempt=1),))).stage == "loading"


def test_a_failed_one_is_shown_until_its_place_is_held() -> None:
    failed = known(stage="failed", reason="boom")
    assert failed in look(status(failed), seen()).replicas
    successor = known(attempt=2, job_id="102", submitted_at=NOW)
    assert look(status(failed, successor, replicas=2), seen()).replicas == (successor,)
    elsewhere = replace(successor, index=3)
    assert look(status(failed, elsewhere, replicas=1), seen()).replicas == (elsewhere,)
    assert look(status(failed, replicas=0), seen()).replicas == ()


def test_early_deaths_count_however_long_each_took_until_one_serves() -> None:
    slow = tuple(Failure(0, n, NOW - FAILURES_KEPT * (4 - n), False, "load timeout") for n in (1, 2))
    assert look(status(failures=slow), seen()).failures == slow
    serves = ready(attempt=3, job_id="103")
    assert look(status(serves, failures=slow), seen(leases=(lease(3, "103"),))).failures == ()


def test_late_deaths_are_forgotten_in_time() -> None:
    old, new = (Failure(0, n, NOW - age, True, "node failed") for n, age in ((1, FAILURES_KEPT + S), (2, S)))
    assert look(status(failures=(old, new)), seen()).failures == (new,)
