"""A real `engine serve` for tests: its own home and ports, its command line, and load from many clients."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from engine import presence
from engine.client import EngineClient
from engine.launching import operator
from engine.ports import free_port
from engine.settings import ROOT

START_TIMEOUT_S = 60


def until(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """Waits for something true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)
    return found


@dataclass
class Engine:
    """A running gateway with its controller; `environ` is what its command line needs to find it."""

    home: Path
    environ: dict[str, str]
    process: "subprocess.Popen[bytes]"

    @property
    def presence(self) -> presence.Presence:
        found = presence.find(self.home)
        assert found, f"no gateway answers; its log:\n{self.log()[-3000:]}"
        return found

    @property
    def answers(self) -> bool:
        found = presence.find(self.home)
        return found is not None and found.pid == self.process.pid

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.environ['ENGINE_ADDRESS_PORT']}"

    def wait(self) -> None:
        until(lambda: self.answers or self.process.poll() is not None, START_TIMEOUT_S, "the gateway answers")
        assert self.process.poll() is None, self.log()

    def serve_again(self) -> None:
        """The same home and ports, after its process was killed."""
        self.process = _serve(self.home, self.environ)
        self.wait()

    def client(self) -> EngineClient:
        return operator(self.presence)

    def log(self) -> str:
        return (self.home / "serve.out").read_text(errors="replace")

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> "subprocess.CompletedProcess[str]":
        """One command of the CLI, as a user would type it."""
        done = subprocess.run(
            [sys.executable, "-m", "engine", *arguments],
            env={**os.environ, **self.environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"engine {' '.join(arguments)}: {done.stderr}\n{self.log()[-3000:]}"
        return done

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def row(self, name: str) -> dict[str, Any]:
        return next(row for row in self.json("ps") if row["name"] == name)

    def ready(self, name: str, replicas: int, timeout_s: float = 60) -> dict[str, Any]:
        with self.client() as client:

            def enough() -> dict[str, Any] | None:
                row: dict[str, Any] = client.deployment(name)
                return row if row["ready"] == replicas and row["wanted"] == replicas else None

            found: dict[str, Any] = until(enough, timeout_s, f"{replicas} replicas of {name} ready")
            return found

    def key(self, role: str = "user") -> str:
        with self.client() as client:
            return str(client.key_create("test", role)["key"])

    def workers(self) -> list[int]:
        """The gateway processes under the supervisor."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"engine.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@contextmanager
def engine(home: Path, environ: Mapping[str, str], *options: str) -> Iterator[Engine]:
    """Serves `home` until the block ends; every deployment is stopped, every process gone, whatever happened inside."""
    home.mkdir(parents=True, exist_ok=True)
    ports = {"ENGINE_PORT": str(free_port()), "ENGINE_ADDRESS_PORT": str(free_port())}
    settings = {"ENGINE_HOME": str(home), "ENGINE_LOCAL": str(home / "local"), **ports, **environ}
    running = Engine(home, settings, _serve(home, settings, options))
    try:
        running.wait()
        yield running
    finally:
        running.run("stop", "--all", "--timeout-s", "90", check=False, timeout_s=120)
        running.process.send_signal(signal.SIGTERM)
        try:
            running.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(running.process.pid, signal.SIGKILL)


def _serve(home: Path, settings: Mapping[str, str], options: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    with (home / "serve.out").open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "engine", "serve", *options],
            env={**os.environ, **settings},
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


@dataclass
class Load:
    """What many clients saw: answers by status or error, and by the replica that gave them."""

    statuses: Counter[str] = field(default_factory=Counter)
    replicas: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def answered(self) -> int:
        return self.statuses["200"]


class LoadRunner:
    """Clients that ask one after the other, until told to stop; runs in a thread of its own."""

    def __init__(self, url: str, key: str, model: str, clients: int = 8, **parameters: Any) -> None:
        self._url, self._key, self._clients = url, key, clients
        self._body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, **parameters}
        self._ended = False
        self.seen = Load()

    async def run(self) -> Load:
        headers = {"Authorization": f"Bearer {self._key}"}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(headers=headers, timeout=120, trust_env=False, limits=limits) as http:
            await asyncio.gather(*(self._ask_on_and_on(http) for _ in range(self._clients)))
        return self.seen

    def end(self) -> None:
        self._ended = True

    async def _ask_on_and_on(self, http: httpx.AsyncClient) -> None:
        while not self._ended:
            try:
                response = await http.post(f"{self._url}/v1/chat/completions", json=self._body)
            except httpx.HTTPError as error:
                self.seen.statuses[type(error).__name__] += 1
                self.seen.failures.append(repr(error))
                continue
            self.seen.statuses[str(response.status_code)] += 1
            self.seen.replicas[response.headers.get("x-engine-replica", "-")] += 1
            if response.status_code != 200:
                self.seen.failures.append(response.text[:300])


@contextmanager
def load(url: str, key: str, model: str, clients: int = 8, **parameters: Any) -> Iterator[Load]:
    """Load while the block runs; when it ends, the requests in flight are waited for."""
    runner = LoadRunner(url, key, model, clients, **parameters)
    thread = threading.Thread(target=lambda: asyncio.run(runner.run()))
    thread.start()
    try:
        yield runner.seen
    finally:
        runner.end()
        thread.join(180)
        assert not thread.is_alive(), "the load did not end"
