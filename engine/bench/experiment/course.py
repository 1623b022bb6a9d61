"""The sweep of one deployment: which trial comes next, until there is nothing more to learn."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from engine.bench.experiment import aim as aims
from engine.bench.experiment import probe
from engine.bench.experiment.aim import Aim, Gateway
from engine.bench.experiment.gauges import Gauges, page
from engine.bench.experiment.journal import Journal
from engine.bench.experiment.machine import Machine
from engine.bench.experiment.measure import Pace, Plan, measure
from engine.bench.experiment.progress import Progress
from engine.bench.load.prompts import Prompts
from engine.bench.saturation import Limits, Trial, judged, next_levels
from engine.errors import NotReadyInTime
from engine.experiments import Options
from engine.fleet.deployments import folder

# A sweep takes the larger of these; beyond it nothing is extended and nothing refined any more.
BUDGET_S, BUDGET_LATENCIES = 120.0, 600.0
# The fit moves a little with each refinement; this many chase it.
ROUNDS = 3

Want = tuple[int, int]


class Course:
    """Runs trials and hands them to the journal. All of its waiting can be cancelled."""

    def __init__(
        self,
        home: Path,
        name: str,
        options: Options,
        gateway: Gateway,
        journal: Journal,
        progress: Progress,
        stopped: Callable[[], bool],
        pace: Pace,
    ) -> None:
        self._home, self._name, self._options, self._gateway = home, name, options, gateway
        self._journal, self._progress, self._stopped, self._pace = journal, progress, stopped, pace
        self._limits = Limits(foreign_cpu=options.foreign_cpu)
        self._random = random.Random(f"{options.seed} {name}")
        self._failed: Counter[int] = Counter()
        self._first_s = 0.0
        self._begun = time.monotonic()
        self.prompts: Prompts | None = None

    @property
    def trials(self) -> list[Trial]:
        return self._journal.of(self._name)

    async def prepare(self) -> Aim:
        """Finds the servers and makes the prompts; raises what `aim` and `calibrate` raise."""
        found = await self._aim()
        self.prompts, probed = await asyncio.to_thread(probe.calibrate, found, self._options.task, self._options.stream)
        self._first_s = probed.latency_s
        return found

    async def run(self) -> None:
        """Doubles the load until the throughput stops growing, then refines, each level `repeats` times in random
        order. A doubling that is invalid is tried again at once: what comes next depends on it. Raises ReplicaFailed
        or NotReadyInTime when the deployment does not come back after a replica died.
        """
        self._begun = time.monotonic()
        rounds = 0
        while True:
            if rounds == 0 and (invalid := self._invalid_doubling()):
                await self._trial((invalid, 0), [])
                continue
            levels = next_levels(self.trials, self._options.max_concurrency)
            if len(levels) == 1 and rounds == 0 and self._doubles(levels[0]):
                await self._trial((levels[0], 0), [])
                continue
            wanted = self._lacking({trial.concurrency for trial in self.trials} | set(levels))
            if not wanted or rounds >= ROUNDS or (rounds and self._over_budget(self._eta_s(wanted))):
                return
            self._random.shuffle(wanted)
            await self._all(wanted)
            rounds += 1

    async def _all(self, wanted: list[Want]) -> None:
        queue = list(wanted)
        while queue:
            want = queue.pop(0)
            if self._failed[want[0]] >= self._pace.attempts:
                continue
            trial = await self._trial(want, queue)
            if not trial.valid:
                queue.append(want)

    def _doubles(self, level: int) -> bool:
        """Whether a level is the next doubling, not yet given up."""
        return self._failed[level] < self._pace.attempts and all(trial.concurrency < level for trial in self.trials)

    def _invalid_doubling(self) -> int | None:
        """The largest level so far, where none of its trials is valid and it is not given up."""
        most = max((trial.concurrency for trial in self.trials), default=0)
        valid = any(trial.valid for trial in self.trials if trial.concurrency == most)
        return None if valid or not most or self._failed[most] >= self._pace.attempts else most

    def _lacking(self, levels: Iterable[int]) -> list[Want]:
        done = {(trial.concurrency, trial.repeat) for trial in self.trials if trial.valid}
        wanted = ((level, repeat) for level in sorted(levels) for repeat in range(self._options.repeats))
        return [want for want in wanted if want not in done and self._failed[want[0]] < self._pace.attempts]

    async def _trial(self, want: Want, queue: list[Want]) -> Trial:
        """One trial, judged and written down."""
        found = await self._aim()
        assert self.prompts is not None
        plan = Plan(self._name, want[0], want[1], self._expected_s(want[0]))
        eta_s = self._eta_s([want, *queue])
        pace = replace(self._pace, most_extension=1.0) if self._over_budget(eta_s) else self._pace
        say = self._progress.trial(plan, len(queue), eta_s)
        ours = await asyncio.to_thread(Machine, self._home, [self._gateway().pid])
        hosts, cpus = folder(self._home, self._name).hosts, found.status.deployment.resources.cpus
        async with Gauges(found.replicas, found.status.replica_key, hosts, cpus) as gauges:
            seen, unsteady = await measure(plan, found, self.prompts, gauges, ours, pace, say)
        trial = judged(seen, (*unsteady, *await self._losses(found)), self._limits)
        self._failed[want[0]] += 0 if trial.valid else 1
        self._journal.add(trial)
        self._progress.ended(trial)
        return trial

    async def _aim(self) -> Aim:
        find, say = aims.wait_for_aim, self._progress.say
        return await asyncio.to_thread(find, self._home, self._name, self._options, self._gateway, self._stopped, say)

    async def _losses(self, before: Aim) -> tuple[str, ...]:
        """Replicas that died or were replaced since, each in words: what was measured is then of no one set of them."""
        key = before.status.replica_key
        pages = await asyncio.gather(*(page(replica, "/health", key) for replica in before.replicas))
        dead = [r.index for r, answer in zip(before.replicas, pages, strict=True) if answer is None]
        if dead:
            return tuple(f"replica {index} died in the trial" for index in dead)
        try:
            now = await asyncio.to_thread(aims.aim, self._home, self._name, self._options, self._gateway)
        except NotReadyInTime as error:
            return (f"a replica died in the trial: {error}",)
        return () if now.marks == before.marks else ("a replica died or was replaced in the trial",)

    def _expected_s(self, users: int) -> float:
        """A guess of the latency from the levels seen so far."""
        known = {t.concurrency: t.latency_s.mean for t in self.trials if t.valid and t.latency_s}
        below = [n for n in known if n <= users]
        if not below:
            return min(known.values(), default=self._first_s)
        nearest = max(below)
        above = [known[n] for n in known if n > users]
        grown = known[nearest] * users / nearest if self._is_full(known, nearest) else known[nearest]
        return min([grown, *above])

    @staticmethod
    def _is_full(known: dict[int, float], users: int) -> bool:
        """Whether the latency grew to this level from the one below: from here on it goes on doing so."""
        below = [n for n in known if n < users]
        return bool(below) and known[users] > 1.3 * known[max(below)]

    def _eta_s(self, wanted: list[Want]) -> float:
        return sum(self._pace.trial_s(self._expected_s(users)) for users, _ in wanted)

    def _over_budget(self, eta_s: float) -> bool:
        """Whether what is still to do ends too late."""
        budget_s = max(BUDGET_S, BUDGET_LATENCIES * self._expected_s(1))
        return time.monotonic() - self._begun + eta_s > budget_s
