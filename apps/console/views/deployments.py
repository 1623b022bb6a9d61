"""Deployments in rows, and one of them from near."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from apps.console import words
from apps.console.markup import Tile, Word

COLUMNS = [
    "Name",
    "Stage",
    "Ready",
    "In flight",
    "Queue",
    "Slots",
    "Load",
    "Memory",
    "Ends",
    "Engine",
    "Model",
    "Reason",
]


def rows(found: Sequence[Mapping[str, Any]], now: datetime) -> pd.DataFrame:
    """A line for each deployment; those that need a look come first."""
    order = {"failed": 0, "queued": 1, "loading": 2, "draining": 3, "ready": 4, "stopped": 5}
    ordered = sorted(found, key=lambda row: (order.get(row["stage"], 1), row["name"]))
    data = pd.DataFrame([_row(row, now) for row in ordered], columns=COLUMNS)
    return data.astype({"In flight": "Int64", "Queue": "Int64"})


def _row(row: Mapping[str, Any], now: datetime) -> list[Any]:
    load, memory = _gpu_load(row)
    simulated = " (simulated)" if row["simulated"] else ""
    model = row["kind"] == "model"
    return [
        row["name"],
        row["stage"],
        f"{row['ready']} of {row['wanted']}",
        row["in_flight"] if model else None,
        row["queued"] if model else None,
        slots(row) if model else "",
        load,
        memory,
        words.ahead(row["expires_at"], now) if row["expires_at"] else "",
        f"{row['engine']}{simulated}",
        row["model"] or "",
        row["reason"],
    ]


def slots(row: Mapping[str, Any]) -> str:
    """Parallel requests of one replica, and where the number comes from."""
    return f"{row['slots']} ({'measured' if row['measured'] else 'from arguments'})"


def _gpu_load(row: Mapping[str, Any]) -> tuple[str, str]:
    """The mean use of all GPUs of all replicas, and the memory used of all; of CPUs where there are none."""
    loads = [replica["load"] for replica in row["replicas"] if replica["load"]]
    gpus = [gpu for load in loads for gpu in load["gpus"]]
    if gpus:
        mean = sum(gpu["utilisation_percent"] for gpu in gpus) / len(gpus)
        used, total = (sum(gpu[f"memory_{what}_gb"] for gpu in gpus) for what in ("used", "total"))
        return f"GPU {mean:.0f} %", f"{used:.0f} of {total:.0f} GB"
    cpus = [load["cpu_percent"] for load in loads if load["cpu_percent"] is not None]
    return (f"CPU {sum(cpus):.0f} %" if cpus else "", "")


def tiles(row: Mapping[str, Any], now: datetime) -> list[Tile]:
    found = [Tile("Stage", row["stage"], row["reason"], Word(row["stage"]).tone or _tone(row["stage"]))]
    found.append(Tile("Replicas ready", f"{row['ready']} of {row['wanted']}"))
    if row["kind"] == "model":
        found.append(Tile("In flight", str(row["in_flight"]), f"of {row['capacity']} at once"))
        found.append(Tile("Waiting", str(row["queued"]), "at peak: workflows stand back" if row["peak"] else ""))
        found.append(Tile("Slots per replica", str(row["slots"]), "measured" if row["measured"] else "from arguments"))
    gpu, memory = _gpu_load(row)
    if gpu:
        found.append(Tile("Load", gpu, memory))
    if row["expires_at"]:
        found.append(Tile("First job ends", words.ahead(row["expires_at"], now), "another takes over before"))
    return found


def _tone(stage: str) -> str:
    return {"ready": "good", "failed": "bad", "stopped": "idle"}.get(stage, "busy")


REPLICAS = [
    "Replica",
    "Stage",
    "Job",
    "Job state",
    "Node",
    "Endpoint",
    "In flight",
    "Load",
    "Ends",
    "Start-up",
    "Reason",
]


def replicas(row: Mapping[str, Any], now: datetime) -> pd.DataFrame:
    return pd.DataFrame([_replica(replica, now) for replica in row["replicas"]], columns=REPLICAS)


def _replica(replica: Mapping[str, Any], now: datetime) -> list[Any]:
    silent = replica["stage"] == "ready" and not replica["in_rotation"]
    return [
        replica["index"],
        "silent" if silent else replica["stage"],
        replica["job_id"],
        replica["job_state"],
        replica["node"],
        replica["endpoint"] or "",
        replica["in_flight"],
        _load(replica["load"]),
        words.ahead(replica["expires_at"], now) if replica["expires_at"] else "",
        startup(replica["startup"]),
        replica["reason"],
    ]


def _load(load: Mapping[str, Any] | None) -> str:
    if not load:
        return ""
    gpus = ", ".join(
        f"GPU {g['index']} {g['utilisation_percent']:.0f} %, {g['memory_used_gb']:.0f} GB" for g in load["gpus"]
    )
    cpu = f"CPU {load['cpu_percent']:.0f} %" if load["cpu_percent"] is not None else ""
    return gpus or cpu


def startup(clocks: Mapping[str, float] | None) -> str:
    """The three clocks of a start; waiting in the queue is no part of loading."""
    if not clocks:
        return ""
    names = (("queue_s", "queue"), ("load_s", "load"), ("first_token_s", "first token"))
    return ", ".join(f"{name} {words.span(clocks[key])}" for key, name in names)


def live(row: Mapping[str, Any]) -> list[int]:
    """Replicas that can be drained."""
    return [replica["index"] for replica in row["replicas"] if replica["stage"] not in ("draining", "failed")]


def events(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """The latest first: when, which replica, what, in words."""
    bad = ("failed", "gave-up", "never-queued", "unsure", "silent")
    good = ("ready", "started")
    return [
        (
            words.date_time(event["at"]),
            "" if event["index"] is None else str(event["index"]),
            Word(event["kind"], "bad" if event["kind"] in bad else "good" if event["kind"] in good else "idle"),
            event["message"],
        )
        for event in reversed(found)
    ]


def search(log: str, wanted: str, around: int = 0) -> str:
    """Lines that hold a text, whatever its case, each with its number; all of them without one."""
    lines = log.splitlines()
    if not wanted:
        return log
    hits = [i for i, line in enumerate(lines) if wanted.casefold() in line.casefold()]
    shown = sorted({n for i in hits for n in range(max(0, i - around), min(len(lines), i + around + 1))})
    return "\n".join(f"{n + 1:>6}  {lines[n]}" for n in shown)


def probed(found: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Replica, endpoint, health, and how long a token took."""
    return [
        (
            str(one["replica"]),
            one["endpoint"],
            _answer(one["health"]),
            _answer(one["token"]) if "token" in one else None,
        )
        for one in found
    ]


def _answer(told: Mapping[str, Any]) -> Word:
    return Word(told["error"], "bad") if told["error"] else Word(f"{told['ms']:.0f} ms", "good")


def asked(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """What an operator asked for, as far as it says something."""
    resources = [(name, value) for name, value in row["resources"].items() if value not in ("", 0, None)]
    placement = [(name, value) for name, value in row["placement"].items() if value not in ("", False, {}, None)]
    more = [(name, row[name]) for name in ("precision", "path", "max_replicas", "generation", "drain_timeout_s")]
    lists = [("command", " ".join(row["command"])), ("variables", ", ".join(row["environment"]))]
    arguments = [(f"argument {name}", value) for name, value in row["arguments"].items()]
    found = [*resources, *placement, *more, *lists, *arguments, ("launched", words.date_time(row["created_at"]))]
    return [(name, str(value)) for name, value in found if value not in ("", None)]


def card(cards: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The capacity card of a deployment's model and engine whose arguments are its own."""
    same = [one for one in cards if one["setup"]["model"] == row["model"] and one["setup"]["engine"] == row["engine"]]
    return next((one for one in same if one["setup"]["arguments"] == row["arguments"]), None)
