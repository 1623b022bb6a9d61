"""engine.launch(): a model for as long as a block of Python runs."""

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from engine.client import AsyncEngineClient, EngineClient
from engine.errors import EngineError, NotReadyInTime, ReplicaFailed
from engine.presence import Presence, gateway
from engine.settings import Settings

POLL_S = 0.5
GONE_TIMEOUT_S = 360.0

Say = Callable[[str], None]


def say_on_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Launch:
    """A deployment that lives as long as its `with` block, or longer with `keep`; made by `engine.launch`.

    `url` and `key` reach this deployment alone in OpenAI's API; `endpoints` are its replicas' addresses (`HOST:PORT`).
    Entering raises ConfigurationError and the like for what cannot be launched, ReplicaFailed when the engine gave up,
    and NotReadyInTime after `timeout_s`.
    """

    def __init__(self, request: dict[str, Any], settings: Settings, keep: bool, timeout_s: float, say: Say) -> None:
        self._request, self._settings = request, settings
        self._keep, self._timeout_s, self._say = keep, timeout_s, say
        self._stack = ExitStack()
        self._row: dict[str, Any] = {}
        self._operator: EngineClient | None = None
        self.name = ""
        self.key = ""

    @property
    def url(self) -> str:
        return str(self._row["url"])

    @property
    def endpoints(self) -> list[str]:
        replicas = self._client().deployment(self.name)["replicas"]
        return [replica["endpoint"] for replica in replicas if replica["in_rotation"]]

    def client(self) -> EngineClient:
        return EngineClient(self.url, self.key)

    def async_client(self) -> AsyncEngineClient:
        return AsyncEngineClient(self.url, self.key)

    def __enter__(self) -> "Launch":
        try:
            presence = self._stack.enter_context(gateway(self._settings, self._say))
            self._operator = self._stack.enter_context(operator(presence))
            launched = self._operator.launch(**self._request)
            self.name, self.key = launched["name"], launched["access_token"]
            self._row = wait_ready(self._operator, self.name, self._timeout_s, self._say)
        except BaseException:
            self._leave(failed=True)
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._leave(failed=False)

    async def __aenter__(self) -> "Launch":
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self.__exit__, *exc)

    def _client(self) -> EngineClient:
        if self._operator is None:
            raise EngineError("not launched yet: use `with engine.launch(…) as llm`")
        return self._operator

    def _leave(self, failed: bool) -> None:
        with self._stack:
            if self.name and self._operator and (failed or not self._keep):
                # Whatever ended the block must reach the caller, not what the clearing up ran into.
                try:
                    stop_and_wait(self._operator, [self.name], GONE_TIMEOUT_S)
                except EngineError as error:
                    self._say(f"{self.name} may still be there: {error}")


def operator(presence: Presence) -> EngineClient:
    """A client with an operator's rights on a gateway of one's own."""
    return EngineClient(presence.url, presence.token)


def wait_ready(
    client: EngineClient, name: str, timeout_s: float, say: Say, replicas: int | None = None
) -> dict[str, Any]:
    """Waits until every wanted replica (or `replicas` of them) serves, telling each change in plain words.

    Returns the deployment's row. Raises ReplicaFailed when the engine gave up, NotReadyInTime after `timeout_s`.
    """
    deadline, said = time.monotonic() + timeout_s, ""
    while True:
        row: dict[str, Any] = client.deployment(name)
        wanted = row["wanted"] if replicas is None else replicas
        words = describe(row)
        if words != said:
            say(words)
            said = words
        if row["ready"] >= wanted:
            return row
        if row["gave_up"]:
            raise ReplicaFailed(f"{name}: {row['reason']}; see `engine logs {name}`")
        if time.monotonic() > deadline:
            raise NotReadyInTime(f"{words}: not ready within {timeout_s:.0f} s; see `engine events {name}`")
        time.sleep(POLL_S)


def describe(row: dict[str, Any]) -> str:
    """One line on how far a deployment has come."""
    waiting = [replica for replica in row["replicas"] if replica["stage"] in ("queued", "loading", "failed")]
    parts = []
    for replica in waiting[:3]:
        job = f" (job {replica['job_id']})" if replica["job_id"] else ""
        reason = f": {replica['reason']}" if replica["reason"] else ""
        parts.append(f"replica {replica['index']} {replica['stage']}{job}{reason}")
    more = f"; and {len(waiting) - 3} more" if len(waiting) > 3 else ""
    return f"{row['name']}: {row['ready']} of {row['wanted']} ready" + "".join(f"; {part}" for part in parts) + more


def stop_and_wait(client: EngineClient, names: list[str], timeout_s: float, say: Say = lambda line: None) -> None:
    """Stops deployments and waits until their last job has ended; raises NotReadyInTime."""
    for name in names:
        client.stop(name)
    deadline, said = time.monotonic() + timeout_s, ""
    while left := [row for row in client.deployments() if row["name"] in names]:
        jobs = [replica["job_id"] for row in left for replica in row["replicas"] if replica["stage"] != "failed"]
        words = f"waiting for {', '.join(row['name'] for row in left)} to end; jobs: {', '.join(jobs) or 'none'}"
        if words != said:
            say(words)
            said = words
        if time.monotonic() > deadline:
            raise NotReadyInTime(f"{words}; still there after {timeout_s:.0f} s")
        time.sleep(POLL_S)
