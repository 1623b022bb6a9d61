"""What the path to a replica costs, in one run: direct, through NGINX, through our gateway. `make bench`.

Simulated replicas of a huge capacity answer: `quick` at once, so that the path itself is the bottleneck; `timed` after
20 ms, so that it is not; `paced` by a stream of one token each 10 ms. The three ways take turns in each round; figures
are medians over the rounds. All run on one machine together with the load client, so absolute figures are only
reported; the ratios to NGINX are what counts.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import uvloop

from tests.benchmarks import bookkeeping
from tests.benchmarks.load import closed_loop, percentile
from tests.benchmarks.ways import WAYS, Way, ways
from tests.processes import ROOT

CLIENTS = (1, 16, 64, 128)
# Below this, what NGINX adds is noise, and a ratio to it says nothing.
LEAST_ADDED_MS = 0.05


@dataclass(frozen=True)
class Sample:
    """One measurement. `cpu_us` is per request, `event_cpu_us` per server-sent event."""

    p50_ms: float
    p99_ms: float
    requests_per_s: float
    events_per_s: float
    cpu_us: float
    event_cpu_us: float
    errors: int


Samples = dict[str, list[Sample]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench" / "path.json", metavar="FILE")
    given = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended, too
    with tempfile.TemporaryDirectory() as folder, ways(Path(folder)) as all_ways:
        samples = measure_all(all_ways, given.clients, given.rounds, given.seconds)
    report = summary(samples, given.clients) | {"bookkeeping_us": bookkeeping.costs()}
    print_tables(report)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\nwritten to {given.json}")
    return 1 if report["errors"] else 0


def measure_all(
    all_ways: Sequence[Way], clients: Sequence[int], rounds: int, seconds: float
) -> dict[str, list[Sample]]:
    """Samples under `WHAT CLIENTS WAY`."""
    plan = [("quick", n) for n in clients] + [("timed", n) for n in clients] + [("stream", 16), ("paced", 64)]
    samples: Samples = {}
    for i in range(rounds):
        for what, n in plan:
            for way in all_ways[i % len(all_ways) :] + all_ways[: i % len(all_ways)]:
                samples.setdefault(f"{what} {n} {way.name}", []).append(measure(way, what, n, seconds))
        print(f"round {i + 1} of {rounds} done", file=sys.stderr)
    return samples


def measure(way: Way, what: str, clients: int, seconds: float) -> Sample:
    model = "quick" if what == "stream" else what
    body = {"model": model, "messages": [{"role": "user", "content": "How are you today?"}]}
    body |= {"stream": True} if what in ("stream", "paced") else {"max_tokens": 8}
    url, headers = f"{way.urls[model]}/chat/completions", {"authorization": f"Bearer {way.key}"}
    before = way.cpu_s()
    loop = closed_loop(url, json.dumps(body).encode(), clients=clients, seconds=seconds, headers=headers)
    result = uvloop.run(loop)
    cpu_us = (way.cpu_s() - before) * 1e6
    return Sample(
        percentile(result.latencies, 50) * 1000,
        percentile(result.latencies, 99) * 1000,
        result.requests / seconds,
        result.events / seconds,
        cpu_us / max(1, result.answered),
        cpu_us / max(1, result.all_events),
        result.errors,
    )


def summary(samples: Samples, clients: Sequence[int]) -> dict:
    return {
        "simulated": True,
        "at": datetime.now(UTC).isoformat(),
        "cores": psutil.cpu_count(),
        "rounds": min(map(len, samples.values())),
        "added_to_0_ms": [added_latency(samples, "quick", n) for n in clients],
        "added_to_20_ms": [added_latency(samples, "timed", n) for n in clients],
        "throughput": [throughput(samples, n) for n in clients],
        "streams": streams(samples),
        "errors": sum(sample.errors for each in samples.values() for sample in each),
    }


def median(samples: Samples, what: str, n: int, way: str, field: str) -> float:
    return statistics.median(getattr(sample, field) for sample in samples[f"{what} {n} {way}"])


def added_latency(samples: Samples, what: str, n: int) -> dict:
    """Of each round by itself, for the machine's speed drifts between them."""
    row: dict = {"clients": n, "direct_p50_ms": median(samples, what, n, "direct", "p50_ms")}
    for way in WAYS[1:]:
        pairs = list(zip(samples[f"{what} {n} {way}"], samples[f"{what} {n} direct"], strict=True))
        row[f"{way}_p50_ms"] = statistics.median(one.p50_ms - direct.p50_ms for one, direct in pairs)
        row[f"{way}_p99_ms"] = statistics.median(one.p99_ms - direct.p99_ms for one, direct in pairs)
    noise = row["nginx_p50_ms"] < LEAST_ADDED_MS
    return row | {"ratio_p50": None if noise else row["gateway_p50_ms"] / row["nginx_p50_ms"]}


