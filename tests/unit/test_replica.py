"""The sidecar, as a process of its own, with a tiny server; with the oldest Python at hand."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from engine.fleet import hosts, replica

SIDECAR = Path(replica.__file__)
FAKE = Path(__file__).with_name("fake_inference_server.py")
GOLDEN = Path(__file__).parents[1] / "data" / "host-file.json"
KEY = "the-replica-key"


def oldest_python() -> str:
    """Python 3.6 or the next newer one, for that is what nodes have."""
    pyenv = Path("~/.pyenv/versions").expanduser()
    for minor in range(6, 11):
        for found in [shutil.which(f"python3.{minor}"), *pyenv.glob(f"3.{minor}.*/bin/python3")]:
            if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
                return str(found)
    return sys.executable


PYTHON = oldest_python()


# Starts a stranger that is neither a descendant nor in the session, and then does nothing.
THIEF = """
import os, sys, time
os.environ["SLURM_JOB_ID"] = "4712"
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable] + sys.argv[1:])
    os._exit(0)
os.wait()
time.sleep(60)
"""


@dataclass
class Sidecar:
    """A running sidecar and what a test needs to know of it."""

    process: subprocess.Popen[bytes]
    folder: Path
    job_id: str = "4711"

    @property
    def host_file(self) -> Path:
        return self.folder / "hosts" / f"{self.job_id}.json"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def read(self) -> dict[str, Any]:
        return json.loads(self.host_file.read_text())

    def server(self, **state: Any) -> None:
        temporary = self.folder / "state.new"
        temporary.write_text(json.dumps(state))
        temporary.replace(self.folder / "state.json")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def ready(self) -> dict[str, Any]:
        until(lambda: self.host_file.exists(), lambda: self.log)
        return self.read()

    def ends(self, within_s: float = 10) -> int:
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the sidecar goes on after {within_s} s:\n{self.log}") from None

    def get(self, path: str) -> str:
        file = self.read()
        with urllib.request.urlopen(f"http://{file['host']}:{file['port']}{path}", timeout=5) as answer:
            return answer.read().decode()


def until(true: Callable[[], bool], why: Callable[[], str] = str, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)


def exists(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@dataclass
class Starter:
    folder: Path
    started: list[Sidecar] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Where the sidecar looks for programs first."""
        return self.folder / "bin"

    def __call__(self, *options: str, command: list[str] | None = None, restart: int = 0, **state: Any) -> Sidecar:
        (self.folder / "key").write_text(KEY + "\n")
        environ = {**os.environ, "SLURM_JOB_ID": "4711", "SLURMD_NODENAME": "n7", "SLURM_RESTART_COUNT": str(restart)}
        environ["PATH"] = f"{self.path}:{environ['PATH']}"
        environ |= {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "no_proxy": ""}
        argv = [PYTHON, str(SIDECAR), "--deployment", "d", "--index", "2", "--attempt", "3", "--served-name", "m"]
        argv += [
            "--hosts-dir",
            str(self.folder / "hosts"),
            "--key-file",
            str(self.folder / "key"),
            "--key-env",
            "TEST_KEY",
        ]
        argv += [
            "--interface",
            "127.0.0.1",
            "--heartbeat-s",
            "0.1",
            "--settle-s",
            "0.1",
            "--busy-metric",
            "fake:running",
        ]
        fake = [PYTHON, str(FAKE), "{host}", "{port}", str(self.folder / "state.json")]
        with (self.folder / "log").open("ab") as log:
            sidecar = Sidecar(None, self.folder)  # type: ignore[arg-type]
            sidecar.server(**state)
            sidecar.process = subprocess.Popen(
                [*argv, *options, "--", *(command or fake)], env=environ, stdout=log, stderr=log
            )
        self.started.append(sidecar)
        return sidecar


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for sidecar in starter.started:
        left = replica.tree(sidecar.process.pid)
        sidecar.process.kill()
        sidecar.process.wait()
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)


def parsed(deployment: str, key_file: Path) -> Any:
    options = {
        "--deployment": deployment,
        "--index": "1",
        "--attempt": "3",
        "--hosts-dir": "hosts",
        "--served-name": "m",
    }
    argv = [word for pair in options.items() for word in pair]
    return replica.parse([*argv, "--key-file", str(key_file), "--", "server"])


