"""`python -m apps.console`: serves the console on $PORT under $ENGINE_APP_PATH, for the gateway at $ENGINE_URL."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from apps.console.theme import THEME

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = {
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "type",
    "client.showErrorLinks": "false",
    "logger.hideWelcomeMessage": "true",
    # Collecting after each run of a fragment takes ten times as long as the run itself.
    "runner.postScriptGC": "false",
    "server.enableAgentApi": "false",
    "server.fileWatcherType": "none",
    "server.headless": "true",
    "server.maxUploadSize": "20",
}


def command(environ: Mapping[str, str]) -> list[str]:
    """The command line of Streamlit; its websocket is only taken from pages that this server has sent."""
    own = {
        "server.address": environ.get("HOST") or "127.0.0.1",
        "server.port": environ.get("PORT") or "8501",
        "server.baseUrlPath": environ.get("ENGINE_APP_PATH", "/console/").strip("/"),
    }
    flags = [f"--{name}={value}" for name, value in {**SETTINGS, **THEME, **own}.items()]
    return [sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("app.py")), *flags]


def main() -> None:
    """Becomes Streamlit, so that signals reach it."""
    argv = command(os.environ)
    paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])
    os.execve(argv[0], argv, {**os.environ, "PYTHONPATH": os.pathsep.join(paths)})


if __name__ == "__main__":
    main()
