"""Saturation experiments: how far they are, what they found, and what differs between them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from apps.console import words
from apps.console.markup import Cell, Share, Tile, Word
from engine.bench.charts import Sweep

ROWS = ["Id", "Deployments", "Target", "Stream", "State", "Trials", "Valid", "Begun, UTC", "Message"]
TONES = {"starting": "busy", "running": "busy", "done": "good", "stopped": "warn", "failed": "bad"}
RESULTS = (
    "Sweep", "Saturates at, users", "95 % interval", "Latency there", "Confirmed by", "Slots", "Knee", "Residual",
    "Valid trials", "Start-up",
)  # fmt: skip
CARD = ("Model", "Engine", "GPU", "Slots", "Requests/s", "Tokens/s", "Latency p50", "Measured, UTC", "Experiment")


def runs(row: Mapping[str, Any]) -> bool:
    return row["state"] in ("starting", "running")


def matching(rows: Sequence[Mapping[str, Any]], text: str, state: str | None) -> list[Mapping[str, Any]]:
    """Experiments whose id, deployments or target hold each word of a text, in a state."""
    wanted = text.lower().split()
    return [row for row in rows if (state is None or row["state"] == state) and all(w in _told(row) for w in wanted)]


def _told(row: Mapping[str, Any]) -> str:
    return " ".join([row["id"], *row["deployments"], row["target"]]).lower()


def table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The latest first, as the gateway tells them."""
    found = [
        [
            row["id"],
            ", ".join(row["deployments"]),
            row["target"],
            row["stream"],
            row["state"],
            f"{row['trials']} of {max(row['trials'], row['planned'])}",
            row["valid"],
            words.date_time(row["begun_at"]),
            row["message"] or row["phase"],
        ]
        for row in rows
    ]
    return pd.DataFrame(found, columns=ROWS)


def label(row: Mapping[str, Any]) -> str:
    return f"{', '.join(row['deployments'])} · {words.date_time(row['begun_at'])} · {row['state']} · {row['id']}"


def progress(row: Mapping[str, Any]) -> float:
    """Share of the trials that are known to be needed so far; 1 once it is done."""
    if row["state"] == "done":
        return 1.0
    return min(1.0, row["trials"] / row["planned"]) if row["planned"] else 0.0


def tiles(details: Mapping[str, Any]) -> list[Tile]:
    """Of one experiment at this moment."""
    running = runs(details)
    bad = details["trials"] - details["valid"]
    now = (
        f"{details['concurrency']} users, repeat {details['repeat'] + 1}" if running and details["concurrency"] else "–"
    )
    left = words.span(details["eta_s"]) if running else "–"
    planned = max(details["planned"], details["trials"])
    return [
        Tile("State", details["state"], "", TONES.get(details["state"], "")),
        Tile("Trials", f"{details['trials']} of {planned}", "known to be needed so far" if running else ""),
        Tile("Valid", str(details["valid"]), f"{bad} left out" if bad else "", "warn" if bad else ""),
        Tile("Now", now, details["phase"] if running else ""),
        Tile("Left in this round", left, "rounds may follow" if running else ""),
        Tile("Deployment", details["deployment"] or ", ".join(details["deployments"]), f"load at {details['target']}"),
    ]


