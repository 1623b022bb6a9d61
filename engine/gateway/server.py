"""uvicorn as the gateway wants it."""

from typing import Any

import uvicorn


def server(app: Any, host: str, port: int, *, drain_s: int = 300) -> uvicorn.Server:
    """A server for `app`; SIGTERM stops the listening, and requests in flight have `drain_s` to end.

    No access log and no proxy headers: both cost time on every request, and nobody reads them here.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=drain_s,
    )
    return uvicorn.Server(config)