def test_the_host_file_comes_when_a_token_came_and_has_the_form_of_the_golden_file(start: Starter) -> None:
    sidecar = start()
    file, golden = sidecar.ready(), json.loads(GOLDEN.read_text())
    assert set(file) == set(golden) and set(file["timing"]) == set(golden["timing"])
    assert (file["deployment"], file["index"], file["attempt"], file["job_id"]) == ("d", 2, 3, "4711")
    assert (file["node"], file["stage"], file["host"], file["lease_s"]) == (
        "n7",
        "ready",
        "127.0.0.1",
        pytest.approx(0.6),
    )
    (read,) = hosts.read(sidecar.folder / "hosts")
    assert read.ready_at >= read.started_at and read.busy == 0


def test_the_fields_that_are_written_are_those_of_the_golden_file() -> None:
    golden = json.loads(GOLDEN.read_text())
    options = parsed("smollm2", GOLDEN)
    sidecar = replica.Sidecar(options, {"SLURM_JOB_ID": "4711", "SLURMD_NODENAME": "n3"}, None)  # type: ignore[arg-type]
    sidecar.started_at, sidecar.ready_at = golden["started_at"], golden["ready_at"]
    watch = replica.Watch(options, "k", replica.Place("", {}), None, lambda: None)  # type: ignore[arg-type]
    watch.load_s, watch.first_token_s, watch.busy, watch.cpu_percent = 41.25, 0.5, 2, 187.5
    gpus = replica.parse_gpus("0, NVIDIA A100-SXM4-80GB, 93, 72908.8, 81920\n")
    fields = sidecar.fields(replica.Place("10.0.0.7", {"port": 40123}), watch, gpus)
    assert dict(fields, beat=golden["beat"], renewed_at=golden["renewed_at"]) == golden


def test_each_heartbeat_grows_the_beat_and_tells_busy_and_cpu(start: Starter) -> None:
    sidecar = start()
    first = sidecar.ready()["beat"]
    sidecar.server(busy=5)
    until(lambda: sidecar.read()["beat"] > first + 3 and sidecar.read()["busy"] == 5)
    file = sidecar.read()
    assert file["cpu_percent"] is not None and file["gpus"] == []
    datetime.fromisoformat(file["renewed_at"])


def test_the_server_gets_the_key_and_ports_by_environment_and_never_in_argv_or_log(start: Starter) -> None:
    command = [
        PYTHON,
        str(FAKE),
        "{host}",
        "{port}",
        str(start.folder / "state.json"),
        "0",
        "{port1}",
        "x={port2}:{host}",
    ]
    sidecar = start(command=command)
    port = str(sidecar.ready()["port"])
    told = json.loads(sidecar.get("/environment"))
    names = ("ENGINE_REPLICA_KEY", "TEST_KEY", "APPTAINERENV_TEST_KEY", "SINGULARITYENV_TEST_KEY")
    assert {told["env"][name] for name in names} == {KEY}
    assert (told["env"]["PORT"], told["env"]["HOST"], told["argv"][2]) == (port, "127.0.0.1", port)
    port1, port2 = told["argv"][5], told["argv"][6]
    assert port2.startswith("x=") and port2.endswith(":127.0.0.1") and len({port, port1, port2[2:-10]}) == 3
    assert KEY not in " ".join(told["argv"]) and KEY not in sidecar.log and "key is ***" in sidecar.log


def test_nothing_is_published_while_the_server_loads(start: Starter) -> None:
    sidecar = start(health=503)
    time.sleep(0.5)
    assert not sidecar.host_file.exists()
    sidecar.server(completion=500)
    time.sleep(0.5)
    assert not sidecar.host_file.exists()
    sidecar.server()
    assert sidecar.ready()["timing"]["load_s"] > 0.4


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_while_loading_stops_it_at_once(start: Starter, number: int) -> None:
    sidecar = start(health="hang")
    until(lambda: "key is" in (sidecar.log if (sidecar.folder / "log").exists() else ""))
    sidecar.signal(number)
    assert sidecar.ends(3) == 0
    assert "while loading" in sidecar.log and not sidecar.host_file.exists()


def test_a_server_that_never_gets_ready_is_stopped_with_what_it_answered(start: Starter) -> None:
    sidecar = start("--load-timeout-s", "0.5", health=503, log="still warming up")
    assert sidecar.ends() == 1
    last = sidecar.log.splitlines()[-1]
    assert "not ready after" in last and "HTTP 503" in last and "still warming up" in last


