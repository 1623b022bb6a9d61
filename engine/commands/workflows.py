"""laws and verdicts: what the tribunal judges by, and what came of it."""

from enum import StrEnum
from typing import Annotated

import typer

from engine.gateway.records.journal import Journal
from engine.settings import require_local_disk
from engine.terminal import Json, ago, print_json, print_table, settings
from engine.workflows.laws import load_laws


class Outcome(StrEnum):
    accepted = "accepted"
    rejected = "rejected"
    bypassed = "bypassed"


def laws(as_json: Json = False) -> None:
    """List the sets of laws of the tribunal (templates/laws), with the hash of each version."""
    found = load_laws(settings().templates / "laws")
    if as_json:
        print_json([one.as_json() for one in found.values()])
        return
    rows = [(one.name, one.hash, len(one.laws), one.title) for one in found.values()]
    print_table(("NAME", "HASH", "LAWS", "TITLE"), rows, "there are no laws in templates/laws")


def verdicts(
    outcome: Annotated[Outcome | None, typer.Option(help="Only these.")] = None,
    model: Annotated[str | None, typer.Option(help="The deployment's name.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
    as_json: Json = False,
) -> None:
    """List what tribunals came to, the latest first."""
    chosen = settings()
    require_local_disk(chosen.local)
    journal = Journal(chosen.database_url)
    try:
        rows = journal.verdicts(limit, outcome, model)
    finally:
        journal.close()
    if as_json:
        print_json(rows)
        return
    head = ("AGO", "MODEL", "LAWS", "OUTCOME", "ROUNDS", "TOKENS", "SECONDS")
    print_table(head, [_cells(row) for row in rows], "no verdicts yet")


def _cells(row: dict[str, object]) -> tuple[object, ...]:
    outcome = "bypassed" if row["accepted"] is None else "accepted" if row["accepted"] else "rejected"
    usage = row["usage"]
    tokens = usage["total_tokens"] if isinstance(usage, dict) else "-"
    laws = f"{row['laws']} {row['laws_hash']}"
    return ago(str(row["at"])), row["model"], laws, outcome, row["rounds"], tokens, row["seconds"]
