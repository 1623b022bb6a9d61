"""The sweeps of an experiment at any moment: those that were concluded, and those that are on their way."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.bench.saturation.conclude import conclude
from engine.bench.saturation.sweep import Subject, Sweep, sweep_of
from engine.bench.saturation.trial import Trial
from engine.errors import ConfigurationError


def sweeps_so_far(
    result: Sequence[Any], trials: Sequence[Any], provenance: Mapping[str, Any], time_scale: float = 1.0
) -> list[Sweep]:
    """From the plain JSON of result.json, trials.jsonl and provenance.json, in the order of their beginning.

    A deployment that has more trials than its result has is concluded anew. Raises ConfigurationError for what is
    no result or no trial.
    """
    concluded = {sweep.deployment: sweep for sweep in map(sweep_of, result)}
    by_deployment: dict[str, list[Trial]] = {name: [] for name in concluded}
    try:
        for trial in msgspec.convert(trials, list[Trial]):
            by_deployment.setdefault(trial.deployment, []).append(trial)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"these are no trials: {error}") from error
    facts = provenance.get("deployments", {})
    found = []
    for name, made in by_deployment.items():
        known = concluded.get(name)
        if known is None:
            found.append(conclude(_subject(name, facts.get(name, {}), time_scale), made))
        elif len(known.trials) < len(made):
            found.append(conclude(known, made, known.startup))
        else:
            found.append(known)
    return found


def _subject(name: str, facts: Mapping[str, Any], time_scale: float) -> Subject:
    return Subject(
        deployment=name,
        model=facts.get("model") or "",
        engine=facts.get("engine") or "",
        arguments=facts.get("arguments") or {},
        precision=facts.get("precision") or "",
        simulated=bool(facts.get("simulated")),
        time_scale=time_scale,
    )
