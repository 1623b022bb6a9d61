"""Questions to a replica as bytes, and its answers as JSON or as an error in its own words."""

import json
from typing import Any

import msgspec

from engine.errors import EndpointError
from engine.gateway.protocol import Refusal, Refused


def encode(value: Any) -> bytes:
    """JSON of anything that was JSON before, lone surrogates and endless numbers included."""
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, RecursionError):
        return json.dumps(value).encode()


def decoded_answer(status: int, answer: bytes, name: str) -> dict[str, Any]:
    try:
        decoded = json.loads(answer)
    except ValueError:
        decoded = None
    if status == 401:
        raise Refused(Refusal(502, f"a replica of {name!r} does not take our key", "api_error", "replica_key"))
    if status >= 400:
        raise Refused(told(status, decoded, answer, name))
    if not isinstance(decoded, dict):
        raise EndpointError(f"{name!r} answered {status} with what is no JSON object: {answer[:200]!r}")
    return decoded


def told(status: int, decoded: Any, answer: bytes, name: str) -> Refusal:
    """The replica's own error in our words' shape."""
    error = decoded.get("error", decoded) if isinstance(decoded, dict) else None
    said = error if isinstance(error, dict) else {"message": error}
    message = str(said.get("message") or said.get("detail") or answer[:300].decode(errors="replace") or "nothing")
    kind = "invalid_request_error" if status < 500 else "api_error"
    retry_after_s = 1 if status == 429 else None
    code, param = said.get("code"), said.get("param")
    return Refusal(
        status,
        f"{name!r} answered {status}: {message}",
        kind,
        str(code) if code is not None else None,
        str(param) if param is not None else None,
        retry_after_s,
    )
