"""models, render, doctor: what there is, what would be submitted, and what is missing on this machine."""

import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import typer

from engine import presence
from engine.catalogue import Catalogue, missing_source
from engine.commands import request
from engine.errors import EngineError
from engine.fleet.nginx import Nginx
from engine.fleet.request import LaunchRequest
from engine.fleet.schedulers.slurm import Slurm
from engine.ports import is_free
from engine.settings import Settings, require_local_disk
from engine.site import Site
from engine.terminal import Json, print_json, print_table, settings
from engine.worker import make_controller, schedulers


def models(as_json: Json = False) -> None:
    """List what can be launched, and what each replica asks for."""
    catalogue = Catalogue.load(settings().models_file)
    if as_json:
        print_json([{**asdict(row), "precisions": catalogue.precisions(row.id)} for row in catalogue.rows])
        return
    head = ("ID", "ENGINE", "PRECISION", "CPUS", "MEM GB", "GPUS", "VRAM GB", "CONTEXT", "SEES", "LANGUAGES", "NOTE")
    print_table(head, [_model_cells(catalogue, row) for row in catalogue.rows], "the catalogue is empty")


@request.with_launch_options
def render(wanted: dict[str, Any]) -> None:
    """Print the script of a launch; nothing is submitted."""
    chosen = settings()
    controller = make_controller(chosen, schedulers(chosen), nginx=False)
    print(controller.render(LaunchRequest(**wanted)), end="")


def doctor(as_json: Json = False) -> None:
    """Check this machine, and say what to do about what is missing."""
    checks = list(_checks(settings()))
    if as_json:
        print_json([{"check": name, "state": state, "found": words} for name, state, words in checks])
    else:
        print_table(("CHECK", "STATE", "FOUND"), checks, "")
    if any(state == "fail" for _, state, _ in checks):
        raise typer.Exit(1)


Check = tuple[str, str, str]
NOTE_WIDTH = 60


def _checks(chosen: Settings) -> Iterator[Check]:
    yield "python", "ok" if sys.version_info >= (3, 11) else "fail", platform.python_version()
    yield _tried("ENGINE_HOME", lambda: _writable(chosen))
    yield _tried("ENGINE_LOCAL", lambda: _local(chosen))
    yield _tried("site.toml", lambda: _site(chosen))
    yield _tried("catalogue", lambda: f"{len(Catalogue.load(chosen.models_file).rows)} models")
    yield _scheduler(chosen)
    yield _nginx()
    yield _gateway(chosen)
    yield _small_model(chosen)


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return name, "ok", check()
    except (EngineError, OSError) as error:
        return name, "fail", str(error)


def _writable(chosen: Settings) -> str:
    chosen.home.mkdir(parents=True, exist_ok=True)
    probe = chosen.home / ".doctor"
    probe.write_text("")
    probe.unlink()
    return str(chosen.home)


def _local(chosen: Settings) -> str:
    require_local_disk(chosen.local)
    return str(chosen.local)


def _site(chosen: Settings) -> str:
    Site.load(chosen.site_file)
    return str(chosen.site_file or "none; defaults are used (see site.example.toml)")


def _scheduler(chosen: Settings) -> Check:
    missing = [name for name in ("sbatch", "squeue", "sinfo", "scancel") if not shutil.which(name)]
    if not missing and Slurm.available():
        return "slurm", "ok", "sbatch and sinfo answer"
    words = f"not on PATH: {', '.join(missing)}" if missing else "sinfo gives no answer: is slurmctld up?"
    if chosen.scheduler == "slurm":
        return "slurm", "fail", words
    return "slurm", "absent", f"{words}; the local scheduler runs jobs on this machine"


def _nginx() -> Check:
    if Nginx.available():
        return "nginx", "ok", "found"
    return "nginx", "absent", "the gateway itself listens at the one address, without apps; apt-get install nginx-light"


def _gateway(chosen: Settings) -> Check:
    found = presence.find(chosen.home)
    if found:
        return "gateway", "ok", f"runs at {found.address} (process {found.pid})"
    taken = [str(port) for port in (chosen.port, chosen.address_port) if not is_free(chosen.host, port)]
    if taken:
        return (
            "gateway",
            "warn",
            f"not running, and port {', '.join(taken)} is taken: set ENGINE_PORT, ENGINE_ADDRESS_PORT",
        )
    return "gateway", "absent", "not running; `engine serve` starts it"


def _small_model(chosen: Settings) -> Check:
    missing = missing_source(Catalogue.load(chosen.models_file).find("smollm2-135m"))
    return "small model", "absent" if missing else "ok", missing or "smollm2-135m is installed"


def _model_cells(catalogue: Catalogue, row: Any) -> tuple[object, ...]:
    resources = row.resources
    note = " ".join(filter(None, ["toy" if row.toy else "", row.note]))
    return (
        row.id,
        row.engine,
        ",".join(filter(None, catalogue.precisions(row.id))) or "-",
        resources.cpus,
        f"{resources.mem_gb:g}",
        resources.gpus,
        f"{resources.vram_gb:g}",
        row.context or "-",
        "yes" if row.vision else "-",
        ",".join(row.languages) or "-",
        note if len(note) <= NOTE_WIDTH else f"{note[: NOTE_WIDTH - 1]}…",
    )
