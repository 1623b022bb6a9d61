"""Crawls and the index: how far, what became of each address, how fresh, which generations."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from apps.console import words
from apps.console.markup import Cell, Share, Tile, Word
from engine.errors import ConfigurationError

TONES = {"running": "busy", "paused": "warn", "interrupted": "bad", "done": "good"}
ENDED = {"": "", "nothing left": "nothing was left"}
CRAWLS = [
    "Name",
    "State",
    "Pages",
    "Hosts",
    "Waiting",
    "Requests",
    "Megabytes",
    "Started, UTC",
    "Ended, UTC",
    "Begins at",
]
URLS = ["Address", "Outcome", "Reason", "Status", "Kind", "Bytes", "ms", "Type", "Found on", "Visited, UTC"]
HOSTS = ("Host", "Pages", "Requests", "Megabytes", "Mean answer")
GENERATIONS = (
    "Generation",
    "State",
    "Built, UTC",
    "Pages",
    "Chunks",
    "Chunks a page",
    "Embedder",
    "Answers from score",
    "Off-topic cosine",
)
AGES = (("today", 1), ("this week", 7), ("this month", 31), ("this half year", 183), ("older", None))
AGE_TONES = ("good", "good", "busy", "warn", "bad")


def crawls(found: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    rows = [
        [
            one["name"],
            one["state"],
            one["pages"],
            one["hosts"],
            one["waiting"],
            one["requests"],
            round(one["bytes"] / 1e6, 2),
            words.date_time(one["started"]),
            words.date_time(one["ended"]),
            ", ".join(one["seeds"]),
        ]
        for one in found
    ]
    return pd.DataFrame(rows, columns=CRAWLS)


def tiles(one: Mapping[str, Any]) -> list[Tile]:
    ended = ENDED.get(one["ended_by"], f"ended by its cap: {one['ended_by']}")
    return [
        Tile("State", one["state"], f"crawl {one['crawl']}; {ended}".removesuffix("; "), TONES[one["state"]]),
        Tile("Pages kept", words.amount(one["pages"])),
        Tile("Hosts that answered", str(one["hosts"])),
        Tile("Addresses waiting", words.amount(one["waiting"])),
        Tile("Requests", words.amount(one["requests"]), f"{one['bytes'] / 1e6:.3g} MB came"),
    ]


def outcomes(one: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The number of addresses for each outcome, the most frequent first."""
    return sorted(one["counts"].items(), key=lambda pair: (-pair[1], pair[0]))


def hosts(one: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    return [
        (
            host,
            told["pages"],
            told["requests"],
            f"{told['bytes'] / 1e6:.2f}",
            words.seconds(told["ms"] / 1000 / told["requests"] if told["requests"] else None),
        )
        for host, told in sorted(one["by_host"].items(), key=lambda pair: (-pair[1]["pages"], pair[0]))
    ]


def freshness(visits: Sequence[str], now: datetime) -> list[Share]:
    """How long ago kept pages were last seen as they are."""
    days = [(now - at).total_seconds() / 86400 for text in visits if (at := words.moment(text))]
    counts, below = [], 0.0
    for _, most in AGES:
        counts.append(sum(1 for age in days if age >= below and (most is None or age < most)))
        below = float(most or 0)
    return [Share(name, count, tone) for (name, _), count, tone in zip(AGES, counts, AGE_TONES, strict=True)]


def addresses(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    found = [
        [
            row["url"],
            row["outcome"],
            row["reason"],
            row["status"] or None,
            row["kind"],
            row["bytes"],
            row["ms"],
            row["content_type"],
            row["found_on"],
            words.date_time(row["visited"]),
        ]
        for row in rows
    ]
    return pd.DataFrame(found, columns=URLS)


def pages(count: int, size: int) -> int:
    return max(1, -(-count // size))


def arguments(
    seeds: str, *, max_pages: int, max_hosts: int, delay_s: float, contact: str, resolve: str, allow_private: bool
) -> list[str]:
    """Those of `python -m rag crawl`; seeds and resolutions have spaces or lines between.

    Raises ConfigurationError for a seed that would be taken for an option.
    """
    if options := [seed for seed in seeds.split() if seed.startswith("-")]:
        raise ConfigurationError(f"{options[0]!r} is no address to begin at.")
    flags = [f"--max-pages={max_pages}", f"--max-hosts={max_hosts}", f"--delay-s={delay_s:g}"]
    flags += [f"--contact={contact.strip()}"] if contact.strip() else []
    flags += [f"--resolve={one}" for one in resolve.split()]
    flags += ["--allow-private"] if allow_private else []
    return [*seeds.split(), *flags]


def generations(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Cell, ...]]:
    return [_generation(row) for row in rows]


def _generation(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    gate, pages, chunks = row.get("gate") or {}, row.get("pages"), row.get("chunks")
    if pages is None:
        return (row["name"], Word("cannot be read", "bad"), *[None] * (len(GENERATIONS) - 2))
    return (
        row["name"],
        Word("current", "good") if row["current"] else Word("kept", "idle"),
        words.date_time(row["built"]),
        pages,
        chunks,
        f"{chunks / pages:.1f}" if pages else None,
        row["embedder"],
        f"{gate['threshold']:.2f}" if gate else None,
        f"{gate['mean']:.3f} ± {gate['deviation']:.3f}" if gate else None,
    )


def quality(told: Mapping[str, Any]) -> list[tuple[Cell, ...]]:
    """What the last build found out about the pages: the fact, its number, examples."""
    counted = [
        (
            name.capitalize(),
            sum(told[name].values()),
            ", ".join(f"{key} {n}" for key, n in list(told[name].items())[:8]),
        )
        for name in ("languages", "hosts")
    ]
    lists = {
        "empty": "Without text",
        "duplicates": "Doubled",
        "gone": "Gone",
        "untitled": "Untitled",
        "undated": "Undated",
    }
    listed = [(label, len(told[name]), ", ".join(told[name][:3])) for name, label in lists.items()]
    return [
        ("Pages", told["pages"], f"half of them longer than {told['characters_median']} characters"),
        *counted,
        *listed,
    ]
