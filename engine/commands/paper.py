"""bench paper: Figures 3 and 4 from four simulators that carry the paper's figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import experiments, presence
from engine.client import EngineClient
from engine.commands.experiment import INTERRUPTED, measure
from engine.errors import EngineError
from engine.experiments import Options
from engine.launching import operator, stop_and_wait, wait_ready
from engine.terminal import Json, print_json, print_table, say, settings

if TYPE_CHECKING:
    from engine.bench.experiment.paper import Figure
    from engine.bench.saturation import Sweep

READY_TIMEOUT_S = 300.0
GONE_TIMEOUT_S = 360.0


def paper(
    out: Annotated[Path, typer.Option("--out", help="Folder for the figures.")] = Path("paper-figures"),
    repeats: Annotated[int, typer.Option(min=1, help="Trials of each level.")] = 3,
    foreign_cpu: Annotated[float, typer.Option(help="Share of this machine's CPU that others may use.")] = 0.5,
    as_json: Json = False,
) -> None:
    """Draw the paper's Figures 3 and 4 from four simulators that have its slots and latencies.

    It checks the instrument: what is found must be what was put in, within 3 %. It replicates no measurement.
    """
    from engine.bench import report
    from engine.bench.experiment.paper import FIGURES

    chosen = settings()
    sweeps, folders = [], []
    with presence.gateway(chosen, say) as found, operator(found) as client:
        for figure in FIGURES:
            with _launched(client, figure):
                options = Options(
                    deployments=(figure.name,),
                    target="replica",
                    stream=True,
                    repeats=repeats,
                    foreign_cpu=foreign_cpu,
                    time_scale=figure.time_scale,
                )
                made = experiments.create(chosen.home, options)
                say(f"{figure.name}: simulated, time scaled by {figure.time_scale:g}")
                sweeps += measure(made)
                folders.append(made.path)
                if made.state().state == "stopped":
                    raise typer.Exit(INTERRUPTED)
    page = report.write([report.read(folder) for folder in folders], out, chosen.templates, datetime.now(UTC))
    rows = [_row(figure, sweep) for figure, sweep in zip(FIGURES, sweeps, strict=True)]
    if as_json:
        print_json({"simulated": True, "figures": rows, "report": str(page)})
    else:
        _print(rows, page)
    _require_close(rows)


@contextmanager
def _launched(client: EngineClient, figure: "Figure") -> Iterator[None]:
    """The simulator for as long as the block runs, on the GPUs of Table 1 where the cluster has them."""
    from engine.bench.experiment.paper import SMALL

    request = figure.launch
    fit = client.fit(**request)
    if not fit["possible"]:
        say(f"{figure.name}: without the GPUs of Table 1, for {fit['words']}")
        request = {**request, **SMALL}
    try:
        client.launch(**request)
        wait_ready(client, figure.name, READY_TIMEOUT_S, say)
        yield
    finally:
        stop_and_wait(client, [figure.name], GONE_TIMEOUT_S)


def _row(figure: "Figure", sweep: "Sweep") -> dict[str, Any]:
    point, found, error = sweep.serialisation, figure.found(sweep), figure.error(sweep)
    return {
        "model": figure.reported.model,
        "gpu": sweep.gpu,
        "gpus": sweep.gpus,
        "time_scale": figure.time_scale,
        "put_in": {"users": figure.reported.users, "latency_ms": figure.reported.latency_s * 1000},
        "found": {"users": found[0], "latency_ms": found[1] * 1000} if found else None,
        "ci95": list(point.ci95) if point else None,
        "error": error,
    }


def _print(rows: list[dict[str, Any]], page: Path) -> None:
    head = ("MODEL (SIMULATED)", "TIME x", "GPUS", "PUT IN", "FOUND", "95 %", "OFF BY")
    print_table(head, [_cells(row) for row in rows], "")
    print(f"\nfour simulators, no model was run: a check of the instrument, no replication of the paper\n{page}")


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    put_in, found = row["put_in"], row["found"]
    lead = (row["model"], f"{row['time_scale']:g}", f"{row['gpus']} {row['gpu']}".strip() if row["gpus"] else "-")
    truth = f"{put_in['users']} at {put_in['latency_ms']:.0f} ms"
    if found is None:
        return (*lead, truth, "-", "-", "-")
    low, high = row["ci95"]
    seen = f"{found['users']:.2f} at {found['latency_ms']:.1f} ms"
    return (*lead, truth, seen, f"{low:.2f} to {high:.2f}", f"{row['error']:.1%}")


def _require_close(rows: list[dict[str, Any]]) -> None:
    """Raises EngineError when a figure was missed: then the instrument, or this machine, is not to be trusted."""
    from engine.bench.experiment.paper import TOLERANCE

    missed = [row["model"] for row in rows if row["error"] is None or row["error"] > TOLERANCE]
    if missed:
        raise EngineError(f"missed by more than {TOLERANCE:.0%}: {', '.join(missed)}; was this machine busy?")
