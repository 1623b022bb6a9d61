"""How all of it is, on one page: health of the parts, models, GPUs, traffic, and what needs attention (pure)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from engine.fleet.deployments import Replica, Status
from engine.fleet.gpus import GpuType
from engine.fleet.inspection import NginxState, SchedulerState
from engine.fleet.status import stage
from engine.gateway.records.cells import Histogram

WAITS_LONG = timedelta(minutes=10)
ENDS_SOON = timedelta(minutes=30)
ERRORS_MANY = 0.05
FEW_REQUESTS = 20
TIMES = ("ready", "starting", "failing", "stopped")


@dataclass(frozen=True)
class Attention:
    """Something for a person: what it is, what can be done, and about which deployment (or none).

    `level` is bad (something does not work) or warn (something may come to).
    """

    level: str
    what: str
    action: str
    deployment: str | None = None


@dataclass(frozen=True)
class Traffic:
    """Sums over a window; times are in seconds and None without requests. `error_share` leaves out who left."""

    window_s: int
    requests: int
    requests_per_s: float
    tokens_per_s: float
    error_share: float
    latency_p95_s: float | None
    ttft_p95_s: float | None


def traffic(rows: Iterable[dict[str, Any]], window_s: int) -> Traffic:
    """Of rows of /api/traffic, each a part of the window."""
    latency, ttft = Histogram(), Histogram()
    requests = tokens = errors = 0
    for row in rows:
        requests += row["requests"]
        tokens += row["completion_tokens"]
        errors += sum(n for kind, n in row["errors"].items() if kind in ("failed", "overloaded"))
        for histogram, name in ((latency, "latency_s"), (ttft, "ttft_s")):
            histogram.counts = [a + b for a, b in zip(histogram.counts, row[name]["buckets"], strict=True)]
    share = errors / requests if requests else 0.0
    rates = (round(requests / window_s, 3), round(tokens / window_s, 3))
    return Traffic(window_s, requests, *rates, round(share, 4), latency.quantile(0.95), ttft.quantile(0.95))


def stages(statuses: Iterable[Status], kind: str) -> dict[str, int]:
    """How many deployments of a kind are ready, starting, failing or stopped."""
    words = {"ready": "ready", "failed": "failing", "stopped": "stopped", "draining": "stopped"}
    found = Counter(words.get(_stage(s), "starting") for s in statuses if s.deployment.kind == kind)
    return {name: found[name] for name in TIMES}


def _stage(status: Status) -> str:
    """A deployment that serves nothing and keeps failing is failing, though it is tried again."""
    word = stage(status)
    return "failed" if word == "queued" and status.failures else word


def attention(
    statuses: Sequence[Status],
    schedulers: Sequence[SchedulerState],
    nginx: NginxState,
    database_trouble: str,
    gpus: dict[str, list[GpuType]],
    seen: Traffic,
    queued: dict[str, int],
    now: datetime,
) -> list[Attention]:
    """What is bad first."""
    found = [
        *_parts(schedulers, nginx, database_trouble),
        *(one for status in statuses for one in _deployment(status, now)),
        *_gpus(gpus),
        *_requests(seen, queued),
    ]
    return sorted(found, key=lambda one: one.level != "bad")


def _parts(schedulers: Iterable[SchedulerState], nginx: NginxState, database_trouble: str) -> Iterator[Attention]:
    for one in schedulers:
        if one.asked_at is not None and not one.answers:
            since = f" since {one.silent_since:%H:%M} UTC" if one.silent_since else ""
            what = f"{one.name} gives no answer{since}: {one.trouble or 'no reason was told'}"
            yield Attention("bad", what, "look at slurmctld (`scontrol ping`); running models go on serving")
    if nginx.wanted and (nginx.error or not nginx.running):
        yield Attention("bad", nginx.error or "NGINX does not run", "look at nginx/logs/error.log in ENGINE_HOME")
    if database_trouble:
        yield Attention("bad", database_trouble, "look at ENGINE_DATABASE_URL; usage is kept in memory meanwhile")


def _deployment(status: Status, now: datetime) -> Iterator[Attention]:
    name = status.deployment.name
    if status.gave_up:
        yield Attention(
            "bad", f"{name} failed: {status.gave_up}", "read its log, mend the cause, then restart it", name
        )
    elif status.failures and not status.serving and not status.deployment.stopping:
        last, count = status.failures[-1], len(status.failures)
        often = "once" if count == 1 else f"{count} times"
        yield Attention("bad", f"{name} failed {often}: {last.reason}", "read its log", name)
    for replica in status.replicas:
        if replica.stage == "queued" and _age(replica, now) > WAITS_LONG:
            minutes = _age(replica, now).total_seconds() / 60
            what = f"{name} replica {replica.index} has been waiting for {minutes:.0f} min: {replica.reason}"
            yield Attention("warn", what, "ask for fewer or other GPUs, or wait", name)
    ending = [r for r in status.serving if r.expires_at and r.expires_at - now < ENDS_SOON]
    if status.serving and len(ending) == len(status.serving) and not status.deployment.stopping:
        last_at = max(r.expires_at for r in ending if r.expires_at)
        what = f"every replica of {name} ends by {last_at:%H:%M} UTC, and none has taken over yet"
        yield Attention("warn", what, "see whether its successor waits for resources", name)


def _age(replica: Replica, now: datetime) -> timedelta:
    return now - replica.submitted_at if replica.submitted_at else timedelta(0)


def _gpus(gpus: dict[str, list[GpuType]]) -> Iterator[Attention]:
    for types in gpus.values():
        for one in types:
            if one.away:
                what = f"{one.away} of {one.total} {one.type} GPUs are on nodes that take no jobs"
                yield Attention("warn", what, "see Cluster for the nodes and their reasons")


def _requests(seen: Traffic, queued: dict[str, int]) -> Iterator[Attention]:
    if seen.requests >= FEW_REQUESTS and seen.error_share > ERRORS_MANY:
        what = f"{seen.error_share:.0%} of the requests of the last {seen.window_s // 60} min failed or were refused"
        yield Attention("bad", what, "see Traffic for the kinds of errors")
    for name, waiting in queued.items():
        if waiting:
            yield Attention("warn", f"{waiting} requests wait for a slot of {name}", "scale it up", name)


def as_json(parts: dict[str, Any], found: list[Attention]) -> dict[str, Any]:
    return {**parts, "attention": [asdict(one) for one in found]}
