from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from engine.gateway.balancer import FAILURES_TO_OPEN, LONGEST_OPEN_S, NEVER, Breaker, pick


@dataclass(eq=False)
class Server:
    in_flight: int = 0
    capacity: float = 0.0
    expires_at: float = NEVER
    breaker: Breaker = field(default_factory=Breaker)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.failed(now)
    return breaker


def test_the_least_loaded_is_picked():
    busy, free = Server(in_flight=3), Server(in_flight=1)
    assert pick([busy, free], 0, 0) is free


def test_load_is_a_share_of_capacity_where_it_is_known():
    small, large = Server(in_flight=2, capacity=4), Server(in_flight=8, capacity=64)
    assert pick([small, large], 0, 0) is large


def test_ties_are_taken_in_turn():
    servers = [Server(), Server(), Server()]
    counts = Counter(servers.index(pick(servers, 0, turn)) for turn in range(300))
    assert set(counts.values()) == {100}


def test_a_replica_that_soon_expires_gets_half_as_many():
    leaving, staying = Server(expires_at=100), Server()
    for turn in range(90):
        pick([leaving, staying], 0, turn).in_flight += 1
    assert leaving.in_flight == 30


def test_none_is_left_when_all_were_tried():
    servers = [Server(), Server()]
    assert pick(servers, 0, 0, servers) is None
    assert pick([], 0, 0) is None


def test_an_open_breaker_is_passed_over_while_there_is_another():
    broken, busy = Server(breaker=opened()), Server(in_flight=50)
    assert pick([broken, busy], 0.1, 0) is busy
    assert pick([broken, busy], 0.1, 0, [busy]) is broken


def test_a_breaker_opens_after_a_few_failures_in_a_row():
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(0)
    breaker.succeeded()
    for _ in range(FAILURES_TO_OPEN - 1):
        breaker.failed(0)
    assert breaker.allows(0)
    breaker.failed(0)
    assert not breaker.allows(0)


def test_a_half_open_breaker_lets_one_probe_through():
    breaker = opened()
    now = breaker.open_until
    assert breaker.allows(now)
    breaker.begin()
    assert not breaker.allows(now)
    breaker.gave_no_verdict()
    assert breaker.allows(now)
    breaker.begin()
    breaker.succeeded()
    assert breaker.failures == 0 and breaker.allows(now)


def test_each_failed_probe_doubles_the_time_up_to_a_bound():
    breaker, now, spans = opened(), 0.0, []
    for _ in range(12):
        spans.append(breaker.open_until - now)
        now = breaker.open_until
        breaker.begin()
        breaker.failed(now)
    assert spans[:3] == [0.5, 1.0, 2.0]
    assert spans[-1] == LONGEST_OPEN_S


def test_late_failures_do_not_lengthen_an_open_breaker():
    breaker = opened()
    until = breaker.open_until
    for _ in range(60):
        breaker.failed(0.01)
    assert breaker.open_until == until


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.integers(0, 10**6), st.data())
def test_whatever_was_tried_is_never_picked_again(loads, turn, data):
    servers = [Server(in_flight=n) for n in loads]
    tried = data.draw(st.lists(st.sampled_from(servers)))
    chosen = pick(servers, 0, turn, tried)
    left = [server for server in servers if server not in tried]
    assert (chosen is None) == (not left)
    assert chosen is None or chosen.in_flight == min(server.in_flight for server in left)
