"""Experiments as folders, ENGINE_HOME/experiments/ID: what the command line and the gateway share of them.

    options.json      what was asked for          provenance.json   what it was measured on
    state.json        how far it has come         trials.jsonl      a trial a line, as each ends
    result.json       the sweeps so far           log.txt           what a detached one said
    stop              somebody wants it to stop

The measuring is engine.bench's, in a process of its own: whoever only reads, starts or stops needs no load generator.
"""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import ConfigurationError, Conflict, NotReadyInTime, UnknownName
from engine.fleet.deployments import to_json, write_atomically
from engine.fleet.lock import process_is_gone, start_time
from engine.settings import ROOT, Settings

ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
TARGETS = ("gateway", "nginx", "replica")
# A process on another machine that has not touched its state for this long is taken for dead.
SILENT_S = 120.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Options:
    """What an experiment was asked to do; each deployment is swept in turn.

    `target` is where the load goes: the gateway, NGINX (each replica in turn, without the gateway) or straight at
    `replica`. `task` is a task file's content, the paper's without. With `objective_ms` the knee is the largest load
    whose p95 latency is within it. `foreign_cpu` is the share of this machine's CPU that others may use in a trial.
    `time_scale`: one second of a simulated server stands for 1 / time_scale seconds.
    """

    deployments: tuple[str, ...]
    target: str = "gateway"
    replica: int | None = None
    stream: bool = False
    task: dict[str, Any] = field(default_factory=dict)
    objective_ms: float | None = None
    max_concurrency: int = 4096
    repeats: int = 3
    seed: int = 0
    foreign_cpu: float = 0.5
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.deployments:
            raise ConfigurationError("an experiment needs the names of deployments")
        if len(set(self.deployments)) < len(self.deployments):
            raise ConfigurationError(f"a deployment is named twice: {', '.join(self.deployments)}")
        if self.target not in TARGETS:
            raise UnknownName("target", self.target, TARGETS)
        if self.repeats < 1 or self.max_concurrency < 1 or self.time_scale <= 0:
            raise ConfigurationError("repeats and max_concurrency start at 1, time_scale above 0")


@dataclass(frozen=True)
class State:
    """How far it has come: `state` is starting, running, stopped, failed or done.

    `host`, `pid` and `started` name the process. `trials` have ended, of `planned` that are known so far; `phase` tells
    what the present trial does.
    """

    state: str = "starting"
    message: str = ""
    deployment: str = ""
    concurrency: int = 0
    repeat: int = 0
    phase: str = ""
    trials: int = 0
    valid: int = 0
    planned: int = 0
    eta_s: float | None = None
    host: str = ""
    pid: int = 0
    started: str = ""
    begun_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def runs(self) -> bool:
        return self.state in ("starting", "running")


@dataclass(frozen=True)
class Experiment:
    """One folder. Whatever is not there yet reads as empty."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    def options(self) -> Options:
        """Raises ConfigurationError when options.json was damaged."""
        file = self.path / "options.json"
        try:
            return msgspec.json.decode(file.read_bytes(), type=Options)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigurationError(f"{file} holds no options of an experiment: {error}") from error

    def state(self) -> State:
        """As written, but failed where the process that should write it is gone."""
        file = self.path / "state.json"
        try:
            state = msgspec.json.decode(file.read_bytes(), type=State)
            age_s = time.time() - file.stat().st_mtime
        except (OSError, msgspec.MsgspecError):
            return State("failed", f"{file} cannot be read")
        if not state.runs or _lives(state, age_s):
            return state
        gone = f"its process is gone{self._last_words()}; `engine bench resume {self.id}` goes on"
        return replace(state, state="failed", message=gone)

    def _last_words(self) -> str:
        """The error line that a detached process left, if it did."""
        with suppress(OSError):
            lines = (self.path / "log.txt").read_text(errors="replace").strip().splitlines()
            if lines and lines[-1].startswith("engine: "):
                return f" ({lines[-1].removeprefix('engine: ')})"
        return ""

    def trials(self, first: int = 0) -> list[Any]:
        """The trials so far from number `first` on, in the order of their end; a line half-written is left out."""
        try:
            lines = (self.path / "trials.jsonl").read_bytes().split(b"\n")[first:-1]
        except FileNotFoundError:
            return []
        return [trial for line in lines if (trial := _decoded(line)) is not None]

    def provenance(self) -> dict[str, Any]:
        return _read_json(self.path / "provenance.json") or {}

    def result(self) -> list[Any]:
        """A sweep per deployment as far as there is one, as `engine bench saturate --json` prints them."""
        return _read_json(self.path / "result.json") or []

    def summary(self) -> dict[str, Any]:
        """A row of `engine bench list`."""
        asked, state = self.options(), self.state()
        told = {"deployments": list(asked.deployments), "target": asked.target, "stream": asked.stream}
        return {"id": self.id, **told, **msgspec.to_builtins(state)}

    def details(self, first_trial: int = 0) -> dict[str, Any]:
        """All of it, with the trials from number `first_trial` on."""
        return {
            **self.summary(),
            "options": msgspec.to_builtins(self.options()),
            "provenance": self.provenance(),
            "first_trial": first_trial,
            "trial_list": self.trials(first_trial),
            "result": self.result(),
        }

    def write_state(self, state: State) -> None:
        write_atomically(self.path / "state.json", to_json(replace(state, updated_at=datetime.now(UTC))))

    @property
    def stop_is_asked(self) -> bool:
        return (self.path / "stop").exists()


def folder(home: Path) -> Path:
    return home / "experiments"


def create(home: Path, options: Options, id: str = "") -> Experiment:
    """A new folder; raises Conflict when the id is taken, ConfigurationError when it can't be one."""
    id = id or f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{_slug(options.deployments[0])}-{secrets.token_hex(2)}"
    if not ID.fullmatch(id):
        raise ConfigurationError(f"an experiment cannot be called {id!r}; its id must match {ID.pattern}")
    made = Experiment(folder(home) / id)
    made.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        made.path.mkdir()
    except FileExistsError:
        raise Conflict(f"there is an experiment {id} already; `engine bench resume {id}` goes on with it") from None
    options = replace(options, seed=options.seed or secrets.randbits(31))
    write_atomically(made.path / "options.json", to_json(options))
    made.write_state(State("stopped", "not begun"))
    return made


