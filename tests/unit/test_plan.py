"""The policy: tables of cases, and what must hold whatever the state."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.fleet.deployments import Failure, Replica, Status
from engine.fleet.hosts import Endpoint
from engine.fleet.plan import (
    CANCEL_GRACE,
    GIVE_UP_AFTER,
    LONGEST_DELAY,
    MAKE_ROOM_AFTER,
    MAKE_ROOM_SHORT_AFTER,
    RENEW_BEFORE,
    SILENT_TOO_LONG,
    Action,
    Cancel,
    Drain,
    Forget,
    GiveUp,
    Submit,
    backoff,
    plan,
)
from tests import fakes

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
S = timedelta(seconds=1)


def ready(index: int, attempt: int = 0, **more: object) -> Replica:
    plain = Replica(
        index,
        attempt or index + 1,
        generation=1,
        stage="ready",
        job_id=str(100 + (attempt or index + 1)),
        job_state="RUNNING",
        endpoint=Endpoint("n1", 9000 + index),
        in_rotation=True,
        submitted_at=NOW - HOUR,
        started_at=NOW - HOUR,
        ready_at=NOW - HOUR,
        expires_at=NOW + 24 * HOUR,
    )
    return replace(plain, **more)


def queued(index: int, attempt: int = 0, **more: object) -> Replica:
    return replace(Replica(index, attempt or index + 1, 1, job_id=str(100 + (attempt or index + 1))), **more)


def loading(index: int, attempt: int = 0, **more: object) -> Replica:
    return queued(index, attempt, stage="loading", started_at=NOW - 60 * S, **more)


def status(*replicas: Replica, wanted: int | None = None, failures: tuple[Failure, ...] = (), **more: object) -> Status:
    asked = fakes.deployment(replicas=len(replicas) if wanted is None else wanted, **more)
    return Status(asked, replicas, failures, next_attempt=max([0, *(r.attempt for r in replicas)]) + 1)


def death(index: int, age: timedelta, was_ready: bool = False, attempt: int = 1) -> Failure:
    return Failure(index, attempt, NOW - age, was_ready, "exit code 1; last line of its log: out of memory")


def short(actions: list[Action]) -> list[tuple[object, ...]]:
    """Actions without their words, as (what, index or attempt)."""
    found: list[tuple[object, ...]] = []
    for action in actions:
        match action:
            case Submit(index):
                found.append(("submit", index))
            case Drain(replica) | Cancel(replica):
                found.append((type(action).__name__.lower(), replica.attempt))
            case _:
                found.append((type(action).__name__.lower(),))
    return found


ASKED = NOW - 10 * S
CASES = {
    "nothing yet": (status(wanted=2), [("submit", 0), ("submit", 1)]),
    "nothing wanted": (status(wanted=0), []),
    "all serve": (status(ready(0), ready(1)), []),
    "one is queued, one loads": (status(queued(0), loading(1)), []),
    "one of two is missing": (status(ready(1), wanted=2), [("submit", 0)]),
    "one drains: another takes its place": (
        status(ready(0, stage="draining", drain_asked_at=ASKED, signalled_at=ASKED), wanted=1),
        [("submit", 0)],
    ),
    "scaled down: what does not serve goes first": (status(ready(0), queued(1), wanted=1), [("drain", 2)]),
    "scaled down: then the highest index": (
        status(ready(0), ready(1), ready(2), wanted=1),
        [("drain", 3), ("drain", 2)],
    ),
    "scaled to nothing": (status(ready(0), wanted=0), [("drain", 1)]),
    "stopped": (status(ready(0), loading(1), stopping=True), [("drain", 1), ("drain", 2)]),
    "stopped, and all drain": (
        status(ready(0, stage="draining", drain_asked_at=ASKED, signalled_at=ASKED), stopping=True, wanted=0),
        [],
    ),
    "stopped, and all have ended": (status(queued(0, stage="failed"), stopping=True, wanted=0), [("forget",)]),
    "a signal that was not delivered": (
        status(ready(0, stage="draining", drain_asked_at=ASKED), wanted=0),
        [("drain", 1)],
    ),
    "a queued one that was cancelled is not asked again": (
        status(queued(0, stage="draining", drain_asked_at=ASKED, cancel_asked_at=ASKED), wanted=0),
        [],
    ),
    "a drain past its limit": (
        status(ready(0, stage="draining", drain_asked_at=NOW - HOUR, signalled_at=NOW - HOUR), wanted=0),
        [("cancel", 1)],
    ),
    "a drain past its limit, cancelled just now": (
        status(ready(0, drain_asked_at=NOW - HOUR, signalled_at=NOW - HOUR, cancel_asked_at=ASKED), wanted=0),
        [],
    ),
    "a silent one is left alone at first": (status(ready(0, in_rotation=False, silent_since=NOW - 60 * S)), []),
    "a silent one is replaced in the end": (
        status(ready(0, in_rotation=False, silent_since=NOW - SILENT_TOO_LONG - S)),
        [("cancel", 1), ("submit", 0)],
    ),
    "a silent one that is scaled away is cancelled once": (
        status(ready(0, in_rotation=False, silent_since=NOW - SILENT_TOO_LONG - S), wanted=0),
        [("cancel", 1)],
    ),
    "a silent one of a stopped deployment is cancelled, not asked": (
        status(ready(0, in_rotation=False, silent_since=NOW - SILENT_TOO_LONG - S), stopping=True, wanted=0),
        [("cancel", 1)],
    ),
    "a cancelled one that lingers is replaced": (status(ready(0, cancel_asked_at=ASKED)), [("submit", 0)]),
    "a cancelled one that lingers is cancelled again": (
        status(ready(0, cancel_asked_at=NOW - CANCEL_GRACE - S), wanted=0),
        [("cancel", 1)],
    ),
    "near its time limit: the successor is submitted early": (
        status(ready(0, started_at=NOW - 24 * HOUR, expires_at=NOW + RENEW_BEFORE - S)),
        [("submit", 0)],
    ),
    "near its time limit, and the successor loads": (
        status(ready(0, expires_at=NOW + 60 * S), loading(0, 2), wanted=1),
        [],
    ),
    "near its time limit, and the successor serves": (
        status(ready(0, expires_at=NOW + 60 * S), ready(0, 2), wanted=1),
        [("drain", 1)],
    ),
    "a short life is renewed in its last quarter": (
        status(ready(0, started_at=NOW - 50 * S, expires_at=NOW + 50 * S), wanted=1),
        [],
    ),
    "one that has never come up is not renewed": (
        status(loading(0, expires_at=NOW + 5 * S), wanted=1),
        [],
    ),
    "it drains by itself before its time limit": (
        status(ready(0, stage="draining", in_rotation=False)),
        [("submit", 0)],
    ),
    "it drains by itself and the successor waits": (
        status(ready(0, stage="draining", in_rotation=False), queued(0, 2), wanted=1),
        [],
    ),
    "a restart submits beside what serves": (status(ready(0), ready(1), generation=2), [("submit", 0), ("submit", 1)]),
    "a restart ends at once what never served": (status(queued(0), generation=2), [("drain", 1), ("submit", 0)]),
    "a restart drains an old one for each new one that serves": (
        status(ready(0), ready(1), ready(0, 3, generation=2), loading(1, 4, generation=2), wanted=2, generation=2),
        [("drain", 1)],
    ),
    "a restart ends old ones that do not answer once the new ones serve": (
        status(ready(0, in_rotation=False), ready(0, 2, generation=2), wanted=1, generation=2),
        [("drain", 1)],
    ),
    "a failed one is seen, and replaced": (
        status(queued(0, stage="failed"), wanted=1, failures=(death(0, 1 * S),)),
        [("submit", 0)],
    ),
}


@pytest.mark.parametrize(("now_is", "wanted"), CASES.values(), ids=CASES)
def test_the_plan_for_a_state(now_is: Status, wanted: list[tuple[object, ...]]) -> None:
    assert short(plan(now_is, NOW)) == wanted


def restarting(
    *, wanted: int, waited: timedelta, serving_old: int, loads: bool = False, leaves: bool = False
) -> Status:
    old = [ready(index) for index in range(serving_old)]
    new = [queued(i, 10 + i, generation=2, submitted_at=NOW - waited) for i in range(wanted)]
    if loads:
        new[0] = replace(new[0], stage="loading", started_at=NOW)
    if leaves:
        old.append(ready(9, drain_asked_at=ASKED, signalled_at=ASKED, stage="draining"))
    return status(*old, *new, wanted=wanted, generation=2)


def test_the_successor_is_submitted_before_slurm_warns_and_not_by_the_warning() -> None:
    warned = 420 * S
    for life, before in ((24 * HOUR, RENEW_BEFORE), (1 * HOUR, HOUR / 4)):
        early = ready(0, started_at=NOW - life + warned + before + S, expires_at=NOW + warned + before + S)
        assert plan(status(early, wanted=1), NOW, warned) == []
        assert short(plan(status(early, wanted=1), NOW + 2 * S, warned)) == [("submit", 0)]


def test_a_restart_on_a_full_cluster_gives_one_place_at_a_time_to_a_successor() -> None:
    late = MAKE_ROOM_AFTER + S
    assert short(plan(restarting(wanted=3, waited=late, serving_old=3), NOW)) == [("drain", 1)]
    assert plan(restarting(wanted=3, waited=MAKE_ROOM_AFTER - S, serving_old=3), NOW) == []
    assert plan(restarting(wanted=3, waited=late, serving_old=2, leaves=True), NOW) == []
    assert plan(restarting(wanted=3, waited=late, serving_old=2), NOW) == []
    assert plan(restarting(wanted=3, waited=late, serving_old=2, loads=True), NOW) == []


def test_a_restart_goes_on_where_the_cluster_never_had_room_for_all() -> None:
    waited = MAKE_ROOM_SHORT_AFTER + S
    assert short(plan(restarting(wanted=3, waited=waited, serving_old=1), NOW)) == [("drain", 1)]


def test_backing_off_grows_and_is_bounded() -> None:
    waits = []
    for count in range(12):
        failures = tuple(death(0, S, was_ready=True, attempt=n + 1) for n in range(count))
        waits.append(backoff(status(wanted=1, failures=failures), 0)[0].total_seconds())
    assert waits[:6] == [0, 0, 5, 10, 20, 40]
    assert waits == sorted(waits) and waits[-1] == LONGEST_DELAY.total_seconds()


def test_a_replacement_waits_for_its_back_off() -> None:
    failures = (death(0, 100 * S), death(0, 4 * S))
    assert plan(status(wanted=1, failures=failures), NOW) == []
    assert plan(status(wanted=1, failures=failures), NOW + 2 * S) == [Submit(0)]


def test_the_back_off_of_one_index_holds_up_no_other() -> None:
    failures = (death(0, 100 * S), death(0, S))
    assert plan(status(wanted=2, failures=failures), NOW) == [Submit(1)]


def test_one_that_had_served_is_replaced_at_once() -> None:
    assert plan(status(wanted=1, failures=(death(0, timedelta(0), was_ready=True),)), NOW) == [Submit(0)]


def test_after_three_early_deaths_it_gives_up_and_says_why() -> None:
    early = tuple(death(0, HOUR, attempt=n) for n in range(GIVE_UP_AFTER))
    (gives_up,) = plan(status(wanted=1, failures=early), NOW)
    assert isinstance(gives_up, GiveUp) and "3 attempts" in gives_up.reason and "out of memory" in gives_up.reason
    served_once = (*early[:2], death(0, HOUR, was_ready=True), early[2])
    assert plan(status(wanted=1, failures=served_once), NOW) == [Submit(0)]


def test_having_given_up_it_submits_no_more_but_still_drains() -> None:
    given_up = replace(status(ready(0), ready(1), wanted=1), gave_up="because")
    assert short(plan(given_up, NOW)) == [("drain", 2)]
    assert plan(replace(status(wanted=3), gave_up="because"), NOW) == []


# What must hold for any state at all.

ages = st.sampled_from([timedelta(0), 20 * S, 70 * S, 6 * timedelta(minutes=1), HOUR])
moments = st.none() | ages.map(lambda age: NOW - age)


@st.composite
def replicas(draw: st.DrawFn, attempt: int) -> Replica:
    stage = draw(st.sampled_from(["queued", "loading", "ready", "ready", "draining", "failed"]))
    started = stage not in ("queued", "failed")
    drained = draw(moments) if stage == "draining" else None
    return Replica(
        index=draw(st.integers(0, 4)),
        attempt=attempt,
        generation=draw(st.integers(1, 2)),
        stage=stage,
        job_id=draw(st.sampled_from(["", str(attempt)])) if stage == "queued" else str(attempt),
        endpoint=Endpoint("n1", 9000) if stage == "ready" else None,
        in_rotation=stage == "ready" and draw(st.booleans()),
        submitted_at=NOW - draw(ages),
        started_at=NOW - HOUR if started else None,
        ready_at=NOW - HOUR if stage == "ready" else None,
        expires_at=draw(st.sampled_from([None, NOW + 60 * S, NOW + 100 * HOUR])) if started else None,
        silent_since=draw(moments) if stage == "ready" else None,
        drain_asked_at=drained,
        signalled_at=drained if draw(st.booleans()) else None,
        cancel_asked_at=draw(moments) if stage != "failed" and draw(st.integers(0, 4)) == 0 else None,
    )


@st.composite
def states(draw: st.DrawFn) -> Status:
    count = draw(st.integers(0, 6))
    stopping = draw(st.integers(0, 5)) == 0
    return Status(
        fakes.deployment(
            replicas=0 if stopping else draw(st.integers(0, 4)), generation=draw(st.integers(1, 2)), stopping=stopping
        ),
        tuple(draw(replicas(attempt)) for attempt in range(1, count + 1)),
        tuple(
            Failure(draw(st.integers(0, 4)), 90 + n, NOW - draw(ages), draw(st.booleans()), "it died")
            for n in range(draw(st.integers(0, 4)))
        ),
        next_attempt=100,
        gave_up=draw(st.sampled_from(["", "", "", "because"])),
    )


def applied(state: Status, actions: list[Action]) -> Status:
    """The state once everything was done, and was answered."""
    for action in actions:
        match action:
            case Submit(index):
                new = Replica(index, state.next_attempt, state.deployment.generation, job_id="9", submitted_at=NOW)
                state = replace(state, replicas=(*state.replicas, new), next_attempt=state.next_attempt + 1)
            case Drain(replica) | Cancel(replica):
                asked = {"drain_asked_at": replica.drain_asked_at or NOW} if isinstance(action, Drain) else {}
                done = {"signalled_at": NOW} if isinstance(action, Drain) else {"cancel_asked_at": NOW}
                gone = replace(replica, in_rotation=False, **asked, **done)
                state = replace(
                    state, replicas=tuple(gone if known.attempt == gone.attempt else known for known in state.replicas)
                )
            case GiveUp(reason):
                state = replace(state, gave_up=reason)
    return state


def by_kind(actions: list[Action], kind: type) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


@settings(max_examples=300, deadline=None)
@given(states())
def test_planning_anew_after_doing_it_all_asks_for_nothing_new(state: Status) -> None:
    actions = plan(state, NOW)
    if Forget() not in actions:
        assert plan(applied(state, actions), NOW) == []


@settings(max_examples=300, deadline=None)
@given(states())
def test_no_more_are_held_than_are_wanted_beside_those_that_fade(state: Status) -> None:
    before = {replica.attempt for replica in state.replicas}
    after = applied(state, plan(state, NOW))
    held = [replica for replica in after.replicas if replica.live and not replica.leaving]
    new = [replica for replica in held if replica.attempt not in before]
    assert len({replica.index for replica in new}) == len(new)
    if new:
        fresh = [r for r in held if r.generation == after.deployment.generation and r.stage != "draining"]
        near_the_end = [r for r in fresh if r.expires_at == NOW + 60 * S and r.ready_at]
        newest = [r for r in fresh if r.generation >= after.deployment.generation and r not in near_the_end]
        assert len(newest) <= after.deployment.replicas


@settings(max_examples=300, deadline=None)
@given(states())
def test_each_replica_is_acted_on_at_most_once(state: Status) -> None:
    actions = plan(state, NOW)
    touched = [action.replica.attempt for action in actions if isinstance(action, Drain | Cancel)]
    assert len(touched) == len(set(touched))


@settings(max_examples=300, deadline=None)
@given(states())
def test_what_serves_is_drained_only_where_enough_others_serve_or_one_makes_room(state: Status) -> None:
    if state.deployment.stopping:
        return
    actions = plan(state, NOW)
    drained = [a for a in actions if isinstance(a, Drain) and a.replica.serving]
    cancelled = {a.replica.attempt for a in by_kind(actions, Cancel) if isinstance(a, Cancel)}
    held = [r for r in state.replicas if r.serving and not r.leaving and r.attempt not in cancelled]
    for_room = [action for action in drained if action.why == "makes room for its successor"]
    assert len(for_room) <= 1
    if drained and not for_room:
        kept = len(held) - len(drained)
        surplus = [a for a in drained if a.why.startswith("scaled")]
        assert surplus or kept >= state.deployment.replicas
