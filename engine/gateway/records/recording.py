"""Records what requests did without slowing them: numbers in memory, written down by a thread."""

import asyncio
import logging
import time
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from engine.gateway.keys import Key
from engine.gateway.records import accounting, database, traffic
from engine.gateway.records.cells import Cell, CellKey, Cells
from engine.gateway.records.metering import usage_of
from engine.gateway.records.requestlog import Line, RequestLog, encoded

FLUSH_S = 0.75
# The day's tokens are read anew this often, for another gateway may be ending its last requests.
TOKENS_S = 30.0
FORGET_S = 3600.0
# What is kept while the database is down; beyond, minutes are joined to hours, and then the oldest are lost.
CELLS_MOST = 20_000
LOG_MOST = 64 * 1024 * 1024

log = logging.getLogger("engine.recording")
T = TypeVar("T")


class Recorder:
    """Counts by minute, key and model. `record`, `bypassed` and `tokens_today` never block and never raise."""

    def __init__(
        self,
        url: str,
        request_log: RequestLog | None = None,
        logs_prompts: bool = False,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` is in seconds since 1970. The database is first spoken to by `flush`."""
        self._url, self._log, self._now = url, request_log, now
        self.logs, self.logs_prompts = request_log is not None, logs_prompts
        self._engine: sa.Engine | None = None
        self._cells: Cells = {}
        self._lines = bytearray()
        self._second, self._second_text = 0, ""
        self._totals: dict[str, Cell] = {}
        self._minute = int(now()) // 60
        self._tokens: dict[str, int] = {}
        self._day = accounting.day_of(self._minute)
        self._tokens_read = self._forgot = 0.0
        self._thread = ThreadPoolExecutor(1, "recording")
        self._flushing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._failing = False

    def record(
        self,
        key_id: str,
        model: str,
        status: int,
        latency_s: float,
        ttft_s: float | None = None,
        prompt: int = 0,
        completion: int = 0,
        finish: str = "",
        queued_s: float = 0.0,
    ) -> None:
        """One request that has ended. Only names of deployments may stand as `model`, or nothing."""
        self._cell(key_id, model).count(status, latency_s, ttft_s, prompt, completion, finish, queued_s)
        if prompt or completion:
            self._tokens[key_id] = self._tokens.get(key_id, 0) + prompt + completion

    def answered(self, key: Key, model: str, status: int, usage: dict[str, Any] | None, seconds: float) -> None:
        """`record` for those who hold the engine's usage as it came in JSON."""
        used = usage_of(usage)
        self.record(key.id, model, status, seconds, None, used.prompt if used else 0, used.completion if used else 0)

    def bypassed(self, key_id: str, model: str) -> None:
        """A workflow that fell back to the plain model."""
        self._cell(key_id, model).bypasses += 1

    def line(self, line: Line) -> None:
        """A line for the log, encoded here: a thread that did so would keep the interpreter from the loop."""
        if len(self._lines) < LOG_MOST:
            self._lines += encoded(line)
            self._lines += b"\n"

    def moment(self) -> str:
        """Now, ISO 8601 in UTC with milliseconds; costs less than a datetime."""
        now = self._now()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{int(now % 1 * 1000):03d}Z"

    def tokens_today(self, key_id: str) -> int:
        """Prompt and completion tokens of a key on this day in UTC."""
        return self._tokens.get(key_id, 0)

    def by_model(self) -> dict[str, Cell]:
        """Sums since the start, up to now, for /metrics."""
        sums = {name: _copy(cell) for name, cell in self._totals.items()}
        _sum_up(sums, self._cells)
        return sums

    def keep_only(self, models: Container[str]) -> None:
        """Forgets the sums of deployments that are gone."""
        self._totals = {name: cell for name, cell in self._totals.items() if name in models or not name}

    def start(self) -> None:
        """Begins to write in the background; needs a running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._flush_until_ended())

    async def stop(self) -> None:
        self._ended.set()
        if self._task is not None:
            await self._task
        await self.flush()
        self._thread.shutdown(wait=False)
        if self._engine is not None:
            self._engine.dispose()

    async def flush(self) -> None:
        """Writes what has gathered; what cannot be written is kept for the next time. Never raises."""
        async with self._flushing:
            self._turn_the_clock()
            cells, self._cells = self._cells, {}
            lines, self._lines = bytes(self._lines), bytearray()
            _sum_up(self._totals, cells)
            loop = asyncio.get_running_loop()
            written, tokens = await loop.run_in_executor(self._thread, self._write, cells, lines)
            if not written:
                self._keep(cells)
            if tokens is not None:
                _add_tokens(tokens, self._cells, self._day)
                self._tokens = tokens

    async def ask(self, question: Callable[[sa.Connection], T]) -> T:
        """Runs a query on all that has happened up to now; raises EngineError when the database fails."""
        await self.flush()

        def answer() -> T:
            with database.told("usage", self._url), self._connected().connect() as connection:
                return question(connection)

        return await asyncio.get_running_loop().run_in_executor(self._thread, answer)

    def _cell(self, key_id: str, model: str) -> Cell:
        where = (self._minute, key_id, model)
        cell = self._cells.get(where)
        if cell is None:
            cell = self._cells[where] = Cell()
        return cell

    def _turn_the_clock(self) -> None:
        self._minute = int(self._now()) // 60
        day = accounting.day_of(self._minute)
        if day != self._day:
            self._day, self._tokens, self._tokens_read = day, {}, 0.0

    async def _flush_until_ended(self) -> None:
        while not self._ended.is_set():
            await self.flush()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), FLUSH_S)

    def _write(self, cells: Cells, lines: bytes) -> tuple[bool, dict[str, int] | None]:
        """In the thread: whether the cells are written, and the day's tokens by key when it was time to read them."""
        self._write_log(lines)
        now = self._now()
        read = now - self._tokens_read >= TOKENS_S
        if not cells and not read:
            return True, None
        try:
            with self._connected().begin() as connection:
                accounting.write(connection, cells)
                traffic.write(connection, cells)
                if now - self._forgot >= FORGET_S:
                    traffic.forget(connection, datetime.fromtimestamp(now, UTC))
                    self._forgot = now
                tokens = accounting.tokens_of_day(connection, self._day) if read else None
        except Exception as error:  # whatever it was, requests go on and the numbers are kept
            self._tell(error)
            return False, None
        self._failing = False
        self._tokens_read = now if read else self._tokens_read
        return True, tokens

    def _tell(self, error: Exception) -> None:
        """Once for each time that the database goes away."""
        if not self._failing:
            shown = sa.make_url(self._url).render_as_string(hide_password=True)
            log.warning("usage is kept in memory, %s failed: %s", shown, (str(error) or repr(error)).splitlines()[0])
        self._failing = True

    def _keep(self, cells: Cells) -> None:
        for where, cell in cells.items():
            _put(self._cells, where, cell)
        if len(self._cells) > CELLS_MOST:
            minutes, self._cells = self._cells, {}
            for (minute, key_id, model), cell in minutes.items():
                _put(self._cells, (minute - minute % 60, key_id, model), cell)
        if len(self._cells) > CELLS_MOST:
            lost = sorted(self._cells)[: len(self._cells) - CELLS_MOST]
            log.error("%d records of usage are lost: the database is down for too long", len(lost))
            for where in lost:
                del self._cells[where]

    def _connected(self) -> sa.Engine:
        if self._engine is None:
            self._engine = database.connect(self._url, database.records)
        return self._engine

    def _write_log(self, lines: bytes) -> None:
        if self._log is None or not lines:
            return
        try:
            self._log.write(lines)
        except OSError as error:
            log.warning("%d lines of the request log are lost: %s", lines.count(b"\n"), error)


def _put(cells: Cells, where: CellKey, cell: Cell) -> None:
    if where in cells:
        cells[where].add(cell)
    else:
        cells[where] = cell


def _sum_up(sums: dict[str, Cell], cells: Cells) -> None:
    for (_, _, model), cell in cells.items():
        sums.setdefault(model, Cell()).add(cell)


def _copy(cell: Cell) -> Cell:
    copied = Cell()
    copied.add(cell)
    return copied


def _add_tokens(tokens: dict[str, int], cells: Cells, day: str) -> None:
    for (minute, key_id, _), cell in cells.items():
        if accounting.day_of(minute) == day:
            tokens[key_id] = tokens.get(key_id, 0) + cell.prompt_tokens + cell.completion_tokens
