"""The request log: one JSON line a request, rotated by size; without prompts unless asked for."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.fleet.store import tail

LARGEST = 64 * 1024 * 1024
KEEP = 8
READ = 16 * 1024 * 1024


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """One request that has ended at a time in UTC; `prompt` is the body, where it is logged, `finish` how it ended."""

    at: str
    id: str
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
    replica: str = ""
    error: str = ""
    prompt: str = ""
    finish: str = ""


encoded = msgspec.json.Encoder().encode


class RequestLog:
    """Appends to `path`; a file that is full becomes `path.1.gz`, older ones move on, KEEP of them stay. Blocks."""

    def __init__(self, path: Path, largest: int = LARGEST, keep: int = KEEP) -> None:
        self.path, self._largest, self._keep = path, largest, keep

    def write(self, lines: bytes) -> None:
        """Appends whole lines; raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and self.path.stat().st_size >= self._largest:
            self._rotate()
        new = not self.path.exists()
        with self.path.open("ab", buffering=0) as file:
            if new:
                self.path.chmod(0o600)
            file.write(lines)

    def latest(self, wanted: Callable[[Line], bool], limit: int) -> list[Line]:
        """The last requests that are wanted, the latest first, of the file in use and of its last READ bytes alone."""
        found: list[Line] = []
        for text in reversed(tail(self.path, READ, READ)):
            try:
                line = msgspec.json.decode(text, type=Line)
            except msgspec.DecodeError:
                continue
            if wanted(line):
                found.append(line)
                if len(found) == limit:
                    break
        return found

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
