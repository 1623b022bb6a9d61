"""create_app: raw ASGI for the inference routes, FastAPI for everything else."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST

from engine.capacity import Cards
from engine.errors import UnknownName
from engine.fleet.deployments import Status
from engine.fleet.status import reason, stage
from engine.gateway import admin, docs, experiment_routes, fleet_routes, key_routes, metrics, overview_routes, relay
from engine.gateway.access import any_key
from engine.gateway.admission import Admission
from engine.gateway.advanced.asker import Asker
from engine.gateway.advanced.together import Advanced
from engine.gateway.answering import Send, refuse
from engine.gateway.body import LONGEST_BODY, Receive, limited
from engine.gateway.forwarding import Forwarder
from engine.gateway.inference_docs import describe_inference
from engine.gateway.keys import Key, Keys
from engine.gateway.limits import KeyLimits, require_model
from engine.gateway.protocol import ERRORS, add_handlers, http_refusal
from engine.gateway.records import request_routes, usage_routes
from engine.gateway.records.database import backend
from engine.gateway.records.ledger import Ledger
from engine.gateway.records.recording import Recorder
from engine.gateway.records.requestlog import RequestLog
from engine.gateway.relay import Relay, Scope
from engine.gateway.routes import Route, Routes
from engine.gateway.rows import Rows
from engine.settings import Settings

log = logging.getLogger("engine.gateway")
CALLER = Depends(any_key)
# How often capacity cards are looked at; peak ends at this share of where it begins.
CARDS_S = 5.0
CALM = 0.75
# Bodies that may be longer than others.
LONGEST = {"/v1/files": 512 * 2**20, "/v1/bulk": 256 * 2**20, "/v1/longprompt": 128 * 2**20}
OPERATOR = Key(id="operator", name="operator", role="admin")
DESCRIPTION = (
    "One OpenAI-compatible address for the models of this cluster. Every route under /v1 needs a key, and so "
    "does feedback; every other route under /api needs one of role admin. Errors have OpenAI's shape."
)


class Gateway:
    """The ASGI application. `routes` and `counts` are open to whoever composes it."""

    def __init__(self, control: admin.Control, keys: Keys, settings: Settings, operator_token: str) -> None:
        if operator_token:
            keys.add_fixed(operator_token, OPERATOR)
        self.settings, self.cards = settings, Cards(settings.home)
        self.routes = Routes(control, self.cards.slots)
        self.counts = metrics.Counts()
        share = settings.peak_percent / 100
        self.admission = Admission(
            self.routes.limit,
            queue_most=settings.queue_most,
            wait_s=settings.queue_wait_s,
            peak_share=share,
            calm_share=share * CALM,
        )
        self.request_log = RequestLog(settings.local / "requests.jsonl")
        self.recorder = Recorder(keys.url, self.request_log, settings.log_prompts)
        self.limits = KeyLimits(self.recorder.tokens_today)
        self.forwarder = Forwarder(self.routes, self.counts)
        self.ledger = Ledger(self.counts, self.recorder)
        self.relay = Relay(self.routes, keys, self.counts, self.forwarder, self.admission, self.limits, self.ledger)
        limit, record = self.routes.limit, self.recorder.answered
        asker = Asker(self.routes, self.forwarder, self.admission, limit, self.limits, record)
        self.advanced = Advanced(asker, keys, settings, self.counts, self.recorder, (OPERATOR,))
        self.relay.tribunal = self.advanced.tribunal_model
        self.api = _api(self, control, keys, f"http://{settings.host}:{settings.address_port}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] in relay.PATHS:
            if scope["method"] == "POST":
                await self.relay(scope, receive, send)
            else:
                await refuse(send, http_refusal(405, scope["method"], scope["path"], ""), b"", ((b"allow", b"POST"),))
        elif scope["type"] == "http" and scope["path"].startswith("/deployments/"):
            await self._deployment(scope, receive, send)
        elif scope["type"] == "http":
            await self.api(scope, limited(receive, LONGEST.get(scope["path"], LONGEST_BODY)), send)
        else:
            await self.api(scope, receive, send)

    async def _deployment(self, scope: Scope, receive: Receive, send: Send) -> None:
        """`/deployments/NAME/v1/…`, which NGINX serves where there is one: the deployment's access token is the key."""
        _, _, name, *rest = scope["path"].split("/", 3)
        path = "/" + "".join(rest)
        if scope["method"] == "POST" and path in relay.PATHS:
            await self.relay({**scope, "path": path, relay.DEPLOYMENT: name}, receive, send)
        else:
            await refuse(send, http_refusal(404, scope["method"], scope["path"], "Not Found"), b"")


def create_app(control: admin.Control, keys: Keys, settings: Settings, operator_token: str) -> Gateway:
    """The gateway over a controller. Whoever holds `operator_token`, a secret of this start, counts as admin."""
    return Gateway(control, keys, settings, operator_token)


