import asyncio
from collections.abc import Callable
from dataclasses import replace

import orjson
import pytest
import uvloop

from engine.bench.clock import Clock, Timer
from engine.bench.simulator import replies
from engine.bench.simulator.batching import Batch
from engine.bench.simulator.options import options
from engine.bench.simulator.prefixes import Prefixes, prompt_words
from engine.bench.simulator.replies import Refused
from engine.bench.simulator.slots import Slots
from engine.bench.simulator.turns import Schedule

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Turn:
    def __init__(self, arrived: float) -> None:
        self.arrived, self.began = arrived, -1.0

    def begin(self, at: float) -> None:
        self.began = at


def ask(path: str = CHAT, **body: object) -> replies.Ask:
    given = {"messages": [{"role": "user", "content": "one two three"}], **body}
    return replies.understand(path, orjson.dumps(given), ("sim", "id"), replies.answer(5), context=100)


def test_slots_are_given_in_the_order_of_arrival_at_the_time_they_were_free() -> None:
    slots = Slots(2)
    turns = [Turn(float(i)) for i in range(4)]
    for turn in turns:
        slots.enter(turn)
    assert [turn.began for turn in turns] == [0, 1, -1, -1]
    assert (slots.running, slots.waiting) == (2, 2)
    slots.leave(10.5)
    assert (turns[2].began, turns[3].began) == (10.5, -1)


def test_a_turn_that_leaves_the_queue_is_passed_over() -> None:
    slots = Slots(1)
    first, second, third = Turn(0.0), Turn(0.0), Turn(0.0)
    for turn in (first, second, third):
        slots.enter(turn)
    assert slots.forget(second) and not slots.forget(first)
    slots.leave(1.0)
    assert (second.began, third.began) == (-1, 1.0)
    slots.leave(2.0)
    assert slots.running == 0


def test_a_slot_is_never_given_before_the_turn_arrived() -> None:
    slots = Slots(1)
    slots.enter(Turn(0.0))
    late = Turn(5.0)
    slots.enter(late)
    slots.leave(4.0)
    assert late.began == 5.0


def test_tokens_come_at_their_times() -> None:
    paced = Schedule(ttft_s=0.2, itl_s=0.05)
    assert [paced.token_s(i, 3) for i in range(4)] == pytest.approx([0.2, 0.25, 0.3, 0.35])
    assert paced.total_s(3) == pytest.approx(0.35)
    even = Schedule(latency_s=0.3)
    assert [even.token_s(i, 3) for i in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.3])
    assert even.total_s(99) == 0.3


def test_usage_counts_the_words_of_every_form_of_prompt() -> None:
    assert ask().prompt_tokens == 3
    parts = [{"type": "text", "text": "a b"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    assert ask(messages=[{"role": "user", "content": parts}]).prompt_tokens == 2 + replies.IMAGE_TOKENS
    assert ask(COMPLETIONS, prompt=["a b", "c"]).prompt_tokens == 3
    assert ask(COMPLETIONS, prompt=[1, 2, 3, 4]).prompt_tokens == 4
    assert replies.usage(ask(n=2)) == {"prompt_tokens": 3, "completion_tokens": 10, "total_tokens": 13}


def test_tokenize_agrees_with_usage() -> None:
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three"}]
    counted = orjson.loads(replies.tokenize({"messages": messages}, 100))
    assert counted["count"] == len(counted["tokens"]) == ask(messages=messages).prompt_tokens == 5
    assert counted["max_model_len"] == 100


def test_max_tokens_shortens_the_answer() -> None:
    short = ask(max_tokens=2)
    assert (len(short.words), short.finish) == (2, "length")
    assert ask(max_completion_tokens=50).finish == "stop"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (CHAT, {"model": "other"}, 404),
        (CHAT, {"messages": []}, 400),
        (CHAT, {"max_tokens": -1}, 400),
        (CHAT, {"messages": [{"role": "user", "content": "w " * 100}]}, 400),
        (COMPLETIONS, {}, 400),
        ("/v1/embeddings", {"input": None}, 400),
    ],
)
def test_what_cannot_be_answered_is_refused_in_openais_shape(path: str, body: dict[str, object], status: int) -> None:
    with pytest.raises(Refused) as refused:
        ask(path, **body)
    assert refused.value.status == status
    assert set(orjson.loads(refused.value.body)["error"]) == {"message", "type", "param", "code"}


def test_a_body_that_is_not_json_is_refused() -> None:
    for body in (b"{", b"[1]", b"\xff"):
        with pytest.raises(Refused):
            replies.parse(body)


def test_a_streamed_answer_says_the_same_as_a_whole_one() -> None:
    for streamed in (ask(stream_options={"include_usage": True}), ask(COMPLETIONS, prompt='a "b" %d')):
        chunks = [orjson.loads(line[6:]) for line in b"".join(replies.events(streamed)).split(b"\n\n")[:-2]]
        text = "".join(
            choice["delta"].get("content", "") if "delta" in choice else choice["text"]
            for chunk in chunks
            for choice in chunk["choices"]
        )
        assert text == "".join(streamed.words)
        if streamed.include_usage:
            assert chunks[-1]["usage"] == replies.usage(streamed) and chunks[-1]["choices"] == []


