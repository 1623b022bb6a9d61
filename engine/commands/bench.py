"""bench: where deployments saturate."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Measure where deployments saturate.")


@app.callback()
def bench() -> None:
    """Measure where deployments saturate."""


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR…", help="Folders of experiments.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the report.")] = Path("report"),
) -> None:
    """Draw the charts of experiments: one HTML page, and PNG, SVG and CSV beside it."""
    raise NotImplementedError
