"""usage: who used how much."""

from datetime import date, datetime
from typing import Annotated, Any

import typer

from engine import presence
from engine.gateway.keys import Keys
from engine.gateway.records import accounting
from engine.launching import operator
from engine.settings import Settings, require_local_disk
from engine.terminal import Json, print_json, print_table, settings

EVERYTHING: tuple[accounting.By, ...] = ("day", "key", "model")


def usage(
    first: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day, UTC.")] = None,
    last: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day, included.")] = None,
    by: Annotated[list[str] | None, typer.Option(help="day, key or model: sum up over the others.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Requests and tokens by day, key and model, as the inference engines counted them."""
    told_by = [name for name in EVERYTHING if name in by] if by else list(EVERYTHING)
    rows = _rows(settings(), first.date() if first else None, last.date() if last else None, told_by)
    if as_json:
        print_json(rows)
    elif as_csv:
        print(accounting.as_csv(rows, accounting.columns(told_by)), end="")
    else:
        columns = [column for column in accounting.columns(told_by) if column != "key_id"]
        shown = [[(row["key"] or row["key_id"]) if one == "key" else row[one] for one in columns] for row in rows]
        print_table([one.replace("_", " ").upper() for one in columns], shown, "nobody has asked anything yet")


def _rows(chosen: Settings, first: date | None, last: date | None, by: list[accounting.By]) -> list[dict[str, Any]]:
    """From the gateway that runs, which knows the last second, too; else from the database."""
    days = [day.isoformat() if day else None for day in (first, last)]
    found = presence.find(chosen.home)
    if found:
        with operator(found) as client:
            rows: list[dict[str, Any]] = client.usage(days[0], days[1], by)
            return rows
    require_local_disk(chosen.local)
    keys = Keys(chosen.database_url)
    try:
        names = {key.id: key.name for key in keys.list()}
    finally:
        keys.close()
    return accounting.read(chosen.database_url, names, days[0] or "", days[1] or "9", by)
