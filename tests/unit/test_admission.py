import asyncio
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Overloaded, UnknownName
from engine.gateway.admission import Admission
from engine.gateway.gates import Klass, Ticket


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Hall:
    """An Admission to one deployment with a limit and a clock that the test sets."""

    def __init__(self, limit: int, **more) -> None:
        self.limit, self.clock = limit, Clock()
        self.admission = Admission(lambda name: self.limit, now=self.clock, **more)

    def enter(self, key="a", klass=Klass.INTERACTIVE):
        return self.admission.enter("sim", key, klass, self.limit)

    def queue(self, key="a", klass=Klass.INTERACTIVE, wait_s=None) -> "asyncio.Task[Ticket]":
        return asyncio.ensure_future(self.admission.wait("sim", key, klass, wait_s))

    def leave(self, ticket: Ticket) -> None:
        self.admission.leave(ticket)

    @property
    def load(self):
        return self.admission.load("sim")


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_as_many_as_the_limit_enter_at_once_and_the_next_waits():
    hall = Hall(2)
    tickets = [hall.enter(), hall.enter()]
    assert all(tickets) and hall.enter() is None
    waiting = hall.queue()
    await turn()
    assert not waiting.done() and hall.load == (2, 1, 2)
    hall.leave(tickets[0])
    assert isinstance(await waiting, Ticket) and hall.load == (2, 0, 2)


async def test_leaving_twice_gives_back_one_slot():
    hall = Hall(2)
    ticket, _ = hall.enter(), hall.enter()
    hall.leave(ticket)
    hall.leave(ticket)
    assert hall.load == (1, 0, 2)


async def test_classes_go_in_their_order_keys_in_turn_and_one_keys_requests_as_they_came():
    hall = Hall(1)
    ticket = hall.enter()
    wanted = [("b", 2), ("a", 0), ("a", 0), ("a", 0), ("c", 0), ("c", 1), ("d", 0)]
    order: list[int] = []

    async def ask(number: int, key: str, klass: int) -> None:
        mine = await hall.admission.wait("sim", key, klass)
        order.append(number)
        hall.leave(mine)

    tasks = [asyncio.ensure_future(ask(i, key, klass)) for i, (key, klass) in enumerate(wanted)]
    await turn()
    hall.leave(ticket)
    await asyncio.gather(*tasks)
    assert order == [1, 4, 6, 2, 3, 5, 0]


async def test_nobody_passes_by_those_who_wait():
    hall = Hall(1)
    ticket = hall.enter("a", Klass.BULK)
    waiting = hall.queue("a", Klass.BULK)
    await turn()
    hall.leave(ticket)
    assert hall.enter("b") is None
    hall.leave(await waiting)
    assert hall.enter("b")


async def test_a_full_queue_refuses_with_the_time_that_its_drain_takes():
    hall = Hall(2, queue_most=4)
    first = hall.enter()
    hall.clock.time += 3
    hall.leave(first)
    tickets = [hall.enter(), hall.enter()]
    waiting = [hall.queue() for _ in range(4)]
    await turn()
    with pytest.raises(Overloaded, match="2 requests run and 4 wait") as refused:
        await hall.queue()
    assert refused.value.retry_after_s == 8  # five requests of 3 s, two at a time
    for ticket in tickets:
        hall.leave(ticket)
    for task in waiting:
        hall.leave(await task)


async def test_a_full_queue_of_one_key_makes_room_for_another_key():
    hall = Hall(1, queue_most=4)
    ticket = hall.enter()
    greedy = [hall.queue("greedy") for _ in range(4)]
    await turn()
    modest = hall.queue("modest")
    await turn()
    with pytest.raises(Overloaded):
        await greedy[3]
    assert hall.load == (1, 4, 1)
    hall.leave(ticket)
    hall.leave(await greedy[0])
    assert isinstance(await modest, Ticket)


