"""Bodies of inference requests: read within a limit, and no more understood than routing needs."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Annotated, Any

import msgspec
from starlette.exceptions import HTTPException

from engine.errors import EngineError
from engine.gateway.protocol import Refusal, Refused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

LONGEST_BODY = 32 * 1024 * 1024


class Fields(msgspec.Struct):
    """The only fields of a body that the gateway looks at; the others are skipped, not understood."""

    # It is repeated in the error that says that it is unknown.
    model: Annotated[str, msgspec.Meta(max_length=256)]
    stream: Any = False
    stream_options: Any = msgspec.UNSET


class _Unnamed(Fields):
    """Of a body to a deployment's own address, which need not name the model."""

    model: str = ""


_decode = msgspec.json.Decoder(Fields).decode
_decode_unnamed = msgspec.json.Decoder(_Unnamed).decode


class ClientLeft(EngineError):
    pass


def fields_of(body: bytes, named: str | None = None) -> Fields:
    """What a body says of itself. Raises Refused for what is no object with a `model`; with `named`, the deployment by
    whose address it came, nothing is refused.
    """
    if named is not None:
        try:
            fields: Fields = _decode_unnamed(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            fields = Fields("")
        fields.model = named
        return fields
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        message = f"the body must be an object with `model`, the name of a model: {error}"
        raise Refused(Refusal(422, message, code="invalid_value", param="model")) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        words = f"the body is not JSON: {error}" if body else "the body is empty; it must be a JSON object"
        raise Refused(Refusal(400, words, code="invalid_json")) from error
    except RecursionError as error:
        raise Refused(Refusal(400, "the body is nested too deeply", code="invalid_json")) from error


def renamed(body: bytes, name: str) -> bytes:
    """The body with another `model`; the values of all other fields keep their bytes."""
    fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    fields["model"] = msgspec.Raw(msgspec.json.encode(name))
    return msgspec.json.encode(fields)


async def read_body(receive: Receive, length: int) -> bytes:
    """The whole body; raises Refused (413) when it is longer than LONGEST_BODY, ClientLeft when it stays a part."""
    parts: list[bytes] = []
    size = 0
    more = length <= LONGEST_BODY
    if not more:
        size = length
        await discard(receive, length)
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        part = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(part)
        if size <= LONGEST_BODY:
            parts.append(part)
        elif size > 2 * LONGEST_BODY:
            break
    if size > LONGEST_BODY:
        text = f"the body has more than {LONGEST_BODY // 2**20} MB, the most that is taken"
        raise Refused(Refusal(413, text, code="body_too_large"))
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def discard(receive: Receive, length: int) -> None:
    """Reads a body away, up to a bound, so that a client that is still sending gets to see its refusal."""
    size = 0
    while length and size < min(length, 2 * LONGEST_BODY):
        message = await receive()
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def limited(receive: Receive, most: int) -> Receive:
    """A `receive` for the control routes that raises HTTPException (413) once a body is longer than `most`."""
    size = 0

    async def receiving() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise HTTPException(413, f"the body has more than {most // 2**20} MB, the most that is taken here")
        return message

    return receiving