def trials(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """As measured, the latest first: times of simulated servers are not divided by their time scale."""
    columns = [
        "Deployment", "Users", "Repeat", "Valid", "Why not", "Requests", "Errors", "Mean, ms", "p50, ms", "p95, ms",
        "Requests/s", "Tokens/s", "Little's law", "Drift", "Others' CPU", "Waiting",
    ]  # fmt: skip
    return pd.DataFrame([_trial(one) for one in reversed(found)], columns=columns)


def _trial(one: Mapping[str, Any]) -> list[Any]:
    latency, signs = one["latency_s"] or {}, one["validity"]
    return [
        one["deployment"],
        one["concurrency"],
        one["repeat"] + 1,
        one["valid"],
        "; ".join(one["why_not"]),
        one["requests"],
        one["errors"],
        *(_ms(latency.get(name)) for name in ("mean", "p50", "p95")),
        _rounded(one["throughput_rps"]),
        _rounded(one["throughput_tok_s"]),
        words.percent(signs["littles_law_residual"]),
        words.percent(signs["drift"]),
        words.percent(signs["foreign_cpu"]),
        _rounded(one["queue"]["waiting_mean"] if one["queue"] else None),
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def results(sweeps: Sequence[Sweep], names: Sequence[str]) -> list[list[Cell]]:
    """What each sweep found; times and rates are those of the server that a simulated one stands for."""
    return [_result(sweep, name) for sweep, name in zip(sweeps, names, strict=True)]


def _result(sweep: Sweep, name: str) -> list[Cell]:
    star, knee, fitted = sweep.serialisation, sweep.knee, sweep.capacity
    valid = sum(trial.valid for trial in sweep.trials)
    return [
        name,
        f"{star.concurrency:.2f}" if star else "not seen",
        f"{star.ci95[0]:.2f} to {star.ci95[1]:.2f}" if star else None,
        words.seconds(star.latency_s / sweep.time_scale) if star else None,
        (star.confirmed_by or Word("not confirmed", "warn")) if star else None,
        f"{fitted.slots:.2f}" if fitted else None,
        f"{knee.concurrency:.1f}" if knee else None,
        f"{fitted.residual:.3f}" if fitted else None,
        f"{valid} of {len(sweep.trials)}",
        _startup(sweep),
    ]


def _startup(sweep: Sweep) -> str | None:
    if sweep.startup is None:
        return None
    parts = (("queue", sweep.startup.queue_s), ("load", sweep.startup.load_s), ("token", sweep.startup.first_token_s))
    return ", ".join(f"{name} {words.seconds(value)}" for name, value in parts if value is not None)


def warnings(sweeps: Sequence[Sweep], names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Tone, what, and of which sweep: all that speaks against believing a number."""
    found = []
    for sweep, name in zip(sweeps, names, strict=True):
        star = sweep.serialisation
        contradicted = star.contradicted if star else None
        told = [*sweep.warnings, *filter(None, [sweep.physics, contradicted])]
        found += [("warn", one, name) for one in dict.fromkeys(told)]
    return found


def flat(value: Any, path: str = "") -> dict[str, str]:
    """Nested facts by their dotted paths."""
    if isinstance(value, Mapping):
        inner = [flat(one, f"{path}.{name}" if path else str(name)) for name, one in value.items()]
        return {name: text for found in inner for name, text in found.items()}
    if isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        return flat(dict(enumerate(value)), path)
    return {
        path: ", ".join(map(str, value)) if isinstance(value, list | tuple) else "–" if value is None else str(value)
    }


def differences(provenances: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The facts in which experiments differ: a row a fact, a column an experiment. Ids and times are left out."""
    facts = {id: flat(_common(found)) for id, found in provenances.items()}
    paths = list(dict.fromkeys(path for found in facts.values() for path in found))
    unlike = [path for path in paths if len({found.get(path, "–") for found in facts.values()}) > 1]
    rows = [[path, *(found.get(path, "–") for found in facts.values())] for path in unlike]
    return pd.DataFrame(rows, columns=["Fact", *facts])


# Different in each run, and no reason for different numbers.
_INCIDENTAL = {"command", "load_average", "begun_at", "replicas", "path"}


def _common(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """One deployment's facts stand beside another's, whatever their names."""
    deployments = provenance.get("deployments", {})
    told = {name: value for name, value in provenance.items() if name not in {"deployments", *_INCIDENTAL}}
    each = {
        (name if len(deployments) > 1 else "deployment"): {
            "name": name,
            "replicas": len(facts.get("replicas", [])),
            **{key: value for key, value in facts.items() if key not in _INCIDENTAL},
        }
        for name, facts in deployments.items()
    }
    return {**told, **each}


def cards(found: Sequence[Mapping[str, Any]]) -> list[list[Cell]]:
    """Of one replica each; the latest first."""
    ordered = sorted(found, key=lambda card: card["measured_at"] or "", reverse=True)
    return [
        [
            card["setup"]["model"],
            card["setup"]["engine"] + (" (simulated)" if card["simulated"] else ""),
            f"{card['setup']['gpus']} × {card['setup']['gpu_type'] or 'GPU'}" if card["setup"]["gpus"] else "CPU",
            card["slots"],
            words.amount(round(card["requests_per_s"], 2)),
            words.amount(round(card["tokens_per_s"], 1)),
            words.seconds(card["latency_p50_s"]),
            words.date_time(card["measured_at"]),
            card["experiment"],
        ]
        for card in ordered
    ]


def loads(row: Mapping[str, Any] | None) -> list[tuple[str, list[Share]]]:
    """How busy the devices of a deployment's replicas are now, as bars of 100: GPUs, or the CPU where there is none."""
    found = []
    for replica in (row or {}).get("replicas", []):
        load = replica.get("load") or {}
        devices = [
            (f"GPU {gpu['index']} ({gpu['name']})", gpu["utilisation_percent"]) for gpu in load.get("gpus") or []
        ]
        if not devices and load.get("cpu_percent") is not None:
            devices = [("CPU", load["cpu_percent"])]
        for name, percent in devices:
            if percent is not None:
                busy = max(0.0, min(100.0, percent))
                shares = [Share("% busy", round(busy), "busy"), Share("% idle", round(100 - busy), "idle")]
                found.append((f"Replica {replica['index']}, {name}", shares))
    return found
