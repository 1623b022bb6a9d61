"""Serves the made-up university on loopback: all its hosts at one port, told apart by the Host header."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time
from email.utils import format_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.university.pages import DOMAIN
from tests.university.site import Answer, answers, hosts

START = f"http://www.{DOMAIN}/"
NOT_FOUND = Answer(b"<html lang=de><title>404</title><h1>Seite nicht gefunden</h1></html>", status=404)


@dataclass(frozen=True)
class University:
    """The running site. `resolve` are the crawler's --resolve options: each host's port 80 is found at ours.

    `asked` grows by host and target with every request.
    """

    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def resolve(self) -> tuple[str, ...]:
        return tuple(f"{host}.{DOMAIN}:80:127.0.0.1:{self.port}" for host in hosts())


@contextmanager
def serving(port: int = 0) -> Iterator[University]:
    """The site at a port (0: a free one) until the block ends."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(asked))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield University(server.server_address[1], asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def find_answer(host_header: str, target: str) -> Answer:
    """The answer by Host header and target.

    For a look in a browser, `bib.localhost:PORT` is the library's host, with links that stay there; any other name or
    address is the main host.
    """
    host, _, port = host_header.partition(":")
    name = host.partition(".")[0] if host.endswith((f".{DOMAIN}", ".localhost")) else "www"
    path = target.partition("?")[0].strip("/")
    answer = answers().get(f"{name}/{path}", NOT_FOUND)
    return answer if host.endswith(DOMAIN) else _on_localhost(answer, port)


def _on_localhost(answer: Answer, port: str) -> Answer:
    def local(address: str) -> str:
        return re.sub(rf"http://(\w+)\.{re.escape(DOMAIN)}/", rf"http://\1.localhost:{port}/", address)

    body = local(answer.body.decode()).encode() if answer.content_type.startswith("text/html") else answer.body
    return replace(answer, body=body, location=local(answer.location))


def _handler(asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "Apache"

        def do_GET(self) -> None:
            host = self.headers.get("Host", "")
            asked.append(host.partition(":")[0] + self.path)
            answer = find_answer(host, self.path)
            etag = f'"{sha256(answer.body).hexdigest()[:16]}"'
            unchanged = answer.status == 200 and self.headers.get("If-None-Match") == etag
            self.send_response(304 if unchanged else answer.status)
            self.send_header("ETag", etag)
            self.send_header("Last-Modified", _http_date(answer))
            if answer.location:
                self.send_header("Location", answer.location)
            body = b"" if unchanged else answer.body
            if not unchanged:
                self.send_header("Content-Type", answer.content_type)
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


def _http_date(answer: Answer) -> str:
    return format_datetime(datetime.combine(answer.date, time(9), UTC), usegmt=True)
