"""EngineClient and AsyncEngineClient: a gateway, or one deployment's own address, from Python."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from engine.errors import AccessDenied, ConfigurationError, EndpointRefused, EndpointTimedOut, GatewayError

TIMEOUT = httpx.Timeout(600.0, connect=5.0)


class _Api(ABC):
    """What a gateway offers. Each method returns the decoded JSON (a log or a script as text), or an awaitable of it
    in the asynchronous client.

    Raises EndpointRefused when nothing answers, EndpointTimedOut, AccessDenied for 401 and 403, and GatewayError,
    which carries the status and the code, for every other error that the gateway answers.
    """

    @abstractmethod
    def _json(self, method: str, path: str, body: Any = None, **query: Any) -> Any: ...

    def models(self) -> Any:
        """`GET /v1/models`: what can be asked now, with readiness and load."""
        return self._json("GET", "/v1/models")

    def chat(self, model: str, messages: list[dict[str, Any]], **parameters: Any) -> Any:
        """One chat completion; `parameters` are OpenAI's (max_tokens, temperature, tools, …)."""
        return self._json("POST", "/v1/chat/completions", {"model": model, "messages": messages, **parameters})

    def complete(self, model: str, prompt: str, **parameters: Any) -> Any:
        return self._json("POST", "/v1/completions", {"model": model, "prompt": prompt, **parameters})

    def embeddings(self, model: str, texts: list[str], **parameters: Any) -> Any:
        return self._json("POST", "/v1/embeddings", {"model": model, "input": texts, **parameters})

    def bulk(self, model: str, requests: list[dict[str, Any]], **parameters: Any) -> Any:
        """Many completions in one call; `requests` have `messages` or `prompt`, `parameters` are shared by all.

        `results` of the answer are in order, each with `status` ok or error.
        """
        return self._json("POST", "/v1/bulk", {"model": model, "requests": requests, **parameters})

    def tribunal(self, model: str, messages: list[dict[str, Any]], **parameters: Any) -> Any:
        """An answer that is judged and revised; `laws` (a set's name, or [{name, text}]), `max_rounds`, `judges`."""
        return self._json("POST", "/v1/tribunal", {"model": model, "messages": messages, **parameters})

    def longprompt(self, model: str, text: str, instruction: str | None = None, **parameters: Any) -> Any:
        """A text longer than the context; `chunk_tokens`, `overlap_tokens`, `tribunal`."""
        return self._json("POST", "/v1/longprompt", _long(model, text, instruction, parameters))

    def laws(self) -> Any:
        """The sets of laws, each with its hash."""
        return self._json("GET", "/v1/laws")

    def verdicts(self, outcome: str | None = None, model: str | None = None, limit: int = 100) -> Any:
        """Outcomes of tribunals, the latest first; `outcome` is accepted, rejected or bypassed."""
        return self._json("GET", "/api/verdicts", outcome=outcome, model=model, limit=limit)

    def usage(self, first: str | None = None, last: str | None = None) -> Any:
        """Requests and tokens per day, key and model, from one day to another (YYYY-MM-DD, UTC, both included)."""
        return self._json("GET", "/api/usage", **{"from": first, "to": last})

    def traffic(self, begin: str | None = None, end: str | None = None, **query: Any) -> Any:
        """Histograms over time (ISO 8601); `step` in seconds, `by` (model, key, both, none), `model`, `key`."""
        return self._json("GET", "/api/traffic", **{"from": begin, "to": end, **query})

    def feedback(self, kind: str, question: str, language: str, **more: Any) -> Any:
        """Says what an answer was like: `kind` is like, dislike or refused; `answer`, `sources`, `reason`."""
        body = {"kind": kind, "question": question, "language": language, **more}
        return self._json("POST", "/api/feedback", body)

    def feedback_list(self, kind: str | None = None, limit: int = 100) -> Any:
        """What was said, the latest first."""
        return self._json("GET", "/api/feedback", kind=kind, limit=limit)

    def health(self) -> Any:
        return self._json("GET", "/health")

    def deployments(self) -> Any:
        """The rows of `engine ps`."""
        return self._json("GET", "/api/deployments")

    def deployment(self, name: str) -> Any:
        return self._json("GET", _deployment(name))

    def launch(self, **request: Any) -> Any:
        """Fields of LaunchRequest; returns at once with the new deployment's row and its access token."""
        return self._json("POST", "/api/deployments", request)

    def render(self, **request: Any) -> Any:
        return self._json("POST", "/api/render", request)

    def scale(self, name: str, replicas: int) -> Any:
        return self._json("PATCH", _deployment(name), {"replicas": replicas})

    def drain(self, name: str, replica: int) -> Any:
        return self._json("POST", _deployment(name, "drain"), replica=replica)

    def restart(self, name: str) -> Any:
        return self._json("POST", _deployment(name, "restart"))

    def stop(self, name: str) -> Any:
        return self._json("DELETE", _deployment(name))

    def events(self, name: str | None = None, limit: int = 100) -> Any:
        path = _deployment(name, "events") if name else "/api/events"
        return self._json("GET", path, limit=limit)

    def log(self, name: str, replica: int | None = None, lines: int = 100) -> Any:
        return self._json("GET", _deployment(name, "log"), replica=replica, lines=lines)

    def jobs(self) -> Any:
        return self._json("GET", "/api/jobs")

    def cluster(self) -> Any:
        return self._json("GET", "/api/cluster")


