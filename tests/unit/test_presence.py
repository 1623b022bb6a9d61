"""Which gateway is ours: a file left behind is not taken for whoever listens there now."""

import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from engine import presence
from engine.fleet.lock import start_time
from engine.ports import free_port
from engine.presence import Presence


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def announced(home: Path, url: str, pid: int, started: str) -> Presence:
    here = Presence(url, "http://127.0.0.1:8080", pid, "token", started)
    presence.announce(home, here)
    return here


def test_a_gateway_whose_process_lives_and_answers_is_found(tmp_path: Path, url: str) -> None:
    here = announced(tmp_path, url, os.getpid(), start_time(os.getpid()))
    assert presence.find(tmp_path) == here
    assert (tmp_path / "gateway.json").stat().st_mode & 0o777 == 0o600
    assert "token" not in repr(here)


def test_without_a_file_or_with_a_torn_one_there_is_none(tmp_path: Path) -> None:
    assert presence.find(tmp_path) is None
    for text in ("", "{", '{"url": "http://127.0.0.1:1"}', "[]"):
        (tmp_path / "gateway.json").write_text(text)
        assert presence.find(tmp_path) is None


def test_a_program_that_got_the_port_of_a_dead_gateway_is_not_taken_for_it(tmp_path: Path, url: str) -> None:
    process = subprocess.Popen(["sleep", "60"])
    started = start_time(process.pid)
    process.kill()
    process.wait()
    announced(tmp_path, url, process.pid, started)
    assert presence.find(tmp_path) is None


def test_a_process_that_got_the_pid_of_a_dead_gateway_is_not_taken_for_it(tmp_path: Path, url: str) -> None:
    for started in ("1", ""):
        announced(tmp_path, url, os.getpid(), started)
        assert presence.find(tmp_path) is None


def test_a_gateway_that_does_not_listen_is_not_found(tmp_path: Path) -> None:
    announced(tmp_path, f"http://127.0.0.1:{free_port()}", os.getpid(), start_time(os.getpid()))
    assert presence.find(tmp_path) is None


def test_a_gateway_withdraws_its_own_file_alone(tmp_path: Path, url: str) -> None:
    announced(tmp_path, url, os.getpid(), start_time(os.getpid()))
    presence.withdraw(tmp_path, os.getpid() + 1)
    assert presence.find(tmp_path)
    presence.withdraw(tmp_path, os.getpid())
    presence.withdraw(tmp_path, os.getpid())
    assert list(tmp_path.iterdir()) == []
