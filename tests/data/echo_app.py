"""A web app for tests: tells its path over HTTP, echoes over a websocket at …/ws; listens on $PORT, as apps must."""

import asyncio
import os
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(f"echo: {message}")


def page(connection: ServerConnection, request: Request) -> Response | None:
    if request.path.endswith("/ws"):
        return None
    return connection.respond(HTTPStatus.OK, f"hello from {os.environ.get('SLURMD_NODENAME', '?')} at {request.path}\n")


async def main() -> None:
    async with serve(echo, os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"]), process_request=page):
        await asyncio.Future()


if __name__ == "__main__":
    asyncio.run(main())
