"""The values of the OpenAI Batch API: files, batches, the lines of their input. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.errors import ConfigurationError

ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
ENDED = ("completed", "failed", "expired", "cancelled")
ITEMS_MOST = 100_000
ERRORS_MOST = 20
DAY_S = 86_400


@dataclass(frozen=True)
class File:
    """An uploaded or written file; `owner` is the id of a key, times are Unix seconds."""

    id: str
    owner: str
    filename: str
    bytes: int
    created_at: int
    purpose: str = "batch"

    def as_json(self, keep_s: int) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.created_at + keep_s,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


@dataclass(frozen=True)
class Batch:
    """One batch; statuses are OpenAI's."""

    id: str
    owner: str
    endpoint: str
    input_file_id: str
    created_at: int
    window_s: int = DAY_S
    status: str = "validating"
    metadata: dict[str, str] | None = None
    errors: tuple[dict[str, Any], ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    cancelling_at: int | None = None
    ended_at: int | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def expires_at(self) -> int:
        return self.created_at + self.window_s

    def as_json(self) -> dict[str, Any]:
        ended = {f"{status}_at": self.ended_at if self.status == status else None for status in ENDED}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": list(self.errors)} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": f"{self.window_s // 3600}h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "in_progress_at": self.in_progress_at,
            "expires_at": self.expires_at,
            "finalizing_at": self.finalizing_at,
            "cancelling_at": self.cancelling_at,
            **ended,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


@dataclass(frozen=True)
class Item:
    """One line of a batch's input."""

    custom_id: str
    body: dict[str, Any]


class InvalidInput(ConfigurationError):
    """The input of a batch cannot be run; `errors` are OpenAI's, one a line."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        self.errors = errors
        super().__init__("; ".join(str(error["message"]) for error in errors[:3]))


def items(lines: Iterable[bytes], endpoint: str) -> list[Item]:
    """The input of a batch, read and checked; raises InvalidInput with the first ERRORS_MOST errors."""
    found: list[Item] = []
    errors: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_item(line, endpoint, seen))
        except (ValueError, RecursionError) as error:
            code = "invalid_json_line" if isinstance(error, json.JSONDecodeError) else "invalid_request"
            errors.append(_error(code, f"line {number}: {error}", number))
        if len(found) > ITEMS_MOST:
            errors.append(_error("too_many_tasks", f"a batch has at most {ITEMS_MOST} lines"))
        if len(errors) >= ERRORS_MOST or len(found) > ITEMS_MOST:
            break
    if not found and not errors:
        errors.append(_error("empty_file", "the input file has no line"))
    if errors:
        raise InvalidInput(errors)
    return found


def _item(line: bytes, endpoint: str, seen: set[str]) -> Item:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("a line must be an object with custom_id, method, url and body")
    custom_id, body = row.get("custom_id"), row.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        raise ValueError("`custom_id` must be a text")
    if custom_id in seen:
        raise ValueError(f"`custom_id` {custom_id!r} was there before")
    if row.get("method", "POST") != "POST" or row.get("url") != endpoint:
        raise ValueError(f"`method` must be POST and `url` {endpoint}, the batch's endpoint")
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise ValueError("`body` must be an object with `model`")
    if body.get("stream"):
        raise ValueError("a batch cannot stream")
    seen.add(custom_id)
    return Item(custom_id, body)


def _error(code: str, message: str, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "line": line, "message": message, "param": None}
