"""Real processes for tests: started on free ports, ended by their pid."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Server:
    """A server process that answers at 127.0.0.1:port."""

    process: "subprocess.Popen[bytes]"
    port: int
    key: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: "subprocess.Popen[bytes] | None" = None, deadline_s: float = 20.0) -> None:
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise AssertionError(f"{process.args!r} ended with {process.returncode} before it listened at {port}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError(f"nothing listens at {port} after {deadline_s:g} s")


@contextmanager
def server(argv: Sequence[str], port: int, key: str = "") -> Iterator[Server]:
    environment = {**os.environ, "ENGINE_REPLICA_KEY": key, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield Server(process, port, key)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


@contextmanager
def simulator(*flags: str, key: str = "", name: str = "sim") -> Iterator[Server]:
    port = free_port()
    argv = [sys.executable, "-m", "engine.bench.simulator", "--port", str(port), "--served-name", name, *flags]
    with server(argv, port, key) as running:
        yield running


def require_packages(*names: str) -> None:
    """Skips the test where a Python package is missing; fails it where ENGINE_REQUIRE_REAL=1."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        assert os.environ.get("ENGINE_REQUIRE_REAL") != "1", f"not installed: {missing}"
        pytest.skip(f"not installed: {missing}")


def require(program: str) -> str:
    """The path of a real tool; without it the test is skipped, or fails where ENGINE_REQUIRE_REAL=1."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if not found:
        if os.environ.get("ENGINE_REQUIRE_REAL") == "1":
            pytest.fail(f"ENGINE_REQUIRE_REAL=1, but there is no {program} here")
        pytest.skip(f"there is no {program} here")
    return found
