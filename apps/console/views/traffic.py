"""Traffic over time: sums, quantiles, charts."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from apps.console import words
from apps.console.markup import Tile

# How far back, and in what steps, in seconds.
RANGES = {
    "1 hour": (3600, 60),
    "6 hours": (6 * 3600, 300),
    "24 hours": (86400, 900),
    "7 days": (7 * 86400, 3600),
    "30 days": (30 * 86400, 6 * 3600),
}
ERRORS = {
    "overloaded": "too many requests (429)",
    "refused": "refused (4xx)",
    "failed": "failed (5xx)",
    "left": "client left",
}
FINISHES = {
    "stop": "the model was done",
    "length": "max_tokens or context",
    "tool_calls": "tool calls",
    "other": "other",
}
SHAPES = {"latency_s": "buckets_s", "ttft_s": "buckets_s", "per_token_s": "token_buckets_s"}
ALL = "all"


def window(name: str, now: datetime) -> tuple[datetime, datetime, int]:
    """Begin and end on whole steps, the one that runs included, and the step in seconds."""
    reach_s, step_s = RANGES[name]
    end_s = (int(now.timestamp()) // step_s + 1) * step_s
    end = datetime.fromtimestamp(end_s, UTC)
    return end - timedelta(seconds=reach_s), end, step_s


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Seconds, in a straight line within the bucket; None of nothing. Beyond the last bound, that bound."""
    rank, below = share * sum(counts), 0
    if not rank:
        return None
    for i, count in enumerate(counts):
        if count and below + count >= rank:
            low, high = (bounds[i - 1] if i else 0.0), bounds[min(i, len(bounds) - 1)]
            return low + (high - low) * (rank - below) / count
        below += count
    return bounds[-1]


def merged(rows: Iterable[Mapping[str, Any]], shape: str, width: int) -> list[int]:
    """The buckets of all rows, added up."""
    counts = [0] * (width + 1)
    for row in rows:
        counts = [mine + more for mine, more in zip(counts, row[shape]["buckets"], strict=True)]
    return counts


def totals(told: Mapping[str, Any]) -> list[Tile]:
    """Of everything that the gateway told."""
    rows = told["data"]
    requests = sum(row["requests"] for row in rows)
    errors = sum(sum(row["errors"].values()) for row in rows)
    bypasses = sum(row["bypasses"] for row in rows)
    bad = "bad" if requests and errors / requests > 0.05 else ""
    return [
        Tile("Requests", words.amount(requests)),
        Tile("Prompt tokens", words.amount(sum(row["prompt_tokens"] for row in rows))),
        Tile("Completion tokens", words.amount(sum(row["completion_tokens"] for row in rows))),
        Tile("Errors", words.percent(errors / requests if requests else None), f"{errors} requests", bad),
        Tile("Workflows bypassed", words.amount(bypasses), "answered by the plain model", "warn" if bypasses else ""),
        *(_times(told, shape, name) for shape, name in NAMES.items()),
    ]


NAMES = {"latency_s": "Latency", "ttft_s": "First token", "per_token_s": "Per further token"}


def _times(told: Mapping[str, Any], shape: str, name: str) -> Tile:
    bounds = told[SHAPES[shape]]
    counts = merged(told["data"], shape, len(bounds))
    half, most = (quantile(counts, bounds, share) for share in (0.5, 0.95))
    streamed = "" if shape == "latency_s" else ", streams only"
    return Tile(f"{name}, p95", words.seconds(most), f"p50 {words.seconds(half)}{streamed}")


def kinds(told: Mapping[str, Any], field: str, names: Mapping[str, str]) -> list[tuple[str, int]]:
    """Errors or finish reasons in words, the most frequent first; those that never came are left out."""
    sums = {text: sum(row[field][kind] for row in told["data"]) for kind, text in names.items()}
    return sorted(((text, n) for text, n in sums.items() if n), key=lambda pair: -pair[1])


