"""Deployments on disk: loading and saving what was asked for, what is known of the replicas, and the events."""

import logging
import re
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import ConfigurationError, UnknownName
from engine.fleet.deployments import (
    Deployment,
    Event,
    Failure,
    Folder,
    Replica,
    Status,
    create_whole,
    folder,
    secret,
    to_json,
    write_atomically,
)
from engine.settings import ROOT

log = logging.getLogger(__name__)

SIDECAR = ROOT / "engine" / "fleet" / "replica.py"
SECRET = re.compile(r"[A-Za-z0-9_-]{8,256}")
HISTORY_KEPT = 50
EVENTS_READ_BYTES = 1 << 20
EVENTS_KEPT_BYTES = 8 << 20


@dataclass(frozen=True)
class Record:
    """The content of replicas.json: what the controller must not forget across its own restart."""

    replicas: tuple[Replica, ...] = ()
    failures: tuple[Failure, ...] = ()
    next_attempt: int = 1
    gave_up: str = ""


def create(home: Path, deployment: Deployment) -> Status:
    """Makes the deployment's folder, keys and sidecar, and saves it.

    Its attempts are numbered on from those of former deployments of this name: the scheduler may still show their jobs.
    """
    place = folder(home, deployment.name)
    first = _next_attempt(home, deployment.name)
    deployment = replace(deployment, first_attempt=first)
    for path in (place.hosts, place.scripts, place.logs):
        path.mkdir(parents=True, exist_ok=True)
    # Servers and apps print what others should not read: prompts, addresses with tokens in them.
    for path in (place.scripts, place.logs):
        path.chmod(0o700)
    shutil.copyfile(SIDECAR, place.root / "replica.py")
    status = Status(
        deployment,
        next_attempt=first,
        replica_key=secret(place.replica_key),
        access_token=secret(place.access_token),
    )
    save(home, status)
    return status


def save(home: Path, status: Status) -> None:
    place = folder(home, status.deployment.name)
    record = Record(
        tuple(_without_key(replica) for replica in status.replicas),
        status.failures,
        status.next_attempt,
        status.gave_up,
    )
    _write_if_changed(place.replicas, to_json(record))
    # Its environment may hold a token that somebody gave with --env.
    _write_if_changed(place.deployment, to_json(status.deployment), mode=0o600)


def names(home: Path) -> list[str]:
    """Of every deployment under `home`, whether or not it can be read."""
    return sorted(file.parent.name for file in (home / "deployments").glob("*/deployment.json"))


def former(home: Path) -> dict[str, Path]:
    """The folders of the deployments that were stopped, by name, the last one of each; as far as history is kept."""
    return {place.name.partition("-")[2]: place for place in sorted((home / "history").glob("*-*"))}


def load_all(home: Path) -> dict[str, Status]:
    """Every deployment under `home` that can be read; of the others the log says why."""
    statuses = {}
    for name in names(home):
        try:
            statuses[name] = load(home, name)
        except ConfigurationError as error:
            log.error("%s; it is left alone until this is put right and the gateway started anew", error)
    return statuses


def load(home: Path, name: str) -> Status:
    """One deployment; raises ConfigurationError with the folder and what is wrong in it."""
    place = folder(home, name)
    try:
        deployment = msgspec.json.decode(place.deployment.read_bytes(), type=Deployment)
        keys = secret(place.access_token), secret(place.replica_key)
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"cannot read the deployment in {place.root}: {error}") from error
    if deployment.name != name or not all(SECRET.fullmatch(key) for key in keys):
        raise ConfigurationError(f"the deployment in {place.root} was changed by hand: its name, or one of its keys")
    record = _record(place, deployment)
    return Status(deployment, record.replicas, record.failures, record.next_attempt, record.gave_up, *keys)


