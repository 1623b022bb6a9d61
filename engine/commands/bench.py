"""bench: where deployments saturate."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from engine import experiments
from engine.terminal import say, settings

app = typer.Typer(help="Measure where deployments saturate.")


@app.callback()
def bench() -> None:
    """Measure where deployments saturate."""


@app.command()
def report(
    folders: Annotated[list[str], typer.Argument(metavar="DIR…", help="Folders or ids of experiments.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")] = Path("report"),
) -> None:
    """Draw experiments, finished or not, on shared axes: one HTML page, and PNG, SVG and CSV beside it."""
    # The charts take a second to import, which no other command should wait for.
    from engine.bench import report as reports

    chosen = settings()
    paths = [Path(one) if Path(one).is_dir() else experiments.find(chosen.home, one).path for one in folders]
    measured = [reports.read(path) for path in paths]
    page = reports.write(measured, out, chosen.templates, datetime.now(UTC))
    for sweep in (sweep for one in measured for sweep in one.sweeps):
        for warning in filter(None, (*sweep.warnings, sweep.physics)):
            say(f"{sweep.deployment}: {warning}")
    print(page)
