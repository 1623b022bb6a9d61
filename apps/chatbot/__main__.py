"""`python -m apps.chatbot`: serves the chatbot on $PORT until it is told to end.

ENGINE_URL and ENGINE_KEY say which gateway it asks, ENGINE_LOCAL (or ENGINE_INDEX, a folder) where the index is,
ENGINE_APP_PATH under which path it is reached, ENGINE_UNIVERSITY whose students it speaks to, ENGINE_TODAY (YYYY-MM-DD)
what day it takes it to be, for an index of pages that stand still.
"""

import os
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from engine.client import AsyncEngineClient
from engine.errors import ConfigurationError
from engine.settings import Settings

# Before Gradio is imported, which reads them then.
QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_RUN_HISTORY": "False"}
KEPT_ALIVE_S = 65


def main(environ: Mapping[str, str] = os.environ) -> None:
    os.environ.update(QUIET)
    import uvicorn

    from apps.chatbot.app import build_app
    from apps.chatbot.page import page
    from apps.chatbot.shelf import Shelf

    client = AsyncEngineClient(environ.get("ENGINE_URL") or _gateway(environ), environ.get("ENGINE_KEY", ""))
    shelf = Shelf(_index(environ))
    threading.Thread(target=shelf.prepare, daemon=True).start()
    university = environ.get("ENGINE_UNIVERSITY", "")
    blocks = build_app(client, shelf, now=_now(environ), university=university, is_sample=lambda: shelf.is_sample)
    uvicorn.run(
        page(blocks, environ.get("ENGINE_APP_PATH") or "/"),
        host=environ.get("HOST") or "127.0.0.1",
        port=_port(environ),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEPT_ALIVE_S,
        timeout_graceful_shutdown=5,
    )


def _gateway(environ: Mapping[str, str]) -> str:
    settings = Settings.from_env(environ)
    return f"http://{settings.host}:{settings.port}"


def _index(environ: Mapping[str, str]) -> Path:
    given = environ.get("ENGINE_INDEX")
    return Path(given) if given else Settings.from_env(environ).local / "index"


def _now(environ: Mapping[str, str]) -> Callable[[], datetime]:
    if not (text := environ.get("ENGINE_TODAY")):
        return datetime.now
    try:
        day = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"ENGINE_TODAY is {text!r}; it must be a day, YYYY-MM-DD") from error
    return lambda: day


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("PORT", "7860")
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ConfigurationError(f"PORT is {text!r}; it must be a port, 1 to 65535")
    return int(text)


if __name__ == "__main__":
    main()
