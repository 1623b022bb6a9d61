"""Whose the cluster's GPUs are: ours, others' or nobody's, by type and by node (pure)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from engine.fleet.derive import Mark
from engine.fleet.schedulers.hostlist import expand
from engine.fleet.schedulers.jobs import RUNNING, Job, Node
from engine.fleet.schedulers.parse import gpus_of

# Base states of nodes that take no jobs (sinfo(1), NODE STATE CODES); flags such as +DRAIN and * come after.
_AWAY = (
    "DOWN",
    "DRAIN",
    "FAIL",
    "NOT_RESPONDING",
    "POWERED_DOWN",
    "POWERING_DOWN",
    "MAINT",
    "UNKNOWN",
    "INVAL",
    "FUTURE",
)


@dataclass(frozen=True)
class GpuType:
    """How many GPUs of one type there are. `away` are unused ones on nodes that take no jobs."""

    type: str
    total: int = 0
    ours: int = 0
    others: int = 0
    free: int = 0
    away: int = 0


@dataclass(frozen=True)
class NodeUse:
    """GPUs of one node by type that our jobs hold and that others hold; `jobs` are ours, by id."""

    name: str
    ours: dict[str, int] = field(default_factory=dict)
    others: dict[str, int] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()


def takes_jobs(node: Node) -> bool:
    return not node.state.endswith("*") and not any(word in node.state.upper() for word in _AWAY)


def by_node(nodes: Iterable[Node], jobs: Iterable[Job], home_id: str) -> list[NodeUse]:
    """What each node's GPUs do; a job is ours when it has the mark of this ENGINE_HOME."""
    held: dict[str, Counter[str]] = {}
    names: dict[str, list[str]] = {}
    for job in jobs:
        mark = Mark.read(job.comment)
        if job.state not in RUNNING or mark is None or mark.home_id != home_id:
            continue
        for name in expand(job.nodes):
            held.setdefault(name, Counter()).update(gpus_of(job.gres))
            names.setdefault(name, []).append(job.id)
    return [_use(node, held.get(node.name, Counter()), names.get(node.name, [])) for node in nodes]


def by_type(nodes: Sequence[Node], uses: Sequence[NodeUse]) -> list[GpuType]:
    """Sums over nodes; `uses` are those of `by_node`, in the same order."""
    sums: dict[str, Counter[str]] = {}
    for node, use in zip(nodes, uses, strict=True):
        for kind, total in node.gpus.items():
            ours, others = use.ours.get(kind, 0), use.others.get(kind, 0)
            idle = max(0, total - ours - others)
            where = "free" if takes_jobs(node) else "away"
            sums.setdefault(kind, Counter()).update({"total": total, "ours": ours, "others": others, where: idle})
    return [GpuType(kind, **_counts(found)) for kind, found in sorted(sums.items())]


def _use(node: Node, held: Mapping[str, int], jobs: list[str]) -> NodeUse:
    ours = {kind: min(held.get(kind, 0) + _untyped(node, held, kind), total) for kind, total in node.gpus.items()}
    others = {kind: max(0, node.gpus_used.get(kind, 0) - ours[kind]) for kind in node.gpus}
    return NodeUse(node.name, _positive(ours), _positive(others), tuple(jobs))


def _untyped(node: Node, held: Mapping[str, int], kind: str) -> int:
    """A job that asked for any GPU holds some of the node's only type."""
    return held.get("gpu", 0) if len(node.gpus) == 1 and kind != "gpu" else 0


def _positive(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: n for kind, n in counts.items() if n}


def _counts(found: Counter[str]) -> dict[str, int]:
    return {name: found[name] for name in ("total", "ours", "others", "free", "away")}
