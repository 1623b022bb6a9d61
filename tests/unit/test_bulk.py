"""Bulk on plain functions."""

import asyncio
import gc
import time
from contextlib import aclosing
from typing import Any

import pytest

from engine.errors import EndpointError, GatewayError
from engine.workflows.bulk import Result, bulk, in_order
from tests.unit.scripted import Body, Model, answer

SHARED = {"model": "m", "max_tokens": 5}


def items(number: int) -> list[Body]:
    return [{"prompt": str(at)} for at in range(number)]


def echo(body: Body) -> str:
    return str(body["messages"][0]["content"])


async def test_thousands_of_items_are_each_answered_once() -> None:
    model = Model(echo)
    results = [result async for result in bulk(items(5000), SHARED, model, lambda: 64)]
    assert sorted(result.index for result in results) == list(range(5000))
    texts = {r.index: r.response["choices"][0]["message"]["content"] for r in results if r.response}
    assert texts == {at: str(at) for at in range(5000)}
    assert model.most == 64 and model.asked[0]["max_tokens"] == 5


async def test_in_order_gives_them_by_index_however_they_end() -> None:
    async def slow_first(body: Body) -> dict[str, Any]:
        await asyncio.sleep(0.03 if body["messages"][0]["content"] == "0" else 0)
        return answer("x")

    ended = [r.index async for r in bulk(items(20), SHARED, slow_first, lambda: 4)]
    assert ended[0] != 0 and sorted(ended) == list(range(20))
    assert [r.index async for r in in_order(bulk(items(20), SHARED, slow_first, lambda: 4))] == list(range(20))


async def test_no_items_give_no_results() -> None:
    assert [result async for result in bulk([], SHARED, Model(echo), lambda: 4)] == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("a text", "an item must be an object"),
        (None, "null"),
        ({}, "needs messages"),
        ({"messages": []}, "needs messages"),
        ({"messages": "hello"}, "needs messages"),
        ({"prompt": 7}, "prompt must be a text"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "not both"),
    ],
)
async def test_a_bad_item_is_an_error_and_the_others_are_answered(bad: Any, message: str) -> None:
    requests = [{"prompt": "a"}, bad, {"prompt": "c"}]
    results = [result async for result in in_order(bulk(requests, SHARED, Model(echo), lambda: 2))]
    assert [result.status for result in results] == ["ok", "error", "ok"]
    assert results[1].error is not None and message in results[1].error["message"]
    assert set(results[1].error) == {"message", "type", "param", "code"}


async def test_an_item_that_fails_or_breaks_is_an_error_and_the_others_are_answered() -> None:
    def says(body: Body) -> str | Exception:
        errors = {"1": GatewayError("too long", 400, "context"), "2": EndpointError("gone"), "3": KeyError("odd")}
        return errors.get(echo(body), "fine")

    results = [result async for result in in_order(bulk(items(5), SHARED, Model(says), lambda: 5))]
    assert [result.status for result in results] == ["ok", "error", "error", "error", "ok"]
    assert results[1].as_json()["error"]["code"] == "context" and "gone" in str(results[2].error)


async def test_what_an_item_says_goes_before_what_all_share_and_nothing_is_streamed() -> None:
    model = Model(echo)
    requests = [{"prompt": "a", "max_tokens": 9, "stream": True}, {"messages": [{"role": "user", "content": "b"}]}]
    _ = [result async for result in bulk(requests, {**SHARED, "prompt": "c", "stream": True}, model, lambda: 1)]
    assert model.asked[0] == {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
    assert model.asked[1]["messages"][0]["content"] == "b" and "stream" not in model.asked[1]


async def test_more_replicas_are_used_as_soon_as_they_come() -> None:
    room, model = [2], Model(echo, delay_s=0.02)
    async for result in bulk(items(40), SHARED, model, lambda: room[0]):
        room[0] = 10 if result.index > 4 else 2
    assert model.most == 10


async def test_new_room_is_seen_while_everything_in_flight_takes_long() -> None:
    room, model = [1], Model(echo, delay_s=1.2)
    asyncio.get_running_loop().call_later(0.1, lambda: room.append(0) or room.__setitem__(0, 3))
    began = time.monotonic()
    assert len([result async for result in bulk(items(3), SHARED, model, lambda: room[0])]) == 3
    assert time.monotonic() - began < 2.2


async def test_twenty_times_the_capacity_takes_nearly_the_ideal_time() -> None:
    began = time.monotonic()
    assert len([result async for result in bulk(items(160), SHARED, Model(echo, delay_s=0.05), lambda: 8)]) == 160
    assert time.monotonic() - began < 1.0 * 1.25


async def test_cancelling_the_reader_leaves_no_task() -> None:
    model, before = Model(echo, delay_s=30), asyncio.all_tasks()

    async def read() -> list[Result]:
        return [result async for result in in_order(bulk(items(100), SHARED, model, lambda: 10))]

    reader = asyncio.create_task(read())
    await asyncio.sleep(0.02)
    assert model.in_flight == 10
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    gc.collect()
    await asyncio.sleep(0.02)
    assert model.in_flight == 0 and asyncio.all_tasks() == before and len(model.asked) == 10


async def test_closing_it_early_leaves_no_task() -> None:
    model, before = Model(echo, delay_s=0.01), asyncio.all_tasks()
    async with aclosing(bulk(items(100), SHARED, model, lambda: 10)) as results:
        async for _ in results:
            break
    assert model.in_flight == 0 and asyncio.all_tasks() == before
