"""A build as a process: begun in the background, watched from elsewhere."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from engine.errors import IndexRejected
from engine.settings import ROOT, Settings
from rag.index.generations import Generations
from rag.retrieve.retriever import index_folder

BEGIN_TIMEOUT_S = 60.0


def log_of(settings: Settings) -> Path:
    """What the last build that was begun here said."""
    return index_folder(settings) / "build.log"


def builds(generations: Generations) -> bool:
    """Whether some process builds this index now."""
    path = generations.folder / "writer.lock"
    if not path.is_file():
        return False
    with path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def start(settings: Settings, crawls: Sequence[str] = (), shrink: bool = False) -> int:
    """Begins `python -m rag build` in the background and returns its process id; all crawls without `crawls`.

    Raises IndexRejected with its last line when it ends before it has begun to build; a build that is refused later
    says so in the log.
    """
    log = log_of(settings)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "rag", "build", *crawls, *(["--shrink"] if shrink else [])],
            env={**os.environ, **settings.environ()},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    # Whoever begins a build may live longer than it; the thread buries it.
    threading.Thread(target=process.wait, daemon=True, name="reaper of a build").start()
    generations = Generations(index_folder(settings))
    deadline = time.monotonic() + BEGIN_TIMEOUT_S
    while not builds(generations) and process.returncode != 0:
        if process.returncode is not None or time.monotonic() > deadline:
            raise IndexRejected(f"the build did not begin: {last_line(settings)}; log: {log}")
        time.sleep(0.05)
    return process.pid


def last_line(settings: Settings) -> str:
    """Empty when nothing was built here."""
    try:
        lines = log_of(settings).read_text(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return ""
    return lines[-1] if lines else "it said nothing"
