"""How commands speak: JSON for programs, aligned columns for people, progress on stderr."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from engine.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings() -> Settings:
    return Settings.from_env(os.environ)


def say(line: str) -> None:
    """Progress: on stderr, so that what a command prints stays clean."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Aligned columns; `empty` is said instead of a bare head."""
    if not rows:
        print(empty)
        return
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def ago(moment: str | None) -> str:
    """How long ago an ISO time was, or how far ahead it is: `5 min`, `3 h`."""
    if not moment:
        return "-"
    seconds = abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
