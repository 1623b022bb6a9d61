"""Which gateway serves this ENGINE_HOME: gateway.json, readable by its owner alone, and how to start one for as long
as one is needed.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import msgspec

from engine.errors import EngineError, NotReadyInTime
from engine.fleet.deployments import to_json, write_atomically
from engine.fleet.lock import start_time
from engine.ports import free_port, is_free
from engine.settings import ROOT, Settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Presence:
    """A running gateway: `url` is where it listens, `address` the one address for people, `token` an operator's for
    this start. `pid` and `started` name its process, so that a file left behind is not taken for another program.
    """

    url: str
    address: str
    pid: int
    token: str = field(repr=False)
    started: str = ""


def announce(home: Path, presence: Presence) -> None:
    write_atomically(home / "gateway.json", to_json(presence), mode=0o600)


def withdraw(home: Path, pid: int) -> None:
    known = _read(home)
    if known and known.pid == pid:
        (home / "gateway.json").unlink(missing_ok=True)


def find(home: Path) -> Presence | None:
    """The gateway of this ENGINE_HOME, if its process lives on this machine and answers."""
    known = _read(home)
    if known is None or not known.started or start_time(known.pid) != known.started:
        return None
    try:
        httpx.get(f"{known.url}/health", timeout=ANSWER_TIMEOUT_S, trust_env=False)
    except httpx.TimeoutException:
        return known
    except httpx.HTTPError:
        return None
    return known


@contextmanager
def gateway(settings: Settings, say: Callable[[str], None]) -> Iterator[Presence]:
    """The gateway that serves this home or, where there is none, one of our own, which ends with this block."""
    known = find(settings.home)
    if known:
        yield known
        return
    process = _start(settings)
    try:
        yield _wait(process, settings, say)
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def _read(home: Path) -> Presence | None:
    try:
        return msgspec.json.decode((home / "gateway.json").read_bytes(), type=Presence)
    except (OSError, msgspec.DecodeError):
        return None


def _start(settings: Settings) -> "subprocess.Popen[bytes]":
    """`engine serve` in a session of its own: it ends when our end of its standard input closes, however we end."""
    settings = replace(
        settings,
        port=settings.port if is_free(settings.host, settings.port) else free_port(settings.host),
        address_port=settings.address_port
        if is_free(settings.host, settings.address_port)
        else free_port(settings.host),
    )
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "serve.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "engine", "serve", "--until-eof"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env={**os.environ, **settings.environ(), "PYTHONPATH": _python_path()},
            start_new_session=True,
        )


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


def _wait(process: "subprocess.Popen[bytes]", settings: Settings, say: Callable[[str], None]) -> Presence:
    say("starting the gateway")
    deadline = time.monotonic() + START_TIMEOUT_S
    log = settings.home / "serve.log"
    while time.monotonic() < deadline:
        known = find(settings.home)
        if known:
            return known
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise EngineError(
                f"the gateway ended at once: {lines[-1].removeprefix('engine: ') if lines else 'no output'}; log: {log}"
            )
        time.sleep(0.1)
    raise NotReadyInTime(f"the gateway did not answer within {START_TIMEOUT_S:.0f} s; log: {log}")
