"""What a request used, read from the inference engine's own answer, streamed or not, while the bytes go through.

Engines tell a stream's usage only when asked. For a client that did not ask we do, and take the event out again.
"""

import re
from itertools import pairwise
from typing import Any

import msgspec

from engine.gateway.body import Fields

# Bodies that are larger, of embeddings for example, have their usage looked for in their end alone; of a stream it is
# the last event, so that of events that come together only the last ones are looked at.
LONGEST_PARSED = 1024 * 1024
TAIL = 4096
# An event that grows larger than this without an end passes unread.
LONGEST_EVENT = 1024 * 1024
ASKED_IN = frozenset({"/v1/chat/completions", "/v1/completions"})
ASK = b',"stream_options":{"include_usage":true}}'
NAMED = b'"usage"'
EVENT_ENDS = (b"\n\n", b"\r\n\r\n")

_event_end = re.compile(rb"\r?\n\r?\n")
# Strings escape their quotes, so these find no usage that a model wrote.
_told = re.compile(rb'"usage"\s*:\s*\{').search
_finish = re.compile(rb'"finish_reason"\s*:\s*"([a-z_]{1,30})"')
_usage = re.compile(rb'"usage"\s*:\s*(\{(?:[^{}]|\{[^{}]*\})*\})')


class Usage(msgspec.Struct):
    """OpenAI's usage: of completions and embeddings, or of responses."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def prompt(self) -> int:
        return self.prompt_tokens or self.input_tokens or 0

    @property
    def completion(self) -> int:
        return self.completion_tokens or self.output_tokens or 0


class _Inner(msgspec.Struct):
    usage: Usage | None = None


class _Answer(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] | None = None
    response: _Inner | None = None


_answer = msgspec.json.Decoder(_Answer).decode
_counted = msgspec.json.Decoder(Usage).decode


def asking_for_usage(body: bytes, fields: Fields, path: str) -> bytes | None:
    """The body of a stream that asks for its usage; None where the client asked itself or nothing need be asked."""
    if fields.stream is not True or path not in ASKED_IN:
        return None
    options = fields.stream_options
    if isinstance(options, dict) and options.get("include_usage") is True:
        return None
    if options is msgspec.UNSET:
        return body.rstrip()[:-1] + ASK
    if options is not None and not isinstance(options, dict):
        return None  # wrong, and for the replica to say so
    whole = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    whole["stream_options"] = msgspec.Raw(msgspec.json.encode({**(options or {}), "include_usage": True}))
    return msgspec.json.encode(whole)


class Whole:
    """Of an answer that is not streamed: keeps what has come, and reads it when it is asked for `usage`."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > LONGEST_PARSED:
            self._parts = [b"".join([*self._parts, data])[-TAIL:]]
        else:
            self._parts.append(data)
        return data

    def end(self) -> bytes:
        return b""

    @property
    def usage(self) -> Usage | None:
        data = self._data
        return _found(data) if self._size > LONGEST_PARSED else _read(data)

    @property
    def finish(self) -> str:
        """Why the model ended its answer, in the engine's word; empty where it tells none."""
        return _finished(self._data)

    @property
    def _data(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class Events:
    """Of a stream: `feed` gives what the client shall see, `usage` the last that was told, `finish` why it ended.

    With `ours` the event that carries only the usage is ours, and is taken out. Whole events go through as they come;
    only the beginning of one that is not whole yet is held back. The reason of the end comes with the usage or in what
    was passed just before it, and is looked for only then.
    """

    __slots__ = ("_held", "_ours", "_passed", "finish", "usage")

    def __init__(self, ours: bool) -> None:
        self._ours = ours
        self._held = self._passed = b""
        self.usage: Usage | None = None
        self.finish = ""

    def feed(self, data: bytes) -> bytes:
        if self._held:
            data = self._held + data
            self._held = b""
        if data.endswith(EVENT_ENDS) and _told_at(data) < 0:
            self._passed = data
            return data
        return self._read(data)

    def end(self) -> bytes:
        """What was held back of an event that never became whole."""
        held, self._held = self._held, b""
        return self._event(held) if held else b""

    def _read(self, data: bytes) -> bytes:
        whole = _end_of_events(data)
        self._held = data[whole:]
        data = data[:whole]
        if (at := _told_at(data)) >= 0:
            self.finish = _finished(self._passed[-TAIL:] + data) or self.finish
            first = _end_of_events(data[:at])
            begins = [first, *(end.end() for end in _event_end.finditer(data, first)), whole]
            data = data[:first] + b"".join(self._event(data[begin:end]) for begin, end in pairwise(begins))
        elif data:
            self._passed = data
        if len(self._held) > LONGEST_EVENT:
            data += self._held
            self._held = b""
        return data

    def _event(self, event: bytes) -> bytes:
        if _told_at(event) < 0:
            return event
        at = event.find(b"data:")
        try:
            answer = _answer(event[at + 5 :])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return event
        usage = answer.usage or (answer.response.usage if answer.response else None)
        if usage is None:
            return event
        self.usage = usage
        return b"" if self._ours and answer.choices == [] else event


Meter = Whole | Events


def usage_of(told: dict[str, Any] | None) -> Usage | None:
    """A usage that was decoded already; None for what is none."""
    try:
        return msgspec.convert(told, Usage | None)
    except msgspec.ValidationError:
        return None


def _told_at(data: bytes) -> int:
    """Where the last events begin to tell a usage, or -1; engines put `"usage": null` into those that have none."""
    at = data.find(NAMED, max(0, len(data) - TAIL))
    told = _told(data, at) if at >= 0 else None
    return told.start() if told else -1


def _end_of_events(data: bytes) -> int:
    """Where the last whole event ends, 0 where none does; looked for from behind, for data may be long."""
    end = data.rfind(b"\n\n") + 2
    end = end if end > 1 else 0
    crlf = data.rfind(b"\r\n\r\n", max(0, end - 3))
    return crlf + 4 if crlf >= 0 else end


def _finished(data: bytes) -> str:
    found = _finish.search(data)
    return found[1].decode() if found else ""


def _read(data: bytes) -> Usage | None:
    try:
        return _answer(data).usage
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _found(tail: bytes) -> Usage | None:
    found = _usage.findall(tail)
    try:
        return _counted(found[-1]) if found else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
