"""Telling how far an experiment has come: lines for people, state.json for everybody else."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from engine.bench.experiment.measure import Plan
from engine.bench.saturation import Trial
from engine.experiments import Experiment, State

Say = Callable[[str], None]


class Progress:
    """Writes in a thread of its own, in order: a slow file system must not hold the load up."""

    def __init__(self, experiment: Experiment, state: State, say: Say, trials: int, valid: int) -> None:
        self._experiment, self._say = experiment, say
        self.state = replace(state, trials=trials, valid=valid, planned=trials)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._change()

    def trial(self, plan: Plan, waiting: int, eta_s: float) -> Say:
        """A trial begins, with `waiting` more behind it; what is returned is told each phase."""

        def phase(words: str) -> None:
            self._change(phase=words)

        self._change(
            deployment=plan.deployment,
            concurrency=plan.concurrency,
            repeat=plan.repeat,
            planned=self.state.trials + 1 + waiting,
            eta_s=round(eta_s, 1),
            phase="looking at the servers",
        )
        return phase

    def ended(self, trial: Trial) -> None:
        self._change(trials=self.state.trials + 1, valid=self.state.valid + trial.valid, phase="")
        left = f", about {self.state.eta_s:.0f} s left in this round" if self.state.eta_s else ""
        self._say(f"[{self.state.trials}/{self.state.planned}] {_describe(trial)}{left}")

    def say(self, line: str) -> None:
        self._say(line)

    def end(self, state: str, message: str = "") -> None:
        """The last word; comes back when it is written."""
        self._change(state=state, message=message, phase="", eta_s=None)
        self._writer.shutdown()

    def _change(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]
        self._writer.submit(self._experiment.write_state, self.state)


def _describe(trial: Trial) -> str:
    who = f"{trial.deployment}, {trial.concurrency} users, repeat {trial.repeat + 1}"
    if trial.latency_s is None:
        return f"{who}: {'; '.join(trial.why_not)}"
    seen = f"{trial.latency_s.mean * 1000:.1f} ms, {trial.throughput_rps:.2f} requests/s"
    return f"{who}: {seen}" + ("" if trial.valid else f"; invalid: {'; '.join(trial.why_not)}")
