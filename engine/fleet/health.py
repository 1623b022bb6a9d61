"""Probes: does a replica's port answer from here? A slow answer is a busy server, not a dead one."""

import asyncio
from collections.abc import Mapping

from engine.fleet.hosts import Endpoint

PROBE_TIMEOUT_S = 5.0
REFUSALS_BEFORE_OUT = 2
PARALLEL_PROBES = 64

# Job ids alone may meet: Slurm and the local scheduler number their jobs alike.
Key = tuple[str, str]


class Health:
    """Counts refusals in a row per job. Only a refused or broken connection counts; a timeout says nothing."""

    def __init__(self) -> None:
        self._refusals: dict[Key, int] = {}

    def probe(self, endpoints: Mapping[Key, Endpoint]) -> frozenset[Key]:
        """Probes each endpoint (deployment and job id -> where) once; returns those that have refused too often."""
        refused = asyncio.run(_probe_all(endpoints))
        self._refusals = {job: self._refusals.get(job, 0) + 1 for job in refused}
        return frozenset(job for job, count in self._refusals.items() if count >= REFUSALS_BEFORE_OUT)


async def _probe_all(endpoints: Mapping[Key, Endpoint]) -> list[Key]:
    gate = asyncio.Semaphore(PARALLEL_PROBES)

    async def one(endpoint: Endpoint) -> bool:
        async with gate:
            return await _refuses(endpoint)

    answers = await asyncio.gather(*(one(endpoint) for endpoint in endpoints.values()))
    return [job for job, refuses in zip(endpoints, answers, strict=True) if refuses]


async def _refuses(endpoint: Endpoint) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except TimeoutError:
        return False
    except OSError:
        return True
    writer.close()
    return False
