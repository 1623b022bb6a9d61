"""One crawl at a time in a folder: a lock that the kernel lets go of when its process dies, however that happens."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import Conflict

LOOKING_S = 0.3


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder; raises Conflict, saying who has it, when another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, folder)
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _take(handle: int, folder: Path) -> None:
    # Somebody who only looks holds it for a moment, too.
    deadline = time.monotonic() + LOOKING_S
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                who = os.pread(handle, 20, 0).decode(errors="replace").strip() or "another process"
                told = f"process {who} crawls into {folder} already; `python -m rag pause {folder.name}` pauses it"
                raise Conflict(told) from error
        time.sleep(0.01)


def holder(folder: Path) -> int:
    """The process that crawls into a folder; 0 when none does."""
    try:
        handle = os.open(folder / "lock", os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return 0
    except BlockingIOError:
        return int(os.pread(handle, 20, 0) or b"-1")
    finally:
        os.close(handle)
