"""The controller's lock: one holder, whatever dies, races or lies."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.fleet.lock import LEASE_S, ControllerLock, process_is_gone, start_time

CONTENDER = """
import sys, time
from pathlib import Path
from engine.errors import Conflict
from engine.fleet.lock import ControllerLock
home, until = Path(sys.argv[1]), float(sys.argv[2])
lock = ControllerLock(home)
time.sleep(max(0.0, until - time.time()))
try:
    lock.acquire()
except Conflict:
    print("refused", flush=True)
else:
    print("held", flush=True)
sys.stdin.read()
"""


def written(home: Path, **holder: object) -> Path:
    path = home / "controller.lock"
    path.write_text(json.dumps(holder))
    return path


def dead_process() -> tuple[int, str]:
    process = subprocess.Popen(["sleep", "60"])
    started = start_time(process.pid)
    process.kill()
    process.wait()
    return process.pid, started


def test_a_second_holder_is_told_who_holds_it(tmp_path: Path) -> None:
    written(tmp_path, host=socket.gethostname(), pid=os.getppid(), started=start_time(os.getppid()))
    with pytest.raises(Conflict, match=f"process {os.getppid()} on {socket.gethostname()}"):
        ControllerLock(tmp_path).acquire()


def test_a_released_lock_is_free(tmp_path: Path) -> None:
    lock = ControllerLock(tmp_path)
    lock.acquire()
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    pid, started = dead_process()
    written(tmp_path, host=socket.gethostname(), pid=pid, started=started)
    lock = ControllerLock(tmp_path)
    lock.acquire()
    lock.renew()


def test_a_process_that_is_dead_but_not_reaped_holds_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(["sleep", "60"])
    started = start_time(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    try:
        written(tmp_path, host=socket.gethostname(), pid=process.pid, started=started)
        assert process_is_gone(process.pid)
        ControllerLock(tmp_path).acquire()
    finally:
        process.wait()


def test_a_recycled_pid_does_not_hold_the_lock(tmp_path: Path) -> None:
    written(tmp_path, host=socket.gethostname(), pid=os.getppid(), started="1")
    ControllerLock(tmp_path).acquire()


def test_a_holder_on_another_host_is_left_alone_while_its_lease_lasts(tmp_path: Path) -> None:
    path = written(tmp_path, host="elsewhere", pid=1, started="1")
    with pytest.raises(Conflict, match="process 1 on elsewhere"):
        ControllerLock(tmp_path).acquire()
    past = time.time() - LEASE_S - 1
    os.utime(path, (past, past))
    ControllerLock(tmp_path).acquire()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"host": 5, "pid": "x"}'])
def test_a_lock_that_cannot_be_read_counts_until_its_lease_is_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "controller.lock"
    path.write_text(content)
    with pytest.raises(Conflict):
        ControllerLock(tmp_path).acquire()
    os.utime(path, (0, 0))
    ControllerLock(tmp_path).acquire()


def test_a_holder_whose_lock_was_taken_learns_it_and_does_not_release_the_others(tmp_path: Path) -> None:
    lock = ControllerLock(tmp_path)
    lock.acquire()
    path = written(tmp_path, host="elsewhere", pid=7, started="1")
    with pytest.raises(Conflict, match="taken over by process 7 on elsewhere"):
        lock.renew()
    lock.release()
    assert path.exists()


def test_a_taker_that_died_at_the_door_shuts_nobody_out(tmp_path: Path) -> None:
    pid, started = dead_process()
    written(tmp_path, host=socket.gethostname(), pid=pid, started=started)
    door = tmp_path / "controller.lock.takeover"
    door.touch()
    os.utime(door, (0, 0))
    ControllerLock(tmp_path).acquire(wait_s=5)


def test_of_many_that_find_a_stale_lock_one_holds_it(tmp_path: Path) -> None:
    pid, started = dead_process()
    written(tmp_path, host=socket.gethostname(), pid=pid, started=started)
    command = [sys.executable, "-c", CONTENDER, str(tmp_path), str(time.time() + 0.7)]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(6)
    ]
    said = [process.stdout.readline().strip() for process in crowd if process.stdout]
    for process in crowd:
        process.communicate()
    assert sorted(said) == ["held", *["refused"] * 5]


def test_a_lock_that_is_gone_for_a_moment_is_not_lost(tmp_path: Path) -> None:
    mine, home = ControllerLock(tmp_path / "home"), tmp_path / "home"
    home.mkdir()
    mine.acquire()
    (home / "controller.lock").unlink()
    mine.renew()
    home.rename(tmp_path / "away")
    with pytest.raises(OSError):
        mine.renew()
    (tmp_path / "away").rename(home)
    mine.renew()
    assert json.loads((home / "controller.lock").read_text())["pid"] == os.getpid()
