"""OpenAI's error shape, and the one mapping of our errors to it."""

import json
import math
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from engine import errors
from engine.fleet.deployments import Replica, Status
from engine.fleet.status import stage
from engine.tables import problem


@dataclass(frozen=True)
class Refusal:
    """An error as a client sees it."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    retry_after_s: int | None = None

    @property
    def payload(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    @property
    def body(self) -> bytes:
        # "replace": what a message quotes of a request may hold half a surrogate pair.
        return json.dumps(self.payload, ensure_ascii=False).encode(errors="replace")

    @property
    def headers(self) -> dict[str, str]:
        headers = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers


class Refused(errors.EngineError):
    """Carries its own Refusal."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__(refusal.message)

    @property
    def status(self) -> int:
        """The HTTP status, where workflows look for it."""
        return self.refusal.status


# First match wins, so a class stands before its parents.
KINDS: tuple[tuple[type[Exception], int, str, str], ...] = (
    (errors.UnknownName, 404, "invalid_request_error", "not_found"),
    (errors.ConfigurationError, 422, "invalid_request_error", "invalid_value"),
    (errors.Conflict, 409, "invalid_request_error", "conflict"),
    (errors.AccessDenied, 401, "authentication_error", "invalid_api_key"),
    (errors.Overloaded, 429, "rate_limit_error", "overloaded"),
    (errors.SubmitFailed, 502, "scheduler_error", "submit_failed"),
    (errors.SchedulerError, 503, "scheduler_error", "scheduler_unreachable"),
    (errors.NotReadyInTime, 504, "api_error", "not_ready_in_time"),
    (errors.ReplicaError, 502, "api_error", "replica_failed"),
    (errors.EndpointTimedOut, 504, "timeout_error", "replica_timed_out"),
    (errors.EndpointError, 502, "api_error", "replica_unreachable"),
    (errors.DatabaseError, 503, "server_error", "database_error"),
    (errors.NginxError, 500, "server_error", "nginx_error"),
    (errors.EngineError, 500, "server_error", "engine_error"),
)


def refusal(error: Exception) -> Refusal:
    """The answer to an error; what is not an EngineError tells nothing of its insides."""
    if isinstance(error, Refused):
        return error.refusal
    if isinstance(error, errors.GatewayError):
        return Refusal(error.status, str(error), "api_error", error.code)
    for kind, status, type_, code in KINDS:
        if isinstance(error, kind):
            retry_after_s = error.retry_after_s if isinstance(error, errors.Overloaded) else None
            if status == 503:
                retry_after_s = 15
            param = "model" if isinstance(error, errors.UnknownName) and error.kind == "model" else None
            return Refusal(status, str(error), type_, "model_not_found" if param else code, param, retry_after_s)
    return Refusal(500, "the engine failed at this request; its log says why", "server_error", "internal_error")


RETRY_AFTER_S = {"queued": 30, "loading": 5, "ready": 5, "draining": 30}
WORDS = {
    "queued": "queued",
    "loading": "loading",
    "ready": "up but not answering",
    "draining": "draining",
    "failed": "failed",
}


def starting(status: Status) -> Refusal:
    """503 of a deployment without a replica to send to: how far it is and why; Retry-After while it may still come."""
    name = status.deployment.name
    if status.gave_up:
        words = f"{name!r} failed: {status.gave_up}; `engine restart {name}` tries again"
        return Refusal(503, words, "api_error", "model_failed")
    if status.deployment.stopping:
        return Refusal(503, f"{name!r} is being stopped", "api_error", "model_stopping")
    if status.deployment.replicas == 0:
        return Refusal(
            503, f"{name!r} is scaled to no replicas; `engine scale {name} 1` starts one", "api_error", "model_stopped"
        )
    told = [_words(replica) for replica in status.replicas]
    words = "; ".join(told[:5]) or "its job is about to be submitted"
    wait_s = RETRY_AFTER_S.get(stage(status), 15)
    return Refusal(503, f"{name!r} is not ready: {words}", "api_error", "model_not_ready", retry_after_s=wait_s)


def _words(replica: Replica) -> str:
    because = f" ({replica.reason})" if replica.reason else ""
    return f"replica {replica.index} is {WORDS.get(replica.stage, replica.stage)}{because}"


def response(refused: Refusal) -> Response:
    return Response(refused.body, refused.status, refused.headers, "application/json")


WRONG: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_MEANINGS = {
    400: "the body cannot be read",
    401: "no valid key",
    403: "the key has not the right",
    404: "no such thing; the message lists what there is",
    405: "not with this method",
    409: "it exists already, or is held by something else",
    413: "the body is too large",
    422: "a value is wrong; `param` names it",
    429: "too many requests; see Retry-After",
    502: "no replica, or no scheduler, gave an answer",
    503: "not ready yet, or the database does not answer; see Retry-After",
    504: "no answer in time",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": {"application/json": {"schema": WRONG}}}
    for status, meaning in _MEANINGS.items()
}


def add_handlers(app: FastAPI) -> None:
    """Makes every error of the control routes one of OpenAI's shape."""

    async def known(_: Request, error: Exception) -> Response:
        return response(refusal(error))

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return response(validation(error))

    async def plain(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = response(http_refusal(error.status_code, request.method, request.url.path, str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer

    app.add_exception_handler(errors.EngineError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, known)


def validation(error: RequestValidationError) -> Refusal:
    """Names each field that is wrong; the first one is `param`."""
    wrong = error.errors()
    message = "; ".join(problem(e, skip=1) for e in wrong)
    param = ".".join(map(str, wrong[0]["loc"][1:])) or str(wrong[0]["loc"][0])
    return Refusal(422, message, code="invalid_value", param=param)


def http_refusal(status: int, method: str, path: str, detail: str) -> Refusal:
    if status == 404 and detail == "Not Found":
        return Refusal(404, f"there is no {method} {path}; /docs lists what there is", code="not_found")
    if status == 405:
        return Refusal(405, f"{path} takes no {method}; /docs lists what it takes", code="method_not_allowed")
    return Refusal(status, detail, code="http_error")
