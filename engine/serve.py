"""`engine serve`: a supervisor that holds the listening socket, and a worker (gateway and controller) that may come
and go.

The socket outlives every worker, so that while one is replaced, whether asked by SIGTERM or dead by SIGKILL, new
connections wait in the kernel's queue instead of being refused.
"""

import logging
import os
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from socket import socket

from engine import presence
from engine.errors import ConfigurationError, EngineError
from engine.fleet.lock import ControllerLock, start_time
from engine.fleet.nginx import Nginx
from engine.ports import is_free, listen
from engine.settings import Settings, require_local_disk

log = logging.getLogger(__name__)

SOCKET_FD, NOTIFY_FD, LIFE_FD = "ENGINE_SOCKET_FD", "ENGINE_NOTIFY_FD", "ENGINE_LIFE_FD"
TOKEN = "ENGINE_OPERATOR_TOKEN"
LEAVING = b"l"
# A worker that dies sooner than this did not come up; the next one waits longer.
YOUNG_S = 10.0
LONGEST_PAUSE_S = 30.0
EARLY_DEATHS = 5
# A gateway whose supervisor was killed leaves by itself; this long is it waited for.
PREDECESSOR_S = 5.0


@dataclass
class Worker:
    """One gateway process. `notify` turns readable when it says that it is leaving, or has died."""

    process: "subprocess.Popen[bytes]"
    notify: int
    started: float
    leaving: bool = False


class Supervisor:
    """Runs workers one after the other until SIGTERM or SIGINT; `until_eof` also ends it when standard input closes.

    SIGHUP replaces the worker without losing a request: the old one ends what it has begun.
    """

    def __init__(self, settings: Settings, use_nginx: bool = True, until_eof: bool = False) -> None:
        self._settings, self._until_eof = settings, until_eof
        self._nginx = Nginx(settings.home / "nginx") if use_nginx and Nginx.available() else None
        self._token = secrets.token_urlsafe(32)
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._wake_out, self._wake_in = os.pipe()
        # Never written to: it closes with us, which tells the workers.
        self._life_out, self._life_in = os.pipe()
        self._ending = self._replace = False
        self._early_deaths = 0

    @property
    def address(self) -> str:
        return f"http://{self._settings.host}:{self._settings.address_port}"

    def run(self) -> None:
        """Serves until told to end; raises ConfigurationError or Conflict when it cannot start."""
        settings = self._settings
        _prepare(settings)
        self._require_free_address()
        with self._listen() as listener:
            self._listen_for_signals()
            host, port = listener.getsockname()[:2]
            pid = os.getpid()
            here = presence.Presence(f"http://{host}:{port}", self.address, pid, self._token, start_time(pid))
            presence.announce(settings.home, here)
            try:
                self._supervise(listener)
            finally:
                presence.withdraw(settings.home, os.getpid())
                self._end_all()

    def _listen(self) -> socket:
        """Behind NGINX the gateway listens at its own port on loopback; without NGINX at the one address itself."""
        settings = self._settings
        if self._nginx:
            return listen("127.0.0.1", settings.port, PREDECESSOR_S)
        log.warning("no NGINX here: the gateway itself listens at %s, and serves all but the apps", self.address)
        return listen(settings.host, settings.address_port, PREDECESSOR_S)

    def _require_free_address(self) -> None:
        if self._nginx:
            self._nginx.stop()
            if not is_free(self._settings.host, self._settings.address_port):
                raise ConfigurationError(f"{self.address} is taken by another program; set ENGINE_ADDRESS_PORT")

    def _listen_for_signals(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self._end())
        signal.signal(signal.SIGINT, lambda *_: self._end())
        signal.signal(signal.SIGHUP, lambda *_: self._ask_replacement())
        self._selector.register(self._wake_out, selectors.EVENT_READ)
        if self._until_eof:
            threading.Thread(target=self._wait_for_eof, daemon=True).start()

    def _wait_for_eof(self) -> None:
        while os.read(0, 1024):
            pass
        self._end()

    def _end(self) -> None:
        self._ending = True
        os.write(self._wake_in, b"x")

    def _ask_replacement(self) -> None:
        self._replace = True
        os.write(self._wake_in, b"x")

    def _supervise(self, listener: socket) -> None:
        while not self._ending:
            if not any(not worker.leaving for worker in self._workers):
                self._start_worker(listener)
            for key, _ in self._selector.select(timeout=60):
                if key.fd == self._wake_out:
                    os.read(self._wake_out, 1024)
                else:
                    self._heard_from(key.data)
            if self._replace:
                self._replace = False
                self._tell_all_to_leave()

    def _start_worker(self, listener: socket) -> None:
        pause = min(LONGEST_PAUSE_S, 0.5 * 2**self._early_deaths) if self._early_deaths else 0.0
        if self._early_deaths >= EARLY_DEATHS:
            raise EngineError(f"the gateway ended {EARLY_DEATHS} times before it was up; its last words stand above")
        time.sleep(pause)
        notify, notify_in = os.pipe()
        environment = {
            **os.environ,
            **self._settings.environ(),
            SOCKET_FD: str(listener.fileno()),
            NOTIFY_FD: str(notify_in),
            LIFE_FD: str(self._life_out),
            TOKEN: self._token,
            "ENGINE_NGINX": "1" if self._nginx else "",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "engine.worker"],
            env=environment,
            pass_fds=(listener.fileno(), notify_in, self._life_out),
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(notify_in)
        worker = Worker(process, notify, time.monotonic())
        self._workers.append(worker)
        self._selector.register(notify, selectors.EVENT_READ, worker)
        log.info("gateway process %d", process.pid)

    def _heard_from(self, worker: Worker) -> None:
        if os.read(worker.notify, 1) == LEAVING:
            worker.leaving = True
            self._early_deaths = 0
            return
        self._selector.unregister(worker.notify)
        os.close(worker.notify)
        self._workers.remove(worker)
        status = worker.process.wait()
        if not worker.leaving:
            log.error("the gateway process %d ended (%s); another takes its place", worker.process.pid, _ending(status))
            young = time.monotonic() - worker.started < YOUNG_S
            self._early_deaths = self._early_deaths + 1 if young else 0

    def _tell_all_to_leave(self) -> None:
        for worker in self._workers:
            if not worker.leaving:
                worker.process.terminate()

    def _end_all(self) -> None:
        self._tell_all_to_leave()
        for worker in self._workers:
            try:
                worker.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        if self._nginx:
            with suppress(EngineError):
                self._nginx.stop()


def _prepare(settings: Settings) -> None:
    # Whoever could write here could run code in our jobs, or have our requests sent to a replica of his own.
    os.umask(os.umask(0o022) | 0o022)
    require_local_disk(settings.local)
    # A folder that is there already, perhaps with other things in it, keeps its mode.
    for path, mode in ((settings.home, 0o755), (settings.local, 0o700)):
        try:
            path.mkdir(mode, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make {path}: {error.strerror}; set ENGINE_HOME or ENGINE_LOCAL"
            ) from error
    lock = ControllerLock(settings.home)
    lock.acquire(PREDECESSOR_S)
    lock.release()


def _ending(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
