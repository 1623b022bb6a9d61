"""Trials, sweeps, and what they say about where a deployment saturates. Pure."""

from engine.bench.saturation.conclude import conclude, from_json_lines
from engine.bench.saturation.levels import next_levels
from engine.bench.saturation.sweep import Knee, Serialisation, Startup, Subject, Sweep, sweep_json, sweep_of
from engine.bench.saturation.trial import Limits, Load, Queue, Summary, Trial, Validity, imbalance, judged, why_not

__all__ = [
    "Knee",
    "Limits",
    "Load",
    "Queue",
    "Serialisation",
    "Startup",
    "Subject",
    "Summary",
    "Sweep",
    "Trial",
    "Validity",
    "conclude",
    "from_json_lines",
    "imbalance",
    "judged",
    "next_levels",
    "sweep_json",
    "sweep_of",
    "why_not",
]
