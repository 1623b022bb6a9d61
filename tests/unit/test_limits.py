from datetime import UTC, datetime

import pytest

from engine.errors import Overloaded
from engine.gateway.keys import Key, Limits
from engine.gateway.limits import KeyLimits, require_model
from engine.gateway.protocol import Refused


class Day:
    def __init__(self) -> None:
        self.time, self.tokens = 0.0, 0
        self.limits = KeyLimits(
            lambda key_id: self.tokens, lambda: self.time, lambda: datetime(2026, 1, 1, 23, 30, 10, tzinfo=UTC)
        )


def key(**limits) -> Key:
    return Key("k1", "demo", "user", limits=Limits(**limits))


def test_a_model_that_is_not_opened_is_refused_with_those_that_are():
    require_model(key(models=("sim",)), "sim")
    require_model(key(models=("simulator",)), "sim", "simulator")
    require_model(key(), "sim")
    with pytest.raises(Refused, match="opens a, b") as refused:
        require_model(key(models=("a", "b")), "sim")
    assert refused.value.refusal.status == 403 and refused.value.refusal.param == "model"


def test_parallel_requests_are_counted_until_they_leave():
    day, mine = Day(), key(parallel=2)
    day.limits.enter(mine)
    day.limits.enter(mine)
    with pytest.raises(Overloaded, match="2 requests at the same time") as refused:
        day.limits.enter(mine)
    assert refused.value.retry_after_s == 1
    day.limits.leave(mine)
    day.limits.enter(mine)


def test_requests_of_a_minute_are_counted_over_any_minute():
    day, mine = Day(), key(requests_per_minute=3)
    for time in (0, 20, 40):
        day.time = time
        day.limits.enter(mine)
        day.limits.leave(mine)
    day.time = 50
    with pytest.raises(Overloaded) as refused:
        day.limits.enter(mine)
    assert refused.value.retry_after_s == 10
    day.time = 60.1
    day.limits.enter(mine)
    with pytest.raises(Overloaded):
        day.limits.enter(mine)


def test_when_the_days_tokens_are_spent_the_next_day_is_named():
    day, mine = Day(), key(tokens_per_day=100)
    day.tokens = 99
    day.limits.enter(mine)
    day.tokens = 100
    with pytest.raises(Overloaded, match="100 tokens") as refused:
        day.limits.enter(mine)
    assert refused.value.retry_after_s == 29 * 60 + 50


def test_a_key_without_limits_leaves_no_trace():
    day = Day()
    free = Key("k2", "free", "user")
    day.limits.enter(free)
    assert not day.limits._running and not day.limits._recent
    day.limits.leave(free)