def over_time(
    told: Mapping[str, Any], by: str, names: Mapping[str, str], begin: datetime, end: datetime
) -> pd.DataFrame:
    """A row per step and series, without gaps: rates of nothing are 0, times of nothing are missing.

    `by` is `model`, `key` or `none`; `names` are those of keys by id.
    """
    step_s = told["step_s"]
    found: dict[tuple[str, str], Mapping[str, Any]] = {
        (_series(row, by, names), row["at"]): row for row in told["data"]
    }
    series = sorted({name for name, _ in found})
    steps = int((end - begin).total_seconds()) // step_s
    moments = [begin + timedelta(seconds=step_s * i) for i in range(steps)]
    return pd.DataFrame(
        [_point(name, moment, found.get((name, _text(moment))), step_s) for name in series for moment in moments],
        columns=["At", "Series", *POINTS],
    )


RATES = ("Requests per s", "Tokens per s", "Errors per min", "Bypasses per min", "Waiting requests")
TIMES = ("Latency p95", "First token p50", "First token p95", "Per token p50", "Per token p95")
POINTS = (*RATES, *TIMES)


def _point(name: str, moment: datetime, row: Mapping[str, Any] | None, step_s: int) -> list[Any]:
    if row is None:
        return [_text(moment), name, *([0.0] * len(RATES)), *([None] * len(TIMES))]
    ttft, per_token = row["ttft_s"], row["per_token_s"]
    return [
        _text(moment),
        name,
        row["requests"] / step_s,
        row["completion_tokens"] / step_s,
        sum(row["errors"].values()) * 60 / step_s,
        row["bypasses"] * 60 / step_s,
        row["queued_s"] / step_s,
        row["latency_s"]["p95"],
        ttft["p50"],
        ttft["p95"],
        per_token["p50"],
        per_token["p95"],
    ]


def _series(row: Mapping[str, Any], by: str, names: Mapping[str, str]) -> str:
    if by == "none":
        return ALL
    if by == "key":
        return names.get(row["key_id"], row["key_id"]) or "(no key)"
    return row["model"] or "(no model)"


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


SECONDS = "datum.value < 0.9995 ? format(datum.value * 1000, '~g') + ' ms' : format(datum.value, '~g') + ' s'"


def line(data: pd.DataFrame, field: str, title: str, reach: str) -> dict[str, Any]:
    """A chart of one column of `over_time` (Vega-Lite), with its data."""
    known = data[data[field].notna()]
    values = known[["At", "Series", field]].rename(columns={field: "value"}).to_dict("records")
    times = field in TIMES
    # The same colour in all charts, whatever is missing in one.
    series = list(dict.fromkeys(data["Series"]))
    short = RANGES[reach][0] <= 86400
    ticks = {"format": "%H:%M" if short else "%d %b", "labelOverlap": True, "tickCount": 6}
    whole = [pd.Timestamp(data["At"].iloc[at]).isoformat() for at in (0, -1)] if len(data) else None
    mark = {"type": "line", "point": {"size": 24}} if times else {"type": "line", "interpolate": "step-after"}
    return {
        "title": {"text": title},
        "data": {"values": values},
        "mark": mark,
        "encoding": {
            "x": {
                "field": "At",
                "type": "temporal",
                "title": None,
                "scale": {"type": "utc", "domain": whole},
                "axis": ticks,
            },
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": None,
                "scale": {"domainMin": 0, **({} if known[field].any() else {"domainMax": 1})},
                "axis": {"tickCount": 5, **({"labelExpr": SECONDS} if times else {})},
            },
            "color": {"field": "Series", "type": "nominal", "title": None, "scale": {"domain": series}},
            "tooltip": [
                {"field": "At", "type": "temporal", "format": "%d %b %H:%M", "title": "UTC"},
                {"field": "Series"},
                {"field": "value", "type": "quantitative", "format": ".3~g", "title": title},
            ],
        },
        "width": "container",
        "height": 170,
        "autosize": {"type": "fit-x", "contains": "padding"},
    }
