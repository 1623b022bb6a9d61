"""plan(status, now) -> actions: all the policy of keeping replicas up. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from engine.fleet.deployments import Replica, Status

GIVE_UP_AFTER = 3
FIRST_DELAY = timedelta(seconds=5)
LONGEST_DELAY = timedelta(minutes=5)
# A replica whose lease and port are both dead, though its job is said to run, is replaced after this.
SILENT_TOO_LONG = timedelta(minutes=5)
# The successor is submitted this long, or a quarter of a life if that is less, before Slurm warns a replica of its time
# limit: upon the warning it drains.
RENEW_BEFORE = timedelta(minutes=30)
# A restart whose successor has waited this long for resources gives it the place of one old replica.
MAKE_ROOM_AFTER = timedelta(seconds=60)
# Where fewer serve than are wanted, for a place that was just given up may not have been taken yet.
MAKE_ROOM_SHORT_AFTER = timedelta(minutes=5)
# After the drain's own limit the sidecar gets this long before its job is cancelled.
CANCEL_GRACE = timedelta(seconds=30)


@dataclass(frozen=True)
class Submit:
    """Starts the replica of this index anew."""

    index: int


@dataclass(frozen=True)
class Drain:
    """Takes a replica out of rotation, then asks its sidecar to let its requests end."""

    replica: Replica
    why: str


@dataclass(frozen=True)
class Cancel:
    """Ends a job at once."""

    replica: Replica
    why: str


@dataclass(frozen=True)
class GiveUp:
    """No further attempt until somebody asks for one."""

    reason: str


@dataclass(frozen=True)
class Forget:
    """Everything of a stopped deployment has ended."""


Action = Submit | Drain | Cancel | GiveUp | Forget


def plan(status: Status, now: datetime, warned: timedelta = timedelta(0)) -> list[Action]:
    """What to do so that the wanted number of replicas serves, and nothing that serves is ended before its successor
    serves. `warned` is how long before its time limit a replica is told to drain.
    """
    live = [replica for replica in status.replicas if replica.live]
    overdue = [action for replica in live for action in _see_through(replica, status, now)]
    given_up = [action.replica for action in overdue]
    kept = [replica for replica in live if not replica.leaving and replica not in given_up]
    if status.deployment.stopping:
        stops = [Drain(replica, "the deployment is stopped") for replica in kept]
        return [*overdue, *stops] if live else [Forget()]
    fading = [replica for replica in kept if _is_fading(replica, status, now + warned)]
    current = [replica for replica in kept if replica not in fading]
    retired = _retire(status, current, fading, any_leaves=len(kept) < len(live), now=now)
    return [*overdue, *retired, *_replace(status, current, now)]


def backoff(status: Status, index: int) -> tuple[timedelta, int]:
    """How long to wait after the last failure of this index, and how many early deaths in a row it has had.

    A server that had served is replaced at once; each further failure doubles the wait from 5 s to 5 min.
    """
    failures = [failure for failure in status.failures if failure.index == index]
    early = 0
    for failure in reversed(failures):
        if failure.was_ready:
            break
        early += 1
    if len(failures) <= 1:
        return timedelta(0), early
    return min(FIRST_DELAY * 2 ** min(len(failures) - 2, 10), LONGEST_DELAY), early


def _see_through(replica: Replica, status: Status, now: datetime) -> list[Drain | Cancel]:
    """Finishes what was begun: an undelivered signal, a drain past its limit, a silence too long."""
    if replica.cancel_asked_at and now - replica.cancel_asked_at < CANCEL_GRACE:
        return []
    if replica.drain_asked_at:
        limit = timedelta(seconds=status.deployment.drain_timeout_s) + CANCEL_GRACE
        if now - replica.drain_asked_at > limit:
            return [Cancel(replica, f"did not end within {limit.total_seconds():.0f} s of being asked")]
        return [] if replica.signalled_at or replica.cancel_asked_at else [Drain(replica, "")]
    if replica.cancel_asked_at:
        return [Cancel(replica, "is still there after it was cancelled")]
    if replica.silent_since and now - replica.silent_since > SILENT_TOO_LONG:
        return [Cancel(replica, f"silent since {replica.silent_since:%H:%M:%S}: {replica.reason}")]
    return []


def _is_fading(replica: Replica, status: Status, until: datetime) -> bool:
    """True for a replica whose successor should be on its way: of an older generation, draining by itself, or at
    `until` near its end.
    """
    if replica.generation < status.deployment.generation or replica.stage == "draining":
        return True
    # One that has not come up by then never will: its end counts as an early death.
    if replica.expires_at is None or replica.started_at is None or replica.ready_at is None:
        return False
    life = replica.expires_at - replica.started_at
    return replica.expires_at - until < min(RENEW_BEFORE, life / 4)


def _retire(
    status: Status, current: list[Replica], fading: list[Replica], any_leaves: bool, now: datetime
) -> list[Drain]:
    wanted = status.deployment.replicas
    by_use = sorted(current, key=lambda replica: (replica.serving, replica.stage == "loading", -replica.index))
    surplus = by_use[: max(0, len(current) - wanted)]
    useless = [old for old in fading if old.stage in ("queued", "loading")]
    serving_old = sorted((old for old in fading if old.serving), key=lambda replica: replica.attempt)
    serving_new = sum(replica.serving for replica in current if replica not in surplus)
    enough = serving_new + len(serving_old) - wanted
    silent = [old for old in fading if old.stage == "ready" and not old.serving and serving_new >= wanted]
    room = not any_leaves and _is_room_needed(status, current, serving_old, now)
    replaced = serving_old[: max(0, enough, int(room))]
    return [
        *(Drain(replica, f"scaled to {wanted}") for replica in surplus),
        *(Drain(replica, "replaced before it ever served") for replica in useless),
        *(
            Drain(replica, "its successor serves" if enough > 0 else "makes room for its successor")
            for replica in [*silent, *replaced]
        ),
    ]


def _replace(status: Status, current: list[Replica], now: datetime) -> list[Action]:
    if status.gave_up:
        return []
    taken = {replica.index for replica in current}
    free = [index for index in range(status.deployment.replicas + len(taken)) if index not in taken]
    actions: list[Action] = []
    for index in free[: max(0, status.deployment.replicas - len(current))]:
        delay, early = backoff(status, index)
        last = next((failure for failure in reversed(status.failures) if failure.index == index), None)
        if last and early >= GIVE_UP_AFTER:
            return [GiveUp(f"{early} attempts ended before they served; the last: {last.reason}")]
        if last is None or now - last.at >= delay:
            actions.append(Submit(index))
    return actions


def _is_room_needed(status: Status, current: list[Replica], serving_old: list[Replica], now: datetime) -> bool:
    """True when a restart cannot go on: a successor waits for resources that an old replica holds, and none loads."""
    outdated = serving_old and serving_old[0].generation < status.deployment.generation
    if not outdated or any(replica.stage == "loading" for replica in current):
        return False
    serving = len(serving_old) + sum(replica.serving for replica in current)
    patience = MAKE_ROOM_AFTER if serving >= status.deployment.replicas else MAKE_ROOM_SHORT_AFTER
    return any(replica.stage == "queued" and _older_than(replica, patience, now) for replica in current)


def _older_than(replica: Replica, age: timedelta, now: datetime) -> bool:
    return replica.submitted_at is not None and now - replica.submitted_at > age
