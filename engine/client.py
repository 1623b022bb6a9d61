"""EngineClient and AsyncEngineClient: a gateway, or one deployment's own address, from Python."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import httpx

from engine.calls import Calls, long_prompt
from engine.errors import AccessDenied, ConfigurationError, EndpointRefused, EndpointTimedOut, GatewayError

TIMEOUT_S = 600.0
CONNECT_S = 5.0


class EngineClient(Calls):
    """Synchronous.

    `url` is the one address, a gateway's, or a deployment's `…/deployments/NAME/v1` with its access token.
    `timeout_s` is how long an answer, or the next part of one, may take.
    """

    def __init__(
        self, url: str, key: str, transport: httpx.BaseTransport | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        # Proxies of the environment are for the world outside; a gateway is inside.
        self._http = httpx.Client(
            base_url=_base(url),
            headers=_headers(key),
            timeout=_timeout(timeout_s),
            trust_env=False,
            transport=transport,
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
        return self._events("/v1/longprompt", {**long_prompt(model, text, instruction, parameters), "stream": True})

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


class AsyncEngineClient(Calls):
    """Asynchronous; the same methods, to be awaited."""

    def __init__(
        self, url: str, key: str, transport: httpx.AsyncBaseTransport | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._http = httpx.AsyncClient(
            base_url=_base(url),
            headers=_headers(key),
            timeout=_timeout(timeout_s),
            trust_env=False,
            transport=transport,
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
        return self._events("/v1/longprompt", {**long_prompt(model, text, instruction, parameters), "stream": True})

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


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_S))


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
    raise GatewayError(message, response.status_code, _code(body), _retry_after_s(response))


def _retry_after_s(response: httpx.Response) -> int | None:
    told = response.headers.get("retry-after", "")
    return int(told) if told.isdecimal() else None


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
