"""How command lines speak: JSON for programs, aligned columns for people, progress on stderr, one line of error."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from engine.errors import ConfigurationError, EngineError, GatewayError
from engine.settings import Settings
from engine.tables import problem

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WRONG_USE = (400, 404, 422)
# typer carries its own click, whose UsageError it exports only as the parent of BadParameter.
WrongUse: type[Exception] = typer.BadParameter.__mro__[1]


def run(app: typer.Typer, name: str, arguments: Sequence[str] | None = None) -> int:
    """Runs one command of the program `name` and returns its exit code: 0 done, 1 failed, 2 wrong use."""
    try:
        arguments = sys.argv[1:] if arguments is None else arguments
        result = app(list(arguments) or ["--help"], standalone_mode=False)
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except (WrongUse, typer.Abort, ValidationError, EngineError, OSError) as error:
        message, code = _told(error)
        print(f"{name}: {message}", file=sys.stderr)
        return code


def _told(error: Exception) -> tuple[str, int]:
    match error:
        case WrongUse():
            words = getattr(error, "format_message", error.__str__)()
            return f"{words.replace('Value error, ', '')} (see --help)", 2
        case typer.Abort():
            return "interrupted", 130
        case ValidationError():
            return problem(error.errors()[0]), 2
        case GatewayError():
            return str(error), 2 if error.status in WRONG_USE else 1
        case EngineError():
            return str(error), 2 if isinstance(error, ConfigurationError) else 1
        case OSError() if error.filename:
            return f"{error.filename}: {error.strerror}", 1
        case _:
            return str(error), 1


def settings() -> Settings:
    return Settings.from_env(os.environ)


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


def ago(moment: str | None) -> str:
    """How long ago an ISO time was, or how far ahead it is: `5 min`, `3 h`."""
    if not moment:
        return "-"
    seconds = abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
