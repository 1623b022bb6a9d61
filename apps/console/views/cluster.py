"""Nodes, partitions, GPUs and jobs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from apps.console import words

NODES = ["Node", "State", "Partitions", "CPUs", "Memory, GB", "GPUs", "Ours", "Others'", "Our jobs", "Reason"]
PARTITIONS = ["Partition", "Nodes", "Taking jobs", "CPUs free", "CPUs", "GPUs free", "GPUs"]
JOBS = ["Job", "Deployment", "Name", "State", "Partition", "GPUs", "Nodes", "Priority", "Submitted", "Started", "Ends",
        "What it means"]  # fmt: skip
AWAY = ("DOWN", "DRAIN", "FAIL", "NOT_RESPONDING", "MAINT", "UNKNOWN", "INVAL")


def takes_jobs(node: Mapping[str, Any]) -> bool:
    return not node["state"].endswith("*") and not any(word in node["state"].upper() for word in AWAY)


def nodes(found: Sequence[Mapping[str, Any]], uses: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A line for each node, those that take no jobs first; `uses` tells whose its GPUs are."""
    use = {one["name"]: one for one in uses}
    ordered = sorted(found, key=takes_jobs)
    return pd.DataFrame([_node(node, use.get(node["name"], {})) for node in ordered], columns=NODES)


def _node(node: Mapping[str, Any], use: Mapping[str, Any]) -> list[Any]:
    return [
        node["name"],
        node["state"].lower(),
        ", ".join(node["partitions"]),
        f"{node['cpus_used']} of {node['cpus']}",
        f"{node['mem_gb_used']:.0f} of {node['mem_gb']:.0f}",
        _counts(node["gpus"]),
        _counts(use.get("ours", {})),
        _counts(use.get("others", {})),
        ", ".join(use.get("jobs", ())),
        node["reason"],
    ]


def _counts(gpus: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in gpus.items())


def partitions(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Name, nodes, those that take jobs, CPUs free and all, GPUs free and all; a node may be in several."""
    names = sorted({one for node in found for one in node["partitions"]})
    return [_partition(name, [node for node in found if name in node["partitions"]]) for name in names]


def _partition(name: str, inside: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    up = [node for node in inside if takes_jobs(node)]
    total, free = Counter[str](), Counter[str]()
    for node in inside:
        total.update(node["gpus"])
    for node in up:
        free.update({kind: n - node["gpus_used"].get(kind, 0) for kind, n in node["gpus"].items()})
    cpus = sum(node["cpus"] - node["cpus_used"] for node in up)
    return (name, len(inside), len(up), cpus, sum(n["cpus"] for n in inside), _counts(free), _counts(total))


def jobs(found: Sequence[Mapping[str, Any]], now: datetime) -> pd.DataFrame:
    """Jobs of this user; ours, which have a deployment, and those that wait stand first. Where no job has a priority
    there is no such column.
    """
    ordered = sorted(found, key=lambda job: (not job["deployment"], job["state"] != "PENDING", -_number(job["id"])))
    data = pd.DataFrame([_job(job, now) for job in ordered], columns=JOBS)
    return data.dropna(axis="columns", how="all")


def _job(job: Mapping[str, Any], now: datetime) -> list[Any]:
    return [
        job["id"],
        job["deployment"],
        job["name"],
        job["state"],
        job["partition"],
        job["gres"].replace("gpu:", ""),
        job["nodes"],
        job["priority"],
        words.ago(job["submitted_at"], now),
        words.ago(job["started_at"], now) if job["started_at"] else "",
        words.ahead(job["ends_at"], now) if job["ends_at"] and job["started_at"] else "",
        job["words"],
    ]


def _number(id: str) -> int:
    digits = id.split("_")[0]
    return int(digits) if digits.isdecimal() else 0


def calls(state: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Commands by how often they were run, the most frequent first."""
    return sorted(state["calls_last_hour"].items(), key=lambda one: -one[1])


def calls_in_words(state: Mapping[str, Any]) -> str:
    total = sum(state["calls_last_hour"].values())
    if state["name"] != "slurm":
        return "The local scheduler runs no commands."
    time = "hour" if state["counted_s"] >= 3600 else words.span(state["counted_s"])
    return f"{words.many(total, 'call')} in the last {time}, counted by this gateway."
