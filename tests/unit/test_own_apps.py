"""The apps that come with the engine: what is launched for each."""

from dataclasses import replace
from typing import Any

from engine.fleet.request import LaunchRequest
from engine.own_apps import OWN_APPS, OwnApp, launch_request, missing

CHATBOT, CONSOLE = OWN_APPS


def test_the_chatbot_is_at_the_root_with_a_key_of_its_own_and_the_console_beside_it() -> None:
    chatbot, console = launch_request(CHATBOT, "http://gw", "sk"), launch_request(CONSOLE, "http://gw")
    assert (chatbot["path"], console["path"]) == ("/", "/console/")
    assert chatbot["environment"]["ENGINE_KEY"] == "sk" and "ENGINE_KEY" not in console["environment"]
    assert console["environment"]["ENGINE_URL"] == "http://gw"
    for request in (chatbot, console):
        assert LaunchRequest(**request).scheduler == "local"


def test_apps_that_run_or_are_not_installed_are_not_launched() -> None:
    rows: list[dict[str, Any]] = [{"name": "chatbot"}]
    assert missing(rows, lambda app: True) == [CONSOLE]
    assert missing([], lambda app: app is CHATBOT) == [CHATBOT]


def test_an_app_whose_package_is_missing_is_not_installed() -> None:
    assert not replace(CONSOLE, needs="no_such_package").installed
    assert not OwnApp("x", "apps.no_such_app", "/x/", "json", "x").installed
    assert CONSOLE.installed
