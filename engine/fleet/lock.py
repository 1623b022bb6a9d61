"""One controller per ENGINE_HOME: a lock file with a lease, which works over NFS where flock may not."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from engine.errors import Conflict

LEASE_S = 60.0


class ControllerLock:
    """Held by renewing it; given up by `release`, by the death of its process on this host, or by LEASE_S of silence."""

    def __init__(self, home: Path) -> None:
        self._path = home / "controller.lock"
        self._me = {"host": socket.gethostname(), "pid": os.getpid(), "started": _start_time(os.getpid())}

    def acquire(self, wait_s: float = 0.0) -> None:
        """Takes the lock; raises Conflict, saying who holds it, when it is still held after `wait_s`."""
        deadline = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() >= deadline:
                raise Conflict(f"another controller serves {self._path.parent}: {_describe(self._holder())}")
            time.sleep(0.1)

    def renew(self) -> None:
        """Marks the lease as alive; raises Conflict when somebody else has taken it meanwhile."""
        if self._holder() != self._me:
            raise Conflict(f"the controller's lock was taken over by {_describe(self._holder())}")
        os.utime(self._path)

    def release(self) -> None:
        if self._holder() == self._me:
            self._path.unlink(missing_ok=True)

    def _try(self) -> bool:
        if self._create():
            return True
        holder = self._holder()
        if holder is None or holder == self._me or self._is_stale(holder):
            # Renaming is atomic: of several that find a stale lock, one moves it away, and all then race to create.
            aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            with suppress(FileNotFoundError):
                self._path.rename(aside)
                aside.unlink()
            return self._create()
        return False

    def _create(self) -> bool:
        try:
            descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w") as file:
            json.dump(self._me, file)
        return True

    def _holder(self) -> dict[str, object] | None:
        try:
            holder = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None
        return holder if isinstance(holder, dict) else None

    def _is_stale(self, holder: dict[str, object]) -> bool:
        if holder.get("host") == self._me["host"]:
            return _start_time(int(str(holder.get("pid", 0)))) != holder.get("started")
        with suppress(OSError):
            return time.time() - self._path.stat().st_mtime > LEASE_S
        return True


def _start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot, as /proc tells; empty when it is gone. With the pid it names a process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _describe(holder: dict[str, object] | None) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')}" if holder else "nobody"


def process_is_gone(pid: int) -> bool:
    """True when no process has this pid, or only a zombie does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
