"""An experiment from its first line to its result; a process of its own on uvloop."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import uvloop

from engine.bench.experiment import card, path, provenance
from engine.bench.experiment.aim import Aim, Gateway, at_path
from engine.bench.experiment.course import Course
from engine.bench.experiment.journal import Journal
from engine.bench.experiment.measure import Pace
from engine.bench.experiment.progress import Progress
from engine.bench.saturation import Sweep, conclude
from engine.errors import Conflict, EngineError
from engine.experiments import Experiment, State, me, require_idle
from engine.settings import Settings
from engine.site import Site

STOP_POLL_S = 0.5
PACE = Pace()

Say = Callable[[str], None]


def run(experiment: Experiment, settings: Settings, gateway: Gateway, say: Say, pace: Pace = PACE) -> list[Sweep]:
    """Runs an experiment or goes on with it; returns a sweep per deployment, also when it was stopped on the way.

    How it ended stands in its state: done, stopped, or failed, which also raises the error. Trials that are valid are
    never repeated. Raises Conflict when another process runs it.
    """
    require_idle(experiment)
    (experiment.path / "stop").unlink(missing_ok=True)
    return uvloop.run(_Run(experiment, settings, gateway, say, pace).whole())


class _Run:
    def __init__(self, experiment: Experiment, settings: Settings, gateway: Gateway, say: Say, pace: Pace) -> None:
        self._experiment, self._settings, self._gateway, self._pace = experiment, settings, gateway, pace
        self._options = experiment.options()
        self._site = Site.load(settings.site_file)
        self._journal = Journal(experiment)
        known = self._journal.trials
        state = State("running", begun_at=experiment.state().begun_at or datetime.now(UTC), **me())
        self._progress = Progress(experiment, state, say, len(known), sum(trial.valid for trial in known))
        self._provenance: dict[str, Any] = experiment.provenance() or provenance.of_run(self._options, sys.argv)
        self._sweeps: dict[str, Sweep] = {}
        self._stopped = False

    async def whole(self) -> list[Sweep]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, task)
        watching = asyncio.create_task(self._watch_for_stop(task))
        try:
            for name in self._options.deployments:
                await self._deployment(name)
            self._progress.end("done")
        except asyncio.CancelledError:
            self._progress.end("stopped", f"`engine bench resume {self._experiment.id}` goes on")
        except BaseException as error:
            self._progress.end("failed", str(error) or repr(error))
            raise
        finally:
            watching.cancel()
        return list(self._sweeps.values())

    def _stop(self, task: "asyncio.Task[Any]") -> None:
        self._stopped = True
        task.cancel()

    async def _watch_for_stop(self, task: "asyncio.Task[Any]") -> None:
        """Whoever asks may be on another machine: they leave a file, so there is no event to wait for."""
        while not await asyncio.to_thread(lambda: self._experiment.stop_is_asked):  # noqa: ASYNC110
            await asyncio.sleep(STOP_POLL_S)
        self._stop(task)

    async def _deployment(self, name: str) -> None:
        course = Course(
            self._settings.home,
            name,
            self._options,
            self._gateway,
            self._journal,
            self._progress,
            lambda: self._stopped,
            self._pace,
        )
        aim = await course.prepare()
        assert course.prompts is not None
        facts = await provenance.of_deployment(
            aim, self._settings.home, self._site, self._settings.templates, course.prompts
        )
        delay = await _delays(aim, course.prompts.task.path, self._options.target)
        self._tell(name, {**facts, "path": delay})
        path_s = delay["way_s"] or 0.0
        try:
            await course.run()
        finally:
            # What there is by now is a result, too, whatever ended the course.
            with suppress(EngineError):
                self._conclude(name, aim, course, path_s)
        made = card.keep(self._settings.home, self._sweeps[name], aim, path_s, self._experiment.id)
        if made is not None:
            self._progress.say(f"{name}: {made.slots} slots per replica from now on, for this set-up")

    def _conclude(self, name: str, aim: Aim, course: Course, path_s: float) -> None:
        objective_s = self._options.objective_ms / 1000 if self._options.objective_ms else None
        home = self._settings.home
        subject = provenance.subject(aim, home, self._options)
        startup = provenance.startup(aim, self._site)
        self._sweeps[name] = conclude(subject, course.trials, startup, objective_s, path_s)
        self._journal.conclude(list(self._sweeps.values()))

    def _tell(self, name: str, facts: dict[str, Any]) -> None:
        """Raises Conflict when the deployment is another one now than when its first trials were made."""
        known = self._provenance["deployments"].get(name)
        if known and known["setup"] != facts["setup"] and self._journal.of(name):
            raise Conflict(
                f"{name} has another set-up now than in the trials so far ({known['setup']}, now {facts['setup']}); "
                "begin a new experiment"
            )
        begun_at = known["begun_at"] if known else datetime.now(UTC).isoformat(timespec="seconds")
        self._provenance["deployments"][name] = {**facts, "begun_at": begun_at}
        self._journal.tell(self._provenance)


async def _delays(aim: Aim, task_path: str, target: str) -> dict[str, float | None]:
    """Seconds of the whole way, what the gateway or NGINX adds to it; None where the server does not refuse."""
    model = aim.status.deployment.name
    direct = await path.delay_s(at_path(aim.direct, task_path), model)
    way = direct if target == "replica" else await path.delay_s(at_path(aim.target, task_path), model)
    added = way - direct if way is not None and direct is not None else None
    return {"way_s": way, "direct_s": direct, "added_s": 0.0 if target == "replica" else added}


def summary(sweep: Sweep) -> str:
    """One line for people."""
    point, knee = sweep.serialisation, sweep.knee
    told = "simulated, " if sweep.simulated else ""
    if point is None:
        return f"{sweep.deployment} ({told}{len(sweep.trials)} trials): {'; '.join(sweep.warnings) or 'no point found'}"
    low, high = point.ci95
    word = f"confirmed by {point.confirmed_by}" if point.confirmed_by else "not confirmed by a gauge of the server"
    found = f"requests queue from {point.concurrency:.2f} users on ({low:.2f} to {high:.2f}; {word})"
    lead = f"{sweep.deployment} ({told}{len(sweep.trials)} trials): {found}, latency {point.latency_s * 1000:.0f} ms"
    return lead + (f"; knee at {knee.concurrency:.1f}" if knee else "")


def stopped_early(experiment: Experiment) -> bool:
    return experiment.state().state == "stopped"