def _api(gateway: Gateway, control: admin.Control, keys: Keys, url: str) -> FastAPI:
    routes = gateway.routes

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        keys.start()
        gateway.recorder.start()
        gateway.advanced.start()
        reading = asyncio.create_task(_read_cards(gateway.cards))
        _settle_garbage()
        yield
        reading.cancel()
        await gateway.advanced.stop()
        routes.close()
        gateway.ledger.settle()
        await gateway.recorder.stop()
        await keys.stop()

    told: dict[str, Any] = {"title": "Scalable engine", "description": DESCRIPTION, "responses": ERRORS}
    api = FastAPI(**told, lifespan=lifespan, docs_url=None, redoc_url=None)
    api.state.keys = keys
    add_handlers(api)
    _models(api, control, gateway)
    _about(api, control, gateway, url)
    rows = Rows(control, routes, gateway.admission, gateway.cards, url)
    page = overview_routes.Overview(control, rows, gateway.ledger, backend(keys.url), lambda: gateway.counts.in_flight)
    api.include_router(admin.router(control, routes, rows))
    api.include_router(fleet_routes.router(control, rows, gateway.cards))
    api.include_router(key_routes.router(keys, gateway.recorder.tokens_today))
    api.include_router(overview_routes.router(page))
    api.include_router(experiment_routes.router(control, routes, gateway.settings))
    gateway.advanced.include(api)
    api.include_router(usage_routes.router(gateway.ledger, keys))
    api.include_router(request_routes.router(gateway.ledger, gateway.request_log))
    describe_inference(api)
    return api


async def _read_cards(cards: Cards) -> None:
    while True:
        try:
            await asyncio.to_thread(cards.refresh)
        except OSError as error:
            log.warning("capacity cards stay as they are: %s", error)
        await asyncio.sleep(CARDS_S)


def _settle_garbage() -> None:
    """What is loaded by now stays, so the collector need not look at it again: 5 % of the hot path."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _models(api: FastAPI, control: admin.Control, gateway: Gateway) -> None:
    routes = gateway.routes

    def row(route: Route) -> dict[str, Any]:
        _, queued, _ = gateway.admission.load(route.name) if route.targets else (0, 0, 0)
        return {**model_json(route.status, routes.load(route.name)), "queued": queued, "capacity": route.limit}

    @api.get("/v1/models", tags=["Models"], summary="Models that the key opens, and how ready they are")
    async def models(key: Key = CALLER) -> dict[str, Any]:
        await routes.wait()
        found = [routes.find(name) for name in routes.names()]
        return {"object": "list", "data": [row(route) for route in found if key.limits.allow(*route.names)]}

    @api.get("/v1/models/{id}", tags=["Models"], summary="One model")
    async def model(id: str, key: Key = CALLER) -> dict[str, Any]:
        await routes.wait()
        route = routes.find(id)
        require_model(key, *route.names)
        return row(route)


def model_json(status: Status, load: int) -> dict[str, Any]:
    """A row of `/v1/models`: OpenAI's fields, then ours. `load` is the number of requests its replicas have now."""
    deployment, model = status.deployment, status.deployment.model
    if model is None:
        raise UnknownName("model", deployment.name, [])
    return {
        "id": deployment.name,
        "object": "model",
        "created": int(deployment.created_at.timestamp()),
        "owned_by": "engine",
        "model": model.id,
        "engine": deployment.engine,
        "ready": len(status.serving),
        "wanted": deployment.replicas,
        "stage": stage(status),
        "reason": reason(status),
        "load": load,
        "context": model.context,
        "parameters": model.parameters,
        "vision": model.vision,
        "embeddings": model.embeddings,
        "languages": list(model.languages),
        "toy": model.toy,
        "simulated": deployment.engine == "simulator",
    }


def _about(api: FastAPI, control: admin.Control, gateway: Gateway, url: str) -> None:
    routes, counts = gateway.routes, gateway.counts

    @api.get("/health", tags=["About"], summary="200 while the gateway lives; the body tells how the fleet is")
    async def health() -> dict[str, Any]:
        snapshot = control.snapshot
        statuses = snapshot.statuses.values() if snapshot else ()
        return {
            "status": "ok",
            "started": snapshot is not None,
            "scheduler_answers": snapshot is not None and not snapshot.scheduler_silent_since,
            "snapshot_at": snapshot.taken_at if snapshot else None,
            "scheduler_silent_since": snapshot.scheduler_silent_since if snapshot else {},
            "deployments": len(statuses),
            "replicas_ready": sum(len(status.serving) for status in statuses),
            "in_flight": counts.in_flight,
        }

    @api.get("/metrics", tags=["About"], summary="Counters for Prometheus", response_class=PlainTextResponse)
    async def metrics_page() -> Response:
        gateway.ledger.settle()
        page = metrics.Page(
            counts,
            control.snapshot,
            control.squeue_calls,
            routes.load,
            gateway.recorder.by_model(),
            gateway.admission.queued(),
            lambda name: routes.find(name).limit,
        )
        if page.snapshot is not None:
            gateway.recorder.keep_only(page.snapshot.statuses)
            gateway.admission.keep_only(page.snapshot.statuses)
        return Response(metrics.text(page), media_type=CONTENT_TYPE_LATEST)

    @api.get("/docs", include_in_schema=False)
    async def docs_page() -> HTMLResponse:
        return HTMLResponse(docs.page(api.openapi(), url))
