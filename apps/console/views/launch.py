"""Before and after a launch: the request that a form means, the difference of scripts, and how far it has come."""

import difflib
from collections.abc import Mapping
from typing import Any

from apps.console import words
from apps.console.markup import Step

RESOURCES = ("cpus", "mem_gb", "gpus", "vram_gb", "gpu_type", "nodes", "time_limit")
PLACEMENT = ("partition", "account", "qos", "constraint", "reservation", "container", "image")


def label(model: Mapping[str, Any]) -> str:
    """A catalogue row as one line of a list that is searched by typing."""
    asks = model["resources"]
    needs = f"{asks['gpus']} GPU of {asks['vram_gb']:g} GB" if asks["gpus"] else f"{asks['cpus']} CPU"
    size = f"{model['parameters']:g}B, " if model["parameters"] else ""
    sees = ", sees pictures" if model["vision"] else ", embeddings" if model["embeddings"] else ""
    return f"{model['id']} ({model['engine']}, {size}{needs}{sees})"


def about(model: Mapping[str, Any]) -> str:
    """What the catalogue tells of a model, in a sentence or two."""
    context = f"context {model['context']} tokens" if model["context"] else ""
    languages = f"languages {', '.join(model['languages'])}" if model["languages"] else ""
    licence = f"licence {model['license']}" if model["license"] else ""
    facts = ", ".join(filter(None, (context, languages, licence)))
    facts = facts[:1].upper() + facts[1:]
    return ". ".join(filter(None, (model["title"] or model["id"], facts, model["note"].rstrip("."))))


def request(model: Mapping[str, Any], typed: Mapping[str, Any], request_id: str = "") -> dict[str, Any]:
    """Fields of a launch: what differs from the catalogue row, and no more. `typed` are the form's values."""
    asks = model["resources"]
    found: dict[str, Any] = {"model": model["id"], "replicas": typed["replicas"]}
    if typed["name"] and typed["name"] != model["id"]:
        found["name"] = typed["name"]
    if typed["max_replicas"] > typed["replicas"]:
        found["max_replicas"] = typed["max_replicas"]
    if typed["engine"] != model["engine"]:
        found["engine"] = typed["engine"]
    if typed.get("precision") and typed["precision"] != model["precision"]:
        found["precision"] = typed["precision"]
    found |= {name: typed[name] for name in RESOURCES if name in typed and typed[name] != asks[name]}
    found |= {name: typed[name] for name in PLACEMENT if typed.get(name)}
    if typed.get("arguments"):
        found["arguments"] = typed["arguments"]
    if typed.get("scheduler"):
        found["scheduler"] = typed["scheduler"]
    return {**found, **({"request_id": request_id} if request_id else {})}


def arguments(text: str) -> tuple[dict[str, str], str]:
    """`key=value`, one a line, and what is wrong with the first line that is none (empty when nothing is)."""
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            return {}, f"write NAME=VALUE, one a line, not {line!r}"
        found[key.strip().lstrip("-").replace("-", "_")] = value.strip()
    return found, ""


def difference(before: str, after: str) -> str:
    """A unified difference of two scripts; empty when they say the same. What differs in every job is left out."""
    old, new = _lasting(before), _lasting(after)
    return "\n".join(difflib.unified_diff(old, new, "submitted last", "this launch", lineterm="", n=2))


def _lasting(script: str) -> list[str]:
    """Without the numbers of attempts, which are never the same twice."""
    fleeting = ("#SBATCH --comment=", "#SBATCH --job-name=")
    return [_without_attempt(line) for line in script.splitlines() if not line.startswith(fleeting)]


def _without_attempt(line: str) -> str:
    if ", attempt " in line:
        return line.split(", replica ")[0]
    return line.split(" --index ")[0] if " --index " in line else line


def start(told: Mapping[str, Any], now: Any) -> str:
    """What the scheduler says of when it would start."""
    at = told["expected_start_at"]
    if told["scheduler"] == "local":
        return "This machine would start it at once." if at else "This machine is full: it would wait for another job."
    if not at:
        return "Slurm names no time at which it would start."
    ahead = words.ahead(at, now)
    when = "at once" if ahead == "over" else f"{ahead}, at {words.date_time(at)} UTC"
    return f"Slurm expects to start it {when}."


def steps(row: Mapping[str, Any]) -> list[Step]:
    """How far a deployment has come: submitted, started by the scheduler, loaded, answering."""
    replicas = [r for r in row["replicas"] if r["stage"] != "draining"]
    newest = max(replicas, key=lambda r: (r["in_rotation"], r["attempt"]), default=None)
    if newest is None:
        return [Step("Submitted", "failed" if row["gave_up"] else "now", row["reason"])]
    reached = _reached(newest)
    failed = row["gave_up"] or (newest["stage"] == "failed" and not row["ready"])
    notes = _notes(row, newest)
    found = []
    for number, name in enumerate(("Submitted", "Queued", "Loading", "Ready")):
        state = "done" if number < reached else "to come"
        if number == reached:
            state = "failed" if failed else "now"
        found.append(Step(name, state, notes[number] if number <= reached else ""))
    return found


def _reached(replica: Mapping[str, Any]) -> int:
    """The step that is under way; 4 when all are done."""
    if replica["in_rotation"]:
        return 4
    if replica["started_at"]:
        return 2
    return 1 if replica["job_id"] else 0


def _notes(row: Mapping[str, Any], replica: Mapping[str, Any]) -> tuple[str, str, str, str]:
    reason = row["reason"] or replica["reason"]
    startup = replica["startup"] or {}
    waits = f"waited {words.span(startup['queue_s'])}" if startup else "" if replica["started_at"] else reason
    loads = f"took {words.span(startup['load_s'])}" if startup else reason or replica["node"] or ""
    ready = f"{row['ready']} of {row['wanted']} replicas serve"
    return f"job {replica['job_id']}" if replica["job_id"] else reason, waits, loads, ready


def still_to_come(row: Mapping[str, Any]) -> list[str]:
    """What each replica waits for that does not serve yet, in words."""
    others = (r for r in row["replicas"] if not r["in_rotation"] and r["stage"] != "draining")
    return [f"Replica {r['index']}: {r['reason']}" for r in others if r["reason"]]


def over(row: Mapping[str, Any]) -> bool:
    """Whether nothing more will come of it by itself."""
    return bool(row["gave_up"]) or row["ready"] >= row["wanted"]