def throughput(samples: Samples, n: int) -> dict:
    row: dict = {"clients": n}
    for way in WAYS:
        row[f"{way}_requests_per_s"] = median(samples, "quick", n, way, "requests_per_s")
    for way in WAYS[1:]:
        row[f"{way}_cpu_us"] = median(samples, "quick", n, way, "cpu_us")
        row[f"{way}_requests_per_s_per_core"] = 1e6 / max(1e-3, row[f"{way}_cpu_us"])
    return row | {"ratio_per_core": row["gateway_requests_per_s_per_core"] / row["nginx_requests_per_s_per_core"]}


def streams(samples: Samples) -> dict:
    row: dict = {f"{way}_events_per_s": median(samples, "stream", 16, way, "events_per_s") for way in WAYS}
    row |= {f"{way}_paced_event_cpu_us": median(samples, "paced", 64, way, "event_cpu_us") for way in WAYS[1:]}
    row["ratio_events_per_s"] = row["gateway_events_per_s"] / row["nginx_events_per_s"]
    return row | {"ratio_paced_cpu": row["gateway_paced_event_cpu_us"] / max(1e-3, row["nginx_paced_event_cpu_us"])}


def print_tables(report: dict) -> None:
    print(f"\nSimulated replicas; {report['cores']} cores, shared with the load; medians of {report['rounds']} rounds")
    for after, note in (("20_ms", " (goal at 64: < 5)"), ("0_ms", " (client and replica are at their limit, too)")):
        print(f"\nadded to {after.replace('_', ' '):<5}  direct          added p50 ms        added p99 ms")
        print(f"clients         p50 ms     nginx   gateway     nginx   gateway   ratio of p50{note}")
        for row in report[f"added_to_{after}"]:
            cells = "".join(f"{row[f'{way}_{p}_ms']:>10.2f}" for p in ("p50", "p99") for way in WAYS[1:])
            ratio = "noise" if row["ratio_p50"] is None else f"{row['ratio_p50']:.2f}"
            print(f"{row['clients']:>7}{row['direct_p50_ms']:>15.2f}{cells}{ratio:>10}")
    print("\nanswered at once         requests/s       CPU us/request   requests/s per core")
    print("clients    direct     nginx   gateway     nginx   gateway     nginx   gateway   ratio (goal: > 0.11)")
    for row in report["throughput"]:
        cells = "".join(f"{row[f'{way}_requests_per_s']:>10.0f}" for way in WAYS)
        cells += "".join(f"{row[f'{way}_cpu_us']:>10.1f}" for way in WAYS[1:])
        cells += "".join(f"{row[f'{way}_requests_per_s_per_core']:>10.0f}" for way in WAYS[1:])
        print(f"{row['clients']:>7}{cells}{row['ratio_per_core']:>10.2f}")
    print_streams(report["streams"])
    print(f"\n{bookkeeping.line(report['bookkeeping_us'])}")
    if report["errors"]:
        print(f"\n{report['errors']} requests failed: these figures do not count")


def print_streams(row: dict) -> None:
    print("\nstreams                              direct     nginx   gateway     ratio")
    events = "".join(f"{row[f'{way}_events_per_s']:>10.0f}" for way in WAYS)
    print(f"events/s, 16 clients, unpaced    {events}{row['ratio_events_per_s']:>10.2f}")
    cpu = "".join(f"{row[f'{way}_paced_event_cpu_us']:>10.1f}" for way in WAYS[1:])
    print(f"CPU us per paced event, 64 clients{'':>9}{cpu}{row['ratio_paced_cpu']:>10.2f}")


if __name__ == "__main__":
    sys.exit(main())
