"""Imports run one way. Each room names the rooms that it may look into; a missing one is a back-and-forth."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.settings import ROOT

ALWAYS = {"engine.errors", "engine.settings", "engine.site", "engine.catalogue", "engine.tables", "engine.terminal"}
MAY_IMPORT = {
    "engine/fleet": {"engine.fleet"},
    "engine/workflows": {"engine.workflows"},
    "engine/gateway": {"engine.gateway", "engine.fleet", "engine.workflows", "engine.capacity", "engine.experiments"},
    "engine/bench": {"engine.bench", "engine.fleet", "engine.capacity", "engine.experiments"},
    "engine/commands": {"engine"},
    "rag": {"rag", "engine.client"},
    "apps": {"apps", "rag", "engine.client", "engine.bench.charts"},
}
HTTP_SERVERS = {"fastapi", "starlette", "uvicorn"}


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(file: Path) -> set[str]:
    found = {name for name in imported(file) if name.split(".")[0] in ("engine", "rag", "apps", "tests")}
    # `from engine.fleet import hosts` names the package as well as what is taken from it.
    return {name for name in found if not any(other.startswith(name + ".") for other in found)}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_looks_only_into_the_rooms_that_it_names(room: str) -> None:
    allowed = ALWAYS | MAY_IMPORT[room]
    wrong = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / room).rglob("*.py")
        for name in ours(file)
        if not any(name == one or name.startswith(one + ".") for one in allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ["engine/fleet", "engine/workflows"])
def test_fleet_and_workflows_know_no_http_server(room: str) -> None:
    files = (ROOT / room).rglob("*.py")
    assert [file for file in files if HTTP_SERVERS & {name.split(".")[0] for name in imported(file)}] == []


def test_the_client_needs_nothing_of_the_fleet_or_the_gateway() -> None:
    found = ours(ROOT / "engine" / "client.py") | ours(ROOT / "engine" / "calls.py")
    assert {name.rpartition(".")[0] for name in found} == {"engine.errors", "engine.calls"}


def test_nothing_imports_the_apps() -> None:
    rooms = [ROOT / "engine", ROOT / "rag"]
    files = [file for room in rooms for file in room.rglob("*.py")]
    assert [file for file in files if any(name.split(".")[0] == "apps" for name in ours(file))] == []


def test_only_the_worker_and_the_commands_bring_fleet_and_gateway_together() -> None:
    both = [
        file.name
        for file in (ROOT / "engine").glob("*.py")
        if any(name.startswith("engine.gateway") for name in ours(file))
    ]
    assert both == ["worker.py"]
