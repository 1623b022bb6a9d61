"""What the paper says of bulk, on a whole engine with simulated replicas: speed-up, and who waits. `make bench`.

A bulk of 20 requests a slot is timed against the ideal of a server that never idles, for one and for two replicas. Then
single requests are timed alone and beside a bulk that fills every slot: they go first, so that they wait for the next
slot that comes free and for nothing else.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from engine.client import EngineClient
from tests.benchmarks.load import percentile
from tests.serving import Engine, engine

SLOTS, LATENCY_S, ITEMS_PER_SLOT = 16, 0.25, 20
SINGLES = 60


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args(argv).rounds
    with tempfile.TemporaryDirectory() as folder, engine(Path(folder), {"ENGINE_SCHEDULER": "local"}) as running:
        deployed(running)
        with EngineClient(running.presence.url, running.key("user")) as bulks:
            print(f"\nSimulated replicas of {SLOTS} slots and {LATENCY_S * 1000:.0f} ms; medians of {rounds} rounds\n")
            speed_up(bulks, rounds)
            with EngineClient(running.presence.url, running.key("user")) as singles:
                beside(bulks, singles, rounds)
    return 0


def deployed(running: Engine) -> None:
    settings = ("--set", f"capacity={SLOTS}", "--set", f"latency_ms={LATENCY_S * 1000:.0f}")
    for name, replicas in (("one", "1"), ("two", "2")):
        running.run("launch", "simulator", "--name", name, "--replicas", replicas, "--cpus", "1", *settings)
    running.ready("one", 1)
    running.ready("two", 2)


def speed_up(client: EngineClient, rounds: int) -> None:
    print("bulk of 20 a slot    items     ideal s    took s    ratio (goal: < 1.10)")
    for name, replicas in (("one", 1), ("two", 2)):
        items = SLOTS * replicas * ITEMS_PER_SLOT
        took = statistics.median(bulk_s(client, name, items) for _ in range(rounds))
        ideal = ITEMS_PER_SLOT * LATENCY_S
        print(f"{replicas} replica{'s' * (replicas > 1):11s} {items:7d} {ideal:11.2f} {took:9.2f} {took / ideal:8.3f}")


def beside(bulks: EngineClient, singles: EngineClient, rounds: int) -> None:
    alone, crowded = [], []
    for _ in range(rounds):
        alone += [single_s(singles) for _ in range(SINGLES // rounds)]
        thread = threading.Thread(target=bulk_s, args=(bulks, "one", SLOTS * ITEMS_PER_SLOT * 2))
        thread.start()
        time.sleep(LATENCY_S)
        crowded += [single_s(singles) for _ in range(SINGLES // rounds)]
        assert thread.is_alive(), "the bulk ended before the single requests did"
        thread.join()
    before, after = percentile(alone, 95), percentile(crowded, 95)
    print("\nsingle requests, p95     alone ms    beside a bulk ms    ratio (goal: < 2.1)")
    print(f"{len(crowded):23d} {before * 1000:9.0f} {after * 1000:19.0f} {after / before:8.2f}")


def bulk_s(client: EngineClient, model: str, items: int) -> float:
    begun = time.perf_counter()
    answer = client.bulk(model, [{"prompt": f"item {i}"} for i in range(items)])
    took = time.perf_counter() - begun
    assert [one["status"] for one in answer["results"]] == ["ok"] * items
    return took


def single_s(client: EngineClient) -> float:
    begun = time.perf_counter()
    client.chat("one", [{"role": "user", "content": "hello"}])
    return time.perf_counter() - begun


if __name__ == "__main__":
    raise SystemExit(main())
