"""The process that stands beside a local job, as slurmstepd does beside one of Slurm's: `local_job.py FOLDER`.

It outlives the engine. It starts the script, keeps its time limit, ends all of its processes with it, and writes how it
ended. FOLDER holds job.json (what to run); it writes runner.json (who it is) and end.json. Standard library alone, to
start in some 30 ms. Also here: how a process is known again (pid, start time and boot), Linux only.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

KILL_WAIT_S = 5.0
_PR_SET_CHILD_SUBREAPER = 36


def main(folder: Path) -> None:
    if os.fork():
        return
    os.setsid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    # What the job leaves behind becomes our child, so that all of its processes stand below us.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if not claim(folder):
        return
    try:
        job = json.loads((folder / "job.json").read_text())
        end = Supervisor(folder, job).run()
    except Exception as error:  # whatever it is, the queue must learn that the job ended
        end = {"state": "FAILED", "exit_code": "1:0", "reason": f"the job could not be started: {error}"}
    write(folder / "end.json", {**end, "ended_at": datetime.now(UTC).isoformat()})


class Supervisor:
    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder, self.job, self.request = folder, job, job["request"]
        self.state = ""
        self.status: int | None = None
        self.shell = 0
        self.due: list[tuple[float, str]] = []
        self.kill_at = 0.0

    def run(self) -> dict[str, str]:
        if (self.folder / "cancel").exists():
            return {"state": "CANCELLED", "exit_code": "0:0", "reason": ""}
        self.start()
        while self.status is None:
            self.step()
        self.clear()
        ended = "COMPLETED" if self.status == 0 else "FAILED"
        return {"state": self.state or ended, "exit_code": exit_code(self.status), "reason": ""}

    def start(self) -> None:
        job, request = self.job, self.request
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if request["append"] else os.O_TRUNC)
        output = os.open(job["output"], flags, 0o644)
        process = subprocess.Popen(
            [*request["interpreter"], str(self.folder / "script")],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=job["cwd"], start_new_session=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, set()),
        )  # fmt: skip
        os.close(output)
        self.shell = process.pid
        process.returncode = 0  # reaped below, with everything else
        write(self.folder / "runner.json", {**me(), "shell": self.shell, "shell_ticks": start_ticks(self.shell)})
        if request["time_limit_s"]:
            limit = time.monotonic() + request["time_limit_s"]
            early = [(limit - request["signal_lead_s"], "signal")] if request["signal"] else []
            self.due = [*early, (limit, "limit")]

    def step(self) -> None:
        wait_s = max(0.0, self.due[0][0] - time.monotonic()) if self.due else 3600.0
        arrived = signal.sigtimedwait({signal.SIGTERM, signal.SIGCHLD}, wait_s)
        if arrived and arrived.si_signo == signal.SIGTERM and not self.state:
            self.end("CANCELLED")
        while self.due and time.monotonic() >= self.due[0][0]:
            self.act(self.due.pop(0)[1])
        self.reap()

    def act(self, what: str) -> None:
        if what == "signal":
            number = getattr(signal, f"SIG{self.request['signal']}")
            below = [pid for pid in processes_below(os.getpid()) if pid != self.shell]
            send([self.shell] if self.request["signal_shell_only"] else below, number)
        elif what == "limit":
            self.end("TIMEOUT")
        else:
            send(processes_below(os.getpid()), signal.SIGKILL)

    def end(self, state: str) -> None:
        self.state = state
        send(processes_below(os.getpid()), signal.SIGTERM)
        self.kill_at = time.monotonic() + KILL_WAIT_S
        self.due = [(self.kill_at, "kill")]

    def clear(self) -> None:
        """What the script left running gets TERM, and KILL after the wait."""
        if not self.state:
            self.kill_at = time.monotonic() + KILL_WAIT_S
            send(processes_below(os.getpid()), signal.SIGTERM)
        while left := processes_below(os.getpid()):
            if time.monotonic() >= self.kill_at:
                send(left, signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, 0.1)
            self.reap()

    def reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.shell:
                    self.status = status


def exit_code(status: int) -> str:
    """`code:signal` of wait(2)'s status."""
    return f"0:{os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"{os.WEXITSTATUS(status)}:0"


def claim(folder: Path) -> bool:
    """Becomes the one runner of this job; false when there is or was another."""
    descriptor, temporary = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w") as file:
        json.dump(me(), file)
    try:
        os.link(temporary, folder / "runner.json")
        return True
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink()


def write(path: Path, value: dict[str, Any]) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
    Path(temporary).replace(path)


def me() -> dict[str, Any]:
    return {"pid": os.getpid(), "ticks": start_ticks(os.getpid()), "boot": boot_id()}


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when there is none, or only a zombie."""
    fields = _stat(pid)
    return None if not fields or fields[0] in "ZX" else int(fields[19])


def processes_below(ancestor: int) -> list[int]:
    """All living descendants of a process."""
    children: dict[int, list[int]] = {}
    dead = set()
    for pid in pids():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
            if fields[0] in "ZX":
                dead.add(pid)
    found, todo = [], [ancestor]
    while todo:
        below = children.get(todo.pop(), [])
        todo += below
        found += below
    return [pid for pid in found if pid not in dead]


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def send(targets: Iterable[int], number: int) -> None:
    for pid in targets:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from the state on; the command before it may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


if __name__ == "__main__":
    main(Path(sys.argv[1]))