def test_a_long_load_is_told_as_it_goes(start: Starter) -> None:
    sidecar = start("--progress-s", "0.2", health=503, log="loading shard 3 of 9")
    until(lambda: sidecar.log.count("loading for") >= 2)
    assert "HTTP 503" in sidecar.log and "it says: loading shard 3 of 9" in sidecar.log


def test_a_dead_server_tells_why_and_takes_its_file_with_it(start: Starter) -> None:
    sidecar = start(log="CUDA error: out of memory")
    sidecar.ready()
    sidecar.server(exit=7)
    assert sidecar.ends() == 1
    last = sidecar.log.splitlines()[-1]
    assert "exited with code 7 while serving" in last and "out of memory" in last
    assert not sidecar.host_file.exists()


def test_a_server_killed_from_outside_is_told_with_its_signal(start: Starter) -> None:
    sidecar = start()
    sidecar.ready()
    (server,) = [p.pid for p in replica.processes() if p.parent == sidecar.process.pid]
    os.kill(server, signal.SIGKILL)
    assert sidecar.ends() == 1
    assert "killed by SIGKILL" in sidecar.log and not sidecar.host_file.exists()


def test_a_command_that_does_not_exist_is_one_clear_line(start: Starter) -> None:
    sidecar = start(command=["/nowhere/server", "{port}"])
    assert sidecar.ends() == 1
    assert "cannot start the server '/nowhere/server': No such file" in sidecar.log


def test_a_port_that_was_taken_meanwhile_makes_it_try_another(start: Starter) -> None:
    """The first server finds its port taken, as a thief would leave it; the second is let through."""
    mark, state = start.folder / "once", start.folder / "state.json"
    once = f"test -e {mark} || {{ touch {mark}; echo 'OSError: [Errno 98] Address already in use'; exit 1; }}; "
    sidecar = start(command=["sh", "-c", f"{once} exec {PYTHON} {FAKE} {{host}} {{port}} {state}"])
    sidecar.ready()
    assert "is taken" in sidecar.log and "try 1 of 5" in sidecar.log


def test_it_gives_up_after_five_taken_ports(start: Starter) -> None:
    sidecar = start(command=["sh", "-c", "echo 'bind: Address already in use'; exit 1"])
    assert sidecar.ends(20) == 1
    assert "no port stayed free in 5 tries" in sidecar.log and sidecar.log.count("starting sh") == 5


def test_another_jobs_server_on_its_port_is_not_published_as_its_own(start: Starter) -> None:
    """Our own server hangs before it binds, and a stranger answers where it should."""
    state = start.folder / "state.json"
    thief = start.folder / "thief.py"
    thief.write_text(THIEF)
    sidecar = start(command=[PYTHON, str(thief), str(FAKE), "{host}", "{port}", str(state)])
    until(lambda: "another job listens" in sidecar.log, lambda: sidecar.log)
    assert not sidecar.host_file.exists()
    sidecar.server(exit=0)


def test_draining_is_told_at_once_and_lets_requests_end(start: Starter) -> None:
    sidecar = start(busy=1)
    sidecar.ready()
    sidecar.signal(signal.SIGUSR1)
    until(lambda: sidecar.read()["stage"] == "draining", within_s=1)
    time.sleep(1.5)
    assert sidecar.process.poll() is None
    assert json.loads(sidecar.get("/environment"))["env"]["PORT"]
    sidecar.server(busy=0)
    assert sidecar.ends() == 0
    assert "drained in" in sidecar.log and not sidecar.host_file.exists()


def test_draining_ends_when_its_time_is_up(start: Starter) -> None:
    sidecar = start("--drain-timeout-s", "0.5", busy=1)
    sidecar.ready()
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends() == 0
    assert "requests still ran" in sidecar.log


def test_a_sigterm_after_the_drain_began_ends_it_at_once(start: Starter) -> None:
    sidecar = start(busy=1)
    sidecar.ready()
    sidecar.signal(signal.SIGUSR1)
    until(lambda: sidecar.read()["stage"] == "draining")
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends(3) == 0
    assert "asked again" in sidecar.log and not sidecar.host_file.exists()


def test_two_sigterm_in_one_breath_are_one(start: Starter) -> None:
    sidecar = start(busy=1)
    sidecar.ready()
    sidecar.signal(signal.SIGTERM)
    until(lambda: sidecar.read()["stage"] == "draining")
    sidecar.signal(signal.SIGTERM)
    time.sleep(0.5)
    assert sidecar.process.poll() is None
    time.sleep(0.7)
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends(3) == 0


