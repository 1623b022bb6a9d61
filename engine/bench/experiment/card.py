"""The capacity card that a sweep earns."""

from datetime import UTC, datetime
from pathlib import Path

from engine.bench.experiment.aim import Aim
from engine.bench.saturation import Sweep
from engine.capacity import CapacityCard, setup


def card(sweep: Sweep, aim: Aim, path_s: float, experiment: str) -> CapacityCard | None:
    """For one replica of the set-up; None where the sweep shows no serialisation point that can be believed.

    The rates are those of the valid trials nearest to the point, divided among the replicas. The delay of the way is
    taken off: no slot is held on it.
    """
    point, valid = sweep.serialisation, [trial for trial in sweep.trials if trial.valid and trial.latency_s]
    if point is None or point.contradicted or not valid or sweep.capacity is None:
        return None
    nearest = min(valid, key=lambda trial: abs(trial.concurrency - point.concurrency))
    slots = sweep.capacity.slots_behind(path_s) / sweep.replicas
    return CapacityCard(
        setup=setup(aim.status.deployment),
        slots=max(1, round(slots)),
        requests_per_s=nearest.throughput_rps / sweep.replicas,
        tokens_per_s=(nearest.throughput_tok_s or 0.0) / sweep.replicas,
        latency_p50_s=nearest.latency_s.p50 if nearest.latency_s else 0.0,
        experiment=experiment,
        measured_at=datetime.now(UTC),
        simulated=sweep.simulated,
    )


def keep(home: Path, sweep: Sweep, aim: Aim, path_s: float, experiment: str) -> CapacityCard | None:
    """Writes the card, if there is one."""
    made = card(sweep, aim, path_s, experiment)
    if made is not None:
        made.save(home)
    return made
