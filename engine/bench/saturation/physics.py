"""Can the GPU have done that?

A forward pass costs two operations per parameter and token (Kaplan et al., Scaling Laws, 2020, section 2.1).
"""

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from engine.bench.saturation.sweep import Subject
from engine.bench.saturation.trial import Trial

TABLE = Path(__file__).with_name("gpus.toml")
EIGHT_BITS = ("int8", "fp8", "w8a8", "q8")


@cache
def peaks() -> dict[str, dict[str, float]]:
    """The table of GPUs: dense operations a second, in 10^12, by type and precision."""
    return tomllib.loads(TABLE.read_text(encoding="utf-8"))


def peak_flops(gpu: str, precision: str) -> float | None:
    """Dense operations a second of one GPU in any usual spelling (`a100`, `NVIDIA A100-SXM4-80GB`); None: unknown."""
    words = gpu.lower().replace("-", " ").replace("_", " ").replace(":", " ").split()
    row = next((peaks()[word] for word in words if word in peaks()), None)
    if row is None:
        return None
    eight = any(precision.lower().startswith(bits) for bits in EIGHT_BITS)
    return 1e12 * row["eight_bits" if eight else "sixteen_bits"]


def tokens_per_s(trial: Trial) -> float:
    """All tokens computed in a second: of prompts, less those that the server says were cached, and of answers.

    Unknown counts are taken as none, so that the check never warns of what it does not know.
    """
    tokens = (trial.prompt_tokens or 0) - (trial.cached_tokens or 0) + (trial.completion_tokens or 0)
    return max(tokens, 0) * trial.throughput_rps / trial.requests if trial.requests else 0.0


def implausible(subject: Subject, trials: Sequence[Trial]) -> str | None:
    """A warning when more was measured than the GPUs can compute; None when possible, unknown or simulated."""
    peak = peak_flops(subject.gpu, subject.precision)
    if not peak or not subject.gpus or not subject.parameters_b or subject.simulated:
        return None
    rate = max((tokens_per_s(trial) for trial in trials), default=0.0)
    share = 2e9 * subject.parameters_b * rate / (peak * subject.gpus)
    if share <= 1:
        return None
    return (
        f"{rate:,.0f} tokens/s through {subject.parameters_b:g}e9 parameters are {share:.1f} times what "
        f"{subject.gpus} x {subject.gpu} can compute ({peak * subject.gpus / 1e12:,.0f}e12 operations/s): "
        "a prefix cache, or a wrong count"
    )