async def test_a_full_queue_of_bulk_makes_room_for_a_person():
    hall = Hall(1, queue_most=2)
    ticket = hall.enter()
    bulk = [hall.queue("a", Klass.BULK) for _ in range(2)]
    await turn()
    person = hall.queue("a")
    await turn()
    assert bulk[1].done() and not bulk[0].done()
    with pytest.raises(Overloaded):
        await hall.queue("b", Klass.BULK)
    hall.leave(ticket)
    assert isinstance(await person, Ticket)
    assert isinstance(bulk[1].exception(), Overloaded)


async def test_a_deadline_that_passes_is_told_and_leaves_the_queue():
    hall = Hall(1)
    hall.enter()
    waiting = hall.queue(wait_s=5)
    await turn()
    hall.clock.time += 4.9
    hall.admission.sweep()
    assert hall.load == (1, 1, 1)
    hall.clock.time += 0.2
    hall.admission.sweep()
    with pytest.raises(Overloaded, match="within 5 s") as refused:
        await waiting
    assert refused.value.retry_after_s >= 1 and hall.load == (1, 0, 1)


async def test_deadlines_are_kept_without_anybody_asking():
    admission = Admission(lambda name: 1)
    admission.enter("sim", "a", 0, 1)
    with pytest.raises(Overloaded):
        await asyncio.wait_for(admission.wait("sim", "a", 0, 0.15), 2)


async def test_a_waiting_request_that_is_cancelled_disappears_at_once():
    hall = Hall(1)
    ticket = hall.enter()
    gone, stays = hall.queue(), hall.queue()
    await turn()
    gone.cancel()
    await turn()
    assert hall.load == (1, 1, 1)
    hall.leave(ticket)
    assert isinstance(await stays, Ticket)


async def test_a_ticket_that_came_in_the_moment_of_the_cancelling_is_given_on():
    hall = Hall(1)
    ticket = hall.enter()
    gone, stays = hall.queue(), hall.queue()
    await turn()
    hall.leave(ticket)
    gone.cancel()
    assert isinstance(await stays, Ticket) and hall.load == (1, 0, 1)


async def test_a_new_replica_lets_those_in_who_wait():
    hall = Hall(1)
    hall.enter()
    waiting = [hall.queue() for _ in range(3)]
    await turn()
    hall.limit = 3
    hall.admission.sweep()
    await turn()
    assert [task.done() for task in waiting] == [True, True, False] and hall.load == (3, 1, 3)
    waiting[2].cancel()


async def test_fewer_replicas_end_nothing_that_runs():
    hall = Hall(3)
    tickets = [hall.enter() for _ in range(3)]
    hall.limit = 1
    assert hall.enter() is None
    hall.leave(tickets[0])
    hall.leave(tickets[1])
    assert hall.enter() is None
    hall.leave(tickets[2])
    assert hall.enter()


async def test_waiting_for_what_is_gone_ends_with_the_reason():
    def limit(name: str) -> int:
        raise UnknownName("model", name, ["other"])

    admission = Admission(limit)
    admission.enter("sim", "a", 0, 1)
    waiting = asyncio.ensure_future(admission.wait("sim", "a", 0))
    await turn()
    admission.sweep()
    with pytest.raises(UnknownName, match="other"):
        await waiting


async def test_peak_begins_above_its_share_and_ends_only_well_below():
    hall = Hall(10, peak_share=0.8, calm_share=0.5)
    tickets = [hall.enter() for _ in range(8)]
    assert not hall.admission.is_peak("sim")
    tickets.append(hall.enter())
    seen = []
    while tickets:
        seen.append((len(tickets), hall.admission.is_peak("sim")))
        hall.leave(tickets.pop())
    assert seen == [
        (9, True),
        (8, True),
        (7, True),
        (6, True),
        (5, False),
        (4, False),
        (3, False),
        (2, False),
        (1, False),
    ]
    assert not hall.admission.is_peak("never heard of")


async def test_a_slot_is_given_back_whatever_happens_inside():
    hall = Hall(1)
    with pytest.raises(ValueError):
        async with hall.admission.slot("sim", "a", Klass.WORKFLOW, 1):
            assert hall.load == (1, 0, 1)
            raise ValueError
    assert hall.load == (0, 0, 1)


async def test_deployments_that_are_gone_are_forgotten():
    hall = Hall(1)
    hall.leave(hall.enter())
    hall.admission.keep_only(["other"])
    assert hall.admission.queued() == {}


