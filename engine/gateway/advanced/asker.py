"""Completions from inside the gateway: what workflows and batches ask goes the same way as everybody's requests."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from engine.errors import EndpointError, EngineError
from engine.gateway.admission import Admission
from engine.gateway.advanced import tokens
from engine.gateway.advanced.answers import decoded_answer, encode
from engine.gateway.connection import Response
from engine.gateway.forwarding import Forwarder
from engine.gateway.gates import Klass
from engine.gateway.keys import Key
from engine.gateway.limits import KeyLimits, require_model
from engine.gateway.protocol import Refusal, Refused, refusal
from engine.gateway.routes import Routes

CHAT = "/v1/chat/completions"
LONGEST_ANSWER = 64 * 1024 * 1024
LONGEST_PAUSE_S = 10.0
Complete = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Record(Protocol):
    """Who writes down what was used; `usage` is the inference engine's own. Never blocks, never raises."""

    def __call__(self, key: Key, model: str, status: int, usage: dict[str, Any] | None, seconds: float) -> None: ...


def unrecorded(key: Key, model: str, status: int, usage: dict[str, Any] | None, seconds: float) -> None:
    """A Record for those who keep none."""


class Patient:
    """Waits for an answer until its task is cancelled, which closes the request upstream."""

    left = False

    def slow(self, response: Response) -> None:
        pass


PATIENT = Patient()


@dataclass(frozen=True)
class Use:
    """On whose account and in which class a completion is asked for.

    `patience_s` is how long a completion is asked for again when the deployment is overloaded or is still starting;
    work that nobody waits for in person is patient.
    """

    key: Key
    klass: Klass
    path: str = CHAT
    patience_s: float = 0.0


class Asker:
    """Asks deployments: admitted, balanced, tried again and written down as the hot path does it."""

    def __init__(
        self,
        routes: Routes,
        forwarder: Forwarder,
        admission: Admission,
        limit: Callable[[str], int],
        limits: KeyLimits,
        record: Record = unrecorded,
    ) -> None:
        """`limit` tells how many requests a deployment can work on now, by its name."""
        self._routes, self._forwarder, self._admission = routes, forwarder, admission
        self._limit, self._limits, self._record = limit, limits, record

    def completer(self, use: Use) -> Complete:
        """A `complete` for workflows."""

        async def complete(body: dict[str, Any]) -> dict[str, Any]:
            return await self.complete(body, use)

        return complete

    async def complete(self, body: dict[str, Any], use: Use) -> dict[str, Any]:
        """One request, not streamed, to its answer; raises EngineError, with the replica's own words where it refused.

        Cancelling it closes the request at the replica and leaves the queue.
        """
        model = body.get("model")
        if not isinstance(model, str):
            raise Refused(Refusal(422, "`model` must be the name of a model", code="invalid_value", param="model"))
        body = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
        loop = asyncio.get_running_loop()
        until = loop.time() + use.patience_s
        while True:
            try:
                return await self._once(model, body, use)
            except EngineError as error:
                wait_s = refusal(error).retry_after_s
                if wait_s is None or loop.time() + wait_s > until:
                    raise
            await asyncio.sleep(min(wait_s, LONGEST_PAUSE_S))

    async def count(self, model: str, text: str) -> int:
        """Tokens of a text as the model's replica counts them; where it cannot, an estimate that errs high."""
        route = self._routes.serving(model)
        field = tokens.TEXT_FIELD.get(route.status.deployment.engine)
        if field is not None:
            body = encode({"model": route.name, field: text})
            try:
                status, answer = await self._exchange(model, "/tokenize", body)
            except EndpointError:
                status, answer = 502, b""
            counted = tokens.counted(answer) if status == 200 else None
            if counted is not None:
                return counted
        return tokens.estimate(text)

    def capacity(self, model: str, key: Key) -> int:
        """Requests that a deployment can work on at once now for a key; at least 1, for what is about to serve."""
        try:
            most = max(1, self._limit(self._routes.find(model).name))
        except EngineError:
            most = 1
        return min(most, key.limits.parallel or most)

    async def ready(self, model: str, key: Key) -> None:
        """Raises EngineError where a model is unknown, not open to the key, or has no replica that serves."""
        if not self._routes.ready:
            await self._routes.wait()
        route = self._routes.find(model)
        require_model(key, *route.names)
        self._routes.serving(model)

    async def started(self) -> None:
        """Once the controller has told what there is."""
        while True:
            with suppress(Refused):
                return await self._routes.wait()

    def name(self, model: str) -> str:
        """The deployment that a model's name leads to."""
        return self._routes.find(model).name

    def is_peak(self, model: str) -> bool:
        return self._admission.is_peak(self._routes.find(model).name)

    def context(self, model: str) -> int:
        """Tokens that a request and its answer may have together; 0 when nobody knows."""
        deployment = self._routes.find(model).status.deployment
        return tokens.context(deployment)

    async def _once(self, model: str, body: dict[str, Any], use: Use) -> dict[str, Any]:
        route = self._routes.serving(model)
        name = route.name
        require_model(use.key, *route.names)
        encoded = encode({**body, "model": name})
        loop = asyncio.get_running_loop()
        self._limits.enter(use.key)
        begun = loop.time()
        status, usage = 499, None
        try:
            async with self._admission.slot(name, use.key.id, use.klass, self._limit(name)):
                status, answer = await self._exchange(name, use.path, encoded)
            decoded = decoded_answer(status, answer, name)
            usage = decoded.get("usage")
            return decoded
        except EngineError as error:
            status = refusal(error).status
            raise
        finally:
            self._limits.leave(use.key)
            self._record(use.key, name, status, usage if isinstance(usage, dict) else None, loop.time() - begun)

    async def _exchange(self, model: str, path: str, body: bytes) -> tuple[int, bytes]:
        line = b"POST %b HTTP/1.1\r\n" % path.encode()
        target, response = await self._forwarder.forward(
            model, line, b"content-type: application/json\r\n", body, PATIENT
        )
        parts: list[bytes] = []
        size = 0
        try:
            while part := await response.read():
                parts.append(part)
                size += len(part)
                if size > LONGEST_ANSWER:
                    raise EndpointError(f"{model!r} answered more than {LONGEST_ANSWER // 2**20} MB")
            return response.status, b"".join(parts)
        finally:
            target.in_flight -= 1
            response.close()
