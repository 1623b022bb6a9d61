"""How commands speak: JSON for programs, aligned columns for people, progress on stderr."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from engine.settings import Settings, require_local_disk

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def settings() -> Settings:
    """The settings; raises ConfigurationError when ENGINE_LOCAL is no local disk."""
    found = Settings.from_env(os.environ)
    require_local_disk(found.local)
    return found


def say(line: str) -> None:
    """Progress: on stderr, so that what a command prints stays clean."""
    print(line, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Aligned columns; `empty` is said instead of a bare head."""
    if not rows:
        print(empty)
        return
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
