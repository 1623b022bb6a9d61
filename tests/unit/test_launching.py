"""Waiting for replicas: told in plain words, bounded, and ended when the engine has given up."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from engine.client import EngineClient
from engine.errors import NotReadyInTime, ReplicaFailed
from engine.fleet.deployments import Replica, Status
from engine.fleet.hosts import Endpoint
from engine.fleet.status import status_json
from engine.launching import describe, stop_and_wait, wait_ready
from tests import fakes


def row(*replicas: Replica, wanted: int = 1, gave_up: str = "") -> dict[str, Any]:
    return status_json(Status(fakes.deployment(replicas=wanted), replicas, gave_up=gave_up), lambda endpoint: 0, "")


def serving(index: int = 0) -> Replica:
    return Replica(index, index + 1, 1, "ready", "7", endpoint=Endpoint("n1", 9000), in_rotation=True)


def client(answer: Callable[[httpx.Request], Any]) -> EngineClient:
    return EngineClient("http://gw", "", httpx.MockTransport(lambda request: httpx.Response(200, json=answer(request))))


def test_each_change_is_told_once_until_all_serve() -> None:
    waits = row(Replica(0, 1, 1, "queued", "7", reason="waiting for resources (Resources)"))
    rows = iter([waits, waits, row(serving())])
    said: list[str] = []
    with client(lambda request: next(rows)) as gateway:
        assert wait_ready(gateway, "sim", 10, said.append)["ready"] == 1
    assert said == [
        "sim: 0 of 1 ready; replica 0 queued (job 7): waiting for resources (Resources)",
        "sim: 1 of 1 ready",
    ]


def test_waiting_ends_when_it_gave_up_even_if_some_serve() -> None:
    half = row(serving(), wanted=2, gave_up="3 attempts ended before they served; the last: out of memory")
    with (
        client(lambda request: half) as gateway,
        pytest.raises(ReplicaFailed, match=r"sim: 3 attempts.*`engine logs sim`"),
    ):
        wait_ready(gateway, "sim", 10, lambda line: None)


def test_waiting_is_bounded() -> None:
    with client(lambda request: row()) as gateway, pytest.raises(NotReadyInTime, match="not ready within 0 s"):
        wait_ready(gateway, "sim", 0, lambda line: None)


def test_fewer_than_wanted_can_be_waited_for() -> None:
    with client(lambda request: row(serving(), wanted=3)) as gateway:
        assert wait_ready(gateway, "sim", 0, lambda line: None, replicas=1)["ready"] == 1


def test_stopping_waits_for_the_last_job_and_for_those_named_alone() -> None:
    other = {**row(serving()), "name": "other"}
    rows = iter([[row(serving()), other], [other]])
    asked: list[str] = []

    def answer(request: httpx.Request) -> Any:
        asked.append(f"{request.method} {request.url.path}")
        return {} if request.method == "DELETE" else next(rows)

    with client(answer) as gateway:
        stop_and_wait(gateway, ["sim"], 10)
    assert asked == ["DELETE /api/deployments/sim", "GET /api/deployments", "GET /api/deployments"]


def test_stopping_is_bounded() -> None:
    with (
        client(lambda request: [row(serving())]) as gateway,
        pytest.raises(NotReadyInTime, match="jobs: 7; still there"),
    ):
        stop_and_wait(gateway, ["sim"], 0)


def test_many_waiting_replicas_are_told_shortly() -> None:
    many = row(*(Replica(index, index + 1, 1) for index in range(9)), wanted=9)
    assert describe(many).endswith("replica 2 queued; and 6 more")
