"""Starts, reloads and stops the NGINX at the one address: without root, everything of it in one folder."""

import os
import re
import shlex
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from engine.errors import NginxError
from engine.fleet.deployments import write_atomically
from engine.fleet.run import Completed, Run
from engine.fleet.run import run as run_program

TEMPORARY = ("body", "proxy", "fastcgi", "uwsgi", "scgi")
# nginx itself tries to bind for 2.5 s.
TIMEOUT_S = 20.0
SETTLE_S = 5.0
RELOAD_S = 2.0


def command_line(pid: int) -> str:
    """The command line of a process, empty when there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class Nginx:
    """One NGINX with `root` as its prefix. It is a daemon and outlives the engine; who comes next finds it by its pid.

    `command` runs nginx where it is not in the PATH, for example `("apptainer", "exec", "nginx.sif", "nginx")`; by
    default ENGINE_NGINX_COMMAND. Every method raises NginxError with nginx's own line.
    """

    def __init__(
        self,
        root: Path,
        run: Run = run_program,
        command: tuple[str, ...] | None = None,
        command_line: Callable[[int], str] = command_line,
    ) -> None:
        self.root = root.absolute()
        self._run, self._command_line = run, command_line
        self._command = find() if command is None else command

    @staticmethod
    def available() -> bool:
        return bool(find())

    @property
    def binary(self) -> str:
        """The program that is run; empty when there is none."""
        return self._command[0] if self._command else ""

    @property
    def configuration(self) -> Path:
        return self.root / "nginx.conf"

    @property
    def pid(self) -> int | None:
        """Of our master process; None when the pid file is stale or names somebody else's process."""
        try:
            text = (self.root / "nginx.pid").read_text().strip()
        except OSError:
            return None
        ours = text.isdecimal() and f"-p {self.root}/ " in self._command_line(int(text)) + " "
        return int(text) if ours else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def apply(self, text: str) -> bool:
        """Makes `text` the configuration in force and NGINX run; returns whether the configuration was changed.

        One that nginx refuses leaves the old one in force.
        """
        changed = self._current() != text
        if changed:
            self._replace(text)
        if not self.running:
            self.start()
        elif changed:
            self._reload()
        return changed

    def start(self) -> None:
        """Starts NGINX with the configuration that was applied last; nothing to do when it runs."""
        if self.running:
            return
        if not self.configuration.exists():
            raise NginxError(f"nginx cannot start: there is no {self.configuration} yet")
        self._make_folders()
        (self.root / "nginx.pid").unlink(missing_ok=True)
        self._must(self._nginx(), "start")
        if not self._wait_until(running=True):
            raise NginxError(f"nginx was started but is not there after {SETTLE_S:g} s; see {self.root}/logs/error.log")

    def stop(self, drain_s: float = 0.0) -> None:
        """Stops it at once, or after requests under way had `drain_s` to end. Nothing to do when it does not run."""
        if self.running and drain_s > 0:
            self._must(self._nginx("-s", "quit"), "quit")
            self._wait_until(running=False, deadline_s=drain_s)
        if self.running:
            self._must(self._nginx("-s", "stop"), "stop")
            if not self._wait_until(running=False):
                raise NginxError(f"nginx (pid {self.pid}) was told to stop and still runs after {SETTLE_S:g} s")
        (self.root / "nginx.pid").unlink(missing_ok=True)

    def _current(self) -> str | None:
        try:
            return self.configuration.read_text()
        except OSError:
            return None

    def _reload(self) -> None:
        """Returns when the former workers take no more connections: until then they answer by the old configuration."""
        former = self._workers()
        self._must(self._nginx("-s", "reload"), "reload")
        deadline = time.monotonic() + RELOAD_S
        while former & self._workers() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _workers(self) -> set[int]:
        """Worker processes that take connections; one that shuts down only ends those it has."""
        pid = self.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return set()
        titles = {int(child): self._command_line(int(child)) for child in children}
        return {child for child, title in titles.items() if title.strip() == "nginx: worker process"}

    def _replace(self, text: str) -> None:
        self._make_folders()
        trial = self.root / "nginx.conf.new"
        write_atomically(trial, text, mode=0o600)
        try:
            self._must(self._nginx("-t", "-q", file=trial), "test of the new configuration")
            trial.replace(self.configuration)
        finally:
            trial.unlink(missing_ok=True)

    def _make_folders(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for name in ("logs", *(f"temp/{kind}" for kind in TEMPORARY)):
            (self.root / name).mkdir(parents=True, exist_ok=True)

    def _nginx(self, *arguments: str, file: Path | None = None) -> Completed:
        if not self._command:
            raise NginxError("there is no nginx in the PATH; install it, or set ENGINE_NGINX_COMMAND")
        argv = [*self._command, "-p", f"{self.root}/", "-c", str(file or self.configuration), "-e", "logs/error.log"]
        if os.geteuid() == 0:
            # Else its workers become `nobody`, who may not enter this folder.
            argv += ["-g", "user root;"]
        try:
            return self._run([*argv, *arguments], TIMEOUT_S)
        except (OSError, TimeoutError) as error:
            raise NginxError(f"{shlex.join([*argv, *arguments])}: {error}") from error

    def _must(self, done: Completed, what: str) -> None:
        if done.returncode != 0:
            raise NginxError(f"nginx, {what}: {reason(done.stderr)}; see {self.root}/logs/error.log")

    def _wait_until(self, *, running: bool, deadline_s: float = SETTLE_S) -> bool:
        deadline = time.monotonic() + deadline_s
        while self.running != running:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def find() -> tuple[str, ...]:
    """The command that runs nginx; Debian keeps it where a plain user's PATH does not lead."""
    given = shlex.split(os.environ.get("ENGINE_NGINX_COMMAND", ""))
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/local/nginx/sbin")
    return tuple(given) if given else (found,) if found else ()


def reason(stderr: str) -> str:
    """What nginx said, in one line: the first emergency; a taken port in plain words."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = next((line for line in lines if "[emerg]" in line), lines[-1] if lines else "no word of why")
    taken = re.search(r"bind\(\) to (\S+) failed \(98: ", said)
    if taken:
        return f"{taken[1]} is taken by another program; set ENGINE_ADDRESS_PORT to a free port"
    return said.removeprefix("nginx: ")
