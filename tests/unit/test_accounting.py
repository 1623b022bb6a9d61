import csv
import io
import logging
import sqlite3
import time
from functools import partial

import pytest

from engine.errors import EngineError
from engine.gateway.keys import Key, Keys, Limits
from engine.gateway.records import accounting, recording
from engine.gateway.records.recording import Recorder
from engine.gateway.records.requestlog import Line, RequestLog

NOON = 1_780_000_000.0  # 2026-05-28T20:26:40Z


class Clock:
    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> float:
        return self.time


async def rows(recorder: Recorder, **more):
    return await recorder.ask(partial(accounting.usage, names={"k1": "demo"}, **more))


async def test_use_is_added_up_by_day_key_and_model(database_url):
    clock = Clock()
    recorder = Recorder(database_url, now=clock)
    for _ in range(3):
        recorder.record("k1", "sim", 200, 0.5, None, 10, 5)
        await recorder.flush()
    recorder.record("k1", "other", 200, 0.5, 0.1, 1, 1)
    recorder.record("k2", "sim", 429, 0.1)
    clock.time += 86400
    await recorder.flush()
    recorder.record("k1", "sim", 200, 0.5, None, 7, 0)
    found = await rows(recorder)
    told = [
        (r["day"], r["key"], r["model"], r["requests"], r["errors"], r["prompt_tokens"], r["total_tokens"])
        for r in found
    ]
    assert told == [
        ("2026-05-28", "demo", "other", 1, 0, 1, 2),
        ("2026-05-28", "demo", "sim", 3, 0, 30, 45),
        ("2026-05-28", "", "sim", 1, 1, 0, 0),
        ("2026-05-29", "demo", "sim", 1, 0, 7, 7),
    ]
    assert len(await rows(recorder, key_id="k2")) == 1
    assert [r["day"] for r in await rows(recorder, first="2026-05-29")] == ["2026-05-29"]
    assert len(await rows(recorder, last="2026-05-28")) == 3
    await recorder.stop()


async def test_another_process_adds_to_the_same_rows_and_knows_the_days_tokens(database_url):
    first, second = Recorder(database_url, now=Clock()), Recorder(database_url, now=Clock())
    first.record("k1", "sim", 200, 0.5, None, 10, 5)
    await first.flush()
    second.record("k1", "sim", 200, 0.5, None, 1, 1)
    assert second.tokens_today("k1") == 2
    await second.flush()
    assert second.tokens_today("k1") == 17
    assert [row["requests"] for row in await rows(second)] == [2]
    await first.stop()
    await second.stop()


async def test_tokens_of_today_begin_anew_with_the_day(database_url):
    clock = Clock()
    recorder = Recorder(database_url, now=clock)
    recorder.record("k1", "sim", 200, 0.5, None, 10, 5)
    await recorder.flush()
    assert recorder.tokens_today("k1") == 15
    clock.time += 86400
    await recorder.flush()
    assert recorder.tokens_today("k1") == 0
    await recorder.stop()


async def test_keys_work_on_either_database(database_url):
    keys = Keys(database_url)
    key, secret = keys.create("demo", "user", Limits(("sim",), 5))
    other = Keys(database_url)
    assert await other.verify(secret.encode()) == key
    keys.refresh()
    keys.revoke(key.id)
    other.refresh()
    assert await other.verify(secret.encode()) is None
    keys.close()
    other.close()


async def test_what_a_down_database_missed_is_written_when_it_is_back(tmp_path, caplog):
    path = tmp_path / "engine.db"
    recorder = Recorder(f"sqlite:///{path}", now=Clock())
    await recorder.flush()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE usage RENAME TO away")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            recorder.record("k1", "sim", 200, 0.5, None, 10, 5)
            await recorder.flush()
    assert len(caplog.records) == 1 and "kept in memory" in caplog.text
    with pytest.raises(EngineError):
        await rows(recorder)
    assert recorder.tokens_today("k1") == 45
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE away RENAME TO usage")
    connection.close()
    assert [(r["requests"], r["total_tokens"]) for r in await rows(recorder)] == [(3, 45)]
    await recorder.stop()


