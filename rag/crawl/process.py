"""A crawl as a process: run here, begun in the background, paused from elsewhere."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from engine.errors import CrawlError
from engine.settings import ROOT, Settings
from rag.crawl.fetch import Fetcher
from rag.crawl.frontier import Frontier
from rag.crawl.lock import holder, locked
from rag.crawl.options import CrawlOptions, options_of
from rag.crawl.report import CrawlStatus, last_crawl, status
from rag.crawl.run import Crawl
from rag.crawl.store import connect_to_read, folder_of

BEGIN_TIMEOUT_S = 60.0
PAUSE_TIMEOUT_S = 15.0


def crawl(folder: Path, options: CrawlOptions, progress: Callable[[CrawlStatus], None] | None = None) -> CrawlStatus:
    """Crawls into a folder until it is done or paused (SIGTERM, SIGINT, `pause`); an interrupted crawl goes on.

    `progress` hears about it every two seconds. Raises ConfigurationError, or Conflict when another process crawls
    there.
    """
    options = options.checked()
    with locked(folder):
        pause_file(folder).unlink(missing_ok=True)
        asyncio.run(_crawl(folder, options, progress))
    return status(folder)


async def _crawl(folder: Path, options: CrawlOptions, progress: Callable[[CrawlStatus], None] | None) -> None:
    told_at = time.monotonic()

    def tick() -> bool:
        nonlocal told_at
        if progress and time.monotonic() - told_at >= 2:
            told_at = time.monotonic()
            progress(status(folder))
        return not pause_file(folder).exists()

    frontier = Frontier(folder)
    try:
        async with Fetcher(options) as fetcher:
            one = Crawl(folder, options, frontier, fetcher)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, one.stop.set)
            await one.run(tick)
    finally:
        frontier.close()


def last_options(folder: Path) -> CrawlOptions:
    """What the last crawl of a folder was asked for; raises CrawlError when there is none."""
    with closing(connect_to_read(folder)) as database:
        return options_of(last_crawl(database, folder)["options"])


def start(settings: Settings, name: str, arguments: Sequence[str]) -> int:
    """Begins `python -m rag crawl` in the background, or goes on with a paused one; returns its process id.

    `arguments` are those of the command (`[]` goes on as before). What it says is in `crawl.log` in the folder. Raises
    CrawlError with the last line of it when the crawl does not begin.
    """
    folder = folder_of(settings, name)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "crawl.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "rag", "crawl", *arguments, "--name", name],
            env={**os.environ, **settings.environ()},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    # Whoever begins a crawl may live longer than it; the thread buries it.
    threading.Thread(target=process.wait, daemon=True).start()
    deadline = time.monotonic() + BEGIN_TIMEOUT_S
    while not (holder(folder) == process.pid and _is_there(folder)):
        if process.returncode == 0:
            break
        if process.returncode is not None or time.monotonic() > deadline:
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise CrawlError(f"the crawl of {name} did not begin: {last}; log: {log}")
        time.sleep(0.05)
    return process.pid


def _is_there(folder: Path) -> bool:
    try:
        return bool(status(folder))
    except CrawlError:
        return False


def pause(folder: Path, timeout_s: float = PAUSE_TIMEOUT_S) -> None:
    """Pauses the crawl of a folder and waits for that; raises CrawlError when none runs, or it does not heed."""
    if not holder(folder):
        raise CrawlError(f"no crawl runs in {folder}")
    pause_file(folder).touch()
    deadline = time.monotonic() + timeout_s
    while holder(folder):
        if time.monotonic() > deadline:
            raise CrawlError(f"process {holder(folder)} did not pause within {timeout_s:g} s; {folder / 'crawl.log'}")
        time.sleep(0.05)


def pause_file(folder: Path) -> Path:
    return folder / "pause"
