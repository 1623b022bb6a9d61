"""uvicorn as the gateway wants it."""

from typing import Any

import uvicorn


def config(app: Any, *, drain_s: int) -> uvicorn.Config:
    """For a server of `app` on sockets that are given to it; after SIGTERM, requests in flight have `drain_s` to end.

    No access log and no proxy headers: both cost time on every request, and nobody reads them here.
    """
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=drain_s,
    )
