"""Traffic over time: a row a minute, key and model with histograms, kept 30 days and added up to any step."""

from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa

from engine.errors import ConfigurationError
from engine.gateway.records import database
from engine.gateway.records.cells import BUCKETS_S, ERRORS, FINISHES, TOKEN_BUCKETS_S, Cell, Cells, Histogram

KEEP_DAYS = 30
MOST_STEPS = 3000
By = Literal["model", "key", "both", "none"]
NUMBERS = ("requests", "prompt_tokens", "completion_tokens", "bypasses", *ERRORS, *FINISHES)
LATENCY = tuple(f"latency_{i}" for i in range(len(BUCKETS_S) + 1))
TTFT = tuple(f"ttft_{i}" for i in range(len(BUCKETS_S) + 1))
PER_TOKEN = tuple(f"per_token_{i}" for i in range(len(TOKEN_BUCKETS_S) + 1))
SUMS = ("latency_sum_s", "ttft_sum_s", "per_token_sum_s", "queued_sum_s")
table = sa.Table(
    "traffic",
    database.records,
    sa.Column("minute", sa.BigInteger, primary_key=True),
    sa.Column("key_id", sa.String(200), primary_key=True),
    sa.Column("model", sa.String(200), primary_key=True),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in (*NUMBERS, *LATENCY, *TTFT, *PER_TOKEN)),
    *(sa.Column(name, sa.Float, nullable=False) for name in SUMS),
)
ADDED = (*NUMBERS, *LATENCY, *TTFT, *PER_TOKEN, *SUMS)


def write(connection: sa.Connection, cells: Cells) -> None:
    """Adds the cells to their minutes."""
    named = [
        {"minute": minute, "key_id": key_id, "model": model, **_row(cell)}
        for (minute, key_id, model), cell in cells.items()
    ]
    database.add(connection, table, named)


def forget(connection: sa.Connection, now: datetime) -> None:
    """Drops what is older than KEEP_DAYS."""
    oldest = minute_of(now) - KEEP_DAYS * 1440
    connection.execute(table.delete().where(table.c.minute < oldest))


def minute_of(moment: datetime) -> int:
    return int(moment.timestamp()) // 60


def traffic(
    connection: sa.Connection,
    begin: datetime,
    end: datetime,
    step_s: int,
    by: By = "model",
    model: str | None = None,
    key_id: str | None = None,
) -> list[dict[str, Any]]:
    """Rows from `begin` up to `end` without it, in steps of whole minutes, oldest first; steps without any request have
    no row. `queued_s` is what all requests of a step waited for a slot: divided by the step, the queue's mean length
    (Little's law). Raises ConfigurationError for times that cannot be, or more than MOST_STEPS steps.
    """
    step = _checked(begin, end, step_s)
    at = table.c.minute - table.c.minute % sa.literal_column(str(step))  # PostgreSQL groups by no parameter
    groups: list[sa.ColumnElement[Any]] = [at.label("minute")]
    groups += [table.c.model] if by in ("model", "both") else []
    groups += [table.c.key_id] if by in ("key", "both") else []
    # Rows that are older than a column hold nothing there.
    sums = [sa.func.coalesce(sa.func.sum(table.c[name]), 0).label(name) for name in ADDED]
    wanted = sa.select(*groups, *sums).where(table.c.minute >= minute_of(begin), table.c.minute < minute_of(end))
    for column, value in ((table.c.model, model), (table.c.key_id, key_id)):
        wanted = wanted if value is None else wanted.where(column == value)
    rows = connection.execute(wanted.group_by(*groups).order_by(*groups)).mappings()
    return [_told(row) for row in rows]


def _checked(begin: datetime, end: datetime, step_s: int) -> int:
    if step_s < 60 or step_s % 60:
        raise ConfigurationError(f"step is {step_s} s; it must be a multiple of 60")
    if begin >= end:
        raise ConfigurationError(f"from {begin.isoformat()} is not before to {end.isoformat()}")
    if (end - begin).total_seconds() / step_s > MOST_STEPS:
        raise ConfigurationError(f"that is more than {MOST_STEPS} steps; take a longer step or a shorter time")
    return step_s // 60


def _row(cell: Cell) -> dict[str, Any]:
    return {
        **{name: getattr(cell, name) for name in NUMBERS},
        **dict(zip(LATENCY, cell.latency.counts, strict=True)),
        **dict(zip(TTFT, cell.ttft.counts, strict=True)),
        **dict(zip(PER_TOKEN, cell.per_token.counts, strict=True)),
        "latency_sum_s": cell.latency.sum_s,
        "ttft_sum_s": cell.ttft.sum_s,
        "per_token_sum_s": cell.per_token.sum_s,
        "queued_sum_s": cell.queued_s,
    }


def _told(row: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(int(row["minute"]) * 60, UTC)
    return {
        "at": at.isoformat().replace("+00:00", "Z"),
        **{name: row[name] for name in ("model", "key_id") if name in row},
        **{name: int(row[name]) for name in NUMBERS if name not in (*ERRORS, *FINISHES)},
        "queued_s": float(row["queued_sum_s"]),
        "errors": {kind: int(row[kind]) for kind in ERRORS},
        "finish_reasons": {kind.removesuffix("_end"): int(row[kind]) for kind in FINISHES},
        "latency_s": _shape([int(row[name]) for name in LATENCY], row["latency_sum_s"]),
        "ttft_s": _shape([int(row[name]) for name in TTFT], row["ttft_sum_s"]),
        "per_token_s": _shape([int(row[name]) for name in PER_TOKEN], row["per_token_sum_s"], TOKEN_BUCKETS_S),
    }


def _shape(counts: list[int], sum_s: float, bounds: tuple[float, ...] = BUCKETS_S) -> dict[str, Any]:
    histogram = Histogram(bounds)
    histogram.counts, total = counts, sum(counts)
    quantiles = {f"p{round(share * 100)}": histogram.quantile(share) for share in (0.5, 0.95, 0.99)}
    return {"count": total, "mean": sum_s / total if total else None, **quantiles, "buckets": counts}
