"""GPU and CPU hours of our jobs, from what sacct prints (pure)."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from engine.fleet.derive import Mark
from engine.fleet.schedulers.parse import SEPARATOR, gpus_of

FORMAT = "JobID,JobName,State,AllocTRES,Comment,Start,End"
COLUMNS = 7


@dataclass(frozen=True)
class Run:
    """One run of a job: a requeued job has several. `ended_at` is None while it runs."""

    job_id: str
    name: str
    comment: str
    gpus: dict[str, int]
    cpus: int
    started_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class Hours:
    """What a deployment's jobs held on one day, UTC. `deployment` is empty for this user's other jobs."""

    day: str
    deployment: str
    gpu_hours: float
    cpu_hours: float
    gpu_hours_by_type: dict[str, float] = field(default_factory=dict)


def parse(text: str) -> list[Run]:
    """Runs from `SLURM_TIME_FORMAT=%s sacct -n -P -X -D --delimiter=SEPARATOR --format=FORMAT`; what never ran is left
    out.
    """
    rows = (line.split(SEPARATOR) for line in text.splitlines())
    return [run for row in rows if len(row) == COLUMNS and (run := _run(*row))]


def hours(
    runs: Iterable[Run], first: date, last: date, now: datetime, home_id: str, names: Container[str] = ()
) -> list[Hours]:
    """Rows by day and deployment, both days included; a job over midnight counts on both days.

    `names` are those of the home's deployments: a cluster that keeps no comments (AccountingStoreFlags without
    job_comment) tells a job's name only.
    """
    sums: dict[tuple[str, str], list[tuple[float, Run]]] = {}
    for run in runs:
        name = _deployment(run, home_id, names)
        day = max(first, run.started_at.date())
        while day <= last and (held_h := _overlap_h(run, day, now)) is not None:
            sums.setdefault((day.isoformat(), name), []).append((held_h, run))
            day += timedelta(days=1)
    return [_hours(day, name, held) for (day, name), held in sorted(sums.items())]


def _deployment(run: Run, home_id: str, names: Container[str]) -> str:
    if run.comment:
        mark = Mark.read(run.comment)
        return mark.name if mark and mark.home_id == home_id else ""
    name, _, index = run.name.rpartition("-")
    return name if index.isdecimal() and name in names else ""


def _hours(day: str, name: str, held: list[tuple[float, Run]]) -> Hours:
    types = sorted({kind for _, run in held for kind in run.gpus})
    by_type = {kind: round(sum(h * run.gpus.get(kind, 0) for h, run in held), 4) for kind in types}
    cpu_hours = sum(h * run.cpus for h, run in held)
    return Hours(day, name, round(sum(by_type.values()), 4), round(cpu_hours, 4), by_type)


def _overlap_h(run: Run, day: date, now: datetime) -> float | None:
    """Hours of a run on a day; None once the day lies after its end."""
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = min(begin + timedelta(days=1), run.ended_at or now)
    held_s = (end - max(begin, run.started_at)).total_seconds()
    return held_s / 3600 if held_s > 0 else None


def _run(job_id: str, name: str, state: str, tres: str, comment: str, start: str, end: str) -> Run | None:
    if not start.isdecimal() or int(start) == 0:
        return None
    counts = dict(part.split("=", 1) for part in tres.split(",") if "=" in part)
    typed = ",".join(f"{key[5:]}:{n}" for key, n in counts.items() if key.startswith("gres/gpu:"))
    gpus = gpus_of(typed or f"gpu:{counts.get('gres/gpu', '0')}")
    ended_at = datetime.fromtimestamp(int(end), UTC) if end.isdecimal() and int(end) else None
    cpus = counts.get("cpu", "0")
    started_at = datetime.fromtimestamp(int(start), UTC)
    return Run(job_id, name, comment, gpus, int(cpus) if cpus.isdecimal() else 0, started_at, ended_at)
