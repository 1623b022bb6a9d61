"""The web apps that come with the engine, and how each is launched beside the gateway."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from engine.settings import ROOT


@dataclass(frozen=True)
class OwnApp:
    """`python -m MODULE` listens on $PORT under `path`. It is installed when its module and all it `needs` are there.

    `keyed` apps ask the gateway by a user's key of their own ($ENGINE_KEY); in others, people log in with theirs.
    """

    name: str
    module: str
    path: str
    needs: str
    title: str
    mem_gb: float = 2.0
    keyed: bool = False

    @property
    def installed(self) -> bool:
        package = self.module.rpartition(".")[0]
        return all(find_spec(name) for name in (package, self.module, self.needs)) and (
            find_spec(f"{self.module}.__main__") is not None
        )


OWN_APPS = (
    OwnApp("chatbot", "apps.chatbot", "/", "gradio", "chatbot", mem_gb=3.0, keyed=True),
    OwnApp("console", "apps.console", "/console/", "streamlit", "admin console"),
)


def launch_request(app: OwnApp, url: str, key: str = "") -> dict[str, Any]:
    """Fields of LaunchRequest. It runs on this machine, where the gateway answers at `url`; `key` is its own.

    The app is told ENGINE_URL, ENGINE_KEY and ENGINE_APP_PATH.
    """
    environment = {"PYTHONPATH": str(ROOT), "ENGINE_URL": url, "ENGINE_APP_PATH": app.path}
    return {
        "name": app.name,
        "command": [sys.executable, "-m", app.module],
        "path": app.path,
        "scheduler": "local",
        "cpus": 1,
        "mem_gb": app.mem_gb,
        "environment": {**environment, **({"ENGINE_KEY": key} if key else {})},
    }


def missing(
    rows: list[dict[str, Any]], installed: Callable[[OwnApp], bool] = lambda app: app.installed
) -> list[OwnApp]:
    """Those that are installed and whose name no deployment of `rows` has."""
    taken = {row["name"] for row in rows}
    return [app for app in OWN_APPS if app.name not in taken and installed(app)]
