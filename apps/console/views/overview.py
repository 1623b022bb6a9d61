"""The overview: health of the parts, what needs attention, models, traffic and GPUs."""

from typing import Any

from apps.console import words
from apps.console.markup import Share, Tile, Word, bar
from apps.console.words import many

TONES = {"bad": "bad", "warn": "warn"}


def health(overview: dict[str, Any]) -> list[Tile]:
    """A tile for each part; its words say what the colour says."""
    gateway, nginx, database = overview["gateway"], overview["nginx"], overview["database"]
    up = Tile("Gateway", "answers", f"up {words.span(gateway['uptime_s'])}, {gateway['in_flight']} in flight", "good")
    trouble = database["trouble"]
    stored = Tile(
        "Database", "fails" if trouble else "answers", trouble or database["kind"], "bad" if trouble else "good"
    )
    return [up, *(_scheduler(one) for one in overview["schedulers"]), _nginx(nginx), stored]


def _scheduler(one: dict[str, Any]) -> Tile:
    name = "Slurm" if one["name"] == "slurm" else "Local scheduler"
    if one["answers"]:
        calls = sum(one["calls_last_hour"].values())
        return Tile(name, "answers", f"{calls} calls in the last hour" if one["name"] == "slurm" else "", "good")
    since = f"since {words.clock(words.moment(one['silent_since']))}: " if one["silent_since"] else ""
    return Tile(name, "silent", f"{since}{one['trouble'] or 'not asked yet'}", "bad" if one["asked_at"] else "idle")


def _nginx(nginx: dict[str, Any]) -> Tile:
    if not nginx["wanted"]:
        return Tile("NGINX", "not used", "the gateway itself listens at the one address", "idle")
    if nginx["error"]:
        return Tile("NGINX", "refuses", nginx["error"], "bad")
    return (
        Tile("NGINX", "runs", f"process {nginx['pid']}", "good")
        if nginx["running"]
        else Tile("NGINX", "down", "", "bad")
    )


def attention(overview: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Tone, what it is, what can be done."""
    return [(TONES[one["level"]], one["what"], one["action"]) for one in overview["attention"]]


def concerned(overview: dict[str, Any]) -> list[str]:
    """The deployments that something is about, once each."""
    return list(dict.fromkeys(one["deployment"] for one in overview["attention"] if one["deployment"]))


def numbers(overview: dict[str, Any]) -> list[Tile]:
    models, seen = overview["models"], overview["traffic"]
    minutes = f"last {words.span(seen['window_s'])}"
    failing = models["failing"]
    found = [
        Tile("Models ready", str(models["ready"]), f"{models['starting']} starting, {failing} failing, "
             f"{models['stopped']} stopped", "bad" if failing else ""),
        Tile("Replicas ready", f"{overview['replicas']['ready']} of {overview['replicas']['wanted']}"),
        Tile("p95 time to first token", words.seconds(seen["ttft_p95_s"]), f"streams, {minutes}"),
        Tile("Tokens per second", words.amount(seen["tokens_per_s"]), minutes),
        Tile("Requests per second", words.amount(seen["requests_per_s"]),
             f"{many(seen['requests'], 'request')}, {minutes}"),
        Tile("Error rate", words.percent(seen["error_share"]) if seen["requests"] else "–", minutes,
             "bad" if seen["error_share"] > 0.05 else ""),
        Tile("Waiting in the queue", str(overview["queued"]), "", "warn" if overview["queued"] else ""),
    ]  # fmt: skip
    return found


def gpus(types: dict[str, list[dict[str, Any]]]) -> list[tuple[str, str]]:
    """Of each type its name with the total, and a bar of whose they are."""
    return [(f"{one['type']}: {one['total']}", bar(_shares(one))) for found in types.values() for one in found]


def _shares(one: dict[str, Any]) -> list[Share]:
    away = [Share("on nodes that take no jobs", one["away"], "bad")] if one["away"] else []
    return [
        Share("ours", one["ours"], "busy"),
        Share("others'", one["others"], "warn"),
        *away,
        Share("free", one["free"], "idle"),
    ]


def models(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Rows of /v1/models as a user sees them: name, state, load, context."""
    return [
        (row["id"], Word(row["stage"]), row["reason"] or "", row["load"], row["queued"], row["context"] or None)
        for row in rows
    ]
