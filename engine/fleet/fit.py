"""Whether a request fits the cluster's nodes, in plain words (pure)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.catalogue import Resources
from engine.fleet.gpus import takes_jobs
from engine.fleet.schedulers.jobs import Node


@dataclass(frozen=True)
class Need:
    """What one replica asks for, with the GPU type and the partition that its script names ("" is any)."""

    resources: Resources
    gpu_type: str = ""
    partition: str = ""


@dataclass(frozen=True)
class Fit:
    """Whether it can ever run here, and how many replicas there is room for at this moment."""

    possible: bool
    replicas_now: int
    words: str


def fit(need: Need, nodes: Sequence[Node], vram_gb: Mapping[str, float]) -> Fit:
    """`vram_gb` is that of one GPU of each type, where the site lists it."""
    where = f"partition {need.partition}" if need.partition else "the cluster"
    inside = [node for node in nodes if not need.partition or need.partition in node.partitions]
    wanted = _wanted(need, vram_gb)
    if not inside:
        return Fit(False, 0, f"{wanted}: {where} has no nodes")
    able = [node for node in inside if takes_jobs(node) and _holds(need, node)]
    if len(able) < need.resources.nodes:
        return Fit(False, 0, f"{wanted}: {_lack(need, inside, where)}")
    now = sum(_times(need, node) for node in able) // need.resources.nodes
    room = f"room for {now} now" if now else "too little is free now, so the job would wait"
    return Fit(True, now, f"{wanted}: {where} has {_offer(need, able)}; {room}")


def _wanted(need: Need, vram_gb: Mapping[str, float]) -> str:
    asked = need.resources
    on = f" on each of {asked.nodes} nodes" if asked.nodes > 1 else ""
    if not asked.gpus:
        return f"needs {_many(asked.cpus, 'CPU')} and {asked.mem_gb:g} GB of memory{on}"
    size = asked.vram_gb or vram_gb.get(need.gpu_type, 0)
    of = f" of {size:g} GB" if size else ""
    kind = f" ({need.gpu_type})" if need.gpu_type else ""
    return f"needs {_many(asked.gpus, 'GPU')}{of}{kind}{on}"


def _offer(need: Need, able: Sequence[Node]) -> str:
    if need.resources.gpus:
        total = sum(_gpus(need, node.gpus) for node in able)
        used = sum(min(_gpus(need, node.gpus), _gpus(need, node.gpus_used)) for node in able)
        return f"{total}, {total - used} of them free"
    return f"{_many(len(able), 'node')} that can, {sum(node.cpus - node.cpus_used for node in able)} CPUs free"


def _lack(need: Need, inside: Sequence[Node], where: str) -> str:
    asked, up = need.resources, [node for node in inside if takes_jobs(node)]
    if not up:
        return f"no node of {where} takes jobs at the moment"
    gpus, cpus, mem_gb = max(_gpus(need, n.gpus) for n in up), max(n.cpus for n in up), max(n.mem_gb for n in up)
    kind = f" of type {need.gpu_type}" if need.gpu_type else ""
    if gpus < asked.gpus:
        return f"the largest node of {where} has {_many(gpus, 'GPU')}{kind}" if gpus else f"{where} has no GPU{kind}"
    if cpus < asked.cpus:
        return f"the largest node of {where} has {_many(cpus, 'CPU')}, not {asked.cpus}"
    if mem_gb < asked.mem_gb:
        return f"the largest node of {where} has {mem_gb:.0f} GB of memory, not {asked.mem_gb:g}"
    able = sum(_holds(need, node) for node in up)
    return f"{where} has {_many(able, 'node')} with GPUs, CPUs and memory for it at once"


def _holds(need: Need, node: Node) -> bool:
    asked = need.resources
    return _gpus(need, node.gpus) >= asked.gpus and node.cpus >= asked.cpus and node.mem_gb >= asked.mem_gb


def _times(need: Need, node: Node) -> int:
    """How many tasks of one replica the node has room for now; one at most where a replica spans nodes."""
    asked = need.resources
    free = [(node.cpus - node.cpus_used) // asked.cpus, int((node.mem_gb - node.mem_gb_used) // asked.mem_gb)]
    if asked.gpus:
        free.append((_gpus(need, node.gpus) - _gpus(need, node.gpus_used)) // asked.gpus)
    times = max(0, min(free))
    return min(1, times) if asked.nodes > 1 else times


def _gpus(need: Need, gpus: Mapping[str, int]) -> int:
    return gpus.get(need.gpu_type, 0) if need.gpu_type else sum(gpus.values())


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
