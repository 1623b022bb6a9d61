"""Four simulators that carry the paper's figures: a check of the instrument, no replication of its measurements."""

from dataclasses import dataclass
from typing import Any

from engine.bench.charts import PAPER
from engine.bench.charts.paper import Reported
from engine.bench.saturation import Sweep

# Time runs slower or faster by these, so that no latency is near the delay of the way, and no sweep takes an hour.
TIME_SCALES = {"llama-3.2-1b": 10.0, "llama-3.2-3b": 4.0, "llama-3.1-8b": 1.0, "llama-3.1-70b": 0.2}
TOKENS = 16
# Of a latency, until the first token, where the paper does not tell; it is .28 and .35 where it does.
INITIATION_SHARE = 0.3
TOLERANCE = 0.03


@dataclass(frozen=True)
class Figure:
    """One model of the paper, as a simulator that has its slots and its latency, in scaled time."""

    reported: Reported
    time_scale: float

    @property
    def name(self) -> str:
        return f"paper-{self.reported.model}"

    @property
    def launch(self) -> dict[str, Any]:
        """The request of a launch on the GPUs that Table 1 asks for."""
        latency_ms = self.reported.latency_s * 1000 * self.time_scale
        known_s = self.reported.initiation_s
        first_ms = known_s * 1000 * self.time_scale if known_s else INITIATION_SHARE * latency_ms
        arguments = {
            "capacity": str(self.reported.users),
            "tokens": str(TOKENS),
            "ttft_ms": f"{first_ms:g}",
            "itl_ms": f"{(latency_ms - first_ms) / TOKENS:g}",
        }
        return {"model": self.reported.model, "engine": "simulator", "name": self.name, "arguments": arguments}

    def found(self, sweep: Sweep) -> tuple[float, float] | None:
        """Users and latency of the star, in the paper's time; None where the sweep has none."""
        point = sweep.serialisation
        return (point.concurrency, point.latency_s / self.time_scale) if point else None

    def error(self, sweep: Sweep) -> float | None:
        """The larger of the two relative errors."""
        found = self.found(sweep)
        if found is None:
            return None
        return max(abs(found[0] / self.reported.users - 1), abs(found[1] / self.reported.latency_s - 1))


FIGURES = tuple(Figure(reported, TIME_SCALES[reported.model]) for reported in PAPER)
# For a machine without such GPUs.
SMALL: dict[str, Any] = {"gpus": 0, "vram_gb": 0, "cpus": 1, "mem_gb": 1, "nodes": 1}
