"""The request log: one JSON line a request, rotated by size. Written by a thread; without prompts unless asked for."""

import gzip
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

LARGEST = 64 * 1024 * 1024
KEEP = 8


class Line(msgspec.Struct):
    """One request that has ended. `at` is when it ended, seconds since 1970; `prompt` is the body, if it is logged."""

    at: float
    id: bytes
    key: str
    model: str
    path: str
    status: int
    latency_s: float
    ttft_s: float | None = None
    queued_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    stream: bool = False
    replica: bytes = b""
    error: str = ""
    prompt: bytes = b""


class RequestLog:
    """Appends to `path`; a file that is full becomes `path.1.gz`, older ones move on, KEEP of them stay. Blocks."""

    def __init__(self, path: Path, largest: int = LARGEST, keep: int = KEEP) -> None:
        self.path, self._largest, self._keep = path, largest, keep

    def write(self, lines: Sequence[Line]) -> None:
        """Raises OSError."""
        if not lines:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size >= self._largest:
            self._rotate()
        new = not self.path.exists()
        with self.path.open("ab") as file:
            if new:
                self.path.chmod(0o600)
            file.write(b"".join(map(_encoded, lines)))

    def _rotate(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._numbered(self._keep + 1).unlink(missing_ok=True)
        full = self.path.with_name(self.path.name + ".full")
        self.path.replace(full)
        with full.open("rb") as source, gzip.open(self._numbered(1), "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target)
        self._numbered(1).chmod(0o600)
        full.unlink()

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}.gz")


def _encoded(line: Line) -> bytes:
    """JSON of a line; a time for people, bytes as the text that they are."""
    row = {
        name: value for name, value in msgspec.structs.asdict(line).items() if value not in (None, b"", "", 0, False)
    }
    row |= {name: value.decode(errors="replace") for name, value in row.items() if isinstance(value, bytes)}
    row["at"] = datetime.fromtimestamp(line.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode(row) + b"\n"
