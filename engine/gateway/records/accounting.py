"""Who used how much: one row a day, key and model, as the inference engines themselves counted the tokens."""

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

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
By = Literal["day", "key", "model"]
_GROUPS: dict[By, str] = {"day": "day", "key": "key_id", "model": "model"}
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
    connection: sa.Connection,
    names: dict[str, str],
    first: str = "",
    last: str = "9",
    key_id: str | None = None,
    by: Sequence[By] = ("day", "key", "model"),
) -> list[dict[str, Any]]:
    """Rows from day `first` to `last`, both included, of one key or of all; `names` are those of the keys, by id.

    `by` is what the rows are told apart by; what is left out of it is summed up, and no column of the rows.
    """
    groups = [table.c[column] for name, column in _GROUPS.items() if name in by]
    sums = [sa.func.sum(table.c[name]).label(name) for name in NUMBERS]
    wanted = sa.select(*groups, *sums).where(table.c.day >= first, table.c.day <= last)
    if key_id is not None:
        wanted = wanted.where(table.c.key_id == key_id)
    rows = connection.execute(wanted.group_by(*groups).order_by(*groups)).mappings()
    return [_row(row, names) for row in rows if row["requests"] is not None]


def _row(row: Any, names: dict[str, str]) -> dict[str, Any]:
    key = {"key_id": row["key_id"], "key": names.get(row["key_id"], "")} if "key_id" in row else {}
    day = {"day": row["day"]} if "day" in row else {}
    model = {"model": row["model"]} if "model" in row else {}
    numbers = {name: int(row[name]) for name in NUMBERS}
    return {**day, **key, **model, **numbers, "total_tokens": numbers["prompt_tokens"] + numbers["completion_tokens"]}


def columns(by: Sequence[By]) -> list[str]:
    """Those of COLUMNS that rows `by` these have."""
    gone = {column for name in _GROUPS if name not in by for column in (name, _GROUPS[name])}
    return [column for column in COLUMNS if column not in gone]


def read(
    url: str, names: dict[str, str], first: str = "", last: str = "9", by: Sequence[By] = ("day", "key", "model")
) -> list[dict[str, Any]]:
    """`usage` of a database that no gateway serves now; raises EngineError."""
    with database.told("usage", url):
        engine = database.connect(url, database.records)
        try:
            with engine.connect() as connection:
                return usage(connection, names, first, last, by=by)
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
