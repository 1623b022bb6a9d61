import inspect

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict

from engine import errors
from engine.fleet.deployments import Replica, Status
from engine.gateway.docs import page
from engine.gateway.protocol import add_handlers, refusal, starting
from tests.fakes import deployment


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (errors.UnknownName("model", "x", ["a"]), 404, "model_not_found"),
        (errors.UnknownName("deployment", "x", ["a"]), 404, "not_found"),
        (errors.ConfigurationError("wrong"), 422, "invalid_value"),
        (errors.Conflict("there already"), 409, "conflict"),
        (errors.AccessDenied("no key"), 401, "invalid_api_key"),
        (errors.Overloaded("full", 7), 429, "overloaded"),
        (errors.SubmitFailed("sbatch said no"), 502, "submit_failed"),
        (errors.SchedulerUnreachable("no answer"), 503, "scheduler_unreachable"),
        (errors.EndpointRefused("no"), 502, "replica_unreachable"),
        (errors.EndpointTimedOut("late"), 504, "replica_timed_out"),
        (errors.GatewayError("as it came", 418, "teapot"), 418, "teapot"),
    ],
)
def test_each_error_has_its_status_and_code(error, status, code):
    assert (refusal(error).status, refusal(error).code) == (status, code)


def test_every_class_of_errors_is_mapped():
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.EngineError)]
    arguments = {"UnknownName": ("model", "x", []), "Overloaded": ("x", 1), "GatewayError": ("x", 500)}
    arguments["FetchFailed"] = ("x", True)
    for kind in classes:
        found = refusal(kind(*arguments.get(kind.__name__, ("x",))))
        assert found.payload.keys() == {"error"}
        assert found.payload["error"].keys() == {"message", "type", "param", "code"}


def test_an_unforeseen_error_tells_nothing_of_its_insides():
    assert "secret" not in refusal(RuntimeError("secret")).message


def test_overloaded_and_unauthorised_carry_their_headers():
    assert refusal(errors.Overloaded("full", 7)).headers == {"retry-after": "7"}
    assert refusal(errors.AccessDenied("no")).headers == {"www-authenticate": "Bearer"}


def waiting(stage: str, reason: str = "", **more: object) -> Status:
    return Status(deployment("llama"), (Replica(0, 1, 1, stage=stage, reason=reason),), **more)


def test_a_starting_model_says_how_far_it_is_and_when_to_come_back():
    queued, loading = starting(waiting("queued", "Resources")), starting(waiting("loading"))
    assert queued.status == loading.status == 503
    assert "replica 0 is queued (Resources)" in queued.message
    assert "replica 0 is loading" in loading.message
    assert int(queued.headers["retry-after"]) > int(loading.headers["retry-after"])


def test_a_model_that_will_not_come_gives_no_hope():
    gone = starting(waiting("failed", gave_up="no such file"))
    assert "no such file" in gone.message and "`engine restart llama`" in gone.message
    assert "retry-after" not in gone.headers
    none = starting(Status(deployment("llama", replicas=0)))
    assert "no replicas; `engine scale llama 1`" in none.message and "retry-after" not in none.headers


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int


@pytest.fixture
def client():
    app = FastAPI()
    add_handlers(app)

    @app.post("/things")
    async def things(body: Body) -> None: ...

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret")

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_every_error_of_a_control_route_has_one_shape(client):
    wrong = await client.post("/things", json={"count": "many"})
    nowhere, method, crash = await client.get("/nowhere"), await client.get("/things"), await client.get("/broken")
    answers = [wrong, nowhere, method, crash]
    assert [answer.status_code for answer in answers] == [422, 404, 405, 500]
    for answer in answers:
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
    assert wrong.json()["error"]["param"] == "count"
    mistyped = await client.post("/things", json={"count": 1, "cuont": 2})
    assert mistyped.json()["error"]["message"] == "cuont: there is no such field; /docs lists them"
    assert method.headers["allow"] == "POST"
    assert "secret" not in crash.text


def test_the_page_of_the_api_loads_nothing_from_elsewhere():
    app = FastAPI(title="<b>x</b>")

    @app.post("/things", summary="Make <things>")
    async def things(body: Body) -> None: ...

    html = page(app.openapi(), "http://127.0.0.1:8080")
    assert "<script" not in html and "src=" not in html and "https://" not in html
    assert "&lt;things&gt;" in html and "count" in html and "<b>x</b>" not in html
