"""What was measured of each request, in rows that grow without being copied."""

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]
ROW = np.dtype(
    [("intended", "<f8"), ("sent", "<f8"), ("first", "<f8"), ("end", "<f8"), ("lag", "<f8"),
     ("status", "<i4"), ("code", "<i4"), ("events", "<i4"),
     ("prompt_tokens", "<i4"), ("completion_tokens", "<i4"), ("cached_tokens", "<i4")]
)  # fmt: skip
PACK = struct.Struct("<dddddiiiiii")
CHUNK_ROWS = 4096


class Code(IntEnum):
    """How a request ended."""

    OK = 0
    CONNECTION = 1  # none, or it was lost before the first byte of the answer
    TIMEOUT = 2
    HTTP = 3  # a status other than 200
    BROKEN = 4  # an answer that ended early, held an error, or was not HTTP
    ABORTED = 5  # we gave up: the drain's deadline or abort()


@dataclass(frozen=True)
class Window:
    """The requests that ended within [begin, end), in the order of their end; columns of equal length.

    Times are seconds of time.perf_counter(); `first` is nan where no token was streamed. `lag` is how much later than
    intended the generator set about sending, `sent` when the request was written (nan: never). Tokens are the server's
    own count, -1 where it gave none; `cached_tokens` those of the prompt that its cache had.
    """

    begin: float
    end: float
    rows: Column

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, column: str) -> Column:
        """A column of ROW by its name."""
        found: Column = self.rows[column]
        return found

    @property
    def length_s(self) -> float:
        return self.end - self.begin

    @property
    def answered(self) -> "Window":
        """Those without an error."""
        return Window(self.begin, self.end, self.rows[self.rows["code"] == Code.OK])

    @property
    def errors(self) -> dict[str, int]:
        """How many of each error there were, by its name: {"timeout": 3}."""
        codes, counts = np.unique(self.rows["code"], return_counts=True)
        found = zip(codes, counts, strict=True)
        return {Code(code).name.lower(): int(count) for code, count in found if code != Code.OK}

    @property
    def latency_s(self) -> Column:
        """From the intended start, so that waiting is not hidden."""
        taken: Column = self.rows["end"] - self.rows["intended"]
        return taken

    @property
    def ttft_s(self) -> Column:
        """To the first token, from the intended start; of those that streamed one."""
        waited: Column = self.rows["first"] - self.rows["intended"]
        streamed: Column = waited[~np.isnan(waited)]
        return streamed

    @property
    def throughput_rps(self) -> float:
        """Requests a second that were answered without an error."""
        return len(self.answered) / self.length_s

    def tokens(self, column: str = "completion_tokens") -> int:
        """The sum of a column of tokens over the answered requests that told it; -1 when none did."""
        known = self.answered[column]
        known = known[known >= 0]
        return int(known.sum()) if len(known) else -1


class Samples:
    """All requests that have ended, in the order of their end."""

    def __init__(self) -> None:
        self._chunks: list[bytearray] = []
        self._ends: list[float] = []  # of the last row of each full chunk
        self._offset = CHUNK_ROWS * ROW.itemsize
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(
        self, intended: float, sent: float, first: float, end: float, lag: float, status: int, code: int, events: int,
        prompt_tokens: int, completion_tokens: int, cached_tokens: int,
    ) -> None:  # fmt: skip
        if self._offset == CHUNK_ROWS * ROW.itemsize:
            self._chunks.append(bytearray(self._offset))
            self._ends.append(end)
            self._offset = 0
        PACK.pack_into(
            self._chunks[-1], self._offset, intended, sent, first, end, lag, status, code, events,
            prompt_tokens, completion_tokens, cached_tokens,
        )  # fmt: skip
        self._offset += ROW.itemsize
        self._count += 1

    def between(self, begin: float, end: float) -> Window:
        """Those that ended within [begin, end). A copy: it does not change when more end."""
        rows = self.since(begin)
        return Window(begin, end, rows[: int(np.searchsorted(rows["end"], end))])

    def since(self, begin: float = -np.inf) -> Column:
        """The rows (dtype ROW) of those that ended at `begin` or later."""
        # The chunk before the first one that begins later may still end later.
        first = max(0, int(np.searchsorted(self._ends, begin)) - 1)
        parts = [self._rows(i) for i in range(first, len(self._chunks))]
        rows: Column = np.concatenate(parts) if parts else np.empty(0, ROW)
        return rows[int(np.searchsorted(rows["end"], begin)) :]

    def _rows(self, i: int) -> Column:
        last = i == len(self._chunks) - 1
        return np.frombuffer(self._chunks[i], ROW, self._offset // ROW.itemsize if last else CHUNK_ROWS)
