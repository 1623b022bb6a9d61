from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import sqlalchemy as sa

from engine.errors import ConfigurationError
from engine.gateway.records import database, traffic
from engine.gateway.records.cells import BUCKETS_S, Histogram
from engine.gateway.records.recording import Recorder

BEGIN = datetime(2026, 5, 28, 20, 0, tzinfo=UTC)


async def ask(recorder: Recorder, step_s: int = 60, begin=BEGIN, end=BEGIN + timedelta(hours=1), **more):
    return await recorder.ask(partial(traffic.traffic, begin=begin, end=end, step_s=step_s, **more))


@pytest.fixture
async def recorder(database_url):
    """Three minutes of traffic from 20:26 on."""
    now = [BEGIN.timestamp() + 26 * 60 + 40]
    made = Recorder(database_url, now=lambda: now[0])

    async def next_minute():
        await made.flush()
        now[0] += 60
        await made.flush()

    for latency_s, finish in ((0.02, "stop"), (0.2, "length"), (0.2, "stop"), (2.0, "content_filter")):
        made.record("k1", "sim", 200, latency_s, latency_s / 2, 10, 5, finish)
    made.record("k2", "sim", 200, 0.2, None, 1, 1, queued_s=6.0)
    for status in (429, 404, 502, 499):
        made.record("k1", "sim", status, 0.1)
    await next_minute()
    made.record("k1", "other", 200, 0.2)
    made.bypassed("k1", "sim")
    await next_minute()
    made.record("k1", "sim", 200, 400.0)
    await made.flush()
    yield made
    await made.stop()


async def test_a_row_a_minute_tells_requests_errors_tokens_and_times(recorder):
    found = await ask(recorder)
    assert [(row["at"], row["model"], row["requests"]) for row in found] == [
        ("2026-05-28T20:26:00Z", "sim", 9),
        ("2026-05-28T20:27:00Z", "other", 1),
        ("2026-05-28T20:27:00Z", "sim", 0),
        ("2026-05-28T20:28:00Z", "sim", 1),
    ]
    first = found[0]
    assert first["queued_s"] == 6.0 and found[1]["queued_s"] == 0.0
    assert first["errors"] == {"overloaded": 1, "refused": 1, "failed": 1, "left": 1}
    assert (first["prompt_tokens"], first["completion_tokens"]) == (41, 21)
    assert first["latency_s"]["count"] == 5 and first["ttft_s"]["count"] == 4
    assert first["latency_s"]["mean"] == pytest.approx(0.524) and 0.1 < first["latency_s"]["p50"] <= 0.25
    assert first["finish_reasons"] == {"stop": 2, "length": 1, "tool_calls": 0, "other": 1}
    assert first["per_token_s"]["count"] == 4 and first["per_token_s"]["mean"] == pytest.approx(0.0756, abs=1e-3)
    assert found[2]["bypasses"] == 1 and found[2]["latency_s"]["p50"] is None
    assert found[3]["latency_s"]["p99"] == BUCKETS_S[-1]


async def test_steps_and_groups_add_up(recorder):
    assert [row["requests"] for row in await ask(recorder, 3600, by="none")] == [11]
    assert [(r["model"], r["requests"]) for r in await ask(recorder, 3600)] == [("other", 1), ("sim", 10)]
    assert [(r["key_id"], r["requests"]) for r in await ask(recorder, 3600, by="key")] == [("k1", 10), ("k2", 1)]
    assert len(await ask(recorder, 3600, by="both")) == 3
    assert [r["requests"] for r in await ask(recorder, 3600, by="none", model="sim", key_id="k2")] == [1]
    assert await ask(recorder, end=BEGIN + timedelta(minutes=26)) == []


async def test_thirty_days_are_kept(recorder):
    with recorder._connected().begin() as connection:
        traffic.forget(connection, BEGIN + timedelta(days=30))
        assert len(traffic.traffic(connection, BEGIN, BEGIN + timedelta(hours=1), 60)) == 4
        traffic.forget(connection, BEGIN + timedelta(days=30, minutes=28))
        assert len(traffic.traffic(connection, BEGIN, BEGIN + timedelta(hours=1), 60)) == 1


@pytest.mark.parametrize(
    ("begin", "hours", "step_s"), [(BEGIN, 1, 59), (BEGIN, 1, 90), (BEGIN, -1, 60), (BEGIN, 9999, 60)]
)
async def test_times_that_cannot_be_are_refused(tmp_path, begin, hours, step_s):
    recorder = Recorder(f"sqlite:///{tmp_path / 'engine.db'}")
    with pytest.raises(ConfigurationError):
        await ask(recorder, step_s, begin, begin + timedelta(hours=hours))
    await recorder.stop()


def test_a_histogram_tells_its_quantiles_within_a_bucket():
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    for seconds in (0.03, 0.03, 0.03, 0.7):
        histogram.observe(seconds)
    assert 0.025 < histogram.quantile(0.5) <= 0.05 and 0.5 < histogram.quantile(0.99) <= 1.0
    assert histogram.cumulative()[-1] == ("+Inf", 4.0)


async def test_a_database_that_is_older_than_a_number_goes_on(recorder, database_url):
    older = database.connect(database_url, database.records)
    with older.begin() as connection:
        for name in ("stop", "per_token_3", "per_token_sum_s", "queued_sum_s"):
            connection.execute(sa.text(f'ALTER TABLE traffic DROP COLUMN "{name}"'))
    older.dispose()
    newer = Recorder(database_url, now=lambda: (BEGIN + timedelta(minutes=26)).timestamp())
    newer.record("k1", "sim", 200, 0.2, 0.1, 10, 11, "stop")
    newer.record("k1", "sim", 200, 0.2, 0.1, 10, 11, "stop")
    [row] = await ask(newer, end=BEGIN + timedelta(minutes=27))
    assert row["requests"] == 11 and row["finish_reasons"]["stop"] == 2
    assert (await ask(newer))[1]["finish_reasons"]["stop"] == 0
    await newer.stop()
