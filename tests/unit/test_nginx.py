from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.errors import NginxError
from engine.fleet.nginx import Nginx, reason
from engine.fleet.run import Completed

OK = Completed(0, "", "")
TAKEN = """nginx: [emerg] bind() to 127.0.0.1:8080 failed (98: Address already in use)
nginx: [emerg] bind() to 127.0.0.1:8080 failed (98: Address already in use)
nginx: [emerg] still could not bind()
"""


class Program:
    """Stands for the nginx program: notes what it is told, writes the pid file, answers as `answers` says."""

    def __init__(self, root: Path, answers: dict[str, Completed] | None = None) -> None:
        self.root, self.answers = root, answers or {}
        self.told: list[str] = []
        self.alive = False

    def run(self, argv: Sequence[str], timeout_s: float) -> Completed:
        verb = "test" if "-t" in argv else argv[argv.index("-s") + 1] if "-s" in argv else "start"
        self.told.append(verb)
        answer = self.answers.get(verb, OK)
        if answer.returncode == 0 and verb == "start":
            (self.root / "nginx.pid").write_text("4711\n")
            self.alive = True
        if answer.returncode == 0 and verb in ("stop", "quit"):
            self.alive = False
        return answer

    def command_line(self, pid: int) -> str:
        return f"nginx: master process nginx -p {self.root}/ -c x" if self.alive and pid == 4711 else ""

    def nginx(self) -> Nginx:
        return Nginx(self.root, run=self.run, command=("nginx",), command_line=self.command_line)


def test_the_first_configuration_is_tested_and_nginx_started(tmp_path: Path) -> None:
    program = Program(tmp_path)
    assert program.nginx().apply("one") is True
    assert program.told == ["test", "start"]
    assert (tmp_path / "nginx.conf").read_text() == "one"
    assert (tmp_path / "nginx.conf").stat().st_mode & 0o777 == 0o600


def test_nginx_is_reloaded_only_when_the_text_changed(tmp_path: Path) -> None:
    program = Program(tmp_path)
    nginx = program.nginx()
    nginx.apply("one")
    assert nginx.apply("one") is False
    assert nginx.apply("two") is True
    assert program.told == ["test", "start", "test", "reload"]


def test_a_refused_configuration_leaves_the_old_one(tmp_path: Path) -> None:
    program = Program(tmp_path)
    nginx = program.nginx()
    nginx.apply("one")
    program.answers["test"] = Completed(
        1, "", 'nginx: [emerg] unknown directive "x" in nginx.conf:3\nnginx: test failed\n'
    )
    with pytest.raises(NginxError, match='unknown directive "x"'):
        nginx.apply("two")
    assert (tmp_path / "nginx.conf").read_text() == "one"
    assert not list(tmp_path.glob("*.new")) and "reload" not in program.told


def test_an_nginx_that_died_is_started_again(tmp_path: Path) -> None:
    program = Program(tmp_path)
    nginx = program.nginx()
    nginx.apply("one")
    program.alive = False
    assert nginx.apply("one") is False
    assert program.told == ["test", "start", "start"]


def test_starting_twice_starts_once(tmp_path: Path) -> None:
    program = Program(tmp_path)
    nginx = program.nginx()
    nginx.apply("one")
    nginx.start()
    program.nginx().start()
    assert program.told.count("start") == 1


def test_a_stale_pid_file_is_harmless(tmp_path: Path) -> None:
    program = Program(tmp_path)
    nginx = program.nginx()
    for stale in ("1\n", "99999999\n", "rubbish", ""):
        (tmp_path / "nginx.pid").write_text(stale)
        assert not nginx.running
        nginx.stop()
    assert program.told == []
    (tmp_path / "nginx.pid").write_text("1\n")
    nginx.apply("one")
    assert nginx.running


def test_a_taken_port_is_said_in_plain_words(tmp_path: Path) -> None:
    program = Program(tmp_path, {"start": Completed(1, "", TAKEN)})
    with pytest.raises(NginxError, match=r"127\.0\.0\.1:8080 is taken by another program; set ENGINE_ADDRESS_PORT"):
        program.nginx().apply("one")


def test_stop_lets_requests_end_when_it_is_given_time(tmp_path: Path) -> None:
    program = Program(tmp_path)
    nginx = program.nginx()
    nginx.apply("one")
    nginx.stop(drain_s=1)
    nginx.stop()
    assert program.told == ["test", "start", "quit"]


def test_an_nginx_that_hangs_or_is_missing_is_an_error_of_ours(tmp_path: Path) -> None:
    def hang(argv: Sequence[str], timeout_s: float) -> Completed:
        raise TimeoutError("nginx gave no answer within 20 s")

    with pytest.raises(NginxError, match="no answer within"):
        Nginx(tmp_path, run=hang, command=("nginx",)).apply("one")
    with pytest.raises(NginxError, match="no nginx in the PATH"):
        Nginx(tmp_path, run=hang, command=()).apply("one")


def test_nothing_can_be_started_before_a_configuration_is_there(tmp_path: Path) -> None:
    with pytest.raises(NginxError, match="there is no"):
        Program(tmp_path).nginx().start()


def test_the_reason_is_one_line_whatever_nginx_says() -> None:
    assert reason("") == "no word of why"
    assert reason("nginx: [alert] a\nnginx: [emerg] b\nnginx: [emerg] c\n") == "[emerg] b"
