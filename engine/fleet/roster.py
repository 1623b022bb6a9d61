"""The roster: every deployment's status, kept in memory and on disk alike, and its history."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from engine.errors import Conflict, UnknownName
from engine.fleet import store
from engine.fleet.deployments import Deployment, Event, Replica, Status, folder
from engine.fleet.derive import Mark
from engine.fleet.history import events_between

log = logging.getLogger(__name__)


class Roster:
    """Whatever changes here is on disk before the call returns, so that a crash at any line loses nothing."""

    def __init__(self, home: Path, now: Callable[[], datetime]) -> None:
        self.home, self.now = home, now
        self.home_id = store.home_id(home)
        self._statuses: dict[str, Status] = {}
        self._unsaved: set[str] = set()
        # Deployments that cannot be read: not ours to change, and their jobs not ours to end.
        self.damaged: frozenset[str] = frozenset()

    def load(self) -> None:
        self._statuses = store.load_all(self.home)
        self.damaged = frozenset(store.names(self.home)) - set(self._statuses)

    def __iter__(self) -> Iterator[Status]:
        return iter(list(self._statuses.values()))

    def __contains__(self, name: str) -> bool:
        return name in self._statuses

    def __getitem__(self, name: str) -> Status:
        if name not in self._statuses:
            raise UnknownName("deployment", name, self._statuses)
        return self._statuses[name]

    @property
    def names(self) -> list[str]:
        return list(self._statuses)

    def get(self, name: str) -> Status | None:
        return self._statuses.get(name)

    def require_free(self, deployment: Deployment) -> None:
        """Raises Conflict where another has its name or its path."""
        if deployment.name in self.damaged:
            raise Conflict(f"there is a deployment named {deployment.name!r} that cannot be read; the log says why")
        if deployment.name in self:
            raise Conflict(f"a deployment named {deployment.name!r} exists; stop it first, or give another --name")
        if deployment.path and any(status.deployment.path == deployment.path for status in self):
            raise Conflict(f"path {deployment.path!r} is taken by another app; give another --path")

    def create(self, deployment: Deployment) -> None:
        self._statuses[deployment.name] = store.create(self.home, deployment)

    def remove(self, name: str) -> None:
        store.remove(self.home, self._statuses.pop(name))

    def archive(self, name: str) -> None:
        store.archive(self.home, self[name], self.now())
        del self._statuses[name]

    def keep(self, status: Status) -> None:
        """Saves a status if it is not what is saved already. Where that fails (a full disk) it is known all the same,
        and saved next time.
        """
        name = status.deployment.name
        if self._statuses.get(name) != status or name in self._unsaved:
            self._statuses[name] = status
            self._unsaved.add(name)
            store.save(self.home, status)
            self._unsaved.remove(name)

    def update(self, status: Status) -> None:
        """Keeps a newly observed status and records what it means for each replica."""
        name = status.deployment.name
        before = self._statuses[name]
        for event in events_between(before, status, self.now()):
            self.record(event)
        self.keep(status)
        for job_id in _living(before) - _living(status):
            # Who was killed leaves its host file behind.
            (folder(self.home, name).hosts / f"{job_id}.json").unlink(missing_ok=True)

    def change(self, name: str, replica: Replica) -> None:
        """Keeps one replica's new state; it is known by its attempt."""
        status = self[name]
        replicas = tuple(replica if known.attempt == replica.attempt else known for known in status.replicas)
        self.keep(replace(status, replicas=replicas))

    def say(self, name: str, kind: str, message: str, replica: Replica | None = None) -> None:
        index, job_id = (replica.index, replica.job_id) if replica else (None, "")
        self.record(Event(self.now(), name, kind, message, index, job_id))

    def record(self, event: Event) -> None:
        place = event.deployment if event.index is None else f"{event.deployment}/{event.index}"
        log.info("%s %s: %s", place, event.kind, event.message)
        try:
            store.append_events(self.home, [event])
        except OSError as error:
            log.error("the history of %s lacks this event: %s", event.deployment, error)

    def log_path(self, name: str, replica: Replica) -> Path:
        return folder(self.home, name).logs / f"{replica.job_id}.out"

    def last_line(self, name: str, replica: Replica) -> str:
        return next(iter(store.tail(self.log_path(name, replica), 1 << 16, 1)), "").strip()[-500:]

    def tracked(self, scheduler: str) -> dict[str, str]:
        """Job ids of this scheduler's live replicas, with the comment that marks each."""
        return {
            replica.job_id: str(Mark(self.home_id, status.deployment.name, replica.index, replica.attempt))
            for status in self
            if status.deployment.scheduler == scheduler
            for replica in status.replicas
            if replica.live and replica.job_id
        }


def _living(status: Status) -> set[str]:
    return {replica.job_id for replica in status.replicas if replica.live and replica.job_id}