STEPS = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from("abc"), st.sampled_from(list(Klass))),
    st.tuples(st.just("leave"), st.integers(0, 50)),
    st.tuples(st.just("cancel"), st.integers(0, 50)),
    st.tuples(st.just("limit"), st.integers(1, 5)),
    st.tuples(st.just("time"), st.floats(0.1, 20)),
)


class World:
    """Plays steps against a Hall and checks what must always hold. `asked` are requests by (key, class) in order."""

    def __init__(self) -> None:
        self.hall = Hall(2, queue_most=6, wait_s=30)
        self.running: list[Ticket] = []
        self.waiting: dict[asyncio.Task[Ticket], tuple[str, Klass]] = {}

    async def play(self, step) -> None:
        action, *given = step
        await getattr(self, action)(*given)
        await turn()
        self.collect()
        await turn()
        in_flight, queued, _ = self.hall.load
        assert in_flight == len(self.running) and queued == len(self.waiting) <= 6
        assert not queued or in_flight >= self.hall.admission._gates["sim"].limit  # no slot is free while one waits

    async def ask(self, key: str, klass: Klass) -> None:
        ticket = self.hall.enter(key, klass)
        if ticket:
            self.grant(ticket)
        else:
            self.waiting[self.hall.queue(key, klass)] = (key, klass)

    async def leave(self, number: int) -> None:
        if self.running:
            self.hall.leave(self.running.pop(number % len(self.running)))

    async def cancel(self, number: int) -> None:
        if self.waiting:
            list(self.waiting)[number % len(self.waiting)].cancel()

    async def limit(self, limit: int) -> None:
        self.hall.limit = limit
        self.hall.admission.sweep()

    async def time(self, seconds: float) -> None:
        self.hall.clock.time += seconds
        self.hall.admission.sweep()

    def grant(self, ticket: Ticket) -> None:
        self.running.append(ticket)
        assert len(self.running) <= self.hall.limit

    def collect(self) -> None:
        """First in, first out within a key and class: whoever got in has no older one of its own waiting."""
        for task in [task for task in self.waiting if task.done()]:
            mine = self.waiting[task]
            served = not task.cancelled() and task.exception() is None
            older = [t for t, whose in self.waiting.items() if whose == mine and not t.done()]
            if served:
                position = list(self.waiting).index(task)
                assert not [t for t in older if list(self.waiting).index(t) < position]
                lower = [t for t, (_, klass) in self.waiting.items() if klass < mine[1] and not t.done()]
                assert not lower
                self.grant(task.result())
            del self.waiting[task]

    async def end(self) -> None:
        """Nobody is lost: as slots come free, all who still wait are served."""
        self.hall.limit = 3
        self.hall.admission.sweep()
        for _ in range(200):
            await turn()
            self.collect()
            if not self.running:
                break
            self.hall.leave(self.running.pop(0))
        assert not self.waiting and self.hall.load == (0, 0, 3)


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_the_limit_holds_order_is_kept_and_nobody_is_lost(steps):
    async def run() -> None:
        world = World()
        for step in steps:
            await world.play(step)
        await world.end()

    asyncio.run(run())


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 12), min_size=2), st.integers(1, 4))
def test_between_two_turns_of_a_key_every_other_that_waits_has_one(counts, limit):
    async def run() -> list[str]:
        hall = Hall(limit)
        first = [hall.enter() for _ in range(limit)]
        served: list[str] = []

        async def ask(key: str) -> None:
            mine = await hall.admission.wait("sim", key, Klass.BULK)
            served.append(key)
            await asyncio.sleep(0)
            hall.leave(mine)

        tasks = [asyncio.ensure_future(ask(key)) for key, count in counts.items() for _ in range(count)]
        await turn()
        for ticket in first:
            hall.leave(ticket)
        await asyncio.gather(*tasks)
        return served

    served = asyncio.run(run())
    left, had = dict(counts), defaultdict(int)
    for key in served:
        had[key] += 1
        left[key] -= 1
        assert all(had[key] - had[other] <= 1 for other in counts if left[other])