def find(home: Path, id: str) -> Experiment:
    """Raises UnknownName."""
    known = _ids(home)
    if id not in known:
        raise UnknownName("experiment", id, known)
    return Experiment(folder(home) / id)


def every(home: Path) -> Iterator[Experiment]:
    """All of them, the latest first."""
    found = [Experiment(folder(home) / id) for id in _ids(home)]
    yield from sorted(found, key=lambda one: (one.path / "options.json").stat().st_mtime, reverse=True)


def start(settings: Settings, experiment: Experiment) -> State:
    """Runs it, or goes on with it, in a process that outlives this one; raises Conflict when it runs already."""
    require_idle(experiment)
    (experiment.path / "stop").unlink(missing_ok=True)
    with (experiment.path / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", "bench", "resume", experiment.id, "--json"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, **settings.environ(), "PYTHONPATH": _python_path()},
            start_new_session=True,
        )
    # Until it writes for itself.
    begun = replace(experiment.state(), state="starting", message="", begun_at=datetime.now(UTC))
    experiment.write_state(replace(begun, **me(process.pid)))
    threading.Thread(target=process.wait, daemon=True, name=f"reaper of {experiment.id}").start()
    return experiment.state()


def ask_stop(experiment: Experiment) -> None:
    """It stops within a second or so, with what it has; works from any machine that sees ENGINE_HOME."""
    if experiment.state().runs:
        (experiment.path / "stop").touch()


def wait_idle(experiment: Experiment, timeout_s: float = STOP_TIMEOUT_S) -> State:
    """The state in which it came to rest; raises NotReadyInTime."""
    deadline = time.monotonic() + timeout_s
    while (state := experiment.state()).runs:
        if time.monotonic() > deadline:
            where = f"process {state.pid} on {state.host}"
            raise NotReadyInTime(f"experiment {experiment.id} ({where}) did not stop within {timeout_s:.0f} s")
        time.sleep(0.1)
    return state


def delete(experiment: Experiment) -> None:
    """Raises Conflict while it runs."""
    require_idle(experiment)
    shutil.rmtree(experiment.path)


def require_idle(experiment: Experiment) -> None:
    """Raises Conflict while another process runs it."""
    state = experiment.state()
    if state.runs and not _is_me(state):
        where = f"process {state.pid} on {state.host}"
        raise Conflict(f"experiment {experiment.id} runs ({where}); `engine bench stop {experiment.id}` ends that")


def me(pid: int = 0) -> dict[str, Any]:
    """The fields of a State that name a process of this host, this one without `pid`."""
    pid = pid or os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": start_time(pid)}


def _is_me(state: State) -> bool:
    return state.host == socket.gethostname() and state.pid == os.getpid()


def _lives(state: State, age_s: float) -> bool:
    if state.host != socket.gethostname():
        return age_s < SILENT_S
    if not state.started:
        return age_s < START_TIMEOUT_S
    return not process_is_gone(state.pid) and start_time(state.pid) == state.started


def _ids(home: Path) -> list[str]:
    try:
        names = [path.name for path in folder(home).iterdir() if (path / "options.json").is_file()]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if ID.fullmatch(name))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]", "-", name.lower())[:60]


def _decoded(line: bytes) -> Any:
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(line)
    return None


def _read_json(path: Path) -> Any:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes())
    return None


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