class EngineClient(_Api):
    """Synchronous.

    `url` is the one address, a gateway's, or a deployment's `…/deployments/NAME/v1` with its access token.
    """

    def __init__(self, url: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        # Proxies of the environment are for the world outside; a gateway is inside.
        self._http = httpx.Client(
            base_url=_base(url), headers=_headers(key), timeout=TIMEOUT, trust_env=False, transport=transport
        )

    def __enter__(self) -> "EngineClient":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def chat_stream(self, model: str, messages: list[dict[str, Any]], **parameters: Any) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed chat completion as they arrive."""
        return self._events(
            "/v1/chat/completions", {"model": model, "messages": messages, "stream": True, **parameters}
        )

    def bulk_stream(self, model: str, requests: list[dict[str, Any]], **parameters: Any) -> Iterator[dict[str, Any]]:
        """Results of a bulk as they end, each with `progress`; the last event is `bulk.done`, with the usage."""
        return self._events("/v1/bulk", {"model": model, "requests": requests, "stream": True, **parameters})

    def tribunal_stream(
        self, model: str, messages: list[dict[str, Any]], **parameters: Any
    ) -> Iterator[dict[str, Any]]:
        """The steps of a tribunal as they happen; the last one's `step` is verdict."""
        return self._events("/v1/tribunal", {"model": model, "messages": messages, "stream": True, **parameters})

    def longprompt_stream(
        self, model: str, text: str, instruction: str | None = None, **parameters: Any
    ) -> Iterator[dict[str, Any]]:
        """The steps of a long prompt as they happen; the last one's `step` is answer."""
        return self._events("/v1/longprompt", {**_long(model, text, instruction, parameters), "stream": True})

    def _events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            with self._http.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                _raise_for(response)
                yield from filter(None, map(_chunk, response.iter_lines()))
        except httpx.HTTPError as error:
            raise _translated(error) from error

    def _json(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        try:
            response = self._http.request(method, path, json=body, params=_given(query))
        except httpx.HTTPError as error:
            raise _translated(error) from error
        _raise_for(response)
        return _decoded(response)


class AsyncEngineClient(_Api):
    """Asynchronous; the same methods, to be awaited."""

    def __init__(self, url: str, key: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            base_url=_base(url), headers=_headers(key), timeout=TIMEOUT, trust_env=False, transport=transport
        )

    async def __aenter__(self) -> "AsyncEngineClient":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    def chat_stream(
        self, model: str, messages: list[dict[str, Any]], **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The chunks of a streamed chat completion as they arrive."""
        return self._events(
            "/v1/chat/completions", {"model": model, "messages": messages, "stream": True, **parameters}
        )

    def bulk_stream(
        self, model: str, requests: list[dict[str, Any]], **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """Results of a bulk as they end, each with `progress`; the last event is `bulk.done`, with the usage."""
        return self._events("/v1/bulk", {"model": model, "requests": requests, "stream": True, **parameters})

    def tribunal_stream(
        self, model: str, messages: list[dict[str, Any]], **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The steps of a tribunal as they happen; the last one's `step` is verdict."""
        return self._events("/v1/tribunal", {"model": model, "messages": messages, "stream": True, **parameters})

    def longprompt_stream(
        self, model: str, text: str, instruction: str | None = None, **parameters: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """The steps of a long prompt as they happen; the last one's `step` is answer."""
        return self._events("/v1/longprompt", {**_long(model, text, instruction, parameters), "stream": True})

    async def _events(self, path: str, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        try:
            async with self._http.stream("POST", path, json=body) as response:
                if response.is_error:
                    await response.aread()
                _raise_for(response)
                async for line in response.aiter_lines():
                    if chunk := _chunk(line):
                        yield chunk
        except httpx.HTTPError as error:
            raise _translated(error) from error

    async def _json(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        try:
            response = await self._http.request(method, path, json=body, params=_given(query))
        except httpx.HTTPError as error:
            raise _translated(error) from error
        _raise_for(response)
        return _decoded(response)


def _long(model: str, text: str, instruction: str | None, parameters: dict[str, Any]) -> dict[str, Any]:
    told = {"instruction": instruction} if instruction is not None else {}
    return {"model": model, "text": text, **told, **parameters}


def _deployment(name: str, *what: str) -> str:
    return "/".join(["/api/deployments", quote(name, safe=""), *what])


def _base(url: str) -> str:
    try:
        base = httpx.URL(url.rstrip("/").removesuffix("/v1"))
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"{url!r} is not the address of a gateway: {error}") from error
    if base.scheme not in ("http", "https") or not base.host:
        raise ConfigurationError(f"{url!r} is not the address of a gateway; one looks like http://HOST:8080")
    return str(base)


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def _given(query: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _decoded(response: httpx.Response) -> Any:
    """JSON, or text for what is text: a log, a script."""
    if "json" not in response.headers.get("content-type", ""):
        return response.text
    try:
        return response.json()
    except ValueError as error:
        raise GatewayError(f"{_where(response)} answered broken JSON: {error}", response.status_code) from error


def _chunk(line: str) -> dict[str, Any] | None:
    if not line.startswith("data:") or line.endswith("[DONE]"):
        return None
    try:
        chunk: dict[str, Any] = json.loads(line[5:])
    except ValueError as error:
        raise GatewayError(f"the stream holds broken JSON: {line[:200]}", 502) from error
    if chunk.get("error"):
        raise GatewayError(_message(chunk) or f"the stream broke: {line[:200]}", 502, _code(chunk))
    return chunk


def _raise_for(response: httpx.Response) -> None:
    if response.is_success:
        return
    try:
        body = response.json()
    except ValueError:
        body = {}
    message = _message(body) or f"{_where(response)} answered {response.status_code}: {response.text[:200]}"
    if response.status_code in (401, 403):
        raise AccessDenied(message)
    raise GatewayError(message, response.status_code, _code(body))


def _where(response: httpx.Response) -> str:
    return f"{response.request.method} {response.request.url}"


def _message(body: Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def _code(body: Any) -> str | None:
    error = body.get("error") if isinstance(body, dict) else None
    return error.get("code") if isinstance(error, dict) else None


def _translated(error: httpx.HTTPError) -> EndpointRefused | EndpointTimedOut:
    where = str(error.request.url) if getattr(error, "_request", None) else "the gateway"
    if isinstance(error, httpx.TimeoutException):
        return EndpointTimedOut(f"{where} gave no answer in time: {error!r}")
    return EndpointRefused(f"{where} could not be reached: {error}; is the gateway running? (`engine serve`)")
