"""bench saturate, stop, resume, list: experiments from the command line."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine import experiments, presence
from engine.errors import ConfigurationError, EngineError, UnknownName
from engine.experiments import Experiment, Options
from engine.fleet import store
from engine.settings import Settings
from engine.terminal import Json, ago, print_json, print_table, say, settings

if TYPE_CHECKING:
    from engine.bench.experiment.aim import Access
    from engine.bench.saturation import Sweep

INTERRUPTED = 130

Id = Annotated[str, typer.Argument(help="As `engine bench list` shows it.")]


class Target(StrEnum):
    gateway = "gateway"
    nginx = "nginx"
    replica = "replica"


def saturate(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="Deployments, swept one after the other.")],
    target: Annotated[Target, typer.Option(help="Where the load goes.")] = Target.gateway,
    replica: Annotated[int | None, typer.Option(help="Index for --target replica; else the first.", min=0)] = None,
    stream: Annotated[bool, typer.Option(help="Stream the answers: first tokens and tokens are timed, too.")] = False,
    task: Annotated[Path | None, typer.Option(help="JSON: messages or prompt, …; else the paper's.")] = None,
    objective_ms: Annotated[float | None, typer.Option(help="Knee: the largest load with this p95 latency.")] = None,
    max_concurrency: Annotated[int, typer.Option(min=1, help="No more users than these.")] = 4096,
    repeats: Annotated[int, typer.Option(min=1, help="Trials of each level.")] = 3,
    foreign_cpu: Annotated[float, typer.Option(help="Share of this machine's CPU that others may use.")] = 0.5,
    time_scale: Annotated[float, typer.Option(help="Simulated servers: they run so many times slower.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of the order of trials; 0 takes a random one.")] = 0,
    experiment: Annotated[str, typer.Option("--experiment", help="Its id, instead of one made up.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with --experiment where there is one.")] = False,
    as_json: Json = False,
) -> None:
    """Find out how many requests a deployment can work on at once: a sweep of loads, three trials each.

    Ctrl-C stops it; `engine bench resume` then goes on.
    """
    options = Options(
        deployments=tuple(names),
        target=target.value,
        replica=replica,
        stream=stream,
        task=_task(task),
        objective_ms=objective_ms,
        max_concurrency=max_concurrency,
        repeats=repeats,
        foreign_cpu=foreign_cpu,
        time_scale=time_scale,
        seed=seed,
    )
    home = settings().home
    for name in names:
        if name not in store.names(home):
            raise UnknownName("deployment", name, store.names(home))
    if resume and experiment and experiment in (known.id for known in experiments.every(home)):
        _run(experiments.find(home, experiment), as_json)
    else:
        _run(experiments.create(home, options, experiment), as_json)


def resume(id: Id, as_json: Json = False) -> None:
    """Go on with an experiment that was stopped, or that failed; valid trials are not repeated."""
    _run(experiments.find(settings().home, id), as_json)


def stop(id: Id) -> None:
    """Stop an experiment wherever it runs; what it has measured is kept."""
    found = experiments.find(settings().home, id)
    if not found.state().runs:
        raise ConfigurationError(f"experiment {id} does not run: it is {found.state().state}")
    experiments.ask_stop(found)
    state = experiments.wait_idle(found)
    say(f"experiment {id}: {state.state}, {state.valid} valid trials")


def list_(as_json: Json = False) -> None:
    """List experiments, the latest first."""
    rows = [found.summary() for found in experiments.every(settings().home)]
    if as_json:
        print_json(rows)
        return
    head = ("ID", "DEPLOYMENTS", "TARGET", "STATE", "TRIALS", "VALID", "BEGUN", "MESSAGE")
    print_table(head, [_cells(row) for row in rows], "no experiments; `engine bench saturate NAME` makes one")


def measure(found: Experiment) -> "list[Sweep]":
    """Runs an experiment, or goes on with it, in this process; with a gateway of its own where none runs."""
    # Late: numpy and scipy take a second to load, which no other command should wait for.
    from engine.bench.experiment.run import run

    chosen = settings()
    say(f"experiment {found.id} in {found.path}")
    with presence.gateway(chosen, say):
        return run(found, chosen, lambda: _access(chosen), say)


def _run(found: Experiment, as_json: bool) -> None:
    """Measures, and tells what came of it; leaves with 130 when it was stopped."""
    from engine.bench.experiment.run import summary
    from engine.bench.saturation import sweep_json

    sweeps = measure(found)
    if as_json:
        print_json([sweep_json(sweep) for sweep in sweeps])
    else:
        for sweep in sweeps:
            print(summary(sweep))
            for warning in (*sweep.warnings, *filter(None, [sweep.physics])):
                print(f"  warning: {warning}")
    if found.state().state == "stopped":
        say(f"stopped; `engine bench resume {found.id}` goes on")
        raise typer.Exit(INTERRUPTED)


def _access(chosen: Settings) -> "Access":
    """The gateway that serves this home now: it may have been started anew since."""
    from engine.bench.experiment.aim import Access

    found = presence.find(chosen.home)
    if not found:
        raise EngineError(f"no gateway answers for ENGINE_HOME {chosen.home}; start one with `engine serve`")
    return Access(found.url, found.address, found.token, found.pid)


def _task(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the task {path} cannot be read: {error}") from error
    if not isinstance(given, dict):
        raise ConfigurationError(f"the task {path} must be a JSON object with `messages` or `prompt`")
    return given


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    return (
        row["id"],
        ",".join(row["deployments"]),
        row["target"],
        row["state"],
        f"{row['trials']}/{max(row['trials'], row['planned'])}",
        row["valid"],
        ago(row["begun_at"]),
        row["message"] or row["phase"],
    )
