"""Requests at this moment and one by one: the queue, the verdicts of tribunals, the request log."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from apps.console import words
from apps.console.markup import Tile

QUEUE = ["Deployment", "In flight", "Waiting", "Slots", "Share in use"]


def queue(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Deployment, in flight, waiting, capacity, share of it in use: of this moment."""
    return [
        (
            row["name"],
            row["in_flight"],
            row["queued"],
            row["capacity"],
            words.percent(min(1.0, row["in_flight"] / row["capacity"]) if row["capacity"] else None),
        )
        for row in sorted(rows, key=lambda row: (-row["queued"], -row["in_flight"], row["name"]))
    ]


def outcomes(told: Mapping[str, Any]) -> list[Tile]:
    """Of tribunals."""
    whole = sum(told[name] for name in ("accepted", "rejected", "bypassed"))
    return [
        Tile("Tribunals", words.amount(whole)),
        Tile("Accepted", words.amount(told["accepted"]), _share(told["accepted"], whole), "good"),
        Tile("Rejected", words.amount(told["rejected"]), _share(told["rejected"], whole), "bad"),
        Tile("Bypassed", words.amount(told["bypassed"]), "for lack of capacity", "warn" if told["bypassed"] else ""),
    ]


def _share(part: int, whole: int) -> str:
    return words.percent(part / whole) if whole else ""


def verdicts(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> pd.DataFrame:
    columns = ["When, UTC", "Outcome", "Model", "Laws", "Violated at first", "Rounds", "Seconds", "Ended", "Key"]
    found = [
        [
            words.date_time(row["at"]),
            _outcome(row),
            row.get("model"),
            row.get("laws"),
            ", ".join(next(iter(row.get("violated") or ()), ())),
            row.get("rounds"),
            row.get("seconds"),
            row.get("bypassed") or row.get("ended"),
            names.get(row["key_id"], row["key_id"]),
        ]
        for row in rows
    ]
    return pd.DataFrame(found, columns=columns)


def _outcome(row: Mapping[str, Any]) -> str:
    accepted = row.get("accepted")
    return "bypassed" if accepted is None else "accepted" if accepted else "rejected"


def requests(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> pd.DataFrame:
    """The request log; times in milliseconds."""
    columns = [
        "When, UTC", "Status", "Model", "Path", "Latency, ms", "First token, ms", "Queued, ms", "Prompt tokens",
        "Completion tokens", "Ended by", "Replica", "Key", "Error", "Id",
    ]  # fmt: skip
    found = [
        [
            words.date_time(row["at"]),
            row["status"],
            row["model"],
            row["path"],
            _ms(row["latency_s"]),
            _ms(row["ttft_s"]),
            _ms(row["queued_s"]),
            row["prompt_tokens"],
            row["completion_tokens"],
            row.get("finish", ""),
            row["replica"],
            names.get(row["key"], row["key"]),
            row["error"],
            row["id"],
        ]
        for row in rows
    ]
    return pd.DataFrame(found, columns=columns)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