async def test_a_database_that_never_answers_bounds_what_is_kept(monkeypatch, caplog):
    monkeypatch.setattr(recording, "CELLS_MOST", 10)
    clock = Clock()
    recorder = Recorder("postgresql://engine@127.0.0.1:1/none", now=clock)
    for _ in range(20):
        recorder.record("k1", "sim", 200, 0.5, None, 10, 5)
        await recorder.flush()
        clock.time += 60
    assert len(recorder._cells) <= 10 and sum(cell.requests for cell in recorder._cells.values()) == 20
    for number in range(30):
        recorder.record(f"k{number}", "sim", 200, 0.5)
    await recorder.flush()
    assert len(recorder._cells) == 10 and "are lost" in caplog.text
    await recorder.stop()


async def test_recording_waits_for_nothing(tmp_path):
    recorder = Recorder(f"sqlite:///{tmp_path / 'engine.db'}")
    begun = time.perf_counter()
    for _ in range(10_000):
        recorder.record("k1", "sim", 200, 0.5, 0.1, 10, 5)
    assert time.perf_counter() - begun < 1
    await recorder.stop()


async def test_at_most_a_second_is_lost_in_a_crash(tmp_path):
    url = f"sqlite:///{tmp_path / 'engine.db'}"
    recorder = Recorder(url)
    recorder.start()
    recorder.record("k1", "sim", 200, 0.5, None, 10, 5)
    other, begun = Recorder(url), time.monotonic()
    while not await rows(other):
        assert time.monotonic() - begun < 1
    await recorder.stop()
    await other.stop()


async def test_what_workflows_asked_is_counted_alike(tmp_path):
    recorder = Recorder(f"sqlite:///{tmp_path / 'engine.db'}", now=Clock())
    recorder.answered(Key("k1", "demo", "user"), "sim", 200, {"prompt_tokens": 4, "completion_tokens": 2}, 0.5)
    recorder.answered(Key("k1", "demo", "user"), "sim", 502, None, 0.5)
    assert [(r["requests"], r["errors"], r["total_tokens"]) for r in await rows(recorder)] == [(2, 1, 6)]
    await recorder.stop()


def test_csv_is_safe_in_a_spreadsheet():
    row = dict.fromkeys(accounting.COLUMNS, 0) | {"day": "2026-05-28", "key": "=1+1", "model": 'a "b", c'}
    head, line = list(csv.reader(io.StringIO(accounting.as_csv([row]))))
    assert head == list(accounting.COLUMNS) and line[2] == "'=1+1" and line[3] == 'a "b", c'


def line(number: int) -> Line:
    return Line("2026-01-01T00:00:00.000Z", f"r{number}", "k1", "sim", "/v1/chat/completions", 200, 0.25)


async def test_the_request_log_has_a_line_each_and_no_prompt(tmp_path):
    recorder = Recorder(
        f"sqlite:///{tmp_path / 'engine.db'}", RequestLog(tmp_path / "logs" / "requests.jsonl"), now=Clock()
    )
    recorder.line(line(1))
    recorder.line(line(2))
    assert recorder.moment() == "2026-05-28T20:26:40.000Z"
    await recorder.stop()
    path = tmp_path / "logs" / "requests.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert text.count("\n") == 2 and '"id":"r1"' in text and "prompt" not in text


def test_the_request_log_is_rotated(tmp_path):
    log = RequestLog(tmp_path / "requests.jsonl", largest=10, keep=2)
    for number in range(5):
        log.write(b"line number %d\n" % number)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "requests.jsonl",
        "requests.jsonl.1.gz",
        "requests.jsonl.2.gz",
    ]
