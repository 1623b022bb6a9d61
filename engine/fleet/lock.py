"""One controller per ENGINE_HOME: a lock file with a lease, which works over NFS where flock may not."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from engine.errors import Conflict
from engine.fleet.deployments import create_whole, write_atomically

LEASE_S = 60.0
# Taking over is a matter of milliseconds; whoever has been at it for this long died of it.
TAKE_OVER_S = 10.0

Holder = dict[str, object]


class ControllerLock:
    """Held by renewing it; ends by `release`, by the death of its process on this host, or by LEASE_S of silence."""

    def __init__(self, home: Path) -> None:
        self._path = home / "controller.lock"
        self._me: Holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": start_time(os.getpid())}

    def acquire(self, wait_s: float = 0.0) -> None:
        """Takes the lock; raises Conflict, saying who holds it, when it is still held after `wait_s`."""
        deadline = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() >= deadline:
                raise Conflict(f"another controller serves {self._path.parent}: {_describe(self._holder())}")
            time.sleep(0.1)

    def renew(self) -> None:
        """Marks the lease as alive; raises Conflict when somebody else has taken it meanwhile, OSError when the file
        system does not tell.
        """
        if self._holder() is None:
            # Removed by hand, or a file system that is away for a moment; nobody else has it.
            create_whole(self._path, json.dumps(self._me))
        if self._holder() not in (self._me, None):
            raise Conflict(f"the controller's lock was taken over by {_describe(self._holder())}")
        os.utime(self._path)

    def release(self) -> None:
        if self._holder() == self._me:
            self._path.unlink(missing_ok=True)

    def _try(self) -> bool:
        if create_whole(self._path, json.dumps(self._me)):
            return True
        holder = self._holder()
        return holder == self._me or (self._is_stale(holder) and self._take_over(holder))

    def _take_over(self, stale: Holder | None) -> bool:
        """Replaces a stale lock in place, so that there is never none.

        Of several who found it stale, one is let in at a time.
        """
        door = self._path.with_name(f"{self._path.name}.takeover")
        if not create_whole(door, ""):
            if _age_s(door) > TAKE_OVER_S:
                door.unlink(missing_ok=True)
            return False
        try:
            if self._holder() != stale:
                return False
            write_atomically(self._path, json.dumps(self._me))
            return True
        finally:
            door.unlink(missing_ok=True)

    def _holder(self) -> Holder | None:
        try:
            holder = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return None
        return holder if isinstance(holder, dict) else None

    def _is_stale(self, holder: Holder | None) -> bool:
        if holder and holder.get("host") == self._me["host"]:
            return start_time(holder.get("pid")) != holder.get("started")
        return _age_s(self._path) > LEASE_S


def start_time(pid: object) -> str:
    """When a process started, in clock ticks since boot, as /proc tells; empty when it has ended.

    With the pid it names a process.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        return ""


def process_is_gone(pid: int) -> bool:
    """True when no process has this pid, or only a zombie does."""
    return not start_time(pid)


def _age_s(path: Path) -> float:
    with suppress(OSError):
        return time.time() - path.stat().st_mtime
    return 0.0


def _describe(holder: Holder | None) -> str:
    return f"process {holder.get('pid')} on {holder.get('host')}" if holder else "nobody"
