"""The controller: observe once, derive, plan, act, publish. The only one that changes a deployment."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from engine.catalogue import Catalogue, missing_source
from engine.errors import ConfigurationError, Conflict, UnknownName
from engine.fleet import render, store
from engine.fleet.act import Actor
from engine.fleet.deployments import Deployment, Event, Snapshot, Status
from engine.fleet.derive import derive
from engine.fleet.inspection import Inspection
from engine.fleet.lock import ControllerLock
from engine.fleet.nginx import Nginx
from engine.fleet.observe import Observer
from engine.fleet.plan import Drain
from engine.fleet.poll import Answer, JobPoller
from engine.fleet.publish import MaxConns, Publisher
from engine.fleet.request import LaunchRequest, compose
from engine.fleet.roster import Roster
from engine.fleet.schedulers.jobs import Job, Node, Scheduler
from engine.settings import Settings
from engine.site import Site

log = logging.getLogger(__name__)

TICK_S = 1.0
LOG_BYTES = 1 << 20


def utcnow() -> datetime:
    return datetime.now(UTC)


class Controller:
    """Keeps the deployments of one ENGINE_HOME up. Thread-safe; `snapshot` is read without a lock.

    `schedulers` maps `slurm` and `local` to what is there, the default first. `gateway` is the address (`HOST:PORT`)
    that NGINX forwards to, `max_conns` bounds what a replica gets from it.
    """

    def __init__(
        self,
        settings: Settings,
        site: Site,
        catalogue: Catalogue,
        schedulers: Mapping[str, Scheduler],
        nginx: Nginx | None = None,
        gateway: str | None = None,
        now: Callable[[], datetime] = utcnow,
        max_conns: MaxConns = lambda _: {},
    ) -> None:
        self._settings, self._site, self._catalogue = settings, site, catalogue
        self._now = now
        intervals = {"local": 0.0, "slurm": site.squeue_interval_s}
        self._pollers = {name: JobPoller(each, intervals[name], now) for name, each in schedulers.items()}
        self._roster = Roster(settings.home, now)
        self._actor = Actor(self._roster, self._pollers, site, settings.templates, self._publish)
        self._observer = Observer(self._roster, self._pollers, now)
        self._publisher = Publisher(settings, nginx, gateway, max_conns)
        self.inspection = Inspection(
            settings.home, site, catalogue, self._pollers, self._compose, self._actor.script, self._publisher, now
        )
        self._orphans_sought: dict[str, datetime] = {}
        self._troubles: dict[str, str] = {}
        self._mutex = threading.RLock()
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._lock = ControllerLock(settings.home)
        self.snapshot: Snapshot | None = None

    def run(self, wait_for_lock_s: float = 0.0) -> None:
        """Ticks until `shut_down`; raises Conflict when another controller holds this ENGINE_HOME."""
        self._lock.acquire(wait_for_lock_s)
        try:
            self._roster.load()
            while not self._stopping.is_set():
                with self._apart("this round"):
                    self._lock.renew()
                    self.tick()
                self._wake.wait(TICK_S)
                self._wake.clear()
        finally:
            self._lock.release()
            for poller in self._pollers.values():
                poller.close()

    def shut_down(self) -> None:
        self._stopping.set()
        self._wake.set()

    def tick(self) -> None:
        """One round: observe, derive, plan, act, publish."""
        answers = self._observer.answers()
        seen = self._observer.look(answers)
        with self._mutex:
            for status in self._roster:
                if status.deployment.name in seen:
                    with self._apart(f"deployment {status.deployment.name}"):
                        observation = seen[status.deployment.name]
                        self._roster.update(derive(status, observation, self._roster.home_id, self._now()))
            self._cancel_orphans(answers)
            for name in self._roster.names:
                with self._apart(f"deployment {name}"):
                    self._actor.settle(name)
            self._publish()

    def launch(self, request: LaunchRequest) -> Status:
        """Saves a new deployment and submits its replicas; asked again with the same request id, answers again.

        Raises ConfigurationError, Conflict or SubmitFailed, and then leaves nothing behind.
        """
        with self._mutex:
            deployment = self._compose(request)
            name = deployment.name
            known = self._roster.get(name)
            if known and request.request_id and known.deployment.request_id == request.request_id:
                return known
            self._roster.require_free(deployment)
            self._actor.script(deployment, 0, 0)
            self._roster.create(deployment)
            self._roster.say(name, "launched", f"{deployment.replicas} × {request.model or ' '.join(request.command)}")
            try:
                self._actor.settle(name, strict=True)
            except Exception:
                self._actor.withdraw(name)
                self._roster.remove(name)
                raise
            self._publish()
            return self._roster[name]

    def scale(self, name: str, replicas: int) -> Status:
        with self._mutex:
            status = self._kept(name)
            most = max(status.deployment.max_replicas, replicas)
            asked = replace(status.deployment, replicas=replicas, max_replicas=most)
            return self._ask(status, asked, "scaled", f"from {status.deployment.replicas} to {replicas} replicas")

    def restart(self, name: str) -> Status:
        """Replaces every replica, new ones first; also lets a deployment that gave up try again."""
        with self._mutex:
            status = self._kept(name)
            asked = replace(status.deployment, generation=status.deployment.generation + 1)
            return self._ask(status, asked, "restarted", f"generation {asked.generation} replaces the running replicas")

    def stop(self, name: str) -> Status:
        with self._mutex:
            status = self._roster[name]
            asked = replace(status.deployment, stopping=True, replicas=0)
            return self._ask(status, asked, "stopped", "all replicas drain, then the deployment is put into history/")

    def drain(self, name: str, index: int) -> Status:
        """Drains one replica; the wanted number stays, so that another takes its place."""
        with self._mutex:
            live = [replica for replica in self._roster[name].replicas if replica.live and not replica.leaving]
            chosen = next((replica for replica in live if replica.index == index), None)
            if chosen is None:
                raise UnknownName("replica", str(index), [str(replica.index) for replica in live])
            self._actor.drain(name, Drain(chosen, "asked by an operator"))
            self._actor.settle(name)
            self._publish()
            return self._roster[name]

    def render(self, request: LaunchRequest) -> str:
        """The script that a launch would submit; nothing is written or submitted."""
        return self._actor.script(self._compose(request), 0, 0)

    def events(self, name: str | None, limit: int) -> list[Event]:
        """The last events, oldest first, of one deployment (a stopped one, too) or of all."""
        names = [name] if name else self._roster.names
        found = [event for each in names for event in store.read_events(self._settings.home, each, limit)]
        return sorted(found, key=lambda event: event.at)[-limit:]

    def log(self, name: str, index: int | None, lines: int) -> str:
        """The tail of the newest attempt's log, of one replica or of whichever was submitted last."""
        replicas = self._roster[name].replicas
        if index is not None and index not in {replica.index for replica in replicas}:
            raise UnknownName("replica", str(index), [str(replica.index) for replica in replicas])
        tried = [replica for replica in replicas if replica.job_id and index in (None, replica.index)]
        if not tried:
            return ""
        path = self._roster.log_path(name, max(tried, key=lambda replica: replica.attempt))
        return "\n".join(store.tail(path, LOG_BYTES, lines))

    def jobs(self) -> dict[str, list[Job]]:
        return {name: list(poller.last.jobs or ()) if poller.last else [] for name, poller in self._pollers.items()}

    def cluster(self) -> dict[str, list[Node]]:
        return self.inspection.nodes()

    @property
    def squeue_calls(self) -> int:
        return sum(poller.calls for name, poller in self._pollers.items() if name == "slurm")

    def _cancel_orphans(self, answers: Mapping[str, Answer]) -> None:
        """Once per answer, or a scheduler that is seldom asked would be told the same many times."""
        for scheduler, answer in answers.items():
            if self._orphans_sought.get(scheduler) != answer.at:
                self._orphans_sought[scheduler] = answer.at
                self._actor.cancel_orphans(scheduler, answer.jobs or ())

    def _ask(self, status: Status, asked: Deployment, kind: str, words: str) -> Status:
        kept = tuple(replica for replica in status.replicas if replica.live)
        wanted = replace(status, deployment=asked, replicas=kept, failures=(), gave_up="")
        self._roster.keep(wanted)
        self._roster.say(asked.name, kind, words)
        self._actor.settle(asked.name)
        self._publish()
        return self._roster.get(asked.name) or wanted

    def _kept(self, name: str) -> Status:
        status = self._roster[name]
        if status.deployment.stopping:
            raise Conflict(f"deployment {name!r} is being stopped; launch it anew once it is gone")
        return status

    def _publish(self) -> None:
        """NGINX first: whoever reads in the snapshot that a replica serves may ask for it there at once."""
        try:
            self._publisher.publish(list(self._roster))
        finally:
            silent = {name: poller.silent_since for name, poller in self._pollers.items() if poller.silent_since}
            statuses = {status.deployment.name: status for status in self._roster}
            self.snapshot = Snapshot(self._now(), statuses, silent, self._observer.files)

    def _compose(self, request: LaunchRequest) -> Deployment:
        deployment = compose(
            request,
            catalogue=self._catalogue,
            site=self._site,
            engines=render.engines(self._settings.templates),
            schedulers=self._pollers,
            now=self._now(),
        )
        missing = missing_source(deployment.model) if deployment.model else ""
        if missing:
            raise ConfigurationError(missing)
        return deployment

    @contextmanager
    def _apart(self, what: str) -> Iterator[None]:
        """Trouble with one thing is told once, for it comes again each second, and stops nothing else: the next round
        starts from the same files. Only a lock that somebody else has taken ends our work.
        """
        try:
            yield
        except Conflict:
            raise
        except Exception as error:
            kind = f"{type(error).__name__} {getattr(error, 'errno', error)}"
            if self._troubles.get(what) != kind:
                log.exception("%s could not be seen to; it is tried again", what)
            self._troubles[what] = kind
