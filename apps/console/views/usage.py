"""Keys, who used how much, and GPU hours."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from apps.console import words
from apps.console.markup import Tile

KEYS = ["Name", "Id", "Role", "State", "Models", "Requests a minute", "Tokens a day", "Parallel", "Created"]
NUMBERS = {
    "requests": "Requests",
    "errors": "Errors",
    "prompt_tokens": "Prompt tokens",
    "completion_tokens": "Completion tokens",
    "total_tokens": "Tokens",
}
NAMES = {"day": "Day", "key": "Key", "model": "Model", **NUMBERS}


def keys(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Those that are valid first, the newest of each first."""
    ordered = sorted(
        sorted(found, key=lambda key: key["created_at"], reverse=True), key=lambda key: bool(key["revoked_at"])
    )
    return pd.DataFrame([_key(key) for key in ordered], columns=KEYS)


def _key(key: Mapping[str, Any]) -> list[Any]:
    limits = key["limits"]
    return [
        key["name"],
        key["id"],
        key["role"],
        f"revoked {words.date_time(key['revoked_at'])}" if key["revoked_at"] else "active",
        ", ".join(limits["models"]) or "all",
        limits["requests_per_minute"],
        limits["tokens_per_day"],
        limits["parallel"],
        words.date_time(key["created_at"]),
    ]


def active(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted((key for key in found if not key["revoked_at"]), key=lambda key: str(key["name"]))


def limits(models: str, per_minute: int, per_day: int, parallel: int) -> dict[str, Any]:
    """Limits as the gateway takes them; 0 is no limit, models have commas between."""
    return {
        "models": [name.strip() for name in models.split(",") if name.strip()],
        "requests_per_minute": per_minute or None,
        "tokens_per_day": per_day or None,
        "parallel": parallel or None,
    }


def usage(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> pd.DataFrame:
    """The gateway's sums, the largest first, days the latest first."""
    data = pd.DataFrame([[_told(row, name) for name in (*by, *NUMBERS)] for row in rows])
    data.columns = [NAMES[name] for name in (*by, *NUMBERS)]
    order = ["Day", "Tokens"] if "day" in by else ["Tokens"]
    return data.sort_values(order, ascending=False, kind="stable")


def _told(row: Mapping[str, Any], name: str) -> Any:
    """A key that is known no more goes by its id."""
    return row["key"] or row["key_id"] if name == "key" else row[name]


def totals(rows: Sequence[Mapping[str, Any]]) -> list[Tile]:
    """Of rows that have every day, key and model once."""
    return [Tile(label, words.amount(sum(row[name] for row in rows))) for name, label in NUMBERS.items()]


def chart(by: str, days: int) -> dict[str, Any]:
    """Tokens a day as bars, stacked by key or model (Vega-Lite); `days` is how many there are."""
    return {
        "mark": {"type": "bar", "tooltip": True, "size": max(2, min(36, 800 // max(1, days)))},
        "encoding": {
            "x": {"field": "Day", "type": "ordinal", "title": None, "axis": {"labelAngle": 0, "labelOverlap": True}},
            "y": {"field": "Tokens", "type": "quantitative", "aggregate": "sum", "title": "Tokens"},
            "color": {"field": NAMES[by], "type": "nominal"},
        },
        "height": 220,
    }


def hours(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    columns = ["Day", "Deployment", "GPU hours", "CPU hours", "By type"]
    found = [
        [
            row["day"],
            row["deployment"] or "(other jobs of this user)",
            row["gpu_hours"],
            row["cpu_hours"],
            ", ".join(f"{n:g} {kind}" for kind, n in row["gpu_hours_by_type"].items()),
        ]
        for row in rows
    ]
    return pd.DataFrame(found, columns=columns).sort_values(["Day", "GPU hours"], ascending=False)


def beside_tokens(rows: Sequence[Mapping[str, Any]], used: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Deployment, GPU hours, tokens, and tokens per GPU hour (None without GPUs); `used` is usage by model."""
    gpu_h: dict[str, float] = {}
    for row in rows:
        gpu_h[row["deployment"]] = gpu_h.get(row["deployment"], 0.0) + row["gpu_hours"]
    tokens = {row["model"]: row["total_tokens"] for row in used if row["model"]}
    names = sorted({*filter(None, gpu_h), *tokens}, key=lambda name: -gpu_h.get(name, 0.0))
    return [_beside(name, gpu_h.get(name, 0.0), tokens.get(name, 0)) for name in names]


def _beside(name: str, gpu_h: float, tokens: int) -> tuple[Any, ...]:
    return name, f"{gpu_h:.2f}", words.amount(tokens), words.amount(tokens / gpu_h) if gpu_h else None


def own(key: Mapping[str, Any]) -> list[Tile]:
    """What a key is told of itself."""
    limits = key["limits"]
    per_day = limits["tokens_per_day"]
    spent = f"of {words.amount(per_day)} a day" if per_day else "no limit"
    full = bool(per_day) and key["tokens_today"] >= per_day
    return [
        Tile("Tokens used today (UTC)", words.amount(key["tokens_today"]), spent, "warn" if full else ""),
        Tile("Requests a minute", _limit(limits["requests_per_minute"]), ""),
        Tile("At the same time", _limit(limits["parallel"]), ""),
        Tile("Models", ", ".join(limits["models"]) or "all", ""),
    ]


def _limit(value: int | None) -> str:
    return "no limit" if value is None else str(value)


def as_csv(data: pd.DataFrame) -> str:
    """A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(data.columns)
    writer.writerows([_cell(value) for value in row] for row in data.itertuples(index=False))
    return out.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
