"""The middleware that the vllm template puts before vLLM."""

import importlib.util
from types import ModuleType

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from engine.settings import ROOT

KEY = {"Authorization": "Bearer s3cret"}


def guard() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vllm_guard", ROOT / "templates" / "slurm" / "vllm_guard.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    monkeypatch.setenv("VLLM_API_KEY", "s3cret")
    app = FastAPI()
    for path in ("/health", "/health/x", "/invocations", "/v1/models", "/metrics"):
        app.add_api_route(path, lambda: "answered", methods=["GET", "POST", "OPTIONS"])

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("answered")

    app.add_middleware(guard().Guard)
    return app


@pytest.mark.parametrize("path", ["/invocations", "/v1/models", "/metrics", "/health/x", "//health", "/openapi.json"])
@pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", "Bearer s3cret2", "s3cret", "Basic s3cret"])
async def test_without_the_key_nothing_is_answered(server: FastAPI, path: str, key: str) -> None:
    headers = {"Authorization": key} if key else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://replica") as http:
        for method in ("GET", "POST", "OPTIONS"):
            answer = await http.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert (await http.get("/health", headers=headers)).json() == "answered"


async def test_with_the_key_everything_is_answered(server: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(server), base_url="http://replica") as http:
        for path in ("/health", "/invocations", "/v1/models", "/metrics"):
            assert (await http.post(path, headers=KEY)).json() == "answered"
        twice = [("Authorization", "Bearer wrong"), ("Authorization", KEY["Authorization"])]
        assert (await http.get("/v1/models", headers=twice)).status_code == 401


def test_websockets_want_the_key_too(server: FastAPI) -> None:
    with TestClient(server) as client:
        with client.websocket_connect("/v1/realtime", headers=KEY) as socket:
            assert socket.receive_text() == "answered"
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/v1/realtime"):
            pass
