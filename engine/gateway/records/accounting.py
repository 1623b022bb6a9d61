"""Who used how much: one row a day, key and model, as the inference engines themselves counted the tokens."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from engine.gateway.records import database
from engine.gateway.records.cells import ERRORS, Cells

NUMBERS = ("requests", "errors", "prompt_tokens", "completion_tokens")
table = sa.Table(
    "usage",
    database.records,
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("key_id", sa.String(200), primary_key=True),
    sa.Column("model", sa.String(200), primary_key=True),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in NUMBERS),
)
COLUMNS = ("day", "key_id", "key", "model", *NUMBERS, "total_tokens")


def day_of(minute: int) -> str:
    """The UTC day, YYYY-MM-DD, of a minute since 1970."""
    return datetime.fromtimestamp(minute * 60, UTC).date().isoformat()


def write(connection: sa.Connection, cells: Cells) -> None:
    """Adds what the cells count to their days."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (minute, key_id, model), cell in cells.items():
        if not cell.requests:
            continue
        day = day_of(minute)
        row = rows.setdefault((day, key_id, model), dict.fromkeys(NUMBERS, 0))
        row["requests"] += cell.requests
        row["errors"] += sum(getattr(cell, kind) for kind in ERRORS)
        row["prompt_tokens"] += cell.prompt_tokens
        row["completion_tokens"] += cell.completion_tokens
    named = [{"day": day, "key_id": key_id, "model": model, **row} for (day, key_id, model), row in rows.items()]
    database.add(connection, table, named)


def tokens_of_day(connection: sa.Connection, day: str) -> dict[str, int]:
    """Prompt and completion tokens by key."""
    total = sa.func.sum(table.c.prompt_tokens + table.c.completion_tokens)
    rows = connection.execute(sa.select(table.c.key_id, total).where(table.c.day == day).group_by(table.c.key_id))
    return {key_id: int(tokens) for key_id, tokens in rows}


def usage(
    connection: sa.Connection, names: dict[str, str], first: str = "", last: str = "9", key_id: str | None = None
) -> list[dict[str, Any]]:
    """Rows from day `first` to `last`, both included, of one key or of all; `names` are those of the keys, by id."""
    wanted = sa.select(table).where(table.c.day >= first, table.c.day <= last)
    if key_id is not None:
        wanted = wanted.where(table.c.key_id == key_id)
    rows = connection.execute(wanted.order_by(table.c.day, table.c.key_id, table.c.model))
    return [
        {
            "day": row.day,
            "key_id": row.key_id,
            "key": names.get(row.key_id, ""),
            "model": row.model,
            **{name: getattr(row, name) for name in NUMBERS},
            "total_tokens": row.prompt_tokens + row.completion_tokens,
        }
        for row in rows
    ]


def read(url: str, names: dict[str, str], first: str = "", last: str = "9") -> list[dict[str, Any]]:
    """`usage` of a database that no gateway serves now; raises EngineError."""
    with database.told("usage", url):
        engine = database.connect(url, database.records)
        try:
            with engine.connect() as connection:
                return usage(connection, names, first, last)
        finally:
            engine.dispose()


def as_csv(rows: Iterable[dict[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    """With a head; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[column]) for column in columns] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
