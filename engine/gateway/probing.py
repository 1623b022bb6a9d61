"""One look at one replica by an operator: does it say that it is well, and how long does a token take?"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from engine.errors import UnknownName
from engine.fleet.deployments import Replica, Status

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
SAID = 300


async def probe(status: Status, index: int | None = None) -> list[dict[str, Any]]:
    """Asks each replica that has an endpoint, or the one of `index`, straight: no queue, no limit stands before it.

    What goes wrong is told in the answer. Raises UnknownName where no replica of that index has an endpoint.
    """
    found = [r for r in status.replicas if r.endpoint and index in (None, r.index)]
    if index is not None and not found:
        there = [str(replica.index) for replica in status.replicas if replica.endpoint]
        raise UnknownName("replica with an endpoint", str(index), there)
    return [await _probe(status, replica) for replica in found]


async def _probe(status: Status, replica: Replica) -> dict[str, Any]:
    endpoint, deployment = replica.endpoint, status.deployment
    assert endpoint is not None
    key = endpoint.key or status.replica_key
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    base = f"http://{endpoint.address}"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=TIMEOUT, trust_env=False) as http:
        path = "/health" if deployment.kind == "model" else deployment.path
        result: dict[str, Any] = {"replica": replica.index, "endpoint": endpoint.address}
        result["health"] = await _timed(lambda: _get(http, path))
        if deployment.model is not None:
            embeds = deployment.model.embeddings
            result["token"] = await _timed(
                lambda: _embed(http, deployment.name) if embeds else _say(http, deployment.name)
            )
    return result


async def _timed(ask: Callable[[], Awaitable[str]]) -> dict[str, Any]:
    """`error` is empty when all went well; `ms` is how long it took until the answer began, or the error came."""
    begun = time.perf_counter()
    try:
        error = await ask()
    except httpx.HTTPError as problem:
        error = f"{type(problem).__name__}: {problem}".rstrip(": ")
    return {"ms": round((time.perf_counter() - begun) * 1000, 1), "error": error}


async def _get(http: httpx.AsyncClient, path: str) -> str:
    answer = await http.get(path)
    return "" if answer.status_code < 400 else f"{answer.status_code}: {answer.text[:SAID]}"


async def _say(http: httpx.AsyncClient, model: str) -> str:
    """Until the first token of a streamed answer."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "stream": True}
    async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code >= 400:
            await answer.aread()
            return f"{answer.status_code}: {answer.text[:SAID]}"
        async for line in answer.aiter_lines():
            if line.startswith("data:"):
                return ""
    return "the stream ended without a token"


async def _embed(http: httpx.AsyncClient, model: str) -> str:
    answer = await http.post("/v1/embeddings", json={"model": model, "input": ["Hi"]})
    return "" if answer.status_code < 400 else f"{answer.status_code}: {answer.text[:SAID]}"