def test_a_server_that_was_stopped_with_it_is_no_failure(start: Starter) -> None:
    sidecar = start(busy=1)
    sidecar.ready()
    (server,) = [p.pid for p in replica.processes() if p.parent == sidecar.process.pid]
    os.kill(server, signal.SIGTERM)
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends(5) == 0
    assert not sidecar.host_file.exists()


def test_without_a_metric_open_connections_keep_it_draining_while_they_are_active(start: Starter) -> None:
    sidecar = start("--drain-timeout-s", "60", busy=None)
    file = sidecar.ready()
    with socket.create_connection((file["host"], file["port"])):
        sidecar.signal(signal.SIGTERM)
        until(lambda: sidecar.read()["stage"] == "draining")
        time.sleep(1)
        assert sidecar.process.poll() is None
    assert sidecar.ends() == 0
    assert "drained in" in sidecar.log


def test_a_server_that_ignores_sigterm_is_killed_with_its_children(start: Starter) -> None:
    state, pids = start.folder / "state.json", start.folder / "pids"
    stubborn = (
        f"trap '' TERM; sleep 300 & setsid sleep 300 & echo $$ $! > {pids}; {PYTHON} {FAKE} {{host}} {{port}} {state}"
    )
    sidecar = start("--kill-after-s", "1", command=["sh", "-c", stubborn])
    sidecar.ready()
    family = [p.pid for p in replica.tree(sidecar.process.pid) if p.pid != sidecar.process.pid]
    assert len(family) >= 4
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends(20) == 0
    assert "killing it" in sidecar.log and not any(exists(pid) for pid in family)


def test_the_server_does_not_outlive_a_killed_sidecar(start: Starter) -> None:
    sidecar = start()
    sidecar.ready()
    (server,) = [p.pid for p in replica.processes() if p.parent == sidecar.process.pid]
    sidecar.signal(signal.SIGKILL)
    sidecar.ends()
    until(lambda: not exists(server))


def test_a_dead_engine_behind_a_living_api_is_found(start: Starter) -> None:
    sidecar = start()
    sidecar.ready()
    sidecar.server(health=500, completion=500)
    assert sidecar.ends() == 1
    last = sidecar.log.splitlines()[-1]
    assert "engine is dead" in last and "HTTP 500" in last and not sidecar.host_file.exists()


def test_health_that_fails_while_tokens_come_kills_nothing(start: Starter) -> None:
    sidecar = start()
    sidecar.ready()
    sidecar.server(health=500)
    before = sidecar.read()["beat"]
    until(lambda: sidecar.read()["beat"] > before + 15)
    assert sidecar.process.poll() is None


def test_a_server_that_hangs_delays_no_heartbeat(start: Starter) -> None:
    sidecar = start()
    before = sidecar.ready()["beat"]
    sidecar.server(health="hang")
    until(lambda: sidecar.read()["beat"] > before + 15, within_s=4)


def program(folder: Path, name: str, script: str) -> None:
    """A program that the sidecar finds in its PATH."""
    folder.mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_gpus_are_those_that_nvidia_smi_shows(start: Starter) -> None:
    program(start.path, "nvidia-smi", 'echo "0, NVIDIA H100 80GB HBM3, 97, 73728, 81559"')
    sidecar = start()
    sidecar.ready()
    until(lambda: len(sidecar.read()["gpus"]) == 1)
    (read,) = hosts.read(sidecar.folder / "hosts")
    assert read.gpus == (hosts.GpuSample(0, "NVIDIA H100 80GB HBM3", 97, 72, 79.65),)


def test_an_nvidia_smi_that_hangs_delays_no_heartbeat(start: Starter) -> None:
    program(start.path, "nvidia-smi", "exec sleep 60")
    sidecar = start()
    before = sidecar.ready()["beat"]
    until(lambda: sidecar.read()["beat"] > before + 10, within_s=3)
    assert sidecar.read()["gpus"] == []


def test_a_slow_server_that_works_is_never_killed(start: Starter) -> None:
    sidecar = start("--probe-timeout-s", "0.5")
    sidecar.ready()
    sidecar.server(health=500, completion="spin")
    until(lambda: "keeping it" in sidecar.log, lambda: sidecar.log, within_s=20)
    assert sidecar.process.poll() is None and sidecar.host_file.exists()


