"""Files and batches on disk: what was asked, what is done, what was answered. Blocking.

    ROOT/files/ID.json   a File     ROOT/files/ID.jsonl   its bytes
    ROOT/batches/ID/     batch.json (a Batch), output.jsonl, errors.jsonl, lock, cancel (wanted, once it is there)

Results are appended line by line, so a batch goes on where it was after any stop. Whoever runs a batch holds its lock.
"""

import fcntl
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from engine.errors import ConfigurationError, Conflict, UnknownName
from engine.fleet.deployments import to_json, write_atomically
from engine.gateway.advanced.batches import DAY_S, ENDED, ENDPOINTS, Batch, File, Item, items

T = TypeVar("T")
_ID = re.compile(r"(?:file|batch)[-_][0-9a-f]{24}")


class BatchStore:
    """Files and batches under one folder. A key sees its own; for `owner` None, which is an admin, all."""

    def __init__(self, root: Path, keep_days: int = 30) -> None:
        self.root, self.keep_s = root, keep_days * DAY_S
        self._files, self._batches = root / "files", root / "batches"

    def add_file(self, owner: str, filename: str, source: BinaryIO, purpose: str = "batch") -> File:
        self._files.mkdir(parents=True, exist_ok=True, mode=0o700)
        id = f"file-{secrets.token_hex(12)}"
        with self._content(id).open("wb") as to:
            shutil.copyfileobj(source, to, 1024 * 1024)
            size = to.tell()
        return self._save_file(File(id, owner, filename, size, int(time.time()), purpose))

    def files(self, owner: str | None) -> list[File]:
        """The newest first."""
        found = [_load(path, File) for path in self._files.glob("file-*.json")]
        return sorted((f for f in found if f and owner in (None, f.owner)), key=lambda f: (-f.created_at, f.id))

    def file(self, id: str, owner: str | None) -> File:
        found = _load(self._files / f"{id}.json", File) if _ID.fullmatch(id) else None
        if found is None or owner not in (None, found.owner):
            raise UnknownName("file", id, [])
        return found

    def content(self, id: str, owner: str | None) -> Path:
        path = self._content(self.file(id, owner).id)
        if not path.is_file():
            raise UnknownName("file", id, [])
        return path

    def delete_file(self, id: str, owner: str | None) -> None:
        """Raises Conflict for the input of a batch that is not done."""
        file = self.file(id, owner)
        if any(b.input_file_id == id and b.status not in ENDED for b in self.batches(None)):
            raise Conflict(f"file {id} is the input of a batch that still runs; cancel that first")
        self._content(file.id).unlink(missing_ok=True)
        (self._files / f"{file.id}.json").unlink(missing_ok=True)

    def create(
        self,
        owner: str,
        input_file_id: str,
        endpoint: str,
        window_s: int = DAY_S,
        metadata: dict[str, str] | None = None,
    ) -> Batch:
        if endpoint not in ENDPOINTS:
            raise ConfigurationError(f"endpoint is {endpoint!r}; it must be one of {', '.join(ENDPOINTS)}")
        self.file(input_file_id, owner)
        batch = Batch(
            f"batch_{secrets.token_hex(12)}", owner, endpoint, input_file_id, int(time.time()), window_s,
            metadata=metadata,
        )  # fmt: skip
        self.folder(batch).mkdir(parents=True, mode=0o700)
        self.save(batch)
        return batch

    def batches(self, owner: str | None) -> list[Batch]:
        """The newest first."""
        found = [_load(path, Batch) for path in self._batches.glob("batch_*/batch.json")]
        return sorted((b for b in found if b and owner in (None, b.owner)), key=lambda b: (-b.created_at, b.id))

    def batch(self, id: str, owner: str | None) -> Batch:
        found = _load(self._batches / id / "batch.json", Batch) if _ID.fullmatch(id) else None
        if found is None or owner not in (None, found.owner):
            raise UnknownName("batch", id, [])
        if found.status not in ENDED and self.is_cancelled(found):
            return replace(found, status="cancelling")
        return found

    def save(self, batch: Batch) -> None:
        write_atomically(self.folder(batch) / "batch.json", to_json(batch))

    def folder(self, batch: Batch) -> Path:
        return self._batches / batch.id

    def cancel(self, id: str, owner: str | None) -> Batch:
        """Asks whoever runs it to stop; one that has ended raises Conflict."""
        batch = self.batch(id, owner)
        if batch.status in ENDED:
            raise Conflict(f"batch {id} has ended: {batch.status}")
        (self.folder(batch) / "cancel").touch()
        return replace(batch, status="cancelling", cancelling_at=int(time.time()))

    def is_cancelled(self, batch: Batch) -> bool:
        return (self.folder(batch) / "cancel").exists()

    def lock(self, batch: Batch) -> BinaryIO | None:
        """The right to run a batch, until it is closed; None while another process has it."""
        file = (self.folder(batch) / "lock").open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return None
        return file

    def items(self, batch: Batch) -> list[Item]:
        """The input, read and checked; raises InvalidInput."""
        with self.content(batch.input_file_id, None).open("rb") as lines:
            return items(lines, batch.endpoint)

    def results(self, batch: Batch) -> "Results":
        return Results(self.folder(batch))

    def publish(self, batch: Batch, name: str) -> str | None:
        """Makes a file of results, which the owner can read; None where it would be empty."""
        path = self.folder(batch) / name
        if not path.exists() or not path.stat().st_size:
            return None
        with path.open("rb") as source:
            filename = f"{batch.id}_{name}"
            return self.add_file(batch.owner, filename, source, "batch_output").id

    def forget_old(self) -> None:
        """Removes files, and batches that have ended, once they are older than they are kept."""
        before = time.time() - self.keep_s
        for batch in self.batches(None):
            if batch.status in ENDED and batch.created_at < before:
                shutil.rmtree(self.folder(batch), ignore_errors=True)
        for file in self.files(None):
            if file.created_at < before:
                with suppress(Conflict, UnknownName):
                    self.delete_file(file.id, None)

    def _content(self, id: str) -> Path:
        return self._files / f"{id}.jsonl"

    def _save_file(self, file: File) -> File:
        write_atomically(self._files / f"{file.id}.json", to_json(file))
        return file


class Results:
    """The lines written so far: `done` are the custom ids in them; a line that a crash tore is cut off."""

    def __init__(self, folder: Path) -> None:
        self.completed = self.failed = 0
        self.done: set[str] = set()
        self._output = _whole_lines(folder / "output.jsonl")
        self._errors = _whole_lines(folder / "errors.jsonl")
        for file in (self._output, self._errors):
            for line in _lines(file):
                self.done.add(line["custom_id"])
                self._count(line)

    def write(self, line: dict[str, Any]) -> None:
        self._count(line)
        file = self._errors if line["error"] is not None or line["response"]["status_code"] >= 400 else self._output
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()

    def close(self) -> None:
        for file in (self._output, self._errors):
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def _count(self, line: dict[str, Any]) -> None:
        good = line["error"] is None and line["response"]["status_code"] < 400
        self.completed += good
        self.failed += not good


def _whole_lines(path: Path) -> BinaryIO:
    file = path.open("ab+")
    file.seek(0)
    whole = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        whole += len(line)
    file.truncate(whole)
    file.seek(0)
    return file


def _lines(file: BinaryIO) -> Iterator[dict[str, Any]]:
    for line in file:
        yield json.loads(line)


def _load(path: Path, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