def _record(place: Folder, deployment: Deployment) -> Record:
    """What replicas.json holds. Without it the jobs tell by their marks which replicas there are, and the scripts
    which attempts there were.
    """
    try:
        return msgspec.json.decode(place.replicas.read_bytes(), type=Record)
    except FileNotFoundError:
        pass
    except (ValueError, OSError) as error:
        log.error("%s cannot be read, replicas are looked for among the jobs: %s", place.replicas, error)
    tried = [int(path.stem.rpartition("-")[2]) for path in place.scripts.glob("*-*.slurm")]
    return Record(next_attempt=max([deployment.first_attempt, *(attempt + 1 for attempt in tried)]))


def archive(home: Path, status: Status, now: datetime) -> Path:
    """Moves a stopped deployment's folder to history/, without its secrets, and keeps the last few there."""
    name = status.deployment.name
    place, history = folder(home, name), home / "history"
    _keep_next_attempt(home, status)
    place.replica_key.unlink(missing_ok=True)
    place.access_token.unlink(missing_ok=True)
    history.mkdir(exist_ok=True)
    target = history / f"{now:%Y%m%dT%H%M%S.%f}-{name}"
    place.root.rename(target)
    for old in sorted(history.iterdir())[:-HISTORY_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def remove(home: Path, status: Status) -> None:
    _keep_next_attempt(home, status)
    place = folder(home, status.deployment.name)
    # Without this file it is no deployment, even if something in the folder cannot be removed.
    place.deployment.unlink(missing_ok=True)
    shutil.rmtree(place.root, ignore_errors=True)


def _next_attempt(home: Path, name: str) -> int:
    path = home / "attempts" / name
    return int(path.read_text()) if path.exists() else 1


def _keep_next_attempt(home: Path, status: Status) -> None:
    path = home / "attempts" / status.deployment.name
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, f"{status.next_attempt}\n")


def append_events(home: Path, events: Iterable[Event]) -> None:
    for event in events:
        path = folder(home, event.deployment).events
        if path.parent.is_dir():
            with path.open("ab") as file:
                file.write(msgspec.json.encode(event) + b"\n")
                size = file.tell()
            if size > EVENTS_KEPT_BYTES:
                _halve(path)


def read_events(home: Path, name: str, limit: int) -> list[Event]:
    """The last `limit` events of a deployment, oldest first; of a stopped one, too, if its name is not in use again.

    Raises UnknownName when there never was one.
    """
    path = folder(home, name).events
    if not path.exists():
        stopped = former(home)
        if name not in stopped:
            raise UnknownName("deployment", name, [place.name for place in (home / "deployments").glob("*")])
        path = stopped[name] / "events.jsonl"
    return [event for event in map(_decode_event, tail(path, EVENTS_READ_BYTES, limit)) if event]


def tail(path: Path, limit_bytes: int, lines: int) -> list[str]:
    """The last lines of a text file, reading at most `limit_bytes` of it; empty when there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit_bytes))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


def home_id(home: Path) -> str:
    """The random mark of this ENGINE_HOME, part of every job's comment."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / "home.id"
    if not path.exists():
        create_whole(path, secrets.token_hex(4) + "\n")
    return path.read_text().strip()


def _decode_event(line: str) -> Event | None:
    try:
        return msgspec.json.decode(line, type=Event)
    except msgspec.DecodeError:
        return None


def _halve(path: Path) -> None:
    kept = tail(path, EVENTS_KEPT_BYTES // 2, 1 << 30)[1:]
    write_atomically(path, "\n".join(kept) + "\n")


def _write_if_changed(path: Path, text: str, mode: int = 0o644) -> None:
    try:
        if path.read_text() == text:
            return
    except FileNotFoundError:
        pass
    write_atomically(path, text, mode)


def _without_key(replica: Replica) -> Replica:
    return replace(replica, endpoint=replace(replica.endpoint, key="")) if replica.endpoint else replica


def plain(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Events as JSON-ready values, times in ISO 8601."""
    return [msgspec.to_builtins(event) for event in events]