def test_a_server_that_hangs_without_any_work_is_dead(start: Starter) -> None:
    sidecar = start("--probe-timeout-s", "1")
    sidecar.ready()
    sidecar.server(health=500, completion="hang")
    assert sidecar.ends(20) == 1
    assert "no answer within 1 s" in sidecar.log


def test_a_host_folder_that_fails_for_a_while_ends_nothing(start: Starter) -> None:
    folder, away = start.folder / "hosts", start.folder / "away"
    folder.write_text("a file where the folder should be")
    sidecar = start()
    until(lambda: "cannot write the host file" in sidecar.log)
    time.sleep(0.5)
    assert sidecar.log.count("cannot write the host file") == 1 and sidecar.process.poll() is None
    folder.rename(away)
    folder.mkdir()
    until(lambda: sidecar.host_file.exists())
    assert "is written again" in sidecar.log and sidecar.read()["beat"] > 4
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends() == 0


def test_an_older_run_of_the_same_job_leaves_when_a_newer_one_starts(start: Starter) -> None:
    older = start()
    older.ready()
    newer = start(restart=1)
    assert older.ends() == 1
    until(lambda: newer.host_file.exists() and newer.read()["restart"] == 1, lambda: newer.log)
    assert "was started again elsewhere" in newer.log
    newer.signal(signal.SIGTERM)
    assert newer.ends() == 0
    assert list((newer.folder / "hosts").iterdir()) == []


def test_an_app_is_ready_when_its_port_accepts(start: Starter) -> None:
    sidecar = start("--probe", "port", health=404, completion=404, busy=None)
    assert sidecar.ready()["stage"] == "ready"
    sidecar.signal(signal.SIGTERM)
    assert sidecar.ends() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--port-min", "5"], "go together"),
        (["--key-env", "A B"], "no name of a variable"),
        (["--heartbeat-s", "0"], "must be positive"),
        (["--bogus"], "unrecognized"),
    ],
)
def test_wrong_use_is_exit_2(start: Starter, change: list[str], message: str) -> None:
    sidecar = start(*change)
    assert sidecar.ends() == 2
    assert message in sidecar.log


def test_outside_a_job_or_without_a_key_it_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("\n")
    options = parsed("d", tmp_path / "key")
    with pytest.raises(replica.Ended, match="is empty"):
        replica.Sidecar(options, {"SLURM_JOB_ID": "1"}, None)  # type: ignore[arg-type]
    (tmp_path / "key").write_text("k")
    with pytest.raises(replica.Ended, match="inside a job"):
        replica.Sidecar(options, {}, None)  # type: ignore[arg-type]


def test_ports_come_from_the_range_and_a_used_one_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(replica.Ended, match=f"no free port from {port} to {port}"):
            replica.choose_place("127.0.0.1", ["port"], port, port, set())
    assert replica.choose_place("127.0.0.1", ["port"], port, port, set()).port == port


def test_the_address_is_that_of_the_interface_or_as_given() -> None:
    assert replica.choose_address("lo") == "127.0.0.1"
    assert replica.choose_address("127.0.0.1") == "127.0.0.1"
    assert replica.can_bind(replica.choose_address("auto"))
    with pytest.raises(replica.Ended, match="interfaces: "):
        replica.choose_address("nonesuch0")


def test_busy_is_the_sum_over_names_and_labels_and_unknown_without_any() -> None:
    text = '# HELP a x\na{model="m y",e="0"} 2.0\na{e="1"} 1\nb 4 1700000000\nab 9\nc NaN\n'
    assert replica.busy_in(text, ["a", "b"]) == 7
    assert replica.busy_in(text, ["c", "d"]) is None


def test_nvidia_smi_rows_that_say_nothing_count_as_zero() -> None:
    assert replica.parse_gpus("1, NVIDIA H100, [N/A], 1024, 2048\nNo devices were found\n") == [
        {"index": 1, "name": "NVIDIA H100", "utilisation_percent": 0.0, "memory_used_gb": 1.0, "memory_total_gb": 2.0}
    ]


def test_the_sidecar_needs_nothing_newer_than_python_3_6() -> None:
    vermin = Path(sys.executable).with_name("vermin")
    if not vermin.exists():
        assert os.environ.get("ENGINE_REQUIRE_REAL") != "1", "vermin is not installed"
        pytest.skip("vermin is not installed")
    done = subprocess.run([vermin, "--no-tips", "-t=3.6-", "--violations", SIDECAR], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
