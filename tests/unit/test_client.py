"""EngineClient and AsyncEngineClient: the same requests, the same answers, the same errors."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from engine.client import AsyncEngineClient, EngineClient
from engine.errors import AccessDenied, ConfigurationError, EndpointRefused, EndpointTimedOut, EngineError, GatewayError

Answer = Callable[[httpx.Request], httpx.Response]
MESSAGES = [{"role": "user", "content": "Hello"}]


def sync_call(answer: Answer, call: str, *args: Any, url: str = "http://gw:8080", **kwargs: Any) -> Any:
    with EngineClient(url, "secret", transport=httpx.MockTransport(answer)) as client:
        found = getattr(client, call)(*args, **kwargs)
        return list(found) if call.endswith("_stream") else found


def async_call(answer: Answer, call: str, *args: Any, url: str = "http://gw:8080", **kwargs: Any) -> Any:
    async def ask() -> Any:
        async with AsyncEngineClient(url, "secret", transport=httpx.MockTransport(answer)) as client:
            found = getattr(client, call)(*args, **kwargs)
            return [chunk async for chunk in found] if call.endswith("_stream") else await found

    return asyncio.run(ask())


@pytest.fixture(params=[sync_call, async_call], ids=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return request.param  # type: ignore[no-any-return]


def answering(status: int = 200, body: Any = None, text: str | None = None) -> Answer:
    if text is not None:
        return lambda request: httpx.Response(status, text=text)
    return lambda request: httpx.Response(status, json={} if body is None else body)


CALLS = {
    "models": ((), "GET", "/v1/models", None),
    "chat": (("m", MESSAGES), "POST", "/v1/chat/completions", {"model": "m", "messages": MESSAGES}),
    "complete": (("m", "Once"), "POST", "/v1/completions", {"model": "m", "prompt": "Once"}),
    "embeddings": (("m", ["a"]), "POST", "/v1/embeddings", {"model": "m", "input": ["a"]}),
    "bulk": (("m", [{"prompt": "a"}]), "POST", "/v1/bulk", {"model": "m", "requests": [{"prompt": "a"}]}),
    "tribunal": (("m", MESSAGES), "POST", "/v1/tribunal", {"model": "m", "messages": MESSAGES}),
    "longprompt": (("m", "t", "i"), "POST", "/v1/longprompt", {"model": "m", "text": "t", "instruction": "i"}),
    "laws": ((), "GET", "/v1/laws", None),
    "verdicts": (("rejected",), "GET", "/api/verdicts?outcome=rejected&limit=100", None),
    "usage": (("2026-11-01",), "GET", "/api/usage?from=2026-11-01", None),
    "traffic": ((None, "2026-11-01T00:00:00Z"), "GET", "/api/traffic?to=2026-11-01T00%3A00%3A00Z", None),
    "feedback": (
        ("like", "Why?", "en"),
        "POST",
        "/api/feedback",
        {"kind": "like", "question": "Why?", "language": "en"},
    ),
    "feedback_list": (("like",), "GET", "/api/feedback?kind=like&limit=100", None),
    "feedback_counts": ((7,), "GET", "/api/feedback/counts?days=7", None),
    "verdict_counts": ((7,), "GET", "/api/verdicts/counts?days=7", None),
    "gpu_hours": (("2026-11-01",), "GET", "/api/gpu-hours?from=2026-11-01", None),
    "requests": ((5,), "GET", "/api/requests?limit=5", None),
    "whoami": ((), "GET", "/api/whoami", None),
    "keys": ((), "GET", "/api/keys", None),
    "key_create": (("tutor", "admin"), "POST", "/api/keys", {"name": "tutor", "role": "admin"}),
    "key_limit": (("k1",), "PATCH", "/api/keys/k1", {}),
    "key_revoke": (("k1",), "DELETE", "/api/keys/k1", None),
    "overview": ((), "GET", "/api/overview", None),
    "catalogue": ((), "GET", "/api/catalogue", None),
    "queue": ((), "GET", "/api/queue", None),
    "capacity": ((), "GET", "/api/capacity", None),
    "fit": ((), "POST", "/api/fit", {}),
    "test_only": ((), "POST", "/api/test-only", {}),
    "script": (("sim", 1), "GET", "/api/deployments/sim/script?replica=1", None),
    "hosts": (("sim",), "GET", "/api/deployments/sim/hosts", None),
    "nginx": (("sim",), "GET", "/api/deployments/sim/nginx", None),
    "probe": (("sim",), "POST", "/api/deployments/sim/probe", None),
    "gpus": ((), "GET", "/api/gpus", None),
    "schedulers": ((), "GET", "/api/schedulers", None),
    "health": ((), "GET", "/health", None),
    "deployments": ((), "GET", "/api/deployments", None),
    "deployment": (("sim",), "GET", "/api/deployments/sim", None),
    "scale": (("sim", 2), "PATCH", "/api/deployments/sim", {"replicas": 2}),
    "drain": (("sim", 1), "POST", "/api/deployments/sim/drain?replica=1", None),
    "restart": (("sim",), "POST", "/api/deployments/sim/restart", None),
    "stop": (("sim",), "DELETE", "/api/deployments/sim", None),
    "events": (("sim", 5), "GET", "/api/deployments/sim/events?limit=5", None),
    "log": (("sim", None, 7), "GET", "/api/deployments/sim/log?lines=7", None),
    "jobs": ((), "GET", "/api/jobs", None),
    "cluster": ((), "GET", "/api/cluster", None),
}


@pytest.mark.parametrize("call", CALLS)
def test_each_call_asks_the_gateway_with_the_key(ask: Callable[..., Any], call: str) -> None:
    args, method, target, body = CALLS[call]
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"fine": True})

    assert ask(answer, call, *args) == {"fine": True}
    (request,) = seen
    assert (request.method, request.url.raw_path.decode()) == (method, target)
    assert request.headers["authorization"] == "Bearer secret"
    assert (json.loads(request.content) if request.content else None) == body


def test_launch_sends_what_it_is_given(ask: Callable[..., Any]) -> None:
    echo: Answer = lambda request: httpx.Response(201, json=json.loads(request.content))  # noqa: E731
    wanted = {"model": "simulator", "replicas": 2, "arguments": {"capacity": "4"}}
    assert ask(echo, "launch", **wanted) == wanted


def test_text_comes_as_text(ask: Callable[..., Any]) -> None:
    assert ask(answering(text="line one\nline two"), "log", "sim") == "line one\nline two"


def test_a_deployments_own_address_is_taken_with_or_without_v1(ask: Callable[..., Any]) -> None:
    echo: Answer = lambda request: httpx.Response(200, json=str(request.url))  # noqa: E731
    for url in (
        "http://gw:8080/deployments/sim/v1",
        "http://gw:8080/deployments/sim/v1/",
        "http://gw:8080/deployments/sim",
    ):
        assert ask(echo, "models", url=url) == "http://gw:8080/deployments/sim/v1/models"


def test_a_name_with_odd_characters_reaches_no_other_route(ask: Callable[..., Any]) -> None:
    echo: Answer = lambda request: httpx.Response(200, json=request.url.raw_path.decode())  # noqa: E731
    assert ask(echo, "stop", "a/../b?c#d") == "/api/deployments/a%2F..%2Fb%3Fc%23d"


@pytest.mark.parametrize("url", ["", "gw:8080", "ftp://gw", "http://", "http://gw:port"])
def test_what_is_no_address_is_refused_in_plain_words(ask: Callable[..., Any], url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the address of a gateway"):
        ask(answering(), "models", url=url)


def openai_error(message: str = "no such model", code: str | None = "model_not_found") -> dict[str, Any]:
    return {"error": {"message": message, "type": "x", "param": None, "code": code}}


@pytest.mark.parametrize("call", ["models", "chat_stream"])
@pytest.mark.parametrize("status", [401, 403, 400, 404, 409, 422, 429, 500, 502, 503])
def test_an_error_of_the_gateway_keeps_its_words_status_and_code(
    ask: Callable[..., Any], call: str, status: int
) -> None:
    args = ("m", MESSAGES) if call == "chat_stream" else ()
    with pytest.raises(EngineError, match="no such model") as caught:
        ask(answering(status, openai_error()), call, *args)
    if status in (401, 403):
        assert isinstance(caught.value, AccessDenied)
    else:
        assert isinstance(caught.value, GatewayError)
        assert (caught.value.status, caught.value.code) == (status, "model_not_found")


def test_an_error_says_when_to_try_again_where_the_gateway_does(ask: Callable[..., Any]) -> None:
    busy: Answer = lambda request: httpx.Response(429, json=openai_error(), headers={"retry-after": "7"})  # noqa: E731
    with pytest.raises(GatewayError) as caught:
        ask(busy, "models")
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("body", ["<html>502 Bad Gateway</html>", "", "[]", '{"error": "plain"}', '{"detail": "x"}'])
def test_an_error_in_another_shape_tells_where_it_came_from(ask: Callable[..., Any], body: str) -> None:
    with pytest.raises(GatewayError, match=r"GET http://gw:8080/v1/models answered 502: ") as caught:
        ask(answering(502, text=body), "models")
    assert caught.value.status == 502


def test_json_that_is_none_is_an_error_of_the_gateway(ask: Callable[..., Any]) -> None:
    torn: Answer = lambda request: httpx.Response(200, text="{", headers={"content-type": "application/json"})  # noqa: E731
    with pytest.raises(GatewayError, match="broken JSON"):
        ask(torn, "models")


FAULTS: dict[type[httpx.HTTPError], type[EngineError]] = {
    httpx.ConnectError: EndpointRefused,
    httpx.ReadError: EndpointRefused,
    httpx.RemoteProtocolError: EndpointRefused,
    httpx.ConnectTimeout: EndpointTimedOut,
    httpx.ReadTimeout: EndpointTimedOut,
}


@pytest.mark.parametrize("call", ["models", "chat_stream"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_broken_connection_is_told_with_its_address_and_cause(
    ask: Callable[..., Any], call: str, fault: type[httpx.HTTPError]
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise fault("it broke", request=request)  # type: ignore[call-arg]

    with pytest.raises(FAULTS[fault], match="http://gw:8080/v1/") as caught:
        ask(fail, call, *(("m", MESSAGES) if call == "chat_stream" else ()))
    assert isinstance(caught.value.__cause__, fault)


def stream(*lines: str) -> Answer:
    return answering(text="".join(f"{line}\n\n" for line in lines))


def test_a_stream_comes_chunk_by_chunk(ask: Callable[..., Any]) -> None:
    answer = stream('data: {"n": 1}', ": a comment", "event: x", 'data:{"n": 2, "error": null}', "data: [DONE]")
    assert ask(answer, "chat_stream", "m", MESSAGES) == [{"n": 1}, {"n": 2, "error": None}]


def test_an_error_within_a_stream_is_raised(ask: Callable[..., Any]) -> None:
    answer = stream('data: {"n": 1}', f"data: {json.dumps(openai_error('replica died', 'replica_failed'))}")
    with pytest.raises(GatewayError, match="replica died") as caught:
        ask(answer, "chat_stream", "m", MESSAGES)
    assert caught.value.code == "replica_failed"


def test_a_torn_chunk_is_an_error_of_the_gateway(ask: Callable[..., Any]) -> None:
    with pytest.raises(GatewayError, match="the stream holds broken JSON"):
        ask(stream('data: {"n":'), "chat_stream", "m", MESSAGES)
