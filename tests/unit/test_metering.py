import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.body import fields_of
from engine.gateway.records.metering import LONGEST_PARSED, Events, Whole, asking_for_usage, usage_of

CHAT = "/v1/chat/completions"
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def asked(body: str, path: str = CHAT):
    raw = body.encode()
    return asking_for_usage(raw, fields_of(raw), path)


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ('{"model": "m", "stream": true}', {"include_usage": True}),
        ('{"model": "m", "stream": true} \n', {"include_usage": True}),
        ('{"model": "m", "stream": true, "stream_options": null}', {"include_usage": True}),
        ('{"stream_options": {"include_usage": false, "x": 1}, "model": "m", "stream": true}',
         {"include_usage": True, "x": 1}),
    ],
)  # fmt: skip
def test_a_stream_that_does_not_ask_for_its_usage_is_made_to(body, options):
    made = json.loads(asked(body))
    assert made["stream_options"] == options and made["model"] == "m" and made["stream"] is True


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "m"}',
        '{"model": "m", "stream": false}',
        '{"model": "m", "stream": "yes"}',
        '{"model": "m", "stream": true, "stream_options": {"include_usage": true}}',
        '{"model": "m", "stream": true, "stream_options": 7}',
    ],
)
def test_other_bodies_stay_as_they_are(body):
    assert asked(body) is None


def test_paths_that_tell_their_usage_anyway_are_left_alone():
    assert asked('{"model": "m", "stream": true}', "/v1/responses") is None


def sse(*events: object) -> bytes:
    return b"".join(b"data: %b\n\n" % (e if isinstance(e, bytes) else json.dumps(e).encode()) for e in events)


def chunk(text: str, **more: object) -> dict:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **more}


WORDS = ["Grüß", ' "usage": {"prompt_tokens": 99} ', "Gott\n\ndata: {}", ""]
STREAM = [
    *(chunk(word) for word in WORDS),
    {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": None},
    {"id": "c", "choices": [], "usage": USAGE},
    b"[DONE]",
]


@given(st.lists(st.integers(1, 60)))
def test_however_a_stream_is_cut_only_our_usage_is_taken_out_and_read(cuts):
    whole, meter, out, begin = sse(*STREAM), Events(True), b"", 0
    for cut in cuts:
        out += meter.feed(whole[begin : begin + cut])
        begin += cut
    out += meter.feed(whole[begin:]) + meter.end()
    assert out == sse(*STREAM[:-2], b"[DONE]")
    assert meter.usage is not None and (meter.usage.prompt, meter.usage.completion) == (12, 3)
    assert meter.finish == "length"


@given(st.binary(max_size=300), st.integers(1, 300))
def test_what_is_no_event_passes_untouched(data, cut):
    meter = Events(True)
    assert meter.feed(data[:cut]) + meter.feed(data[cut:]) + meter.end() == data


def test_a_client_that_asked_sees_its_usage():
    meter = Events(False)
    assert meter.feed(sse(*STREAM)) == sse(*STREAM)
    assert meter.usage is not None and meter.usage.prompt == 12


def test_whole_events_are_not_held_back():
    meter = Events(True)
    assert meter.feed(sse(STREAM[0])) == sse(STREAM[0])
    assert meter.feed(b"data: {") == b"" and meter.feed(b'"a":1}\r\n\r\n') == b'data: {"a":1}\r\n\r\n'


def test_usage_beside_the_last_words_is_read_and_stays():
    last = chunk("bye", usage=USAGE)
    meter = Events(True)
    assert meter.feed(sse(last)) == sse(last) and meter.usage is not None and meter.usage.completion == 3


def test_the_usage_of_a_streamed_response_is_read():
    event = {"type": "response.completed", "response": {"usage": {"input_tokens": 5, "output_tokens": 6}}}
    meter = Events(False)
    meter.feed(b"event: response.completed\n" + sse(event))
    assert meter.usage is not None and (meter.usage.prompt, meter.usage.completion) == (5, 6)


def test_the_usage_of_a_whole_answer_is_read_in_pieces_too():
    said = '"usage": {"prompt_tokens": 9}, "finish_reason": "no"'
    choice = {"message": {"content": said}, "finish_reason": "tool_calls"}
    answer = json.dumps({"choices": [choice], "usage": USAGE}).encode()
    meter = Whole()
    assert meter.feed(answer[:20]) + meter.feed(answer[20:]) + meter.end() == answer
    assert meter.usage is not None and meter.usage.prompt == 12 and meter.finish == "tool_calls"


def test_of_a_large_answer_the_end_is_enough():
    answer = json.dumps({"data": ["x" * LONGEST_PARSED], "usage": {"prompt_tokens": 7, "details": {"a": 1}}}).encode()
    meter = Whole()
    for begin in range(0, len(answer), 65536):
        meter.feed(answer[begin : begin + 65536])
    assert meter.usage is not None and meter.usage.prompt == 7 and sum(map(len, meter._parts)) < 5000


@pytest.mark.parametrize(
    "answer", [b"", b"not JSON", b'{"usage": null}', b'{"usage": 3}', b'{"usage": {"prompt_tokens": "x"}}']
)
def test_an_answer_without_usage_has_none(answer):
    meter = Whole()
    meter.feed(answer)
    assert meter.usage is None and meter.finish == ""


def test_usage_as_it_was_decoded():
    assert usage_of(USAGE).prompt == 12 and usage_of(None) is None and usage_of({"prompt_tokens": "many"}) is None
