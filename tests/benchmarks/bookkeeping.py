"""What keys, admission and accounting cost per request: the same calls as the hot path makes, timed alone."""

import json
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

from engine.gateway.admission import Admission
from engine.gateway.body import Message, fields_of
from engine.gateway.exchange import Exchange
from engine.gateway.gates import Klass
from engine.gateway.keys import Key, Keys, Limits
from engine.gateway.limits import KeyLimits
from engine.gateway.metrics import Counts
from engine.gateway.records.ledger import Ledger
from engine.gateway.records.metering import Events, Whole, asking_for_usage
from engine.gateway.records.recording import Recorder
from engine.gateway.records.requestlog import RequestLog

CALLS = 20_000
PATH = "/v1/chat/completions"
USAGE = {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18}
ANSWER = json.dumps({"choices": [{"message": {"content": "How are you today? " * 10}}], "usage": USAGE}).encode()
EVENT = b'data: {"id":"c1","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"hello"}}]}\n\n'
STREAM = b'{"model":"sim","messages":[{"role":"user","content":"How are you today?"}],"stream":true}'
LIMITS = Limits(("sim",), 2**40, 2**40, 100)


def costs() -> dict[str, float]:
    """Microseconds a request, but `event` a server-sent event; the least of five runs."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'engine.db'}"
        keys = Keys(url)
        try:
            return {name: _microseconds(call) for name, call in _calls(keys, url, Path(folder)).items()}
        finally:
            keys.close()


def _calls(keys: Keys, url: str, folder: Path) -> dict[str, Callable[[], object]]:
    secret = keys.create("bench", "user")[1].encode()
    admission = Admission(lambda name: 64)
    limits, limited = KeyLimits(lambda key_id: 0), Key("k2", "limited", "user", limits=LIMITS)
    recorder = Recorder(url, RequestLog(folder / "requests.jsonl"))
    ledger = Ledger(Counts(), recorder)
    events = Events(True)

    def admitted() -> None:
        ticket = admission.enter("sim", "k1", Klass.INTERACTIVE, 64)
        assert ticket is not None
        admission.leave(ticket)

    def within_limits() -> None:
        limited.limits.allow("sim")
        limits.enter(limited)
        limits.leave(limited)

    def metered() -> None:
        whole = Whole()
        whole.feed(ANSWER)
        whole.end()

    ended = Exchange(_nothing, 0.0)
    ended.key, ended.name, ended.path, ended.status = keys.known(secret), "sim", PATH, 200
    ended.request_id, ended.label, ended.head_s, ended.latency_s = b"0123456789ab-1", b"sim/0", 0.02, 0.021
    ended.meter = Whole()
    ended.meter.feed(ANSWER)

    def counted() -> None:
        ledger.count(ended, "2026-01-01T00:00:00.000Z")

    return {
        "key": lambda: keys.known(secret),
        "limits": within_limits,
        "admission": admitted,
        "usage": metered,
        "stream": lambda: asking_for_usage(STREAM, fields_of(STREAM), PATH),
        "count": counted,
        "event": lambda: events.feed(EVENT),
    }


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def _microseconds(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=CALLS, repeat=5)) / CALLS * 1e6


def line(found: dict[str, float]) -> str:
    """All of it in one line; a key without limits skips those."""
    us = {name: f"{value:.1f}" for name, value in found.items()}
    total = sum(found[name] for name in ("key", "admission", "usage", "count"))
    parts = (
        f"key {us['key']}, admission {us['admission']}, usage kept {us['usage']}; counted and logged {us['count']}, "
        "in runs between requests"
    )
    more = f"a key's limits {us['limits']} more, a stream {us['stream']} more, {found['event']:.2f} a streamed event"
    return f"keys, admission and accounting: {total:.1f} us a request ({parts}); {more}"


if __name__ == "__main__":
    print(line(costs()))
