"""The load generator's own limits, beside a plain aiohttp and a plain httpx client, in one run. `make bench`.

All three send the same requests to the same server, which answers at once, and take turns. On a machine that is shared
with the server, the rate per second of the client's own CPU time is what counts: it is what one free core would do.
"""

import argparse
import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
import httpx
import uvloop

from engine.bench.load.closed import closed
from engine.bench.load.prompts import Prompts, Task
from engine.bench.load.target import Target
from tests.processes import ROOT, free_port, server

MESSAGES = ({"role": "user", "content": "How are you today?"},)
MODES = {"requests": "/v1/chat/completions", "lump": "/lump", "paced": "/paced"}
# Events are counted when their stream ends, and a paced one takes a second.
LONGER = {"requests": 1.0, "lump": 1.0, "paced": 2.0}
WHAT = {"requests": "requests", "lump": "events that come in lumps", "paced": "events, each 10 ms"}
USERS = {"requests": 64, "lump": 16, "paced": 200}


@dataclass(frozen=True)
class Speed:
    """What a client did: `done` requests, or events of streams, in `wall_s` with `cpu_s` of its own."""

    done: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        return self.done / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        return self.done / max(1e-9, self.cpu_s)


def prompts(mode: str) -> Prompts:
    return Prompts(Task("sim", messages=MESSAGES, max_tokens=100, stream=mode != "requests"))


async def timed(count: Callable[[], int], seconds: float) -> Speed:
    """Of what goes on in the background: a third of the time to warm up, then what is counted and what it costs."""
    await asyncio.sleep(seconds / 3)
    done, wall, cpu = count(), time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    return Speed(count() - done, time.perf_counter() - wall, time.process_time() - cpu)


async def ours(url: str, mode: str, seconds: float) -> Speed:
    async with await closed(Target.of(url), prompts(mode), USERS[mode], stagger_s=seconds / 6) as run:
        await asyncio.sleep(seconds / 3)
        begin, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        end, cpu_s = time.perf_counter(), time.process_time() - cpu
        window = run.samples.between(begin, end)
        assert window.errors == {}, window.errors
        return Speed(len(window) if mode == "requests" else int(window["events"].sum()), end - begin, cpu_s)


async def plain(ask: Callable[[bytes, list[int]], Awaitable[None]], mode: str, seconds: float) -> Speed:
    """Users that each `ask` again and again; it counts what it gets in the list."""
    count = [0]

    async def user() -> None:
        for body in prompts(mode):
            await ask(body, count)

    users = [asyncio.create_task(user()) for _ in range(USERS[mode])]
    speed = await timed(lambda: count[0], seconds)
    for one in users:
        assert not one.done(), f"a user failed: {one}"
        one.cancel()
    await asyncio.gather(*users, return_exceptions=True)
    return speed


async def with_aiohttp(url: str, mode: str, seconds: float) -> Speed:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(body: bytes, count: list[int]) -> None:
            async with session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
                if mode != "requests":
                    async for line in answer.content:
                        count[0] += line.startswith(b"data:")
                else:
                    assert (await answer.json())["usage"]["completion_tokens"] == 100
                    count[0] += 1

        return await plain(ask, mode, seconds)


async def with_httpx(url: str, mode: str, seconds: float) -> Speed:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as client:

        async def ask(body: bytes, count: list[int]) -> None:
            async with client.stream("POST", url, content=body, headers={"content-type": "application/json"}) as answer:
                if mode != "requests":
                    async for line in answer.aiter_lines():
                        count[0] += line.startswith("data:")
                else:
                    assert json.loads(await answer.aread())["usage"]["completion_tokens"] == 100
                    count[0] += 1

        return await plain(ask, mode, seconds)


CLIENTS = {"ours": ours, "aiohttp": with_aiohttp, "httpx": with_httpx}


def measure(client: str, port: int, mode: str, seconds: float) -> Speed:
    """In a process of its own."""
    argv = [sys.executable, "-m", "tests.benchmarks.bench_load", "--client", client, "--mode", mode]
    argv += ["--url", f"http://127.0.0.1:{port}{MODES[mode]}", "--seconds", str(seconds * LONGER[mode])]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60 + 10 * seconds)
    if done.returncode:
        raise RuntimeError(f"the {client} client ended with {done.returncode}: {done.stderr[-2000:]}")
    return Speed(**json.loads(done.stdout))


def compare(rounds: int, seconds: float) -> dict[str, dict[str, dict[str, float]]]:
    """Medians by mode, client and figure."""
    port = free_port()
    speeds: dict[tuple[str, str], list[Speed]] = {}
    with server([sys.executable, "-m", "tests.benchmarks.quick_server", str(port)], port):
        for _, mode, client in itertools.product(range(rounds), MODES, CLIENTS):
            speeds.setdefault((mode, client), []).append(measure(client, port, mode, seconds))
    return {
        mode: {
            client: {
                "per_s": statistics.median(speed.per_s for speed in speeds[mode, client]),
                "per_cpu_s": statistics.median(speed.per_cpu_s for speed in speeds[mode, client]),
            }
            for client in CLIENTS
        }
        for mode in MODES
    }


def print_table(found: dict[str, dict[str, dict[str, float]]]) -> None:
    print("\nload clients, before a server that answers at once and shares the machine with them")
    print("                              per second          per second of CPU (goals: 50000 and 140000)")
    print("                        ours   aiohttp   httpx      ours   aiohttp   httpx   ours to aiohttp, to httpx")
    for mode, clients in found.items():
        cells = "".join(
            f"{clients['ours'][figure]:>10.0f}{clients['aiohttp'][figure]:>10.0f}{clients['httpx'][figure]:>8.0f}"
            for figure in ("per_s", "per_cpu_s")
        )
        ratios = [
            clients["ours"]["per_cpu_s"] / max(1e-9, clients[other]["per_cpu_s"]) for other in ("aiohttp", "httpx")
        ]
        print(f"{WHAT[mode]:<26}{cells}{ratios[0]:>9.1f}{ratios[1]:>9.1f}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench" / "load.json", metavar="FILE")
    parser.add_argument("--client", choices=CLIENTS, help="one client alone, before the server at --url")
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--url")
    given = parser.parse_args(argv)
    if given.client:
        print(json.dumps(asdict(uvloop.run(CLIENTS[given.client](given.url, given.mode, given.seconds)))))
        return 0
    found = compare(given.rounds, given.seconds)
    print_table(found)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
