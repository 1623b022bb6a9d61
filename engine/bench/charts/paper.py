"""What the paper reports of its models: users and latency of the stars of Figure 3, initiation times of section 5."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reported:
    """One model's point of the paper; its initiation time is known for the smallest and the largest model only."""

    model: str
    title: str
    users: int
    latency_s: float
    initiation_s: float | None = None


PAPER = (
    Reported("llama-3.2-1b", "1B", 128, 0.036, 0.010),
    Reported("llama-3.2-3b", "3B", 49, 0.085),
    Reported("llama-3.1-8b", "8B", 20, 0.336),
    Reported("llama-3.1-70b", "70B", 2, 2.131, 0.750),
)