def test_equal_texts_have_equal_unit_vectors() -> None:
    one, same, other = (replies.vector(text, 16) for text in ("a", "a", "b"))
    assert one == same != other
    assert sum(value * value for value in one) == pytest.approx(1)


@pytest.mark.parametrize("flags", ["--capacity 0", "--latency-ms -1", "--tokens 0", "--batching --latency-ms 0"])
def test_impossible_flags_are_wrong_use(flags: str) -> None:
    with pytest.raises(SystemExit) as left:
        options(["--port", "1", "--served-name", "sim", *flags.split()])
    assert left.value.code == 2


def test_timers_ring_in_order_and_a_cancelled_one_does_not() -> None:
    async def ring() -> list[str]:
        clock, rung = Clock(asyncio.get_running_loop()), []
        now = clock.now()
        clock.call_at(now + 0.02, lambda _: rung.append("later"))
        clock.call_at(now + 0.01, lambda _: rung.append("earlier"))
        clock.call_at(now + 0.015, lambda _: rung.append("never")).cancel()
        await asyncio.sleep(0.1)
        return rung

    assert uvloop.run(ring()) == ["earlier", "later"]
    assert asyncio.run(ring()) == ["earlier", "later"]


class Still:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at, self.due = 100.0, []

    def now(self) -> float:
        return self.at

    moment = now

    def call_at(self, when: float, callback: Callable[[float], None]) -> Timer:
        self.due.append(Timer(when, callback))
        return self.due[-1]

    def run_until(self, at: float) -> None:
        while coming := [timer for timer in self.due if timer.callback and timer.when <= at]:
            timer = min(coming)
            self.at, callback, timer.callback = timer.when, timer.callback, None
            callback(timer.when)
        self.at = at


def test_each_request_that_runs_slows_all_of_a_batch() -> None:
    # given: 10 s of work on a machine that each running request slows by a tenth, so that alone it takes 11 s
    clock, ended = Still(), []
    batch = Batch(clock, slowing=0.1)
    batch.running(1, batch.now())
    batch.call_at(batch.now() + 10, lambda at: ended.append(("first", clock.now(), batch.real(at))))
    # when: after half of it a second comes
    clock.run_until(105.5)
    batch.running(2, batch.now())
    batch.call_at(batch.now() + 10, lambda at: ended.append(("second", clock.now(), batch.real(at))))
    clock.run_until(111.4)
    assert ended == []
    # then: the other half of the first takes 6 s
    clock.run_until(111.6)
    assert ended == [("first", pytest.approx(111.5), pytest.approx(111.5))]
    # and when it is told that the first is gone, the second has half of its work left, of 5.5 s
    batch.running(1, 110.0)
    clock.run_until(120)
    assert ended[1:] == [("second", pytest.approx(117.0), pytest.approx(117.0))]


def test_a_cancelled_timer_of_a_batch_does_not_ring() -> None:
    clock, rung = Still(), []
    batch = Batch(clock, slowing=1.0)
    batch.call_at(101.0, rung.append).cancel()
    batch.call_at(102.0, rung.append)
    clock.run_until(103)
    assert rung == [102.0]


def test_slots_tell_how_many_run_and_since_when() -> None:
    told = []
    slots = Slots(2, lambda running, at: told.append((running, at)))
    for i in range(3):
        slots.enter(Turn(float(i)))
    for at in (5.0, 6.0):
        slots.leave(at)
    assert told == [(1, 0.0), (2, 1.0), (1, 6.0)]


def test_a_drift_stretches_what_begins_later() -> None:
    drifting = Schedule(latency_s=1.0, drift_per_s=0.01, drifts_from=100.0)
    assert [drifting.stretch(at) for at in (100.0, 110.0, 200.0)] == pytest.approx([1.0, 1.1, 2.0])


def test_a_prefix_cache_counts_whole_blocks_that_came_before() -> None:
    prefixes = Prefixes()
    words = [str(i) for i in range(40)]
    assert prefixes.cached(words) == 0
    assert prefixes.cached(words) == 32
    assert prefixes.cached([*words[:20], "other"]) == 16
    assert prefixes.cached(["other", *words]) == 0
    assert prefixes.cached(words[:32]) == 16, "one token at least is computed"


def test_a_prefix_cache_forgets_the_oldest() -> None:
    prefixes, first = Prefixes(most_blocks=2), ["a"] * 33
    prefixes.cached(first)
    prefixes.cached(["b"] * 32)
    assert prefixes.cached(first) == 0


def test_usage_tells_cached_tokens_only_where_there_is_a_cache() -> None:
    plain = ask()
    assert "prompt_tokens_details" not in replies.usage(plain)
    assert replies.usage(replace(plain, cached_tokens=16))["prompt_tokens_details"] == {"cached_tokens": 16}


def test_prompt_words_are_those_of_all_messages() -> None:
    chat = {"messages": [{"content": "be brief"}, {"content": [{"type": "image_url"}]}, {"content": "now"}]}
    assert prompt_words(chat) == ["be", "brief", "now"]
    assert prompt_words({"prompt": "a b"}) == ["a", "b"]
